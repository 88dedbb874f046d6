# The exhaustive proof of the elementary functions: the same loops for each instruction
# set, and the program that compares them with each other and with double precision.
MATH             := $(BUILD)/tests/math/math_all
tests_math_ISAS  := scalar ref $(compute_ISAS)
FLAGS_scalar     := -fno-tree-vectorize
FLAGS_ref        :=

# obj/tests/math/loops.avx2.o is tests/math/loops.c with -DCLLM_ISA=avx2.
define math_isa_rule
$(BUILD)/obj/tests/math/loops.$(1).o: tests/math/loops.c Makefile tests/math/math.mk \
		$(FLAGS_FILE)
	@mkdir -p $$(@D)
	$$(call quiet,CC,$$< $(1))$$(CC) $$(ALL_CFLAGS) $(if $(filter release,$(VARIANT)),-O3) \
		$(FLAGS_$(1)) -DCLLM_ISA=$(1) -MMD -MP -c -o $$@ $$<
endef
$(foreach i,$(tests_math_ISAS),$(eval $(call math_isa_rule,$(i))))

$(MATH): $(BUILD)/obj/tests/math/math_all.o $(call lib,base) \
		$(tests_math_ISAS:%=$(BUILD)/obj/tests/math/loops.%.o)
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(ALL_LDFLAGS) \
		-lxxhash -linih -pthread -lm

-include $(tests_math_ISAS:%=$(BUILD)/obj/tests/math/loops.%.d)
