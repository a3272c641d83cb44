/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill_loop: lives of a store on a real file system, each ended by SIGKILL at a random moment, and what each must have left.
 *
 * The parent's part: it draws epochs and lives from the seed, waits for the phase in which a life is to end, kills, and has a fresh process
 * verify. The first failure ends it; the directory is kept. The moments of death depend on the machine, so the line that repeats a
 * failure repeats its configuration and its calls, and usually needs some tries.
 */
#include <assert.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "soak.h"

#define EXIT_SKIPPED  77
#define MIB           ((uint64_t)1 << 20)
#define KILLS_DEFAULT 20
#define WORK_US_MAX   300000
#define SHORT_US_MAX  20000 /* opening and closing take about so long */
#define SAMPLE_US     2000

struct parent {
    const char *dir, *engine, *full; /* full: type of file system, or NULL */
    uint64_t seed, kills_max, seconds, began_us;
    uint32_t threads;
    bool damage, json;
    char scratch[SOAK_PATH_BYTES]; /* ours, in dir */
    char mount_path[SOAK_PATH_BYTES];
    int ledger_fd;
    struct ledger *ledger;
    struct random rng;
    uint64_t lives_left; /* of this epoch */
    char damaged[SOAK_PATH_BYTES];
    struct counts counts;
};

static volatile sig_atomic_t interrupted;

static void
on_interrupt(int number)
{
    interrupted = number;
}

static void
repro(const struct parent *parent, FILE *file)
{
    (void)fprintf(file,
                  "tests/soak/kill_loop --seed=%" PRIu64 " --kills=%" PRIu64 " --engine=%s --threads=%u --dir=%s%s%s%s",
                  parent->seed, parent->counts.kills + 1, parent->engine, parent->threads, parent->dir,
                  parent->damage ? " --damage" : "", parent->full != NULL ? " --full=" : "",
                  parent->full != NULL ? parent->full : "");
}

_Noreturn static void
failed(const struct parent *parent)
{
    (void)fprintf(stderr, "FAIL %s%s%s\nrepro: ", parent->ledger->failure, parent->damaged[0] != '\0' ? "; after " : "",
                  parent->damaged);
    repro(parent, stderr);
    if (parent->full != NULL)
        small_disk_keep(parent->mount_path, parent->scratch);
    (void)fprintf(stderr, "  # life %" PRIu64 "; kept: %s\n", parent->counts.lives, parent->scratch);
    exit(1);
}

static uint64_t
draw_log(struct random *rng, uint64_t max)
{
    uint64_t bits = 1;

    while ((uint64_t)1 << bits < max)
        bits++;
    return random_below(rng, (uint64_t)1 << (1 + random_below(rng, bits))) % max;
}

static void
begin_epoch(struct parent *parent)
{
    struct epoch *epoch = &parent->ledger->epoch;

    *epoch = (struct epoch){.threads = parent->threads};
    epoch->trouble = parent->damage ? TROUBLE_DAMAGE : parent->full != NULL ? TROUBLE_FULL : TROUBLE_NONE;
    (void)snprintf(epoch->path, sizeof(epoch->path), "%.*s/store", SOAK_PATH_BYTES - 8,
                   parent->full != NULL ? parent->mount_path : parent->scratch);
    (void)snprintf(epoch->engine, sizeof(epoch->engine), "%s", parent->engine);
    epoch_draw(epoch, &parent->rng);
    parent->lives_left = 3 + random_below(&parent->rng, 30);
    parent->counts.epochs++;
    directory_remove(epoch->path);
    ledger_begin_epoch(parent->ledger);
}

/* Bytes of the directory never exceed the capacity. In other modes there is nothing to say: damage adds bytes. */
static void
sample_bytes(struct parent *parent)
{
    const struct epoch *epoch = &parent->ledger->epoch;
    uint64_t bytes;

    if (epoch->trouble != TROUBLE_NONE)
        return;
    bytes = directory_bytes(epoch->path);
    if (bytes > epoch->capacity) {
        (void)snprintf(parent->ledger->failure, sizeof(parent->ledger->failure),
                       "the directory holds %" PRIu64 " bytes, capacity is %" PRIu64, bytes, epoch->capacity);
        failed(parent);
    }
}

static void
ballast(struct parent *parent)
{
    uint64_t left = random_below(&parent->rng, 3) == 0 ? UINT64_MAX : draw_log(&parent->rng, 8 * MIB);

    if (left != UINT64_MAX)
        parent->ledger->space_short = true;
    small_disk_fill(parent->mount_path, left);
}

/* While a worker works: another process may not have its store. */
static void
contend(struct parent *parent)
{
    pid_t pid;

    if (atomic_load(&parent->ledger->phase) != PHASE_WORKING)
        return;
    pid = process_start(ROLE_CONTENDER, parent->ledger_fd);
    if (process_wait(parent->ledger, pid) != ROLE_OK)
        failed(parent);
    parent->counts.locked++;
}

static void
work_for(struct parent *parent, uint64_t us)
{
    uint64_t end_us = now_us() + us, now;

    if (parent->full != NULL) {
        pause_us(us / 2);
        ballast(parent);
    }
    while ((now = now_us()) < end_us) {
        sample_bytes(parent);
        pause_us(end_us - now < SAMPLE_US ? end_us - now : SAMPLE_US);
    }
}

/* One worker, from its start to its end. */
static void
live(struct parent *parent)
{
    static const enum phase phases[] = {PHASE_OPENING, PHASE_WORKING, PHASE_WORKING, PHASE_CLOSING};
    struct ledger *ledger = parent->ledger;
    enum phase phase = phases[random_below(&parent->rng, 4)];
    bool closes = phase == PHASE_CLOSING, contended = phase == PHASE_WORKING && random_below(&parent->rng, 24) == 0;
    bool killed;
    uint64_t us = phase == PHASE_WORKING ? draw_log(&parent->rng, WORK_US_MAX) : draw_log(&parent->rng, SHORT_US_MAX);
    int code = ROLE_OK;
    pid_t pid;

    parent->counts.lives++;
    ledger->life_seed = random_next(&parent->rng);
    ledger->life_calls = closes ? 1 + random_below(&parent->rng, 400) : 0;
    ledger->space_short = parent->full != NULL; /* the store itself may have filled it */
    atomic_store(&ledger->phase, PHASE_START);
    if (parent->full != NULL) {
        parent->counts.full_lives++;
        ballast(parent);
    }
    pid = process_start(ROLE_WORKER, parent->ledger_fd);
    process_wait_phase(ledger, phase);
    if (phase == PHASE_WORKING)
        work_for(parent, us);
    else
        pause_us(us);
    if (contended && ledger->failure[0] == '\0')
        contend(parent);
    phase = atomic_load(&ledger->phase);
    killed = process_kill(parent->ledger, pid, &code);
    if (killed) {
        parent->counts.kills++;
        parent->counts.kills_opening += phase <= PHASE_OPENING;
        parent->counts.kills_working += phase == PHASE_WORKING;
        parent->counts.kills_closing += phase >= PHASE_CLOSING;
    } else {
        parent->counts.ended++;
    }
    if (ledger->failure[0] != '\0' || (code != ROLE_OK && code != ROLE_REFUSED))
        failed(parent);
    sample_bytes(parent);
}

/* True: what is there goes on living. */
static bool
verify(struct parent *parent)
{
    struct ledger *ledger = parent->ledger;
    int code;

    ledger->space_short = false;
    if (parent->full != NULL) { /* with luck it opens while the disk is full; if not, it must when it no longer is */
        ledger->space_short = random_below(&parent->rng, 3) == 0;
        if (!ledger->space_short)
            small_disk_fill(parent->mount_path, UINT64_MAX);
    }
    code = process_wait(ledger, process_start(ROLE_VERIFIER, parent->ledger_fd));
    if (code == ROLE_REFUSED) {
        parent->counts.refused++;
        if (parent->damage)
            return false;
        ledger->space_short = false;
        small_disk_fill(parent->mount_path, UINT64_MAX);
        code = process_wait(ledger, process_start(ROLE_VERIFIER, parent->ledger_fd));
    }
    if (code != ROLE_OK || ledger->failure[0] != '\0')
        failed(parent);
    parent->counts.verified++;
    sample_bytes(parent);
    return true;
}

static void
progress(const struct parent *parent)
{
    static uint64_t shown_us;

    if (isatty(STDOUT_FILENO) == 0 || now_us() - shown_us < 500000)
        return;
    shown_us = now_us();
    (void)printf("\r%" PRIu64 " s: %" PRIu64 " kills, %" PRIu64 " batches acknowledged, %" PRIu64 " pages verified ",
                 (shown_us - parent->began_us) / 1000000, parent->counts.kills,
                 atomic_load(&parent->ledger->totals.batches), atomic_load(&parent->ledger->totals.verified_pages));
    (void)fflush(stdout);
}

static bool
enough(const struct parent *parent)
{
    if (interrupted != 0)
        return true;
    if (parent->seconds > 0)
        return now_us() - parent->began_us >= parent->seconds * 1000000;
    return parent->counts.kills >= parent->kills_max;
}

static void
run(struct parent *parent)
{
    parent->began_us = now_us();
    for (bool alive = false; !enough(parent);) {
        if (!alive || parent->lives_left == 0)
            begin_epoch(parent);
        parent->lives_left--;
        live(parent);
        if (parent->damage && random_below(&parent->rng, 2) == 0) {
            directory_damage(parent->ledger->epoch.path, &parent->rng, parent->damaged);
            parent->counts.damages += parent->damaged[0] != '\0';
            ledger_forget(parent->ledger);
        }
        /* Some lives begin where a killed one ended, and are killed while they recover from it. */
        alive = parent->damage || random_below(&parent->rng, 4) > 0 || parent->lives_left == 0 || enough(parent)
                    ? verify(parent)
                    : true;
        parent->damaged[0] = '\0';
        progress(parent);
    }
}

/* A scratch directory, the ledger, and a store of this engine that opens: else 77 and why. */
static void
prepare(struct parent *parent)
{
    const char *problem = NULL;
    varve_store *store = NULL;
    varve_error err = {0};
    struct random rng;
    int rc;

    (void)snprintf(parent->scratch, sizeof(parent->scratch), "%.*s/soak-XXXXXX", SOAK_PATH_BYTES - 32, parent->dir);
    if (mkdtemp(parent->scratch) == NULL) {
        (void)printf("skipped: no directory can be made in %s\n", parent->dir);
        exit(EXIT_SKIPPED);
    }
    parent->ledger = ledger_create(&parent->ledger_fd);
    if (parent->ledger == NULL)
        exit(2);
    if (parent->full != NULL)
        problem = small_disk_mount(parent->full, parent->scratch, parent->mount_path);
    parent->rng = random_make(parent->seed);
    rng = parent->rng;
    if (problem == NULL) {
        begin_epoch(parent);
        parent->counts.epochs--;
        rc = soak_open(&parent->ledger->epoch, &rng, false, &store, &err);
        (void)varve_close(store, NULL);
        directory_remove(parent->ledger->epoch.path);
        parent->rng = random_make(parent->seed);
        problem = rc != VARVE_OK ? err.message : NULL;
    }
    if (problem != NULL) {
        (void)printf("skipped: %s engine=%s: %s\n", parent->full != NULL ? parent->full : parent->dir, parent->engine,
                     problem);
        if (parent->full != NULL)
            small_disk_unmount(parent->mount_path);
        directory_remove(parent->scratch);
        exit(EXIT_SKIPPED);
    }
}

static int
usage(void)
{
    (void)fputs("usage: kill_loop [--dir=DIR] [--kills=N | --seconds=S] [--seed=N] [--engine=uring|threads|auto]\n"
                "                 [--threads=N] [--damage | --full=tmpfs|ext4] [--json]\n"
                "  --dir      where to make a directory (default: $VARVE_TEST_DIR, else /tmp)\n"
                "  --damage   files are damaged between lives: no wrong byte, no crash\n"
                "  --full     on a small file system that fills up, and has room again (root only)\n"
                "Exit code 0: all held; 1: not, and the directory is kept; 77: skipped, with the reason\n",
                stderr);
    return 2;
}

static int
parse(int argc, char **argv, struct parent *parent, enum role *role)
{
    static const struct option options[] = {
        {"dir", required_argument, NULL, 'd'},     {"kills", required_argument, NULL, 'k'},
        {"seconds", required_argument, NULL, 't'}, {"seed", required_argument, NULL, 's'},
        {"engine", required_argument, NULL, 'e'},  {"threads", required_argument, NULL, 'n'},
        {"damage", no_argument, NULL, 'x'},        {"full", required_argument, NULL, 'f'},
        {"json", no_argument, NULL, 'j'},          {"role", required_argument, NULL, 'r'},
        {"ledger", required_argument, NULL, 'l'},  {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'd':
            parent->dir = optarg;
            break;
        case 'k':
            parent->kills_max = strtoull(optarg, NULL, 0);
            break;
        case 't':
            parent->seconds = strtoull(optarg, NULL, 0);
            break;
        case 's':
            parent->seed = strtoull(optarg, NULL, 0);
            break;
        case 'e':
            parent->engine = optarg;
            break;
        case 'n':
            parent->threads = (uint32_t)strtoul(optarg, NULL, 0);
            break;
        case 'x':
            parent->damage = true;
            break;
        case 'f':
            parent->full = optarg;
            break;
        case 'j':
            parent->json = true;
            break;
        case 'r':
            *role = (enum role)strtol(optarg, NULL, 10);
            break;
        case 'l':
            parent->ledger_fd = (int)strtol(optarg, NULL, 10);
            break;
        default:
            return -1;
        }
    }
    return optind == argc && parent->threads >= 1 && parent->threads <= THREADS_MAX ? 0 : -1;
}

static int
run_role(enum role role, int ledger_fd)
{
    struct ledger *ledger = ledger_map(ledger_fd);
    int code;

    if (ledger == NULL)
        return 2;
    if (role == ROLE_CONTENDER)
        return contender_run(ledger);
    if (role == ROLE_VERIFIER)
        return verifier_run(ledger);
    code = worker_run(ledger);
    atomic_store(&ledger->phase, PHASE_END);
    return code;
}

int
main(int argc, char **argv)
{
    const char *dir = getenv("VARVE_TEST_DIR");
    struct parent parent = {
        .dir = dir != NULL ? dir : "/tmp",
        .engine = "auto",
        .threads = 4,
        .seed = 1,
        .kills_max = KILLS_DEFAULT,
        .ledger_fd = -1,
    };
    enum role role = ROLE_WORKER;

    if (parse(argc, argv, &parent, &role) != 0)
        return usage();
    if (parent.ledger_fd >= 0)
        return run_role(role, parent.ledger_fd);
    prepare(&parent);
    (void)signal(SIGINT, on_interrupt);
    (void)signal(SIGTERM, on_interrupt);
    run(&parent);
    if (isatty(STDOUT_FILENO) != 0)
        (void)printf("\r%60s\r", "");
    report(&parent.counts, &parent.ledger->totals, parent.seed, now_us() - parent.began_us, parent.json);
    directory_remove(parent.ledger->epoch.path);
    if (parent.full != NULL)
        small_disk_unmount(parent.mount_path);
    directory_remove(parent.scratch);
    return 0;
}
