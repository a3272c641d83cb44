/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heat_format.h - bytes of a snapshot of the heat: a header, then a record for each segment. Offsets: docs/FORMAT.md. Losing any of it is
 * harmless, so what does not hold is left out, and nothing is refused for it.
 *
 * Records stand at multiples of HEAT_RECORD_ALIGN, so that those behind a damaged one are found again. A head has a checksum of its own: its lengths
 * are not believed before that.
 */
#ifndef VARVE_FORMAT_HEAT_FORMAT_H
#define VARVE_FORMAT_HEAT_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define HEAT_HEADER_BYTES 512u
#define HEAT_RECORD_ALIGN 512u
#define HEAT_HEAD_BYTES   80u /* of a record */
#define HEAT_SPAN_BYTES   8u  /* place, namespace id */
#define HEAT_PLACE_BYTES  4u
#define HEAT_STAMP_BYTES  2u

#define HEAT_CLOCK_MAX ((uint64_t)1 << 62)
#define HEAT_SHIFT_MAX 62u
#define HEAT_PAGES_MAX ((uint32_t)1 << 28) /* of a segment */

struct heat_header {
    uint64_t clock;
    uint64_t horizon; /* a clock value, not an epoch */
    uint8_t shift;
};

/* What stands before the spans, places and stamps of a segment. */
struct heat_record {
    uint64_t number, salt; /* of the segment */
    uint64_t clock;        /* when this was encoded: stamps are epochs up to that one */
    uint64_t used;
    uint32_t count; /* pages */
    uint32_t end;
    uint32_t span_count;
    uint8_t shift;
};

/* buf: HEAT_HEADER_BYTES. */
void heat_header_encode(const struct heat_header *header, uint8_t *buf);
/* VARVE_OK, VARVE_E_CORRUPT or VARVE_E_VERSION. */
int heat_header_decode(const uint8_t *data, size_t size, struct heat_header *out);

/* Bytes of a record, a multiple of HEAT_RECORD_ALIGN. */
size_t heat_record_bytes(uint32_t count, uint32_t span_count);
/* Where its columns begin. */
size_t heat_record_places_at(const struct heat_record *record);
size_t heat_record_stamps_at(const struct heat_record *record);

/* Put the head before the columns at buf + HEAT_HEAD_BYTES, and zeros behind them. */
void heat_record_seal(const struct heat_record *record, uint8_t *buf);

/* The head of a record. VARVE_OK, VARVE_E_CORRUPT (also where `size` ends before the record does) or VARVE_E_VERSION. */
int heat_record_decode(const uint8_t *data, size_t size, struct heat_record *out);
/* The columns of a decoded record: whether they are what was written, and make sense. VARVE_OK or VARVE_E_CORRUPT. */
int heat_record_check(const struct heat_record *record, const uint8_t *data);

/* The next place from `offset` on where a head can be decoded, of a file of which `data` is all; `size`: there is none. */
size_t heat_record_find(const uint8_t *data, size_t size, size_t offset, struct heat_record *out);

#endif
