/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/message_report.h"

#include <math.h>
#include <string.h>

#include "base/wire.h"

static void
put_double(uint8_t *out, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    wire_put64(out, bits);
}

static double
get_double(const uint8_t *in)
{
    uint64_t bits = wire_get64(in);
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

void
message_iter_encode(const struct message_iter *iter, uint8_t out[MESSAGE_ITER_BYTES])
{
    wire_put32(out, iter->kind);
    wire_put32(out + 4, iter->ns_id);
}

bool
message_iter_decode(const uint8_t *in, size_t size, struct message_iter *iter)
{
    if (size != MESSAGE_ITER_BYTES)
        return false;
    iter->kind = wire_get32(in);
    iter->ns_id = wire_get32(in + 4);
    return iter->kind >= VARVE_ITER_NAMESPACES && iter->kind <= VARVE_ITER_PAGES;
}

void
message_items_encode(const struct message_items *items, uint8_t out[MESSAGE_ITEMS_BYTES])
{
    wire_put32(out, items->count);
    wire_put32(out + 4, items->name_size);
}

bool
message_items_decode(const uint8_t *in, size_t size, struct message_items *items)
{
    if (size < MESSAGE_ITEMS_BYTES)
        return false;
    items->count = wire_get32(in);
    items->name_size = wire_get32(in + 4);
    items->name = in + MESSAGE_ITEMS_BYTES;
    if (items->count == 0 || items->count > MESSAGE_ITEMS_MAX || items->name_size > VARVE_NAMESPACE_NAME_MAX ||
        size != MESSAGE_ITEMS_BYTES + items->name_size + (size_t)items->count * MESSAGE_ITEM_BYTES)
        return false;
    items->items = items->name + items->name_size;
    return memchr(items->name, '\0', items->name_size) == NULL;
}

void
message_item_encode(const varve_item *item, uint8_t out[MESSAGE_ITEM_BYTES])
{
    wire_put32(out, item->depth);
    wire_put32(out + 4, item->parent_depth);
    wire_put64(out + 8, item->branch);
    wire_put64(out + 16, item->parent_branch);
    wire_put32(out + 24, item->page_count);
    wire_put32(out + 28, 0);
    wire_put64(out + 32, item->bytes);
    wire_put64(out + 40, item->segment);
    wire_put64(out + 48, item->offset);
    memcpy(out + 56, item->id_prefix, sizeof(item->id_prefix));
    wire_put64(out + 72, item->checksum);
    wire_put64(out + 80, 0);
}

void
message_item_decode(const uint8_t in[MESSAGE_ITEM_BYTES], varve_item *item)
{
    item->depth = wire_get32(in);
    item->parent_depth = wire_get32(in + 4);
    item->branch = wire_get64(in + 8);
    item->parent_branch = wire_get64(in + 16);
    item->page_count = wire_get32(in + 24);
    item->bytes = wire_get64(in + 32);
    item->segment = wire_get64(in + 40);
    item->offset = wire_get64(in + 48);
    memcpy(item->id_prefix, in + 56, sizeof(item->id_prefix));
    item->checksum = wire_get64(in + 72);
}

void
message_news_encode(const struct message_news *news, uint8_t out[MESSAGE_NEWS_BYTES])
{
    wire_put64(out, news->done);
    wire_put64(out + 8, news->total);
}

bool
message_news_decode(const uint8_t *in, size_t size, struct message_news *news)
{
    if (size < MESSAGE_NEWS_BYTES)
        return false;
    news->done = wire_get64(in);
    news->total = wire_get64(in + 8);
    news->text = size == MESSAGE_NEWS_BYTES ? NULL : (const char *)in + MESSAGE_NEWS_BYTES;
    return news->text == NULL || memchr(news->text, '\0', size - MESSAGE_NEWS_BYTES) == in + size - 1;
}

void
message_report_encode(const varve_check_report *report, uint8_t out[MESSAGE_REPORT_BYTES])
{
    wire_put64(out, report->problems);
    wire_put64(out + 8, report->segments);
    wire_put64(out + 16, report->runs);
    wire_put64(out + 24, report->extents);
    wire_put64(out + 32, report->pages);
    wire_put64(out + 40, report->pages_verified);
    wire_put64(out + 48, report->bytes_verified);
}

bool
message_report_decode(const uint8_t *in, size_t size, varve_check_report *report)
{
    if (size != MESSAGE_REPORT_BYTES || wire_get64(in) > UINT32_MAX)
        return false;
    report->problems = (uint32_t)wire_get64(in);
    report->segments = wire_get64(in + 8);
    report->runs = wire_get64(in + 16);
    report->extents = wire_get64(in + 24);
    report->pages = wire_get64(in + 32);
    report->pages_verified = wire_get64(in + 40);
    report->bytes_verified = wire_get64(in + 48);
    return true;
}

void
message_mix_encode(const varve_tune_mix *mix, uint8_t out[MESSAGE_MIX_BYTES])
{
    memset(out, 0, MESSAGE_MIX_BYTES);
    if (mix == NULL)
        return;
    wire_put64(out, 1);
    put_double(out + 8, mix->pages_put);
    put_double(out + 16, mix->walks);
    put_double(out + 24, mix->misses);
    put_double(out + 32, mix->walk_pages);
    put_double(out + 40, mix->walk_turns);
}

static bool
is_rate(double value)
{
    return isfinite(value) && value >= 0;
}

bool
message_mix_decode(const uint8_t *in, size_t size, varve_tune_mix *mix, bool *has_mix)
{
    if (size != MESSAGE_MIX_BYTES || wire_get64(in) > 1)
        return false;
    *has_mix = wire_get64(in) == 1;
    *mix = (varve_tune_mix){.struct_size = (uint32_t)sizeof(*mix),
                            .pages_put = get_double(in + 8),
                            .walks = get_double(in + 16),
                            .misses = get_double(in + 24),
                            .walk_pages = get_double(in + 32),
                            .walk_turns = get_double(in + 40)};
    return !*has_mix || (is_rate(mix->pages_put) && is_rate(mix->walks) && is_rate(mix->misses) &&
                         is_rate(mix->walk_pages) && is_rate(mix->walk_turns) && mix->walk_turns >= 1);
}

void
message_row_encode(const varve_tune_row *row, uint8_t out[MESSAGE_ROW_BYTES])
{
    wire_put32(out, row->size_ratio);
    wire_put32(out + 4, row->runs_per_level);
    wire_put32(out + 8, row->runs_last_level);
    wire_put32(out + 12, row->fingerprint_bits);
    wire_put64(out + 16, row->memtable_bytes);
    wire_put64(out + 24, row->block_cache_bytes);
    put_double(out + 32, row->cost);
    put_double(out + 40, row->cost_reads);
    put_double(out + 48, row->cost_locators);
    put_double(out + 56, row->cost_flushes);
    put_double(out + 64, row->cost_merges);
    wire_put32(out + 72, row->current != 0);
    wire_put32(out + 76, row->best != 0);
}

void
message_row_decode(const uint8_t in[MESSAGE_ROW_BYTES], varve_tune_row *row)
{
    *row = (varve_tune_row){.size_ratio = wire_get32(in),
                            .runs_per_level = wire_get32(in + 4),
                            .runs_last_level = wire_get32(in + 8),
                            .fingerprint_bits = wire_get32(in + 12),
                            .memtable_bytes = wire_get64(in + 16),
                            .block_cache_bytes = wire_get64(in + 24),
                            .cost = get_double(in + 32),
                            .cost_reads = get_double(in + 40),
                            .cost_locators = get_double(in + 48),
                            .cost_flushes = get_double(in + 56),
                            .cost_merges = get_double(in + 64),
                            .current = wire_get32(in + 72) != 0,
                            .best = wire_get32(in + 76) != 0};
}

const char *
message_text_next(const uint8_t *in, size_t size, size_t *at)
{
    const uint8_t *end = *at < size ? memchr(in + *at, '\0', size - *at) : NULL;
    const char *text = (const char *)in + *at;

    if (end == NULL)
        return NULL;
    *at = (size_t)(end - in) + 1;
    return text;
}
