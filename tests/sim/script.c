/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forms of a script. One table says what each operation is called and which arguments it takes, and all forms follow it. An argument
 * lies in its range in every script, whatever it was made from.
 */
#include "script.h"

#include <stdlib.h>

enum arg {
    ARG_NONE,
    ARG_NS,
    ARG_CHAIN,
    ARG_DEPTH,
    ARG_COUNT, /* pages: no more than the chain has behind the depth, which comes before */
    ARG_STEPS,
    ARG_RATIO,
    ARG_RUNS,
    ARG_CHANGES,
    ARG_MIB,
    ARG_ROOM_MIB,
    ARG_FREE_MIB,
};

static const struct {
    uint32_t first, last;
} ranges[] = {
    [ARG_NONE] = {0, 0},
    [ARG_NS] = {0, SCRIPT_NAMESPACES - 1},
    [ARG_CHAIN] = {0, SCRIPT_CHAINS - 1},
    [ARG_DEPTH] = {0, SCRIPT_CHAIN_PAGES - 1},
    [ARG_COUNT] = {1, SCRIPT_CHAIN_PAGES},
    [ARG_STEPS] = {0, 7},
    [ARG_RATIO] = {2, 8},
    [ARG_RUNS] = {1, 4},
    [ARG_CHANGES] = {0, 255},
    [ARG_MIB] = {4, 256},
    [ARG_ROOM_MIB] = {128, 256},
    [ARG_FREE_MIB] = {0, 64},
};

static const struct {
    const char *name;
    enum arg args[SCRIPT_ARGS_MAX];
    uint32_t weight; /* of script_draw() */
} kinds[SCRIPT_KINDS] = {
    [SCRIPT_PUT] = {"put", {ARG_NS, ARG_CHAIN, ARG_DEPTH, ARG_COUNT}, 30},
    [SCRIPT_PUT_SYNC] = {"put_sync", {ARG_NS, ARG_CHAIN, ARG_DEPTH, ARG_COUNT}, 3},
    [SCRIPT_GET] = {"get", {ARG_NS, ARG_CHAIN, ARG_DEPTH, ARG_COUNT}, 10},
    [SCRIPT_PROBE] = {"probe", {ARG_NS, ARG_CHAIN, ARG_DEPTH, ARG_COUNT}, 6},
    [SCRIPT_EXISTS] = {"exists", {ARG_NS, ARG_CHAIN, ARG_DEPTH, ARG_COUNT}, 4},
    [SCRIPT_TOUCH] = {"touch", {ARG_NS, ARG_CHAIN, ARG_DEPTH, ARG_COUNT}, 3},
    [SCRIPT_REMOVE] = {"remove", {ARG_NS, ARG_CHAIN, ARG_DEPTH, ARG_COUNT}, 8},
    [SCRIPT_CLEAR] = {"clear", {ARG_NS}, 3},
    [SCRIPT_SYNC] = {"sync", {ARG_NONE}, 3},
    [SCRIPT_TICK] = {"tick", {ARG_STEPS}, 20},
    [SCRIPT_FILL] = {"fill", {ARG_NONE}, 8},
    [SCRIPT_LIST] = {"list", {ARG_NONE}, 2},
    [SCRIPT_SIZE_RATIO] = {"size_ratio", {ARG_RATIO}, 1},
    [SCRIPT_RUNS_PER_LEVEL] = {"runs_per_level", {ARG_RUNS}, 1},
    [SCRIPT_RUNS_LAST_LEVEL] = {"runs_last_level", {ARG_RUNS}, 1},
    [SCRIPT_REOPEN] = {"reopen", {ARG_NONE}, 2},
    [SCRIPT_KILL] = {"kill", {ARG_CHANGES}, 0},
    [SCRIPT_POWER] = {"power", {ARG_CHANGES}, 0},
    [SCRIPT_RECLAIM] = {"reclaim", {ARG_STEPS}, 0},
    [SCRIPT_CAPACITY] = {"capacity", {ARG_MIB}, 0},
    [SCRIPT_ROOM] = {"room", {ARG_ROOM_MIB}, 2},
    [SCRIPT_MIN_FREE] = {"min_free", {ARG_FREE_MIB}, 1},
};

const struct script_pages script_pages[] = {
    {"large", ORACLE_SIZES_FIXED, 15500},   {"small", ORACLE_SIZES_FIXED, 700}, {"mixed", ORACLE_SIZES_ANY, 50000},
    {"blocks", ORACLE_SIZES_BLOCKS, 16384}, {"empty", ORACLE_SIZES_FIXED, 0},
};
const size_t script_pages_count = sizeof(script_pages) / sizeof(script_pages[0]);

#define STORE "capacity=256M", "background=off"

const struct script_options script_options[] = {
    {"tiny",
     {.io_align = 512, .direct_io = true, .sector_bytes = 512, .queue_depth = 4, .torn_per_mille = 300},
     {STORE, "segment_bytes=64K", "memtable_bytes=256K", "block_cache_bytes=256K", "size_ratio=2", "runs_per_level=1",
      "sync_interval_ms=0", "sync_bytes=1T"}},
    {"default", {.io_align = 512, .direct_io = true, .sector_bytes = 512, .queue_depth = 32}, {STORE}},
    {"tiering",
     {.io_align = 4096, .direct_io = true, .sector_bytes = 4096, .queue_depth = 1, .torn_per_mille = 500},
     {STORE, "segment_bytes=128K", "memtable_bytes=1M", "size_ratio=4", "runs_per_level=4", "runs_last_level=4",
      "sync_interval_ms=1", "queue_depth=1"}},
    {"buffered",
     {.io_align = 512, .direct_io = false, .sector_bytes = 4096, .queue_depth = 8, .short_per_mille = 100},
     {STORE, "segment_bytes=256K", "size_ratio=2", "runs_per_level=1", "runs_last_level=1", "direct_io=off",
      "fingerprint_bits=8", "io_bytes=16K"}},
    {"aligned",
     {.io_align = 4096, .direct_io = true, .sector_bytes = 512, .queue_depth = 2, .again_per_mille = 50},
     {STORE, "segment_bytes=1M", "size_ratio=8", "runs_per_level=2", "block_cache_bytes=256K", "open_files=16",
      "fingerprint_bits=24", "sync_bytes=64K"}},
    {"one_segment",
     {.io_align = 512, .direct_io = true, .sector_bytes = 512, .queue_depth = 16, .short_per_mille = 20},
     {STORE, "segment_bytes=2M", "size_ratio=3", "runs_per_level=3", "runs_last_level=2", "io_bytes=64K",
      "queue_depth=4"}},
};
const size_t script_options_count = sizeof(script_options) / sizeof(script_options[0]);

struct oracle *
script_oracle(const struct script *script, uint64_t seed)
{
    static const struct oracle_chain chains[SCRIPT_CHAINS] = {{0, 0}, {0, 2}, {1, 4}, {3, 0}};
    const struct script_pages *pages = &script_pages[script->pages];
    const struct oracle_settings settings = {.seed = seed,
                                             .namespaces = SCRIPT_NAMESPACES,
                                             .chains = SCRIPT_CHAINS,
                                             .chain_pages = SCRIPT_CHAIN_PAGES,
                                             .sizes = pages->sizes,
                                             .size_max = pages->size_max};
    struct oracle *oracle = oracle_create(&settings);

    memcpy(oracle->chains, chains, sizeof(chains));
    return oracle;
}

/* False: the number is not in the range of the argument. */
static bool
arg_fits(const struct script_op *op, size_t i)
{
    enum arg arg = kinds[op->kind].args[i];

    if (op->args[i] < ranges[arg].first || op->args[i] > ranges[arg].last)
        return false;
    return arg != ARG_COUNT || op->args[i - 1] + op->args[i] <= SCRIPT_CHAIN_PAGES;
}

static size_t
arg_count(enum script_kind kind)
{
    size_t count = 0;

    while (count < SCRIPT_ARGS_MAX && kinds[kind].args[count] != ARG_NONE)
        count++;
    return count;
}

/* Any numbers become arguments. */
static void
op_fit(struct script_op *op)
{
    for (size_t i = 0; i < SCRIPT_ARGS_MAX; i++) {
        enum arg arg = kinds[op->kind].args[i];
        uint32_t last = arg == ARG_COUNT ? SCRIPT_CHAIN_PAGES - op->args[i - 1] : ranges[arg].last;

        if (arg_fits(op, i))
            continue;
        op->args[i] = ranges[arg].first + op->args[i] % (last - ranges[arg].first + 1);
    }
}

void
script_op_text(const struct script_op *op, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s", kinds[op->kind].name);

    for (size_t i = 0; i < arg_count(op->kind) && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, " %u", op->args[i]);
}

void
script_print(const struct script *script, FILE *file)
{
    char text[64];

    (void)fprintf(file, "pages %s\noptions %s\n", script_pages[script->pages].name,
                  script_options[script->options].name);
    for (size_t i = 0; i < script->count; i++) {
        script_op_text(&script->ops[i], text, sizeof(text));
        (void)fprintf(file, "%s\n", text);
    }
}

/* A word of a line, NUL-terminated; *rest moves behind it. NULL: none left. */
static const char *
next_word(char **rest)
{
    char *word = *rest + strspn(*rest, " \t");
    size_t length = strcspn(word, " \t");

    if (length == 0)
        return NULL;
    *rest = word + length + (word[length] != '\0');
    word[length] = '\0';
    return word;
}

/* NULL, or what is wrong. */
static const char *
parse_op(enum script_kind kind, char *rest, struct script *script)
{
    struct script_op op = {.kind = kind};

    if (script->count == SCRIPT_OPS_MAX)
        return "too many operations";
    for (size_t i = 0; i < arg_count(kind); i++) {
        const char *word = next_word(&rest);
        char *end;

        if (word == NULL)
            return "an argument is missing";
        op.args[i] = (uint32_t)strtoul(word, &end, 10);
        if (*end != '\0' || !arg_fits(&op, i))
            return "an argument is not a number, or out of range";
    }
    if (next_word(&rest) != NULL)
        return "too many arguments";
    script->ops[script->count++] = op;
    return NULL;
}

static const char *
parse_header(bool pages, char *rest, struct script *script)
{
    const char *name = next_word(&rest);

    for (uint32_t i = 0; name != NULL && i < (pages ? script_pages_count : script_options_count); i++) {
        if (strcmp(name, pages ? script_pages[i].name : script_options[i].name) == 0) {
            *(pages ? &script->pages : &script->options) = i;
            return NULL;
        }
    }
    return "no such name";
}

static const char *
parse_line(char *line, struct script *script)
{
    const char *word = next_word(&line);

    if (word == NULL)
        return NULL;
    if (strcmp(word, "pages") == 0 || strcmp(word, "options") == 0)
        return parse_header(word[0] == 'p', line, script);
    for (int kind = 0; kind < SCRIPT_KINDS; kind++) {
        if (strcmp(word, kinds[kind].name) == 0)
            return parse_op((enum script_kind)kind, line, script);
    }
    return "no such operation";
}

bool
script_parse(const char *text, struct script *script, char *problem, size_t problem_size)
{
    *script = (struct script){.count = 0};
    for (unsigned number = 1; *text != '\0'; number++) {
        size_t length = strcspn(text, "\n");
        const char *wrong = "the line is too long";
        char line[256];

        if (length < sizeof(line)) {
            memcpy(line, text, length);
            line[length] = '\0';
            line[strcspn(line, "#")] = '\0';
            wrong = parse_line(line, script);
        }
        if (wrong != NULL) {
            (void)snprintf(problem, problem_size, "line %u: %s", number, wrong);
            return false;
        }
        text += length + (text[length] == '\n');
    }
    return true;
}

/* Four bytes: the kind; namespace and chain; depth and count; and one for the rest. */
void
script_decode(const uint8_t *data, size_t size, struct script *script)
{
    *script = (struct script){.count = 0};
    if (size < SCRIPT_HEADER_BYTES)
        return;
    script->pages = (uint32_t)(data[0] % script_pages_count);
    script->options = (uint32_t)(data[1] % script_options_count);
    for (data += SCRIPT_HEADER_BYTES, size -= SCRIPT_HEADER_BYTES;
         size >= SCRIPT_OP_BYTES && script->count < SCRIPT_OPS_MAX; data += SCRIPT_OP_BYTES, size -= SCRIPT_OP_BYTES) {
        struct script_op *op = &script->ops[script->count++];

        op->kind = (enum script_kind)(data[0] % SCRIPT_RECLAIM);
        if (kinds[op->kind].args[1] == ARG_CHAIN) {
            op->args[0] = data[1] & 15;
            op->args[1] = data[1] >> 4;
            op->args[2] = data[2];
            op->args[3] = data[3];
        } else {
            op->args[0] = data[1];
        }
        op_fit(op);
    }
}

size_t
script_encode(const struct script *script, uint8_t *out)
{
    uint8_t *p = out + SCRIPT_HEADER_BYTES;

    out[0] = (uint8_t)script->pages;
    out[1] = (uint8_t)script->options;
    for (size_t i = 0; i < script->count; i++, p += SCRIPT_OP_BYTES) {
        const struct script_op *op = &script->ops[i];

        p[0] = (uint8_t)op->kind;
        p[1] = (uint8_t)op->args[0];
        p[2] = (uint8_t)op->args[2];
        p[3] = (uint8_t)op->args[3];
        if (kinds[op->kind].args[1] == ARG_CHAIN)
            p[1] |= (uint8_t)(op->args[1] << 4);
    }
    return (size_t)(p - out);
}

static enum script_kind
draw_kind(struct sim_rng *rng)
{
    uint32_t total = 0, kind = 0;
    uint64_t at;

    for (size_t i = 0; i < SCRIPT_KINDS; i++)
        total += kinds[i].weight;
    at = sim_rng_below(rng, total);
    while (at >= kinds[kind].weight)
        at -= kinds[kind++].weight;
    return (enum script_kind)kind;
}

void
script_draw(struct script *script, struct sim_rng *rng, size_t count, uint32_t crash_per_mille)
{
    assert(count <= SCRIPT_OPS_MAX);
    script->pages = (uint32_t)sim_rng_below(rng, script_pages_count);
    script->options = (uint32_t)sim_rng_below(rng, script_options_count);
    script->count = count;
    for (size_t i = 0; i < count; i++) {
        struct script_op *op = &script->ops[i];

        *op = (struct script_op){.kind = draw_kind(rng)};
        if (sim_rng_chance(rng, crash_per_mille))
            op->kind = sim_rng_chance(rng, 500) ? SCRIPT_KILL : SCRIPT_POWER;
        for (size_t k = 0; k < SCRIPT_ARGS_MAX; k++)
            op->args[k] = (uint32_t)sim_rng_below(rng, 256);
        if (op->kind == SCRIPT_KILL || op->kind == SCRIPT_POWER)
            op->args[0] = (uint32_t)sim_rng_log(rng, 128) - 1;
        op_fit(op);
    }
}
