# The simulator of the protocol (tests/crash/sim.h): Node Zero, the shared records and the
# loops of the children, compiled a second time with a call before every access to memory,
# and linked with a house of cards around them. Included by the Makefile.

# Under test, with stores that are events: Node Zero but for its neighbours, which
# sim_children.c and sim_house.c stand for, and the loops of the children.
sim_NEIGHBOURS := \
	adapted.c children.c control_socket.c crashes.c devices.c dryrun.c frozen.c guardian.c import.c \
	import_pass.c journal.c kept.c logout.c main.c origin.c placement.c plan.c progress.c vocabulary.c
sim_REAL := \
	$(addprefix coordinator/,$(filter-out $(sim_NEIGHBOURS),$(coordinator_SRC))) \
	formats/token.c loader/fill.c loader/main.c saver/main.c saver/snapshot.c \
	shm/control.c shm/objects.c shm/ring.c shm/slot.c \
	worker/lane.c worker/main.c worker/update.c

# Pure functions, and what the checker calls too.
sim_PLAIN := \
	base/config.c base/config_compare.c base/err.c base/fault.c base/hash.c base/mix.c base/model_config.c base/option.c \
	base/random.c base/units.c loader/sampler.c model/schedule.c shm/chunk.c shm/frozen.c \
	shm/layout.c shm/takeover.c

# Calls of the real code that end in sim_*.c.
sim_WRAPS := \
	_exit access calloc clock_gettime close cllm_assert_failed cllm_err_print \
	cllm_vector_bytes epoll_create1 epoll_ctl epoll_wait eventfd fcntl fopen free \
	getpid getppid malloc memcpy memmove memset mmap munmap nanosleep open read realloc \
	sem_clockwait sem_init sem_post sem_trywait setpriority setrlimit sigaction signalfd \
	sigprocmask snprintf syscall time write

sim_CFLAGS := -std=c11 -D_GNU_SOURCE -I. -g -fno-omit-frame-pointer -fno-common \
	-ffp-contract=off -fno-math-errno -fno-trapping-math
ifeq ($(WERROR),1)
sim_CFLAGS += -Werror
endif
ifeq ($(IS_CLANG),)
sim_CFLAGS += -Wno-tsan
endif
sim_OBJECTS := $(sim_REAL:%.c=$(BUILD)/sim/real/%.o) $(sim_PLAIN:%.c=$(BUILD)/sim/plain/%.o) \
	$(tests_sim_SRC:%.c=$(BUILD)/sim/%.o)

$(BUILD)/sim/real/%.o: %.c Makefile tests/crash/sim.mk $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call quiet,CC,$< (instrumented))$(CC) $(sim_CFLAGS) -O1 -fsanitize=thread \
		-fno-builtin-memcpy -fno-builtin-memmove -fno-builtin-memset -fno-builtin-snprintf \
		$(if $(filter %/main.c,$<),-Dmain=sim_$(<:%/main.c=%)_main) -MMD -MP -c -o $@ $<
$(BUILD)/sim/plain/%.o: %.c Makefile tests/crash/sim.mk $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call quiet,CC,$<)$(CC) $(sim_CFLAGS) -O2 -MMD -MP -c -o $@ $<
$(BUILD)/sim/%.o: tests/crash/%.c Makefile tests/crash/sim.mk $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call quiet,CC,$<)$(CC) $(sim_CFLAGS) $(WARNINGS) -O2 -fno-builtin-memcpy \
		-MMD -MP -c -o $@ $<
$(BUILD)/tests/crash/sim: $(sim_OBJECTS)
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $^ $(sim_WRAPS:%=-Wl,--wrap=%) -ljansson -linih -lxxhash -lm
-include $(sim_OBJECTS:.o=.d)

# Both sides of every shared record as threads, under ThreadSanitizer.
races_SRC := \
	base/base.c base/err.c base/fault.c base/hash.c base/log.c base/pulse.c base/units.c \
	coordinator/saving.c saver/snapshot.c shm/chunk.c shm/control.c shm/frozen.c shm/keeper.c \
	shm/layout.c shm/takeover.c shm/memfd.c shm/objects.c shm/region.c shm/ring.c shm/slot.c \
	tests/control_temp.c $(addprefix tests/crash/,$(tests_races_SRC))
races_OBJECTS := $(races_SRC:%.c=$(BUILD)/races/%.o)

$(BUILD)/races/%.o: %.c Makefile tests/crash/sim.mk $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call quiet,CC,$< (races))$(CC) $(sim_CFLAGS) $(WARNINGS) -O1 -fsanitize=thread \
		-MMD -MP -c -o $@ $<
$(BUILD)/tests/crash/races: $(races_OBJECTS)
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $^ -fsanitize=thread -lxxhash
-include $(races_OBJECTS:.o=.d)

.PHONY: tsan-races
tsan-races: $(BUILD)/tests/crash/races ## shared records under ThreadSanitizer, as threads
	@TSAN_OPTIONS=halt_on_error=1 $<
