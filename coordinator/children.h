/*
 * coordinator/children.h - processes: the only file of CLLM that forks, kills and reaps.
 *
 * Every child is fork + exec with its own binary, in a process group of its own (a Ctrl-C
 * in the terminal reaches the guardian alone), with a scrubbed environment, default
 * signals, PR_SET_PDEATHSIG = SIGKILL, and a pidfd. Signals go through the pidfd, so that
 * a pid used again by a stranger is never hit.
 */
#ifndef CLLM_COORDINATOR_CHILDREN_H
#define CLLM_COORDINATOR_CHILDREN_H

#include <sched.h>
#include <sys/types.h>

#include "base/base.h"

struct cllm_process {
    pid_t pid;    /* 0 = none */
    int pidfd;    /* readable when it has ended; -1 = none */
    bool stopped; /* by a signal, as cllm_process_stopped() last saw it */
};

/* What the kernel knows of a living process. */
struct cllm_usage {
    char state;      /* of /proc/PID/stat: R S D T t Z ... */
    uint64_t cpu_ns; /* processor time used so far */
    bool traced;     /* a debugger holds it */
};

/* How a process ended. */
struct cllm_ending {
    bool by_signal;
    int code;   /* exit code, or signal number */
    bool fault; /* SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS: it may have scribbled
                 */
    char text[64];   /* "killed by SIGKILL", "exit code 1" */
    char where[160]; /* from its crash record: what happened and where; "" = unknown */
    uint32_t crash;  /* RUN/crash/<crash>.txt has more; 0 = no file */
};

#define CLLM_SPAWN_FDS 3

struct cllm_spawn {
    int keep_fd[CLLM_SPAWN_FDS]; /* stay open in the child; 0 = none; all others are
                                    CLOEXEC */
    int oom_score;               /* for the kernel's OOM killer; a refusal is ignored */
    bool pinned;                 /* runs on @cpus alone; a refusal costs only speed */
    cpu_set_t cpus;
    int output;     /* becomes its standard output; 0 = it has ours */
    bool device;    /* loads drivers, which look into their user's environment */
    bool node_zero; /* keeps its user's environment, and stop signals wait until it looks
                     */
};

/* Execute @path with @argv (NULL-terminated). Returns 0 or a negative errno with text. */
int cllm_process_spawn(struct cllm_process *process, const char *path, char *const argv[],
                       const struct cllm_spawn *how);

/*
 * Let all threads of @process, a child, run on @cpus alone, or, with NULL, wherever this
 * process may. A refusal costs only speed.
 */
void cllm_process_pin(const struct cllm_process *process, const cpu_set_t *cpus);

/* Send @signal; a process that has ended already is not an error. */
void cllm_process_signal(const struct cllm_process *process, int signal);

/*
 * Is it stopped (SIGSTOP and its kind)? Takes the news that the kernel keeps for the
 * parent; SIGCHLD tells when there is some. Never reaps.
 */
bool cllm_process_stopped(struct cllm_process *process);

/* Returns false when /proc does not tell; the caller then judges nobody. */
bool cllm_process_usage(const struct cllm_process *process, struct cllm_usage *usage);

/* The process has ended (its pidfd is readable): reap it, close the pidfd, say how. */
void cllm_process_reap(struct cllm_process *process, struct cllm_ending *ending);

/*
 * Reap children that are nobody's any more: orphans of a killed Node Zero. True when one
 * of them was ended by a fault signal.
 */
bool cllm_process_reap_orphans(void);

/* This process reaps its children itself, whatever it inherited. */
void cllm_process_expect_children(void);

/* Has it ended? Waits up to @timeout_ms for it. */
bool cllm_process_ended(const struct cllm_process *process, int timeout_ms);

/* "SIGKILL" for 9, "signal 77" for unknown ones. */
const char *cllm_signal_name(int signal, char out[16]);

/* Directory of this program's binary, where its siblings are. Returns 0 or a negative
 * errno. */
int cllm_binary_directory(char *out, size_t bytes);

#endif /* CLLM_COORDINATOR_CHILDREN_H */
