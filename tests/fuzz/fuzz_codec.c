/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stored pages from arbitrary bytes: what is accepted has a length that follows from its header, and decoding writes that many bytes at most. And
 * arbitrary pages, cut into arbitrary pieces: they come back.
 *
 * Input: a byte for the element, a byte for the cuts, the bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "../sim/sim_disk.h"
#include "codec/codec.h"
#include "fuzz.h"

#define HEAD_BYTES   2
#define PIECES_MAX   64
#define ORIGINAL_MAX ((uint64_t)1 << 20) /* more costs time and shows nothing new */
#define GUARD_BYTES  16
#define GUARD        0xa5

static uint8_t *
memory(uint64_t size)
{
    uint8_t *bytes = malloc(size == 0 ? 1 : (size_t)size);

    if (bytes == NULL)
        abort();
    return bytes;
}

static void
check_stored(struct codec *codec, const uint8_t *data, size_t size)
{
    uint64_t original;
    struct iovec iov;
    uint8_t *out;
    int rc = codec_original_size(data, size, &original);

    fuzz_require(rc == VARVE_OK || rc == VARVE_E_CORRUPT, "an unexpected code for a header");
    if (rc != VARVE_OK || original > ORIGINAL_MAX)
        return;
    out = memory(original + GUARD_BYTES);
    memset(out + original, GUARD, GUARD_BYTES);
    iov = (struct iovec){out, (size_t)original + GUARD_BYTES};
    rc = codec_decode(codec, data, size, &iov, 1);
    fuzz_require(rc == VARVE_OK || rc == VARVE_E_CORRUPT, "an unexpected code for a page");
    for (size_t i = 0; i < GUARD_BYTES; i++)
        fuzz_require(out[original + i] == GUARD, "bytes behind the page were written");
    free(out);
}

/* Pieces of the buffer, each as long as the seed says. */
static uint32_t
cut(uint8_t *bytes, size_t size, uint8_t seed, struct iovec *pieces)
{
    struct sim_rng rng = sim_rng_make(seed, 7);
    uint32_t count = 0;

    for (size_t at = 0; at < size; count++) {
        size_t part = sim_rng_chance(&rng, 300) ? sim_rng_below(&rng, 6) : sim_rng_below(&rng, size) + 1;

        part = part > size - at || count == PIECES_MAX - 1 ? size - at : part;
        pieces[count] = (struct iovec){bytes + at, part};
        at += part;
    }
    return count;
}

static void
check_round_trip(struct codec *codec, uint8_t element, uint8_t seed, const uint8_t *data, size_t size)
{
    uint64_t room = codec_bound(size), stored = room, original = 0;
    uint8_t *page = memory(size), *out = memory(room), *back = memory(size);
    struct iovec pieces[PIECES_MAX];
    int rc;

    memcpy(page, data, size);
    rc = codec_encode(codec, (enum varve_element)element, pieces, cut(page, size, seed, pieces), out, &stored);
    fuzz_require((rc == VARVE_OK || rc == CODEC_NOT_WORTH) && stored <= room, "a page is not coded");
    fuzz_require(codec_original_size(out, stored, &original) == VARVE_OK && original == size,
                 "another size comes back");
    fuzz_require(codec_decode(codec, out, stored, pieces, cut(back, size, (uint8_t)(seed + 1), pieces)) == VARVE_OK,
                 "a page is not decoded");
    fuzz_require(memcmp(page, back, size) == 0, "other bytes come back");
    free(page);
    free(out);
    free(back);
}

/* One for all inputs: it also shows that a damaged page leaves nothing behind. */
static struct codec *
the_codec(void)
{
    static const struct sim_disk_settings settings = {
        .seed = 1, .io_align = 512, .sector_bytes = 512, .queue_depth = 1};
    static struct sim_disk *disk;
    static struct codec *codec;

    if (codec == NULL) {
        disk = sim_disk_create(&settings);
        fuzz_require(codec_create(sim_disk_env(disk), &codec) == VARVE_OK, "no memory");
    }
    return codec;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD_BYTES || size > FUZZ_INPUT_MAX)
        return 0;
    check_stored(the_codec(), data + HEAD_BYTES, size - HEAD_BYTES);
    check_round_trip(the_codec(), data[0] % 5, data[1], data + HEAD_BYTES, size - HEAD_BYTES);
    return 0;
}

/* A stored page, mostly of values with few exponents. */
size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    enum varve_element element = (enum varve_element)sim_rng_below(rng, 5);
    size_t size = sim_rng_log(rng, FUZZ_INPUT_MAX / 2);
    uint64_t stored = FUZZ_INPUT_MAX - HEAD_BYTES;
    uint8_t *page = memory(size);
    struct iovec iov = {page, size};

    sim_rng_fill(rng, page, size);
    for (size_t i = sim_rng_below(rng, 2); i < size && !sim_rng_chance(rng, 1); i += 2)
        page[i] &= 0x83;
    out[0] = (uint8_t)element;
    out[1] = (uint8_t)sim_rng_below(rng, 256);
    fuzz_require(codec_encode(the_codec(), element, &iov, 1, out + HEAD_BYTES, &stored) >= 0,
                 "an example is not coded");
    free(page);
    return HEAD_BYTES + (size_t)stored;
}
