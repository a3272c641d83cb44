/* SPDX-License-Identifier: Apache-2.0 */
/* Removals: room for them in memory first, so that nothing can fail once the edit is written; then the edit; then they are in force. */
#include "store/forget.h"

#include <string.h>

#include "base/error.h"

struct manifest_item
removal_item(uint64_t segment, uint64_t offset, const uint8_t *id)
{
    struct manifest_item item = {.kind = MANIFEST_PAGE_REMOVE};

    item.u.segment.number = segment;
    item.u.segment.offset = offset;
    memcpy(item.u.segment.id_prefix, id, ID_PREFIX_BYTES);
    return item;
}

int
store_forget_pages(varve_store *store, const struct manifest_item *items, size_t count, bool sync, varve_error *err)
{
    size_t reserved = 0;
    int rc = VARVE_OK;

    while (reserved < count && rc == VARVE_OK) {
        rc = log_removal_reserve(store->log, items[reserved].u.segment.number);
        reserved += rc == VARVE_OK;
    }
    /* The edit first: another removal that finds a page gone is acknowledged, and it must last. */
    if (rc == VARVE_OK)
        rc = store_commit(store, items, count, sync, err);
    else if (rc == VARVE_E_NOMEM)
        rc = error_set(err, rc, "out of memory removing pages");
    for (size_t i = 0; i < reserved; i++)
        log_removal_finish(store->log, items[i].u.segment.number, items[i].u.segment.offset,
                           items[i].u.segment.id_prefix, rc == VARVE_OK);
    return rc == VARVE_MISS ? VARVE_OK : rc; /* the segment was dropped meanwhile: its pages are gone as well */
}
