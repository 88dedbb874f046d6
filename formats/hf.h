/*
 * formats/hf.h - directories of Hugging Face: config.json and model.safetensors, in one
 * file or in several with model.safetensors.index.json.
 *
 * Reading is tolerant where the world is: names with and without "transformer." or
 * "model.", F32, F16 and BF16, masks and tables that old files carry along. What CLLM
 * cannot compute is refused by name: a tensor that it does not know changes the results.
 */
#ifndef CLLM_FORMATS_HF_H
#define CLLM_FORMATS_HF_H

#include "base/parameters.h"
#include "formats/output.h"
#include "formats/safetensors.h"

#define CLLM_HF_CONFIG    "config.json"
#define CLLM_HF_MODEL     "model.safetensors"
#define CLLM_HF_INDEX     "model.safetensors.index.json"
#define CLLM_HF_FILES_MAX 1000

struct cllm_hf {
    char dir[CLLM_FILE_PATH_BYTES];
    struct cllm_model_config config; /* completed */
    double init_range;
    struct cllm_parameters parameters; /* of config */
    uint32_t n_files;
    struct cllm_safetensors *file; /* [n_files]; heap */
    struct place {
        uint32_t file, tensor;
    } * place;             /* [parameters.n_tensors] where each tensor is; heap */
    enum cllm_dtype dtype; /* of the token embedding */
};

/* Open and check a directory: the configuration, all headers, that every tensor is there
 * once, with its shape. Returns 0; CLLM_EDATA with text; a negative errno with text. On
 * failure nothing is left to close. */
int cllm_hf_open(struct cllm_hf *hf, const char *dir);
void cllm_hf_close(struct cllm_hf *hf);

/* The configuration alone. */
int cllm_hf_read_config(const char *dir, struct cllm_model_config *config,
                        double *init_range);

/* Is @dir such a directory, by the names in it? */
bool cllm_hf_is(const char *dir);

/* Tensor @index of hf->parameters as f32. */
int cllm_hf_read(const struct cllm_hf *hf, uint32_t index, float *out);

/* What open does with the text of an index: the names of its files, each once, in
 * @files (heap, as are the names; the caller frees both), and how many. */
int cllm_hf_parse_index(const char *text, size_t bytes, const char *name, char ***files,
                        uint32_t *n_files);

/* ---- writing ---- */

/* The model's files in a directory under construction; one is open at a time. */
struct cllm_hf_writer {
    const struct cllm_parameters *parameters; /* outlive it */
    enum cllm_dtype dtype;
    char dir[CLLM_FILE_PATH_BYTES];
    uint32_t n_files;
    uint32_t *first; /* [n_files + 1] tensors of each file; heap */
    uint32_t file;   /* open; n_files when none was yet */
    int fd;
    struct cllm_safetensors_plan plan;
    char path[CLLM_FILE_PATH_BYTES]; /* of the open file */
};

/* Begin in @dir, which exists: @dtype F32, F16 or BF16; at most @max_shard bytes of data
 * a file, 0 = all in one. Tensors follow in the order of @parameters. */
int cllm_hf_writer_begin(struct cllm_hf_writer *writer, const char *dir,
                         const struct cllm_parameters *parameters, enum cllm_dtype dtype,
                         uint64_t max_shard);

/* Tensor @index; called for each in order. @data is overwritten. A number that F16 cannot
 * hold is CLLM_EREFUSED with text. */
int cllm_hf_writer_put(struct cllm_hf_writer *writer, uint32_t index, float *data);

/* The last file durable, index and config.json written. Ends it in any case. */
int cllm_hf_writer_finish(struct cllm_hf_writer *writer, double init_range, uint32_t bos,
                          uint32_t eos);

/* For zeroed memory, and after finish, a no-op. */
void cllm_hf_writer_abort(struct cllm_hf_writer *writer);

#endif /* CLLM_FORMATS_HF_H */
