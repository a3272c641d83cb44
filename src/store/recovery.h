/* SPDX-License-Identifier: Apache-2.0 */
/* What the scan of the log hands to the replay. */
#ifndef VARVE_STORE_RECOVERY_H
#define VARVE_STORE_RECOVERY_H

#include "store/store.h"

/*
 * How often a device is asked for what it does not give, before that counts as lost: a transient error must not cost anything for good. Damage
 * (what it gives fails its checksum) is not asked for again.
 */
#define RECOVERY_TRIES 4

/* A valid extent: its header, copied. */
struct found {
    uint64_t offset;
    uint8_t *header;
    uint32_t header_bytes;
};

/* What the scan of one segment found. */
struct scanned {
    uint64_t number;
    uint64_t salt;
    uint64_t bytes;  /* of the file */
    uint64_t end;    /* behind the last valid extent */
    uint64_t synced; /* the most that a header said was durable */
    bool unsealed;   /* what lies behind `synced` may be torn */
    struct found *found;
    size_t count, capacity;
};

struct recovery {
    varve_store *store;
    struct scanned *segments;
    size_t count;
};

#endif
