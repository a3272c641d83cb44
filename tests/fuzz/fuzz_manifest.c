/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifest headers and records from arbitrary bytes, applied to a state: no edit can make it inconsistent or leak. A header or an item says the
 * same coded again.
 */
#include <string.h>

#include "../sim/sim_disk.h"
#include "base/hash.h"
#include "fuzz.h"
#include "manifest/manifest_state.h"

#define SALT          UINT64_C(0x99aabbccddeeff00)
#define HEADER_SUM_AT 56

static void
check_item(const struct manifest_item *item)
{
    static uint8_t coded[2048], again[2048];
    size_t size = (size_t)(manifest_item_encode(item, coded) - coded);
    struct wire_reader reader = wire_reader_make(coded, size);
    struct manifest_item decoded;

    fuzz_require(size <= manifest_item_bound(item), "an item is longer than its bound");
    fuzz_require(manifest_item_decode(&reader, &decoded) && reader.next == reader.end, "an item can not be read again");
    fuzz_require((size_t)(manifest_item_encode(&decoded, again) - again) == size && memcmp(coded, again, size) == 0,
                 "an item changes when it is coded again");
}

/* No two namespaces of one name or id, segments in order, numbers below the next one. */
static void
check_state(const struct manifest_state *state)
{
    for (size_t i = 0; i < state->segment_count; i++)
        fuzz_require(state->segments[i].number < state->next_number &&
                         (i == 0 || state->segments[i - 1].number < state->segments[i].number),
                     "segments out of order");
    for (size_t i = 0; i < state->run_count; i++)
        fuzz_require(state->runs[i].number < state->next_number, "a run with a number that is still to come");
    for (size_t i = 0; i < state->namespace_count; i++) {
        for (size_t j = 0; j < i; j++)
            fuzz_require(strcmp(state->namespaces[i].name, state->namespaces[j].name) != 0 &&
                             state->namespaces[i].ns_id != state->namespaces[j].ns_id,
                         "two namespaces of one name or id");
    }
}

static void
apply_items(struct manifest_state *state, const uint8_t *items, size_t size)
{
    struct wire_reader reader = wire_reader_make(items, size);
    struct manifest_item item;

    while (manifest_item_decode(&reader, &item)) {
        check_item(&item);
        if (manifest_state_apply(state, &item) != VARVE_OK)
            return;
    }
}

/* What a state says is what its snapshot says. */
static void
check_snapshot(const struct manifest_state *state)
{
    struct manifest_state again;
    uint32_t size, size_again;
    uint8_t *first = manifest_state_snapshot(state, 0, &size), *second;

    fuzz_require(first != NULL, "no snapshot");
    manifest_state_init(&again, state->env);
    apply_items(&again, first, size);
    second = manifest_state_snapshot(&again, 0, &size_again);
    fuzz_require(second != NULL && size == size_again && memcmp(first, second, size) == 0,
                 "a snapshot does not say what the state was");
    manifest_state_deinit(&again);
    env_free(state->env, first);
    env_free(state->env, second);
}

static void
check_header(const struct manifest_header *header)
{
    uint8_t coded[MANIFEST_HEADER_BYTES];
    struct manifest_header again;

    manifest_header_encode(header, coded);
    fuzz_require(manifest_header_decode(coded, &again) == VARVE_OK && memcmp(&again, header, sizeof(again)) == 0,
                 "a header changes when it is coded again");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t copy[MANIFEST_FRAME_BYTES + FUZZ_INPUT_MAX];
    static const struct sim_disk_settings settings = {
        .seed = 1, .io_align = 512, .sector_bytes = 512, .queue_depth = 1};
    struct manifest_header header;
    struct manifest_state state;
    struct sim_disk *disk;
    size_t length;

    if (size < 1 + MANIFEST_HEADER_BYTES || size > FUZZ_INPUT_MAX)
        return 0;
    memcpy(copy, data + 1, size - 1);
    if (FUZZ_FIX_SUMS(data[0]))
        wire_put64(copy + HEADER_SUM_AT, hash_bytes(copy, HEADER_SUM_AT));
    if (manifest_header_decode(copy, &header) == VARVE_OK)
        check_header(&header);
    length = manifest_record_check(data + 1, size - 1, SALT, 0);
    fuzz_require(length <= size - 1, "a record is longer than its file");

    disk = sim_disk_create(&settings);
    manifest_state_init(&state, sim_disk_env(disk));
    if (FUZZ_FIX_SUMS(data[0])) {
        memcpy(copy + MANIFEST_FRAME_BYTES, data + 1, size - 1);
        manifest_record_seal(copy, (uint32_t)(size - 1), SALT, 7);
        length = manifest_record_check(copy, MANIFEST_FRAME_BYTES + size - 1, SALT, 7);
        fuzz_require(length == MANIFEST_FRAME_BYTES + size - 1, "a sealed record is not valid");
        fuzz_require(manifest_record_check(copy, length, SALT, 8) == 0, "a record out of order is valid");
        fuzz_require(manifest_record_check(copy, length, SALT + 1, 7) == 0, "a record of another file is valid");
        apply_items(&state, copy + MANIFEST_FRAME_BYTES, size - 1);
        check_state(&state);
        check_snapshot(&state);
    }
    manifest_state_deinit(&state);
    fuzz_require(disk->allocations == 0, "a state leaks");
    sim_disk_destroy(disk);
    return 0;
}

static struct manifest_item
example_item(struct sim_rng *rng)
{
    struct manifest_item item = {.kind = (enum manifest_item_kind)sim_rng_between(rng, 1, 10)};

    switch (item.kind) {
    case MANIFEST_COUNTERS:
        item.u.counters.next_number = sim_rng_log(rng, 1000);
        item.u.counters.next_branch = sim_rng_log(rng, UINT64_MAX);
        break;
    case MANIFEST_NAMESPACE:
        item.u.ns.ns_id = (uint32_t)sim_rng_below(rng, 5);
        item.u.ns.name = sim_rng_chance(rng, 500) ? "a" : "another";
        item.u.ns.name_size = (uint32_t)strlen(item.u.ns.name);
        break;
    case MANIFEST_RUN_ADD:
    case MANIFEST_RUN_REMOVE:
        item.u.run.number = sim_rng_below(rng, 6);
        item.u.run.file_bytes = sim_rng_log(rng, UINT64_MAX);
        item.u.run.level = (uint32_t)sim_rng_below(rng, 4);
        break;
    case MANIFEST_SEGMENT_ADD:
    case MANIFEST_SEGMENT_SEAL:
    case MANIFEST_SEGMENT_USE:
    case MANIFEST_SEGMENT_DROP:
    case MANIFEST_SEGMENT_INDEXED:
    case MANIFEST_PAGE_REMOVE:
        item.u.segment.number = sim_rng_below(rng, 6);
        item.u.segment.salt = SALT;
        item.u.segment.bytes = sim_rng_log(rng, 1u << 30);
        item.u.segment.offset = sim_rng_below(rng, 4) * 4096;
        item.u.segment.use_pages = sim_rng_below(rng, 100);
        item.u.segment.align_shift = 9;
        break;
    }
    return item;
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    struct manifest_header header = {.number = 7, .salt = SALT};
    uint64_t count = sim_rng_log(rng, 40);
    uint8_t *p = out + 1;

    out[0] = (uint8_t)!sim_rng_chance(rng, 200);
    if (out[0] == 0) {
        manifest_header_encode(&header, p);
        return 1 + MANIFEST_HEADER_BYTES;
    }
    for (uint64_t i = 0; i < count || p - out < 1 + MANIFEST_HEADER_BYTES; i++) {
        struct manifest_item item = example_item(rng);

        p = manifest_item_encode(&item, p);
    }
    return (size_t)(p - out);
}
