/*
 * loader/main.c - cllm-loader: reads windows of the shards ahead of training.
 *
 * One thread, which owns everything. It starts, opens the data, says hello with the way
 * it reads, and fills the ring until it is told to leave. Node Zero rings it after each
 * commit; it rings Node Zero whenever there is more to train on. What goes wrong with the
 * data is left in its page (failed, error, last words), and then it waits: Node Zero
 * decides.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/log.h"
#include "loader/fill.h"
#include "shm/child.h"
#include "shm/sandbox.h"
#include "shm/slot.h"

#define SLEEP_NS (100 * CLLM_NS_PER_MS)

struct loader {
    struct cllm_child child;
    struct cllm_mixture train;
    struct cllm_dataset valid;
    struct cllm_reader_file *file;
    struct cllm_reader reader;
    struct cllm_ring ring;
    struct cllm_fill fill;
    uint64_t seq; /* of the assignment that comes next */
};

/* The manifest in control: the training data's sections, "[valid]" LF lines. */
static int open_data(struct loader *loader)
{
    static const char valid_head[] = "[valid]\n";
    const char *text = loader->child.control.manifest;
    uint32_t context = loader->child.geometry->model.context;
    int rc = cllm_mixture_from_manifest(&loader->train, &text, context);

    if (rc != 0)
        return rc;
    if (strncmp(text, valid_head, strlen(valid_head)) != 0)
        return cllm_err(CLLM_EDATA, "the data manifest has no line [valid]");
    text += strlen(valid_head);
    if (text[0] == '\0')
        return 0;
    return cllm_dataset_from_manifest(&loader->valid, text, strlen(text), context);
}

static int open_reader(struct loader *loader)
{
    const struct cllm_config *config = &loader->child.config;
    struct cllm_reader_plan plan = {
        .method = {&cllm_reader_uring, &cllm_reader_pread},
        .max_bytes = cllm_fill_row_bytes(&loader->train, &loader->valid),
        .depth = (uint32_t)config->loader_queue_depth,
        .direct = config->loader_direct == CLLM_DIRECT_YES  ? CLLM_READER_DIRECT_YES
                  : config->loader_direct == CLLM_DIRECT_NO ? CLLM_READER_DIRECT_NO
                                                            : CLLM_READER_DIRECT_AUTO,
    };
    int rc;

    if (config->loader_method == CLLM_METHOD_PREAD)
        plan.method[0] = &cllm_reader_pread;
    if (config->loader_method != CLLM_METHOD_AUTO)
        plan.method[1] = NULL;
    loader->file = cllm_fill_files(&loader->train, &loader->valid, &plan.n_files);
    if (!loader->file)
        return -ENOMEM;
    plan.file = loader->file;
    rc = cllm_reader_open(&loader->reader, &plan);
    if (rc != 0 && config->loader_method == CLLM_METHOD_URING)
        cllm_err_hint("[loader] method = auto reads without io_uring where it must");
    return rc;
}

/* A shard is two descriptors; the usual soft limit is 1024. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int begin(struct loader *loader, uint64_t committed)
{
    const struct cllm_child *child = &loader->child;
    int rc;

    raise_descriptor_limit();
    rc = open_data(loader);
    if (rc != 0)
        return rc;
    cllm_fault(CLLM_FAULT_loader_data);
    rc = open_reader(loader);
    if (rc != 0)
        return rc;
    cllm_fault(CLLM_FAULT_loader_reader);
    rc = cllm_ring_open(&loader->ring, child->run_id, child->geometry, true);
    if (rc != 0)
        return rc;
    cllm_fault(CLLM_FAULT_loader_ring);
    loader->fill = (struct cllm_fill){
        .geometry = child->geometry,
        .ring = &loader->ring,
        .reader = &loader->reader,
        .train = &loader->train,
        .valid = &loader->valid,
        .status = &child->control.own->status,
        .generation = child->generation,
    };
    return cllm_fill_init(&loader->fill, committed);
}

static void end(struct loader *loader)
{
    cllm_fill_fini(&loader->fill);
    cllm_ring_close(&loader->ring);
    cllm_reader_close(&loader->reader);
    free(loader->file);
    cllm_mixture_close(&loader->train);
    cllm_dataset_close(&loader->valid);
    cllm_child_fini(&loader->child);
}

static void ring_node_zero(const struct loader *loader)
{
    const uint64_t one = 1;

    if (cllm_fault_error(CLLM_FAULT_loader_ring_zero) != 0)
        return;
    /* Node Zero looks on a timer as well; a lost ring costs time only. */
    if (loader->child.eventfd >= 0 &&
        write(loader->child.eventfd, &one, sizeof one) != (ssize_t)sizeof one)
        cllm_debug("Node Zero's eventfd takes no ring");
}

/* Is the next assignment there, and is it to leave? The loader knows no other. */
static bool told_to_leave(struct loader *loader)
{
    struct cllm_assignment work;

    if (!cllm_slot_next(&loader->child.control, loader->child.generation, loader->seq,
                        &work))
        return false;
    CLLM_ASSERT(work.kind == CLLM_WORK_EXIT);
    cllm_fault(CLLM_FAULT_loader_leave);
    loader->seq++;
    return true;
}

/* Node Zero judges by this word whether the loader hangs; waiting is no hanging. */
static void show_life(struct loader *loader)
{
    (void)atomic_fetch_add_explicit(&loader->child.control.own->status.progress, 1,
                                    memory_order_relaxed);
}

/* Give up, and wait for Node Zero to end the run: it knows what is worth saving. */
static void give_up(struct loader *loader, int rc)
{
    struct cllm_status *status = &loader->child.control.own->status;

    cllm_slot_last_words(&loader->child.control, cllm_err_text());
    cllm_err_print("cllm-loader");
    cllm_fault(CLLM_FAULT_loader_failing);
    cllm_store_relaxed(&status->error, rc);
    /* release: who acquires failed finds the error and the last words */
    cllm_store_release(&status->failed, 1);
    cllm_fault(CLLM_FAULT_loader_failed);
    ring_node_zero(loader);
    while (!told_to_leave(loader)) {
        cllm_slot_sleep(&loader->child.control, SLEEP_NS);
        show_life(loader);
        cllm_child_check_parent(&loader->child);
    }
}

static int serve(struct loader *loader)
{
    const struct cllm_state *state = loader->child.control.state;
    uint64_t told = loader->fill.filled;
    bool told_eval = false;

    while (!told_to_leave(loader)) {
        /* acquire: pairs with Node Zero's release after the step's record */
        int rc = cllm_fill_advance(&loader->fill, cllm_load_acquire(&state->committed));
        bool eval = cllm_load_relaxed(&loader->fill.status->eval_ready) != 0;

        if (rc < 0)
            return rc;
        if (loader->fill.filled != told || eval != told_eval)
            ring_node_zero(loader);
        told = loader->fill.filled;
        told_eval = eval;
        if (rc == 0)
            cllm_slot_sleep(&loader->child.control, SLEEP_NS);
        show_life(loader);
        cllm_child_check_parent(&loader->child);
    }
    return 0;
}

static void say_hello(struct loader *loader, int rc)
{
    const struct cllm_sandbox sandbox = {
        .role = CLLM_ROLE_LOADER,
        .off = loader->child.config.run_sandbox == CLLM_SANDBOX_OFF,
    };
    char how[CLLM_READER_TEXT] = "nothing yet: the last words say why";

    if (rc == 0)
        cllm_reader_describe(&loader->reader, how);
    /* All files are open by now, or never will be. */
    cllm_sandbox_enter(&sandbox, how, sizeof how);
    cllm_slot_say_hello(&loader->child.control, loader->child.generation, 0, how,
                        loader->child.eventfd);
}

int main(int argc, char **argv)
{
    static struct loader loader;
    int rc;

    loader.seq = 1;
    rc = cllm_child_init(&loader.child, CLLM_ROLE_LOADER, argc, argv);
    if (rc != 0)
        return cllm_child_fail(&loader.child, rc);
    /* acquire: pairs with Node Zero's release after the step's record */
    rc = begin(&loader, cllm_load_acquire(&loader.child.control.state->committed));
    /* Hello clears the page, so it comes before anything else is said there. */
    say_hello(&loader, rc);
    if (rc == 0)
        rc = serve(&loader);
    if (rc != 0)
        give_up(&loader, rc);
    end(&loader);
    return CLLM_EXIT_OK;
}
