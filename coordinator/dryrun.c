/*
 * coordinator/dryrun.c - the plan of a run, for people.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/units.h"
#include "coordinator/plan.h"

#define GROUPS_SHOWN 8 /* workers of several threads, with their CPUs */

static void print_memory_row(const char *what, uint64_t bytes, const char *how)
{
    char size[CLLM_UNITS_BYTES];

    (void)printf("    %-22s %10s  %s\n", what, cllm_format_bytes(size, bytes), how);
}

static void print_memory(const struct cllm_plan *plan, const struct cllm_config *config)
{
    static const char *const again[] = {"", " (recompute = attention)",
                                        " (recompute = block)"};
    const struct cllm_geometry *g = &plan->geometry;
    char text[128], each[CLLM_UNITS_BYTES];

    (void)printf("  memory, shared (/dev/shm)\n");
    print_memory_row("control", plan->control_bytes, "");
    print_memory_row("parameters", plan->params_bytes,
                     "2 versions of weights and two moments, f32");
    if (plan->frozen_bytes > 0)
        print_memory_row("frozen weights", plan->frozen_bytes,
                         "once for all, f32: no versions, gradients, moments");
    (void)snprintf(text, sizeof text, "%u lane buffer%s of %s", g->n_buffers,
                   cllm_plural(g->n_buffers),
                   cllm_format_bytes(each, cllm_vector_bytes(g)));
    print_memory_row("gradients", plan->buffers_bytes, text);
    (void)snprintf(text, sizeof text, "%u fold%s", g->n_folds, cllm_plural(g->n_folds));
    if (!cllm_lanes_kept(g))
        print_memory_row("folded gradient", plan->folds_bytes, text);
    (void)snprintf(text, sizeof text, "%u batches for %u steps, %u for validation",
                   g->ring_slots, g->ring_steps, g->ring_eval_slots);
    print_memory_row("ring", plan->ring_bytes, text);
    (void)printf("  memory, private\n");
    (void)snprintf(text, sizeof text, "%u x %s: activations%s%s, code and libraries",
                   plan->workers + plan->spares,
                   cllm_format_bytes(each, plan->worker_bytes),
                   again[config->compute_recompute],
                   cllm_optimizer_arena_bytes(&plan->optimizer) > 0 ? ", Muon" : "");
    print_memory_row("workers", (plan->workers + plan->spares) * plan->worker_bytes,
                     text);
    if (plan->device_bytes > 0)
        print_memory_row("each device", plan->device_bytes,
                         "activations, weights, gradient; not in the total");
    print_memory_row("loader, saver, others",
                     plan->loader_bytes + plan->saver_bytes + plan->node_zero_bytes, "");
    print_memory_row("total", plan->total_bytes, "");
    print_memory_row("and at times up to", cllm_params_bytes(g),
                     "private, when a save is late and copies its version aside");
}

/* Each data set of a mixture: what it is, its share, how often it is gone through. */
static void print_mixture(const struct cllm_plan *plan, uint64_t sequences)
{
    const struct cllm_mixture *train = &plan->train;
    uint64_t counts[CLLM_MIX_MAX];
    char tokens[CLLM_UNITS_BYTES];

    if (train->part[0].name[0] == '\0')
        return;
    cllm_mix_count(&train->mix, sequences, counts);
    for (uint32_t i = 0; i < train->mix.n; i++) {
        const struct cllm_mixture_part *part = &train->part[i];

        (void)printf("    %-16s %6.2f %%  %s tokens in %" PRIu64 " shard%s: %" PRIu64
                     " of %" PRIu64 " window%s = %.2f epochs\n",
                     part->name,
                     100.0 * train->mix.weight[i] / (double)cllm_mix_total(&train->mix),
                     cllm_format_count(tokens, part->n_tokens), part->n_shards,
                     cllm_plural(part->n_shards), counts[i], part->n_windows,
                     cllm_plural(part->n_windows),
                     (double)counts[i] / (double)part->n_windows);
    }
}

static void print_data(const struct cllm_plan *plan)
{
    const struct cllm_geometry *g = &plan->geometry;
    uint64_t batch = (uint64_t)g->lanes * g->microbatches * g->sequences;
    char a[CLLM_UNITS_BYTES], b[CLLM_UNITS_BYTES];

    (void)printf("  training data  %s tokens in %" PRIu64 " shard%s: %" PRIu64
                 " window%s of %u tokens\n",
                 cllm_format_count(a, plan->train_tokens), plan->train_shards,
                 cllm_plural(plan->train_shards), plan->train_windows,
                 cllm_plural(plan->train_windows), g->model.context);
    print_mixture(plan, g->steps * batch);
    if (g->eval_microbatches > 0)
        (void)printf("  validation     %s tokens; %" PRIu64 " fixed windows of %" PRIu64
                     "\n",
                     cllm_format_count(a, plan->valid_tokens),
                     (uint64_t)g->lanes * g->eval_microbatches * g->sequences,
                     plan->valid_windows);
    else
        (void)printf("  validation     none\n");
    (void)printf("  steps          %" PRIu64 " = %s tokens = %.2f epochs\n", g->steps,
                 cllm_format_count(b, g->steps * batch * g->model.context),
                 (double)(g->steps * batch) / (double)plan->train_windows);
}

/* Parameters whose second moment is more than zeros, and those that Muon moves. */
static void count_parameters(const struct cllm_plan *plan, uint64_t *second,
                             uint64_t *muon)
{
    *second = *muon = 0;
    for (uint32_t t = 0; t < plan->parameters.n_tensors; t++) {
        enum cllm_optimizer_kind kind = cllm_optimizer_of(&plan->optimizer, t);

        if (cllm_optimizer_has_second(kind))
            *second += plan->parameters.tensors[t].count;
        if (kind == CLLM_OPTIMIZER_MUON)
            *muon += plan->parameters.tensors[t].count;
    }
}

/* What moves the parameters, what of its memory stays zero, and who is treated apart. */
static void print_optimizer(const struct cllm_plan *plan,
                            const struct cllm_config *config)
{
    const struct cllm_optimizer *optimizer = &plan->optimizer;
    char a[CLLM_UNITS_BYTES], b[CLLM_UNITS_BYTES];
    uint64_t second, muon;

    count_parameters(plan, &second, &muon);
    (void)printf("  optimizer      %s", cllm_optimizer_name(optimizer->settings.kind));
    if (optimizer->settings.kind == CLLM_OPTIMIZER_MUON)
        (void)printf(" for %s parameters, adamw for the rest; %s for it in each worker",
                     cllm_format_count(a, muon),
                     cllm_format_bytes(b, cllm_optimizer_arena_bytes(optimizer)));
    if (second < plan->parameters.n_params)
        (void)printf(
            "\n                 second moments of %s parameters stay zero: %s of "
            "each version and checkpoint",
            cllm_format_count(a, plan->parameters.n_params - second),
            cllm_format_bytes(b, (plan->parameters.n_params - second) * sizeof(float)));
    (void)printf("\n");
    for (uint32_t line = 0; line < config->train_group.n; line++) {
        uint32_t tensors = 0;
        uint64_t n = 0;

        for (uint32_t t = 0; t < plan->parameters.n_tensors; t++) {
            if (optimizer->groups.of[t].line != line + 1)
                continue;
            tensors++;
            n += plan->parameters.tensors[t].count;
        }
        (void)printf("    group        %s: %u tensor%s, %s parameters\n",
                     config->train_group.item[line], tensors, cllm_plural(tensors),
                     cllm_format_count(a, n));
    }
}

/* On which cores workers of several threads stay, if they do. */
static void print_groups(const struct cllm_plan *plan)
{
    const char *before = "\n                 each stays on its CPUs: ";
    cpu_set_t cpus;

    for (uint32_t slot = 0; slot < cllm_min_u64(plan->workers, GROUPS_SHOWN); slot++) {
        if (!cllm_placement_cpus(&plan->placement, slot, plan->workers, &cpus))
            return;
        for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &cpus))
                continue;
            (void)printf("%s%u", before, cpu);
            before = " ";
        }
        before = ", ";
    }
    if (plan->workers > GROUPS_SHOWN)
        (void)printf(", ...");
}

/* How many, why, and on which cores. */
static void print_workers(const struct cllm_plan *plan, const struct cllm_config *config)
{
    const struct cllm_placement *placement = &plan->placement;
    char text[CLLM_TOPOLOGY_TEXT];
    cpu_set_t cpus;

    (void)printf("  workers        %u", plan->workers);
    if (config->run_workers == CLLM_CONFIG_AUTO)
        (void)printf(" (auto)");
    if (placement->threads > 1)
        (void)printf(" of %u threads", placement->threads);
    if (plan->active < plan->workers)
        (void)printf(" in turns, %u at once,", plan->active);
    if (plan->spares > 0)
        (void)printf(" and %u spare%s", plan->spares, cllm_plural(plan->spares));
    if (placement->known)
        (void)printf(" on %s", cllm_topology_text(text, &placement->topology));
    if (placement->threads == 1 &&
        cllm_placement_cpus(placement, 0, plan->workers, &cpus))
        (void)printf("\n                 each stays on its CPU, of: %s",
                     cllm_topology_cpus(text, &placement->topology, plan->workers));
    else
        print_groups(plan);
    (void)printf("\n");
    if (plan->devices.why[0] != '\0')
        (void)printf("                 %s\n", plan->devices.why);
}

void cllm_plan_print(const struct cllm_plan *plan, const struct cllm_config *config)
{
    const struct cllm_geometry *g = &plan->geometry;
    uint64_t batch = (uint64_t)g->lanes * g->microbatches * g->sequences;
    char a[CLLM_UNITS_BYTES];

    (void)printf("run %s in %s\n", plan->run_id, plan->run_dir);
    (void)printf(
        "  model          %s parameters: %u layer%s, %u head%s, width %u, context %u, "
        "vocabulary %u\n",
        cllm_format_count(a, plan->model.n_params), g->model.layers,
        cllm_plural(g->model.layers), g->model.heads, cllm_plural(g->model.heads),
        g->model.width, g->model.context, g->model.vocab);
    if (g->model.arch == CLLM_ARCH_LLAMA)
        (void)printf(
            "                 llama: %u head%s of keys, %u elements each, hidden "
            "%u, output %s\n",
            g->model.kv_heads, cllm_plural(g->model.kv_heads), g->model.head_size,
            g->model.hidden, g->model.untied ? "of its own" : "tied");
    if (g->model.crystalline_bias)
        (void)printf("                 with a crystalline bias of attention\n");
    if (g->lora.rank > 0)
        (void)printf("  adapters       %s parameters (%.2f %%) of rank %u on %u matri%s "
                     "of each block learn; the rest is frozen\n",
                     cllm_format_count(a, g->n_params),
                     100.0 * (double)g->n_params / (double)plan->model.n_params,
                     g->lora.rank, plan->parameters.per_block / 2,
                     plan->parameters.per_block / 2 == 1 ? "x" : "ces");
    print_workers(plan, config);
    (void)printf("  batch          %" PRIu64 " sequence%s = %" PRIu64
                 " tokens = %u lane%s x %u micro-batch%s x %u sequence%s\n",
                 batch, cllm_plural(batch), batch * g->model.context, g->lanes,
                 cllm_plural(g->lanes), g->microbatches, cllm_plural_es(g->microbatches),
                 g->sequences, cllm_plural(g->sequences));
    if (plan->workers > g->lanes)
        (void)printf(
            "                 %u lane%s keep%s %u worker%s busy: [run] lanes = %u would "
            "keep all\n",
            g->lanes, cllm_plural(g->lanes), g->lanes == 1 ? "s" : "", g->lanes,
            cllm_plural(g->lanes),
            (uint32_t)cllm_div_up(plan->workers, CLLM_GROUP_LANES) * CLLM_GROUP_LANES);
    print_optimizer(plan, config);
    print_data(plan);
    (void)printf("  chunks         %u of %" PRIu64 " elements\n", g->n_chunks,
                 g->chunk_elements);
    print_memory(plan, config);
    (void)printf("  files\n");
    (void)printf("    %s/checkpoints/step-NNNNNNNNNN/   %s each, %" PRIu64
                 " newest kept, and best\n",
                 plan->run_dir, cllm_format_bytes(a, plan->checkpoint_bytes),
                 config->checkpoint_keep);
    if (g->lora.rank > 0)
        (void)printf("    %s/base/   %s, once: the frozen weights\n", plan->run_dir,
                     cllm_format_bytes(a, plan->model.n_params * sizeof(float)));
    (void)printf("    %s/{metrics,journal}.jsonl, log.txt, config.ini\n", plan->run_dir);
}
