/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/message.h"

#include <string.h>

#include "base/wire.h"
#include "format/format.h"

#define LOCATION_FOUND 1
#define PUT_HAS_PARENT 1
#define PAGE_PENDING   1

void
message_header_encode(const struct message_header *header, uint8_t out[MESSAGE_HEADER_BYTES])
{
    memset(out, 0, MESSAGE_HEADER_BYTES);
    wire_put32(out, MESSAGE_MAGIC);
    wire_put16(out + 4, header->version);
    wire_put16(out + 6, header->type);
    wire_put32(out + 8, header->length);
    wire_put32(out + 12, (uint32_t)header->status);
    wire_put64(out + 16, header->call);
    wire_put32(out + 24, header->get_us);
    wire_put32(out + 28, header->put_us);
}

enum message_check
message_header_decode(const uint8_t in[MESSAGE_HEADER_BYTES], struct message_header *header)
{
    if (wire_get32(in) != MESSAGE_MAGIC)
        return MESSAGE_BAD;
    header->version = wire_get16(in + 4);
    header->type = wire_get16(in + 6);
    header->length = wire_get32(in + 8);
    header->status = (int32_t)wire_get32(in + 12);
    header->call = wire_get64(in + 16);
    header->get_us = wire_get32(in + 24);
    header->put_us = wire_get32(in + 28);
    if (header->length > MESSAGE_BODY_MAX)
        return MESSAGE_BAD;
    if (header->version != MESSAGE_VERSION)
        return MESSAGE_OTHER_VERSION;
    return header->type == 0 || header->type >= MESSAGE_TYPES ? MESSAGE_BAD : MESSAGE_GOOD;
}

void
message_hello_encode(const struct message_hello *hello, uint8_t out[MESSAGE_HELLO_BYTES])
{
    wire_put32(out, hello->format_version);
    wire_put32(out + 4, hello->io_align);
    wire_put32(out + 8, hello->align_shift);
    wire_put32(out + 12, hello->library_version);
    wire_put64(out + 16, hello->page_bytes_max);
    wire_put64(out + 24, hello->life);
}

bool
message_hello_decode(const uint8_t *in, size_t size, struct message_hello *hello)
{
    if (size != MESSAGE_HELLO_BYTES)
        return false;
    hello->format_version = wire_get32(in);
    hello->io_align = wire_get32(in + 4);
    hello->align_shift = wire_get32(in + 8);
    hello->library_version = wire_get32(in + 12);
    hello->page_bytes_max = wire_get64(in + 16);
    hello->life = wire_get64(in + 24);
    return hello->align_shift >= 9 && hello->align_shift <= LOG_BLOCK_SHIFT &&
           hello->page_bytes_max <= (uint64_t)1 << 60;
}

size_t
message_namespace_encode(const struct message_namespace *ns, uint8_t *out)
{
    wire_put32(out, ns->ns_id);
    wire_put32(out + 4, ns->element_type);
    wire_put64(out + 8, ns->page_bytes_hint);
    memcpy(out + MESSAGE_NAMESPACE_BYTES, ns->name, ns->name_size);
    return MESSAGE_NAMESPACE_BYTES + ns->name_size;
}

bool
message_namespace_decode(const uint8_t *in, size_t size, struct message_namespace *ns)
{
    if (size < MESSAGE_NAMESPACE_BYTES || size - MESSAGE_NAMESPACE_BYTES > VARVE_NAMESPACE_NAME_MAX)
        return false;
    ns->ns_id = wire_get32(in);
    ns->element_type = wire_get32(in + 4);
    ns->page_bytes_hint = wire_get64(in + 8);
    ns->name_size = size - MESSAGE_NAMESPACE_BYTES;
    memcpy(ns->name, in + MESSAGE_NAMESPACE_BYTES, ns->name_size);
    ns->name[ns->name_size] = '\0';
    return ns->element_type <= VARVE_ELEMENT_FP8 && strlen(ns->name) == ns->name_size;
}

void
message_limits_encode(const struct message_limits *limits, uint8_t out[MESSAGE_LIMITS_BYTES])
{
    wire_put64(out, limits->ns_id);
    wire_put64(out + 8, limits->quota_bytes);
    wire_put64(out + 16, limits->ttl_s);
}

bool
message_limits_decode(const uint8_t *in, size_t size, struct message_limits *limits)
{
    if (size != MESSAGE_LIMITS_BYTES || wire_get64(in) > UINT32_MAX)
        return false;
    limits->ns_id = (uint32_t)wire_get64(in);
    limits->quota_bytes = wire_get64(in + 8);
    limits->ttl_s = wire_get64(in + 16);
    return true;
}

void
message_ids_encode(const struct message_ids *ids, uint8_t out[MESSAGE_IDS_BYTES])
{
    wire_put32(out, ids->ns_id);
    wire_put32(out + 4, ids->count);
    wire_put64(out + 8, ids->bandwidth);
    wire_put64(out + 16, ids->decode_bandwidth);
    wire_put64(out + 24, ids->latency_us);
}

/* Whether `count` records of `record` bytes, one at least, are all that follows a fixed part. */
static bool
records_fit(size_t size, size_t fixed, uint64_t count, uint64_t record)
{
    return count >= 1 && count <= VARVE_BATCH_PAGES_MAX && size == fixed + count * record;
}

bool
message_ids_decode(const uint8_t *in, size_t size, struct message_ids *ids)
{
    if (size < MESSAGE_IDS_BYTES)
        return false;
    ids->ns_id = wire_get32(in);
    ids->count = wire_get32(in + 4);
    ids->bandwidth = wire_get64(in + 8);
    ids->decode_bandwidth = wire_get64(in + 16);
    ids->latency_us = wire_get64(in + 24);
    ids->ids = in + MESSAGE_IDS_BYTES;
    return records_fit(size, MESSAGE_IDS_BYTES, ids->count, MESSAGE_ID_BYTES) &&
           ids->latency_us <= UINT32_MAX; /* a time is added to it */
}

void
message_found_encode(const struct message_found *found, uint8_t out[MESSAGE_FOUND_BYTES])
{
    wire_put64(out, found->found);
    wire_put32(out + 8, found->extents);
    wire_put32(out + 12, found->estimated);
}

bool
message_found_decode(const uint8_t *in, size_t size, uint64_t asked, struct message_found *found)
{
    if (size < MESSAGE_FOUND_BYTES)
        return false;
    found->found = wire_get64(in);
    found->extents = wire_get32(in + 8);
    found->estimated = wire_get32(in + 12) != 0;
    found->prefix_bytes = found->prefix_time_us = NULL;
    if (found->found > asked || wire_get32(in + 12) > 1 ||
        size != MESSAGE_FOUND_BYTES + (found->estimated ? found->found * 16 : 0))
        return false;
    if (found->estimated) {
        found->prefix_bytes = in + MESSAGE_FOUND_BYTES;
        found->prefix_time_us = found->prefix_bytes + found->found * 8;
    }
    return true;
}

void
message_location_encode(const struct location *location, bool found, uint8_t out[MESSAGE_LOCATION_BYTES])
{
    memset(out, 0, MESSAGE_LOCATION_BYTES);
    if (!found)
        return;
    wire_put64(out, location->segment);
    wire_put64(out + 8, location->offset);
    wire_put64(out + 16, location->sum);
    wire_put32(out + 24, location->size);
    out[28] = location->codec;
    out[29] = LOCATION_FOUND;
}

bool
message_location_decode(const uint8_t in[MESSAGE_LOCATION_BYTES], struct location *location, bool *found)
{
    *location = (struct location){.segment = wire_get64(in),
                                  .offset = wire_get64(in + 8),
                                  .sum = wire_get64(in + 16),
                                  .size = wire_get32(in + 24),
                                  .codec = in[28]};
    *found = in[29] == LOCATION_FOUND;
    return in[29] <= LOCATION_FOUND && wire_get16(in + 30) == 0 && location->segment <= FORMAT_NUMBER_MAX &&
           location->offset <= FORMAT_NUMBER_MAX && location->size <= VARVE_PAGE_BYTES_MAX;
}

void
message_put_encode(const struct message_put *put, uint8_t out[MESSAGE_PUT_BYTES])
{
    memset(out, 0, MESSAGE_PUT_BYTES);
    wire_put32(out, put->ns_id);
    wire_put32(out + 4, put->count);
    wire_put32(out + 8, put->has_parent ? PUT_HAS_PARENT : 0);
    if (put->has_parent)
        memcpy(out + 16, put->parent.bytes, VARVE_ID_BYTES);
}

bool
message_put_decode(const uint8_t *in, size_t size, struct message_put *put)
{
    if (size < MESSAGE_PUT_BYTES)
        return false;
    put->ns_id = wire_get32(in);
    put->count = wire_get32(in + 4);
    put->has_parent = wire_get32(in + 8) == PUT_HAS_PARENT;
    memcpy(put->parent.bytes, in + 16, VARVE_ID_BYTES);
    put->pages = in + MESSAGE_PUT_BYTES;
    return wire_get32(in + 8) <= PUT_HAS_PARENT && records_fit(size, MESSAGE_PUT_BYTES, put->count, MESSAGE_PAGE_BYTES);
}

void
message_page_encode(const varve_id *id, uint64_t size, bool pending, uint8_t out[MESSAGE_PAGE_BYTES])
{
    memcpy(out, id->bytes, VARVE_ID_BYTES);
    wire_put32(out + 32, pending ? (uint32_t)size : 0);
    wire_put32(out + 36, pending ? PAGE_PENDING : 0);
}

bool
message_page_decode(const uint8_t in[MESSAGE_PAGE_BYTES], varve_page *page, bool *pending)
{
    *page = (varve_page){.size = wire_get32(in + 32)};
    memcpy(page->id.bytes, in, VARVE_ID_BYTES);
    *pending = wire_get32(in + 36) == PAGE_PENDING;
    return page->size <= VARVE_PAGE_BYTES_MAX && wire_get32(in + 36) <= PAGE_PENDING;
}

void
message_reserve_encode(const struct message_reserve *reserve, uint8_t out[MESSAGE_RESERVE_BYTES])
{
    memset(out, 0, MESSAGE_RESERVE_BYTES);
    wire_put32(out, reserve->first);
    wire_put32(out + 4, reserve->count);
    out[8] = reserve->codec;
    out[9] = reserve->align_shift;
}

bool
message_reserve_decode(const uint8_t *in, size_t size, struct message_reserve *reserve)
{
    if (size < MESSAGE_RESERVE_BYTES)
        return false;
    reserve->first = wire_get32(in);
    reserve->count = wire_get32(in + 4);
    reserve->codec = in[8];
    reserve->align_shift = in[9];
    reserve->sizes = in + MESSAGE_RESERVE_BYTES;
    return reserve->count <= EXTENT_PAGES_MAX && reserve->first < VARVE_BATCH_PAGES_MAX &&
           records_fit(size, MESSAGE_RESERVE_BYTES, reserve->count, 4) && reserve->align_shift >= 9 &&
           reserve->align_shift <= LOG_BLOCK_SHIFT;
}

void
message_reserved_encode(const struct message_reserved *reserved, uint8_t out[MESSAGE_RESERVED_BYTES])
{
    const struct extent_header *header = &reserved->header;

    wire_put64(out, reserved->token);
    wire_put64(out + 8, reserved->segment);
    wire_put64(out + 16, header->salt);
    wire_put64(out + 24, header->offset);
    wire_put64(out + 32, header->extent_bytes);
    wire_put64(out + 40, header->synced_offset);
    wire_put64(out + 48, header->branch);
    wire_put64(out + 56, header->parent_branch);
    wire_put32(out + 64, header->depth);
    wire_put32(out + 68, header->parent_depth);
    wire_put32(out + 72, header->ns_id);
    wire_put32(out + 76, header->count);
    wire_put64(out + 80, 0);
}

bool
message_reserved_decode(const uint8_t *in, size_t size, struct message_reserved *reserved)
{
    struct extent_header *header = &reserved->header;

    if (size != MESSAGE_RESERVED_BYTES)
        return false;
    *header = (struct extent_header){.ns_id = wire_get32(in + 72)};
    reserved->token = wire_get64(in);
    reserved->segment = wire_get64(in + 8);
    header->salt = wire_get64(in + 16);
    header->offset = wire_get64(in + 24);
    header->extent_bytes = wire_get64(in + 32);
    header->synced_offset = wire_get64(in + 40);
    header->branch = wire_get64(in + 48);
    header->parent_branch = wire_get64(in + 56);
    header->depth = wire_get32(in + 64);
    header->parent_depth = wire_get32(in + 68);
    header->count = wire_get32(in + 76);
    return reserved->segment <= FORMAT_NUMBER_MAX && header->offset <= FORMAT_NUMBER_MAX &&
           header->offset % LOG_BLOCK_BYTES == 0 && header->extent_bytes % LOG_BLOCK_BYTES == 0 && header->count >= 1 &&
           header->count <= EXTENT_PAGES_MAX;
}

void
message_commit_encode(const struct message_commit *commit, uint8_t out[MESSAGE_COMMIT_BYTES])
{
    wire_put64(out, commit->token);
    wire_put64(out + 8, commit->count);
}

bool
message_commit_decode(const uint8_t *in, size_t size, struct message_commit *commit)
{
    if (size < MESSAGE_COMMIT_BYTES || wire_get64(in + 8) > EXTENT_PAGES_MAX)
        return false;
    commit->token = wire_get64(in);
    commit->count = (uint32_t)wire_get64(in + 8);
    commit->sums = in + MESSAGE_COMMIT_BYTES;
    return size == MESSAGE_COMMIT_BYTES + (size_t)commit->count * 8;
}

bool
message_option_decode(const uint8_t *in, size_t size, const char **name, const char **value)
{
    const uint8_t *end = memchr(in, '\0', size);

    if (size < 2 || size > MESSAGE_TEXT_MAX || end == NULL || in[size - 1] != '\0' || end == in + size - 1)
        return false;
    *name = (const char *)in;
    *value = (const char *)end + 1;
    return memchr(end + 1, '\0', size - (size_t)(end + 1 - in)) == in + size - 1;
}
