/*
 * tests/crash/disk_fault.c - which of the calls below the watched directory fails, and
 * how much room the disk has.
 */
#include <errno.h>

#include "tests/crash/disk_inside.h"

static struct {
    struct disk_fault fault;
    uint64_t calls, room_used;
    uint32_t hits, syncs_repeated;
} self = {.fault = {.at = UINT64_MAX, .room = UINT64_MAX}};

void disk_set_fault(const struct disk_fault *fault)
{
    self.fault = (struct disk_fault){.at = UINT64_MAX, .room = UINT64_MAX};
    if (fault != NULL)
        self.fault = *fault;
    self.calls = self.room_used = 0;
    self.hits = self.syncs_repeated = 0;
}

uint64_t disk_calls(void)
{
    return self.calls;
}

uint64_t disk_room_used(void)
{
    return self.room_used;
}

uint32_t disk_faults_hit(void)
{
    return self.hits;
}

uint32_t disk_syncs_repeated(void)
{
    return self.syncs_repeated;
}

/* Number this call. True: it is to fail, errno is set. */
bool disk_fails(void)
{
    uint64_t number = self.calls++;

    if (number < self.fault.at || (number > self.fault.at && !self.fault.lasting) ||
        self.fault.error == 0)
        return false;
    self.hits++;
    errno = self.fault.error;
    return true;
}

/* How much of @bytes is transferred by the call that was numbered last. */
size_t disk_transferred(size_t bytes)
{
    if (self.calls - 1 != self.fault.at || self.fault.error != 0 || bytes < 2)
        return bytes;
    self.hits++;
    return bytes / 2;
}

/* Take @bytes of room; how much of it there was. */
uint64_t disk_take_room(uint64_t bytes)
{
    uint64_t there = self.fault.room - cllm_min_u64(self.fault.room, self.room_used);

    self.room_used += bytes;
    if (bytes > there)
        self.hits++;
    return cllm_min_u64(bytes, there);
}

/* Room for a new name of any kind. */
bool disk_no_room(void)
{
    if (disk_take_room(CLLM_PAGE) == CLLM_PAGE)
        return false;
    errno = ENOSPC;
    return true;
}

const struct disk_fault *disk_fault_now(void)
{
    return &self.fault;
}

void disk_sync_repeated(void)
{
    self.syncs_repeated++;
}
