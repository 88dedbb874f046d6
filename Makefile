# CLLM - trains language models with many processes on one machine.
#
# One Makefile for the whole tree; nothing is searched for: a source file is built when
# its folder's list below names it. The lists are sorted, one archive is made for each
# folder, and the order in which archives are linked is the floor plan (ARCHITECTURE.md).
#
#   make [target] [VARIABLE=value ...]

VARIANT ?= release
BUILD   ?= build/$(VARIANT)
PREFIX  ?= /usr/local
DESTDIR ?=
WERROR  ?= 0
V       ?= 0
T       ?=
ifeq ($(origin CC),default)
CC := gcc
endif

# ---- what is built ----------------------------------------------------------------------

FOLDERS := base shm compute compute/opencl model formats loader saver worker coordinator tools

base_SRC        := \
	arena.c base.c config.c config_compare.c config_help.c crystal.c crystal_cost.c err.c fault.c \
	hash.c local_socket.c log.c lora.c mix.c model_config.c option.c parameters.c pulse.c random.c topology.c \
	units.c
shm_SRC         := \
	child.c chunk.c control.c crash.c crash_text.c frozen.c keeper.c layout.c memfd.c objects.c region.c \
	ring.c sandbox.c slot.c takeover.c
compute_SRC     := \
	attention.c blocked.c crystal.c dropout.c elementwise.c norm.c product.c rope.c rows.c select.c \
	smoothing.c softmax.c table.c threaded.c threaded_rows.c threads.c \
	tiles.c tiles_fma.c vector.c
# Kernels are compiled once for each instruction set, with flags of its own.
compute_KERNELS := $(filter-out select.c threaded.c threaded_rows.c threads.c,$(compute_SRC))
compute_ISAS    := avx2 avx512 avx512bf16 amx
FLAGS_avx2      := -mavx2 -mfma
FLAGS_avx512    := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma \
	-mprefer-vector-width=512
FLAGS_avx512bf16 := $(FLAGS_avx512) -mavx512bf16
FLAGS_amx       := $(FLAGS_avx512bf16) -mamx-tile -mamx-bf16
# OpenCL is loaded at run time (compute/opencl/api.c); nothing is linked against it.
compute/opencl_SRC := \
	api.c cache.c device.c launch.c memory.c opencl.c pool.c profile.c program.c progress.c \
	table.c table_crystal.c table_heads.c table_product.c table_tensor.c transfer.c tuning.c \
	turn.c variant.c
# Kernels of OpenCL devices: embedded, compiled by the driver.
compute/opencl_CL := \
	activation.cl attention.cl bf16.cl columns.cl common.cl crystal.cl embedding.cl loss.cl \
	matmul.cl matmul_cpu.cl matmul_form.cl matmul_mma.cl norm.cl pack_bf16.cl ptx.cl ptx_emulated.cl \
	random.cl rope.cl vector.cl
model_SRC       := \
	adapters.c decoder.c dropout.c flops.c gpt.c groups.c init.c layout.c llama.c loss.c model.c muon.c \
	optimizer.c rope.c sample.c schedule.c
formats_SRC := \
	adapter.c alphabet.c bpe.c bpe_counts.c bpe_pairs.c bpe_train.c checkpoint.c checkpoint_json.c \
	checkpoint_list.c checkpoint_parts.c checkpoint_write.c choice.c config_json.c dataset.c direct.c encoder.c \
	file.c file_scan.c generation_config.c gguf.c gguf_model.c gguf_tokenizer.c gguf_value.c gguf_writer.c half.c \
	hf.c hf_writer.c json.c llama2c.c llmc.c manifest.c megatron.c mixture.c output.c pattern.c peft.c \
	pieces.c relayout.c safetensors.c safetensors_plan.c sha256.c shard.c shard_writer.c sink.c \
	source.c spm.c token.c token_stream.c tokenizer.c tokenizer_config.c tokenizer_files.c \
	tokenizer_gpt2.c tokenizer_json.c tokenizer_load.c tokenizer_ranks.c tokenizer_renumber.c \
	tokenizer_save.c unpack.c unpack_gzip.c unpack_zstd.c utf8.c vocab.c
loader_SRC      := \
	fill.c main.c pread.c reader.c sampler.c uring.c
saver_SRC       := \
	archive.c load.c main.c piece.c save.c saver.c snapshot.c tensor_file.c
worker_SRC      := \
	device.c lane.c main.c mapping.c selftest.c update.c
coordinator_SRC := \
	adapted.c beginning.c children.c control_socket.c crashes.c device_meter.c devices.c dryrun.c frozen.c \
	guardian.c health.c heartbeat.c import.c import_pass.c journal.c kept.c lanes.c logout.c main.c node_begin.c \
	node_control.c node_deaths.c node_end.c node_events.c node_watch.c nodezero.c origin.c placement.c \
	plan.c progress.c saving.c step.c step_reports.c step_takeover.c step_turns.c sweep.c team.c \
	vocabulary.c
# Multiply-adds in registers, likewise: the limit that cllm-bench measures.
peak_ISAS       := avx2 avx512 bf16 amx
PEAK_avx2       := -mavx2 -mfma
PEAK_avx512     := -mavx512f -mprefer-vector-width=512
PEAK_bf16       := $(PEAK_avx512) -mavx512bf16
PEAK_amx        := $(PEAK_bf16) -mamx-tile -mamx-bf16
tools_SRC := \
	argument.c bench.c bench_calibrate.c bench_child.c bench_choice.c bench_count.c bench_data.c \
	bench_kernels.c bench_limits.c bench_measure.c bench_peak.c bench_report.c bench_result.c \
	bench_run.c bench_shapes.c bench_tune.c convert.c convert_tokenizer.c ctl.c ctl_answer.c \
	device_facts.c devices.c eval.c eval_choices.c eval_split.c eval_work.c facts.c generate.c \
	history.c info.c ini_edit.c lm.c prep.c prep_input.c prep_options.c prep_output.c prep_piece.c \
	prep_pipe.c prep_reader.c prep_renumber.c prep_report.c prep_state.c prep_stream.c prep_text.c \
	prep_vocab.c prompt.c setting.c shm.c shm_clean.c shm_crashes.c shm_json.c shm_life.c shm_ring.c \
	shm_runs.c shm_slot.c shm_tables.c shm_text.c shm_trouble.c shm_view.c speaker.c spread.c stop.c \
	tally.c trial.c watch.c
tests_SRC := \
	test_adapter.c test_arena.c test_arrays.c test_attention.c test_bench_choice.c test_bench_result.c test_bpe_train.c \
	test_chaos.c test_checkpoint.c test_checkpoint_json.c test_choice.c test_config.c \
	test_config_compare.c test_config_json.c test_control.c test_control_socket.c test_crash.c \
	test_crashes.c test_crystal.c test_crystal_pairs.c test_dataset.c test_decoder.c test_device_meter.c test_devices.c \
	test_direct.c test_dropout.c test_elementary.c test_encoder.c test_err.c test_facts.c test_fault.c test_file.c test_file_scan.c test_fill.c \
	test_frozen.c test_fuzz_corpus.c test_gguf.c test_groups.c test_half.c test_health.c \
	test_heartbeat.c test_history.c test_ini_edit.c test_init.c test_isa.c test_json.c test_llama2c.c test_llmc.c \
	test_loader.c test_local_socket.c test_log.c test_logout.c test_lora.c test_manifest.c \
	test_matmul.c test_megatron.c test_mix.c test_mixture.c test_model.c test_model_crystal.c \
	test_muon.c test_opencl.c \
	test_opencl_crystal.c test_opencl_device.c test_opencl_flavours.c test_opencl_model.c \
	test_opencl_ops.c test_opencl_products.c test_opencl_program.c test_opencl_tensor.c \
	test_opencl_traffic.c test_opencl_tuning.c test_opencl_turn.c test_ops.c test_optimizer.c \
	test_parameters.c test_peft.c test_pieces.c test_prep.c test_prep_reader.c test_prep_text.c \
	test_prep_vocab.c test_random.c test_reader.c test_recompute.c test_region.c \
	test_renumber.c test_ring.c test_rope.c \
	test_safetensors.c test_sample.c test_sampler.c test_sandbox.c test_saver.c test_saver_crash.c \
	test_saver_load.c test_schedule.c test_selftest.c test_setting.c test_sha256.c test_shard.c \
	test_shm_clean.c test_shm_view.c test_slot.c test_smoothing.c test_snapshot.c test_source.c test_speaker.c \
	test_step.c test_step_kept.c test_stop.c test_tally.c test_tensor_file.c test_threads.c \
	test_tokenizer.c test_topology.c test_units.c test_unpack.c test_utf8.c test_vector.c
# Benchmarks: built like tests, run by hand.
tests_bench_SRC := \
	bench_crystal.c bench_embedding.c bench_loader.c bench_opencl.c bench_opencl_matmul.c \
	bench_tokenizer.c logits.c
# The crash tests: built like tests, called by scripts of tests/e2e.
tests_points_SRC := \
	points.c points_cases.c points_run.c
# The chaos driver, from several files.
tests_chaos_SRC := \
	chaos.c chaos_battle.c chaos_check.c chaos_mttr.c chaos_options.c chaos_plan.c chaos_result.c \
	chaos_run.c chaos_shot.c chaos_soak.c chaos_stops.c chaos_takeover.c chaos_view.c nano.c \
	run_copy.c
# A step under ptrace, an instruction at a time.
tests_stepping_SRC := \
	nano.c run_copy.c step_boundary.c step_code.c step_recovery.c step_symbols.c step_trace.c \
	step_walk.c step_watch.c stepping.c
# The simulator of the protocol; tests/crash/sim.mk builds it.
tests_sim_SRC := \
	sim.c sim_check.c sim_check_work.c sim_children.c sim_faults.c sim_files.c sim_golden.c sim_hooks.c \
	sim_house.c sim_kernel.c sim_memory.c sim_roles.c sim_run.c sim_sched.c sim_trace.c sim_violation.c
# Shared records under ThreadSanitizer; likewise.
tests_races_SRC := \
	races.c
# What a power cut, a failing disk and rotten bytes leave; tests/crash/disk.mk builds them.
tests_disk_SRC := \
	corrupt.c faults.c states.c
tests_disk_common_SRC := \
	disk_calls.c disk_fault.c disk_log.c disk_state.c saver_rig.c tally.c whole.c
tests_corrupt_SRC := \
	corrupt_checkpoint.c corrupt_control.c corrupt_shard.c
# The n-th system call and the n-th allocation fail; tests/crash/nth.mk builds it.
tests_nth_SRC := \
	nth.c nth_run.c nth_trace.c
# The proof of the elementary functions over all floats; tests/math/math.mk builds it.
tests_math_SRC := \
	loops.c math_all.c
# Files that test programs share.
tests_common_SRC := \
	control_temp.c deaths.c gpt_double.c llama_double.c loader_data.c lora_double.c model_batch.c \
	model_files.c opencl_operations.c opencl_run.c opencl_simulated.c ops_bits.c prep_run.c \
	saver_run.c shm_run.c step_run.c

# Fuzz targets: linked into test_fuzz_corpus, and programs of their own in VARIANT=fuzz.
tests_fuzz_SRC := \
	fuzz.c fuzz_answer.c fuzz_checkpoint.c fuzz_choice.c fuzz_config.c fuzz_control.c fuzz_crash.c \
	fuzz_dataset.c fuzz_gguf.c fuzz_history.c fuzz_journal.c fuzz_manifest.c fuzz_megatron.c \
	fuzz_model.c fuzz_prep.c fuzz_report.c fuzz_safetensors.c fuzz_segment.c fuzz_shard.c fuzz_state.c \
	fuzz_tokenizer.c

# Programs: main file, the archives it may use (its floors, upper first), libraries.
PROGRAMS := \
	cllm-bench cllm-convert cllm-coord cllm-ctl cllm-devices cllm-eval cllm-generate cllm-info \
	cllm-loader cllm-prep cllm-saver cllm-shm cllm-worker

cllm-coord_MAIN    := coordinator/main.c
cllm-coord_FLOORS  := coordinator formats shm model base
cllm-coord_LINK    := -ljansson -lpcre2-8 -lcrypto -linih -lxxhash -lhwloc -lm
cllm-worker_MAIN   := worker/main.c
cllm-worker_FLOORS := worker model compute/opencl compute shm base
cllm-worker_LINK   := -linih -lxxhash -lseccomp
cllm-loader_MAIN   := loader/main.c
cllm-loader_FLOORS := loader formats shm base
cllm-loader_LINK   := -luring -ljansson -lcrypto -linih -lxxhash -lseccomp
cllm-saver_MAIN    := saver/main.c
cllm-saver_FLOORS  := saver formats shm base
cllm-saver_LINK    := -ljansson -lcrypto -linih -lxxhash -lseccomp
cllm-shm_MAIN      := tools/shm.c
cllm-shm_FLOORS    := tools formats shm model base
cllm-shm_LINK      := -ljansson -lcrypto -linih -lxxhash -lncursesw -ltinfo -lm
cllm-ctl_MAIN      := tools/ctl.c
cllm-ctl_FLOORS    := tools formats shm base
cllm-ctl_LINK      := -ljansson -lcrypto -linih -lxxhash
cllm-prep_MAIN     := tools/prep.c
cllm-prep_FLOORS   := tools formats base
cllm-prep_LINK     := -ljansson -lcrypto -linih -lxxhash -lz -lzstd -lpcre2-8
cllm-generate_MAIN   := tools/generate.c
cllm-generate_FLOORS := tools formats model compute base
cllm-generate_LINK   := -ljansson -lcrypto -linih -lxxhash -lpcre2-8 -lm
cllm-eval_MAIN     := tools/eval.c
cllm-eval_FLOORS   := tools formats model compute base
cllm-eval_LINK     := -ljansson -lcrypto -linih -lxxhash -lpcre2-8 -lm
cllm-bench_MAIN    := tools/bench.c
cllm-bench_FLOORS  := tools formats model compute/opencl compute shm base
cllm-bench_LINK    := -ljansson -lcrypto -linih -lxxhash -lhwloc -lm
cllm-convert_MAIN   := tools/convert.c
cllm-convert_FLOORS := tools formats base
cllm-convert_LINK   := -ljansson -lpcre2-8 -lcrypto -linih -lxxhash -lm
cllm-devices_MAIN   := tools/devices.c
cllm-devices_FLOORS := formats compute/opencl base
cllm-devices_LINK   := -ljansson -lcrypto -linih -lxxhash
cllm-info_MAIN     := tools/info.c
cllm-info_FLOORS   := tools formats model compute shm base
cllm-info_LINK     := -ljansson -lcrypto -linih -lxxhash -lhwloc -lm

# Tests may use everything.
tests_FLOORS := tools coordinator worker saver loader formats shm model compute/opencl compute base
tests_LINK   := -lcmocka -luring -lz -lzstd -ljansson -lpcre2-8 -lcrypto -linih -lxxhash -lseccomp -lhwloc -lncursesw -ltinfo -lm

# ---- how it is built --------------------------------------------------------------------

IS_CLANG := $(findstring clang,$(shell $(CC) --version 2>/dev/null))

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wold-style-definition -Wvla -Wundef -Wcast-qual -Wwrite-strings \
	-Wformat=2 -Wpointer-arith -Wdouble-promotion
ifeq ($(IS_CLANG),)
WARNINGS += -Wduplicated-cond -Wlogical-op -Wcast-align=strict
endif
ifeq ($(WERROR),1)
WARNINGS += -Werror
endif

OPT_release  := -O2
OPT_debug    := -Og
OPT_asan     := -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined
OPT_tsan     := -O1 -fsanitize=thread
OPT_coverage := -O0 --coverage -DCLLM_OWN_SYSCALLS
OPT_fuzz     := -O1 -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=undefined
OPT := $(OPT_$(VARIANT))
ifeq ($(OPT),)
$(error VARIANT=$(VARIANT) is not known: release debug asan tsan coverage fuzz)
endif

# -ffp-contract=off and no -ffast-math: the same arithmetic from every compiler.
# -fno-math-errno and -fno-trapping-math change no value: errno and exception flags, which
# nobody looks at, need not be right, so roots are one instruction and selects vectorise.
CFLAGS ?=
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE -I. $(OPT) -g -fno-omit-frame-pointer -fno-common \
	-ffp-contract=off -fno-math-errno -fno-trapping-math $(WARNINGS) $(CFLAGS)
ALL_LDFLAGS := $(filter -fsanitize=% --coverage,$(OPT)) -Wl,--as-needed $(LDFLAGS)

# The arithmetic is where the time goes.
ifeq ($(VARIANT),release)
$(BUILD)/obj/compute/%.o $(BUILD)/obj/model/%.o $(BUILD)/obj/formats/half.o: \
		ALL_CFLAGS += -O3
endif

ifeq ($(V),1)
quiet =
else
quiet = @printf '  %-7s %s\n' '$(1)' '$(2)';
endif

MAINS    := $(foreach p,$(PROGRAMS),$($(p)_MAIN))
BINARIES := $(PROGRAMS:%=$(BUILD)/bin/%)
TESTS    := $(tests_SRC:%.c=$(BUILD)/tests/%)
BENCHES  := $(tests_bench_SRC:%.c=$(BUILD)/tests/%)
SOURCES  := $(foreach f,$(FOLDERS),$(addprefix $(f)/,$($(f)_SRC))) \
	$(addprefix tests/,$(tests_bench_SRC) $(tests_common_SRC) $(tests_SRC)) \
	$(addprefix tests/crash/,$(tests_points_SRC) $(tests_chaos_SRC) $(tests_sim_SRC) $(tests_races_SRC)) \
	$(addprefix tests/crash/,$(filter-out $(tests_chaos_SRC),$(tests_stepping_SRC))) \
	$(addprefix tests/crash/,$(tests_disk_SRC) $(tests_disk_common_SRC) $(tests_corrupt_SRC)) \
	$(addprefix tests/crash/,alloc_fail.c arm.c $(tests_nth_SRC)) \
	$(addprefix tests/math/,$(tests_math_SRC)) \
	$(addprefix tests/fuzz/,entry.c $(tests_fuzz_SRC) seeds.c)
FUZZ_TARGETS := $(patsubst fuzz_%.c,%,$(filter fuzz_%.c,$(tests_fuzz_SRC)))
FUZZ_OBJECTS := $(tests_fuzz_SRC:%.c=$(BUILD)/obj/tests/fuzz/%.o)
FUZZERS  := $(FUZZ_TARGETS:%=$(BUILD)/fuzz/%)
OBJECTS  := $(SOURCES:%.c=$(BUILD)/obj/%.o)
ISA_OBJECTS := $(foreach i,$(compute_ISAS),$(compute_KERNELS:%.c=$(BUILD)/obj/compute/%.$(i).o))
PEAK_OBJECTS := $(peak_ISAS:%=$(BUILD)/obj/tools/bench_peak.%.o)
# Frames of detect_stack_use_after_return are not aligned to 64 bytes, where gcc 12 stores vectors
# of 64 as if they were, and dies: kernels keep their frames on the stack.
ifeq ($(VARIANT)$(IS_CLANG),asan)
$(ISA_OBJECTS) $(PEAK_OBJECTS): ALL_CFLAGS += --param=asan-use-after-return=0
endif
lib = $(1:%=$(BUILD)/lib/lib%.a)

.PHONY: all
all: $(BINARIES) ## build the programs into build/release/bin (default)

# Remembers compiler and flags, so that changing them rebuilds.
FLAGS_FILE := $(BUILD)/flags
FLAGS_TEXT := $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)
ifneq ($(strip $(file <$(FLAGS_FILE))),$(strip $(FLAGS_TEXT)))
.PHONY: $(FLAGS_FILE)
endif
$(FLAGS_FILE):
	@mkdir -p $(@D)
	@printf '%s\n' '$(FLAGS_TEXT)' > $@

$(BUILD)/obj/%.o: %.c Makefile $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call quiet,CC,$<)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# obj/compute/norm.avx2.o is compute/norm.c with -DCLLM_ISA=avx2.
define isa_rule
$(BUILD)/obj/compute/%.$(1).o: compute/%.c Makefile $(FLAGS_FILE)
	@mkdir -p $$(@D)
	$$(call quiet,CC,$$< $(1))$$(CC) $$(ALL_CFLAGS) $(FLAGS_$(1)) -DCLLM_ISA=$(1) -MMD -MP -c -o $$@ $$<
endef
$(foreach i,$(compute_ISAS),$(eval $(call isa_rule,$(i))))
$(call lib,compute): $(ISA_OBJECTS)

# obj/tools/bench_peak.avx2.o; a multiplication and an addition may become one instruction.
define peak_rule
$(BUILD)/obj/tools/bench_peak.$(1).o: tools/bench_peak.c Makefile $(FLAGS_FILE)
	@mkdir -p $$(@D)
	$$(call quiet,CC,$$< $(1))$$(CC) $$(ALL_CFLAGS) $(PEAK_$(1)) -ffp-contract=fast -MMD -MP -c -o $$@ $$<
endef
$(foreach i,$(peak_ISAS),$(eval $(call peak_rule,$(i))))
$(call lib,tools): $(PEAK_OBJECTS)

# The .cl files as an array.
$(BUILD)/gen/opencl_sources.c: $(addprefix compute/opencl/,$(compute/opencl_CL)) \
		scripts/embed.sh Makefile
	@mkdir -p $(@D)
	$(call quiet,EMBED,$@)scripts/embed.sh $(filter %.cl,$^) > $@.new && mv $@.new $@
$(BUILD)/obj/opencl_sources.o: $(BUILD)/gen/opencl_sources.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call quiet,CC,$<)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$(call lib,compute/opencl): $(BUILD)/obj/opencl_sources.o

define archive_rule
$(call lib,$(1)): $(patsubst %.c,$(BUILD)/obj/$(1)/%.o,$(filter-out $(MAINS:$(1)/%=%),$($(1)_SRC)))
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(call quiet,AR,$$@)$$(AR) rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call archive_rule,$(f))))

define program_rule
$(BUILD)/bin/$(1): $(patsubst %.c,$(BUILD)/obj/%.o,$($(1)_MAIN)) $(call lib,$($(1)_FLOORS))
	@mkdir -p $$(@D)
	$$(call quiet,LINK,$$@)$$(CC) -o $$@ $$^ $(ALL_LDFLAGS) $($(1)_LINK)
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rule,$(p))))

$(TESTS) $(BENCHES): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o \
		$(tests_common_SRC:%.c=$(BUILD)/obj/tests/%.o) $(call lib,$(tests_FLOORS))
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(ALL_LDFLAGS) \
		$(tests_LINK)

$(BUILD)/tests/test_fuzz_corpus: $(FUZZ_OBJECTS)
$(BUILD)/tests/test_chaos: $(patsubst %,$(BUILD)/obj/tests/crash/%.o,\
	chaos_check chaos_plan nano run_copy)

# VARIANT=fuzz, CC=clang: one libFuzzer program for each target, of what it needs alone.
$(call lib,fuzz): $(FUZZ_OBJECTS) $(tests_common_SRC:%.c=$(BUILD)/obj/tests/%.o)
	@mkdir -p $(@D)
	@rm -f $@
	$(call quiet,AR,$@)$(AR) rcs $@ $^
$(BUILD)/obj/tests/fuzz/entry_%.o: tests/fuzz/entry.c Makefile $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call quiet,CC,$< $*)$(CC) $(ALL_CFLAGS) -DCLLM_FUZZ_TARGET=$* -c -o $@ $<
$(FUZZERS): $(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/entry_%.o \
		$(call lib,fuzz $(tests_FLOORS))
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $^ $(ALL_LDFLAGS) -fsanitize=fuzzer $(tests_LINK)
$(BUILD)/bin/fuzz-seeds: $(BUILD)/obj/tests/fuzz/seeds.o $(call lib,formats base)
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $^ $(ALL_LDFLAGS) -ljansson -lcrypto -linih -lxxhash -lm

$(BUILD)/tests/crash/points: $(tests_points_SRC:%.c=$(BUILD)/obj/tests/crash/%.o) \
		$(call lib,formats base)
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $^ $(ALL_LDFLAGS) -ljansson -lcrypto -linih -lxxhash -lm

# Arms fault points of a run that goes on, for scripts of tests/e2e.
$(BUILD)/tests/crash/arm: $(BUILD)/obj/tests/crash/arm.o $(call lib,shm base)
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $^ $(ALL_LDFLAGS) -linih -lxxhash

$(BUILD)/tests/crash/chaos: $(tests_chaos_SRC:%.c=$(BUILD)/obj/tests/crash/%.o) \
		$(call lib,coordinator formats shm model base)
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $^ $(ALL_LDFLAGS) -ljansson -lcrypto -linih -lxxhash -lm

$(BUILD)/tests/crash/stepping: $(tests_stepping_SRC:%.c=$(BUILD)/obj/tests/crash/%.o) \
		$(call lib,coordinator formats shm model base)
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $^ $(ALL_LDFLAGS) -ljansson -lcrypto -linih -lxxhash -lm

include tests/crash/sim.mk
include tests/crash/disk.mk
include tests/crash/nth.mk
include tests/math/math.mk

# A library archive without members is normal for a folder that has only its main file.
.SECONDARY: $(OBJECTS)
-include $(BUILD)/obj/opencl_sources.d $(OBJECTS:.o=.d) $(ISA_OBJECTS:.o=.d) $(PEAK_OBJECTS:.o=.d)

# ---- what can be done -------------------------------------------------------------------

.PHONY: help
help: ## this list
	@sed -n '2,/^$$/s/^# \{0,1\}//p' Makefile
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@printf '\nVariables: VARIANT=%s (release debug asan tsan coverage), CC=%s, V=1 full lines,\n' \
		'$(VARIANT)' '$(CC)'
	@printf 'T=name one test program, WERROR=1, BUILD=%s, PREFIX=%s, DESTDIR=\n' '$(BUILD)' '$(PREFIX)'

.PHONY: deps build-tests test test-fast demo
deps:
	@scripts/install-deps.sh

build-tests: $(BINARIES) $(TESTS) $(BENCHES) $(BUILD)/tests/crash/arm $(BUILD)/tests/crash/points $(BUILD)/tests/crash/chaos $(BUILD)/tests/crash/sim $(BUILD)/tests/crash/stepping $(NTH) $(DISKS) $(MATH)

# With every core, unless make was told how many.
JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))

test: deps ## install what is missing, build, run all tests
	@$(MAKE) --no-print-directory $(JOBS) build-tests
	@tests/run.sh $(BUILD) $(T)

test-fast: build-tests ## unit tests only; T=ring picks one
	@tests/run.sh --unit $(BUILD) $(T)

.PHONY: test-math
test-math: $(MATH) ## prove the elementary functions over all 2^32 floats, minutes; T=erf picks one
	@$(MATH) $(T)

.PHONY: test-opencl-long test-oclgrind
test-opencl-long test-oclgrind: $(addprefix $(BUILD)/tests/test_opencl_,ops products crystal tensor)
test-opencl-long: ## OpenCL: all sizes of heads, all variants, sizes of models; long, most of all the first time
	@mkdir -p $(BUILD)/cache
	@for t in $^; do CLLM_LONG=1 CLLM_CACHE_DIR=$(abspath $(BUILD))/cache $$t || exit 1; done

test-oclgrind: ## every OpenCL kernel in a simulator that sees races, 20 minutes; T=products picks a part
	@scripts/check-oclgrind.sh $(BUILD) $(T)

.PHONY: test-crash campaign
test-crash: build-tests ## the crash tests in their deep form, an hour; T=chaos-kill picks one
	@scripts/test-crash.sh $(BUILD) $(T)

campaign: build-tests ## random kills for as long as they are left to go on
	@scripts/campaign.sh $(BUILD)

demo: deps ## train a small model on the King James Bible and let it write
	@scripts/demo.sh

.PHONY: check format format-check lint
check: format-check lint ## what must hold before a commit: format, lint, gcc, clang, tests, asan
	@scripts/check.sh

format: ## clang-format all sources in place
	@clang-format -i $(SOURCES) $(wildcard $(addsuffix /*.h,$(FOLDERS) tests))

format-check: ## fail when clang-format would change something
	@clang-format --dry-run -Werror $(SOURCES) $(wildcard $(addsuffix /*.h,$(FOLDERS) tests))

lint: ## style, floor plan, headers, lists, shellcheck, cppcheck, clang-tidy
	@scripts/lint.sh $(SOURCES)

.PHONY: asan docs bench bench-loader acceptance
acceptance: build-tests ## the long proof: every worker count, kills, 63 workers, memory
	@scripts/acceptance.sh

asan: ## build with AddressSanitizer and UBSan and run all tests
	@$(MAKE) --no-print-directory VARIANT=asan BUILD=build/asan test

FUZZ_BUILD ?= build/fuzz
.PHONY: fuzz build-fuzz
build-fuzz: $(FUZZERS) $(BUILD)/bin/fuzz-seeds

fuzz: ## fuzz every parser, FUZZ_SECONDS=60 (or FUZZ_RUNS=) each; T=config picks one
	@$(MAKE) --no-print-directory VARIANT=fuzz BUILD=$(FUZZ_BUILD) CC=clang build-fuzz
	@tests/fuzz/run.sh $(FUZZ_BUILD) $(if $(T),$(T),$(FUZZ_TARGETS))

docs: $(BUILD)/bin/cllm-coord ## write docs/options.md from base/options.def
	@$< --options-markdown > docs/options.md.new
	@mv docs/options.md.new docs/options.md

bench: all ## tokens a second; PEERS="pytorch llmc" beside others, MODELS="cache-384 ..."
	@CLLM_BUILD=$(BUILD) scripts/bench.sh $(MODELS)

bench-loader: build-tests ## io_uring, pread, mmap and fio on cold random windows
	@scripts/bench-loader.sh

.PHONY: install uninstall clean clean-shm
install: all ## copy the programs to PREFIX/bin
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BINARIES) $(DESTDIR)$(PREFIX)/bin

uninstall: ## remove what install copied
	rm -f $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/bin/%)

clean: ## remove build/
	rm -rf build

clean-shm: $(BUILD)/bin/cllm-shm ## remove shared memory that dead runs left behind
	@$< clean --all

# For scripts: the sources that the lists name, one a line.
.PHONY: list-sources list-tests
list-sources:
	@printf '%s\n' $(SOURCES)
list-tests:
	@printf '%s\n' $(tests_SRC:%.c=%)
