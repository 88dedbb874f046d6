/*
 * formats/llmc.h - llm.c's model files (GPT-2): version 3 in f32, version 5 in bf16.
 *
 *     int32[256]: 20240326, version, T, V, L, H, C, Vp      Vp: V up to a multiple of 128
 *     wte (Vp,C), wpe (T,C), then each kind of a block's tensors for all layers, ln_f
 *
 * Matrices are (out,in), Hugging Face's are (in,out). The rows of wte beyond V are zeros
 * here and not looked at. Which is what scripts/check-interop.sh holds against the
 * original's own reading.
 */
#ifndef CLLM_FORMATS_LLMC_H
#define CLLM_FORMATS_LLMC_H

#include "base/parameters.h"
#include "formats/output.h"

#define CLLM_LLMC_HEADER_BYTES 1024
#define CLLM_LLMC_MAGIC        20240326
#define CLLM_LLMC_F32          3 /* versions */
#define CLLM_LLMC_BF16         5

struct cllm_llmc {
    char path[CLLM_FILE_PATH_BYTES];
    int fd; /* -1: parsed from memory */
    uint32_t version;
    uint32_t padded_vocab; /* Vp */
    uint64_t file_bytes;
    struct cllm_model_config config;
};

/* Open and check a file: numbers, and that its size is exactly theirs. Returns 0;
 * CLLM_EDATA with text; a negative errno with text. On failure nothing is left to close.
 */
int cllm_llmc_open(struct cllm_llmc *llmc, const char *path);
void cllm_llmc_close(struct cllm_llmc *llmc);

/* What open does with the first min(@file_bytes, 1024) bytes of a file. */
int cllm_llmc_parse(struct cllm_llmc *llmc, const void *header, uint64_t file_bytes,
                    const char *name);

/* @tensor of @parameters (those of llmc->config), in Hugging Face's layout, into @out;
 * @room is as large and overwritten. */
int cllm_llmc_read(const struct cllm_llmc *llmc, const struct cllm_parameters *parameters,
                   const struct cllm_tensor *tensor, float *out, float *room);

/* ---- writing ---- */

/* Can llm.c hold such a model? 0, or CLLM_EREFUSED with a text that names what it cannot.
 */
int cllm_llmc_check(const struct cllm_model_config *config);

/* The sizes of the file to be, and its header into @output, which was begun with
 * cllm_llmc_bytes(). @llmc is filled. */
uint64_t cllm_llmc_bytes(const struct cllm_parameters *parameters, uint32_t version);
int cllm_llmc_begin(struct cllm_llmc *llmc, const struct cllm_parameters *parameters,
                    uint32_t version, const struct cllm_output *output);

/* @tensor, @data in Hugging Face's layout, to its place; @data and @room (as large) are
 * overwritten. */
int cllm_llmc_write(const struct cllm_llmc *llmc,
                    const struct cllm_parameters *parameters,
                    const struct cllm_tensor *tensor, float *data, float *room,
                    const struct cllm_output *output);

#endif /* CLLM_FORMATS_LLMC_H */
