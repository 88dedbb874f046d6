/*
 * tests/logits.c - logits MODEL TOKEN...: what CLLM says after each token, a line of
 * numbers for each, for scripts/check-interop.sh to hold against others. MODEL is of any
 * kind that formats/source.h reads.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "compute/ops.h"
#include "formats/source.h"
#include "model/decoder.h"

static int run(const char *path, char **tokens, uint32_t n)
{
    struct cllm_source source;
    struct cllm_decoder decoder;
    struct cllm_arena arena = {0};
    float *w, *room; // vectors
    int rc = cllm_source_open(&source, path);

    if (rc != 0)
        return rc;
    const struct cllm_parameters *plan = &source.parameters;
    rc = cllm_arena_init(&arena, cllm_decoder_arena_bytes(plan) +
                                     2 * plan->n_elements * sizeof *w + 256);
    if (rc == 0) {
        cllm_decoder_init(&decoder, plan, cllm_ops_select(), &arena);
        w = cllm_arena_take(&arena, plan->n_elements * sizeof *w);
        room = cllm_arena_take(&arena, plan->n_elements * sizeof *room);
        for (uint32_t i = 0; rc == 0 && i < plan->n_tensors; i++)
            rc = cllm_source_read(&source, i, w + plan->tensors[i].off, room);
        for (uint32_t t = 0; rc == 0 && t < n && t < plan->config.context; t++) {
            const float *logits =
                cllm_decoder_step(&decoder, w, (uint32_t)strtoul(tokens[t], NULL, 10));
            for (uint32_t i = 0; i < plan->config.vocab; i++)
                (void)printf("%.9g%c", (double)logits[i],
                             i + 1 == plan->config.vocab ? '\n' : ' ');
        }
        cllm_arena_fini(&arena);
    }
    cllm_source_close(&source);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = argc < 3 ? cllm_err(CLLM_ECONFIG, "usage: logits MODEL TOKEN...")
                      : run(argv[1], argv + 2, (uint32_t)argc - 2);

    if (rc != 0)
        cllm_err_print("logits");
    return cllm_exit_code(rc);
}
