/*
 * tests/crash/disk_inside.h - what the calls (disk_calls.c) ask of the log (disk_log.c)
 * and of the fault that is to happen (disk_fault.c).
 */
#ifndef CLLM_TESTS_CRASH_DISK_INSIDE_H
#define CLLM_TESTS_CRASH_DISK_INSIDE_H

#include "tests/crash/disk_log.h"

/* ---- disk_log.c ---- */

/* Is a directory watched, and @path it or below it? */
bool disk_below_root(const char *path);

/* The object with that number; that of a descriptor below the directory, or DISK_NOTHING.
 */
struct disk_object *disk_object(uint32_t id);
uint32_t disk_object_of_fd(int fd);
void disk_remember_fd(int fd);
void disk_forget_fd(int fd);

/* The directory that holds @path, and the last part of its name. */
uint32_t disk_parent_of(const char *path, char name[DISK_NAME_BYTES]);
void disk_set_name(char out[DISK_NAME_BYTES], const char *name);

/* A new operation at the end of the log; that @path has been made; a write. */
struct disk_op *disk_note(enum disk_kind kind);
void disk_note_created(const char *path);
void disk_note_write(uint32_t object, const void *data, size_t bytes, uint64_t off);

/* ---- disk_fault.c ---- */

const struct disk_fault *disk_fault_now(void);

/* Number this call. True: it is to fail, errno is set. */
bool disk_fails(void);

/* How much of @bytes is transferred by the call that was numbered last. */
size_t disk_transferred(size_t bytes);

/* Take @bytes of room; how much of it there was. */
uint64_t disk_take_room(uint64_t bytes);

/* Room for a new name of any kind: none is left, errno is set. */
bool disk_no_room(void);

/* A file was given a second fsync after one that failed. */
void disk_sync_repeated(void);

#endif /* CLLM_TESTS_CRASH_DISK_INSIDE_H */
