/*
 * tools/prep_vocab.c - count in several threads, add up, train; what else a tokenizer
 * decides.
 */
#include "tools/prep_vocab.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "formats/encoder.h"
#include "tools/prep_options.h"
#include "tools/prep_pipe.h"
#include "tools/prep_report.h"
#include "tools/prep_stream.h"

struct counter {
    struct cllm_bpe_counts *counts;
    struct cllm_prep_bytes scratch;
    struct cllm_prep_tally tally;
};

struct vocabulary {
    const struct cllm_prep_rules *rules;
    const volatile sig_atomic_t *stop;
    uint64_t every; /* k-th piece */
    uint32_t wanted;
    struct counter *counter; /* [n] one for each thread */
    uint32_t n;
    struct cllm_prep_progress progress;
};

static int explain(int rc)
{
    if (rc == -E2BIG)
        rc = cllm_err(CLLM_EDATA, "the text has too many different words to count");
    else
        rc = cllm_err(rc, "cannot count the words");
    cllm_err_hint("train the vocabulary on a part of the text, and give it with "
                  "--tokenizer");
    return rc;
}

/* A cllm_prep_text_fn. */
static int count_text(void *context, const struct cllm_prep_part *part, bool begins,
                      const uint8_t *text, size_t n)
{
    int rc = cllm_bpe_counts_add(context, text, n);

    (void)part;
    (void)begins;
    return rc < 0 ? explain(rc) : 0;
}

/* A cllm_prep_work_fn. */
static int count_piece(void *context, uint32_t thread, struct cllm_prep_job *job)
{
    const struct vocabulary *vocabulary = context;
    struct counter *counter = &vocabulary->counter[thread];

    if (job->number % vocabulary->every != 0)
        return 0;
    return cllm_prep_piece_texts(vocabulary->rules, &job->piece, &counter->scratch,
                                 &counter->tally, count_text, counter->counts);
}

/* A cllm_prep_take_fn. */
static int note_piece(void *context, const struct cllm_prep_job *job)
{
    struct vocabulary *vocabulary = context;

    cllm_prep_progress_show(&vocabulary->progress, job->piece.done);
    return *vocabulary->stop ? cllm_err(-EINTR, "stopped") : 0;
}

/* A cllm_prep_cut_fn. */
static size_t cut(const void *counts, const void *text, size_t bytes)
{
    return cllm_bpe_counts_cut(counts, text, bytes);
}

static int count(struct vocabulary *vocabulary, const char *document_line)
{
    const struct cllm_prep_place beginning = {0};
    const struct cllm_prep_input *input = vocabulary->rules->input;
    struct cllm_prep_reader reader;
    struct cllm_prep_pipe pipe = {.reader = &reader,
                                  .n_threads = vocabulary->n,
                                  .work = count_piece,
                                  .take = note_piece,
                                  .context = vocabulary};

    cllm_prep_reader_init(&reader, input, document_line, cut,
                          vocabulary->counter[0].counts, &beginning);
    cllm_prep_progress_begin(&vocabulary->progress, "counting words", 0, input->bytes);
    int rc = cllm_prep_pipe_run(&pipe);
    if (rc == 0)
        cllm_prep_progress_end(&vocabulary->progress);
    cllm_prep_reader_fini(&reader);
    return rc;
}

/* A cllm_bpe_progress_fn. */
static int note_tokens(void *context, uint32_t n_tokens)
{
    struct vocabulary *vocabulary = context;

    cllm_prep_progress_show(&vocabulary->progress, n_tokens);
    return *vocabulary->stop;
}

static int train(struct vocabulary *vocabulary, struct cllm_tokenizer **out)
{
    struct cllm_bpe_counts *all = vocabulary->counter[0].counts;
    int rc = 0;

    for (uint32_t i = 1; rc == 0 && i < vocabulary->n; i++)
        rc = cllm_bpe_counts_merge(all, vocabulary->counter[i].counts);
    if (rc < 0)
        return explain(rc);
    cllm_prep_progress_begin(&vocabulary->progress, "training the vocabulary", 0, 0);
    rc = cllm_bpe_train(all, vocabulary->wanted, note_tokens, vocabulary, out);
    if (rc == -EINTR)
        return cllm_err(rc, "stopped");
    if (rc == -ENOMEM)
        return cllm_err(rc, "cannot train the vocabulary");
    if (rc == 0 && cllm_tokenizer_size(*out) < vocabulary->wanted)
        cllm_warn("the text yields %u tokens only, not %u", cllm_tokenizer_size(*out),
                  vocabulary->wanted);
    return rc;
}

int cllm_prep_vocab(const struct cllm_prep_rules *rules, const char *document_line,
                    const char *pattern, uint32_t vocab, uint32_t n_threads,
                    const volatile sig_atomic_t *stop, struct cllm_tokenizer **out)
{
    struct vocabulary vocabulary = {
        .rules = rules, .stop = stop, .wanted = vocab, .n = n_threads};
    int rc = 0;

    vocabulary.every =
        cllm_max_u64(cllm_div_up(rules->input->bytes, CLLM_PREP_SAMPLE_BYTES), 1);
    if (vocabulary.every > 1)
        cllm_info("of so much text, one part in %llu is counted for the vocabulary",
                  (unsigned long long)vocabulary.every);
    vocabulary.counter = calloc(n_threads, sizeof *vocabulary.counter);
    if (vocabulary.counter == NULL)
        return cllm_err(-ENOMEM, "cannot count the words");
    for (uint32_t i = 0; rc == 0 && i < n_threads; i++) {
        rc = cllm_bpe_counts_new(&vocabulary.counter[i].counts, pattern,
                                 CLLM_BPE_COUNTS_CAP);
        if (rc == -ENOMEM)
            rc = cllm_err(rc, "cannot count the words");
    }
    if (rc == 0)
        rc = count(&vocabulary, document_line);
    if (rc == 0)
        rc = train(&vocabulary, out);
    for (uint32_t i = 0; i < n_threads; i++) {
        cllm_bpe_counts_free(&vocabulary.counter[i].counts);
        free(vocabulary.counter[i].scratch.at);
    }
    free(vocabulary.counter);
    return rc;
}

int cllm_prep_check_special(const struct cllm_tokenizer *tokenizer)
{
    uint32_t n = cllm_tokenizer_size(tokenizer);

    for (uint32_t id = 0; id < n; id++) {
        size_t bytes = 0;
        const uint8_t *token = cllm_tokenizer_token(tokenizer, id, &bytes);
        if (cllm_tokenizer_type(tokenizer, id) == CLLM_TOKEN_NORMAL)
            continue;
        for (size_t i = 0; i < bytes; i++) {
            if (token[i] <= ' ')
                return cllm_err(CLLM_ECONFIG,
                                "--allow-special: token %u holds white space, which is "
                                "not supported",
                                id);
        }
    }
    return 0;
}

int cllm_prep_check_outside(const char *path, const char *dir)
{
    char tokenizer[PATH_MAX], out[PATH_MAX];

    if (realpath(path, tokenizer) == NULL || realpath(dir, out) == NULL)
        return 0; /* "bytes", or nothing that is there */
    size_t n = strlen(out);
    if (strncmp(tokenizer, out, n) != 0 || (tokenizer[n] != '/' && tokenizer[n] != '\0'))
        return 0;
    return cllm_err(CLLM_ECONFIG, "the tokenizer %s lies in the output directory", path);
}

int cllm_prep_separator(const struct cllm_tokenizer *tokenizer, const char *given,
                        const uint8_t *separator, size_t n, uint32_t *out, size_t *n_out)
{
    uint32_t eot = cllm_tokenizer_eot(tokenizer);
    struct cllm_encoder *encoder = NULL;

    _Static_assert(CLLM_PREP_SEPARATOR_MAX >= CLLM_PREP_SEPARATOR_BYTES, "they fit");
    *n_out = 0;
    if (given == NULL && eot != CLLM_TOKEN_NONE) {
        out[0] = eot;
        *n_out = 1;
        return 0;
    }
    if (given != NULL && n == 0)
        return 0;
    int rc = cllm_encoder_new(&encoder, tokenizer);
    if (rc < 0)
        return rc;
    rc =
        given == NULL
            ? cllm_encoder_encode(encoder, "\n\n", 2, CLLM_ENCODE_PLAIN, out, n_out)
            : cllm_encoder_encode(encoder, separator, n, CLLM_ENCODE_SPECIAL, out, n_out);
    cllm_encoder_free(&encoder);
    return rc < 0 ? cllm_err(rc, "cannot encode the separator") : 0;
}
