/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_scope: every sequence of a few operations out of a small alphabet, with a crash at every change of the disk that its last operation
 * makes, and after it; the crash points of the operations before it are those of the shorter sequences. After each crash the store is
 * recovered, verified as a whole, put to more, and verified again. A directory that was recovered before, with the same pages due in it, is
 * not recovered again. A prefix that ends in an operation that changed nothing is not gone on with: the shorter one is.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/hash.h"
#include "script_run.h"
#include "sim_log.h"

#define LETTERS        10
#define LENGTH_MAX     6
#define LENGTH_LONG    4
#define SECONDS_A_CASE 60

/* A segment holds A and B, but not A and C, which forks from A within it; the merge of two runs is due at once. */
static const struct script_op alphabet[LETTERS] = {
    {SCRIPT_PUT, {0, 0, 0, 2}},    /* A */
    {SCRIPT_PUT, {0, 0, 2, 1}},    /* B: goes on after A */
    {SCRIPT_PUT, {0, 1, 1, 3}},    /* C: forks from A, and names the second page of A again */
    {SCRIPT_REMOVE, {0, 0, 1, 1}}, /* R: the second page of A */
    {SCRIPT_CLEAR, {0}},           /* L */
    {SCRIPT_SYNC, {0}},            /* S */
    {SCRIPT_TICK, {0}},            /* I: seal, sync, flush, reclaim, merge, until idle */
    {SCRIPT_FILL, {0}},            /* F */
    {SCRIPT_REOPEN, {0}},          /* O */
    {SCRIPT_KILL, {0}},            /* K: the crash points are those of the recovery */
};
static const char letters[] = "ABCRLSIFOK";

/* What is called after the recovery. */
static const struct script_op after[] = {
    {SCRIPT_PUT, {0, 1, 0, 3}},
    {SCRIPT_PUT, {1, 3, 0, 1}},
};

struct crash_point {
    enum sim_crash_mode mode;
    uint64_t at; /* the change of the disk, from 1 */
    /* 0: a kill. A power failure: 1, all that was not synced is lost; from 2 on, the coins of this number decide. */
    uint64_t coin;
};

struct arguments {
    size_t length;
    uint64_t part, parts;
    uint64_t coins;          /* of power failures, a crash point */
    const char *sequence;    /* only this one, */
    struct crash_point only; /* and, where they are not zero, only these */
};

static const char usage[] =
    "usage: sim_scope [--length=N] [--coins=N] [--part=I/N] [--verbose]\n"
    "       sim_scope --sequence=LETTERS [--kill | --power] [--at=N] [--coin=N] [--verbose]\n"
    "  --length=N   sequences of at most so many operations (3)\n"
    "  --coins=N    power failures at each crash point (2): the first loses all that was not synced, others some by "
    "chance\n"
    "  --part=I/N   only the Ith part of the work, from 0\n"
    "  --sequence   one sequence; at one crash point, one way, when they are given\n"
    "  letters: A put, B put behind A, C put a fork of A, R remove a page of A, L clear, S sync, I background work "
    "until\n"
    "           there is none, F the memtable is full, O close and open, K die and open\n";

struct totals {
    uint64_t sequences, skipped, points, crashes, known;
};

/* Digests of what crashes left; 0: an empty slot. */
static struct {
    uint64_t *slots;
    size_t slot_count, count;
    bool off; /* each is recovered */
} states;

/* The slot that holds the digest, or where it belongs. */
static uint64_t *
states_slot(uint64_t digest)
{
    size_t slot = digest % states.slot_count;

    while (states.slots[slot] != 0 && states.slots[slot] != digest)
        slot = (slot + 1) % states.slot_count;
    return &states.slots[slot];
}

static void
states_grow(void)
{
    uint64_t *old = states.slots;
    size_t old_count = states.slot_count;

    states.slot_count = 2 * old_count + 1024;
    states.slots = sim_alloc(states.slot_count * sizeof(*states.slots));
    for (size_t i = 0; i < old_count; i++) {
        if (old[i] != 0)
            *states_slot(old[i]) = old[i];
    }
    free(old);
}

/* False: the digest was there already. */
static bool
states_add(uint64_t digest)
{
    uint64_t *slot;

    if (2 * states.count >= states.slot_count)
        states_grow();
    slot = states_slot(digest);
    if (*slot == digest)
        return false;
    *slot = digest;
    states.count++;
    return true;
}

/* What the directory holds, and what the oracle allows. What is durable of it matters to another power failure only, which does not come. */
static bool
state_known(const struct script_run *run)
{
    const struct oracle *oracle = run->oracle;
    uint64_t digest = 0;

    for (size_t i = 0; i < run->disk->current.count; i++) {
        const struct sim_dir_entry *entry = &run->disk->current.entries[i];
        const struct sim_bytes *bytes = &entry->inode->current;

        digest += sim_mix(hash_bytes(entry->name, strlen(entry->name)) ^
                          sim_mix(hash_bytes(bytes->size > 0 ? bytes->data : (const uint8_t *)"", bytes->size)));
    }
    for (uint32_t ns = 0; ns < SCRIPT_NAMESPACES; ns++) {
        for (uint32_t page = 0; page < oracle->pages; page++)
            digest =
                sim_mix(digest + oracle_may_be(oracle, ns, page, true) + 2 * oracle_may_be(oracle, ns, page, false));
    }
    return !states_add(digest | 1);
}

static void
script_make(const char *sequence, struct script *script)
{
    *script = (struct script){.count = strlen(sequence)};
    for (size_t i = 0; i < script->count; i++)
        script->ops[i] = alphabet[strchr(letters, sequence[i]) - letters];
}

/* Run up to the last operation. */
static void
run_prefix(struct script_run *run, const struct script *script)
{
    const struct script_place place = {.seed = 1};

    script_run_begin(run, script, &place);
    for (size_t i = 0; i + 1 < script->count; i++)
        script_run_op(run, &script->ops[i]);
}

/* The last operation makes `changes` of the disk; a crash point behind them is the moment after it. */
static void
run_crash(const char *sequence, const struct script *script, uint64_t changes, const struct crash_point *point,
          struct totals *totals)
{
    struct script_run run;
    char repro[120];

    (void)snprintf(repro, sizeof(repro),
                   "build/tests/sim/sim_scope --sequence=%s --%s --at=%" PRIu64 " --coin=%" PRIu64, sequence,
                   point->mode == SIM_CRASH_KILL ? "kill" : "power", point->at, point->coin);
    sim_log_begin(repro);
    run_prefix(&run, script);
    run.crash_seed = hash_bytes(sequence, script->count) + sim_mix(point->at + (point->coin << 32));
    run.lose_all = point->coin == 1;
    run.known = states.off ? NULL : state_known;
    script_run_arm(&run, point->mode, point->at);
    script_run_op(&run, &script->ops[script->count - 1]);
    if (point->at > changes) {
        const struct script_op crash = {.kind = point->mode == SIM_CRASH_KILL ? SCRIPT_KILL : SCRIPT_POWER};

        script_run_arm(&run, point->mode, 0);
        script_run_op(&run, &crash);
    }
    for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++)
        script_run_op(&run, &after[i]);
    script_run_verify(&run);
    totals->known += run.ended;
    totals->crashes++;
    script_run_end(&run);
}

/* Without a crash. Returns how many changes of the disk the last operation makes. */
static uint64_t
run_whole(const char *sequence, const struct script *script)
{
    struct script_run run;
    uint64_t changes;
    char repro[80];

    (void)snprintf(repro, sizeof(repro), "build/tests/sim/sim_scope --sequence=%s", sequence);
    sim_log_begin(repro);
    run_prefix(&run, script);
    changes = run.disk->changes;
    script_run_op(&run, &script->ops[script->count - 1]);
    changes = run.disk->changes - changes;
    script_run_verify(&run);
    script_run_end(&run);
    return changes;
}

static bool
wanted(const struct arguments *args, const struct crash_point *point)
{
    return (args->only.mode == 0 || args->only.mode == point->mode) &&
           (args->only.at == 0 || args->only.at == point->at) &&
           (args->only.coin == 0 || args->only.coin == point->coin);
}

/* Returns whether the last operation did nothing. */
static bool
run_sequence(const struct arguments *args, const char *sequence, struct totals *totals)
{
    struct crash_point point;
    struct script script;
    uint64_t points;

    sim_watchdog(SECONDS_A_CASE);
    script_make(sequence, &script);
    points = run_whole(sequence, &script);
    totals->sequences++;
    totals->points += points + 1;
    for (point.at = 1; point.at <= points + 1; point.at++) {
        for (point.coin = 0; point.coin <= args->coins; point.coin++) {
            /* What was in flight when a process dies is little: one way is enough. */
            point.mode = point.coin == 0 ? SIM_CRASH_KILL : SIM_CRASH_POWER;
            if (wanted(args, &point))
                run_crash(sequence, &script, points, &point, totals);
        }
    }
    /* A full memtable shows in nothing but the next put. */
    return script.ops[script.count - 1].kind == SCRIPT_FILL
               ? script.count > 1 && script.ops[script.count - 2].kind == SCRIPT_FILL
               : points == 0;
}

/* The sequence of this number among those of its length. */
static void
name_sequence(uint64_t number, size_t length, char *sequence)
{
    sequence[length] = '\0';
    for (size_t i = length; i-- > 0; number /= LETTERS)
        sequence[i] = letters[number % LETTERS];
}

/*
 * Long sequences begin with a put: on an empty store the other operations show no more than they did in the shorter ones. Parts divide by
 * the second letter, since the first would leave some of them nearly empty.
 */
static bool
mine(const struct arguments *args, const char *sequence)
{
    if (strlen(sequence) >= LENGTH_LONG && strchr("ABC", sequence[0]) == NULL)
        return false;
    if (sequence[1] == '\0')
        return args->part == 0;
    return (uint64_t)(strchr(letters, sequence[1]) - letters) % args->parts == args->part;
}

static void
run_all(const struct arguments *args, struct totals *totals)
{
    uint64_t count = LETTERS;
    bool *ended = NULL; /* of the sequences one shorter: not to be gone on with */

    for (size_t length = 1; length <= args->length; length++, count *= LETTERS) {
        bool *ends = sim_alloc(count * sizeof(*ends));

        for (uint64_t number = 0; number < count; number++) {
            char sequence[LENGTH_MAX + 1];

            name_sequence(number, length, sequence);
            if (ended != NULL && ended[number / LETTERS]) {
                ends[number] = true;
                totals->skipped += mine(args, sequence);
            } else if (mine(args, sequence)) {
                ends[number] = run_sequence(args, sequence, totals);
            }
        }
        free(ended);
        ended = ends;
    }
    free(ended);
}

static bool
parse(int argc, char **argv, struct arguments *args)
{
    static const struct option options[] = {
        {"length", required_argument, NULL, 'l'}, {"part", required_argument, NULL, 'p'},
        {"coins", required_argument, NULL, 'c'},  {"sequence", required_argument, NULL, 's'},
        {"at", required_argument, NULL, 'a'},     {"coin", required_argument, NULL, 'i'},
        {"kill", no_argument, NULL, 'k'},         {"power", no_argument, NULL, 'w'},
        {"verbose", no_argument, NULL, 'v'},      {NULL, 0, NULL, 0}};
    char *rest = NULL;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint64_t value = optarg == NULL || option == 's' ? 0 : strtoull(optarg, &rest, 10);

        switch (option) {
        case 'l':
            args->length = value;
            break;
        case 'p':
            args->part = value;
            args->parts = *rest == '/' ? strtoull(rest + 1, &rest, 10) : 0;
            break;
        case 'c':
            args->coins = value;
            break;
        case 's':
            args->sequence = optarg;
            break;
        case 'a':
            args->only.at = value;
            break;
        case 'i':
            args->only.coin = value;
            break;
        case 'k':
        case 'w':
            args->only.mode = option == 'k' ? SIM_CRASH_KILL : SIM_CRASH_POWER;
            break;
        case 'v':
            sim_log_verbose(true);
            break;
        default:
            return false;
        }
        if (rest != NULL && *rest != '\0')
            return false;
    }
    return optind == argc && args->length <= LENGTH_MAX && args->part < args->parts &&
           (args->sequence == NULL || strspn(args->sequence, letters) == strlen(args->sequence));
}

int
main(int argc, char **argv)
{
    struct arguments args = {.length = 3, .parts = 1, .coins = 2};
    struct totals totals = {0};

    if (!parse(argc, argv, &args)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    states.off = args.sequence != NULL;
    if (args.sequence != NULL)
        (void)run_sequence(&args, args.sequence, &totals);
    else
        run_all(&args, &totals);
    free(states.slots);
    printf("%" PRIu64 " sequences, %" PRIu64 " that only repeat shorter ones left out; %" PRIu64
           " crash points, %" PRIu64 " crashes, of which %" PRIu64 " left what an earlier one did: ok\n",
           totals.sequences, totals.skipped, totals.points, totals.crashes, totals.known);
    return 0;
}
