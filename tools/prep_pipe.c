/*
 * tools/prep_pipe.c - the ring of jobs, its lock and its threads.
 */
#include "tools/prep_pipe.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define MOST_JOBS    ((size_t)2 * CLLM_PREP_THREADS_MOST + 2)
#define FLIGHT_BYTES ((size_t)16 << 20) /* of text in all jobs; one may be larger */

/* Jobs are numbered as they are read; job k lies in job[k % n_jobs]. All numbers but
 * `taken` and `read`, which are the caller's alone, are under the lock. */
struct ring {
    const struct cllm_prep_pipe *pipe;
    struct cllm_prep_job *job; /* [n_jobs] */
    size_t n_jobs;
    pthread_mutex_t lock;
    pthread_cond_t ready; /* for threads: a job is READY, or it is over */
    pthread_cond_t done;  /* for the caller: a job is DONE */
    size_t next;          /* job to be worked on next */
    bool over;

    size_t read, taken; /* jobs */
    size_t flight;      /* bytes of text in jobs that are read and not taken */
};

struct worker {
    struct ring *ring;
    uint32_t number;
    pthread_t thread;
};

static void *work(void *argument)
{
    const struct worker *worker = argument;
    struct ring *ring = worker->ring;
    const struct cllm_prep_pipe *pipe = ring->pipe;

    (void)pthread_mutex_lock(&ring->lock);
    for (;;) {
        struct cllm_prep_job *job = &ring->job[ring->next % ring->n_jobs];
        if (ring->over)
            break;
        if (job->state != CLLM_PREP_JOB_READY) {
            (void)pthread_cond_wait(&ring->ready, &ring->lock);
            continue;
        }
        job->state = CLLM_PREP_JOB_BUSY;
        ring->next++;
        (void)pthread_mutex_unlock(&ring->lock);
        job->rc = pipe->work(pipe->context, worker->number, job);
        if (job->rc < 0)
            cllm_err_save(&job->error);
        (void)pthread_mutex_lock(&ring->lock);
        job->state = CLLM_PREP_JOB_DONE;
        (void)pthread_cond_signal(&ring->done);
    }
    (void)pthread_mutex_unlock(&ring->lock);
    return NULL;
}

static void set_state(struct ring *ring, struct cllm_prep_job *job,
                      enum cllm_prep_job_state state)
{
    (void)pthread_mutex_lock(&ring->lock);
    job->state = state;
    if (state == CLLM_PREP_JOB_READY)
        (void)pthread_cond_signal(&ring->ready);
    (void)pthread_mutex_unlock(&ring->lock);
}

/* Read as many pieces as the ring may hold. *@more: there are others behind them. */
static int read_ahead(struct ring *ring, bool *more)
{
    int rc = 1;

    while (*more && ring->read - ring->taken < ring->n_jobs &&
           (ring->flight < FLIGHT_BYTES || ring->read == ring->taken)) {
        struct cllm_prep_job *job = &ring->job[ring->read % ring->n_jobs];
        rc = cllm_prep_reader_next(ring->pipe->reader, &job->piece);
        *more = rc == 1;
        if (rc != 1)
            break;
        job->number = ring->read++;
        ring->flight += job->piece.text.n;
        set_state(ring, job, CLLM_PREP_JOB_READY);
    }
    return rc < 0 ? rc : 0;
}

/* A large text leaves no large buffers behind. */
static void shrink(struct cllm_prep_job *job)
{
    if (job->piece.text.capacity > 8 * CLLM_PREP_PIECE_BYTES)
        cllm_prep_piece_fini(&job->piece);
    if (job->tokens.capacity > 8 * CLLM_PREP_PIECE_BYTES)
        cllm_prep_tokens_fini(&job->tokens);
}

/* Wait for the oldest job and use it. */
static int take_one(struct ring *ring)
{
    struct cllm_prep_job *job = &ring->job[ring->taken % ring->n_jobs];

    (void)pthread_mutex_lock(&ring->lock);
    while (job->state != CLLM_PREP_JOB_DONE)
        (void)pthread_cond_wait(&ring->done, &ring->lock);
    (void)pthread_mutex_unlock(&ring->lock);
    if (job->rc < 0)
        cllm_err_restore(&job->error);
    int rc = job->rc < 0 ? job->rc : ring->pipe->take(ring->pipe->context, job);
    ring->flight -= job->piece.text.n;
    shrink(job);
    set_state(ring, job, CLLM_PREP_JOB_EMPTY);
    ring->taken++;
    return rc;
}

/* A mistake of the reader counts only after all that was read before it. */
static int drive(struct ring *ring)
{
    struct cllm_err_text error;
    bool more = true;
    int read_rc = 0, rc = 0;

    while (rc == 0 && (more || ring->taken < ring->read)) {
        int now = read_ahead(ring, &more);
        if (now < 0) {
            read_rc = now;
            cllm_err_save(&error);
        }
        if (ring->taken < ring->read)
            rc = take_one(ring);
    }
    if (rc == 0 && read_rc < 0) {
        cllm_err_restore(&error);
        rc = read_rc;
    }
    return rc;
}

/* Threads take no signals: those are the caller's. */
static int start(struct worker *worker)
{
    sigset_t all, before;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&worker->thread, NULL, work, worker);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed == 0 ? 0 : cllm_err(-failed, "cannot start a thread");
}

int cllm_prep_pipe_run(const struct cllm_prep_pipe *pipe)
{
    static struct worker worker[CLLM_PREP_THREADS_MOST];
    struct ring ring = {.pipe = pipe,
                        .n_jobs = (size_t)2 * pipe->n_threads + 2,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .ready = PTHREAD_COND_INITIALIZER,
                        .done = PTHREAD_COND_INITIALIZER};
    uint32_t n = 0;
    int rc = 0;

    CLLM_ASSERT(pipe->n_threads > 0 && ring.n_jobs <= MOST_JOBS);
    ring.job = calloc(ring.n_jobs, sizeof *ring.job);
    if (ring.job == NULL)
        return cllm_err(-ENOMEM, "cannot start the threads");
    while (rc == 0 && n < pipe->n_threads) {
        worker[n] = (struct worker){.ring = &ring, .number = n};
        rc = start(&worker[n]);
        n += rc == 0 ? 1 : 0;
    }
    if (rc == 0)
        rc = drive(&ring);
    (void)pthread_mutex_lock(&ring.lock);
    ring.over = true;
    (void)pthread_cond_broadcast(&ring.ready);
    (void)pthread_mutex_unlock(&ring.lock);
    for (uint32_t i = 0; i < n; i++)
        (void)pthread_join(worker[i].thread, NULL);
    for (size_t i = 0; i < ring.n_jobs; i++) {
        cllm_prep_piece_fini(&ring.job[i].piece);
        cllm_prep_tokens_fini(&ring.job[i].tokens);
    }
    free(ring.job);
    return rc;
}
