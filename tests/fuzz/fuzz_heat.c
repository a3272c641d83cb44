/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of the heat from arbitrary bytes: what is restored adds up, ages, and says the same when it is encoded again.
 */
#include <string.h>

#include "../sim/sim_disk.h"
#include "base/hash.h"
#include "base/wire.h"
#include "format/heat_format.h"
#include "fuzz.h"
#include "reclaim/heat.h"

#define SEGMENTS_MAX    64
#define LIVE_MAX        (UINT64_C(64) << 20)
#define QUOTA           (UINT64_C(1) << 20)
#define EXAMPLE_PAGES   120
#define HEADER_SUM_AT   504 /* docs/FORMAT.md */
#define RECORD_COUNT_AT 40
#define RECORD_SPANS_AT 48
#define COLUMNS_SUM_AT  64
#define HEAD_SUM_AT     72

struct restored {
    struct heat *heat;
    struct heat_segment *segments[SEGMENTS_MAX];
    struct heat_file files[SEGMENTS_MAX];
    size_t count;
};

static void
fix_sums(uint8_t *data, size_t size)
{
    size_t bytes;

    if (size >= HEAT_HEADER_BYTES)
        wire_put64(data + HEADER_SUM_AT, hash_bytes(data, HEADER_SUM_AT));
    for (size_t offset = HEAT_HEADER_BYTES; offset + HEAT_HEAD_BYTES <= size; offset += bytes) {
        uint8_t *record = data + offset;

        bytes = heat_record_bytes(wire_get32(record + RECORD_COUNT_AT), wire_get32(record + RECORD_SPANS_AT));
        if (bytes <= size - offset)
            wire_put64(record + COLUMNS_SUM_AT, hash_bytes(record + HEAT_HEAD_BYTES, bytes - HEAT_HEAD_BYTES));
        else
            bytes = HEAT_RECORD_ALIGN;
        wire_put64(record + HEAD_SUM_AT, hash_bytes(record, HEAD_SUM_AT));
    }
}

/* As a store does at open; every other namespace has limits. */
static void
restore(struct restored *restored, struct env *env, const uint8_t *data, size_t size)
{
    struct heat_record record;

    *restored = (struct restored){.heat = heat_create(env, LIVE_MAX)};
    fuzz_require(restored->heat != NULL, "out of memory");
    (void)heat_restore_header(restored->heat, data, size);
    for (size_t offset = HEAT_HEADER_BYTES;
         restored->count < SEGMENTS_MAX && (offset = heat_record_find(data, size, offset, &record)) < size;
         offset += heat_record_bytes(record.count, record.span_count)) {
        struct heat_file *file = &restored->files[restored->count];
        struct heat_segment *segment = heat_segment_create(restored->heat, restored);
        int rc;

        fuzz_require(segment != NULL, "out of memory");
        *file = (struct heat_file){record.number, record.salt, (uint64_t)record.end * HEAT_UNIT};
        rc = heat_restore_segment(restored->heat, segment, file, data + offset, size - offset);
        restored->segments[restored->count++] = segment;
        fuzz_require(rc == VARVE_OK || (rc == VARVE_E_CORRUPT && segment->count == 0), "part of a record was used");
        if (segment->span_count > 0 && restored->count % 2 == 0)
            fuzz_require(heat_group_create(restored->heat, segment->spans[0].ns_id, QUOTA) == VARVE_OK,
                         "out of memory");
    }
}

static void
check_sums(const struct restored *restored)
{
    uint64_t live = 0, pinned = 0;

    for (size_t i = 0; i < restored->count; i++) {
        const struct heat_segment *segment = restored->segments[i];
        uint64_t here = 0;

        for (uint32_t page = 0; page < segment->count; page++) {
            uint64_t bytes = heat_bytes(segment, page), value = heat_value(restored->heat, segment, page);

            fuzz_require(heat_find(segment, (uint64_t)segment->at[page] * HEAT_UNIT, 0) == page, "a page is lost");
            fuzz_require(value == UINT64_MAX || value <= restored->heat->clock, "used in the future");
            pinned += value == UINT64_MAX ? bytes : 0;
            live += value != UINT64_MAX && heat_is_live(restored->heat, segment, page) ? bytes : 0;
            here += heat_is_live(restored->heat, segment, page) ? bytes : 0;
        }
        fuzz_require(here <= segment->live_bytes, "more is live than the segment knows");
    }
    fuzz_require(restored->heat->live_bytes == live && restored->heat->pinned_bytes == pinned, "sums are wrong");
}

static void
destroy(const struct restored *restored)
{
    for (size_t i = 0; i < restored->count; i++)
        heat_segment_destroy(restored->heat, restored->segments[i]);
    fuzz_require(restored->heat->live_bytes == 0 && restored->heat->pinned_bytes == 0, "bytes of no page");
    heat_destroy(restored->heat);
}

static size_t
encode(const struct restored *restored, uint8_t *out, size_t room)
{
    size_t size = HEAT_HEADER_BYTES;

    for (size_t i = 0; i < restored->count; i++) {
        size_t bytes =
            heat_snapshot_segment(restored->heat, restored->segments[i], &restored->files[i], out + size, room - size);

        fuzz_require(bytes > 0 && bytes == heat_snapshot_bytes(restored->segments[i]), "no room");
        size += bytes;
    }
    heat_snapshot_header(restored->heat, out);
    return size;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t copy[FUZZ_INPUT_MAX], again[FUZZ_INPUT_MAX + SEGMENTS_MAX * HEAT_RECORD_ALIGN], third[sizeof(again)];
    static const struct sim_disk_settings settings = {
        .seed = 1, .io_align = 512, .sector_bytes = 512, .queue_depth = 1};
    struct restored restored, second;
    struct sim_disk *disk;
    size_t size_again;

    if (size < 1 || size > FUZZ_INPUT_MAX)
        return 0;
    memcpy(copy, data + 1, size - 1);
    if (FUZZ_FIX_SUMS(data[0]))
        fix_sums(copy, size - 1);
    disk = sim_disk_create(&settings);
    restore(&restored, sim_disk_env(disk), copy, size - 1);
    check_sums(&restored);
    heat_age(restored.heat);
    check_sums(&restored);
    heat_sweep_all(restored.heat);
    check_sums(&restored);
    size_again = encode(&restored, again, sizeof(again));
    restore(&second, sim_disk_env(disk), again, size_again);
    fuzz_require(second.count == restored.count && encode(&second, third, sizeof(third)) == size_again &&
                     memcmp(again, third, size_again) == 0,
                 "a snapshot changes when it is encoded again");
    (void)heat_clock(restored.heat, UINT64_C(1) << (size % 62)); /* life goes on */
    check_sums(&restored);
    destroy(&second);
    destroy(&restored);
    fuzz_require(disk->allocations == 0, "memory leaks");
    sim_disk_destroy(disk);
    return 0;
}

static void
fill_segment(struct sim_rng *rng, struct restored *made, size_t index)
{
    uint64_t places[EXAMPLE_PAGES + 1] = {0};
    uint32_t count = (uint32_t)sim_rng_log(rng, EXAMPLE_PAGES);

    for (uint32_t i = 0; i < count; i++)
        places[i + 1] = places[i] + HEAT_UNIT * sim_rng_log(rng, 64);
    for (uint32_t first = 0, part; first < count; first += part) {
        part = (uint32_t)sim_rng_log(rng, count - first);
        fuzz_require(heat_add(made->heat, made->segments[index], (uint32_t)sim_rng_between(rng, 1, 3), places + first,
                              part, places[first + part], heat_clock(made->heat, sim_rng_log(rng, 50000))) == VARVE_OK,
                     "out of memory");
        if (sim_rng_chance(rng, 300))
            heat_pin(made->heat, made->segments[index], first);
    }
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    static const struct sim_disk_settings settings = {
        .seed = 1, .io_align = 512, .sector_bytes = 512, .queue_depth = 1};
    struct sim_disk *disk = sim_disk_create(&settings);
    struct restored made = {.heat = heat_create(sim_disk_env(disk), LIVE_MAX / 64), .count = sim_rng_log(rng, 6)};
    size_t size;

    fuzz_require(made.heat != NULL, "out of memory");
    for (size_t i = 0; i < made.count; i++) {
        made.segments[i] = heat_segment_create(made.heat, &made);
        fuzz_require(made.segments[i] != NULL, "out of memory");
        made.files[i] = (struct heat_file){i + 1, sim_rng_next(rng), 0};
        fill_segment(rng, &made, i);
    }
    heat_age(made.heat);
    out[0] = (uint8_t)!sim_rng_chance(rng, 200);
    size = 1 + encode(&made, out + 1, FUZZ_INPUT_MAX - 1);
    destroy(&made);
    sim_disk_destroy(disk);
    return size;
}
