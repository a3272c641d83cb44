/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page is a window into 4 MiB of precomputed bf16 noise, changed in three ways that keep the distribution of
 * exponents: the window starts where the id says; signs and mantissas (8 bits a value) are XORed with the id (32
 * values hold its 256 bits) and with a pattern of the sector's number; each of 32 channels is scaled by a power of
 * two, also taken from the id.
 *
 * Invariant: noise exponents stay below EXPONENT_LIMIT, so adding a scale never carries into the sign, and four values
 * can be changed by one 64-bit operation.
 */
#include "page_content.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

#define SECTOR_BYTES   512
#define SECTOR_WORDS   (SECTOR_BYTES / 8)
#define NOISE_BYTES    ((size_t)4 << 20)
#define NOISE_SEED     0x76617276652d7061u
#define KEY_WORDS      8 /* 64 bytes: 32 values of 8 free bits take the 256 bits of an id */
#define CHANNELS       128
#define EXPONENT_LIMIT 0xf0u
#define FREE_BITS      0x807f807f807f807fu /* sign and mantissa of four bf16 values */

struct page_content {
    uint64_t noise[NOISE_BYTES / 8 + SECTOR_WORDS]; /* the first sector again at the end: a window may cross it */
};

/* What an id does to the noise. */
struct page_key {
    size_t start;              /* of the window in the noise; a multiple of 64 */
    uint64_t flip[KEY_WORDS];  /* XORed: signs and mantissas */
    uint64_t scale[KEY_WORDS]; /* added: exponents */
};

/*
 * Roughly normal, variance 1: the sum of twelve uniform numbers, less their mean. Exact arithmetic, the same
 * everywhere.
 */
static float
normal(struct random *random)
{
    int64_t sum = 0;

    for (int i = 0; i < 4; i++) {
        uint64_t word = random_next(random);

        sum += (int64_t)((word & 0x1fffff) + ((word >> 21) & 0x1fffff) + ((word >> 42) & 0x1fffff));
    }
    return (float)(sum - ((int64_t)6 << 21)) / (float)(1 << 21);
}

static uint16_t
bf16_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    assert(((bits >> 23) & 0xff) < EXPONENT_LIMIT);
    return (uint16_t)(bits >> 16);
}

struct page_content *
page_content_create(void)
{
    struct page_content *content = malloc(sizeof(*content));
    struct random random = random_make(NOISE_SEED);
    float scales[CHANNELS];

    if (content == NULL)
        return NULL;
    /* About log-normal: a power of two drawn from a normal distribution, and a factor within it. */
    for (int i = 0; i < CHANNELS; i++) {
        int power = (int)(normal(&random) * 1.5f);

        scales[i] = 1.0f + (float)random_unit(&random);
        for (; power > 0; power--)
            scales[i] *= 2.0f;
        for (; power < 0; power++)
            scales[i] *= 0.5f;
    }
    for (size_t i = 0; i < NOISE_BYTES / 8; i++) {
        uint16_t values[4];

        for (size_t j = 0; j < 4; j++)
            values[j] = bf16_of(normal(&random) * scales[(4 * i + j) % CHANNELS]);
        memcpy(&content->noise[i], values, sizeof(values));
    }
    memcpy(&content->noise[NOISE_BYTES / 8], content->noise, SECTOR_BYTES);
    return content;
}

void
page_content_destroy(struct page_content *content)
{
    free(content);
}

static struct page_key
page_key_make(const varve_id *id)
{
    struct page_key key;
    uint16_t flips[4 * KEY_WORDS];
    uint16_t adds[4 * KEY_WORDS];
    uint64_t words[4];
    uint64_t powers;

    memcpy(words, id->bytes, sizeof(words));
    powers = random_mix(words[0] ^ random_mix(words[1] ^ random_mix(words[2] ^ random_mix(words[3]))));
    key.start = (size_t)random_mix(powers) & (NOISE_BYTES - 1) & ~(size_t)63;
    for (size_t i = 0; i < VARVE_ID_BYTES; i++) {
        unsigned byte = id->bytes[i];

        flips[i] = (uint16_t)((byte & 0x80) << 8 | (byte & 0x7f));
        adds[i] = (uint16_t)(((powers >> (2 * i)) & 3) << 7);
    }
    memcpy(key.flip, flips, sizeof(flips));
    memcpy(key.scale, adds, sizeof(adds));
    return key;
}

static const uint64_t *
sector_noise(const struct page_content *content, const struct page_key *key, uint64_t sector)
{
    return content->noise + ((key->start + (size_t)sector * SECTOR_BYTES) & (NOISE_BYTES - 1)) / 8;
}

static uint64_t
sector_pattern(uint64_t sector)
{
    return random_mix(sector) & FREE_BITS;
}

static void
sector_fill(const struct page_content *content, const struct page_key *key, uint64_t sector, uint8_t *out)
{
    const uint64_t *noise = sector_noise(content, key, sector);
    uint64_t pattern = sector_pattern(sector);

    for (size_t i = 0; i < SECTOR_WORDS; i += KEY_WORDS) {
        for (size_t j = 0; j < KEY_WORDS; j++) {
            uint64_t word = (noise[i + j] ^ key->flip[j] ^ pattern) + key->scale[j];

            memcpy(out + 8 * (i + j), &word, sizeof(word));
        }
    }
}

static bool
sector_equals(const struct page_content *content, const struct page_key *key, uint64_t sector, const uint8_t *in)
{
    const uint64_t *noise = sector_noise(content, key, sector);
    uint64_t pattern = sector_pattern(sector);
    uint64_t differences[KEY_WORDS] = {0};
    uint64_t any = 0;

    for (size_t i = 0; i < SECTOR_WORDS; i += KEY_WORDS) {
        for (size_t j = 0; j < KEY_WORDS; j++) {
            uint64_t word;

            memcpy(&word, in + 8 * (i + j), sizeof(word));
            differences[j] |= ((noise[i + j] ^ key->flip[j] ^ pattern) + key->scale[j]) ^ word;
        }
    }
    for (size_t j = 0; j < KEY_WORDS; j++)
        any |= differences[j];
    return any == 0;
}

/* The part of [offset, offset + size) that lies in offset's sector. */
static size_t
part_in_sector(uint64_t offset, size_t size)
{
    size_t left = SECTOR_BYTES - (size_t)(offset % SECTOR_BYTES);

    return size < left ? size : left;
}

void
page_content_fill(const struct page_content *content, const varve_id *id, uint64_t offset, void *buf, size_t size)
{
    struct page_key key = page_key_make(id);
    uint8_t *out = buf;

    while (size > 0) {
        uint64_t sector = offset / SECTOR_BYTES;
        size_t part = part_in_sector(offset, size);

        if (part == SECTOR_BYTES) {
            sector_fill(content, &key, sector, out);
        } else {
            uint8_t whole[SECTOR_BYTES];

            sector_fill(content, &key, sector, whole);
            memcpy(out, whole + offset % SECTOR_BYTES, part);
        }
        out += part;
        offset += part;
        size -= part;
    }
}

uint64_t
page_content_wrong_bytes(const struct page_content *content, const varve_id *id, uint64_t offset, const void *buf,
                         size_t size)
{
    struct page_key key = page_key_make(id);
    const uint8_t *in = buf;
    uint64_t wrong = 0;

    while (size > 0) {
        uint64_t sector = offset / SECTOR_BYTES;
        size_t part = part_in_sector(offset, size);

        if (part < SECTOR_BYTES || !sector_equals(content, &key, sector, in)) {
            uint8_t whole[SECTOR_BYTES];

            sector_fill(content, &key, sector, whole);
            for (size_t i = 0; i < part; i++)
                wrong += whole[offset % SECTOR_BYTES + i] != in[i];
        }
        in += part;
        offset += part;
        size -= part;
    }
    return wrong;
}
