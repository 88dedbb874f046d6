/*
 * formats/file.h - files that survive a power cut: whole reads and writes, replace,
 * durable rename, removal of a tree.
 *
 * rename(2) is atomic but not durable: the file is fsynced before it and the directory
 * after it. A failed fsync is never retried, because the kernel may have dropped the
 * data: the temporary file is unlinked and the caller is told. EINTR and short transfers
 * are handled. Every failure has text through base/err.h.
 */
#ifndef CLLM_FORMATS_FILE_H
#define CLLM_FORMATS_FILE_H

#include "base/base.h"

#include <sys/types.h>

#define CLLM_FILE_PATH_BYTES 4096

/* "@dir/@name" into @out. Returns 0 or -ENAMETOOLONG with text. */
int cllm_file_join(char out[CLLM_FILE_PATH_BYTES], const char *dir, const char *name);

/* Make directory @path and its missing parents (mode 0777 less the umask). An existing
 * directory is fine. Returns 0 or a negative errno with text. */
int cllm_file_mkdirs(const char *path);

/* All of @bytes, or a negative errno with text; @path is for messages. */
int cllm_file_write_all(int fd, const void *data, size_t bytes, const char *path);
int cllm_file_pwrite_all(int fd, const void *data, size_t bytes, uint64_t off,
                         const char *path);

/* All of @bytes from @off; the end of the file before that is CLLM_EDATA with path,
 * offset, expected and found. */
int cllm_file_pread_all(int fd, void *data, size_t bytes, uint64_t off, const char *path);

/* Take the lock of the file @fd, open to be written, for nobody else, at once; it is
 * released when the last descriptor of this open() is closed. Returns 0; -EWOULDBLOCK,
 * without text, while somebody has it; another negative errno with text: this file system
 * cannot lock. */
int cllm_file_lock(int fd, const char *path);

/* Open regular file @path to read, and give its size and its first @cap bytes (fewer of a
 * shorter file). Returns a descriptor; a negative errno or CLLM_EDATA with text. */
int cllm_file_open_begin(const char *path, void *begin, size_t cap, uint64_t *bytes);

/* The whole regular file with a NUL behind it; heap, the caller frees. More than @cap
 * bytes is -EFBIG. @bytes (may be NULL) excludes the NUL. */
int cllm_file_read(const char *path, size_t cap, char **out, size_t *bytes);

/* Make @path hold exactly @bytes at @data, durably: readers and a power cut see the old
 * file or the new one, never a mixture. The temporary name is "@path.tmp". */
int cllm_file_replace(const char *path, const void *data, size_t bytes);

/* fsync the directory @path, or the one that holds @path. */
int cllm_file_sync_dir(const char *path);
int cllm_file_sync_parent(const char *path);

/* rename(2), then fsync of the directory that holds @to. Both lie in one directory. */
int cllm_file_rename(const char *from, const char *to);

/* Give what is at @path another name beside it, durably: the first of "@path.old" and
 * "@path.old2" ... that is free, in @aside. Returns 1; 0 when nothing is there; a
 * negative errno with text. */
int cllm_file_set_aside(const char *path, char aside[CLLM_FILE_PATH_BYTES]);

/* Make @link point at @target in one step, durably; a link that was there is replaced. A
 * file or directory at @link that is no link is -EEXIST. The temporary name is
 * "@link.tmp". */
int cllm_file_symlink(const char *target, const char *link);

/* Remove directory @path with all regular files, links and directories in it. Links are
 * removed, never followed; anything else (device, socket, pipe) stops it with -EINVAL and
 * text. A missing @path is 0. */
int cllm_file_remove_tree(const char *path);

#endif /* CLLM_FORMATS_FILE_H */
