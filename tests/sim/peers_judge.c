/* SPDX-License-Identifier: Apache-2.0 */
/* What must be true of several processes on one store, whatever happens to them. */
#include <inttypes.h>
#include <stdlib.h>

#include "format/format.h"
#include "peer/peer.h"
#include "peer/role.h"
#include "peers.h"
#include "sim_internal.h"
#include "sim_log.h"

#define MS           1000000u
#define LOOKS_MAX    200   /* questions until a store answers again, once nothing goes wrong */
#define LINGER_MS    25000 /* what the owner takes to see that a connection, or a put, is over */
#define DROP_WAIT_MS 60000 /* for a segment on its way out to be gone */
#define POLL_MS      5

static struct peers_caller *
caller_of(const struct threads_client *client)
{
    return (struct peers_caller *)(uintptr_t)client;
}

static struct peers *
peers_of(const struct run *run)
{
    return (struct peers *)(uintptr_t)run;
}

static bool
is_over(const struct peers_caller *caller)
{
    return caller->process->view->dead || caller->client.run->disk->stopped;
}

bool
peers_troubled(const struct peers_caller *caller)
{
    const varve_store *store = caller->client.store;

    return !caller->owned && (caller->silent || caller->watch.troubles > 0 ||
                              caller->timeouts != atomic_load(&store->counters.peer_timeouts) ||
                              store->peer->silent_until_ns > caller->began_ns);
}

bool
threads_excused(const struct threads_client *client, int64_t status)
{
    const struct peers_caller *caller = caller_of(client);

    return is_over(caller) || (status == VARVE_E_TIMEOUT && peers_troubled(caller));
}

bool
threads_unsure(const struct threads_client *client, bool present)
{
    const struct peers_caller *caller = caller_of(client);

    return !present && (is_over(caller) || peers_troubled(caller));
}

void
threads_expect(struct threads_client *client, int64_t rc, const char *call, const varve_error *err)
{
    if (rc >= 0)
        return;
    sim_log("%s   %s: %" PRId64 " %s", sched_name(), call, rc, err->message);
    if (!threads_excused(client, rc))
        sim_fail("%s: %" PRId64 " %s", call, rc, err->message);
}

bool
threads_space_short(const struct run *run)
{
    return run->disk->used_max > run->room_least / 2;
}

bool
threads_was_full(const struct threads_client *client)
{
    struct peers *peers = peers_of(client->run);
    const struct peers_process *owner = peers_owner(peers);

    peers->was_full = peers->was_full || (owner != NULL && owner->store->recency.judging);
    return peers->was_full || threads_space_short(client->run);
}

uint64_t
threads_drops(const struct run *run)
{
    return run->segment_drops;
}

/* The owner is another process: whether it is dropping a segment shows when it is dropped, or when the owner dies. */
bool
threads_dropped(struct threads_client *client, uint64_t drops)
{
    struct run *run = client->run;

    for (uint64_t waited_ms = 0; waited_ms < DROP_WAIT_MS && run->segment_drops == drops; waited_ms += POLL_MS)
        (void)sched_wait(&run->segment_drops, run->disk->now_ns + (uint64_t)POLL_MS * MS);
    return run->segment_drops != drops;
}

void
threads_settle(struct threads_client *client, const struct threads_effect *effect)
{
    struct peers_caller *caller = caller_of(client);
    struct peers *peers = caller->process->peers;
    struct model *model = client->run->model;
    struct peers_ghost *ghost;

    if (!sim_net_lingers(peers->net, &caller->watch))
        return;
    ghost = sim_alloc(sizeof(*ghost));
    ghost->watch = caller->watch;
    ghost->effect = *effect;
    assert(effect->count <= THREADS_BATCH_MAX);
    if (effect->count > 0)
        memcpy(ghost->pages, effect->pages, effect->count * sizeof(ghost->pages[0]));
    ghost->effect.pages = ghost->pages;
    ghost->begin = effect->kind == EFFECT_PUT      ? model_put_begin(model, effect->ns, ghost->pages, effect->count)
                   : effect->kind == EFFECT_REMOVE ? model_remove_begin(model, effect->ns, ghost->pages, effect->count)
                                                   : model_clear_begin(model, effect->ns);
    ghost->next = peers->ghosts;
    peers->ghosts = ghost;
    PEERS_COUNT(peers, LINGERING, 1);
}

static void
ghost_end(struct model *model, const struct peers_ghost *ghost)
{
    const struct threads_effect *effect = &ghost->effect;

    if (effect->kind == EFFECT_REMOVE)
        model_remove_end(model, effect->ns, effect->pages, effect->count, ghost->begin, false);
    else if (effect->kind == EFFECT_CLEAR)
        model_clear_end(model, effect->ns, ghost->begin, false);
    for (size_t i = 0; effect->kind == EFFECT_PUT && i < effect->count; i++)
        model_put_end(model, effect->ns, effect->pages[i], ghost->begin, 0, false, false);
}

void
peers_ghosts_sweep(struct peers *peers)
{
    for (struct peers_ghost **link = &peers->ghosts, *ghost; (ghost = *link) != NULL;) {
        if (sim_net_lingers(peers->net, &ghost->watch)) {
            link = &ghost->next;
            continue;
        }
        *link = ghost->next;
        ghost_end(peers->run.model, ghost);
        free(ghost);
    }
}

/* Every failure of another's end is noticed in a bounded time. */
static void
await_ghosts(struct peers *peers)
{
    uint64_t until_ns = peers->run.disk->now_ns + (uint64_t)LINGER_MS * MS;

    peers_ghosts_sweep(peers);
    while (peers->ghosts != NULL && !peers->run.disk->stopped) {
        if (peers->run.disk->now_ns > until_ns)
            sim_fail("a connection that was given up is not ended");
        peers_world_step(peers);
        peers_ghosts_sweep(peers);
    }
}

/* The call, until it is answered: soon, be it that the process becomes the owner. Only a device that stalls may take longer than a call waits. */
static void
call_till_answered(struct peers_caller *caller, void (*call)(struct threads_client *client))
{
    struct peers *peers = caller->process->peers;

    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        peers_call(caller, call);
        if (!peers_troubled(caller))
            return;
        (void)sched_wait(caller, peers->run.disk->now_ns + peers->settings.timeout_ms * MS / 10);
    }
    sim_fail("process %" PRIu32 " is not answered, though nothing goes wrong any more", caller->process->number);
}

/* A segment has its file while it is not being dropped, and nobody wrote behind the end of one that takes no more pages. */
static void
judge_segment(void *arg, const struct segment *segment)
{
    struct peers *peers = arg;
    const struct sim_inode *inode;
    char name[FORMAT_NAME_MAX];

    format_file_name(FORMAT_FILE_SEGMENT, segment->number, name);
    inode = sim_dir_find(&peers->run.disk->current, name);
    if (segment->phase != SEGMENT_DROPPING && inode == NULL)
        sim_fail("%s is missing", name);
    if (segment->phase == SEGMENT_SEALED && inode != NULL && inode->current.size > segment->bytes &&
        !peers->late_writers)
        sim_fail("%s has %zu bytes, not %" PRIu64, name, inode->current.size, segment->bytes);
}

/* Each file of a segment is known to the log. The background goes on meanwhile: a file that it removes before the log was asked is none. */
static void
judge_files(const struct sim_dir *dir, varve_store *store)
{
    uint64_t *numbers = calloc(dir->count + 1, sizeof(*numbers));
    size_t count = 0;

    if (numbers == NULL)
        sim_fail("out of memory");
    for (size_t i = 0; i < dir->count; i++) {
        if (format_parse_name(dir->entries[i].name, &numbers[count]) == FORMAT_FILE_SEGMENT)
            count++;
    }
    for (size_t i = 0; i < count; i++) {
        char name[FORMAT_NAME_MAX];

        format_file_name(FORMAT_FILE_SEGMENT, numbers[i], name);
        if (!log_has_file(store->log, numbers[i]) && sim_dir_find(dir, name) != NULL)
            sim_fail("nobody knows of %s", name);
    }
    free(numbers);
}

/* No file is missing or one too many, and the store counts what there is. */
static void
judge_space(struct peers *peers, varve_store *store)
{
    struct gauges gauges = {0};

    store_gauges(store, &gauges);
    if (gauges.disk_bytes < sim_disk_used(peers->run.disk))
        sim_fail("%" PRIu64 " bytes are in use, and %" PRIu64 " counted", sim_disk_used(peers->run.disk),
                 gauges.disk_bytes);
    log_for_each(store->log, judge_segment, peers);
    judge_files(&peers->run.disk->current, store);
}

static void
look_at_store(struct peers_process *process)
{
    struct peers *peers = process->peers;
    struct peers_caller caller;

    peers_caller_init(&caller, process, sim_rng_next(&peers->run.rng));
    if (process->namespaces[peers->run.universe->settings.namespaces - 1] == NULL)
        return;                        /* it came too late to open them */
    sched_join_group(&process->group); /* and so are the threads of an owner */
    call_till_answered(&caller, threads_probe);
    call_till_answered(&caller, threads_verify);
    if (role_is_owner(process->store)) {
        peers_call(&caller, threads_check);
        peers_call(&caller, threads_iterate);
        judge_space(peers, process->store);
    }
    sched_join_group(NULL);
}

void
peers_look_at_all(struct peers *peers)
{
    sim_log("look at all");
    await_ghosts(peers);
    for (uint32_t i = 0; i < peers->settings.processes; i++) {
        if (peers_is_open(&peers->processes[i]) && !peers->run.disk->stopped)
            look_at_store(&peers->processes[i]);
    }
}

void
peers_count_store(struct peers *peers, varve_store *store)
{
    const struct counters *counters = &store->counters;

    PEERS_COUNT(peers, RECONNECTS, counters->peer_reconnects);
    PEERS_COUNT(peers, TIMEOUTS, counters->peer_timeouts);
    PEERS_COUNT(peers, ABANDONED, counters->peer_abandoned);
    PEERS_COUNT(peers, PAGES_OF_PEERS, counters->peer_put_pages);
    PEERS_COUNT(peers, RECOVERED, counters->recovered_pages);
    PEERS_COUNT(peers, DROPS, counters->segments_dropped);
    PEERS_COUNT(peers, MOVED, counters->get_moved);
    PEERS_COUNT(peers, RECYCLED, counters->segments_recycled);
    if (counters->recovered_runs_lost > 0)
        sim_fail("%" PRIu64 " runs were lost", (uint64_t)counters->recovered_runs_lost);
    if (counters->get_corrupt > 0) /* no device lies */
        sim_fail("%" PRIu64 " pages failed their checksum", (uint64_t)counters->get_corrupt);
    if (counters->peer_refused > 0)
        sim_fail("%" PRIu64 " connections were refused, or ended for what they said", (uint64_t)counters->peer_refused);
    if (role_is_owner(store) && !peers->run.disk->stopped) {
        struct gauges gauges = {0};

        store_gauges(store, &gauges);
        PEERS_COUNT(peers, FLUSHES, gauges.index_flushes);
    }
}
