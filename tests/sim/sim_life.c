/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lives of a store: open it, look at everything, call it for a while, and close it, kill it or cut the power, at a change of the disk drawn
 * from the seed: in the middle of a call, of recovery, or of a close. Then again, on what is left.
 */
#include <inttypes.h>
#include <stdio.h>

#include "format/format.h"
#include "sim_driver.h"
#include "sim_internal.h"
#include "sim_log.h"

#define RECOVERY_BYTES 65536 /* of manifests, before a recovery counts what is there */
#define SURVIVORS_BYTES                                                                                                \
    ((UINT64_C(128) << 10) + 4096) /* the largest segment: a store that has to shrink may make one to copy what lives */
#define RECOUNT_CALLS 5            /* from one recount of what is live to the next */

/* Streams of random numbers, one for each part of a run: the part's number is the call's that it begins with. */
enum stream {
    STREAM_LIFE = 0x10,
    STREAM_LOOK,
    STREAM_CALL,
    STREAM_END,
};

static void
begin_stream(struct sim *sim, enum stream stream, uint64_t number)
{
    sim->rng = sim_rng_make(sim->plan.seed, (uint64_t)stream << 32 | number);
    sim->disk->rng = sim_rng_make(sim->config.disk.seed, (uint64_t)stream << 32 | number);
}

bool
sim_excused(const struct sim *sim)
{
    return sim->disk->stopped || sim->oracle->lenient || sim->faulty;
}

void
sim_expect(struct sim *sim, int64_t rc, const char *call, const varve_error *err)
{
    if (rc >= 0)
        return;
    sim_log("  %s: %" PRId64 " %s", call, rc, err->message);
    if (!sim_excused(sim))
        sim_fail("%s: %s", call, err->message);
    if (err->code != rc || err->message[0] == '\0')
        sim_fail("%s: %" PRId64 ", but the error says %d \"%s\"", call, rc, err->code, err->message);
}

bool
sim_space_was_short(const struct sim *sim)
{
    return sim->disk->used_max > sim->config.capacity_least / 2;
}

/* A full file system, too, makes it drop segments. */
static bool
may_drop(const struct sim *sim)
{
    return sim_space_was_short(sim) || sim->faulty;
}

bool
sim_drops_now(const struct sim *sim)
{
    return SIM_STAT(sim, segments_dropped) != sim->dropped && may_drop(sim);
}

void
sim_note_drops(struct sim *sim)
{
    uint64_t dropped = SIM_STAT(sim, segments_dropped);

    if (dropped == sim->dropped)
        return;
    sim_log("  %" PRIu64 " segments dropped", dropped - sim->dropped);
    sim->dropped = dropped;
    if (sim->faulty ||
        SIM_STAT(sim, reclaim_lost_bytes) != sim->lost) /* small pages, each in a block of its own, do not fit */
        oracle_unpin_all(sim->oracle);
    sim->lost = SIM_STAT(sim, reclaim_lost_bytes);
    if (may_drop(sim))
        oracle_dropped(sim->oracle);
}

/* What shows only while it lasts. */
static void
note_shape(struct sim *sim)
{
    struct index_stats stats;
    uint64_t manifest = manifest_number(sim->store->manifest);

    index_stats_get(sim->store->index, &stats);
    if (stats.levels > sim->levels)
        sim->levels = stats.levels;
    SIM_COUNT(sim, SIM_EVENT_ROTATIONS, sim->rotation != 0 && manifest != sim->rotation);
    sim->rotation = manifest;
    if (!sim->disk->stopped) /* what fails because the world has stopped counts for nothing */
        (void)varve_stats_get(sim->store, sim->stats, SIM_STATS_MAX);
}

/* Of the disk, whenever a file has grown: never more than the store may have at that very moment. */
static void
judge_used(void *arg, uint64_t used)
{
    struct sim *sim = arg;
    uint64_t most = sim->store == NULL ? sim->config.capacity : sim->store->space.ceiling;

    if (used > most && used > sim->used_excess)
        sim_fail("%" PRIu64 " bytes on disk, over the %" PRIu64 " there may be", used, most);
    if (sim->store != NULL && used <= sim->config.capacity)
        sim->used_excess = 0;
}

/* A new disk. */
static void
disk_make(struct sim *sim, const struct sim_disk_settings *settings)
{
    sim->disk = sim_disk_create(settings);
    sim->disk->on_used = judge_used;
    sim->disk->on_used_arg = sim;
}

static void
require_no_leaks(const struct sim *sim, const char *when)
{
    const struct sim_disk *disk = sim->disk;

    if (disk->handles_open + disk->queues_open + disk->allocations > 0)
        sim_fail("%s: %" PRIu64 " files, %" PRIu64 " queues, %" PRIu64 " allocations left", when, disk->handles_open,
                 disk->queues_open, disk->allocations);
    if (disk->violations > 0)
        sim_fail("the rules of the env were broken");
}

static varve_options *
options_make(const struct sim *sim)
{
    varve_options *options = varve_options_create();
    varve_error err = {0};

    if (options == NULL)
        sim_fail("varve_options_create: out of memory");
    for (size_t i = 0; i < sim->config.option_count; i++) {
        const struct sim_option *option = &sim->config.options[i];

        sim_log("  %s=%s", option->name, option->value);
        if (varve_options_set(options, option->name, option->value, &err) != VARVE_OK)
            sim_fail("varve_options_set: %s", err.message);
    }
    return options;
}

/* The store says that its own files are damaged, as it may once a device has lied: begin with an empty disk. */
static void
wipe(struct sim *sim, uint64_t number)
{
    struct sim_disk_settings settings = sim->config.disk;

    sim_log("wipe");
    sim_count_disk(sim);
    sim->hits += sim->disk->faults_hit;
    SIM_COUNT(sim, SIM_EVENT_WIPED, 1);
    oracle_destroy(sim->oracle);
    sim_disk_destroy(sim->disk);
    settings.seed = sim_rng_make(settings.seed, number).state;
    disk_make(sim, &settings);
    sim->oracle = oracle_create(&sim->config.oracle);
}

/* False: the world stopped, or a fault kept the store shut. */
static bool
life_open(struct sim *sim, uint64_t number)
{
    varve_options *options = options_make(sim);
    varve_error err = {0};
    int rc;

    sim_log("open");
    sim_limits_of_life(sim);
    sim->dropped = sim->levels = sim->rotation = sim->fixed = 0;
    memset(sim->stats, 0, sizeof(sim->stats));
    rc = store_open(sim_disk_env(sim->disk), options, &sim->store, &err);
    varve_options_destroy(options);
    if (rc < 0)
        sim->store = NULL;
    if (rc < 0) {
        sim_expect(sim, rc, "store_open", &err);
        require_no_leaks(sim, "store_open failed");
        SIM_COUNT(sim, SIM_EVENT_OPENS_REFUSED, !sim->disk->stopped);
        if (!sim->disk->stopped && sim->oracle->lenient &&
            (rc == VARVE_E_CORRUPT || rc == VARVE_E_VERSION || rc == VARVE_E_NOSTORE))
            wipe(sim, number);
        return false;
    }
    if (SIM_STAT(sim, recovered_runs_lost) > 0 &&
        !sim->oracle->lenient) /* rebuilt, but it should not have been needed */
        sim_fail("%" PRIu64 " runs are lost, though no device lied", SIM_STAT(sim, recovered_runs_lost));
    sim_note_drops(sim);
    sim_recency_begin(sim);
    SIM_COUNT(sim, SIM_EVENT_HEAT_RESTORED, sim->store->recency.restored);
    SIM_COUNT(sim, SIM_EVENT_HEAT_MISSED, SIM_STAT(sim, recovered_extents) > 0);
    for (uint32_t i = 0; i < sim->oracle->settings.namespaces; i++) {
        varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
        char name[3] = {'n', (char)('0' + i), '\0'};

        attributes.element_type = sim->oracle->settings.bf16 ? VARVE_ELEMENT_BF16 : VARVE_ELEMENT_BYTES;
        rc = varve_namespace_open(sim->store, name, &attributes, &sim->namespaces[i], &err);
        sim_expect(sim, rc, "varve_namespace_open", &err);
        if (rc < 0)
            return false;
    }
    return true;
}

/* The process, or the machine, goes down. */
static void
life_crash(struct sim *sim)
{
    enum sim_crash_mode mode =
        sim_rng_chance(&sim->rng, sim->config.power_per_mille) ? SIM_CRASH_POWER : SIM_CRASH_KILL;

    sim_disk_stop(sim->disk);
    SIM_COUNT(sim, mode == SIM_CRASH_POWER ? SIM_EVENT_POWER_CUTS : SIM_EVENT_KILLS, 1);
    SIM_COUNT(sim, SIM_EVENT_OPEN_CRASHES, sim->phase == SIM_PHASE_OPEN);
    SIM_COUNT(sim, SIM_EVENT_CLOSE_CRASHES, sim->phase == SIM_PHASE_CLOSE);
    if (sim->store != NULL) {
        sim_note_drops(sim);
        sim_count_life(sim);
        SIM_COUNT(sim, SIM_EVENT_JOBS_LEFT, sim->store->reclaim_job != NULL);
        store_abandon(sim->store);
        sim->store = NULL;
    }
    require_no_leaks(sim, "store_abandon");
    /* A segment may have been dropped by a call that did not live to count it. */
    if (may_drop(sim))
        oracle_dropped(sim->oracle);
    sim_disk_crash(sim->disk, mode, sim_rng_next(&sim->rng));
    sim->ghosts = true;
    sim->holes = sim->holes || mode == SIM_CRASH_POWER;
    oracle_crash(sim->oracle, mode);
}

static void
life_close(struct sim *sim)
{
    uint64_t unlinks = sim->disk->unlinks;
    varve_error err = {0};
    int rc;

    sim_log("close");
    sim->phase = SIM_PHASE_CLOSE;
    sim_note_drops(sim);
    sim_count_life(sim);
    SIM_COUNT(sim, SIM_EVENT_JOBS_LEFT, sim->store->reclaim_job != NULL);
    rc = varve_close(sim->store, &err);
    sim->store = NULL;
    sim_expect(sim, rc, "varve_close", &err);
    if (rc == VARVE_OK)
        oracle_sync(sim->oracle);
    else
        oracle_crash(sim->oracle, SIM_CRASH_KILL); /* calls that failed before may have an effect now */
    /* What a close drops, nobody is left to count; a file may be refused to go. */
    if (may_drop(sim) && (sim->disk->unlinks > unlinks || sim->faulty)) {
        oracle_unpin_all(sim->oracle); /* nor to ask for what was pinned: a pin ends with the process */
        oracle_dropped(sim->oracle);
    }
    require_no_leaks(sim, "varve_close");
}

/* The call with this number, perhaps with the end of the world in it, or in one of those behind it. */
static void
one_call(struct sim *sim, uint64_t number)
{
    static void (*const calls[SIM_CALLS])(struct sim *) = {
        [SIM_CALL_PUT] = sim_put,
        [SIM_CALL_GET] = sim_get,
        [SIM_CALL_PROBE] = sim_probe,
        [SIM_CALL_EXISTS] = sim_exists,
        [SIM_CALL_TOUCH] = sim_touch,
        [SIM_CALL_REMOVE] = sim_remove,
        [SIM_CALL_CLEAR] = sim_clear,
        [SIM_CALL_SYNC] = sim_sync_store,
        [SIM_CALL_OPTION] = sim_option,
        [SIM_CALL_ITERATE] = sim_verify_iteration,
        [SIM_CALL_CHECK] = sim_verify_check,
        [SIM_CALL_TICK] = sim_tick,
        [SIM_CALL_FILL] = sim_fill,
        [SIM_CALL_HUGE] = sim_huge,
        [SIM_CALL_LIMITS] = sim_limits,
        [SIM_CALL_PIN] = sim_pin,
        [SIM_CALL_UNPIN] = sim_unpin,
    };
    uint32_t total = 0, call = 0;
    uint64_t at;

    begin_stream(sim, STREAM_CALL, number);
    if (sim_rng_chance(&sim->rng, sim->config.crash_per_mille))
        sim_disk_crash_after(sim->disk, sim_rng_log(&sim->rng, sim->config.crash_span));
    sim_faults_of_call(sim);
    for (size_t i = 0; i < SIM_CALLS; i++)
        total += sim->config.weights[i];
    at = sim_rng_below(&sim->rng, total);
    while (at >= sim->config.weights[call])
        at -= sim->config.weights[call++];
    sim_log("call %" PRIu64, number);
    sim_limits_of_call(sim);
    calls[call](sim);
    sim_note_drops(sim);
    note_shape(sim);
    if (number % RECOUNT_CALLS == 0)
        sim_recency_check(sim);
    sim_disk_advance(sim->disk, sim_rng_log(&sim->rng, 2000000000));
    SIM_COUNT(sim, SIM_EVENT_CALLS, 1);
}

static void
life_look(struct sim *sim, uint64_t number, bool last)
{
    begin_stream(sim, STREAM_LOOK, number);
    sim_limits_of_call(sim);
    sim->phase = SIM_PHASE_CALLS;
    note_shape(sim);
    sim_verify_accounts(sim);
    sim_recency_check(sim);
    sim_verify_pages(sim, sim_rng_chance(&sim->rng, last ? 500 : 50));
    if (sim_rng_chance(&sim->rng, last ? 500 : 100))
        sim_verify_iteration(sim);
    if (sim_rng_chance(&sim->rng, last ? 1000 : 300))
        sim_verify_check(sim);
    sim_note_drops(sim);
}

static void
life_end(struct sim *sim, uint64_t number, bool last)
{
    begin_stream(sim, STREAM_END, number);
    if (sim->store != NULL && !sim->disk->stopped) {
        bool crash = !last && sim_rng_chance(&sim->rng, sim->config.crash_open_per_mille);

        if (crash)
            sim_disk_crash_after(sim->disk, sim_rng_log(&sim->rng, sim->config.crash_span));
        if (!crash || sim_rng_chance(&sim->rng, 700))
            life_close(sim);
    }
    if (sim->store != NULL || sim->disk->stopped)
        life_crash(sim);
    sim_disk_crash_after(sim->disk, 0);
}

/* The file HEAT is a hint: any page of it may rot, and all of it may be gone. */
static void
trouble_heat(struct sim *sim)
{
    struct sim_inode *heat = sim_dir_find(&sim->disk->current, FORMAT_HEAT_NAME);

    if (!sim->config.heat_trouble || heat == NULL || !sim_rng_chance(&sim->rng, 400))
        return;
    sim->holes = true; /* whose parent is not known may seem younger than that */
    if (sim_rng_chance(&sim->rng, 300)) {
        sim_dir_set(&sim->disk->current, FORMAT_HEAT_NAME, NULL);
        sim_dir_set(&sim->disk->durable, FORMAT_HEAT_NAME, NULL);
        SIM_COUNT(sim, SIM_EVENT_HEAT_REMOVED, 1);
        return;
    }
    for (uint64_t flips = sim_rng_log(&sim->rng, 100); flips > 0; flips--)
        SIM_COUNT(sim, SIM_EVENT_HEAT_DAMAGED, sim_disk_flip(sim->disk, FORMAT_HEAT_NAME, &sim->rng));
}

/* One life, of calls from `first` on, but not `end`; returns the number of the next call. `last`: nothing goes wrong any more. */
static uint64_t
life_run(struct sim *sim, uint64_t first, uint64_t end, bool last)
{
    uint64_t number = first;

    SIM_COUNT(sim, SIM_EVENT_LIVES, 1);
    sim_log("life %" PRIu64, first);
    begin_stream(sim, STREAM_LIFE, first);
    sim_config_redraw(&sim->config, &sim->rng);
    if (sim->plan.trouble != SIM_TROUBLE_NTH || last)
        sim_disk_faults_clear(sim->disk);
    sim->disk->settings.size_bytes = sim->config.disk.size_bytes;
    trouble_heat(sim);
    /*
     * A lower capacity leaves more than it allows to the open, and so does an unlink that was lost. What the store counts decides, which is more than what the disk has
     * (small files, the rest of the manifest, a block a segment): so it may be over, and make room for survivors, where the disk is just below.
     */
    sim->used_excess = sim_disk_used(sim->disk) + RECOVERY_BYTES + SURVIVORS_BYTES;
    sim->phase = SIM_PHASE_OPEN;
    sim->faulty = sim->oracle->in_doubt = false;
    if (!last && sim_rng_chance(&sim->rng, sim->config.crash_open_per_mille))
        sim_disk_crash_after(sim->disk, sim_rng_log(&sim->rng, sim->config.crash_span));
    if (!last)
        sim_faults_of_life(sim);
    if (life_open(sim, first)) {
        life_look(sim, first, last);
        for (; number < end && !sim->disk->stopped; number++) {
            if (sim->plan.wanted != NULL && !sim->plan.wanted[number])
                continue;
            one_call(sim, number);
        }
    }
    if (number == first)
        number++; /* crashed before its first call: the next life must differ */
    life_end(sim, number, last);
    return number;
}

static bool
any_wanted(const struct sim_plan *plan, uint64_t number, uint64_t end)
{
    while (plan->wanted != NULL && number < end && !plan->wanted[number])
        number++;
    return number < end;
}

uint64_t
sim_run(const struct sim_plan *plan, struct sim_totals *totals)
{
    struct sim sim = {.plan = *plan, .totals = totals};
    uint64_t number, hits;

    sim_config_draw(&sim.config, plan);
    disk_make(&sim, &sim.config.disk);
    sim.ghosts = sim.holes = plan->trouble != SIM_TROUBLE_NONE;
    sim.oracle = oracle_create(&sim.config.oracle);
    sim_log("seed %#" PRIx64 ": %" PRIu32 " namespaces, %" PRIu32 " chains of %" PRIu32 ", sizes %d up to %" PRIu32,
            plan->seed, sim.config.oracle.namespaces, sim.config.oracle.chains, sim.config.oracle.chain_pages,
            (int)sim.config.oracle.sizes, sim.config.oracle.size_max);
    for (number = 0; number < plan->ops;) {
        /* Lives end at the same calls, whatever is left out. */
        uint64_t end = (number / sim.config.ops_per_life + 1) * sim.config.ops_per_life;

        end = end < plan->ops ? end : plan->ops;
        number = any_wanted(plan, number, end) ? life_run(&sim, number, end, false) : end;
    }
    (void)life_run(&sim, plan->ops, plan->ops, true);
    sim_count_disk(&sim);
    hits = sim.hits + sim.disk->faults_hit;
    totals->runs++;
    sim_recency_end(&sim);
    oracle_destroy(sim.oracle);
    sim_disk_destroy(sim.disk);
    return hits;
}
