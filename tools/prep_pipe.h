/*
 * tools/prep_pipe.h - pieces of a corpus through several threads, and out in order.
 *
 * The calling thread reads pieces into a ring of jobs, any thread works on the next one,
 * and the calling thread takes them back in the order in which it read them. So what
 * comes out does not depend on the number of threads, and the ring bounds the memory: a
 * slow taker stops the reader.
 */
#ifndef CLLM_TOOLS_PREP_PIPE_H
#define CLLM_TOOLS_PREP_PIPE_H

#include "base/err.h"
#include "tools/prep_piece.h"

#define CLLM_PREP_THREADS_MOST 256

enum cllm_prep_job_state {
    CLLM_PREP_JOB_EMPTY = 0,
    CLLM_PREP_JOB_READY,
    CLLM_PREP_JOB_BUSY,
    CLLM_PREP_JOB_DONE
};

struct cllm_prep_job {
    enum cllm_prep_job_state state;
    uint64_t number; /* of the piece, from 0 */
    struct cllm_prep_piece piece;
    struct cllm_prep_tokens tokens; /* what work makes of it */
    int rc;                         /* of work */
    struct cllm_err_text error;     /* when that is negative */
};

/* In a thread: work on @job. Returns 0 or a negative code with text. */
typedef int (*cllm_prep_work_fn)(void *context, uint32_t thread,
                                 struct cllm_prep_job *job);

/* In the calling thread, in order: use @job's results. The same. */
typedef int (*cllm_prep_take_fn)(void *context, const struct cllm_prep_job *job);

struct cllm_prep_pipe {
    struct cllm_prep_reader *reader;
    uint32_t n_threads; /* 1 to CLLM_PREP_THREADS_MOST */
    cllm_prep_work_fn work;
    cllm_prep_take_fn take;
    void *context; /* of both */
};

/* All that the reader has. Returns 0, or the first negative code, in the order of the
 * input, with text; the threads have ended. */
int cllm_prep_pipe_run(const struct cllm_prep_pipe *pipe);

#endif /* CLLM_TOOLS_PREP_PIPE_H */
