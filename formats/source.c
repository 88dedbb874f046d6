/*
 * formats/source.c - look what it is, then let the format's own reader do it.
 */
#include "formats/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "formats/adapter.h"
#include "formats/checkpoint.h"
#include "formats/gguf_model.h"
#include "formats/peft.h"

static const char *const kind_names[] = {
    [CLLM_SOURCE_NONE] = "nothing",
    [CLLM_SOURCE_HF] = "Hugging Face",
    [CLLM_SOURCE_CHECKPOINT] = "CLLM checkpoint",
    [CLLM_SOURCE_GGUF] = "GGUF",
    [CLLM_SOURCE_LLMC] = "llm.c",
    [CLLM_SOURCE_LLAMA2C] = "llama2.c",
    [CLLM_SOURCE_PEFT] = "peft adapter",
};
_Static_assert(CLLM_LEN(kind_names) == CLLM_N_SOURCE_KINDS, "every kind has a name");

const char *cllm_source_kind_name(enum cllm_source_kind kind)
{
    CLLM_ASSERT(kind < CLLM_N_SOURCE_KINDS);
    return kind_names[kind];
}

static bool is_there(const char *dir, const char *name)
{
    char path[CLLM_FILE_PATH_BYTES];
    struct stat st;

    return cllm_file_join(path, dir, name) == 0 && stat(path, &st) == 0;
}

/* ---- what it is ---- */

/* A checkpoint of CLLM, or a directory that holds some. */
static bool is_checkpoint(const char *dir)
{
    return (is_there(dir, CLLM_CHECKPOINT_MANIFEST) &&
            is_there(dir, CLLM_CHECKPOINT_RUN)) ||
           is_there(dir, "checkpoints") || is_there(dir, "last");
}

static int tell_directory(const char *path, enum cllm_source_kind *kind)
{
    int rc;

    if (is_checkpoint(path))
        *kind = CLLM_SOURCE_CHECKPOINT;
    else if (!cllm_hf_is(path) && cllm_peft_is(path))
        *kind = CLLM_SOURCE_PEFT;
    else if (cllm_hf_is(path) || is_there(path, CLLM_HF_CONFIG))
        *kind = CLLM_SOURCE_HF;
    else {
        rc = cllm_err(CLLM_EDATA, "%s holds no model: there is no %s", path,
                      CLLM_HF_CONFIG);
        cllm_err_hint("expected a directory of Hugging Face, a checkpoint, a run or an "
                      "adapter of peft's");
        return rc;
    }
    return 0;
}

/* What begins with @head, of @n bytes; not one of ours. */
static int refuse_file(const char *path, const uint8_t *head, size_t n)
{
    const char *what = NULL;
    int rc;

    if (n >= 4 && memcmp(head, "PK\3\4", 4) == 0)
        what = "a zip file, perhaps PyTorch's: it holds Python objects; save the model "
               "with save_pretrained(safe_serialization=True)";
    else if (n >= 9 && head[8] == '{')
        what =
            "a safetensors file: name the directory that holds it with its config.json";
    if (what == NULL)
        return 0;
    rc = cllm_err(CLLM_EDATA, "%s cannot be read", path);
    cllm_err_hint("it seems to be %s", what);
    return rc;
}

static int tell_file(const char *path, enum cllm_source_kind *kind)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    uint8_t head[16] = {0};
    uint32_t magic;
    ssize_t n;
    int rc;

    if (fd < 0)
        return cllm_err(-errno, "cannot open %s", path);
    do
        n = pread(fd, head, sizeof head, 0);
    while (n < 0 && errno == EINTR);
    rc = n < 0 ? cllm_err(-errno, "cannot read %s", path)
               : refuse_file(path, head, (size_t)n);
    (void)close(fd); /* opened for reading */
    memcpy(&magic, head, sizeof magic);
    if (memcmp(head, "GGUF", 4) == 0)
        *kind = CLLM_SOURCE_GGUF;
    else if (magic == CLLM_LLMC_MAGIC)
        *kind = CLLM_SOURCE_LLMC;
    else
        *kind = CLLM_SOURCE_LLAMA2C; /* it has no magic: the last guess */
    return rc;
}

/* ---- opening ---- */

static int open_hf(struct cllm_source *source, const char *dir)
{
    static const char *const names[CLLM_N_DTYPES] = {
        [CLLM_DTYPE_F32] = "f32", [CLLM_DTYPE_F16] = "f16", [CLLM_DTYPE_BF16] = "bf16"};
    int rc = cllm_hf_open(&source->hf, dir);

    if (rc != 0)
        return rc;
    (void)snprintf(source->path, sizeof source->path, "%s", dir);
    source->init_range = source->hf.init_range;
    source->dtype = names[source->hf.dtype];
    return cllm_parameters_init(&source->parameters, &source->hf.config);
}

/* The adapters of @checkpoint, and the weights beneath them. */
static int open_adapters(struct cllm_source *source,
                         const struct cllm_checkpoint *checkpoint)
{
    char dir[CLLM_FILE_PATH_BYTES];
    int rc = cllm_file_join(dir, checkpoint->dir, CLLM_ADAPTER_ABOVE);

    if (rc == 0 && !is_there(dir, CLLM_HF_CONFIG)) {
        rc = cllm_err(CLLM_EDATA,
                      "%s holds adapters alone: the model beneath them is not "
                      "in %s",
                      checkpoint->dir, dir);
        cllm_err_hint("name the checkpoint where it lies in its run; peft reads it "
                      "anywhere");
    }
    if (rc == 0)
        rc = open_hf(source, dir);
    if (rc == 0)
        rc =
            cllm_adapter_read_base(dir, &source->parameters, checkpoint->info.base, NULL);
    source->lora = checkpoint->info.lora;
    if (rc == 0)
        rc = cllm_lora_parameters(&source->adapters, &source->parameters, &source->lora);
    if (rc != 0)
        return rc;
    (void)snprintf(source->path, sizeof source->path, "%s", checkpoint->dir);
    source->adapted = calloc(source->adapters.n_elements, sizeof *source->adapted);
    if (source->adapted == NULL)
        return cllm_err(-ENOMEM, "cannot hold the adapters of %s", checkpoint->dir);
    for (uint32_t i = 0; rc == 0 && i < source->adapters.n_tensors; i++) {
        const struct cllm_tensor *tensor = &source->adapters.tensors[i];

        rc = cllm_checkpoint_read(checkpoint, tensor->name, source->adapted + tensor->off,
                                  tensor->count);
    }
    return rc;
}

static int open_checkpoint(struct cllm_source *source, const char *path)
{
    struct cllm_checkpoint checkpoint;
    int rc = cllm_checkpoint_open(&checkpoint, path);

    if (rc != 0)
        return rc;
    source->step = checkpoint.info.step;
    rc = checkpoint.info.lora.rank > 0 ? open_adapters(source, &checkpoint)
                                       : open_hf(source, checkpoint.dir);
    cllm_checkpoint_close(&checkpoint);
    return rc;
}

/* The model in @dir, without adapters of its own. */
static int open_beneath(struct cllm_source *source, const char *dir)
{
    struct cllm_checkpoint checkpoint;
    int rc;

    if (!is_checkpoint(dir))
        return open_hf(source, dir);
    rc = cllm_checkpoint_open(&checkpoint, dir);
    if (rc != 0)
        return rc;
    if (checkpoint.info.lora.rank > 0) {
        rc = cllm_err(CLLM_EDATA, "%s holds adapters itself", checkpoint.dir);
        cllm_err_hint("cllm-convert merges them into a model");
    } else {
        rc = open_hf(source, checkpoint.dir);
    }
    cllm_checkpoint_close(&checkpoint);
    return rc;
}

/* @base NULL: where the adapter's configuration says. */
static int open_peft(struct cllm_source *source, const char *path, const char *base)
{
    char dir[CLLM_FILE_PATH_BYTES];
    int rc = base == NULL ? cllm_peft_base(path, dir) : 0;

    if (rc == 0)
        rc = open_beneath(source, base == NULL ? dir : base);
    if (rc != 0) {
        cllm_err_add("the model beneath the adapter");
        return rc;
    }
    (void)snprintf(source->path, sizeof source->path, "%s", path);
    return cllm_peft_read(path, &source->parameters, &source->lora, &source->adapters,
                          &source->adapted);
}

static int open_gguf(struct cllm_source *source, const char *path)
{
    struct cllm_model_config config;
    int rc = cllm_gguf_open(&source->gguf, path);

    if (rc == 0)
        rc = cllm_gguf_model_config(&source->gguf, &config);
    if (rc == 0)
        rc = cllm_parameters_init(&source->parameters, &config);
    if (rc == 0)
        rc = cllm_gguf_model_check(&source->gguf, &source->parameters);
    if (rc == 0)
        source->dtype = cllm_gguf_type_name(
            cllm_gguf_tensor(&source->gguf, "token_embd.weight")->type);
    return rc;
}

static int open_kind(struct cllm_source *source, const char *path, const char *base)
{
    int rc;

    if (base != NULL && source->kind != CLLM_SOURCE_PEFT)
        return cllm_err(CLLM_ECONFIG,
                        "%s (%s) is no adapter of peft's: it has no model "
                        "beneath it that could be named",
                        path, cllm_source_kind_name(source->kind));
    switch (source->kind) {
    case CLLM_SOURCE_HF:
        return open_hf(source, path);
    case CLLM_SOURCE_CHECKPOINT:
        return open_checkpoint(source, path);
    case CLLM_SOURCE_GGUF:
        return open_gguf(source, path);
    case CLLM_SOURCE_LLMC:
        rc = cllm_llmc_open(&source->llmc, path);
        source->dtype = source->llmc.version == CLLM_LLMC_F32 ? "f32" : "bf16";
        return rc == 0 ? cllm_parameters_init(&source->parameters, &source->llmc.config)
                       : rc;
    case CLLM_SOURCE_LLAMA2C:
        rc = cllm_llama2c_open(&source->llama2c, path);
        if (rc == CLLM_EDATA) {
            cllm_err_add(
                "%s has no magic number that is known at offset 0, so it would be "
                "llama2.c's",
                path);
            cllm_err_hint("known are GGUF, llm.c's and llama2.c's files, directories of "
                          "Hugging Face, checkpoints, runs and adapters of peft's");
        }
        source->dtype = "f32";
        return rc == 0
                   ? cllm_parameters_init(&source->parameters, &source->llama2c.config)
                   : rc;
    case CLLM_SOURCE_PEFT:
        return open_peft(source, path, base);
    case CLLM_SOURCE_NONE:
    case CLLM_N_SOURCE_KINDS:
    default:
        CLLM_ASSERT(false);
        return -EINVAL;
    }
}

int cllm_source_open(struct cllm_source *source, const char *path)
{
    return cllm_source_open_over(source, path, NULL);
}

int cllm_source_open_over(struct cllm_source *source, const char *path, const char *base)
{
    struct stat st;
    int rc;

    *source = (struct cllm_source){
        .init_range = 0.02, .gguf.fd = -1, .llmc.fd = -1, .llama2c.fd = -1};
    if (stat(path, &st) != 0)
        return cllm_err(-errno, "cannot open %s", path);
    (void)snprintf(source->path, sizeof source->path, "%s", path);
    rc = S_ISDIR(st.st_mode) ? tell_directory(path, &source->kind)
                             : tell_file(path, &source->kind);
    if (rc == 0)
        rc = open_kind(source, path, base);
    if (rc != 0) {
        if (source->kind == CLLM_SOURCE_NONE)
            source->kind = CLLM_SOURCE_HF;
        cllm_source_close(source);
    }
    return rc;
}

void cllm_source_close(struct cllm_source *source)
{
    if (source->kind == CLLM_SOURCE_NONE)
        return;
    cllm_hf_close(&source->hf);
    cllm_gguf_close(&source->gguf);
    cllm_llmc_close(&source->llmc);
    cllm_llama2c_close(&source->llama2c);
    cllm_parameters_fini(&source->parameters);
    cllm_parameters_fini(&source->adapters);
    free(source->adapted);
    source->adapted = NULL;
    source->kind = CLLM_SOURCE_NONE;
}

int cllm_source_read(const struct cllm_source *source, uint32_t index, float *out,
                     float *room)
{
    const struct cllm_parameters *parameters = &source->parameters;
    const struct cllm_tensor *tensor = &parameters->tensors[index];
    int rc;

    CLLM_ASSERT(index < parameters->n_tensors);
    switch (source->kind) {
    case CLLM_SOURCE_HF:
    case CLLM_SOURCE_CHECKPOINT:
    case CLLM_SOURCE_PEFT:
        rc = cllm_hf_read(&source->hf, index, out);
        if (rc == 0 && source->adapted != NULL)
            cllm_lora_merge(out, tensor, &source->adapters, source->adapted,
                            &source->lora);
        return rc;
    case CLLM_SOURCE_GGUF:
        return cllm_gguf_model_read(&source->gguf, parameters, tensor, out, room);
    case CLLM_SOURCE_LLMC:
        return cllm_llmc_read(&source->llmc, parameters, tensor, out, room);
    case CLLM_SOURCE_LLAMA2C:
        return cllm_llama2c_read(&source->llama2c, parameters, tensor, out, room);
    case CLLM_SOURCE_NONE:
    case CLLM_N_SOURCE_KINDS:
    default:
        CLLM_ASSERT(false);
        return -EINVAL;
    }
}

uint64_t cllm_source_room(const struct cllm_source *source)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < source->parameters.n_tensors; i++)
        if (source->parameters.tensors[i].count > most)
            most = source->parameters.tensors[i].count;
    return most;
}
