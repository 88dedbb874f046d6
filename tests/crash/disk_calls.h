/*
 * tests/crash/disk_calls.h - the calls that disk_calls.c takes the place of.
 *
 * The linker sends a program's calls of NAME to __wrap_NAME when it is told --wrap=NAME;
 * the Makefile's list of names is this one.
 */
#ifndef CLLM_TESTS_CRASH_DISK_CALLS_H
#define CLLM_TESTS_CRASH_DISK_CALLS_H

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

#define DISK_CALL(type, name, ...)   \
    type __real_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

DISK_CALL(int, open, const char *path, int flags, ...);
DISK_CALL(int, openat, int dir_fd, const char *name, int flags, ...);
DISK_CALL(int, close, int fd);
DISK_CALL(ssize_t, read, int fd, void *data, size_t bytes);
DISK_CALL(ssize_t, pread, int fd, void *data, size_t bytes, off_t off);
DISK_CALL(ssize_t, write, int fd, const void *data, size_t bytes);
DISK_CALL(ssize_t, pwrite, int fd, const void *data, size_t bytes, off_t off);
DISK_CALL(int, posix_fallocate, int fd, off_t off, off_t bytes);
DISK_CALL(int, fsync, int fd);
DISK_CALL(int, rename, const char *from, const char *to);
DISK_CALL(int, renameat2, int from_fd, const char *from, int to_fd, const char *to,
          unsigned flags);
DISK_CALL(int, unlink, const char *path);
DISK_CALL(int, unlinkat, int dir_fd, const char *name, int flags);
DISK_CALL(int, mkdir, const char *path, mode_t mode);
DISK_CALL(int, symlink, const char *target, const char *path);
DISK_CALL(ssize_t, readlink, const char *path, char *target, size_t bytes);
DISK_CALL(int, stat, const char *path, struct stat *st);
DISK_CALL(int, lstat, const char *path, struct stat *st);
DISK_CALL(int, fstat, int fd, struct stat *st);
DISK_CALL(int, access, const char *path, int mode);
DISK_CALL(DIR *, opendir, const char *path);
DISK_CALL(int, closedir, DIR *dir);

#endif /* CLLM_TESTS_CRASH_DISK_CALLS_H */
