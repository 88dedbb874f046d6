/*
 * tests/model_files.h - small models in files, for tests of formats and of cllm-convert.
 */
#ifndef CLLM_TESTS_MODEL_FILES_H
#define CLLM_TESTS_MODEL_FILES_H

#include "formats/sink.h"
#include "formats/source.h"

/* Families whose every number differs, so that a mixed-up one shows; rows of 32 and of
 * others. @untied: an output matrix of its own. */
struct cllm_model_config model_files_config(enum cllm_arch arch, bool untied);

/* Element @i of tensor @tensor: the same everywhere. */
float model_files_value(uint32_t tensor, uint64_t i);

/* Write such a model as @kind and @dtype to @path; asserts that it works. */
void model_files_write(const char *path, const struct cllm_model_config *config,
                       enum cllm_source_kind kind, enum cllm_sink_dtype dtype);

/* Read the model at @path and assert that it is the one of @config and every number
 * within @tolerance x (1/64 + its magnitude) of what it was; 0: the same bits. */
void model_files_check(const char *path, const struct cllm_model_config *config,
                       enum cllm_source_kind kind, double tolerance);

#endif /* CLLM_TESTS_MODEL_FILES_H */
