/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coding of index entries; see entry_format.h. What the decoder accepts is safe to use: no sum of its fields overflows.
 */
#include "format/entry_format.h"

#include <assert.h>

enum entry_flags {
    ENTRY_F_SAME_BRANCH = 1, /* namespace and branch of the entry before */
    ENTRY_F_CONTIGUOUS = 2,  /* its first depth is the one after the last of the entry before */
    ENTRY_F_FOLLOWS = 4,     /* same segment, starts where the entry before ends */
    ENTRY_F_SIZES = 8,       /* an array of sizes follows the sums */
    ENTRY_F_SAME_SHAPE = 16, /* codec, align_shift and page_bytes of the entry before */
    ENTRY_F_PARENT = 32,
    ENTRY_F_ALL = 63,
};

struct entry_base
entry_base_after(const struct entry *entry)
{
    return (struct entry_base){
        .end = {.ns_id = entry->key.ns_id, .depth = entry->key.depth + entry->count, .branch = entry->key.branch},
        .segment = entry->segment,
        .end_offset = entry_page_offset(entry, entry->count),
        .page_bytes = entry->sizes == NULL ? entry->page_bytes : 0,
        .codec = entry->codec,
        .align_shift = entry->align_shift,
        .has_sizes = entry->sizes != NULL,
    };
}

static uint8_t
flags_of(const struct entry_base *base, const struct entry *entry)
{
    unsigned flags = 0;
    bool sizes = entry->sizes != NULL;

    if (entry->key.ns_id == base->end.ns_id && entry->key.branch == base->end.branch) {
        flags |= ENTRY_F_SAME_BRANCH;
        if (entry->key.depth == base->end.depth)
            flags |= ENTRY_F_CONTIGUOUS;
    }
    if (entry->segment == base->segment && entry->offset == base->end_offset)
        flags |= ENTRY_F_FOLLOWS;
    if (sizes)
        flags |= ENTRY_F_SIZES;
    if (entry->codec == base->codec && entry->align_shift == base->align_shift && sizes == base->has_sizes &&
        (sizes || entry->page_bytes == base->page_bytes))
        flags |= ENTRY_F_SAME_SHAPE;
    if (entry->parent_branch != 0)
        flags |= ENTRY_F_PARENT;
    return (uint8_t)flags;
}

static uint8_t *
put_delta(uint8_t *p, uint64_t value, uint64_t before)
{
    return wire_put_varint(p, wire_zigzag((int64_t)(value - before)));
}

size_t
entry_encode_head(uint8_t *head, const struct entry_base *base, const struct entry *entry)
{
    uint8_t flags = flags_of(base, entry);
    uint8_t *p = head;

    assert(entry->count >= 1 && entry->count <= ENTRY_PAGES_MAX);
    assert(entry->align_shift >= ENTRY_SHIFT_MIN && entry->align_shift <= ENTRY_SHIFT_MAX);
    assert(entry->offset % ((uint64_t)1 << entry->align_shift) == 0 && entry->offset <= ENTRY_OFFSET_MAX);

    *p++ = flags;
    p = wire_put_varint(p, entry->count);
    if (!(flags & ENTRY_F_SAME_BRANCH)) {
        p = put_delta(p, entry->key.ns_id, base->end.ns_id);
        p = put_delta(p, entry->key.branch, base->end.branch);
    }
    if (!(flags & ENTRY_F_CONTIGUOUS))
        p = put_delta(p, entry->key.depth, flags & ENTRY_F_SAME_BRANCH ? base->end.depth : 0);
    if (!(flags & ENTRY_F_FOLLOWS)) {
        uint64_t units = entry->offset >> entry->align_shift;

        p = put_delta(p, entry->segment, base->segment);
        if (entry->segment == base->segment)
            p = put_delta(p, units, base->end_offset >> entry->align_shift);
        else
            p = wire_put_varint(p, units);
    }
    if (!(flags & ENTRY_F_SAME_SHAPE)) {
        *p++ = entry->codec;
        *p++ = entry->align_shift;
        if (!(flags & ENTRY_F_SIZES))
            p = wire_put_varint(p, entry->page_bytes);
    }
    if (flags & ENTRY_F_PARENT) {
        p = wire_put_varint(p, entry->parent_branch);
        p = wire_put_varint(p, entry->parent_depth);
    }
    assert(p - head <= ENTRY_HEAD_MAX);
    return (size_t)(p - head);
}

/* before + a zigzag delta; wraps, so the caller checks the range of what comes out. */
static uint64_t
read_delta(struct wire_reader *reader, uint64_t before)
{
    return before + (uint64_t)wire_unzigzag(wire_read_varint(reader));
}

static bool
decode_place(struct wire_reader *reader, unsigned flags, const struct entry_base *base, struct entry *out)
{
    uint64_t ns_id = base->end.ns_id;
    uint64_t depth = base->end.depth;

    out->key.branch = base->end.branch;
    if (!(flags & ENTRY_F_SAME_BRANCH)) {
        ns_id = read_delta(reader, ns_id);
        out->key.branch = read_delta(reader, base->end.branch);
        depth = 0;
    }
    if (!(flags & ENTRY_F_CONTIGUOUS))
        depth = read_delta(reader, depth);
    if (ns_id > UINT32_MAX || depth > UINT32_MAX)
        return false;
    out->key.ns_id = (uint32_t)ns_id;
    out->key.depth = (uint32_t)depth;
    return (flags & ENTRY_F_SAME_BRANCH) || !(flags & ENTRY_F_CONTIGUOUS);
}

/* Segment, offset and shape. The offset's unit depends on the shape, which comes after it. */
static bool
decode_extent(struct wire_reader *reader, unsigned flags, const struct entry_base *base, struct entry *out)
{
    uint64_t units = 0;
    bool relative = false;

    out->segment = base->segment;
    if (!(flags & ENTRY_F_FOLLOWS)) {
        out->segment = read_delta(reader, base->segment);
        relative = out->segment == base->segment;
        units = wire_read_varint(reader);
    }
    out->codec = base->codec;
    out->align_shift = base->align_shift;
    out->page_bytes = base->page_bytes;
    if (flags & ENTRY_F_SAME_SHAPE) {
        if (base->has_sizes != ((flags & ENTRY_F_SIZES) != 0))
            return false;
    } else {
        uint64_t page_bytes = 0;

        out->codec = wire_read8(reader);
        out->align_shift = wire_read8(reader);
        if (!(flags & ENTRY_F_SIZES))
            page_bytes = wire_read_varint(reader);
        if (page_bytes > VARVE_PAGE_BYTES_MAX)
            return false;
        out->page_bytes = (uint32_t)page_bytes;
    }
    if (out->align_shift < ENTRY_SHIFT_MIN || out->align_shift > ENTRY_SHIFT_MAX)
        return false;
    if (flags & ENTRY_F_FOLLOWS) {
        out->offset = base->end_offset;
        return out->offset <= ENTRY_OFFSET_MAX && out->offset % ((uint64_t)1 << out->align_shift) == 0;
    }
    if (relative)
        units = (base->end_offset >> out->align_shift) + (uint64_t)wire_unzigzag(units);
    if (units > ENTRY_OFFSET_MAX >> out->align_shift)
        return false;
    out->offset = units << out->align_shift;
    return true;
}

bool
entry_decode_head(struct wire_reader *reader, const struct entry_base *base, struct entry *out, bool *has_sizes)
{
    unsigned flags = wire_read8(reader);
    uint64_t count = wire_read_varint(reader);
    uint64_t parent_depth = 0;

    if ((flags & ~(unsigned)ENTRY_F_ALL) != 0 || count < 1 || count > ENTRY_PAGES_MAX)
        return false;
    if (!decode_place(reader, flags, base, out) || !decode_extent(reader, flags, base, out))
        return false;
    if (out->key.depth > UINT32_MAX - (uint32_t)count)
        return false;
    out->count = (uint32_t)count;
    out->parent_branch = 0;
    if (flags & ENTRY_F_PARENT) {
        out->parent_branch = wire_read_varint(reader);
        parent_depth = wire_read_varint(reader);
        if (out->parent_branch == 0 || parent_depth > UINT32_MAX)
            return false;
    }
    out->parent_depth = (uint32_t)parent_depth;
    out->ids = out->sums = out->sizes = NULL;
    *has_sizes = (flags & ENTRY_F_SIZES) != 0;
    return !reader->failed;
}
