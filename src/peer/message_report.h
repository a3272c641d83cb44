/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message_report.h - what a peer and the owner say about the store as a whole: rows of an iteration, a check under way, what the controller makes of it. As in
 * message.h a decoder reads nothing that is not there. docs/sharing.md has the bytes.
 */
#ifndef VARVE_PEER_MESSAGE_REPORT_H
#define VARVE_PEER_MESSAGE_REPORT_H

#include "peer/message.h"

/* ITER_OPEN; the answer is empty. One iteration at a time on a connection. */
struct message_iter {
    uint32_t kind; /* enum varve_iter_kind */
    uint32_t ns_id;
};
#define MESSAGE_ITER_BYTES 8
void message_iter_encode(const struct message_iter *iter, uint8_t out[MESSAGE_ITER_BYTES]);
bool message_iter_decode(const uint8_t *in, size_t size, struct message_iter *iter);

/* The answer to ITER_NEXT: rows of one namespace. VARVE_MISS: there are no more. */
struct message_items {
    uint32_t count;
    uint32_t name_size;   /* of the namespace; 0: it was cleared */
    const uint8_t *name;  /* no NUL */
    const uint8_t *items; /* count x MESSAGE_ITEM_BYTES */
};
#define MESSAGE_ITEMS_BYTES 8
#define MESSAGE_ITEMS_MAX   256
#define MESSAGE_ITEM_BYTES  88
void message_items_encode(const struct message_items *items, uint8_t out[MESSAGE_ITEMS_BYTES]); /* the rest follows */
bool message_items_decode(const uint8_t *in, size_t size, struct message_items *items);
/* All but the name. */
void message_item_encode(const varve_item *item, uint8_t out[MESSAGE_ITEM_BYTES]);
void message_item_decode(const uint8_t in[MESSAGE_ITEM_BYTES], varve_item *item);

/* CHECK has the flags. Answers with the status MESSAGE_GOING_ON come first: progress, or, with a text, a problem. */
#define MESSAGE_CHECK_BYTES 4
struct message_news {
    uint64_t done, total;
    const char *text; /* NULL: progress */
};
#define MESSAGE_NEWS_BYTES 16
void message_news_encode(const struct message_news *news,
                         uint8_t out[MESSAGE_NEWS_BYTES]); /* the text follows, with its NUL */
bool message_news_decode(const uint8_t *in, size_t size, struct message_news *news);

#define MESSAGE_REPORT_BYTES 56
void message_report_encode(const varve_check_report *report, uint8_t out[MESSAGE_REPORT_BYTES]);
bool message_report_decode(const uint8_t *in, size_t size, varve_check_report *report);

/* TUNE: the mix, or none. The answer: rows. */
#define MESSAGE_MIX_BYTES 48
void message_mix_encode(const varve_tune_mix *mix, uint8_t out[MESSAGE_MIX_BYTES]); /* NULL: none */
/* True: *has_mix says whether there is one, whose numbers are finite, at least 0, turns 1. */
bool message_mix_decode(const uint8_t *in, size_t size, varve_tune_mix *mix, bool *has_mix);
#define MESSAGE_ROW_BYTES 80
void message_row_encode(const varve_tune_row *row, uint8_t out[MESSAGE_ROW_BYTES]);
void message_row_decode(const uint8_t in[MESSAGE_ROW_BYTES], varve_tune_row *row);

/* TUNE_MEASURE: nanoseconds. */
#define MESSAGE_MEASURE_BYTES 8

/* The answer to CONTROL_LOG: texts, each with its NUL. The next text at *at, which moves behind it; NULL: there are no more, *at is not `size`: nonsense follows. */
const char *message_text_next(const uint8_t *in, size_t size, size_t *at);

#endif
