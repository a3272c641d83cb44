/* SPDX-License-Identifier: Apache-2.0 */
/* Editing files of a store on the simulated disk; see store_files.h. */
#include "store_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "format/format.h"

void
store_file_patch(struct sim_disk *disk, const char *name, uint64_t at, const void *data, size_t size)
{
    struct env_file *file = sim_test_open(disk, name, 0);
    uint8_t *copy = test_malloc(size);

    memcpy(copy, data, size);
    assert_int_equal(sim_test_transfer(file, ENV_OP_WRITE, copy, size, at), size);
    assert_int_equal(sim_disk_env(disk)->ops->sync(file), 0);
    sim_disk_env(disk)->ops->close(file);
    test_free(copy);
}

void
store_file_cut(struct sim_disk *disk, const char *name, uint64_t size)
{
    struct env_file *file = sim_test_open(disk, name, 0);

    assert_int_equal(sim_disk_env(disk)->ops->truncate(file, size), 0);
    sim_disk_env(disk)->ops->close(file);
}

void
store_file_write(struct sim_disk *disk, const char *name, const void *data, size_t size)
{
    struct env *env = sim_disk_env(disk);

    if (!store_file_exists(disk, name))
        env->ops->close(sim_test_open(disk, name, ENV_OPEN_CREATE));
    store_file_cut(disk, name, 0);
    if (size > 0)
        store_file_patch(disk, name, 0, data, size);
}

bool
store_file_exists(struct sim_disk *disk, const char *name)
{
    struct env *env = sim_disk_env(disk);
    struct env_file *file;

    if (env->ops->open(env, name, ENV_OPEN_READ, &file) < 0)
        return false;
    env->ops->close(file);
    return true;
}

struct search {
    const char *suffix;
    char *name;
};

static int
look(void *arg, const char *name)
{
    struct search *search = arg;
    size_t size = strlen(name), suffix = strlen(search->suffix);

    if (size >= suffix && size < FORMAT_NAME_MAX && strcmp(name + size - suffix, search->suffix) == 0 &&
        (search->name[0] == '\0' || strcmp(name, search->name) < 0))
        memcpy(search->name, name, size + 1);
    return 0;
}

bool
store_file_find(struct sim_disk *disk, const char *suffix, char *name)
{
    struct env *env = sim_disk_env(disk);
    struct search search = {suffix, name};

    name[0] = '\0';
    assert_int_equal(env->ops->list(env, look, &search), 0);
    return name[0] != '\0';
}

size_t
store_manifest_make(const struct manifest_header *header, const struct manifest_item *items, size_t count, uint8_t *buf)
{
    uint8_t *record = buf + MANIFEST_HEADER_BYTES, *p = record + MANIFEST_FRAME_BYTES;

    manifest_header_encode(header, buf);
    for (size_t i = 0; i < count; i++)
        p = manifest_item_encode(&items[i], p);
    manifest_record_seal(record, (uint32_t)(p - record) - MANIFEST_FRAME_BYTES, header->salt, 0);
    return (size_t)(p - buf);
}

void
store_fault(struct sim_disk *disk, unsigned ops, const char *glob, int error, uint64_t skip, uint64_t count)
{
    const struct sim_fault fault = {
        .ops = ops, .glob = glob, .kind = SIM_FAULT_ERROR, .error = error, .skip = skip, .count = count};

    sim_disk_fault_add(disk, &fault);
}

void
store_disk_destroy(struct sim_disk *disk)
{
    assert_int_equal(disk->handles_open, 0);
    assert_int_equal(disk->queues_open, 0);
    assert_int_equal(disk->allocations, 0);
    assert_int_equal(disk->violations, 0);
    sim_disk_destroy(disk);
}
