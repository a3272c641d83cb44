/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to processes: a thread of no process draws it, and sees that dead ones are settled and that there is an owner soon after. */
#include "peer/peer.h"
#include "peer/role.h"
#include "peers.h"
#include "sim_log.h"

#define MS              1000000u
#define QUESTION_POINTS 12                   /* env calls after a question, at most */
#define STRAND_POINTS   40                   /* the same, until a put that reserves has begun to write */
#define WRITERS_NS      (400 * (uint64_t)MS) /* a new owner waits for writes of others */
#define STRAND_NS       (20 * (uint64_t)MS)
#define LOOK_NS         (5 * MS) /* the world is looked at so often */
#define HANG_MAX_NS     (40000 * (uint64_t)MS)
#define HANG_LONG_NS    (16000 * (uint64_t)MS) /* more than a put is given by the owner */
/* Whoever calls becomes the owner of a store that has none, in the time that one look for an owner takes, and the recovery. */
#define OWNERLESS_MAX_NS (20000 * (uint64_t)MS)

static struct peers *
peers_of(struct run *run)
{
    return (struct peers *)(void *)run;
}

bool
peers_is_open(const struct peers_process *process)
{
    return process->view != NULL && !process->view->dead && process->store != NULL;
}

struct peers_process *
peers_owner(struct peers *peers)
{
    for (uint32_t i = 0; i < peers->settings.processes; i++) {
        if (peers_is_open(&peers->processes[i]) && role_is_owner(peers->processes[i].store))
            return &peers->processes[i];
    }
    return NULL;
}

static bool
is_stopped(const struct peers_process *process)
{
    return process->group.stopped_until_ns > process->peers->run.disk->now_ns;
}

static bool
is_putting(const struct peers_process *process)
{
    bool putting = false;

    for (uint32_t i = 0; i < process->peers->settings.callers; i++)
        putting = putting || (process->callers[i].calling && process->callers[i].putting);
    return putting;
}

/* What the process is doing. */
static void
count_kill(const struct peers_process *process)
{
    struct peers *peers = process->peers;
    bool open = process->store != NULL, owner = open && role_is_owner(process->store);

    PEERS_COUNT(peers, KILLS, 1);
    PEERS_COUNT(peers, OWNER_KILLS, owner);
    PEERS_COUNT(peers, KILLS_IN_OPEN, !open && !process->closing);
    PEERS_COUNT(peers, KILLS_IN_CLOSE, process->closing);
    PEERS_COUNT(peers, KILLS_IN_PUT, open && !owner && is_putting(process));
    PEERS_COUNT(peers, KILLS_IN_COMMIT, sim_net_asks(peers->net, process->view, MESSAGE_COMMIT, false));
    PEERS_COUNT(peers, OWNER_KILLS_IN_COMMIT, sim_net_asks(peers->net, process->view, MESSAGE_COMMIT, true));
    PEERS_COUNT(peers, KILLS_IN_TAKEOVER, open && !owner && process->store->peer->electing);
}

void
peers_kill(struct peers_process *process)
{
    struct peers *peers = process->peers;
    struct sim_disk *disk = peers->run.disk;

    if (process->view == NULL || process->view->dead)
        return;
    sim_log("KILL process %u", process->number);
    count_kill(process);
    sim_view_kill(process->view);
    PEERS_COUNT(peers, ORPHANS, process->view->orphan_count);
    process->points_left = 0;
    process->group.stopped_until_ns = 0;
    process->settle_ns = disk->now_ns + sim_rng_log(&peers->run.rng, peers->settings.settle_ns);
    peers->run.segment_drops++; /* a segment may have been on its way */
    model_death(peers->run.model);
    sched_signal(NULL, &process->group);
    sched_signal(process, NULL);
}

static void
settle(struct peers_process *process)
{
    struct peers *peers = process->peers;

    sim_log("settle process %u", process->number);
    sim_view_settle(process->view, &peers->run.rng);
    sim_net_settle(peers->net, process->view);
    sched_signal(process, NULL);
}

/* Another one, or, now and then, anyone. */
static struct peers_process *
choose_process(struct peers *peers)
{
    struct peers_process *owner = peers_owner(peers);

    if (owner != NULL && sim_rng_chance(&peers->run.rng, peers->settings.owner_per_mille))
        return owner;
    return &peers->processes[sim_rng_below(&peers->run.rng, peers->settings.processes)];
}

/* The owner dies while the process is stopped in the middle of a put: it will write, for an owner that is no more. */
static void
strand(struct peers_process *process)
{
    struct peers_process *owner = peers_owner(process->peers);

    process->strands = false;
    if (owner == NULL || owner == process)
        return;
    PEERS_COUNT(process->peers, STRANDED, is_putting(process));
    peers_kill(owner);
    owner->settle_ns = process->peers->run.disk->now_ns; /* all that it has in flight is soon over */
}

static void
hang(struct peers_process *process)
{
    struct peers *peers = process->peers;
    uint64_t now_ns = peers->run.disk->now_ns, time_ns;

    if (process->view->dead || is_stopped(process))
        return;
    if (process->strands) {
        time_ns = sim_rng_between(&peers->run.rng, STRAND_NS, WRITERS_NS);
        strand(process);
    } else {
        time_ns =
            MS * sim_rng_log(&peers->run.rng,
                             sim_rng_chance(&peers->run.rng, 300) ? HANG_MAX_NS / MS : 4 * peers->settings.timeout_ms);
        if (sim_rng_chance(&peers->run.rng, 50))
            time_ns = HANG_MAX_NS;
    }
    sim_log("HANG process %u for %llu us", process->number, (unsigned long long)time_ns / 1000);
    process->group.stopped_until_ns = now_ns + time_ns;
    peers->late_writers = peers->late_writers || time_ns > WRITERS_NS;
    process->stopped_ns += time_ns;
    PEERS_COUNT(peers, HANGS, 1);
    PEERS_COUNT(peers, OWNER_HANGS, process == peers_owner(peers));
    PEERS_COUNT(peers, LONG_HANGS, time_ns >= HANG_LONG_NS && is_putting(process));
    process->hangs = false;
    process->points_left = time_ns > WRITERS_NS && sim_rng_chance(&peers->run.rng, 300); /* it never gets on */
}

/* The time has come for what the process was chosen for. */
static bool
is_due(struct peers_process *process)
{
    const struct sim_net *net = process->peers->net;

    if (process->points_left == 0)
        return false;
    if (process->question != 0 && !sim_net_asks(net, process->view, process->question, false) &&
        !sim_net_asks(net, process->view, process->question, true))
        return false;
    process->question = 0;
    return --process->points_left == 0;
}

void
peers_on_point(struct run *run, struct env *env)
{
    struct peers *peers = peers_of(run);

    for (uint32_t i = 0; i < peers->settings.processes; i++) {
        struct peers_process *process = &peers->processes[i];

        if (process->view == NULL || env != &process->view->env || !is_due(process))
            continue;
        if (process->hangs)
            hang(process);
        else
            peers_kill(process);
    }
}

/* It is to be killed or stopped, soon. */
static void
choose_end(struct peers_process *process, bool hangs)
{
    static const uint16_t questions[] = {
        MESSAGE_HELLO,   MESSAGE_NAMESPACE_CLEAR, MESSAGE_REMOVE, MESSAGE_LOCATE, MESSAGE_SEGMENT, MESSAGE_PUT_BEGIN,
        MESSAGE_RESERVE, MESSAGE_COMMIT,          MESSAGE_COMMIT, MESSAGE_SYNC,   MESSAGE_SYNC};
    const struct peers_settings *settings = &process->peers->settings;
    struct sim_rng *rng = &process->peers->run.rng;
    bool at_question = sim_rng_chance(rng, settings->question_per_mille);

    process->hangs = hangs;
    process->strands = hangs && sim_rng_chance(rng, 500);
    process->question = process->strands ? MESSAGE_RESERVE
                        : at_question    ? questions[sim_rng_below(rng, sizeof(questions) / sizeof(questions[0]))]
                                         : 0;
    process->points_left = process->strands ? sim_rng_between(rng, 1, STRAND_POINTS)
                           : at_question    ? sim_rng_log(rng, QUESTION_POINTS)
                           : hangs          ? 1
                                            : sim_rng_log(rng, settings->kill_points);
}

static void
happen(struct peers *peers)
{
    const struct peers_settings *settings = &peers->settings;
    struct sim_rng *rng = &peers->run.rng;
    uint64_t at =
        sim_rng_below(rng, settings->kill + settings->hang + settings->net_break + settings->leave + settings->power);
    struct peers_process *process = choose_process(peers);

    if (at < settings->kill) {
        choose_end(process, false);
    } else if (at < settings->kill + settings->hang) {
        choose_end(process, true);
    } else if (at < settings->kill + settings->hang + settings->net_break) {
        sim_net_break(peers->net);
    } else if (at < settings->kill + settings->hang + settings->net_break + settings->leave) {
        process->leaves = true;
        sched_signal(process, NULL);
    } else if (peers->run.disk->crash_at == 0 && sim_rng_chance(rng, 200)) {
        sim_disk_crash_after(peers->run.disk, sim_rng_log(rng, peers->run.config.crash_span));
    }
}

/* Somebody could be the owner, and wants one. */
static bool
somebody_waits(struct peers *peers)
{
    for (uint32_t i = 0; i < peers->settings.processes; i++) {
        const struct peers_process *process = &peers->processes[i];

        if (peers_is_open(process) && !is_stopped(process) && !process->quiet && !process->closing)
            return true;
    }
    return false;
}

/* A process that was stopped, or is not settled, may have the lock. */
static bool
somebody_hinders(struct peers *peers)
{
    for (uint32_t i = 0; i < peers->settings.processes; i++) {
        const struct peers_process *process = &peers->processes[i];

        if (process->view != NULL && (is_stopped(process) || (process->view->dead && !process->view->settled) ||
                                      process->closing || (!process->view->dead && process->store == NULL)))
            return true;
    }
    return false;
}

static void
watch_owner(struct peers *peers)
{
    uint64_t now_ns = peers->run.disk->now_ns;

    if (peers_owner(peers) != NULL || !somebody_waits(peers) || somebody_hinders(peers)) {
        peers->ownerless_ns = 0;
        return;
    }
    if (peers->ownerless_ns == 0)
        peers->ownerless_ns = now_ns;
    if (now_ns - peers->ownerless_ns > peers->totals->owner_ns)
        peers->totals->owner_ns = now_ns - peers->ownerless_ns;
    if (now_ns - peers->ownerless_ns > OWNERLESS_MAX_NS)
        sim_fail("nobody takes the store over");
}

/* Without power nothing runs. */
static void
stop_processes(struct peers *peers)
{
    for (uint32_t i = 0; i < peers->settings.processes; i++) {
        struct peers_process *process = &peers->processes[i];

        if (process->view == NULL || process->view->settled)
            continue;
        process->points_left = 0;
        process->group.stopped_until_ns = 0;
        sim_view_kill(process->view);
        sim_view_forsake(process->view);
        sim_net_settle(peers->net, process->view);
        sched_signal(NULL, &process->group);
        sched_signal(process, NULL);
    }
}

void
peers_world_step(struct peers *peers)
{
    struct sim_disk *disk = peers->run.disk;
    uint64_t until_ns = disk->now_ns + LOOK_NS;

    if (disk->stopped)
        stop_processes(peers);
    for (uint32_t i = 0; i < peers->settings.processes; i++) {
        struct peers_process *process = &peers->processes[i];

        if (process->view == NULL || !process->view->dead || process->view->settled)
            continue;
        if (process->settle_ns <= disk->now_ns)
            settle(process);
        else if (process->settle_ns < until_ns)
            until_ns = process->settle_ns;
    }
    if (!peers->calm && peers->events_left > 0 && disk->now_ns >= peers->event_at_ns) {
        peers->events_left--;
        happen(peers);
        peers->event_at_ns = disk->now_ns + sim_rng_log(&peers->run.rng, peers->settings.event_ns);
    }
    watch_owner(peers);
    sched_note("world");
    (void)sched_wait(peers, until_ns);
}

void
peers_world_stop(struct peers *peers)
{
    sim_log("POWER CUT");
    PEERS_COUNT(peers, POWER_CUTS, 1);
    peers->run.segment_drops++; /* a segment may have been on its way */
    sim_disk_stop(peers->run.disk);
    stop_processes(peers);
}
