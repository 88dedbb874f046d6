/*
 * base/log.c - lines for people, with a status line that stays at the bottom of a
 * terminal.
 */
#include "base/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define HELD_MS 100 /* a reader that is only slow takes a line within this */

static struct {
    const char *role;
    enum cllm_log_level level;
    int file_fd;
    bool terminal;
    bool colour;
    char status[512];
} self = {.role = "cllm", .level = CLLM_LOG_INFO, .file_fd = -1};

static void write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n <= 0)
            return; /* nowhere left to say it */
        text += n;
        len -= (size_t)n;
    }
}

/*
 * A terminal that is held (Ctrl-S) or a pipe whose reader stands still must not stop a
 * run: who cannot take a line in a moment does not get it; the log file has it.
 */
static void to_stderr(const char *text, size_t len)
{
    static bool held;
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};

    held = poll(&out, 1, held ? 0 : HELD_MS) == 0;
    if (!held)
        write_all(STDERR_FILENO, text, len);
}

void cllm_log_init(const char *role, enum cllm_log_level level)
{
    const char *term = getenv("TERM");
    const char *no_color = getenv("NO_COLOR");

    self.role = role;
    self.level = level;
    self.terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    self.colour = self.terminal && !(no_color && no_color[0] != '\0');
}

void cllm_log_set_file(int fd)
{
    self.file_fd = fd;
}

bool cllm_log_is_terminal(void)
{
    return self.terminal;
}

static void to_file(const char *level_name, const char *text)
{
    char line[1400];
    char date[32];
    struct timespec ts;
    struct tm tm;
    int n;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    (void)gmtime_r(&ts.tv_sec, &tm);
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    n = snprintf(line, sizeof line, "%s.%03ldZ %s %s: %s\n", date, ts.tv_nsec / 1000000,
                 level_name, self.role, text);
    if (n > 0)
        write_all(self.file_fd, line, cllm_min_u64((uint64_t)n, sizeof line - 1));
}

void cllm_log(enum cllm_log_level level, const char *fmt, ...)
{
    static const char *const name[] = {"error", "warning", "info", "debug"};
    static const char *const before[] = {"\033[31m", "\033[33m", "", "\033[2m"};
    char text[1024], line[1900];
    va_list ap;
    int n;

    if (level > self.level)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    n = snprintf(line, sizeof line, "%s%s%s%s%s\n%s", self.status[0] ? "\r\033[K" : "",
                 self.colour ? before[level] : "",
                 level == CLLM_LOG_WARN    ? "warning: "
                 : level == CLLM_LOG_ERROR ? "error: "
                                           : "",
                 text, self.colour && before[level][0] ? "\033[0m" : "", self.status);
    if (n > 0)
        to_stderr(line, cllm_min_u64((uint64_t)n, sizeof line - 1));
    if (self.file_fd >= 0)
        to_file(name[level], text);
}

void cllm_log_status(const char *fmt, ...)
{
    struct winsize ws;
    char line[sizeof self.status + 16];
    size_t width = 100;
    va_list ap;
    int n;

    if (!self.terminal)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(self.status, sizeof self.status, fmt, ap);
    va_end(ap);
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col > 1)
        width = ws.ws_col - 1U;
    if (strlen(self.status) > width)
        self.status[cllm_min_u64(width, sizeof self.status - 1)] = '\0';
    n = snprintf(line, sizeof line, "\r\033[K%s", self.status);
    if (n > 0)
        to_stderr(line, (size_t)n);
}
