/*
 * tools/prep.c - cllm-prep: text into token shards for training.
 *
 * List the input, load or train the tokenizer, encode all text into one stream of tokens
 * (DIR/.partial), cut that into shards. The documents form one stream in the order given,
 * with a separator between neighbours; its last part becomes the validation split. Memory
 * is bounded. What is written depends on input and arguments alone: not on the number of
 * threads, nor on how often it was killed and started again.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "tools/prep_options.h"
#include "tools/prep_output.h"
#include "tools/prep_pipe.h"
#include "tools/prep_renumber.h"
#include "tools/prep_report.h"
#include "tools/prep_vocab.h"

#define SAFE_BYTES ((uint64_t)16 << 20) /* of text between two safe points */

/* Everything that a run of this program has. */
struct prep {
    struct cllm_prep_options options;
    struct cllm_prep_input input;
    struct cllm_prep_rules rules;
    struct cllm_tokenizer *tokenizer; /* heap */
    uint32_t separator[CLLM_PREP_SEPARATOR_MAX];
    size_t n_separator;
    uint32_t n_threads;
    uint32_t token_bytes;

    char partial[CLLM_FILE_PATH_BYTES];    /* DIR/.partial */
    char state_path[CLLM_FILE_PATH_BYTES]; /* DIR/.partial/state.json */
    int lock;                              /* that directory, open and locked; -1 */
    struct cllm_prep_state state;
    struct cllm_prep_stream stream;
    uint64_t safe_bytes;               /* of text at the last safe point */
    bool told_bad;                     /* the first bad line has been shown */
    struct cllm_prep_encoder *encoder; /* [n_threads]; heap */
    struct cllm_prep_progress progress;
    struct cllm_prep_split split;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static uint32_t count_processors(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 1)
        return 1;
    return (uint32_t)cllm_min_u64((uint64_t)CPU_COUNT(&set), CLLM_PREP_THREADS_MOST);
}

/* ---- encode ---- */

/* A cllm_prep_work_fn. */
static int encode_piece(void *context, uint32_t thread, struct cllm_prep_job *job)
{
    const struct prep *prep = context;

    return cllm_prep_encode(&prep->encoder[thread], &job->piece, &job->tokens);
}

/* What has been put so far outlives a crash. */
static int make_safe(struct prep *prep)
{
    int rc = cllm_prep_stream_sync(&prep->stream);

    prep->safe_bytes = prep->state.bytes;
    cllm_fault(CLLM_FAULT_prep_synced);
    if (rc == 0)
        rc = cllm_prep_state_save(&prep->state, prep->state_path);
    cllm_fault(CLLM_FAULT_prep_safe);
    return rc;
}

/* A cllm_prep_take_fn. */
static int take_piece(void *context, const struct cllm_prep_job *job)
{
    struct prep *prep = context;
    const struct cllm_prep_tally *tally = &job->tokens.tally;
    int rc = cllm_prep_stream_put(&prep->stream, &job->tokens);

    if (rc < 0)
        return rc;
    prep->state.place = job->piece.after;
    cllm_fault(CLLM_FAULT_prep_piece);
    if (tally->bad > 0 && !prep->told_bad) {
        cllm_warn("left out: %s", tally->first_bad);
        prep->told_bad = true;
    }
    if (interrupted || prep->state.bytes - prep->safe_bytes >= SAFE_BYTES)
        rc = make_safe(prep);
    cllm_prep_progress_show(&prep->progress, job->piece.done);
    return rc == 0 && interrupted ? cllm_err(-EINTR, "stopped") : rc;
}

static int run_encoders(struct prep *prep)
{
    struct cllm_prep_reader reader;
    struct cllm_prep_pipe pipe = {.reader = &reader,
                                  .n_threads = prep->n_threads,
                                  .work = encode_piece,
                                  .take = take_piece,
                                  .context = prep};
    unsigned flags =
        prep->options.allow_special ? CLLM_ENCODE_SPECIAL : CLLM_ENCODE_PLAIN;
    int rc = 0;

    cllm_prep_reader_init(&reader, &prep->input, prep->options.document_line,
                          cllm_prep_cut, prep->tokenizer, &prep->state.place);
    for (uint32_t i = 0; rc == 0 && i < prep->n_threads; i++)
        rc = cllm_prep_encoder_init(&prep->encoder[i], &prep->rules, prep->tokenizer,
                                    flags);
    cllm_prep_progress_begin(&prep->progress, "encoding", reader.behind,
                             prep->input.bytes);
    if (rc == 0)
        rc = cllm_prep_pipe_run(&pipe);
    for (uint32_t i = 0; i < prep->n_threads; i++)
        cllm_prep_encoder_fini(&prep->encoder[i]);
    cllm_prep_reader_fini(&reader);
    if (rc == 0)
        cllm_prep_progress_end(&prep->progress);
    return rc;
}

/* All text into the stream, from where the state says. */
static int encode(struct prep *prep)
{
    CLLM_ASSERT(prep->n_threads > 0);
    prep->encoder = calloc(prep->n_threads, sizeof *prep->encoder);
    if (prep->encoder == NULL)
        return cllm_err(-ENOMEM, "cannot encode");
    prep->safe_bytes = prep->state.bytes;
    int rc = run_encoders(prep);
    free(prep->encoder);
    if (rc == 0)
        rc = make_safe(prep);
    if (rc == 0 && prep->state.documents == 0)
        rc =
            cllm_err(CLLM_EDATA, "the input is empty: it has files, but no text in them");
    return rc;
}

/* ---- cut ---- */

static int write_shards(struct prep *prep, struct cllm_prep_output *output)
{
    struct cllm_prep_state *state = &prep->state;
    int rc = 0;

    if (state->stage == CLLM_PREP_ENCODE) {
        rc = cllm_prep_output_clear(prep->options.out_dir, prep->options.force);
        state->stage = CLLM_PREP_CUT;
        cllm_fault(CLLM_FAULT_prep_cleared);
        if (rc == 0)
            rc = cllm_prep_state_save(state, prep->state_path);
        cllm_fault(CLLM_FAULT_prep_cut);
    } else {
        rc = cllm_prep_output_check(output, state);
    }
    cllm_prep_progress_begin(&prep->progress, "writing", 0, output->n_shards);
    while (rc == 0 && state->n_shards < output->n_shards) {
        rc = cllm_prep_output_next(output, &prep->stream, state);
        cllm_fault(CLLM_FAULT_prep_shard);
        if (rc == 0)
            rc = cllm_prep_state_save(state, prep->state_path);
        cllm_fault(CLLM_FAULT_prep_kept);
        if (rc == 0 && interrupted)
            rc = cllm_err(-EINTR, "stopped");
    }
    return rc;
}

/* The stream into shards, and all that belongs to them. */
static int cut(struct prep *prep)
{
    const struct cllm_prep_options *options = &prep->options;
    struct cllm_prep_state *state = &prep->state;
    struct cllm_prep_output output = {0};
    struct cllm_prep_renumbering other = {0};
    struct cllm_prep_facts facts = {.input = &prep->input,
                                    .state = state,
                                    .tokenizer = prep->tokenizer,
                                    .split = &prep->split,
                                    .separator = options->separator_text,
                                    .val_fraction = options->val_fraction,
                                    .token_bytes = prep->token_bytes,
                                    .renumbered = options->renumber};
    int rc = 0;

    prep->split = (struct cllm_prep_split){.token = state->tokens, .bytes = state->bytes};
    if (options->val_fraction > 0)
        rc = cllm_prep_stream_split(&prep->stream, prep->tokenizer, options->val_fraction,
                                    &prep->split);
    if (rc == 0)
        rc = cllm_prep_output_init(&output, options->out_dir, prep->split.token,
                                   state->tokens - prep->split.token,
                                   options->val_fraction > 0, options->shard_tokens);
    if (rc == 0 && options->renumber)
        rc =
            cllm_prep_renumber(&other, &prep->stream, prep->split.token, prep->tokenizer);
    if (rc == 0 && options->renumber) {
        output.place = other.place;
        facts.tokenizer = other.tokenizer;
    }
    if (rc == 0)
        rc = write_shards(prep, &output);
    cllm_fault(CLLM_FAULT_prep_shards);
    if (rc == 0)
        rc = cllm_prep_output_finish(&output, &facts);
    cllm_fault(CLLM_FAULT_prep_described);
    if (rc == 0)
        cllm_prep_report_output(&output, &facts);
    cllm_prep_output_fini(&output);
    cllm_prep_renumbering_fini(&other);
    return rc;
}

/* ---- the tokenizer ---- */

/* What follows from the tokenizer. */
static int use_tokenizer(struct prep *prep)
{
    bool bytes = cllm_tokenizer_kind(prep->tokenizer) == CLLM_TOKENIZER_KIND_BYTES;

    prep->rules.invalid = prep->options.invalid;
    if (prep->rules.invalid == CLLM_PREP_INVALID_AUTO)
        prep->rules.invalid = bytes ? CLLM_PREP_INVALID_BYTES : CLLM_PREP_INVALID_REPLACE;
    prep->token_bytes = cllm_tokenizer_size(prep->tokenizer) <= UINT16_MAX + 1 ? 2 : 4;
    int rc = prep->options.allow_special ? cllm_prep_check_special(prep->tokenizer) : 0;
    return rc == 0 ? cllm_prep_separator(prep->tokenizer, prep->options.separator_text,
                                         prep->options.separator,
                                         prep->options.separator_bytes, prep->separator,
                                         &prep->n_separator)
                   : rc;
}

/* Train one and keep it beside the state, or take the one that is kept there. */
static int train_tokenizer(struct prep *prep, bool kept)
{
    const struct cllm_prep_options *options = &prep->options;

    if (kept)
        return cllm_tokenizer_load(&prep->tokenizer, prep->partial);
    prep->rules.invalid = options->invalid == CLLM_PREP_INVALID_AUTO
                              ? CLLM_PREP_INVALID_REPLACE
                              : options->invalid;
    int rc = cllm_prep_vocab(&prep->rules, options->document_line, options->pattern,
                             options->train_vocab, prep->n_threads, &interrupted,
                             &prep->tokenizer);
    return rc == 0 ? cllm_tokenizer_save(prep->tokenizer, prep->partial) : rc;
}

/* ---- the whole ---- */

/* A hash of all that the result depends on. */
static int identify(struct prep *prep)
{
    const struct cllm_prep_options *options = &prep->options;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    if (out == NULL)
        return cllm_err(-ENOMEM, "cannot hash the arguments");
    (void)fprintf(out, "%s\n%s\n%s\n", options->text_key, options->document_line,
                  options->separator_text == NULL ? "" : options->separator_text);
    (void)fprintf(out, "%d %d %d %d %.17g %" PRIu64 "\n", options->separator_text != NULL,
                  (int)options->invalid, options->skip_bad, options->allow_special,
                  options->val_fraction, options->shard_tokens);
    if (options->train_vocab > 0)
        (void)fprintf(out, "train %u %s\n", options->train_vocab, options->pattern);
    else
        (void)fprintf(out, "%s\n", cllm_tokenizer_hash(prep->tokenizer));
    if (options->renumber)
        (void)fprintf(out, "renumber\n");
    for (size_t i = 0; i < prep->input.n_sources; i++)
        (void)fprintf(out, "%s\n", prep->input.source[i].argument);
    (void)fprintf(out, "%s\n", prep->input.spool_sha256);
    for (size_t i = 0; i < prep->input.n_files; i++) {
        const struct cllm_prep_file *file = &prep->input.file[i];
        (void)fprintf(out, "%s\n%d %" PRIu64 " %" PRId64 "\n", file->path, file->jsonl,
                      file->bytes, file->mtime_ns);
    }
    int rc = fclose(out) == 0 ? cllm_sha256_text(text, bytes, prep->state.identity)
                              : cllm_err(-ENOMEM, "cannot hash the arguments");
    free(text);
    return rc;
}

/* Make DIR/.partial and lock it. */
static int lock_partial(struct prep *prep)
{
    int rc =
        cllm_file_join(prep->partial, prep->options.out_dir, CLLM_MANIFEST_UNFINISHED);

    if (rc == 0)
        rc = cllm_file_join(prep->state_path, prep->partial, "state.json");
    if (rc == 0)
        rc = cllm_file_mkdirs(prep->partial);
    if (rc < 0)
        return rc;
    prep->lock = open(prep->partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (prep->lock < 0)
        return cllm_err(-errno, "cannot open %s", prep->partial);
    rc = cllm_file_lock(prep->lock, prep->partial);
    if (rc != -EWOULDBLOCK)
        return rc;
    return cllm_err(CLLM_EREFUSED, "another cllm-prep is writing into %s",
                    prep->options.out_dir);
}

/* Is there something to go on from? 1 yes, 0 no. With --force, what another run left is
 * thrown away. */
static int find_state(struct prep *prep)
{
    int rc = cllm_prep_state_init(&prep->state, prep->input.n_sources);

    if (rc == 0)
        rc = identify(prep);
    if (rc == 0)
        rc = cllm_prep_state_load(&prep->state, prep->state_path);
    if (rc < 0 && prep->options.force) {
        cllm_info("what an unfinished run left in %s is thrown away", prep->partial);
        char identity[CLLM_SHA256_HEX_BYTES];
        memcpy(identity, prep->state.identity, sizeof identity);
        cllm_prep_state_fini(&prep->state);
        rc = cllm_prep_state_init(&prep->state, prep->input.n_sources);
        memcpy(prep->state.identity, identity, sizeof identity);
    }
    if (rc == 1)
        cllm_info("going on with an unfinished run: %" PRIu64 " tokens are there",
                  prep->state.tokens);
    return rc;
}

/* All stages, each from where it stands. */
static int run(struct prep *prep)
{
    const struct cllm_prep_options *options = &prep->options;
    int rc = 0;

    if (options->train_vocab == 0) {
        rc = cllm_prep_check_outside(options->tokenizer, options->out_dir);
        if (rc == 0)
            rc = cllm_tokenizer_load(&prep->tokenizer, options->tokenizer);
    }
    int found = rc == 0 ? find_state(prep) : rc;
    if (found < 0)
        return found;
    if (prep->state.stage == CLLM_PREP_ENCODE && !options->force)
        rc = cllm_prep_output_clear(options->out_dir, false);
    if (rc == 0 && options->train_vocab > 0)
        rc = train_tokenizer(prep, found == 1);
    if (rc == 0)
        rc = use_tokenizer(prep);
    if (rc == 0 && found == 0)
        rc = cllm_prep_state_save(&prep->state, prep->state_path);
    if (rc == 0)
        rc = cllm_prep_stream_open(&prep->stream, prep->partial, &prep->state,
                                   prep->separator, prep->n_separator, prep->token_bytes);
    if (rc == 0 && prep->state.stage == CLLM_PREP_ENCODE)
        rc = encode(prep);
    if (rc == 0)
        rc = cut(prep);
    cllm_prep_stream_fini(&prep->stream);
    return rc;
}

/* Is what lies in .partial worth keeping? Bad input or arguments will be others next
 * time; after anything else the same command goes on from the state, if there is one. */
static bool is_worth_keeping(const struct prep *prep, int rc)
{
    return rc != 0 && rc != CLLM_EDATA && rc != CLLM_ECONFIG &&
           access(prep->state_path, F_OK) == 0;
}

static int list_input(struct prep *prep, char **arguments, int n)
{
    struct cllm_prep_input *input = &prep->input;
    int rc = 0;

    for (int i = 0; rc == 0 && i < n; i++)
        rc = cllm_prep_input_add(input, arguments[i]);
    if (rc < 0)
        return rc;
    cllm_prep_report_input(input);
    if (input->n_files > 0)
        return 0;
    rc = cllm_err(CLLM_EDATA, "the input is empty");
    cllm_err_detail("of %zu inputs, all are empty; first: %s", input->n_sources,
                    arguments[0]);
    return rc;
}

static int prepare(struct prep *prep, char **arguments, int n)
{
    const char *out_dir = prep->options.out_dir;
    struct stat st;
    bool was_there = stat(out_dir, &st) == 0;
    int rc = cllm_file_mkdirs(out_dir);

    if (rc < 0)
        return rc;
    prep->n_threads =
        prep->options.threads > 0 ? prep->options.threads : count_processors();
    prep->rules = (struct cllm_prep_rules){.input = &prep->input,
                                           .text_key = prep->options.text_key,
                                           .skip_bad = prep->options.skip_bad};
    prep->stream.tokens.fd = prep->stream.index.fd = -1;
    cllm_prep_input_init(&prep->input, out_dir, prep->options.format);
    rc = list_input(prep, arguments, n);
    int locked = rc == 0 ? lock_partial(prep) : rc;
    if (locked == 0)
        rc = run(prep);
    else
        rc = locked;
    if (locked == 0 && !is_worth_keeping(prep, rc)) {
        struct cllm_err_text text;
        cllm_err_save(&text);
        int failed = cllm_file_remove_tree(prep->partial);
        if (rc == 0)
            rc = failed;
        else
            cllm_err_restore(&text);
    }
    if (prep->lock >= 0)
        (void)close(prep->lock);
    cllm_prep_state_fini(&prep->state);
    cllm_tokenizer_free(&prep->tokenizer);
    cllm_prep_input_fini(&prep->input);
    if (rc < 0 && !was_there)
        (void)rmdir(out_dir); /* only if it is empty, as we made it */
    return rc;
}

int main(int argc, char **argv)
{
    static struct prep prep = {.lock = -1};
    struct sigaction action = {.sa_handler = on_signal};
    int rc = cllm_prep_options_parse(&prep.options, argc, argv);

    if (rc == 1)
        return fflush(stdout) == 0 ? CLLM_EXIT_OK : CLLM_EXIT_FAILURE;
    if (rc < 0) {
        if (cllm_err_text()[0] != '\0')
            cllm_err_print(CLLM_PREP_PROGRAM);
        return cllm_prep_usage_error();
    }
    cllm_log_init(CLLM_PREP_PROGRAM, prep.options.quiet     ? CLLM_LOG_WARN
                                     : prep.options.verbose ? CLLM_LOG_DEBUG
                                                            : CLLM_LOG_INFO);
    /* The default actions would lose what is not yet safe. */
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    rc = cllm_fault_arm_environment(CLLM_FAULT_PREP);
    if (rc >= 0)
        rc = prepare(&prep, argv + prep.options.first_argument,
                     argc - prep.options.first_argument);
    cllm_log_status("%s", "");
    if (rc < 0 && interrupted) {
        cllm_error("stopped; the same command goes on from here");
        return CLLM_EXIT_INTERRUPTED;
    }
    if (rc < 0)
        cllm_err_print(CLLM_PREP_PROGRAM);
    return cllm_exit_code(rc);
}
