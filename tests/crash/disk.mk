# The campaigns against the disk: their calls of these functions go through disk_calls.c,
# so that formats/ and saver/ run as they are shipped. tests/crash/disk_calls.h has the
# same list.
tests_disk_WRAP := \
	access close closedir fstat fsync lstat mkdir open openat opendir posix_fallocate \
	pread pwrite read readlink rename renameat2 stat symlink unlink unlinkat write

DISKS := $(tests_disk_SRC:%.c=$(BUILD)/tests/crash/%)

$(BUILD)/tests/crash/corrupt: $(tests_corrupt_SRC:%.c=$(BUILD)/obj/tests/crash/%.o)
$(DISKS): $(BUILD)/tests/crash/%: $(BUILD)/obj/tests/crash/%.o \
		$(tests_disk_common_SRC:%.c=$(BUILD)/obj/tests/crash/%.o) \
		$(tests_common_SRC:%.c=$(BUILD)/obj/tests/%.o) $(call lib,$(tests_FLOORS))
	@mkdir -p $(@D)
	$(call quiet,LINK,$@)$(CC) -o $@ $(filter %.o,$^) $(filter %.a,$^) \
		$(tests_disk_WRAP:%=-Wl,--wrap=%) $(ALL_LDFLAGS) $(tests_LINK)
