/* SPDX-License-Identifier: Apache-2.0 */
/* The lives of one process: it opens the store, its callers call, it closes, or is killed; and it is started again. */
#include <inttypes.h>

#include "peer/role.h"
#include "peers.h"
#include "sim_log.h"

#define START_NS       20000000u   /* until a process is started, at most */
#define START_AGAIN_NS 1000000000u /* after an open that failed */

static bool
is_dead(const struct peers_process *process)
{
    return process->view->dead || process->peers->run.disk->stopped;
}

/* An open may find an owner that does not answer, and nobody else: it says so after a time. */
static void
judge_open(struct peers_process *process, int rc, uint64_t took_ns, const varve_error *err)
{
    bool waited = took_ns >= process->peers->settings.timeout_ms * 1000000;

    PEERS_COUNT(process->peers, OPENS, rc == VARVE_OK);
    if (rc == VARVE_OK || is_dead(process))
        return;
    PEERS_COUNT(process->peers, OPENS_FAILED, 1);
    sim_log("%s   open: %d %s", sched_name(), rc, err->message);
    if (process->peers->calm || !waited || (rc != VARVE_E_TIMEOUT && rc != VARVE_E_LOCKED))
        sim_fail("open: %d %s", rc, err->message);
}

static void
process_open(struct peers_process *process)
{
    varve_options *options = threads_options(&process->peers->run.config);
    uint64_t began_ns = process->peers->run.disk->now_ns;
    varve_store *store = NULL;
    varve_error err = {0};
    int rc;

    sched_note("open");
    sim_log("%s open process %u", sched_name(), process->number);
    rc = role_open(&process->view->env, options, &store, &err);
    varve_options_destroy(options);
    judge_open(process, rc, process->peers->run.disk->now_ns - began_ns, &err);
    process->refused = rc != VARVE_OK;
    if (rc == VARVE_OK)
        process->store = store;
}

static void
run_callers(struct peers_process *process)
{
    uint32_t count = process->peers->settings.callers;

    for (uint32_t i = 0; i < count; i++) {
        peers_caller_init(&process->callers[i], process, sim_rng_next(&process->peers->run.rng));
        if (pthread_create(&process->callers[i].thread, NULL, peers_caller_main, &process->callers[i]) != 0)
            sim_fail("no thread could be made");
    }
    sched_note("join callers");
    for (uint32_t i = 0; i < count; i++)
        (void)pthread_join(process->callers[i].thread, NULL);
}

/* The world looks at all open stores when there are no calls any more. */
static void
be_quiet(struct peers_process *process)
{
    struct peers *peers = process->peers;

    process->quiet = true;
    sched_signal(peers, NULL);
    while (!peers->released && !is_dead(process) && !process->leaves) {
        sched_note("quiet");
        (void)sched_wait(process, SIM_NEVER);
    }
    process->quiet = false;
}

static bool
others_have_it(const struct peers_process *process)
{
    bool others = false;

    for (uint32_t i = 0; i < process->peers->settings.processes; i++)
        others = others || (i != process->number && peers_is_open(&process->peers->processes[i]));
    return others;
}

/* In the process, of which much may still happen. */
static void
process_close(struct peers_process *process, varve_store *store)
{
    struct peers *peers = process->peers;
    bool owner = role_is_owner(store);
    uint64_t begin = model_tick(peers->run.model);
    varve_error err = {0};
    int rc;

    sched_note("close");
    sim_log("%s close process %u", sched_name(), process->number);
    PEERS_COUNT(peers, OWNER_CLOSES, owner && others_have_it(process));
    process->closing = true;
    rc = varve_close(store, &err);
    process->closing = false;
    PEERS_COUNT(peers, CLOSES, 1);
    if (rc == VARVE_OK && owner && !is_dead(process))
        model_sync_end(peers->run.model, begin);
    else if (rc != VARVE_OK && !is_dead(process))
        sim_fail("varve_close: %s", err.message);
}

/* Free what the process had. */
static void
process_end(struct peers_process *process)
{
    struct peers *peers = process->peers;
    varve_store *store = process->store;

    process->store = NULL;
    if (store != NULL)
        peers_count_store(peers, store);
    if (store != NULL && !is_dead(process)) {
        process_close(process, store);
        store = NULL;
    }
    sched_join_group(NULL); /* a stopped process unwinds, too */
    if (is_dead(process)) {
        sched_note("settle");
        while (!process->view->settled)
            (void)sched_wait(process, SIM_NEVER);
    }
    if (store != NULL)
        role_abandon(store);
    process->points_left = 0;
    process->hangs = false;
    process->group.stopped_until_ns = 0;
    if (process->view->held > 0)
        sim_fail("process %u: %" PRIu64 " files, queues, sockets and allocations left", process->number,
                 process->view->held);
    sim_view_destroy(process->view);
    process->view = NULL;
}

static void
process_live(struct peers_process *process)
{
    struct peers *peers = process->peers;

    sched_note("start");
    (void)sched_wait(process, peers->run.disk->now_ns +
                                  sim_rng_log(&peers->run.rng, process->refused ? START_AGAIN_NS : START_NS));
    memset(process->namespaces, 0, sizeof(process->namespaces));
    process->leaves = false;
    process->view = sim_view_create(peers->run.disk);
    sim_net_attach(peers->net, process->view);
    sched_join_group(&process->group);
    process_open(process);
    if (process->store != NULL) {
        run_callers(process);
        sched_join_group(NULL);
        if (!is_dead(process) && peers->run.calls_left == 0)
            be_quiet(process);
        sched_join_group(&process->group);
    }
    process_end(process);
}

void *
peers_keeper_main(void *arg)
{
    struct peers_process *process = arg;
    struct peers *peers = process->peers;
    bool first = true;

    while (first || (peers->run.calls_left > 0 && !peers->run.disk->stopped)) {
        process_live(process);
        first = false;
    }
    process->gone = true;
    sched_signal(peers, NULL);
    return NULL;
}
