/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script.h - a list of operations on a store, small enough to be enumerated, written by hand, or made from any bytes.
 *
 * The universe is fixed (SCRIPT_NAMESPACES, four chains that fork from one another, script_chains()), so an operation is a word and a few
 * small numbers. Text form, one operation a line, `#` begins a comment; two lines may come first:
 *
 *   pages large        sizes of the pages: a name of script_pages[]
 *   options tiny       disk and store: a name of script_options[]
 *   put 0 1 2 3        namespace 0, chain 1, from depth 2, 3 pages
 *
 * Byte form: two bytes for pages and options, then four an operation. Every string of bytes is some script.
 */
#ifndef VARVE_SIM_SCRIPT_H
#define VARVE_SIM_SCRIPT_H

#include <stdio.h>

#include "oracle.h"

#define SCRIPT_OPS_MAX      1024
#define SCRIPT_NAMESPACES   2
#define SCRIPT_CHAINS       4
#define SCRIPT_CHAIN_PAGES  8
#define SCRIPT_HEADER_BYTES 2
#define SCRIPT_OP_BYTES     4

enum script_kind {
    SCRIPT_PUT,      /* ns chain depth count */
    SCRIPT_PUT_SYNC, /* the same, durable on return */
    SCRIPT_GET,
    SCRIPT_PROBE,
    SCRIPT_EXISTS,
    SCRIPT_TOUCH,
    SCRIPT_REMOVE,
    SCRIPT_CLEAR,           /* ns */
    SCRIPT_SYNC,            /**/
    SCRIPT_TICK,            /* steps: that many slices of background work, 0: until there is none left */
    SCRIPT_FILL,            /* the memtable seems full to the next put */
    SCRIPT_LIST,            /* iterate over all pages */
    SCRIPT_SIZE_RATIO,      /* value: the live option */
    SCRIPT_RUNS_PER_LEVEL,  /* value */
    SCRIPT_RUNS_LAST_LEVEL, /* value */
    SCRIPT_REOPEN,          /**/
    SCRIPT_KILL,    /* changes: the process dies in the middle of that change of the disk from now on, 0: at once */
    SCRIPT_POWER,   /* changes: the machine loses power, likewise */
    SCRIPT_RECLAIM, /* steps of reclaim: that many, 0: until a segment was dropped; none where pages would have to die. Written scripts only */
    SCRIPT_CAPACITY, /* MiB: the live option. Written scripts only */
    SCRIPT_ROOM,     /* MiB: the same, never so low that anything would have to go */
    SCRIPT_MIN_FREE, /* MiB: the live option, likewise */
    SCRIPT_KINDS,
};

#define SCRIPT_ARGS_MAX 4

struct script_op {
    enum script_kind kind;
    uint32_t args[SCRIPT_ARGS_MAX];
};

struct script {
    uint32_t pages;   /* of script_pages */
    uint32_t options; /* of script_options */
    size_t count;
    struct script_op ops[SCRIPT_OPS_MAX];
};

/* What pages look like. */
struct script_pages {
    const char *name;
    enum oracle_sizes sizes;
    uint32_t size_max;
};

/* A disk, and the options of the store on it: none of it may change what a client sees. */
struct script_options {
    const char *name;
    struct sim_disk_settings disk;
    const char *store[12]; /* "name=value", up to NULL */
};

extern const struct script_pages script_pages[];
extern const size_t script_pages_count;
extern const struct script_options script_options[];
extern const size_t script_options_count;

/* The oracle of a script's universe: chain 1 forks from 0 after two pages, chain 2 from 1 after four, chain 3 is alone. */
struct oracle *script_oracle(const struct script *script, uint64_t seed);

/* False: `problem` says what is wrong, and in which line. */
bool script_parse(const char *text, struct script *script, char *problem, size_t problem_size);
void script_print(const struct script *script, FILE *file);
/* One operation as its line, without the newline. */
void script_op_text(const struct script_op *op, char *text, size_t size);

void script_decode(const uint8_t *data, size_t size, struct script *script);
/* At most SCRIPT_HEADER_BYTES + count * SCRIPT_OP_BYTES; what it decodes to is the script. */
size_t script_encode(const struct script *script, uint8_t *out);

/* A random script of `count` operations; crash_per_mille of them are crashes. */
void script_draw(struct script *script, struct sim_rng *rng, size_t count, uint32_t crash_per_mille);

#endif
