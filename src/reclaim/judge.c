/* SPDX-License-Identifier: Apache-2.0 */
#include "reclaim/judge.h"

#define SLOTS 8192u /* of a table: a power of two, twice JUDGE_PAGES */
#define NONE  UINT16_MAX

#define WINDOW_MIN   10000u /* pages asked for */
#define WINDOW_TURNS 8u     /* or so many times the size of the store */

/*
 * What an answer must have gained on LRU to be taken, and to be kept: thousandths of a window's pages, and on top of that so many standard deviations of
 * the sum of what single calls gained. Pages of one chain come and go together, so calls are what chance draws.
 */
struct bar {
    double thousandths, deviations;
};

static const struct bar to_take = {3, 3}, to_keep = {1, 2};

/* By answer: the part of the live set's age that a new page has, in 256ths. */
static const uint64_t demotions[JUDGE_ANSWERS] = {0, 128, 218};

/* A cache that gives one of the answers: a heap of its pages by when they were used, the oldest first, and a table to find them by id. */
struct shadow {
    uint32_t count;
    uint16_t heap[JUDGE_PAGES];  /* pages */
    uint16_t place[JUDGE_PAGES]; /* of a page in the heap */
    uint64_t ids[JUDGE_PAGES];
    uint64_t values[JUDGE_PAGES];
    uint16_t table[SLOTS]; /* pages, NONE: empty */
    double gained, spread; /* of late: gained on LRU, and the sum of the squares of what each call gained */
};

struct judge {
    struct env *env;
    uint64_t clock;
    uint64_t room;  /* of a shadow */
    unsigned shift; /* one page of 1 << shift is in the sample */
    double window;  /* of what counts as of late: sampled pages asked for */
    unsigned answer;
    struct shadow shadows[JUDGE_ANSWERS];
};

struct judge *
judge_create(struct env *env, uint64_t pages)
{
    struct judge *judge = env_zalloc(env, sizeof(*judge));
    uint64_t window = pages * WINDOW_TURNS > WINDOW_MIN ? pages * WINDOW_TURNS : WINDOW_MIN;

    if (judge == NULL)
        return NULL;
    judge->env = env;
    while (pages >> judge->shift > JUDGE_PAGES)
        judge->shift++;
    judge->room = pages >> judge->shift;
    judge->window = (double)(window >> judge->shift);
    for (size_t i = 0; i < JUDGE_ANSWERS; i++) {
        for (size_t slot = 0; slot < SLOTS; slot++)
            judge->shadows[i].table[slot] = NONE;
    }
    return judge;
}

void
judge_destroy(struct judge *judge)
{
    if (judge != NULL)
        env_free(judge->env, judge);
}

static uint32_t
home_of(uint64_t id)
{
    return (uint32_t)(id >> 32) & (SLOTS - 1);
}

/* The slot of the id, or the empty one where it would be. */
static uint32_t
slot_of(const struct shadow *shadow, uint64_t id)
{
    uint32_t slot = home_of(id);

    while (shadow->table[slot] != NONE && shadow->ids[shadow->table[slot]] != id)
        slot = (slot + 1) & (SLOTS - 1);
    return slot;
}

/* Entries behind an empty slot that belong before it move up, so that none is lost. */
static void
table_remove(struct shadow *shadow, uint64_t id)
{
    uint32_t hole = slot_of(shadow, id);

    for (uint32_t slot = (hole + 1) & (SLOTS - 1); shadow->table[slot] != NONE; slot = (slot + 1) & (SLOTS - 1)) {
        uint32_t home = home_of(shadow->ids[shadow->table[slot]]);

        if (((slot - home) & (SLOTS - 1)) >= ((slot - hole) & (SLOTS - 1))) {
            shadow->table[hole] = shadow->table[slot];
            hole = slot;
        }
    }
    shadow->table[hole] = NONE;
}

static void
put_at(struct shadow *shadow, uint32_t at, uint16_t page)
{
    shadow->heap[at] = page;
    shadow->place[page] = (uint16_t)at;
}

/* The page at `at` has become younger, or is new there. */
static void
sift(struct shadow *shadow, uint32_t at)
{
    uint16_t page = shadow->heap[at];
    uint64_t value = shadow->values[page];

    for (; at > 0 && value < shadow->values[shadow->heap[(at - 1) / 2]]; at = (at - 1) / 2)
        put_at(shadow, at, shadow->heap[(at - 1) / 2]);
    for (uint32_t child; (child = 2 * at + 1) < shadow->count; at = child) {
        if (child + 1 < shadow->count && shadow->values[shadow->heap[child + 1]] < shadow->values[shadow->heap[child]])
            child++;
        if (value <= shadow->values[shadow->heap[child]])
            break;
        put_at(shadow, at, shadow->heap[child]);
    }
    put_at(shadow, at, page);
}

static uint64_t
oldest(const struct shadow *shadow)
{
    return shadow->values[shadow->heap[0]];
}

/* A page that is not there comes in at `value`, for the oldest one where there is no room, unless it is older itself. */
static void
insert(struct shadow *shadow, uint64_t room, uint64_t id, uint64_t value)
{
    uint16_t page;
    uint32_t at = 0;

    if (shadow->count < room) {
        at = shadow->count++;
        page = (uint16_t)at;
    } else {
        if (value < oldest(shadow))
            return;
        page = shadow->heap[0];
        table_remove(shadow, shadow->ids[page]);
    }
    shadow->ids[page] = id;
    shadow->values[page] = value;
    shadow->table[slot_of(shadow, id)] = page;
    put_at(shadow, at, page);
    sift(shadow, at);
}

static bool
in_sample(const struct judge *judge, uint64_t id)
{
    return (id & ((UINT64_C(1) << judge->shift) - 1)) == 0;
}

/* One page in one cache. As the store does it: what was there is used now; from the first miss on, all is as old as new pages are. */
static void
play(struct judge *judge, struct judge_call *call, unsigned answer, uint64_t id, uint64_t used)
{
    struct shadow *shadow = &judge->shadows[answer];
    uint16_t page = shadow->table[slot_of(shadow, id)];

    call->answers[answer].missed = call->answers[answer].missed || page == NONE;
    if (call->answers[answer].missed)
        used -= call->answers[answer].demotion;
    else
        call->answers[answer].hits++;
    if (page == NONE) {
        insert(shadow, judge->room, id, used);
    } else if (used > shadow->values[page]) {
        shadow->values[page] = used;
        sift(shadow, shadow->place[page]);
    }
}

static bool
is_above(const struct judge *judge, const struct shadow *shadow, const struct bar *bar)
{
    double above = shadow->gained - judge->window * bar->thousandths / 1000;

    return above > 0 && above * above > bar->deviations * bar->deviations * shadow->spread;
}

static void
decide(struct judge *judge)
{
    const struct shadow *shadows = judge->shadows;

    if (judge->answer != 0 && !is_above(judge, &shadows[judge->answer], &to_keep))
        judge->answer = 0;
    for (unsigned i = 1; i < JUDGE_ANSWERS; i++) {
        double ahead = shadows[i].gained - (judge->answer == 0 ? 0 : shadows[judge->answer].gained);

        if (is_above(judge, &shadows[i], &to_take) && ahead > judge->window * to_take.thousandths / 1000)
            judge->answer = i;
    }
}

void
judge_begin(struct judge *judge, struct judge_call *call, size_t count)
{
    judge->clock += count + 1;
    *call = (struct judge_call){.value = judge->clock};
    for (unsigned answer = 0; answer < JUDGE_ANSWERS; answer++) {
        const struct shadow *shadow = &judge->shadows[answer];
        uint64_t age = shadow->count < judge->room ? 0 : judge->clock - oldest(shadow);

        call->answers[answer].demotion = age * demotions[answer] / 256;
    }
}

void
judge_asked(struct judge *judge, struct judge_call *call, uint64_t id, size_t index)
{
    if (!in_sample(judge, id))
        return;
    call->asked++;
    for (unsigned answer = 0; answer < JUDGE_ANSWERS; answer++)
        play(judge, call, answer, id, call->value - index);
}

void
judge_end(struct judge *judge, const struct judge_call *call)
{
    double keep = call->asked < judge->window ? 1 - call->asked / judge->window : 0;

    for (unsigned answer = 1; answer < JUDGE_ANSWERS; answer++) {
        struct shadow *shadow = &judge->shadows[answer];
        double gained = call->answers[answer].hits - call->answers[0].hits;

        shadow->gained = shadow->gained * keep + gained;
        shadow->spread = shadow->spread * keep + gained * gained;
    }
    decide(judge);
}

uint64_t
judge_demotion(const struct judge *judge, const struct heat *heat)
{
    uint64_t age = heat->clock - (heat->horizon << heat->shift);

    return age * demotions[judge->answer] / 256;
}

unsigned
judge_answer(const struct judge *judge)
{
    return judge->answer;
}
