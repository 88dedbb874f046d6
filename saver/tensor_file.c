/*
 * saver/tensor_file.c - parts through windows to the disk, and back in one pass.
 */
#include "saver/tensor_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/pulse.h"

/* What goes to the disk at once. Windows begin at multiples of it in the file. */
#define WINDOW_BYTES ((size_t)4 << 20)

/* What is hashed, and copied or hashed again, before the next: in the first caches. */
#define PIECE_BYTES ((size_t)1 << 16)

/* ---- create ---- */

static int begin_part(struct cllm_tensor_part *part, uint64_t begin, uint64_t end)
{
    *part = (struct cllm_tensor_part){.begin = begin, .end = end, .at = begin};
    part->window = aligned_alloc(CLLM_PAGE, WINDOW_BYTES);
    part->hasher = cllm_hasher_new();
    if (part->window == NULL || part->hasher == NULL)
        return cllm_err(-ENOMEM, "cannot get memory to write tensors");
    cllm_hasher_begin(part->hasher, 0);
    return 0;
}

int cllm_tensor_file_create(struct cllm_tensor_file *file, const char *temp,
                            const char *name, struct cllm_safetensors_plan *plan,
                            uint32_t n_parts)
{
    int rc;

    CLLM_ASSERT(n_parts <= CLLM_TENSOR_FILE_PARTS && plan->n_tensors % n_parts == 0);
    *file = (struct cllm_tensor_file){.is_open = true,
                                      .name = name,
                                      .fd = -1,
                                      .direct = {.direct_fd = -1},
                                      .plan = *plan,
                                      .n_parts = n_parts};
    *plan = (struct cllm_safetensors_plan){0};
    rc = cllm_file_join(file->path, temp, name);
    for (uint32_t i = 0; rc == 0 && i < n_parts; i++) {
        uint32_t first = i * (file->plan.n_tensors / n_parts);
        uint32_t next = (i + 1) * (file->plan.n_tensors / n_parts);

        rc = begin_part(&file->part[i], file->plan.data_off[first],
                        next < file->plan.n_tensors ? file->plan.data_off[next]
                                                    : file->plan.file_bytes);
    }
    if (rc == 0) {
        file->fd = cllm_checkpoint_create(temp, name, &file->plan);
        rc = file->fd < 0 ? file->fd : 0;
    }
    if (rc == 0)
        cllm_direct_begin(&file->direct, file->fd, file->path);
    else
        (void)cllm_tensor_file_close(file);
    return rc;
}

int cllm_tensor_file_close(struct cllm_tensor_file *file)
{
    int rc = 0, failed;

    if (!file->is_open)
        return 0;
    cllm_direct_end(&file->direct);
    if (file->fd >= 0) {
        failed = cllm_fault_error(CLLM_FAULT_save_close);
        if (close(file->fd) != 0)
            failed = -errno;
        if (failed != 0)
            rc = cllm_err(failed, "cannot close %s", file->path);
    }
    for (uint32_t i = 0; i < file->n_parts; i++) {
        free(file->part[i].window);
        cllm_hasher_free(&file->part[i].hasher);
    }
    cllm_safetensors_plan_fini(&file->plan);
    file->is_open = false;
    return rc;
}

/* ---- write ---- */

int cllm_tensor_file_put(struct cllm_tensor_file *file, uint32_t index, const void *data,
                         size_t bytes, uint64_t off)
{
    struct cllm_tensor_part *part = &file->part[index];
    const uint8_t *from = data;
    int rc = 0;

    CLLM_ASSERT(off == part->at && bytes <= part->end - part->at);
    while (rc == 0 && bytes > 0) {
        size_t filled = part->at % WINDOW_BYTES;
        size_t n = cllm_min_u64(cllm_min_u64(bytes, PIECE_BYTES), WINDOW_BYTES - filled);

        cllm_hasher_add(part->hasher, from, n);
        memcpy(part->window + filled, from, n);
        from += n;
        bytes -= n;
        part->at += n;
        if (filled + n == WINDOW_BYTES || part->at == part->end) {
            uint64_t window = part->at - n - filled;
            uint64_t begin = cllm_max_u64(window, part->begin);

            rc = cllm_direct_pwrite(&file->direct, part->window + (begin - window),
                                    part->at - begin, begin);
        }
    }
    return rc;
}

int cllm_tensor_file_sync(struct cllm_tensor_file *file)
{
    int rc = cllm_fault_error(CLLM_FAULT_save_fsync);

    for (uint32_t i = 0; i < file->n_parts; i++)
        CLLM_ASSERT(file->part[i].at == file->part[i].end);
    if (rc == 0 && fsync(file->fd) != 0)
        rc = -errno;
    if (rc != 0)
        return cllm_err(rc, "cannot make %s durable", file->path);
    /* What went through the page cache comes from the disk, too; advice. */
    (void)posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
    return 0;
}

/* ---- read back ---- */

struct reading {
    const struct cllm_tensor_file *file;
    struct cllm_hasher *hasher;
    uint32_t part; /* that is being read; the header before all */
};

static int lost(const struct cllm_tensor_file *file, uint64_t begin, uint64_t end)
{
    int rc = cllm_err(-EIO, "%s was written and reads back differently", file->path);

    cllm_err_detail("between byte %" PRIu64 " and %" PRIu64, begin, end);
    cllm_err_hint("the disk or its controller loses data");
    return rc;
}

/* @bytes of the file at @off, inside the header or parts that begin or end there. */
static int compare(struct reading *reading, const uint8_t *data, size_t bytes,
                   uint64_t off)
{
    const struct cllm_tensor_file *file = reading->file;
    uint64_t header = file->plan.header_bytes;

    if (off < header) {
        size_t n = cllm_min_u64(bytes, header - off);

        if (memcmp(data, file->plan.header + off, n) != 0)
            return lost(file, 0, header);
        data += n, off += n, bytes -= n;
    }
    while (bytes > 0) {
        const struct cllm_tensor_part *part = &file->part[reading->part];
        size_t n = cllm_min_u64(bytes, part->end - off);

        if (off == part->begin)
            cllm_hasher_begin(reading->hasher, 0);
        cllm_hasher_add(reading->hasher, data, n);
        data += n, off += n, bytes -= n;
        if (off < part->end)
            break;
        if (cllm_hasher_end(reading->hasher) != cllm_hasher_end(part->hasher))
            return lost(file, part->begin, part->end);
        reading->part++;
    }
    return 0;
}

int cllm_tensor_file_read_back(struct cllm_tensor_file *file,
                               struct cllm_checkpoint_digest *digest)
{
    struct reading reading = {.file = file, .hasher = cllm_hasher_new()};
    struct cllm_hasher *whole = cllm_hasher_new();
    uint8_t *window = file->part[0].window;
    int rc = 0;

    if (reading.hasher == NULL || whole == NULL)
        rc = cllm_err(-ENOMEM, "cannot get memory to read %s back", file->path);
    else
        cllm_hasher_begin128(whole);
    for (uint64_t off = 0; rc == 0 && off < file->plan.file_bytes; off += WINDOW_BYTES) {
        size_t n = cllm_min_u64(WINDOW_BYTES, file->plan.file_bytes - off);

        rc = cllm_direct_pread(&file->direct, window, n, off);
        for (size_t at = 0; rc == 0 && at < n; at += PIECE_BYTES) {
            size_t piece = cllm_min_u64(PIECE_BYTES, n - at);

            rc = compare(&reading, window + at, piece, off + at);
            cllm_hasher_add128(whole, window + at, piece);
        }
        cllm_pulse();
    }
    if (rc == 0) {
        cllm_hasher_end128(whole, digest->hash);
        digest->name = file->name;
        digest->bytes = file->plan.file_bytes;
    }
    cllm_hasher_free(&whole);
    cllm_hasher_free(&reading.hasher);
    return rc;
}
