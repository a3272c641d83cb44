/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message.h - what a peer and the owner of a store say to each other: encoders and decoders without I/O. Both ends are untrusted: a decoder reads nothing that
 * is not there, and takes no value that could do harm. docs/sharing.md has the bytes.
 *
 * A message is a header of MESSAGE_HEADER_BYTES and `length` bytes. A peer asks, the owner answers with the same type and call number; one question at a
 * time on a connection. The first one is MESSAGE_HELLO. All integers are little-endian. Decoded arrays point into the bytes that were given.
 */
#ifndef VARVE_PEER_MESSAGE_H
#define VARVE_PEER_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format/log_format.h"
#include "varve.h"

#define MESSAGE_MAGIC        0x50565256u /* "VRVP" */
#define MESSAGE_VERSION      3
#define MESSAGE_HEADER_BYTES 32
#define MESSAGE_BODY_MAX     ((uint32_t)1 << 20) /* VARVE_BATCH_PAGES_MAX of the largest record fit */

#define MESSAGE_ID_BYTES       VARVE_ID_BYTES
#define MESSAGE_LOCATION_BYTES 32
#define MESSAGE_PAGE_BYTES     40
#define MESSAGE_TEXT_MAX       240

/* Statuses of answers beside those of varve.h. */
#define MESSAGE_STATUSES        (-2000)
#define MESSAGE_STALE_NAMESPACE (-2001) /* no namespace has this number (any more): open it again */
#define MESSAGE_GOING_ON        (-2003) /* news of a long answer, which goes on */

enum message_type {
    MESSAGE_HELLO = 1,
    MESSAGE_NAMESPACE_OPEN,
    MESSAGE_NAMESPACE_CLEAR,
    MESSAGE_LIMITS,
    MESSAGE_PROBE,
    MESSAGE_EXISTS,
    MESSAGE_TOUCH,
    MESSAGE_REMOVE,
    MESSAGE_PIN,
    MESSAGE_UNPIN,
    MESSAGE_LOCATE,
    MESSAGE_DAMAGED,
    MESSAGE_SEGMENT,
    MESSAGE_PUT_BEGIN,
    MESSAGE_RESERVE,
    MESSAGE_COMMIT,
    MESSAGE_SYNC,
    MESSAGE_OPTION,
    MESSAGE_STATS,
    MESSAGE_ITER_OPEN, /* from here on message_report.h */
    MESSAGE_ITER_NEXT,
    MESSAGE_CHECK,
    MESSAGE_CONTROL_LOG,
    MESSAGE_TUNE,
    MESSAGE_TUNE_MEASURE,
    MESSAGE_TYPES
};

struct message_header {
    uint16_t version;
    uint16_t type;
    uint32_t length;         /* of the body */
    int32_t status;          /* of an answer: enum varve_status, or above; 0 in questions */
    uint64_t call;           /* of the question */
    uint32_t get_us, put_us; /* of questions: time that gets and puts of this connection took since the last one */
};

enum message_check {
    MESSAGE_GOOD,
    MESSAGE_BAD,          /* not a message at all, or too long */
    MESSAGE_OTHER_VERSION /* the header is as always, what follows may not be */
};

void message_header_encode(const struct message_header *header, uint8_t out[MESSAGE_HEADER_BYTES]);
enum message_check message_header_decode(const uint8_t in[MESSAGE_HEADER_BYTES], struct message_header *header);

/* HELLO, both ways: who speaks, and, in the answer, what a peer has to know of the store. */
struct message_hello {
    uint32_t format_version; /* of files */
    uint32_t io_align;
    uint32_t align_shift;
    uint32_t library_version;
    uint64_t page_bytes_max;
    uint64_t life; /* of the owner: no other has this number; never 0 */
};
#define MESSAGE_HELLO_BYTES 32
void message_hello_encode(const struct message_hello *hello, uint8_t out[MESSAGE_HELLO_BYTES]);
bool message_hello_decode(const uint8_t *in, size_t size, struct message_hello *hello);

/* NAMESPACE_OPEN, both ways; the answer has no name. */
struct message_namespace {
    uint32_t ns_id;
    uint32_t element_type;
    uint64_t page_bytes_hint;
    size_t name_size;
    char name[VARVE_NAMESPACE_NAME_MAX + 1]; /* with a NUL */
};
#define MESSAGE_NAMESPACE_BYTES 16
size_t message_namespace_encode(const struct message_namespace *ns, uint8_t *out); /* the bytes it took */
bool message_namespace_decode(const uint8_t *in, size_t size, struct message_namespace *ns);

/* LIMITS, and NAMESPACE_CLEAR, which has the number only. */
struct message_limits {
    uint32_t ns_id;
    uint64_t quota_bytes, ttl_s;
};
#define MESSAGE_LIMITS_BYTES 24
void message_limits_encode(const struct message_limits *limits, uint8_t out[MESSAGE_LIMITS_BYTES]);
bool message_limits_decode(const uint8_t *in, size_t size, struct message_limits *limits);

/*
 * PROBE, EXISTS, TOUCH, REMOVE, PIN, UNPIN, LOCATE, DAMAGED. Of PROBE: with `bandwidth` above 0, what loading would cost a peer that reads so fast.
 */
struct message_ids {
    uint32_t ns_id;
    uint32_t count;
    uint64_t bandwidth, decode_bandwidth, latency_us;
    const uint8_t *ids; /* count x MESSAGE_ID_BYTES */
};
#define MESSAGE_IDS_BYTES 32
void message_ids_encode(const struct message_ids *ids, uint8_t out[MESSAGE_IDS_BYTES]); /* the ids follow */
bool message_ids_decode(const uint8_t *in, size_t size, struct message_ids *ids);

/* The answer to PROBE, TOUCH, REMOVE, PIN, UNPIN: pages found. With an estimate both arrays of that many entries follow. */
struct message_found {
    uint64_t found;
    uint32_t extents;
    bool estimated;
    const uint8_t *prefix_bytes, *prefix_time_us; /* found x 8; NULL: not estimated */
};
#define MESSAGE_FOUND_BYTES 16
void message_found_encode(const struct message_found *found, uint8_t out[MESSAGE_FOUND_BYTES]);
/* `asked`: pages of the question; more are not found. */
bool message_found_decode(const uint8_t *in, size_t size, uint64_t asked, struct message_found *found);

/* The answer to LOCATE: one a page. */
void message_location_encode(const struct location *location, bool found, uint8_t out[MESSAGE_LOCATION_BYTES]);
/* False: it is nonsense. *found: location is filled but for its key. */
bool message_location_decode(const uint8_t in[MESSAGE_LOCATION_BYTES], struct location *location, bool *found);

/* PUT_BEGIN. The answer: one byte a page, enum message_page_state or, from MESSAGE_PAGE_FAILED on, that less a status of varve.h. */
struct message_put {
    uint32_t ns_id;
    uint32_t count;
    bool has_parent;
    varve_id parent;
    const uint8_t *pages; /* count x MESSAGE_PAGE_BYTES */
};
#define MESSAGE_PUT_BYTES 48
void message_put_encode(const struct message_put *put, uint8_t out[MESSAGE_PUT_BYTES]); /* the pages follow */
bool message_put_decode(const uint8_t *in, size_t size, struct message_put *put);
/* One page: its size, and whether it is to be stored (else it only takes its place in the chain). */
void message_page_encode(const varve_id *id, uint64_t size, bool pending, uint8_t out[MESSAGE_PAGE_BYTES]);
bool message_page_decode(const uint8_t in[MESSAGE_PAGE_BYTES], varve_page *page, bool *pending);

enum message_page_state {
    MESSAGE_PAGE_KEPT = 0,    /* its status is as it was */
    MESSAGE_PAGE_STORED = 1,  /* already */
    MESSAGE_PAGE_PENDING = 2, /* to be written */
    MESSAGE_PAGE_SKIPPED = 3,
};

/* RESERVE: for as many of the pages [first, first + count) as fit. */
struct message_reserve {
    uint32_t first, count;
    uint8_t codec, align_shift;
    const uint8_t *sizes; /* count x 4: as stored */
};
#define MESSAGE_RESERVE_BYTES 16
void message_reserve_encode(const struct message_reserve *reserve, uint8_t out[MESSAGE_RESERVE_BYTES]);
bool message_reserve_decode(const uint8_t *in, size_t size, struct message_reserve *reserve);

/* The answer: where the extent goes. */
struct message_reserved {
    uint64_t token;
    struct extent_header header; /* key, salt, offset, extent_bytes, synced_offset, count */
    uint64_t segment;
};
#define MESSAGE_RESERVED_BYTES 88
void message_reserved_encode(const struct message_reserved *reserved, uint8_t out[MESSAGE_RESERVED_BYTES]);
bool message_reserved_decode(const uint8_t *in, size_t size, struct message_reserved *reserved);

/* COMMIT: the extent is written, with these checksums; or, without any, it could not be. */
struct message_commit {
    uint64_t token;
    uint32_t count;
    const uint8_t *sums; /* count x 8 */
};
#define MESSAGE_COMMIT_BYTES 16
void message_commit_encode(const struct message_commit *commit, uint8_t out[MESSAGE_COMMIT_BYTES]);
bool message_commit_decode(const uint8_t *in, size_t size, struct message_commit *commit);

/* SEGMENT: a number; the answer brings the file along. */
#define MESSAGE_SEGMENT_BYTES 8

/* OPTION: name and value, each with its NUL. */
bool message_option_decode(const uint8_t *in, size_t size, const char **name, const char **value);

#endif
