/* SPDX-License-Identifier: Apache-2.0 */
/* A store on the simulated disk; see store_life.h. */
#include "store_life.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/wire.h"
#include "format/format.h"
#include "format/log_format.h"

struct store_life life;

int
life_open(void)
{
    const char *const settings[][2] = {{"capacity", life.capacity == NULL ? "64M" : life.capacity},
                                       {"segment_bytes", "2M"},
                                       {"memtable_bytes", "256K"},
                                       {"background", "off"}};
    varve_options *options = varve_options_create();
    int rc;

    assert_non_null(options);
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        assert_int_equal(varve_options_set(options, settings[i][0], settings[i][1], &life.err), VARVE_OK);
    for (size_t i = 0; i < sizeof(life.options) / sizeof(life.options[0]) && life.options[i][0] != NULL; i++)
        assert_int_equal(varve_options_set(options, life.options[i][0], life.options[i][1], &life.err), VARVE_OK);
    life.err = (varve_error){0};
    life.store = NULL;
    rc = store_open(sim_disk_env(life.disk), options, &life.store, &life.err);
    varve_options_destroy(options);
    if (rc == VARVE_OK)
        rc = varve_namespace_open(life.store, "n", NULL, &life.ns, &life.err);
    assert_int_equal(life.err.code, rc);
    assert_true(rc == VARVE_OK || strlen(life.err.message) > 10);
    return rc;
}

void
life_must_open(void)
{
    if (life_open() != VARVE_OK)
        fail_msg("open: %s", life.err.message);
}

void
life_must_close(void)
{
    int rc = varve_close(life.store, &life.err);

    life.store = NULL;
    if (rc != VARVE_OK)
        fail_msg("close: %s", life.err.message);
}

void
life_kill(void)
{
    store_abandon(life.store);
    life.store = NULL;
}

varve_id
life_page_id(uint32_t chain, uint32_t index)
{
    varve_id id = {{0}};

    wire_put32(id.bytes, chain);
    wire_put32(id.bytes + 4, index);
    return id;
}

static uint32_t
transfer(bool put, uint32_t chain, uint32_t count, uint32_t page_bytes)
{
    static varve_page pages[LIFE_BATCH_MAX];
    static struct iovec iov[LIFE_BATCH_MAX];
    uint8_t *data = test_malloc((size_t)count * page_bytes + 1), *expected = test_malloc((size_t)page_bytes + 1);
    uint32_t right = 0;

    for (uint32_t i = 0; i < count; i++) {
        iov[i] = (struct iovec){data + (size_t)i * page_bytes, page_bytes};
        pages[i] = (varve_page){.id = life_page_id(chain, i), .iov = &iov[i], .iov_count = page_bytes > 0};
        memset(iov[i].iov_base, put ? (int)(chain * 7 + i) & 0xff : 0, page_bytes);
    }
    if (put)
        assert_int_equal(varve_put_batch(life.store, life.ns, NULL, pages, count, 0, &life.err), VARVE_OK);
    else
        assert_int_equal(varve_get_batch(life.store, life.ns, pages, count, &life.err), VARVE_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(pages[i].status == VARVE_OK || (!put && pages[i].status == VARVE_MISS));
        if (pages[i].status != VARVE_OK)
            continue;
        memset(expected, (int)(chain * 7 + i) & 0xff, page_bytes);
        assert_memory_equal(iov[i].iov_base, expected, page_bytes);
        right++;
    }
    test_free(data);
    test_free(expected);
    return right;
}

uint32_t
life_put(uint32_t chain, uint32_t count, uint32_t page_bytes)
{
    return transfer(true, chain, count, page_bytes);
}

uint32_t
life_get(uint32_t chain, uint32_t count, uint32_t page_bytes)
{
    return transfer(false, chain, count, page_bytes);
}

uint32_t
life_pages_right(void)
{
    uint32_t right = 0;

    for (uint32_t chain = 1; chain <= LIFE_CHAINS; chain++)
        right += life_get(chain, LIFE_PAGES, LIFE_PAGE_BYTES);
    return right;
}

uint32_t
life_listed(uint32_t chain, uint32_t count)
{
    static varve_id ids[LIFE_BATCH_MAX];
    static uint8_t exists[LIFE_BATCH_MAX];
    uint32_t listed = 0;

    for (uint32_t i = 0; i < count; i++)
        ids[i] = life_page_id(chain, i);
    assert_int_equal(varve_exists_batch(life.store, life.ns, ids, count, exists, &life.err), VARVE_OK);
    for (uint32_t i = 0; i < count; i++)
        listed += exists[i];
    return listed;
}

uint64_t
life_stat(const char *name)
{
    uint64_t values[256];
    const varve_stat_desc *desc;

    assert_true(varve_stats_get(life.store, values, 256) <= 256);
    for (size_t i = 0; (desc = varve_stat_describe(i)) != NULL; i++) {
        if (strcmp(desc->name, name) == 0)
            return values[i];
    }
    fail_msg("no statistic %s", name);
    return 0;
}

int
life_setup(void **state)
{
    (void)state;
    life.disk = sim_disk_create(&sim_test_plain);
    life_must_open();
    for (uint32_t chain = 1; chain <= LIFE_CHAINS; chain++)
        assert_int_equal(life_put(chain, LIFE_PAGES, LIFE_PAGE_BYTES), LIFE_PAGES);
    return 0;
}

int
life_setup_killed(void **state)
{
    (void)life_setup(state);
    life_kill();
    return 0;
}

int
life_teardown(void **state)
{
    (void)state;
    if (life.store != NULL)
        life_kill();
    life.capacity = NULL;
    store_disk_destroy(life.disk);
    return 0;
}

void
life_begin_again(void)
{
    (void)life_teardown(NULL);
    (void)life_setup_killed(NULL);
}

uint64_t
life_extent_offset(uint32_t chain)
{
    return SEGMENT_HEADER_BYTES + (uint64_t)(chain - 1) * LIFE_EXTENT_BYTES;
}

void
life_edit_header(uint32_t chain, uint32_t at, uint32_t width, uint64_t value)
{
    uint64_t offset = chain == 0 ? 0 : life_extent_offset(chain);
    char name[FORMAT_NAME_MAX];
    uint8_t buf[LIFE_HEADER_BYTES];
    struct env_file *file;

    assert_true(store_file_find(life.disk, ".seg", name));
    file = sim_test_open(life.disk, name, 0);
    assert_int_equal(sim_test_transfer(file, ENV_OP_READ, buf, sizeof(buf), offset), sizeof(buf));
    sim_disk_env(life.disk)->ops->close(file);
    for (uint32_t i = 0; i < width; i++)
        buf[at + i] = (uint8_t)(value >> (8 * i));
    if (chain == 0) {
        wire_put64(buf + 32, hash_bytes(buf, 32));
    } else {
        wire_put64(buf + 56, hash_bytes(buf + EXTENT_FIXED_BYTES, LIFE_PAGES * (VARVE_ID_BYTES + 8)));
        wire_put64(buf + 120, hash_bytes(buf, 120));
    }
    store_file_patch(life.disk, name, offset, buf, sizeof(buf));
}
