/*
 * coordinator/import_pass.h - one pass over the weights that a run begins with: read,
 * hashed, and written where they are wanted. Inner header of import.c and frozen.c.
 */
#ifndef CLLM_COORDINATOR_IMPORT_PASS_H
#define CLLM_COORDINATOR_IMPORT_PASS_H

#include "base/config.h"
#include "coordinator/plan.h"
#include "formats/safetensors.h"
#include "formats/source.h"

struct cllm_pass {
    struct cllm_source source;         /* of an adapter only path is set */
    struct cllm_parameters parameters; /* of the run's model, or of its adapters */
    float *adapted;                    /* the vector of an adapter; NULL: a model */
    float *data, *room;                // of the largest tensor
    struct cllm_hasher *hasher;        /* of the tensors taken */
};

/* Open the model that [train] from names, or the adapter that [lora] from names. Returns
 * 0 or a negative code with text; end is due in any case. */
int cllm_pass_begin(struct cllm_pass *pass, const struct cllm_config *config);
int cllm_pass_begin_adapter(struct cllm_pass *pass, const struct cllm_config *config);
void cllm_pass_end(struct cllm_pass *pass);

/* Tensor @index of the run into pass->data; of a shorter context the first positions.
 * CLLM_EDATA with text for another model, CLLM_ESTOPPED when somebody asks to stop. */
int cllm_pass_take(struct cllm_pass *pass, uint32_t index);

/* Gets every tensor as it goes by. */
typedef void (*cllm_pass_fn)(void *ctx, const struct cllm_tensor *tensor,
                             const float *data);

/* Take all tensors and write them where @file says into @fd, which is of @path; @visit
 * may be NULL. Returns 0 or a negative code with text. */
int cllm_pass_write(struct cllm_pass *pass, const struct cllm_safetensors_plan *file,
                    int fd, const char *path, cllm_pass_fn visit, void *ctx);

/* Make @fd durable unless @rc says that something failed, and close it in any case.
 * Returns @rc or what failed now. */
int cllm_pass_close(int fd, const char *path, int rc);

/* Were the weights that were taken those that the run's identity knows? CLLM_EDATA with
 * text. */
int cllm_pass_check(const struct cllm_pass *pass, const struct cllm_config *config,
                    const struct cllm_plan *plan);

#endif /* CLLM_COORDINATOR_IMPORT_PASS_H */
