/*
 * tests/bench_loader.c - random windows of a cold shard: the loader's ways to read
 * against mmap, pread and fio.
 *
 *   bench_loader make FILE MIB                  a shard of pseudo-random 2-byte tokens
 *   bench_loader run FILE [WINDOWS [RUNS]]      the table, medians of RUNS
 *
 * Before each run the file's pages are dropped from the page cache. All ways read the
 * same kind of windows (1025 tokens, 2050 bytes, in the order of the sampler) and hash
 * each one. Runs of all ways are interleaved, so that a noisy minute hits all of them.
 * fio reads as many blocks of the loader's size, through io_uring with registered files
 * and buffers and the same number in flight, and looks at none of them: what the disk
 * gives.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "formats/shard.h"
#include "loader/reader.h"
#include "loader/sampler.h"

#define CONTEXT      1024
#define DEPTH        32
#define RUNS_MAX     31
#define LIMIT_NS     (15 * CLLM_NS_PER_S) /* of one run */
#define WINDOW_BYTES ((CONTEXT + 1) * 2)

enum kind { MMAP, PREAD, OURS, FIO };

static const struct way {
    const char *name;
    enum kind kind;
    int advice; /* MMAP: madvise */
    const struct cllm_reader_method *method;
    enum cllm_reader_direct direct;
    bool plain;
} ways[] = {
    {"mmap", MMAP, MADV_NORMAL, NULL, 0, false},
    {"mmap, MADV_RANDOM", MMAP, MADV_RANDOM, NULL, 0, false},
    {"pread, FADV_RANDOM", PREAD, 0, NULL, 0, false},
    {"loader: pread, look-ahead", OURS, 0, &cllm_reader_pread, CLLM_READER_DIRECT_NO,
     false},
    {"loader: io_uring", OURS, 0, &cllm_reader_uring, CLLM_READER_DIRECT_NO, true},
    {"loader: io_uring, registered", OURS, 0, &cllm_reader_uring, CLLM_READER_DIRECT_NO,
     false},
    {"loader: io_uring, O_DIRECT", OURS, 0, &cllm_reader_uring, CLLM_READER_DIRECT_YES,
     true},
    {"loader: io_uring, O_DIRECT, registered", OURS, 0, &cllm_reader_uring,
     CLLM_READER_DIRECT_YES, false},
    {"fio: io_uring, registered", FIO, 0, NULL, CLLM_READER_DIRECT_NO, false},
    {"fio: io_uring, O_DIRECT, registered", FIO, 0, NULL, CLLM_READER_DIRECT_YES, false},
};

/* What is compared: positions in ways[]. */
static const struct {
    const char *name;
    size_t ours, fio;
} pairs[] = {{"buffered", 5, 8}, {"O_DIRECT", 7, 9}};

struct result {
    double windows_per_s;
    double cpu_us;     /* user and system time of a window */
    double device_kib; /* read from the device for a window */
};

static struct {
    struct cllm_shard shard;
    uint64_t n_windows;    /* in the shard */
    uint64_t wanted;       /* in a run */
    uint64_t next;         /* sequence number: no window comes twice */
    uint64_t sum;          /* keeps the compiler from dropping the work */
    uint32_t direct_bytes; /* of a direct read of the loader */
    bool has_fio;
} bench;

static uint64_t next_offset(void)
{
    uint64_t window = cllm_sampler_window(1, bench.n_windows, bench.next++);

    return bench.shard.data_off + window * CONTEXT * 2;
}

static int run_mmap(const struct way *way, uint64_t deadline, uint64_t *done)
{
    const uint8_t *base =
        mmap(NULL, bench.shard.file_bytes, PROT_READ, MAP_PRIVATE, bench.shard.fd, 0);

    if (base == MAP_FAILED)
        return cllm_err(-errno, "cannot map %s", bench.shard.path);
    (void)posix_fadvise(bench.shard.fd, 0, 0, POSIX_FADV_NORMAL);
    if (madvise((void *)(uintptr_t)base, bench.shard.file_bytes, way->advice) != 0)
        return cllm_err(-errno, "madvise");
    for (; *done < bench.wanted && cllm_now_ns() < deadline; ++*done)
        bench.sum += cllm_hash(base + next_offset(), WINDOW_BYTES, 0);
    return munmap((void *)(uintptr_t)base, bench.shard.file_bytes);
}

static int run_pread(uint64_t deadline, uint64_t *done)
{
    uint8_t window[WINDOW_BYTES];

    (void)posix_fadvise(bench.shard.fd, 0, 0, POSIX_FADV_RANDOM);
    for (; *done < bench.wanted && cllm_now_ns() < deadline; ++*done) {
        if (pread(bench.shard.fd, window, sizeof window, (off_t)next_offset()) !=
            (ssize_t)sizeof window)
            return cllm_err(-EIO, "cannot read %s", bench.shard.path);
        bench.sum += cllm_hash(window, sizeof window, 0);
    }
    return 0;
}

static int run_ours(struct cllm_reader *reader, uint64_t deadline, uint64_t *done)
{
    struct cllm_read *ended[CLLM_READER_DEPTH_MAX];
    uint64_t submitted = 0;
    uint32_t n_ended;

    while (*done < bench.wanted && cllm_now_ns() < deadline) {
        int rc;

        while (cllm_reader_room(reader) > 0 && submitted < bench.wanted) {
            cllm_reader_submit(reader, 0, next_offset(), WINDOW_BYTES, 0, 0);
            submitted++;
        }
        rc = cllm_reader_wait(reader, ended, &n_ended);
        if (rc != 0)
            return rc;
        for (uint32_t i = 0; i < n_ended; i++) {
            if (reader->direct)
                bench.direct_bytes = ended[i]->io_bytes;
            bench.sum += cllm_hash(ended[i]->data, WINDOW_BYTES, 0);
            cllm_reader_release(reader, ended[i]);
        }
        *done += n_ended;
    }
    return 0;
}

/* Blocks a second, as fio says in the eighth field of its terse line. */
static int run_fio(const struct way *way, struct result *result)
{
    bool direct = way->direct == CLLM_READER_DIRECT_YES;
    char command[1024], line[4096], *field = line, *end;
    FILE *fio;

    (void)snprintf(command, sizeof command,
                   "fio --name=windows --filename='%s' --readonly --rw=randread "
                   "--norandommap --randrepeat=0 --bs=%u --blockalign=%u --direct=%d "
                   "--ioengine=io_uring --iodepth=%d --fixedbufs=1 --registerfiles=1 "
                   "--number_ios=%" PRIu64 " --runtime=%" PRIu64
                   " --output-format=terse --terse-version=3",
                   bench.shard.path, direct ? bench.direct_bytes : WINDOW_BYTES,
                   direct ? 512 : CONTEXT * 2, direct, DEPTH, bench.wanted,
                   LIMIT_NS / CLLM_NS_PER_S);
    fio = popen(command, "re");
    if (!fio)
        return cllm_err(-errno, "cannot run fio");
    line[0] = '\0';
    while (fgets(line, sizeof line, fio) && strncmp(line, "3;", 2) != 0)
        continue;
    if (pclose(fio) != 0)
        return cllm_err(-EIO, "fio failed: %s", command);
    for (int i = 1; i < 8 && field; i++) {
        field = strchr(field, ';');
        field = field ? field + 1 : NULL;
    }
    if (!field)
        return cllm_err(-EIO, "fio said something else than expected: %.80s", line);
    *result = (struct result){.windows_per_s = strtod(field, &end)};
    return end == field || result->windows_per_s <= 0
               ? cllm_err(-EIO, "fio gave no number: %.80s", field)
               : 0;
}

/* ---- measuring ---- */

static double cpu_seconds(void)
{
    struct rusage use;

    (void)getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
}

/* Bytes that this process caused to be read from devices; 0 when not known. */
static uint64_t device_bytes(void)
{
    FILE *file = fopen("/proc/self/io", "re");
    char line[128];
    uint64_t bytes = 0;

    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "read_bytes: ", 12) == 0)
            bytes = strtoull(line + 12, NULL, 10);
    }
    (void)fclose(file);
    return bytes;
}

static int measure(const struct way *way, struct result *result)
{
    struct cllm_reader_file file = {
        .path = bench.shard.path, .fd = bench.shard.fd, .bytes = bench.shard.file_bytes};
    struct cllm_reader_plan plan = {
        .method = {way->method, NULL},
        .file = &file,
        .n_files = 1,
        .max_bytes = WINDOW_BYTES,
        .depth = DEPTH,
        .direct = way->direct,
        .plain = way->plain,
    };
    struct cllm_reader reader = {.method = NULL};
    uint64_t began, device, done = 0;
    double cpu, wall;
    int rc = 0;

    if (way->kind == FIO)
        return run_fio(way, result);
    if (way->kind == OURS)
        rc = cllm_reader_open(&reader, &plan);
    if (rc != 0)
        return rc;
    if (posix_fadvise(bench.shard.fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        return cllm_err(-EINVAL, "cannot drop %s from the page cache", bench.shard.path);
    device = device_bytes();
    cpu = cpu_seconds();
    began = cllm_now_ns();
    if (way->kind == MMAP)
        rc = run_mmap(way, began + LIMIT_NS, &done);
    else if (way->kind == PREAD)
        rc = run_pread(began + LIMIT_NS, &done);
    else
        rc = run_ours(&reader, began + LIMIT_NS, &done);
    wall = (double)(cllm_now_ns() - began) * 1e-9;
    cpu = cpu_seconds() - cpu;
    device = device_bytes() - device;
    cllm_reader_close(&reader);
    if (rc == 0)
        *result = (struct result){.windows_per_s = (double)done / wall,
                                  .cpu_us = cpu * 1e6 / (double)done,
                                  .device_kib = (double)device / 1024 / (double)done};
    return rc;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Median of one field of @n results. */
static double median(const struct result *result, size_t field, uint32_t n)
{
    double value[RUNS_MAX] = {0};

    for (uint32_t i = 0; i < n; i++)
        memcpy(&value[i], (const uint8_t *)&result[i] + field, sizeof value[i]);
    qsort(value, n, sizeof value[0], compare);
    return value[n / 2];
}

static void print_table(struct result result[][RUNS_MAX], uint32_t runs)
{
    (void)printf("%-40s %12s %14s %16s\n", "", "windows/s", "CPU us/window",
                 "device KiB/window");
    for (size_t i = 0; i < CLLM_LEN(ways); i++) {
        double per_s = median(result[i], offsetof(struct result, windows_per_s), runs);

        if (ways[i].kind == FIO && !bench.has_fio)
            continue;
        (void)printf("%-40s %12.0f", ways[i].name, per_s);
        if (ways[i].kind == FIO)
            (void)printf("   blocks of %u bytes\n",
                         ways[i].direct == CLLM_READER_DIRECT_YES ? bench.direct_bytes
                                                                  : WINDOW_BYTES);
        else
            (void)printf(" %14.1f %16.1f\n",
                         median(result[i], offsetof(struct result, cpu_us), runs),
                         median(result[i], offsetof(struct result, device_kib), runs));
    }
}

/* Of each run on its own, then the median: a noisy minute hits both. */
static void print_ratios(struct result result[][RUNS_MAX], uint32_t runs)
{
    if (!bench.has_fio) {
        (void)printf("\nfio is not installed: scripts/install-deps.sh --bench\n");
        return;
    }
    (void)printf("\n");
    for (size_t p = 0; p < CLLM_LEN(pairs); p++) {
        struct result ratio[RUNS_MAX] = {0};
        double least = 1e9, most = 0;

        for (uint32_t i = 0; i < runs; i++) {
            double r = result[pairs[p].ours][i].windows_per_s /
                       result[pairs[p].fio][i].windows_per_s;

            ratio[i].windows_per_s = r;
            least = r < least ? r : least;
            most = r > most ? r : most;
        }
        (void)printf("loader / fio, %s: %.2f (%.2f to %.2f)\n", pairs[p].name,
                     median(ratio, offsetof(struct result, windows_per_s), runs), least,
                     most);
    }
}

static int run_all(const char *path, uint64_t windows, uint32_t runs)
{
    static struct result result[CLLM_LEN(ways)][RUNS_MAX];
    int rc = cllm_shard_open(&bench.shard, path);

    if (rc != 0)
        return rc;
    bench.wanted = windows;
    bench.n_windows = (bench.shard.n_tokens - 1) / CONTEXT;
    bench.has_fio = system("fio --version >/dev/null 2>&1") == 0;
    (void)fsync(bench.shard.fd); /* dirty pages are not dropped */
    for (uint32_t run = 0; run < runs; run++) {
        for (size_t i = 0; i < CLLM_LEN(ways); i++) {
            if (ways[i].kind == FIO && !bench.has_fio)
                continue;
            cllm_log_status("run %u of %u: %s", run + 1, runs, ways[i].name);
            rc = measure(&ways[i], &result[i][run]);
            if (rc != 0)
                return rc;
        }
    }
    cllm_log_status("%s", "");
    (void)printf("%s: %" PRIu64 " MiB, %" PRIu64 " random windows of %d bytes a run, "
                 "page cache dropped,\n%d in flight (loader), medians of %u\n\n",
                 path, bench.shard.file_bytes >> 20, windows, WINDOW_BYTES, DEPTH, runs);
    print_table(result, runs);
    print_ratios(result, runs);
    cllm_shard_close(&bench.shard);
    return 0;
}

/* ---- the shard ---- */

static int make_shard(const char *path, uint64_t mib)
{
    enum { PIECE = 1 << 16 };
    static uint32_t tokens[PIECE];
    uint64_t left = cllm_min_u64(mib << 19, CLLM_SHARD_TOKENS_MAX);
    uint64_t x = 88172645463325252u; /* xorshift64 */
    struct cllm_shard_writer writer;
    int rc = cllm_shard_writer_begin(&writer, path, 2);

    if (rc != 0)
        return rc;
    while (left > 0 && rc == 0) {
        uint64_t n = cllm_min_u64(left, PIECE);

        for (uint64_t i = 0; i < n; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            tokens[i] = (uint16_t)x;
        }
        rc = cllm_shard_writer_put(&writer, tokens, n);
        left -= n;
    }
    if (rc == 0)
        return cllm_shard_writer_finish(&writer);
    cllm_shard_writer_abort(&writer);
    return rc;
}

int main(int argc, char **argv)
{
    int rc;

    cllm_log_init("bench", CLLM_LOG_WARN);
    if (argc == 4 && strcmp(argv[1], "make") == 0) {
        rc = make_shard(argv[2], strtoull(argv[3], NULL, 10));
    } else if (argc >= 3 && argc <= 5 && strcmp(argv[1], "run") == 0) {
        uint64_t windows = argc > 3 ? strtoull(argv[3], NULL, 10) : 40000;
        uint64_t runs = argc > 4 ? strtoull(argv[4], NULL, 10) : 5;

        rc = windows > 0 && runs > 0 && runs <= RUNS_MAX
                 ? run_all(argv[2], windows, (uint32_t)runs)
                 : cllm_err(CLLM_ECONFIG, "WINDOWS or RUNS is out of range");
    } else {
        rc = cllm_err(CLLM_ECONFIG, "usage: bench_loader make FILE MIB | run FILE "
                                    "[WINDOWS [RUNS]]");
    }
    if (rc != 0)
        cllm_err_print("bench_loader");
    return cllm_exit_code(rc);
}
