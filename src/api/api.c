/* SPDX-License-Identifier: Apache-2.0 */
/* The public functions that need no store: versions, errors, what statistics there are. */
#include "api/stats.h"
#include "varve.h"

int
varve_version_number(void)
{
    return VARVE_VERSION_NUMBER;
}

const char *
varve_strerror(int code)
{
    switch (code) {
    case VARVE_OK:
        return "VARVE_OK: success";
    case VARVE_MISS:
        return "VARVE_MISS: no such page";
    case VARVE_SKIPPED:
        return "VARVE_SKIPPED: not stored on purpose: over the write budget, or out of reach in a full store";
    case VARVE_E_ARG:
        return "VARVE_E_ARG: bad argument";
    case VARVE_E_NOMEM:
        return "VARVE_E_NOMEM: out of memory";
    case VARVE_E_IO:
        return "VARVE_E_IO: the device failed";
    case VARVE_E_NOSPC:
        return "VARVE_E_NOSPC: no space: free some, or raise the capacity";
    case VARVE_E_CORRUPT:
        return "VARVE_E_CORRUPT: a file failed its checksum: run varve check";
    case VARVE_E_VERSION:
        return "VARVE_E_VERSION: written by a newer version: upgrade";
    case VARVE_E_LOCKED:
        return "VARVE_E_LOCKED: the store is in use";
    case VARVE_E_READONLY:
        return "VARVE_E_READONLY: no writes are taken: check the disk, then reopen the store";
    case VARVE_E_NOSTORE:
        return "VARVE_E_NOSTORE: the directory holds no store";
    case VARVE_E_TIMEOUT:
        return "VARVE_E_TIMEOUT: the process that owns the store does not answer";
    default:
        return "unknown status";
    }
}

static const varve_stat_desc descriptions[] = {
#define COUNTER(name_, help_) {#name_, help_, 0},
#define GAUGE(name_, help_)   {#name_, help_, 1},
#include "api/stats.def"
#undef COUNTER
#undef GAUGE
};

#define STAT_COUNT (sizeof(descriptions) / sizeof(descriptions[0]))

const varve_stat_desc *
varve_stat_describe(size_t index)
{
    return index < STAT_COUNT ? &descriptions[index] : NULL;
}
