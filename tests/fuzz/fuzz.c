/*
 * tests/fuzz/fuzz.c - see tests/fuzz/fuzz.h.
 */
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

uint64_t fuzz_n_accepted;

static ssize_t swallow(void *cookie, const char *text, size_t bytes)
{
    (void)cookie, (void)text;
    return (ssize_t)bytes;
}

FILE *fuzz_sink(void)
{
    static FILE *sink;

    if (!sink)
        sink = fopencookie(NULL, "w", (cookie_io_functions_t){.write = swallow});
    CLLM_ASSERT(sink);
    return sink;
}

const char *fuzz_file(uint32_t which, const void *data, size_t bytes, uint64_t file_bytes)
{
    static struct {
        int fd;
        char path[32];
    } file[FUZZ_FILES];

    CLLM_ASSERT(which < FUZZ_FILES);
    if (file[which].path[0] == '\0') {
        file[which].fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        CLLM_ASSERT(file[which].fd >= 0);
        (void)snprintf(file[which].path, sizeof file[which].path, "/proc/self/fd/%d",
                       file[which].fd);
    }
    /* A hole reads as zeros; what the last input left goes first. */
    CLLM_ASSERT(ftruncate(file[which].fd, 0) == 0);
    CLLM_ASSERT(pwrite(file[which].fd, data, bytes, 0) == (ssize_t)bytes);
    CLLM_ASSERT(ftruncate(file[which].fd, (off_t)file_bytes) == 0);
    return file[which].path;
}

uint8_t fuzz_u8(struct fuzz_reader *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

uint16_t fuzz_u16(struct fuzz_reader *in)
{
    uint8_t low = fuzz_u8(in);

    return (uint16_t)(low | fuzz_u8(in) << 8);
}

size_t fuzz_patch(struct fuzz_reader *in, void *image, size_t bytes, size_t *off)
{
    size_t at = fuzz_u16(in) % bytes;
    size_t n = fuzz_u8(in);

    n = cllm_min_u64(n, (uint64_t)(in->end - in->at));
    n = cllm_min_u64(n, bytes - at);
    memcpy((uint8_t *)image + at, in->at, n);
    in->at += n;
    if (off)
        *off = at;
    return n;
}

void fuzz_sound_crash(struct cllm_crash_record *out)
{
    static const struct cllm_crash_record sound = {
        .role = CLLM_ROLE_WORKER,
        .generation = 2,
        .pid = 4000,
        .signo = SIGSEGV,
        .code = SEGV_ACCERR,
        .address = 0x7f0000001f40,
        .ip = 0x401231,
        .access = CLLM_ACCESS_WRITE,
        .region = "params0",
        .region_off = 0x1f40,
        .work = CLLM_WORK_UPDATE,
        .lane = CLLM_NONE,
        .step = 7,
        .seq = 5,
        .n_frames = 3,
        .n_modules = 2,
        .frame = {0x401231, 0x401500, 0x7f1000002000},
        .module = {{0x400000, 0x401000, 0x402000, "cllm-worker"},
                   {0x7f1000000000, 0x7f1000001000, 0x7f1000009000, "libc.so.6"}},
    };

    *out = sound;
}
