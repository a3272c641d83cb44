/* SPDX-License-Identifier: Apache-2.0 */
/* What the controller says: its decisions, and what it makes of every configuration. */
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "format/run_format.h"
#include "store/calls.h"
#include "store/store.h"

static const char *
event_name(enum control_event event)
{
    switch (event) {
    case CONTROL_SWITCH:
        return "switch";
    case CONTROL_REVERT:
        return "revert";
    case CONTROL_SLEEP:
        return "sleep: the index takes under 1 % of the time of reads and writes, not worth tuning";
    case CONTROL_WAKE:
        return "wake: the index takes over 1 % of the time of reads and writes";
    case CONTROL_NONE:
        break;
    }
    return "";
}

static int
print_choice(char *buf, size_t size, const struct control_choice *choice)
{
    return snprintf(buf, size, "T=%u K=%u Z=%u width %u memtable %" PRIu64 "K cache %" PRIu64 "K", choice->size_ratio,
                    choice->runs_per_level, choice->runs_last_level, choice->fingerprint_bits,
                    choice->memtable_bytes >> 10, choice->cache_bytes >> 10);
}

void
control_log_add(varve_store *store, const struct control_decision *decision)
{
    struct control *control = &store->control;
    const struct control_entry entry = {
        .at_ns = store->env->ops->now_ns(store->env) - control->opened_ns,
        .realtime_ns = store->env->ops->realtime_ns(store->env),
        .decision = *decision,
    };

    mutex_lock(&control->lock);
    control->log[control->logged++ % CONTROL_LOG_MAX] = entry;
    mutex_unlock(&control->lock);
}

void
control_print(const struct control_entry *entry, char line[CONTROL_LINE_BYTES])
{
    const struct control_decision *decision = &entry->decision;
    const struct control_mix *mix = &decision->mix;
    char from[128], to[128], why[256] = "";

    (void)print_choice(from, sizeof(from), &decision->from);
    (void)print_choice(to, sizeof(to), &decision->to);
    if (decision->event == CONTROL_SWITCH)
        (void)snprintf(why, sizeof(why), "; predicted %.4f -> %.4f s/s, regret %.4f s, the switch costs %.4f s",
                       decision->cost_from, decision->cost_to, decision->regret, decision->switch_cost);
    else if (decision->event == CONTROL_REVERT)
        (void)snprintf(why, sizeof(why), "; measured %.2f times the prediction, before the switch %.2f times",
                       decision->error_from, decision->error_to);
    if (decision->event == CONTROL_SLEEP || decision->event == CONTROL_WAKE)
        (void)snprintf(line, CONTROL_LINE_BYTES, "%9.1f s  %s; measured %.4f of %.4f s/s", (double)entry->at_ns / 1e9,
                       event_name(decision->event), mix->index_s, mix->payload_s);
    else
        (void)snprintf(line, CONTROL_LINE_BYTES,
                       "%9.1f s  %s %s -> %s; %.0f pages/s put, %.0f walks/s, %.0f searches/s (%.0f found)%s",
                       (double)entry->at_ns / 1e9, event_name(decision->event), from, to, mix->pages_put, mix->walks,
                       mix->searches, mix->searches_found, why);
}

size_t
store_control_log(varve_store *store, void (*line)(void *arg, const char *text), void *arg)
{
    struct control *control = &store->control;
    size_t count = 0;

    for (uint64_t i = 0;; i++) { /* the lock is not held while others' code runs */
        struct control_entry entry = {0};
        char text[CONTROL_LINE_BYTES];
        uint64_t first;
        bool more;

        mutex_lock(&control->lock);
        first = control->logged > CONTROL_LOG_MAX ? control->logged - CONTROL_LOG_MAX : 0;
        i = i < first ? first : i;
        more = i < control->logged;
        if (more)
            entry = control->log[i % CONTROL_LOG_MAX];
        mutex_unlock(&control->lock);
        if (!more)
            break;
        control_print(&entry, text);
        line(arg, text);
        count++;
    }
    return count;
}

/* A mix that somebody describes, in the figures that the model takes. Uses of blocks are taken to be spread evenly over the runs. */
static void
describe(const varve_tune_mix *given, const struct outlook_layout *layout, const struct control_constants *constants,
         struct control_mix *mix)
{
    struct outlook now;
    double bytes = 0;

    outlook_now(layout, &now);
    for (size_t i = 0; i < layout->count; i++)
        bytes += layout->runs[i].pages * layout->page_bytes;
    *mix = (struct control_mix){
        .pages_put = given->pages_put,
        .walks = given->walks,
        .searches_found = given->walks * outlook_spread(&now, given->walk_turns),
        .onward_pins = given->walks * given->walk_pages * layout->page_bytes / BLOCK_BYTES,
    };
    mix->searches = mix->searches_found + given->misses;
    for (int i = 0; i < REUSE_BUCKETS; i++) {
        double left = bytes / constants->reuse_step_bytes - i;

        mix->uses[i] = left >= 1 ? 1 : left > 0 ? left : 0;
    }
    mix->uses[REUSE_BUCKETS] =
        bytes / constants->reuse_step_bytes > REUSE_BUCKETS ? bytes / constants->reuse_step_bytes - REUSE_BUCKETS : 0;
}

static void
fill_row(const struct control_row *from, varve_tune_row *to)
{
    const struct control_choice *choice = &from->choice;

    *to = (varve_tune_row){
        .size_ratio = choice->size_ratio,
        .runs_per_level = choice->runs_per_level,
        .runs_last_level = choice->runs_last_level,
        .fingerprint_bits = choice->fingerprint_bits,
        .memtable_bytes = choice->memtable_bytes,
        .block_cache_bytes = choice->cache_bytes,
        .cost = from->cost.total,
        .cost_reads = from->cost.reads + from->cost.refills,
        .cost_locators = from->cost.locators,
        .cost_flushes = from->cost.flushes,
        .cost_merges = from->cost.merges,
        .current = from->current,
        .best = from->best,
    };
}

int64_t
store_tune(varve_store *store, const varve_tune_mix *mix, varve_tune_row *rows, size_t room, varve_error *err)
{
    struct control_row *judged;
    struct outlook_layout layout;
    struct control *control;
    struct control_mix own;
    size_t count;

    judged = store->env->ops->alloc(store->env, (room + 1) * sizeof(*judged), _Alignof(struct control_row));
    if (judged == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    control = &store->control;
    control_measure_layout(store->index, &layout);
    mutex_lock(&control->lock);
    own = controller_mix(control->controller);
    if (mix != NULL)
        describe(mix, &layout, &control->constants, &own);
    count = controller_rows(control->controller, &own, &control->constants, &layout, judged, room);
    mutex_unlock(&control->lock);
    for (size_t i = 0; i < count && i < room; i++)
        fill_row(&judged[i], &rows[i]);
    env_free(store->env, judged);
    return count == 0 ? error_set(err, VARVE_E_NOMEM, "out of memory") : (int64_t)count;
}
