/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of text lines, and the one way out of a failed run. */
#include "sim_log.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define LOG_LINES      200
#define LOG_LINE_BYTES 160
#define REPRO_BYTES    4096 /* a shrunk run lists its calls */

static struct {
    char lines[LOG_LINES][LOG_LINE_BYTES];
    size_t count; /* ever logged */
    bool verbose;
    char repro[REPRO_BYTES];
} ring;

void
sim_log_begin(const char *repro)
{
    ring.count = 0;
    (void)snprintf(ring.repro, sizeof(ring.repro), "%s", repro);
}

void
sim_log_verbose(bool on)
{
    ring.verbose = on;
}

void
sim_log(const char *format, ...)
{
    char *line = ring.lines[ring.count % LOG_LINES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, LOG_LINE_BYTES, format, args);
    va_end(args);
    ring.count++;
    if (ring.verbose)
        printf("%s\n", line);
}

void
sim_fail(const char *format, ...)
{
    size_t first = ring.count > LOG_LINES ? ring.count - LOG_LINES : 0;
    va_list args;

    if (!ring.verbose) {
        for (size_t i = first; i < ring.count; i++)
            printf("%s\n", ring.lines[i % LOG_LINES]);
    }
    printf("FAILED: ");
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    printf("\nrepro: %s\n", ring.repro);
    (void)fflush(stdout);
    _exit(1); /* what leaked is not the news */
}

static void *
must(void *ptr)
{
    if (ptr == NULL) {
        (void)fprintf(stderr, "sim: out of memory\n");
        abort();
    }
    return ptr;
}

void *
sim_alloc(size_t size)
{
    return must(calloc(1, size == 0 ? 1 : size));
}

void *
sim_realloc(void *ptr, size_t size)
{
    return must(realloc(ptr, size == 0 ? 1 : size));
}

static void
on_alarm(int signal_number)
{
    static const char text[] = "FAILED: the run does not end\nrepro: ";

    (void)signal_number;
    /* Only what a signal handler may call. */
    if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0 || write(STDOUT_FILENO, ring.repro, strlen(ring.repro)) < 0 ||
        write(STDOUT_FILENO, "\n", 1) < 0)
        _exit(2);
    abort(); /* leaves a core, or a stack in the debugger */
}

void
sim_watchdog(unsigned seconds)
{
    struct itimerval timer = {.it_value = {.tv_sec = (time_t)seconds}};
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_alarm;
    (void)sigaction(SIGALRM, &action, NULL);
    (void)setitimer(ITIMER_REAL, &timer, NULL);
}
