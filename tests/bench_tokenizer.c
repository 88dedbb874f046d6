/*
 * tests/bench_tokenizer.c - how fast text becomes tokens, and a corpus a vocabulary.
 *
 *   bench_tokenizer encode TOKENIZER FILE [IDS]
 *   bench_tokenizer train VOCAB FILE [DIR [THREADS [PATTERN]]]
 *
 * IDS is a file for the ids as 32-bit numbers, to compare.
 *
 * Encoding is done on one core, the text as one document: first with an empty cache, then
 * twice more.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "formats/bpe_train.h"
#include "formats/encoder.h"
#include "formats/file.h"

#define THREADS_MAX 64
#define CAP_BYTES   ((size_t)2 << 30)

static int fail(void)
{
    cllm_err_print("bench_tokenizer");
    return 1;
}

static double seconds_since(uint64_t begun_ns)
{
    return (double)(cllm_now_ns() - begun_ns) / 1e9;
}

static int write_ids(const char *path, const uint32_t *ids, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int rc = fd < 0 ? cllm_err(-errno, "cannot create %s", path)
                    : cllm_file_write_all(fd, ids, n * sizeof *ids, path);

    if (fd >= 0)
        (void)close(fd);
    return rc;
}

static int run_encode(const char *name, const char *path, const char *ids_path,
                      unsigned flags)
{
    struct cllm_tokenizer *tokenizer = NULL;
    struct cllm_encoder *encoder = NULL;
    uint32_t *ids = NULL;
    char *text = NULL;
    size_t bytes = 0, n = 0;
    uint64_t begun_ns = cllm_now_ns();
    int rc = cllm_tokenizer_load(&tokenizer, name);

    (void)printf("load     %8.3f s\n", seconds_since(begun_ns));
    if (rc == 0)
        rc = cllm_file_read(path, CAP_BYTES, &text, &bytes);
    if (rc == 0)
        rc = cllm_encoder_new(&encoder, tokenizer);
    ids = rc == 0 ? malloc((bytes + 1) * sizeof *ids) : NULL;
    if (rc == 0 && ids == NULL)
        rc = cllm_err(-ENOMEM, "cannot encode %s", path);
    for (int round = 0; rc == 0 && round < 3; round++) {
        begun_ns = cllm_now_ns();
        rc = cllm_encoder_encode(encoder, text, bytes, flags, ids, &n);
        double seconds = seconds_since(begun_ns);

        if (rc < 0)
            rc = cllm_err(rc, "cannot encode %s", path);
        else
            (void)printf("encode   %8.3f s  %8.1f MB/s  %zu bytes, %zu tokens\n", seconds,
                         (double)bytes / 1e6 / seconds, bytes, n);
    }
    if (rc == 0 && ids_path != NULL)
        rc = write_ids(ids_path, ids, n);
    free(ids);
    free(text);
    cllm_encoder_free(&encoder);
    cllm_tokenizer_free(&tokenizer);
    return rc < 0 ? fail() : 0;
}

struct part {
    struct cllm_bpe_counts *counts;
    const char *text;
    size_t bytes;
    int rc;
};

static void *count_part(void *argument)
{
    struct part *part = argument;

    part->rc = cllm_bpe_counts_add(part->counts, part->text, part->bytes);
    return NULL;
}

/* Count @text in @n_threads parts, into one. */
static int count_all(struct cllm_bpe_counts **out, const char *text, size_t bytes,
                     unsigned n_threads, const char *pattern)
{
    struct part part[THREADS_MAX] = {0};
    pthread_t thread[THREADS_MAX];
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < n_threads; i++)
        rc = cllm_bpe_counts_new(&part[i].counts, pattern, CLLM_BPE_COUNTS_CAP);
    for (unsigned i = 0; rc == 0 && i < n_threads; i++) {
        size_t n = bytes / (n_threads - i);

        if (i + 1 < n_threads)
            n = cllm_bpe_counts_cut(part[i].counts, text, n);
        part[i].text = text;
        part[i].bytes = n;
        text += n;
        bytes -= n;
    }
    unsigned begun = 0;
    for (; rc == 0 && begun < n_threads; begun++) {
        if (pthread_create(&thread[begun], NULL, count_part, &part[begun]) != 0) {
            rc = cllm_err(-EAGAIN, "cannot start a thread");
            break;
        }
    }
    for (unsigned i = 0; i < begun; i++)
        (void)pthread_join(thread[i], NULL);
    for (unsigned i = 0; rc == 0 && i < n_threads; i++) {
        rc = part[i].rc;
        if (rc == 0 && i > 0)
            rc = cllm_bpe_counts_merge(part[0].counts, part[i].counts);
        if (rc < 0)
            rc = cllm_err(rc, "cannot count pieces");
    }
    for (unsigned i = 1; i < n_threads; i++)
        cllm_bpe_counts_free(&part[i].counts);
    *out = part[0].counts;
    return rc;
}

static int run_train(uint32_t vocab, const char *path, const char *dir,
                     unsigned n_threads, const char *pattern)
{
    struct cllm_bpe_counts *counts = NULL;
    struct cllm_tokenizer *tokenizer = NULL;
    char *text = NULL;
    size_t bytes = 0;
    int rc = cllm_file_read(path, CAP_BYTES, &text, &bytes);

    uint64_t begun_ns = cllm_now_ns();
    if (rc == 0)
        rc = count_all(&counts, text, bytes, n_threads, pattern);
    free(text);
    if (rc == 0) {
        (void)printf("count    %8.3f s  %zu bytes, %u different pieces, %u thread(s)\n",
                     seconds_since(begun_ns), bytes, cllm_bpe_counts_size(counts),
                     n_threads);
        begun_ns = cllm_now_ns();
        rc = cllm_bpe_train(counts, vocab, NULL, NULL, &tokenizer);
    }
    if (rc == 0)
        (void)printf("train    %8.3f s  %u tokens, %s\n", seconds_since(begun_ns),
                     cllm_tokenizer_size(tokenizer), cllm_tokenizer_hash(tokenizer));
    if (rc == 0 && dir != NULL)
        rc = cllm_file_mkdirs(dir);
    if (rc == 0 && dir != NULL)
        rc = cllm_tokenizer_save(tokenizer, dir);
    cllm_tokenizer_free(&tokenizer);
    cllm_bpe_counts_free(&counts);
    return rc < 0 ? fail() : 0;
}

static int run_save(const char *name, const char *dir)
{
    struct cllm_tokenizer *tokenizer = NULL;
    int rc = cllm_tokenizer_load(&tokenizer, name);

    if (rc == 0)
        rc = cllm_file_mkdirs(dir);
    if (rc == 0)
        rc = cllm_tokenizer_save(tokenizer, dir);
    cllm_tokenizer_free(&tokenizer);
    return rc < 0 ? fail() : 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "save") == 0)
        return run_save(argv[2], argv[3]);
    bool special = argc > 1 && strcmp(argv[1], "encode-special") == 0;
    if (argc >= 4 && argc <= 5 && (special || strcmp(argv[1], "encode") == 0))
        return run_encode(argv[2], argv[3], argc > 4 ? argv[4] : NULL,
                          special ? CLLM_ENCODE_SPECIAL : CLLM_ENCODE_PLAIN);
    if (argc >= 4 && argc <= 7 && strcmp(argv[1], "train") == 0) {
        unsigned long n_threads = argc > 5 ? strtoul(argv[5], NULL, 10) : 1;

        if (n_threads >= 1 && n_threads <= THREADS_MAX)
            return run_train((uint32_t)strtoul(argv[2], NULL, 10), argv[3],
                             argc > 4 ? argv[4] : NULL, (unsigned)n_threads,
                             argc > 6 ? argv[6] : "gpt2");
    }
    (void)fprintf(stderr, "usage: bench_tokenizer encode|encode-special TOKENIZER FILE "
                          "[IDS]\n"
                          "       bench_tokenizer train VOCAB FILE [DIR [THREADS "
                          "[PATTERN]]]\n"
                          "       bench_tokenizer save TOKENIZER DIR\n");
    return 2;
}
