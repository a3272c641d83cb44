/* SPDX-License-Identifier: Apache-2.0 */
/* Processes: started as fresh images of this program, so that nothing but the ledger goes from one to the next. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "soak.h"

#define HUNG_US       ((uint64_t)120 * 1000000) /* far longer than anything takes */
#define POLL_US       500
#define PHASE_POLL_US 20

void
pause_us(uint64_t us)
{
    struct timespec time = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

    (void)nanosleep(&time, NULL);
}

uint64_t
now_us(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

pid_t
process_start(enum role role, int ledger_fd)
{
    char role_text[24], ledger_text[24];
    pid_t parent = getpid(), pid = fork();

    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    if (pid > 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(2);
    (void)signal(SIGINT, SIG_IGN); /* the parent's to decide */
    (void)signal(SIGTERM, SIG_IGN);
    (void)snprintf(role_text, sizeof(role_text), "--role=%d", (int)role);
    (void)snprintf(ledger_text, sizeof(ledger_text), "--ledger=%d", ledger_fd);
    (void)execl("/proc/self/exe", "kill_loop", role_text, ledger_text, (char *)NULL);
    perror("exec");
    _exit(2);
}

static int
exit_code(struct ledger *ledger, int status)
{
    if (WIFEXITED(status) && (WEXITSTATUS(status) != ROLE_FAILED || ledger->failure[0] != '\0'))
        return WEXITSTATUS(status);
    if (ledger->failure[0] == '\0')
        (void)snprintf(ledger->failure, sizeof(ledger->failure),
                       "the process died by itself (status %#x): see above what it said", (unsigned)status);
    return -1;
}

int
process_wait(struct ledger *ledger, pid_t pid)
{
    uint64_t began_us = now_us();
    int status = 0;
    pid_t ended;

    while ((ended = waitpid(pid, &status, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
        if (now_us() - began_us > HUNG_US) {
            (void)kill(pid, SIGABRT);
            (void)waitpid(pid, &status, 0);
            (void)snprintf(ledger->failure, sizeof(ledger->failure), "hung for %" PRIu64 " s in phase %u",
                           HUNG_US / 1000000, atomic_load(&ledger->phase));
            return -1;
        }
        pause_us(POLL_US);
    }
    return exit_code(ledger, status);
}

bool
process_kill(struct ledger *ledger, pid_t pid, int *code)
{
    int status = 0;

    (void)kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return true;
    *code = exit_code(ledger, status);
    return false;
}

void
process_wait_phase(const struct ledger *ledger, enum phase phase)
{
    uint64_t began_us = now_us();

    while (atomic_load(&ledger->phase) < (uint32_t)phase && ledger->failure[0] == '\0' && now_us() - began_us < HUNG_US)
        pause_us(PHASE_POLL_US);
}
