/*
 * base/log.h - people's lines: stderr, and a log file where a run has one.
 *
 * Each line is one write(2), so lines of different processes never mix. Colour only on a
 * terminal and without NO_COLOR. Data for programs goes to stdout and never through here.
 */
#ifndef CLLM_BASE_LOG_H
#define CLLM_BASE_LOG_H

#include "base/base.h"

enum cllm_log_level { CLLM_LOG_ERROR = 0, CLLM_LOG_WARN, CLLM_LOG_INFO, CLLM_LOG_DEBUG };

/* @role names this process in the log file ("node-zero", "worker 3"); it must stay
 * valid. */
void cllm_log_init(const char *role, enum cllm_log_level level);

/* Also append to @fd (O_APPEND), with date and role. -1 ends that. */
void cllm_log_set_file(int fd);

void cllm_log(enum cllm_log_level level, const char *fmt, ...) CLLM_PRINTF(2, 3);
#define cllm_info(...)  cllm_log(CLLM_LOG_INFO, __VA_ARGS__)
#define cllm_warn(...)  cllm_log(CLLM_LOG_WARN, __VA_ARGS__)
#define cllm_error(...) cllm_log(CLLM_LOG_ERROR, __VA_ARGS__)
#define cllm_debug(...) cllm_log(CLLM_LOG_DEBUG, __VA_ARGS__)

/*
 * The status line: the last line on a terminal, redrawn in place below the log lines.
 * Without a terminal on stderr it does nothing. "" removes it.
 */
void cllm_log_status(const char *fmt, ...) CLLM_PRINTF(1, 2);
bool cllm_log_is_terminal(void);

#endif /* CLLM_BASE_LOG_H */
