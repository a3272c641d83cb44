/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a peer and an owner say to each other, from arbitrary bytes: whatever a decoder takes is within its bounds, and says the same when it is encoded again.
 * The second byte of an input chooses the message.
 */
#include <string.h>

#include "base/wire.h"
#include "fuzz.h"
#include "peer/message_report.h"

enum parser {
    PARSER_HEADER,
    PARSER_HELLO,
    PARSER_NAMESPACE,
    PARSER_LIMITS,
    PARSER_IDS,
    PARSER_FOUND,
    PARSER_LOCATION,
    PARSER_PUT,
    PARSER_PAGE,
    PARSER_RESERVE,
    PARSER_RESERVED,
    PARSER_COMMIT,
    PARSER_OPTION,
    PARSER_ITEMS,
    PARSER_NEWS,
    PARSER_REPORT,
    PARSER_MIX,
    PARSER_TEXTS,
    PARSERS
};

/* All of the records of an array, so that a sanitizer sees those that are not there. */
static uint64_t
read_records(const uint8_t *records, size_t size)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < size; i++)
        sum += records[i];
    return sum;
}

static void
parse_header(const uint8_t *data, size_t size)
{
    struct message_header header;
    uint8_t again[MESSAGE_HEADER_BYTES];

    if (size < MESSAGE_HEADER_BYTES || message_header_decode(data, &header) != MESSAGE_GOOD)
        return;
    fuzz_require(header.length <= MESSAGE_BODY_MAX && header.type > 0 && header.type < MESSAGE_TYPES, "header bounds");
    message_header_encode(&header, again);
    fuzz_require(memcmp(again, data, sizeof(again)) == 0, "header again");
}

static void
parse_fixed(enum parser parser, const uint8_t *data, size_t size)
{
    struct message_hello hello;
    struct message_limits limits;
    struct message_reserved reserved;
    uint8_t again[MESSAGE_RESERVED_BYTES];

    if (parser == PARSER_HELLO && message_hello_decode(data, size, &hello)) {
        message_hello_encode(&hello, again);
        fuzz_require(memcmp(again, data, MESSAGE_HELLO_BYTES) == 0, "hello again");
    } else if (parser == PARSER_LIMITS && message_limits_decode(data, size, &limits)) {
        message_limits_encode(&limits, again);
        fuzz_require(memcmp(again, data, MESSAGE_LIMITS_BYTES) == 0, "limits again");
    } else if (parser == PARSER_RESERVED && message_reserved_decode(data, size, &reserved)) {
        fuzz_require(reserved.header.count >= 1 && reserved.header.count <= EXTENT_PAGES_MAX, "reserved bounds");
        message_reserved_encode(&reserved, again);
        fuzz_require(memcmp(again, data, 80) == 0, "reserved again");
    }
}

static void
parse_namespace(const uint8_t *data, size_t size)
{
    uint8_t again[MESSAGE_NAMESPACE_BYTES + VARVE_NAMESPACE_NAME_MAX];
    struct message_namespace ns;

    if (!message_namespace_decode(data, size, &ns))
        return;
    fuzz_require(strlen(ns.name) == ns.name_size, "name");
    fuzz_require(message_namespace_encode(&ns, again) == size && memcmp(again, data, size) == 0, "namespace again");
}

static uint64_t
parse_found(const uint8_t *data, size_t size)
{
    struct message_found found;

    if (!message_found_decode(data, size, VARVE_BATCH_PAGES_MAX, &found))
        return 0;
    fuzz_require(found.found <= VARVE_BATCH_PAGES_MAX, "more found than asked for");
    if (!found.estimated)
        return 0;
    return read_records(found.prefix_bytes, found.found * 8) + read_records(found.prefix_time_us, found.found * 8);
}

static uint64_t
parse_report(enum parser parser, const uint8_t *data, size_t size)
{
    uint8_t again[MESSAGE_MIX_BYTES + MESSAGE_REPORT_BYTES];
    struct message_items items;
    struct message_news news;
    varve_check_report report;
    varve_tune_mix mix;
    bool has_mix;
    uint64_t seen = 0;
    const char *text;

    if (parser == PARSER_ITEMS && message_items_decode(data, size, &items))
        return read_records(items.name, items.name_size) +
               read_records(items.items, (size_t)items.count * MESSAGE_ITEM_BYTES);
    if (parser == PARSER_NEWS && message_news_decode(data, size, &news))
        return news.text == NULL ? 0 : strlen(news.text);
    if (parser == PARSER_REPORT && message_report_decode(data, size, &report)) {
        message_report_encode(&report, again);
        fuzz_require(memcmp(again, data, MESSAGE_REPORT_BYTES) == 0, "report again");
    }
    if (parser == PARSER_MIX && message_mix_decode(data, size, &mix, &has_mix) && has_mix) {
        fuzz_require(mix.pages_put >= 0 && mix.walk_turns >= 1, "mix bounds");
        message_mix_encode(&mix, again);
        fuzz_require(memcmp(again, data, MESSAGE_MIX_BYTES) == 0, "mix again");
    }
    for (size_t at = 0; parser == PARSER_TEXTS && (text = message_text_next(data, size, &at)) != NULL;)
        seen += strlen(text);
    return seen;
}

static uint64_t
parse_one(enum parser parser, const uint8_t *data, size_t size)
{
    struct location location;
    varve_page page;
    bool flag;

    if (parser == PARSER_LOCATION && size >= MESSAGE_LOCATION_BYTES && message_location_decode(data, &location, &flag))
        fuzz_require(location.size <= VARVE_PAGE_BYTES_MAX, "location bounds");
    if (parser == PARSER_PAGE && size >= MESSAGE_PAGE_BYTES && message_page_decode(data, &page, &flag))
        fuzz_require(page.size <= VARVE_PAGE_BYTES_MAX && page.iov == NULL, "page bounds");
    return 0;
}

static uint64_t
parse_array(enum parser parser, const uint8_t *data, size_t size)
{
    struct message_ids ids;
    struct message_put put;
    struct message_reserve reserve;
    struct message_commit commit;
    const char *name, *value;

    if (parser == PARSER_IDS && message_ids_decode(data, size, &ids))
        return read_records(ids.ids, (size_t)ids.count * MESSAGE_ID_BYTES);
    if (parser == PARSER_PUT && message_put_decode(data, size, &put))
        return read_records(put.pages, (size_t)put.count * MESSAGE_PAGE_BYTES);
    if (parser == PARSER_RESERVE && message_reserve_decode(data, size, &reserve))
        return read_records(reserve.sizes, (size_t)reserve.count * 4);
    if (parser == PARSER_COMMIT && message_commit_decode(data, size, &commit))
        return read_records(commit.sums, (size_t)commit.count * 8);
    if (parser == PARSER_OPTION && message_option_decode(data, size, &name, &value))
        return strlen(name) + strlen(value);
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t seen = 0;
    enum parser parser;

    if (size < 2)
        return 0;
    parser = (enum parser)(data[1] % PARSERS);
    data += 2;
    size -= 2;
    if (parser == PARSER_HEADER)
        parse_header(data, size);
    else if (parser == PARSER_NAMESPACE)
        parse_namespace(data, size);
    else if (parser == PARSER_FOUND)
        seen += parse_found(data, size);
    else if (parser == PARSER_LOCATION || parser == PARSER_PAGE)
        seen += parse_one(parser, data, size);
    else
        parse_fixed(parser, data, size);
    seen += parse_array(parser, data, size) + parse_report(parser, data, size);
    fuzz_require(seen < UINT64_MAX, "the sum of all bytes"); /* so that they are read */
    return 0;
}

/* A fixed part with its count at 4 or 8, and that many records. */
static size_t
example_array(struct sim_rng *rng, enum parser parser, uint8_t *out)
{
    uint32_t count = 1 + (uint32_t)sim_rng_below(rng, 40);

    if (parser == PARSER_IDS) {
        message_ids_encode(&(struct message_ids){.ns_id = 1, .count = count}, out);
        return MESSAGE_IDS_BYTES + (size_t)count * MESSAGE_ID_BYTES;
    }
    if (parser == PARSER_PUT) {
        message_put_encode(&(struct message_put){.ns_id = 1, .count = count, .has_parent = count % 2 == 0}, out);
        return MESSAGE_PUT_BYTES + (size_t)count * MESSAGE_PAGE_BYTES;
    }
    if (parser == PARSER_RESERVE) {
        message_reserve_encode(&(struct message_reserve){.count = count, .align_shift = 12}, out);
        return MESSAGE_RESERVE_BYTES + (size_t)count * 4;
    }
    message_commit_encode(&(struct message_commit){.token = 1, .count = count}, out);
    return MESSAGE_COMMIT_BYTES + (size_t)count * 8;
}

static size_t
example_report(enum parser parser, uint8_t *out)
{
    const varve_tune_mix mix = {.pages_put = 20000, .walks = 100, .walk_turns = 2};

    if (parser == PARSER_ITEMS) {
        message_items_encode(&(struct message_items){.count = 5, .name_size = 4}, out);
        memset(out + MESSAGE_ITEMS_BYTES, 'n', 4);
        return MESSAGE_ITEMS_BYTES + 4 + (size_t)5 * MESSAGE_ITEM_BYTES;
    }
    if (parser == PARSER_NEWS) {
        message_news_encode(&(struct message_news){.done = 5, .total = 9}, out);
        memcpy(out + MESSAGE_NEWS_BYTES, "text", 5);
        return MESSAGE_NEWS_BYTES + 5;
    }
    if (parser == PARSER_REPORT) {
        message_report_encode(&(varve_check_report){.problems = 1, .pages = 7}, out);
        return MESSAGE_REPORT_BYTES;
    }
    if (parser == PARSER_MIX) {
        message_mix_encode(&mix, out);
        return MESSAGE_MIX_BYTES;
    }
    memcpy(out, "one\0two", 8);
    return 8;
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    enum parser parser = (enum parser)sim_rng_below(rng, PARSERS);
    struct message_namespace ns = {.ns_id = 1, .name_size = 4, .name = "test"};
    struct message_reserved reserved = {.token = 1, .segment = 7};
    uint8_t *body = out + 2;

    memset(out, 0, 4096);
    out[1] = (uint8_t)parser;
    switch (parser) {
    case PARSER_HEADER:
        message_header_encode(&(struct message_header){.version = MESSAGE_VERSION, .type = MESSAGE_PROBE, .length = 64},
                              body);
        return 2 + MESSAGE_HEADER_BYTES;
    case PARSER_HELLO:
        message_hello_encode(&(struct message_hello){.format_version = 1, .io_align = 512, .align_shift = 9}, body);
        return 2 + MESSAGE_HELLO_BYTES;
    case PARSER_NAMESPACE:
        return 2 + message_namespace_encode(&ns, body);
    case PARSER_LIMITS:
        message_limits_encode(&(struct message_limits){.ns_id = 5, .ttl_s = 9}, body);
        return 2 + MESSAGE_LIMITS_BYTES;
    case PARSER_FOUND:
        message_found_encode(&(struct message_found){.found = 3, .estimated = true}, body);
        return 2 + MESSAGE_FOUND_BYTES + 3 * 16;
    case PARSER_LOCATION:
        message_location_encode(&(struct location){.segment = 4, .offset = 4096, .size = 100}, true, body);
        return 2 + MESSAGE_LOCATION_BYTES;
    case PARSER_PAGE:
        message_page_encode(&(varve_id){{1}}, 100, true, body);
        return 2 + MESSAGE_PAGE_BYTES;
    case PARSER_RESERVED:
        reserved.header = (struct extent_header){.offset = 8192, .extent_bytes = 4096, .count = 3};
        message_reserved_encode(&reserved, body);
        return 2 + MESSAGE_RESERVED_BYTES;
    case PARSER_OPTION:
        memcpy(body,
               "capacity\0"
               "64M",
               13);
        return 2 + 13;
    case PARSER_ITEMS:
    case PARSER_NEWS:
    case PARSER_REPORT:
    case PARSER_MIX:
    case PARSER_TEXTS:
        return 2 + example_report(parser, body);
    case PARSER_IDS:
    case PARSER_PUT:
    case PARSER_RESERVE:
    case PARSER_COMMIT:
    case PARSERS:
        break;
    }
    return 2 + example_array(rng, parser, body);
}
