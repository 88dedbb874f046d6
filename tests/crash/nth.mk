# The n-th system call and the n-th allocation. For the latter the programs of a run are
# linked a second time, with our calls of the allocator going through alloc_fail.c.
NTH           := $(BUILD)/tests/crash/nth
NTH_PROGRAMS  := $(addprefix $(BUILD)/alloc/bin/,cllm-coord cllm-worker cllm-loader cllm-saver)
tests_nth_WRAP := malloc calloc realloc strdup

$(NTH): $(tests_nth_SRC:%.c=$(BUILD)/obj/tests/crash/%.o) \
		$(patsubst %,$(BUILD)/obj/tests/crash/%.o,nano run_copy tally) \
		$(call lib,coordinator formats shm model base) | $(NTH_PROGRAMS)
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $^ $(ALL_LDFLAGS) -ljansson -lcrypto -linih -lxxhash -lm

define alloc_program_rule
$(BUILD)/alloc/bin/$(1): $(patsubst %.c,$(BUILD)/obj/%.o,$($(1)_MAIN)) \
		$(BUILD)/obj/tests/crash/alloc_fail.o $(call lib,$($(1)_FLOORS))
	@mkdir -p $$(@D)
	$$(call quiet,LINK,$$@)$$(CC) -o $$@ $$^ $(tests_nth_WRAP:%=-Wl,--wrap=%) \
		$(ALL_LDFLAGS) $($(1)_LINK)
endef
$(foreach p,$(notdir $(NTH_PROGRAMS)),$(eval $(call alloc_program_rule,$(p))))
