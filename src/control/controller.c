/* SPDX-License-Identifier: Apache-2.0 */
#include "control/controller.h"

#include <math.h>
#include <string.h>

#include "control/grid.h"
#include "format/run_format.h"

/* The regret rule and its constants: DESIGN.md, "On the controller". */
#define AVERAGE       0.2 /* weight of the last window, while HOLD_MIN windows lie between switches; less where more do */
#define SHIFTED       2.0  /* a mix that costs so many times more, or less, than the average one has shifted, */
#define SHIFTED_AFTER 2    /* once it does so in as many windows in a row; then the average begins anew */
#define DEAD_BAND     0.05 /* of the present cost: what is cheaper by less is not worth a thought */
#define REGRET_FACTOR 2.0  /* times the cost of the switch */
#define PAYBACK_S     5.0  /* time in which a switch should have earned what it costs */
#define SHAPE_MARGIN  0.1  /* of the present cost */
#define SWITCH_MIN_S  0.02 /* no switch is taken to be cheaper */
#define PAID          0.5  /* of its price, the regret that led to it included: then it paid */
#define HOLD_MIN      3 /* windows between switches; doubled after one that did not pay, halved after one that did, */
#define HOLD_MAX      64
#define HEAL          256 /* and halved after so many windows without any */
/* Windows for which a configuration that was left as a mistake is out of the question; doubled each time. */
#define BARRED_MIN  16
#define BARRED_MAX  4096
#define SLEEP_SHARE 0.01 /* of the payload's I/O */
#define WAKE_SHARE  0.012
#define TRIAL       4   /* windows that a switch is judged by, */
#define TRIAL_S     3.0 /* and seconds: merges come in bursts */
#define SETTLE      2 /* windows after a switch that say nothing about it, nor do those until a larger cache is full */

#define UNKNOWN_RATIO 1.5 /* of measured cost to predicted: what one that was left too soon is granted */

/* How much dearer a configuration turned out to be than predicted: sums since it is in force. */
struct record {
    double seconds, measured_s, predicted_s;
    unsigned windows;
};

struct controller {
    struct env *env;
    struct grid grid;
    enum control_mode mode;
    struct control_choice start;
    struct control_choice choice, before; /* in force, and before the last switch */
    size_t index;                         /* of the one in force */
    uint16_t barred[GRID_COUNT];          /* windows left */
    uint16_t barred_next[GRID_COUNT];     /* how many the next time; 0: BARRED_MIN */
    struct control_mix mix;
    bool has_mix, asleep;
    unsigned shifted; /* windows in a row */
    double regret;    /* seconds */
    unsigned since;   /* windows since the last switch, */
    unsigned hold;    /* and how many there have to be */
    struct record record;
    double price;        /* of the last switch: the regret that led to it, and its cost */
    double gained;       /* by it so far, as predicted for the work that came */
    bool paid;           /* that was more than its price, at some time */
    double to_fill;      /* blocks of a cache that was enlarged by it */
    double before_ratio; /* measured over predicted, of the one before; 0: not known, or judged already */
};

static void
reset(struct controller *controller, enum control_mode mode, const struct control_choice *start)
{
    const struct control_bounds bounds = controller->grid.bounds;

    grid_init(&controller->grid, &bounds, start);
    controller->mode = mode;
    controller->start = controller->choice = controller->before = *start;
    controller->hold = HOLD_MIN;
    controller->since = SETTLE;
    controller->regret = controller->price = controller->gained = controller->to_fill = controller->before_ratio = 0;
    controller->paid = true;
    controller->index = GRID_CURRENT;
    memset(controller->barred, 0, sizeof(controller->barred));
    memset(controller->barred_next, 0, sizeof(controller->barred_next));
    controller->asleep = false;
    controller->record = (struct record){0};
}

struct controller *
controller_create(struct env *env, const struct control_bounds *bounds, const struct control_choice *start)
{
    struct controller *controller = env_zalloc(env, sizeof(*controller));

    if (controller == NULL)
        return NULL;
    controller->env = env;
    controller->grid.bounds = *bounds;
    reset(controller, CONTROL_ON, start);
    return controller;
}

void
controller_destroy(struct controller *controller)
{
    if (controller != NULL)
        env_free(controller->env, controller);
}

bool
controller_configure(struct controller *controller, enum control_mode mode, const struct control_choice *start)
{
    if (mode == controller->mode && memcmp(start, &controller->start, sizeof(*start)) == 0)
        return false;
    reset(controller, mode, start);
    return true;
}

struct control_choice
controller_choice(const struct controller *controller)
{
    return controller->choice;
}

bool
controller_asleep(const struct controller *controller)
{
    return controller->asleep;
}

struct control_mix
controller_mix(const struct controller *controller)
{
    return controller->mix;
}

static void
blend(double *average, double sample, double weight)
{
    *average += weight * (sample - *average);
}

static void
average(struct control_mix *mix, const struct control_mix *sample, double weight)
{
    blend(&mix->pages_put, sample->pages_put, weight);
    blend(&mix->walks, sample->walks, weight);
    blend(&mix->searches, sample->searches, weight);
    blend(&mix->searches_found, sample->searches_found, weight);
    blend(&mix->onward_pins, sample->onward_pins, weight);
    blend(&mix->reads, sample->reads, weight);
    blend(&mix->payload_s, sample->payload_s, weight);
    blend(&mix->index_s, sample->index_s, weight);
    /* How blocks are reused changes more slowly than how often they are, and is known the better the more uses were seen. */
    for (int i = 0; i <= REUSE_BUCKETS; i++)
        mix->uses[i] += AVERAGE * (sample->uses[i] - mix->uses[i]);
}

static bool
same_shape(const struct control_choice *a, const struct control_choice *b)
{
    return a->size_ratio == b->size_ratio && a->runs_per_level == b->runs_per_level &&
           a->runs_last_level == b->runs_last_level;
}

static bool
differs(double a, double b)
{
    return a > SHIFTED * b || b > SHIFTED * a;
}

/* Take the window into the average, which begins anew where the work has shifted. The less often it is followed, the longer the average looks back. */
static void
take(struct controller *controller, const struct control_mix *mix)
{
    double weight = AVERAGE * HOLD_MIN / controller->hold;
    bool differ = controller->has_mix && (differs(mix->pages_put, controller->mix.pages_put) ||
                                          differs(mix->searches, controller->mix.searches));

    controller->shifted = differ ? controller->shifted + 1 : 0;
    if (!controller->has_mix)
        controller->mix = *mix;
    controller->has_mix = true;
    if (controller->mode == CONTROL_NOMINAL)
        weight = 1;
    if (controller->shifted >= SHIFTED_AFTER && controller->hold == HOLD_MIN) {
        weight = 1;
        controller->regret = 0;
    }
    if (controller->shifted >=
        SHIFTED_AFTER) { /* the model errs differently for other work: that says nothing of the last switch */
        controller->before_ratio = 0;
        controller->record = (struct record){0};
        controller->shifted = 0;
    }
    average(&controller->mix, mix, weight);
}

static void
update_grid(const struct controller *controller, struct grid *grid, const struct control_mix *mix,
            const struct control_constants *constants, const struct outlook_layout *layout, double seconds)
{
    const struct control_choice own[GRID_OWN] = {controller->choice, controller->before};

    grid_update(grid, mix, constants, layout, own, seconds);
}

static double
cost_at(const struct controller *controller, const struct control_constants *constants, size_t index)
{
    struct control_cost cost;

    grid_cost(&controller->grid, &controller->mix, constants, index, &cost);
    return cost.total;
}

/*
 * Seconds that a switch takes: merges that the shape asks for at once, beyond those that are due anyhow, and the reads of blocks that they replace; blocks that a smaller cache drops, as far as they are missed; a flush to shrink
 * the memtable.
 */
static double
switch_cost(const struct controller *controller, const struct control_constants *constants, size_t index)
{
    struct control_choice to = grid_choice(&controller->grid, index);
    const struct control_choice *from = &controller->choice;
    double settle = fmax(0, grid_outlook(&controller->grid, index)->settle_pages -
                                grid_outlook(&controller->grid, GRID_CURRENT)->settle_pages);
    double kept = fmin((double)from->cache_bytes, (double)to.cache_bytes), pages = controller->grid.pages;
    double misses = control_miss_ratio(&controller->mix, constants, kept);
    double seconds = settle * constants->merge_page_s;

    if (pages > 0)
        seconds += fmin(1, settle / pages) * (1 - misses) * kept / BLOCK_BYTES * constants->read_s;
    if (to.cache_bytes < from->cache_bytes) {
        double lost = misses - control_miss_ratio(&controller->mix, constants, (double)from->cache_bytes);

        seconds += lost * (double)(from->cache_bytes - to.cache_bytes) / BLOCK_BYTES * constants->read_s;
    }
    if (to.memtable_bytes < from->memtable_bytes)
        seconds += constants->flush_s;
    return fmax(seconds, SWITCH_MIN_S);
}

static void
hold_longer(struct controller *controller)
{
    controller->hold = controller->hold * 2 < HOLD_MAX ? controller->hold * 2 : HOLD_MAX;
}

static void
hold_shorter(struct controller *controller)
{
    controller->hold = controller->hold / 2 > HOLD_MIN ? controller->hold / 2 : HOLD_MIN;
}

static bool
is_known(const struct record *record)
{
    return record->windows >= TRIAL && record->seconds >= TRIAL_S;
}

static void
go_to(struct controller *controller, size_t index, double price)
{
    const struct control_choice choice = grid_choice(&controller->grid, index);
    const struct record *record = &controller->record;
    uint64_t more =
        choice.cache_bytes > controller->choice.cache_bytes ? choice.cache_bytes - controller->choice.cache_bytes : 0;

    controller->before = controller->choice;
    controller->before_ratio = is_known(record) ? record->measured_s / record->predicted_s : UNKNOWN_RATIO;
    controller->to_fill = (double)more / BLOCK_BYTES;
    controller->choice = choice;
    controller->index = index < GRID_COUNT ? index : grid_find(&controller->grid, &choice);
    controller->record = (struct record){0};
    controller->price = price;
    controller->paid = false;
    controller->regret = controller->gained = 0;
    controller->since = 0;
}

/*
 * Was the last switch a mistake? The model's error, measured over predicted, is taken to be that of each configuration: where the one left would cost less
 * now, with its own error, than the one in force, with its own.
 */
static bool
must_revert(struct controller *controller, const struct control_constants *constants, struct control_decision *decision)
{
    double before;

    if (controller->before_ratio <= 0 || !is_known(&controller->record))
        return false;
    decision->error_from = controller->record.measured_s / controller->record.predicted_s;
    decision->error_to = controller->before_ratio;
    before = decision->error_to * cost_at(controller, constants, GRID_PREVIOUS);
    controller->before_ratio = 0;
    return decision->error_from * decision->cost_from > (1 + DEAD_BAND) * before;
}

/* The configuration in force turned out to be a mistake. */
static void
bar(struct controller *controller)
{
    uint16_t *next = &controller->barred_next[controller->index];

    if (controller->index >= GRID_COUNT)
        return;
    if (*next == 0)
        *next = BARRED_MIN;
    controller->barred[controller->index] = *next;
    *next = *next < BARRED_MAX ? (uint16_t)(*next * 2) : BARRED_MAX;
}

/* Time heals: a window has gone by. */
static void
heal(struct controller *controller)
{
    for (size_t i = 0; i < GRID_COUNT; i++)
        controller->barred[i] = controller->barred[i] > 0 ? (uint16_t)(controller->barred[i] - 1) : 0;
    if (controller->since > 0 && controller->since % HEAL == 0)
        hold_shorter(controller);
}

/* Asleep or awake, and whether that is new. */
static enum control_event
doze(struct controller *controller)
{
    const struct control_mix *mix = &controller->mix;
    bool asleep = mix->index_s < (controller->asleep ? WAKE_SHARE : SLEEP_SHARE) * mix->payload_s;

    if (asleep == controller->asleep)
        return CONTROL_NONE;
    controller->asleep = asleep;
    controller->regret = 0;
    return asleep ? CONTROL_SLEEP : CONTROL_WAKE;
}

/* The window, for the records: what was predicted is the cost of its own mix. One with merges that an earlier one left undone says nothing. */
static void
note(struct controller *controller, const struct control_mix *sample, double seconds,
     const struct control_constants *constants, const struct outlook_layout *layout)
{
    struct control_cost cost, before;
    double predicted;

    grid_cost(&controller->grid, sample, constants, GRID_CURRENT, &cost);
    grid_cost(&controller->grid, sample, constants, GRID_PREVIOUS, &before);
    predicted = cost.total;
    controller->gained += (before.total - cost.total) * seconds;
    controller->paid = controller->paid || controller->gained >= PAID * controller->price;
    controller->since++;
    controller->to_fill -= sample->reads * seconds;
    if (controller->since <= SETTLE || controller->to_fill > 0 || grid_backlog(&controller->choice, layout) > 0)
        return;
    controller->record.measured_s += sample->index_s * seconds;
    controller->record.predicted_s += predicted * seconds;
    controller->record.seconds += seconds;
    controller->record.windows++;
}

/*
 * What would be best to go to: the least cost, with that of the switch spread over PAYBACK_S. GRID_CURRENT: nothing is better than to stay. Memory moves at
 * once and costs next to nothing; another shape takes merges for as long as levels need to follow, and is what the model knows least well (control_cost_test prints by
 * how much), so it has to promise SHAPE_MARGIN more.
 */
static size_t
find_better(const struct controller *controller, const struct control_constants *constants,
            struct control_decision *decision)
{
    double least = decision->cost_from;
    size_t best = GRID_CURRENT;

    for (size_t i = 0; i < GRID_COUNT; i++) {
        struct control_choice choice = grid_choice(&controller->grid, i);
        double cost, handicap;

        if (controller->barred[i] > 0 || i == controller->index)
            continue;
        cost = cost_at(controller, constants, i);
        handicap = same_shape(&choice, &controller->choice) ? 0 : SHAPE_MARGIN * decision->cost_from;
        if (cost + handicap >= least)
            continue;
        handicap += switch_cost(controller, constants, i) / PAYBACK_S;
        if (cost + handicap < least) {
            least = cost + handicap;
            best = i;
            decision->cost_to = cost;
        }
    }
    if (best != GRID_CURRENT)
        decision->switch_cost = switch_cost(controller, constants, best);
    return best;
}

/* Whether it is time to. */
static bool
must_switch(struct controller *controller, double seconds, struct control_decision *decision)
{
    double gain = decision->cost_from - decision->cost_to;

    if (controller->mode == CONTROL_NOMINAL)
        return true;
    controller->regret = fmax(0, controller->regret + (gain - DEAD_BAND * decision->cost_from) * seconds);
    decision->regret = controller->regret;
    return controller->regret > 0 && controller->regret >= REGRET_FACTOR * decision->switch_cost &&
           controller->since >= controller->hold;
}

void
controller_window(struct controller *controller, const struct control_mix *mix, double seconds,
                  const struct control_constants *constants, const struct outlook_layout *layout,
                  struct control_decision *out)
{
    size_t best;

    take(controller, mix);
    *out = (struct control_decision){.from = controller->choice, .to = controller->choice, .mix = controller->mix};
    if (controller->mode == CONTROL_OFF)
        return;
    out->event = controller->mode == CONTROL_NOMINAL ? CONTROL_NONE : doze(controller);
    if (controller->asleep || out->event != CONTROL_NONE)
        return;
    update_grid(controller, &controller->grid, &controller->mix, constants, layout, seconds);
    note(controller, mix, seconds, constants, layout);
    heal(controller);
    out->cost_from = cost_at(controller, constants, GRID_CURRENT);
    if (controller->mode == CONTROL_ON && must_revert(controller, constants, out)) {
        out->event = CONTROL_REVERT;
        out->to = controller->before;
        bar(controller);
        hold_longer(controller);
        go_to(controller, GRID_PREVIOUS, 0);
        controller->before_ratio = 0;
        return;
    }
    best = find_better(controller, constants, out);
    if (best == GRID_CURRENT)
        controller->regret = 0;
    else if (must_switch(controller, seconds, out)) {
        out->event = CONTROL_SWITCH;
        out->to = grid_choice(&controller->grid, best);
        if (!controller->paid)
            hold_longer(controller); /* the last switch did not pay: what it was for did not last */
        else
            hold_shorter(controller);
        go_to(controller, best, out->regret + out->switch_cost);
    }
}

size_t
controller_rows(struct controller *controller, const struct control_mix *mix, const struct control_constants *constants,
                const struct outlook_layout *layout, struct control_row *rows, size_t room)
{
    struct grid *grid = env_zalloc(controller->env, sizeof(*grid));
    size_t best;
    double cost;

    if (grid == NULL)
        return 0;
    grid_init(grid, &controller->grid.bounds, &controller->start);
    update_grid(controller, grid, mix, constants, layout, 0);
    best = grid_best(grid, mix, constants, &cost);
    for (size_t i = 0; i <= GRID_COUNT && i < room; i++) {
        size_t index = i == 0 ? GRID_CURRENT : i - 1; /* the one in force first */

        rows[i].choice = grid_choice(grid, index);
        grid_cost(grid, mix, constants, index, &rows[i].cost);
        rows[i].current = i == 0;
        rows[i].best = index == best;
    }
    env_free(controller->env, grid);
    return GRID_COUNT + 1;
}
