/*
 * formats/sink.h - a model into files of a kind that others read; formats/source.h is the
 * other way.
 *
 *     begin -> put every tensor, in order -> [more files into its directory] -> finish
 *
 * Nothing is seen under the final name before it is whole.
 */
#ifndef CLLM_FORMATS_SINK_H
#define CLLM_FORMATS_SINK_H

#include "formats/gguf_writer.h"
#include "formats/source.h"
#include "formats/spm.h"
#include "formats/tokenizer.h"

enum cllm_sink_dtype {
    CLLM_SINK_F32 = 0,
    CLLM_SINK_F16,
    CLLM_SINK_BF16,
    CLLM_SINK_Q8_0,
    CLLM_N_SINK_DTYPES
};

extern const char *const cllm_sink_dtype_names[CLLM_N_SINK_DTYPES]; /* "f32" ... */

/* What is to be made. */
struct cllm_sink_plan {
    enum cllm_source_kind kind; /* HF, CHECKPOINT, GGUF or LLMC */
    enum cllm_sink_dtype dtype;
    const char *path;
    const char *name;   /* of the model (GGUF); a text */
    bool replace;       /* what has the path already */
    uint64_t max_shard; /* bytes a file (HF); 0 = one file */
    double init_range;
    const struct cllm_tokenizer *tokenizer; /* NULL: none */
    const struct cllm_spm *spm;             /* NULL: none */
};

struct cllm_sink {
    const struct cllm_sink_plan *plan;        /* both outlive it */
    const struct cllm_parameters *parameters; /* NULL: not begun */
    struct cllm_output output;                /* not of GGUF, which has its own */
    struct cllm_gguf_writer gguf;
    struct cllm_hf_writer hf;
    struct cllm_llmc llmc;
};

/* Can such files hold the model? 0, or CLLM_EREFUSED with a text that names what cannot.
 */
int cllm_sink_check(const struct cllm_sink_plan *plan,
                    const struct cllm_parameters *parameters);

/* On failure there is nothing to abort. */
int cllm_sink_begin(struct cllm_sink *sink, const struct cllm_sink_plan *plan,
                    const struct cllm_parameters *parameters);

/* Tensor @index, in the layout of base/parameters.h; @data and @room (as large) are
 * overwritten. */
int cllm_sink_put(struct cllm_sink *sink, uint32_t index, float *data, float *room);

/* The directory under construction, or NULL when it is a file. */
const char *cllm_sink_directory(const struct cllm_sink *sink);

/* Complete, durable, under its name. Ends it in any case. */
int cllm_sink_finish(struct cllm_sink *sink);

/* For zeroed memory, and after finish, a no-op. */
void cllm_sink_abort(struct cllm_sink *sink);

#endif /* CLLM_FORMATS_SINK_H */
