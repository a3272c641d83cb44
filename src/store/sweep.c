/* SPDX-License-Identifier: Apache-2.0 */
/* Sweep: files of ours that the manifest does not name are removed once the manifest that does not name them is durable. */
#include "format/format.h"
#include "store/store.h"

/* Directory listing: files of ours that the manifest does not know. */
struct sweep {
    varve_store *store;
    const struct manifest_state *state;
    uint64_t manifest_number;
};

static bool
sweep_keeps(const struct sweep *sweep, enum format_file_kind kind, uint64_t number)
{
    if (kind == FORMAT_FILE_SEGMENT)
        return manifest_state_segment(sweep->state, number) != NULL;
    if (kind == FORMAT_FILE_MANIFEST)
        return number == sweep->manifest_number;
    if (kind != FORMAT_FILE_RUN)
        return true;
    for (size_t i = 0; i < sweep->state->run_count; i++) {
        if (sweep->state->runs[i].number == number)
            return true;
    }
    return false;
}

/* What cannot be removed takes space until the next open. */
static void
count_file(varve_store *store, const char *name)
{
    struct env_file *file;
    uint64_t bytes = 0;

    if (store->env->ops->open(store->env, name, ENV_OPEN_READ, &file) < 0)
        return;
    if (store->env->ops->allocated(file, &bytes) == 0)
        space_count(store, bytes);
    store->env->ops->close(file);
}

static int
sweep_file(void *arg, const char *name)
{
    struct sweep *sweep = arg;
    struct env *env = sweep->store->env;
    uint64_t number;
    enum format_file_kind kind = format_parse_name(name, &number);
    int rc;

    if (sweep_keeps(sweep, kind, number))
        return 0;
    /* Peers of an owner before may have a segment open. */
    rc = kind == FORMAT_FILE_SEGMENT && env->share != NULL ? env_cut(env, name) : env->ops->unlink(env, name);
    if (rc < 0)
        count_file(sweep->store, name);
    return 0;
}

static void
sweep_with_state(void *arg, const struct manifest_state *state)
{
    struct sweep *sweep = arg;

    sweep->state = state;
    (void)sweep->store->env->ops->list(sweep->store->env, sweep_file, sweep); /* what stays is swept next time */
}

void
recovery_sweep(varve_store *store)
{
    struct sweep sweep = {.store = store, .manifest_number = manifest_number(store->manifest)};

    manifest_read_state(store->manifest, sweep_with_state, &sweep);
}
