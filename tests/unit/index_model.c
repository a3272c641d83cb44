/* SPDX-License-Identifier: Apache-2.0 */
/* An index and what surrounds it, for tests; see index_model.h. */
#include "index_model.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/error.h"
#include "format/format.h"

uint64_t
model_random(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t
model_seed(void)
{
    const char *text = getenv("VARVE_TEST_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);

    print_message("VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

static enum segment_state
segment_state(void *arg, uint64_t segment)
{
    struct model *model = arg;

    assert_true(segment < MODEL_SEGMENTS);
    return (enum segment_state)atomic_load(&model->segment_state[segment]);
}

static bool
page_removed(void *arg, uint64_t segment, uint64_t offset, const uint8_t *id_prefix)
{
    const struct model *model = arg;
    uint64_t modulus = atomic_load(&model->removed_modulus);

    (void)segment;
    (void)id_prefix;
    return modulus != 0 && offset / 4096 % modulus == 0;
}

static bool
namespace_live(void *arg, uint32_t ns_id)
{
    struct model *model = arg;

    assert_true(ns_id < MODEL_NAMESPACES);
    return !atomic_load(&model->ns_dead[ns_id]);
}

static uint64_t
new_file_number(void *arg)
{
    return atomic_fetch_add(&((struct model *)arg)->file_number, 1) + 1;
}

static int
space_take(void *arg, uint64_t bytes)
{
    struct model *model = arg;

    if (atomic_load(&model->space_refused))
        return VARVE_E_NOSPC;
    (void)atomic_fetch_add(&model->space, bytes);
    return VARVE_OK;
}

static void
space_give_back(void *arg, uint64_t bytes)
{
    struct model *model = arg;

    assert_true(atomic_load(&model->space) >= bytes);
    (void)atomic_fetch_sub(&model->space, bytes);
}

static int
commit(void *arg, const struct index_edit *edit, varve_error *err)
{
    struct model *model = arg;

    if (atomic_load(&model->commit_fails))
        return error_set(err, VARVE_E_NOMEM, "the commit was made to fail"); /* so it was not written */
    for (size_t i = 0; i < edit->removed_count; i++) {
        size_t at = 0;

        while (at < model->run_count && model->runs[at].number != edit->removed[i])
            at++;
        assert_true(at < model->run_count);
        model->runs[at] = model->runs[--model->run_count];
    }
    if (edit->added != NULL) {
        assert_true(model->run_count < MODEL_RUNS_MAX);
        model->runs[model->run_count++] = *edit->added;
    }
    model->last_mark = edit->flush_mark;
    return VARVE_OK;
}

struct index_settings
model_settings(void)
{
    return (struct index_settings){
        .memtable_bytes = MODEL_SEGMENTS << 10,
        .block_cache_bytes = 1 << 20,
        .size_ratio = 4,
        .runs_per_level = 3,
        .runs_last_level = 1,
        .fingerprint_bits = 14,
    };
}

static void
start(struct model *model)
{
    varve_error err;

    assert_int_equal(index_create(&model->env->env, model->pool, &model->hooks, &model->settings, &model->index, &err),
                     VARVE_OK);
}

void
model_open(struct model *model, const struct index_settings *settings, const char *parent)
{
    memset((void *)model, 0, sizeof(*model));
    model->env = plain_env_create(parent);
    model->settings = *settings;
    model->hooks = (struct index_hooks){
        .arg = model,
        .segment_state = segment_state,
        .page_removed = page_removed,
        .namespace_live = namespace_live,
        .new_file_number = new_file_number,
        .space_take = space_take,
        .space_give_back = space_give_back,
        .commit = commit,
    };
    for (int i = 0; i < MODEL_SEGMENTS; i++)
        atomic_init(&model->segment_state[i], SEGMENT_LIVE);
    assert_int_equal(io_queue_pool_create(&model->env->env, &model->pool), 0);
    start(model);
}

void
model_reopen(struct model *model)
{
    varve_error err;

    index_destroy(model->index);
    start(model);
    for (size_t i = 0; i < model->run_count; i++)
        assert_int_equal(index_add_run(model->index, &model->runs[i], &err), VARVE_OK);
}

static int
check_file(void *arg, const char *name)
{
    const struct model *model = arg;
    uint64_t number;

    assert_int_equal(format_parse_name(name, &number), FORMAT_FILE_RUN);
    for (size_t i = 0; i < model->run_count; i++) {
        if (model->runs[i].number == number)
            return 0;
    }
    fail_msg("%s is in no manifest", name);
    return -1;
}

void
model_close(struct model *model)
{
    uint64_t bytes = 0;

    index_destroy(model->index);
    for (size_t i = 0; i < model->run_count; i++)
        bytes += model->runs[i].file_bytes;
    assert_int_equal(bytes, atomic_load(&model->space));
    assert_int_equal(model->env->env.ops->list(&model->env->env, check_file, model), 0);
    io_queue_pool_destroy(model->pool);
    plain_env_destroy(model->env);
}

void
model_settle(struct model *model)
{
    varve_error err;
    int rc;

    while ((rc = index_flush(model->index, &err)) == VARVE_OK)
        ;
    assert_int_equal(rc, VARVE_MISS);
    while ((rc = index_merge(model->index, UINT64_C(1) << 20, &err)) == VARVE_OK)
        ;
    assert_int_equal(rc, VARVE_MISS);
}

varve_id
model_id(uint32_t ns_id, uint64_t branch, uint32_t depth)
{
    uint64_t state = (uint64_t)ns_id << 56 ^ branch << 24 ^ depth;
    varve_id id;

    for (int i = 0; i < VARVE_ID_BYTES / 8; i++)
        wire_put64(id.bytes + 8 * i, model_random(&state));
    return id;
}

uint32_t
model_page_size(uint64_t branch, uint32_t depth, bool sized)
{
    return sized ? (uint32_t)((branch * 7 + depth) % 9 * 1000) : 8192;
}

uint64_t
model_sum(const struct key *key, uint64_t segment)
{
    uint64_t state = ((uint64_t)key->ns_id << 56 ^ key->branch << 24 ^ key->depth) + segment * 1000003;

    return model_random(&state);
}

static void
fill(struct model_entry *out, const struct key *key, uint32_t count, uint64_t segment, uint64_t offset)
{
    out->entry = (struct entry){
        .key = *key,
        .count = count,
        .segment = segment,
        .offset = offset,
        .align_shift = 9,
        .ids = out->ids,
        .sums = out->sums,
    };
    if (key->depth == 0 && key->branch > 1) {
        out->entry.parent_branch = key->branch / 2;
        out->entry.parent_depth = (uint32_t)(key->branch % 100);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct key page = {key->ns_id, key->depth + i, key->branch};
        varve_id id = model_id(key->ns_id, key->branch, page.depth);

        memcpy(out->ids + (size_t)i * ID_PREFIX_BYTES, id.bytes, ID_PREFIX_BYTES);
        wire_put64(out->sums + (size_t)i * 8, model_sum(&page, segment));
        wire_put32(out->sizes + (size_t)i * 4, model_page_size(key->branch, page.depth, true));
    }
}

void
model_fill(struct model_entry *out, const struct key *key, uint32_t count, uint64_t segment, uint64_t offset)
{
    fill(out, key, count, segment, offset);
    if (key->branch % 3 == 0)
        out->entry.sizes = out->sizes;
    else
        out->entry.page_bytes = model_page_size(key->branch, 0, false);
}

void
model_fill_uniform(struct model_entry *out, const struct key *key, uint32_t count, uint64_t segment, uint64_t offset,
                   uint32_t page_bytes)
{
    fill(out, key, count, segment, offset);
    out->entry.page_bytes = page_bytes;
}

void
model_insert(struct model *model, const struct entry *entry)
{
    if (!index_has_room(model->index, entry->count))
        assert_int_equal(index_rotate(model->index, NULL), VARVE_OK);
    assert_int_equal(index_insert(model->index, entry), VARVE_OK);
}
