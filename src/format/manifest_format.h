/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_format.h - bytes of a manifest: a header, then records; a record is one atomic edit: a list of items. Offsets:
 * docs/FORMAT.md. A record counts only when its checksum holds, which covers the manifest's salt and the record's place in the order, so a
 * torn or stale tail ends the file instead of being taken for an edit.
 */
#ifndef VARVE_FORMAT_MANIFEST_FORMAT_H
#define VARVE_FORMAT_MANIFEST_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "index/index.h"

#define MANIFEST_HEADER_BYTES     64
#define MANIFEST_FRAME_BYTES      24 /* before the items of a record */
#define MANIFEST_RECORD_BYTES_MAX ((uint32_t)1 << 30)

struct manifest_header {
    uint64_t number;
    uint64_t salt;
    uint8_t store_id[16];
};

enum manifest_item_kind {
    MANIFEST_COUNTERS = 1,
    MANIFEST_NAMESPACE = 2, /* made, or (same name) replaced by a new ns_id: cleared */
    MANIFEST_SEGMENT_ADD = 3,
    MANIFEST_SEGMENT_SEAL = 4,
    MANIFEST_SEGMENT_USE = 5, /* what a sealed segment holds of one namespace */
    MANIFEST_SEGMENT_DROP = 6,
    MANIFEST_SEGMENT_INDEXED = 7, /* all extents before `offset` are in runs */
    MANIFEST_RUN_ADD = 8,
    MANIFEST_RUN_REMOVE = 9,
    MANIFEST_PAGE_REMOVE = 10,
};

struct manifest_item {
    enum manifest_item_kind kind;
    union {
        struct {
            uint64_t next_number; /* every file number from here on is unused */
            uint64_t next_branch;
        } counters;
        struct {
            uint32_t ns_id;
            uint32_t element_type;
            uint64_t page_bytes_hint;
            const char *name; /* not NUL-terminated */
            uint32_t name_size;
        } ns;
        struct {
            uint64_t number;
            uint64_t salt;   /* add */
            uint64_t bytes;  /* add: preallocated; seal: final length */
            uint64_t offset; /* indexed; page_remove */
            uint64_t use_pages;
            uint64_t use_bytes;
            uint32_t ns_id;                     /* use */
            uint8_t align_shift;                /* add */
            uint8_t id_prefix[ID_PREFIX_BYTES]; /* page_remove */
        } segment;
        struct run_meta run; /* remove: only number */
    } u;
};

void manifest_header_encode(const struct manifest_header *header, uint8_t *buf);
/* VARVE_OK, VARVE_E_CORRUPT or VARVE_E_VERSION. */
int manifest_header_decode(const uint8_t *buf, struct manifest_header *out);

/* Most bytes an item takes. */
size_t manifest_item_bound(const struct manifest_item *item);
/* Append an item; returns the first byte after it. */
uint8_t *manifest_item_encode(const struct manifest_item *item, uint8_t *p);

/* Put the frame before `size` bytes of items at record + MANIFEST_FRAME_BYTES. */
void manifest_record_seal(uint8_t *record, uint32_t size, uint64_t salt, uint64_t sequence);

/*
 * Check the record at `data`. Its whole length, or 0 when there is no valid record `sequence` there.
 */
size_t manifest_record_check(const uint8_t *data, size_t size, uint64_t salt, uint64_t sequence);

/* The next item of a checked record's items. False at the end or, with reader->failed set, when it cannot be parsed. */
bool manifest_item_decode(struct wire_reader *reader, struct manifest_item *out);

#endif
