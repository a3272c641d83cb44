/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lives of a store: open it, look at everything, call it for a while, and close it, kill it or cut the power, at a change of the disk drawn
 * from the seed: in the middle of a call, of recovery, or of a close. Then again, on what is left.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "sim_driver.h"
#include "sim_log.h"
#include "store/store.h"

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

uint64_t
sim_stat(struct sim *sim, const char *name)
{
    uint64_t values[256];
    size_t count = varve_stats_get(sim->store, values, 256);

    for (size_t i = 0; i < count && i < 256; i++) {
        if (strcmp(varve_stat_describe(i)->name, name) == 0)
            return values[i];
    }
    sim_fail("no statistic %s", name);
}

/* Without need the store drops only what nobody can ask for any more. */
static bool
space_was_short(const struct sim *sim)
{
    return sim->disk->used_max > sim->config.capacity / 2;
}

void
sim_note_drops(struct sim *sim)
{
    uint64_t dropped = sim_stat(sim, "segments_dropped");

    if (dropped == sim->dropped)
        return;
    sim_log("  %" PRIu64 " segments dropped", dropped - sim->dropped);
    sim->totals->drops += dropped - sim->dropped;
    sim->dropped = dropped;
    if (space_was_short(sim) || sim->faulty) /* a full file system, too, makes it drop segments */
        oracle_dropped(sim->oracle);
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

/* Random trouble for one life. Devices that say what fails cost no page that was stored; others may cost any. */
static void
add_faults(struct sim *sim)
{
    static const int errors[] = {EIO, ENOSPC, EIO};
    static const unsigned ops[] = {SIM_OP_READ,   SIM_OP_WRITE,    SIM_OP_WRITE,       SIM_OP_SYNC,   SIM_OP_CREATE,
                                   SIM_OP_UNLINK, SIM_OP_SYNC_DIR, SIM_OP_PREALLOCATE, SIM_OP_RENAME, SIM_OP_ALLOC};
    static const char *const globs[] = {NULL, NULL, "*.seg", "*.run", "*.manifest", "CURRENT*"};
    bool honest = sim_rng_chance(&sim->rng, 500);

    for (uint64_t count = sim_rng_below(&sim->rng, 4); count > 0; count--) {
        struct sim_fault fault = {.ops = ops[sim_rng_below(&sim->rng, sizeof(ops) / sizeof(ops[0]))],
                                  .glob = globs[sim_rng_below(&sim->rng, sizeof(globs) / sizeof(globs[0]))],
                                  .kind = SIM_FAULT_ERROR,
                                  .error = errors[sim_rng_below(&sim->rng, 3)],
                                  .skip = sim_rng_log(&sim->rng, 2000) - 1,
                                  .count = sim_rng_below(&sim->rng, 4)};

        if (fault.ops == SIM_OP_WRITE && !honest)
            fault.kind = sim_rng_chance(&sim->rng, 500) ? SIM_FAULT_MISDIRECT : SIM_FAULT_LOST_WRITE;
        if (fault.ops == SIM_OP_SYNC && !honest)
            fault.kind = SIM_FAULT_SYNC_LOST;
        if (fault.ops == SIM_OP_ALLOC) {
            fault.glob = NULL;
            fault.error = ENOMEM;
        }
        sim_disk_fault_add(sim->disk, &fault);
        sim->faulty = true;
    }
    if (honest)
        return;
    for (uint64_t flips = sim_rng_log(&sim->rng, 8); flips > 0; flips--)
        (void)sim_disk_flip(sim->disk, sim_rng_chance(&sim->rng, 500) ? "*" : "*.seg", &sim->rng);
    sim->oracle->lenient = true;
}

static void
add_trouble(struct sim *sim)
{
    struct sim_fault fault = {
        .ops = sim->plan.nth_op, .kind = SIM_FAULT_ERROR, .error = EIO, .skip = sim->plan.nth - 1, .count = 1};

    sim->faulty = false;
    if (sim->plan.trouble == SIM_TROUBLE_RANDOM) {
        sim_disk_faults_clear(sim->disk);
        add_faults(sim);
    } else if (sim->plan.trouble == SIM_TROUBLE_NTH) {
        if (sim->disk->fault_count == 0)
            sim_disk_fault_add(sim->disk, &fault);
        sim->faulty = true;
    }
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

/* False: the world stopped, or a fault kept the store shut. */
static bool
life_open(struct sim *sim)
{
    varve_options *options = options_make(sim);
    varve_error err = {0};
    int rc;

    sim_log("open");
    sim->dropped = 0;
    rc = store_open(sim_disk_env(sim->disk), options, &sim->store, &err);
    varve_options_destroy(options);
    if (rc < 0) {
        sim->store = NULL;
        sim_expect(sim, rc, "store_open", &err);
        require_no_leaks(sim, "store_open failed");
        return false;
    }
    sim_note_drops(sim);
    for (uint32_t i = 0; i < sim->oracle->settings.namespaces; i++) {
        char name[3] = {'n', (char)('0' + i), '\0'};

        rc = varve_namespace_open(sim->store, name, NULL, &sim->namespaces[i], &err);
        sim_expect(sim, rc, "varve_namespace_open", &err);
        if (rc < 0)
            return false;
    }
    return true;
}

/* What the life made the store do: runs that make it do nothing test nothing. */
static void
count_work(struct sim *sim)
{
    sim->totals->flushes += sim_stat(sim, "index_flushes");
    sim->totals->merges += sim_stat(sim, "index_merges");
    sim->totals->recovered += sim_stat(sim, "recovered_pages");
    sim->totals->torn += sim_stat(sim, "recovered_torn_pages");
}

/* The process, or the machine, goes down. */
static void
life_crash(struct sim *sim)
{
    enum sim_crash_mode mode =
        sim_rng_chance(&sim->rng, sim->config.power_per_mille) ? SIM_CRASH_POWER : SIM_CRASH_KILL;

    sim_disk_stop(sim->disk);
    if (sim->store != NULL) {
        sim_note_drops(sim);
        count_work(sim);
        store_abandon(sim->store);
        sim->store = NULL;
    }
    require_no_leaks(sim, "store_abandon");
    /* A segment may have been dropped by a call that did not live to count it. */
    if (space_was_short(sim))
        oracle_dropped(sim->oracle);
    sim_disk_crash(sim->disk, mode, sim_rng_next(&sim->rng));
    oracle_crash(sim->oracle, mode);
    sim->totals->crashes++;
}

static void
life_close(struct sim *sim)
{
    uint64_t unlinks = sim->disk->unlinks;
    varve_error err = {0};
    int rc;

    sim_log("close");
    sim_note_drops(sim);
    count_work(sim);
    rc = varve_close(sim->store, &err);
    sim->store = NULL;
    sim_expect(sim, rc, "varve_close", &err);
    if (rc == VARVE_OK)
        oracle_sync(sim->oracle);
    else
        oracle_crash(sim->oracle, SIM_CRASH_KILL);            /* calls that failed before may have an effect now */
    if (space_was_short(sim) && sim->disk->unlinks > unlinks) /* what a close drops, nobody is left to count */
        oracle_dropped(sim->oracle);
    require_no_leaks(sim, "varve_close");
}

static void
one_call(struct sim *sim)
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
    };
    uint32_t total = 0, call = 0;
    uint64_t at;

    for (size_t i = 0; i < SIM_CALLS; i++)
        total += sim->config.weights[i];
    at = sim_rng_below(&sim->rng, total);
    while (at >= sim->config.weights[call])
        at -= sim->config.weights[call++];
    calls[call](sim);
    sim_note_drops(sim);
    sim_disk_advance(sim->disk, sim_rng_log(&sim->rng, 2000000000));
    sim->totals->ops++;
}

static void
require_capacity(const struct sim *sim)
{
    if (sim->disk->used_max > sim->config.capacity)
        sim_fail("%" PRIu64 " bytes on disk, over the capacity of %" PRIu64, sim->disk->used_max, sim->config.capacity);
}

static void
life_look(struct sim *sim)
{
    sim_verify_pages(sim);
    if (sim_rng_chance(&sim->rng, 300))
        sim_verify_iteration(sim);
    sim_verify_check(sim);
    sim_note_drops(sim);
}

/* One life of at most `ops` calls; returns how many there were. `last`: nothing goes wrong any more. */
static uint64_t
life_run(struct sim *sim, uint64_t ops, bool last)
{
    bool crash = !last && sim_rng_chance(&sim->rng, sim->config.crash_per_mille);
    uint64_t done = 0;

    sim->totals->lives++;
    sim_config_redraw(&sim->config, &sim->rng);
    if (crash)
        sim_disk_crash_after(sim->disk, sim_rng_log(&sim->rng, sim->config.crash_span));
    sim->faulty = false;
    sim_log("life %" PRIu64, sim->totals->lives);
    if (last)
        sim_disk_faults_clear(sim->disk);
    else
        add_trouble(sim);
    sim->oracle->in_doubt = sim->faulty;
    if (life_open(sim)) {
        life_look(sim);
        while (done < ops && !sim->disk->stopped) {
            one_call(sim);
            done++;
            require_capacity(sim);
        }
        if (!sim->disk->stopped && !(crash && sim_rng_chance(&sim->rng, 500)))
            life_close(sim);
    }
    if (sim->store != NULL || sim->disk->stopped)
        life_crash(sim);
    sim_disk_crash_after(sim->disk, 0);
    return done + 1;
}

uint64_t
sim_run(const struct sim_plan *plan, struct sim_totals *totals)
{
    struct sim sim = {.plan = *plan, .totals = totals, .rng = sim_rng_make(plan->seed, 5)};
    uint64_t hits;

    sim_config_draw(&sim.config, plan->seed);
    if (plan->trouble == SIM_TROUBLE_NTH)
        sim.config.crash_per_mille = 0;
    sim.disk = sim_disk_create(&sim.config.disk);
    sim.oracle = oracle_create(&sim.config.oracle);
    sim_log("seed %#" PRIx64 ": %" PRIu32 " namespaces, %" PRIu32 " chains of %" PRIu32 ", sizes %d up to %" PRIu32,
            plan->seed, sim.config.oracle.namespaces, sim.config.oracle.chains, sim.config.oracle.chain_pages,
            (int)sim.config.oracle.sizes, sim.config.oracle.size_max);
    for (uint64_t done = 0; done < plan->ops;) {
        uint64_t left = plan->ops - done;

        done += life_run(&sim, sim.config.ops_per_life < left ? sim.config.ops_per_life : left, false);
    }
    (void)life_run(&sim, 0, true);
    hits = sim.disk->faults_hit;
    totals->faults += hits;
    oracle_destroy(sim.oracle);
    sim_disk_destroy(sim.disk);
    return hits;
}
