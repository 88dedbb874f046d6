/*
 * tests/crash/disk_log.h - what a program does to the files below one directory: written
 * down, or made to fail.
 *
 * Programs that use it are linked with --wrap for the calls in disk_calls.h, so that
 * formats/ and saver/ run as they are shipped. Calls that touch nothing below the watched
 * directory pass through. While a directory is watched, fsync(2) is noted and not done:
 * a simulated disk needs no real one.
 */
#ifndef CLLM_TESTS_CRASH_DISK_LOG_H
#define CLLM_TESTS_CRASH_DISK_LOG_H

#include "base/base.h"

#define DISK_NAME_BYTES  48
#define DISK_MAX_OBJECTS 512
#define DISK_NOTHING     UINT32_MAX

enum disk_kind {
    DISK_CREATE,   /* entry name of dir := object (file, directory or link) */
    DISK_REMOVE,   /* entry name of dir goes */
    DISK_RENAME,   /* entry name goes, entry to := object */
    DISK_EXCHANGE, /* entry name := other, entry to := object */
    DISK_WRITE,    /* bytes [off, off + bytes) of the file object */
    DISK_SIZE,     /* the file object is at least `bytes` long: zeros behind its end */
    DISK_SYNC,     /* fsync of object returned 0 */
    DISK_SYNC_FAILED,
    DISK_DURABLE /* the saver said that the checkpoint of step `off` is durable */
};

struct disk_op {
    enum disk_kind kind;
    uint32_t dir, object, other;
    char name[DISK_NAME_BYTES], to[DISK_NAME_BYTES];
    uint64_t off, bytes;
    uint8_t *data; /* (bytes) of a WRITE; heap */
};

struct disk_entry {
    char name[DISK_NAME_BYTES];
    uint32_t object;
};

enum disk_type { DISK_FILE, DISK_DIRECTORY, DISK_LINK };

/* A file, directory or link as it was when watching began, or empty when it is newer. */
struct disk_object {
    enum disk_type type;
    uint64_t inode;
    uint8_t *data; /* (bytes) of a file, target of a link; heap */
    uint64_t bytes;
    struct disk_entry *entry; /* [n_entries] of a directory; heap */
    uint32_t n_entries;
    bool sync_failed;
};

struct disk_log {
    uint32_t n_ops, room;
    struct disk_op *op;
    uint32_t n_objects; /* object 0 is the watched directory */
    struct disk_object object[DISK_MAX_OBJECTS];
};

/* Calls are numbered from 0 while a directory is watched; those numbers are `at`. */
struct disk_fault {
    uint64_t at;      /* the first call to fail; UINT64_MAX = none */
    int error;        /* its errno; 0 = it transfers half of its bytes */
    bool lasting;     /* so do all later ones that can fail that way */
    uint64_t room;    /* bytes that fit on the disk; UINT64_MAX = all */
    bool no_exchange; /* renameat2() says EINVAL, as some file systems do */
};

/* Watch @path: note what is there, then every operation. The log is the one and only. */
struct disk_log *disk_watch(const char *path);
void disk_unwatch(void);
void disk_mark_durable(uint64_t step);

/* Fail as @fault says; NULL ends that. Numbers the calls from 0 again. */
void disk_set_fault(const struct disk_fault *fault);
uint64_t disk_calls(void);      /* made below the directory since disk_set_fault() */
uint64_t disk_room_used(void);  /* bytes asked for since then */
uint32_t disk_faults_hit(void); /* calls that failed since then */
uint32_t disk_syncs_repeated(
    void); /* fsyncs of a file or new directory after one failed */
uint32_t disk_object_at(const char *path); /* its number; DISK_NOTHING = not there */
int disk_open_files(void); /* descriptors below the directory not closed */

/* What is written to stderr goes here instead; "" at first. */
void disk_capture(bool on);
const char *disk_captured(void);
void disk_captured_clear(void);

#endif /* CLLM_TESTS_CRASH_DISK_LOG_H */
