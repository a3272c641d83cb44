/* SPDX-License-Identifier: Apache-2.0 */
/* The lives of a script's store: it is opened, called, crashed, recovered, verified and closed. The calls are in script_calls.c. */
#include "script_run.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "sim_internal.h"
#include "sim_log.h"
#include "store/store.h"

#define STEPS_MAX 20000 /* of background work: far more than there ever is */
#define STEP_NS   20000000

bool
script_run_stopped(const struct script_run *run)
{
    return run->disk != NULL && run->disk->stopped;
}

void
script_fail(struct script_run *run, const char *format, ...)
{
    char text[240];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (run->on_failure != NULL) {
        (void)fprintf(stderr, "FAILED: %s\n", text);
        run->on_failure(run);
    }
    sim_fail("%s", text);
}

void
script_expect(struct script_run *run, int64_t rc, const char *call, const varve_error *err)
{
    if (rc >= 0)
        return;
    sim_log("  %s: %" PRId64 " %s", call, rc, err->message);
    if (!script_run_stopped(run))
        script_fail(run, "%s: %s", call, err->message);
}

void
script_note(struct script_run *run, const char *format, ...)
{
    va_list args;

    if (run->history == NULL)
        return;
    va_start(args, format);
    (void)vfprintf(run->history, format, args);
    va_end(args);
}

static void
require_no_leaks(struct script_run *run, const char *when)
{
    const struct sim_disk *disk = run->disk;

    if (disk == NULL)
        return;
    if (disk->handles_open + disk->queues_open + disk->allocations > 0)
        script_fail(run, "%s: %" PRIu64 " files, %" PRIu64 " queues, %" PRIu64 " allocations left", when,
                    disk->handles_open, disk->queues_open, disk->allocations);
    if (disk->violations > 0)
        script_fail(run, "%s: the rules of the env were broken", when);
}

static void
lose_unsynced(struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->inode_count; i++)
        sim_changes_clear(disk->inodes[i]);
    disk->dir_op_count = 0;
}

/* The process, or the machine, goes down, and what was open is resolved. A crash that is armed for later stays armed. */
static void
crash(struct script_run *run, enum sim_crash_mode mode)
{
    struct sim_disk *disk = run->disk;
    uint64_t armed = disk->crash_at > disk->changes ? disk->crash_at : 0;
    bool came = disk->crash_at > 0 && armed == 0;

    sim_disk_stop(disk);
    if (run->store != NULL)
        store_abandon(run->store);
    run->store = NULL;
    require_no_leaks(run, "store_abandon");
    run->crash_seed = sim_mix(run->crash_seed + 1);
    if (mode == SIM_CRASH_POWER && run->lose_all)
        lose_unsynced(disk);
    sim_disk_crash(disk, mode, run->crash_seed);
    oracle_crash(run->oracle, mode);
    disk->crash_at = armed;
    run->crashes++;
    run->ended = came && run->known != NULL && run->known(run);
}

static varve_options *
options_make(struct script_run *run)
{
    varve_options *options = varve_options_create();
    varve_error err = {0};

    if (options == NULL)
        script_fail(run, "varve_options_create: out of memory");
    for (size_t i = 0; i < sizeof(run->options->store) / sizeof(run->options->store[0]); i++) {
        const char *setting = run->options->store[i];
        char name[32];

        if (setting == NULL)
            break;
        (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(setting, "="), setting);
        if (varve_options_set(options, name, strchr(setting, '=') + 1, &err) != VARVE_OK)
            script_fail(run, "%s", err.message);
    }
    return options;
}

static struct env *
env_make(struct script_run *run)
{
    struct env_settings settings = {
        .io_engine = run->engine, .direct_io = "auto", .queue_depth = 8, .io_threads = 2, .create_dir = true};
    varve_error err = {0};
    struct env *env = NULL;

    if (run->disk != NULL)
        return sim_disk_env(run->disk);
    if (!run->options->disk.direct_io)
        settings.direct_io = "off";
    if (env_open_posix(run->path, &settings, &env, &err) != VARVE_OK)
        script_fail(run, "env_open_posix: %s", err.message);
    return env;
}

/* One try. False: the world stopped. */
static bool
try_open(struct script_run *run)
{
    varve_options *options = options_make(run);
    struct env *env = env_make(run);
    varve_error err = {0};
    int rc;

    sim_log("open");
    rc = store_open(env, options, &run->store, &err);
    varve_options_destroy(options);
    if (rc != VARVE_OK) {
        run->store = NULL;
        env->ops->destroy(env);
    }
    script_expect(run, rc, "store_open", &err);
    for (uint32_t i = 0; i < SCRIPT_NAMESPACES && rc == VARVE_OK; i++) {
        char name[3] = {'n', (char)('0' + i), '\0'};

        rc = varve_namespace_open(run->store, name, NULL, &run->namespaces[i], &err);
        script_expect(run, rc, "varve_namespace_open", &err);
    }
    return rc == VARVE_OK;
}

static void
open_store(struct script_run *run)
{
    while (!run->ended && !try_open(run))
        crash(run, run->mode);
}

/* If the world has stopped: recover, and look whether all is right. */
static void
recover(struct script_run *run)
{
    while (script_run_stopped(run)) {
        crash(run, run->mode);
        open_store(run);
        script_run_verify(run);
    }
}

void
script_run_begin(struct script_run *run, const struct script *script, const struct script_place *place)
{
    *run = (struct script_run){.script = script,
                               .options = place->options != NULL ? place->options : &script_options[script->options],
                               .path = place->path,
                               .engine = place->engine,
                               .oracle = script_oracle(script, 1),
                               .crash_seed = place->seed,
                               .history = place->history,
                               .on_failure = place->on_failure};
    if (place->path == NULL) {
        struct sim_disk_settings settings = run->options->disk;

        settings.seed = place->seed;
        run->disk = sim_disk_create(&settings);
    }
    open_store(run);
}

void
script_run_arm(struct script_run *run, enum sim_crash_mode mode, uint64_t after)
{
    assert(run->disk != NULL);
    run->mode = mode;
    sim_disk_crash_after(run->disk, after);
}

/* False: not closed, the world stopped. */
static bool
close_store(struct script_run *run)
{
    varve_error err = {0};
    int rc = varve_close(run->store, &err);

    run->store = NULL;
    script_expect(run, rc, "varve_close", &err);
    require_no_leaks(run, "varve_close");
    if (rc == VARVE_OK)
        oracle_sync(run->oracle);
    return rc == VARVE_OK && !script_run_stopped(run);
}

static void
call_sync(struct script_run *run, const struct script_op *op)
{
    varve_error err = {0};
    int rc = varve_sync(run->store, &err);

    (void)op;
    script_expect(run, rc, "varve_sync", &err);
    if (rc == VARVE_OK)
        oracle_sync(run->oracle);
}

static void
call_tick(struct script_run *run, const struct script_op *op)
{
    uint32_t limit = op->args[0] == 0 ? STEPS_MAX : op->args[0], steps = 0;

    if (run->disk != NULL)
        sim_disk_advance(run->disk, STEP_NS);
    while (steps < limit && !script_run_stopped(run) && store_tick(run->store))
        steps++;
    if (steps == STEPS_MAX)
        script_fail(run, "background work never ends");
}

static uint64_t
segments_dropped(const struct script_run *run)
{
    return atomic_load_explicit(&run->store->counters.segments_dropped, memory_order_relaxed);
}

static bool
may_go(const void *owner)
{
    const struct segment *segment = owner;

    return log_is_sealed(segment->log, segment);
}

/* Whether the next victim can be reclaimed as it is. Else pages would die first, which is no loss, but nothing that a script could foresee. */
static bool
victim_is_cheap(struct script_run *run)
{
    struct recency *recency = &run->store->recency;
    const struct heat_segment *coldest;
    bool cheap;

    if (!recency_load(run->store))
        return false;
    mutex_lock(&recency->lock);
    coldest = heat_coldest(recency->heat, may_go);
    cheap = coldest != NULL && coldest->live_bytes <= (uint64_t)coldest->end * HEAT_UNIT / 2;
    mutex_unlock(&recency->lock);
    return cheap;
}

/* Live pages are not lost by it: there is room for them. */
static void
call_reclaim(struct script_run *run, const struct script_op *op)
{
    uint64_t dropped = segments_dropped(run);
    varve_error err = {0};

    for (uint32_t steps = 0; !script_run_stopped(run) && (op->args[0] == 0 || steps < op->args[0]); steps++) {
        int rc = run->store->reclaim_job != NULL || victim_is_cheap(run) ? reclaim_work(run->store, &err) : VARVE_MISS;

        script_expect(run, rc, "reclaim_work", &err);
        if (rc == VARVE_MISS || (op->args[0] == 0 && segments_dropped(run) > dropped))
            break;
    }
    if (!script_run_stopped(run) && atomic_load(&run->store->counters.reclaim_lost_bytes) > 0)
        script_fail(run, "reclaim lost live pages");
}

static void
call_fill(struct script_run *run, const struct script_op *op)
{
    (void)op;
    run->store->active_extents = UINT32_MAX;
}

static void
call_option(struct script_run *run, const struct script_op *op)
{
    static const struct {
        const char *name, *unit;
    } options[SCRIPT_KINDS] = {
        [SCRIPT_SIZE_RATIO] = {"size_ratio", ""},
        [SCRIPT_RUNS_PER_LEVEL] = {"runs_per_level", ""},
        [SCRIPT_RUNS_LAST_LEVEL] = {"runs_last_level", ""},
        [SCRIPT_CAPACITY] = {"capacity", "M"},
        [SCRIPT_ROOM] = {"capacity", "M"},
        [SCRIPT_MIN_FREE] = {"min_free", "M"},
    };
    varve_error err = {0};
    char value[16];

    (void)snprintf(value, sizeof(value), "%" PRIu32 "%s", op->args[0], options[op->kind].unit);
    script_expect(run, varve_option_set(run->store, options[op->kind].name, value, &err), "varve_option_set", &err);
}

static void
call_reopen(struct script_run *run, const struct script_op *op)
{
    (void)op;
    if (close_store(run))
        open_store(run);
}

static void
call_crash(struct script_run *run, const struct script_op *op)
{
    enum sim_crash_mode mode = op->kind == SCRIPT_KILL ? SIM_CRASH_KILL : SIM_CRASH_POWER;

    if (run->disk == NULL)
        script_fail(run, "a script that crashes can not run in a real directory");
    if (op->args[0] > 0) {
        script_run_arm(run, mode, op->args[0]);
        return;
    }
    crash(run, mode);
    open_store(run);
    script_run_verify(run);
}

void
script_run_op(struct script_run *run, const struct script_op *op)
{
    static void (*const calls[SCRIPT_KINDS])(struct script_run *, const struct script_op *) = {
        [SCRIPT_PUT] = script_call_put,
        [SCRIPT_PUT_SYNC] = script_call_put,
        [SCRIPT_GET] = script_call_get,
        [SCRIPT_PROBE] = script_call_probe,
        [SCRIPT_EXISTS] = script_call_exists,
        [SCRIPT_TOUCH] = script_call_touch,
        [SCRIPT_REMOVE] = script_call_remove,
        [SCRIPT_CLEAR] = script_call_clear,
        [SCRIPT_SYNC] = call_sync,
        [SCRIPT_TICK] = call_tick,
        [SCRIPT_FILL] = call_fill,
        [SCRIPT_LIST] = script_call_list,
        [SCRIPT_SIZE_RATIO] = call_option,
        [SCRIPT_RUNS_PER_LEVEL] = call_option,
        [SCRIPT_RUNS_LAST_LEVEL] = call_option,
        [SCRIPT_REOPEN] = call_reopen,
        [SCRIPT_KILL] = call_crash,
        [SCRIPT_POWER] = call_crash,
        [SCRIPT_RECLAIM] = call_reclaim,
        [SCRIPT_CAPACITY] = call_option,
        [SCRIPT_ROOM] = call_option,
        [SCRIPT_MIN_FREE] = call_option,
    };
    char text[64];

    if (run->ended)
        return;
    script_op_text(op, text, sizeof(text));
    sim_log("%s", text);
    script_note(run, "%s:", text);
    calls[op->kind](run, op);
    script_note(run, "\n");
    recover(run);
}

void
script_run_refill(struct script_run *run)
{
    for (uint32_t ns = 0; ns < SCRIPT_NAMESPACES; ns++) {
        for (uint32_t chain = 0; chain < SCRIPT_CHAINS; chain++) {
            struct script_op op = {.kind = SCRIPT_PUT, .args = {ns, chain, 0, SCRIPT_CHAIN_PAGES}};

            script_run_op(run, &op);
            op.kind = SCRIPT_GET;
            script_run_op(run, &op);
        }
    }
}

void
script_run_finish(struct script_run *run)
{
    static const struct script_op reopen = {.kind = SCRIPT_REOPEN};

    script_run_verify(run);
    script_run_op(run, &reopen);
    script_run_verify(run);
    script_run_refill(run);
    script_run_verify(run);
    if (!close_store(run))
        recover(run);
}

void
script_run_end(struct script_run *run)
{
    if (run->disk != NULL)
        sim_disk_stop(run->disk);
    if (run->store != NULL)
        store_abandon(run->store);
    run->store = NULL;
    require_no_leaks(run, "the end");
    oracle_destroy(run->oracle);
    sim_disk_destroy(run->disk);
}

uint64_t
script_run_all(const struct script *script, const struct script_place *place)
{
    struct script_run run;

    script_run_begin(&run, script, place);
    for (size_t i = 0; i < script->count; i++)
        script_run_op(&run, &script->ops[i]);
    script_run_finish(&run);
    script_run_end(&run);
    return run.crashes;
}
