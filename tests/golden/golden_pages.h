/* SPDX-License-Identifier: Apache-2.0 */
/*
 * golden_pages.h - the ids and the bytes of the pages in golden images. Never to be changed: old images hold them. The same in
 * read_format.py.
 */
#ifndef VARVE_GOLDEN_GOLDEN_PAGES_H
#define VARVE_GOLDEN_GOLDEN_PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "varve.h"

#define GOLDEN_CHAIN_MAX 1024

/* ids[0, count) of a chain whose page i has the one token chain << 16 | i. count: 1 to GOLDEN_CHAIN_MAX. */
static inline void
golden_ids(uint32_t chain, size_t count, varve_id *ids)
{
    uint32_t tokens[GOLDEN_CHAIN_MAX] = {0};

    for (size_t i = 0; i < count; i++)
        tokens[i] = chain << 16 | (uint32_t)i;
    (void)varve_chain(tokens, count, 1, NULL, ids);
}

/* Byte i of a page. Repeats, so that archives are small. */
static inline uint8_t
golden_byte(const varve_id *id, size_t i)
{
    return (uint8_t)(id->bytes[i % VARVE_ID_BYTES] + i / 4096);
}

static inline void
golden_fill(const varve_id *id, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = golden_byte(id, i);
}

#endif
