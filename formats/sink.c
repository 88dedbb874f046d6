/*
 * formats/sink.c - each kind's own writer, under one roof.
 */
#include "formats/sink.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/checkpoint.h"
#include "formats/gguf_model.h"
#include "formats/gguf_tokenizer.h"

const char *const cllm_sink_dtype_names[CLLM_N_SINK_DTYPES] = {"f32", "f16", "bf16",
                                                               "q8_0"};

static const enum cllm_gguf_type gguf_types[CLLM_N_SINK_DTYPES] = {
    CLLM_GGUF_TYPE_F32, CLLM_GGUF_TYPE_F16, CLLM_GGUF_TYPE_BF16, CLLM_GGUF_TYPE_Q8_0};

static const enum cllm_dtype hf_dtypes[CLLM_N_SINK_DTYPES] = {
    CLLM_DTYPE_F32, CLLM_DTYPE_F16, CLLM_DTYPE_BF16, CLLM_DTYPE_NONE};

/* Which dtypes a kind has. */
static bool holds(enum cllm_source_kind kind, enum cllm_sink_dtype dtype)
{
    switch (kind) {
    case CLLM_SOURCE_GGUF:
        return true;
    case CLLM_SOURCE_HF:
        return hf_dtypes[dtype] != CLLM_DTYPE_NONE;
    case CLLM_SOURCE_LLMC:
        return dtype == CLLM_SINK_F32 || dtype == CLLM_SINK_BF16;
    default:
        return dtype == CLLM_SINK_F32;
    }
}

int cllm_sink_check(const struct cllm_sink_plan *plan,
                    const struct cllm_parameters *parameters)
{
    if (!holds(plan->kind, plan->dtype))
        return cllm_err(CLLM_EREFUSED, "%s files of CLLM cannot hold %s",
                        cllm_source_kind_name(plan->kind),
                        cllm_sink_dtype_names[plan->dtype]);
    if (plan->kind == CLLM_SOURCE_GGUF && parameters->config.crystalline_bias)
        return cllm_err(CLLM_EREFUSED,
                        "GGUF files cannot hold a crystalline bias of attention");
    return plan->kind == CLLM_SOURCE_LLMC ? cllm_llmc_check(&parameters->config) : 0;
}

/* ---- begin ---- */

static int begin_gguf(struct cllm_sink *sink)
{
    const struct cllm_sink_plan *plan = sink->plan;
    struct cllm_gguf_writer *writer = &sink->gguf;
    enum cllm_gguf_type type = gguf_types[plan->dtype];
    uint32_t vocab = sink->parameters->config.vocab;
    char key[64];
    int rc = 0;

    cllm_gguf_writer_init(writer);
    cllm_gguf_model_put(writer, sink->parameters, type, plan->name);
    if (plan->tokenizer != NULL) {
        rc = cllm_gguf_put_tokenizer(writer, plan->tokenizer, vocab);
    } else if (plan->spm != NULL) {
        rc = cllm_gguf_put_spm(writer, plan->spm);
    } else {
        cllm_gguf_put_text(writer, "tokenizer.ggml.model", "no_vocab");
        (void)snprintf(key, sizeof key, "%s.vocab_size",
                       cllm_arch_names[sink->parameters->config.arch]);
        if (sink->parameters->config.arch != CLLM_ARCH_LLAMA) /* has it in any case */
            cllm_gguf_put_u32(writer, key, vocab);
    }
    cllm_gguf_model_add(writer, sink->parameters, type);
    if (rc == 0)
        rc = cllm_gguf_writer_begin(writer, plan->path, plan->replace);
    return rc;
}

/* optimizer.safetensors of a training that has not begun: moments of zero. */
static int make_moments(const struct cllm_sink *sink)
{
    struct cllm_safetensors_plan plan;
    int rc = cllm_safetensors_plan_moments(&plan, sink->parameters->tensors,
                                           sink->parameters->n_tensors);
    int fd;

    if (rc != 0)
        return rc;
    fd = cllm_checkpoint_create(sink->output.temp, CLLM_CHECKPOINT_OPTIMIZER, &plan);
    cllm_safetensors_plan_fini(&plan);
    if (fd < 0)
        return fd;
    if (fsync(fd) != 0)
        rc = cllm_err(-errno, "cannot fsync %s/%s", sink->output.temp,
                      CLLM_CHECKPOINT_OPTIMIZER);
    if (close(fd) != 0 && rc == 0)
        rc = cllm_err(-errno, "cannot close %s/%s", sink->output.temp,
                      CLLM_CHECKPOINT_OPTIMIZER);
    return rc;
}

static int begin_directory(struct cllm_sink *sink)
{
    const struct cllm_sink_plan *plan = sink->plan;
    int rc = cllm_output_directory(&sink->output, plan->path, plan->replace);

    if (rc == 0)
        rc = cllm_hf_writer_begin(&sink->hf, sink->output.temp, sink->parameters,
                                  hf_dtypes[plan->dtype],
                                  plan->kind == CLLM_SOURCE_HF ? plan->max_shard : 0);
    return rc == 0 && plan->kind == CLLM_SOURCE_CHECKPOINT ? make_moments(sink) : rc;
}

static int begin_llmc(struct cllm_sink *sink)
{
    const struct cllm_sink_plan *plan = sink->plan;
    uint32_t version = plan->dtype == CLLM_SINK_F32 ? CLLM_LLMC_F32 : CLLM_LLMC_BF16;
    int rc = cllm_output_file(&sink->output, plan->path,
                              cllm_llmc_bytes(sink->parameters, version), plan->replace);

    return rc == 0
               ? cllm_llmc_begin(&sink->llmc, sink->parameters, version, &sink->output)
               : rc;
}

int cllm_sink_begin(struct cllm_sink *sink, const struct cllm_sink_plan *plan,
                    const struct cllm_parameters *parameters)
{
    int rc = cllm_sink_check(plan, parameters);

    *sink = (struct cllm_sink){.plan = plan,
                               .parameters = parameters,
                               .output.fd = -1,
                               .gguf.output.fd = -1,
                               .hf.fd = -1,
                               .llmc.fd = -1};
    if (rc == 0)
        rc = plan->kind == CLLM_SOURCE_GGUF   ? begin_gguf(sink)
             : plan->kind == CLLM_SOURCE_LLMC ? begin_llmc(sink)
                                              : begin_directory(sink);
    if (rc != 0)
        cllm_sink_abort(sink);
    return rc;
}

/* ---- tensors, end ---- */

int cllm_sink_put(struct cllm_sink *sink, uint32_t index, float *data, float *room)
{
    const struct cllm_parameters *parameters = sink->parameters;

    CLLM_ASSERT(index < parameters->n_tensors);
    switch (sink->plan->kind) {
    case CLLM_SOURCE_GGUF:
        return cllm_gguf_model_write(&sink->gguf, parameters, index, data, room);
    case CLLM_SOURCE_LLMC:
        return cllm_llmc_write(&sink->llmc, parameters, &parameters->tensors[index], data,
                               room, &sink->output);
    default:
        return cllm_hf_writer_put(&sink->hf, index, data);
    }
}

const char *cllm_sink_directory(const struct cllm_sink *sink)
{
    return sink->plan->kind == CLLM_SOURCE_HF ||
                   sink->plan->kind == CLLM_SOURCE_CHECKPOINT
               ? sink->output.temp
               : NULL;
}

/* run.json and manifest.json of a model that CLLM has not trained. */
static int describe(const struct cllm_sink *sink)
{
    struct cllm_checkpoint_info info = {.model = sink->parameters->config,
                                        .init_range = sink->plan->init_range,
                                        .train_loss = (double)NAN,
                                        .valid_loss = (double)NAN,
                                        .best_loss = (double)NAN};

    memcpy(info.fingerprint, "00000000000000000000000000000000", 33);
    memcpy(info.root, "0000000000000000", 17);
    memcpy(info.data, "0000000000000000", 17);
    return cllm_checkpoint_describe(sink->output.temp, &info, NULL, 0);
}

/* The tokens at which text begins and ends. */
static void find_ends(const struct cllm_sink_plan *plan, uint32_t *bos, uint32_t *eos)
{
    *bos = *eos = UINT32_MAX;
    if (plan->tokenizer != NULL)
        *bos = *eos = cllm_tokenizer_eot(plan->tokenizer);
    if (plan->spm != NULL) {
        *bos = CLLM_SPM_BOS;
        *eos = CLLM_SPM_EOS;
    }
}

int cllm_sink_finish(struct cllm_sink *sink)
{
    uint32_t bos, eos;
    int rc = 0;

    switch (sink->plan->kind) {
    case CLLM_SOURCE_GGUF:
        rc = cllm_gguf_model_write_last(&sink->gguf, sink->parameters);
        if (rc == 0)
            rc = cllm_gguf_writer_finish(&sink->gguf);
        break;
    case CLLM_SOURCE_LLMC:
        rc = cllm_output_finish(&sink->output);
        break;
    default:
        find_ends(sink->plan, &bos, &eos);
        rc = cllm_hf_writer_finish(&sink->hf, sink->plan->init_range, bos, eos);
        if (rc == 0 && sink->plan->kind == CLLM_SOURCE_CHECKPOINT)
            rc = describe(sink);
        if (rc == 0)
            rc = cllm_output_finish(&sink->output);
    }
    cllm_sink_abort(sink);
    return rc;
}

void cllm_sink_abort(struct cllm_sink *sink)
{
    if (sink->parameters == NULL)
        return;
    cllm_hf_writer_abort(&sink->hf);
    cllm_gguf_writer_abort(&sink->gguf);
    cllm_output_abort(&sink->output);
    sink->parameters = NULL;
}
