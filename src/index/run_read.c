/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening runs, and their life; see run_read.h. Nothing read from the file is used, and no size in it allocated,
 * before its checksum held and it agreed with the file's length and with the manifest.
 */
#include "index/run_read.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "format/format.h"

static int
corrupt(const struct run_meta *meta, const char *what, varve_error *err)
{
    return error_set(err, VARVE_E_CORRUPT, "run file %016" PRIx64 ": %s", meta->number, what);
}

/* Read a section of whole 4 KiB pages into new memory. */
static int
read_section(struct run *run, struct io_queue_pool *pool, uint64_t offset, uint64_t bytes, uint8_t **out,
             varve_error *err)
{
    uint8_t *data = run->env->ops->alloc(run->env, (size_t)bytes, RUN_PAD_BYTES);
    int rc;

    if (data == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for the index of a run");
    rc = io_read(pool, run->file, data, (size_t)bytes, offset);
    if (rc < 0) {
        env_free(run->env, data);
        return error_os(err, rc, "read run file %016" PRIx64, run->meta.number);
    }
    *out = data;
    return VARVE_OK;
}

static int
read_footer(struct run *run, struct io_queue_pool *pool, struct run_footer *footer, varve_error *err)
{
    uint64_t file_bytes = 0;
    uint8_t *page = NULL;
    int rc = run->env->ops->size(run->file, &file_bytes);

    if (rc < 0)
        return error_os(err, rc, "size of run file %016" PRIx64, run->meta.number);
    if (file_bytes != run->meta.file_bytes || file_bytes < RUN_FOOTER_BYTES)
        return corrupt(&run->meta, "its length is not the manifest's", err);
    rc = read_section(run, pool, file_bytes - RUN_FOOTER_BYTES, RUN_FOOTER_BYTES, &page, err);
    if (rc < 0)
        return rc;
    rc = run_footer_decode(page, footer);
    env_free(run->env, page);
    if (rc == VARVE_E_VERSION)
        return error_set(err, rc, "run file %016" PRIx64 " was written by a newer version: upgrade", run->meta.number);
    if (rc < 0)
        return corrupt(&run->meta, "the footer fails its checksum", err);
    if (run_file_bytes(footer) != file_bytes || footer->file_number != run->meta.number ||
        footer->block_count != run->meta.blocks || footer->entries != run->meta.entries ||
        footer->pages != run->meta.pages)
        return corrupt(&run->meta, "the footer disagrees with the manifest", err);
    return VARVE_OK;
}

static int
read_index(struct run *run, struct io_queue_pool *pool, const struct run_footer *footer, varve_error *err)
{
    uint64_t bytes = run_padded((uint64_t)footer->block_count * RUN_KEY_BYTES);
    struct key before = {0};
    uint8_t *data = NULL;
    int rc = read_section(run, pool, run_index_offset(footer), bytes, &data, err);

    if (rc < 0)
        return rc;
    if (hash_bytes(data, (size_t)bytes) != footer->index_sum) {
        rc = corrupt(&run->meta, "the block index fails its checksum", err);
        goto out;
    }
    run->first_keys = run->env->ops->alloc(run->env, footer->block_count * sizeof(struct key), _Alignof(struct key));
    if (run->first_keys == NULL) {
        rc = error_set(err, VARVE_E_NOMEM, "out of memory for the index of a run");
        goto out;
    }
    for (uint32_t i = 0; i < footer->block_count && rc == VARVE_OK; i++) {
        run->first_keys[i] = run_key_decode(data + (size_t)i * RUN_KEY_BYTES);
        if (key_compare(&before, &run->first_keys[i]) > 0)
            rc = corrupt(&run->meta, "the block index is out of order", err);
        before = run->first_keys[i];
    }
out:
    env_free(run->env, data);
    return rc;
}

static int
read_locator(struct run *run, struct io_queue_pool *pool, const struct run_footer *footer, varve_error *err)
{
    struct locator *locator = &run->locator;
    int rc;

    *locator = (struct locator){
        .env = run->env,
        .bucket_count = footer->bucket_count,
        .bytes = run_padded(footer->bucket_count * RUN_BUCKET_BYTES),
        .slot_bytes = footer->slot_bytes,
        .block_bits = footer->block_bits,
        .page_bits = footer->page_bits,
        .fingerprint_bits = footer->fingerprint_bits,
    };
    rc = read_section(run, pool, run_locator_offset(footer), locator->bytes, &locator->buckets, err);
    if (rc < 0)
        return rc;
    if (hash_bytes(locator->buckets, (size_t)locator->bytes) != footer->locator_sum)
        return corrupt(&run->meta, "the locator fails its checksum", err);
    return VARVE_OK;
}

static void
run_free(struct run *run)
{
    locator_free(&run->locator);
    env_free(run->env, run->first_keys);
    if (run->file != NULL)
        run->env->ops->close(run->file);
    env_free(run->env, run);
}

int
run_open(struct env *env, struct io_queue_pool *pool, const struct index_hooks *hooks, const struct run_meta *meta,
         struct run **out, varve_error *err)
{
    struct run *run = env_zalloc(env, sizeof(*run));
    struct run_footer footer = {0};
    char name[FORMAT_NAME_MAX];
    int rc;

    if (run == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for a run");
    run->env = env;
    run->hooks = hooks;
    run->meta = *meta;
    atomic_init(&run->refs, 1);
    format_file_name(FORMAT_FILE_RUN, meta->number, name);
    rc = env->ops->open(env, name, ENV_OPEN_READ | ENV_OPEN_DIRECT, &run->file);
    if (rc < 0) {
        run->file = NULL;
        rc = error_os(err, rc, "open %s", name);
        goto fail;
    }
    rc = read_footer(run, pool, &footer, err);
    if (rc < 0)
        goto fail;
    run->salt = footer.salt;
    run->last_key = footer.last_key;
    run->entry_pages_max = footer.entry_pages_max;
    rc = read_index(run, pool, &footer, err);
    if (rc < 0)
        goto fail;
    rc = read_locator(run, pool, &footer, err);
    if (rc < 0)
        goto fail;
    *out = run;
    return VARVE_OK;

fail:
    run_free(run);
    return rc;
}

void
run_ref(struct run *run)
{
    (void)atomic_fetch_add_explicit(&run->refs, 1, memory_order_relaxed);
}

void
run_unref(struct run *run)
{
    struct env *env = run->env;
    char name[FORMAT_NAME_MAX];

    if (atomic_fetch_sub_explicit(&run->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (atomic_load_explicit(&run->obsolete, memory_order_relaxed)) {
        env->ops->close(run->file);
        run->file = NULL;
        format_file_name(FORMAT_FILE_RUN, run->meta.number, name);
        /* A file that stays is an orphan, and keeps its space: the next open of the store deletes it. */
        if (env->ops->unlink(env, name) == 0)
            run->hooks->space_give_back(run->hooks->arg, run->meta.file_bytes);
    }
    run_free(run);
}

void
run_mark_obsolete(struct run *run)
{
    atomic_store_explicit(&run->obsolete, true, memory_order_relaxed);
}

uint32_t
run_find_block(const struct run *run, const struct key *key)
{
    uint32_t low = 0;
    uint32_t high = run->meta.blocks;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (key_compare(&run->first_keys[middle], key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? UINT32_MAX : low - 1;
}

uint64_t
run_memory_bytes(const struct run *run)
{
    return sizeof(*run) + run->locator.bytes + run->meta.blocks * sizeof(struct key);
}
