/* SPDX-License-Identifier: Apache-2.0 */
/* Segments in memory: the table, references, and the bounded set of open files. */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "format/format.h"
#include "log/log_private.h"
#include "log/removal_set.h"

#define TABLE_FIRST 64

static size_t
table_slot(const struct log *log, uint64_t number)
{
    return (size_t)(number * 0x9e3779b97f4a7c15u >> 20) & (log->table_size - 1);
}

struct segment *
log_find(const struct log *log, uint64_t number)
{
    struct segment *segment;

    if (log->table_size == 0)
        return NULL;
    for (segment = log->table[table_slot(log, number)]; segment != NULL; segment = segment->table_next) {
        if (segment->number == number)
            return segment;
    }
    return NULL;
}

int
log_table_grow(struct log *log)
{
    size_t old_size = log->table_size;
    size_t size = old_size == 0 ? TABLE_FIRST : old_size * 2;
    struct segment **old = log->table;
    struct segment **table = env_zalloc(log->env, size * sizeof(table[0]));

    if (table == NULL)
        return VARVE_E_NOMEM;
    log->table = table;
    log->table_size = size;
    for (size_t i = 0; i < old_size; i++) {
        for (struct segment *next, *segment = old[i]; segment != NULL; segment = next) {
            size_t slot = table_slot(log, segment->number);

            next = segment->table_next;
            segment->table_next = table[slot];
            table[slot] = segment;
        }
    }
    env_free(log->env, old);
    return VARVE_OK;
}

void
log_insert(struct log *log, struct segment *segment)
{
    size_t slot;

    if (log->segment_count >= log->table_size)
        (void)log_table_grow(log); /* short of memory its chains get longer */
    slot = table_slot(log, segment->number);
    segment->table_next = log->table[slot];
    log->table[slot] = segment;
    log->segment_count++;
    segment->refs++;
}

void
log_take_out(struct log *log, struct segment *segment)
{
    struct segment **link = &log->table[table_slot(log, segment->number)];

    while (*link != segment)
        link = &(*link)->table_next;
    *link = segment->table_next;
    log->segment_count--;
}

struct segment *
segment_create(struct log *log, uint64_t number, uint64_t salt, uint64_t bytes, uint8_t align_shift)
{
    struct segment *segment = env_zalloc(log->env, sizeof(*segment));

    if (segment == NULL)
        return NULL;
    segment->log = log;
    segment->number = number;
    segment->salt = salt;
    segment->bytes = bytes;
    segment->align_shift = align_shift;
    segment->append = SEGMENT_HEADER_BYTES;
    segment->refs = 1;
    return segment;
}

bool
segment_unref(struct segment *segment)
{
    assert(segment->refs > 0);
    return --segment->refs == 0;
}

void
segment_destroy(struct segment *segment)
{
    struct env *env = segment->log->env;

    assert(segment->flight_first == NULL && segment->file_users == 0);
    if (segment->file != NULL)
        env->ops->close(segment->file);
    removal_set_destroy(segment->removals);
    env_free(env, segment->uses);
    env_free(env, segment);
}

void
segment_add_use(struct segment *segment, uint32_t ns_id, uint64_t pages, uint64_t bytes)
{
    struct env *env = segment->log->env;

    for (size_t i = 0; i < segment->use_count; i++) {
        if (segment->uses[i].ns_id == ns_id) {
            segment->uses[i].pages += pages;
            segment->uses[i].bytes += bytes;
            return;
        }
    }
    if (segment->use_count == segment->use_capacity) {
        size_t capacity = segment->use_capacity == 0 ? 2 : segment->use_capacity * 2;
        struct state_use *uses = env->ops->alloc(env, capacity * sizeof(uses[0]), _Alignof(struct state_use));

        if (uses == NULL) {
            segment->uses_incomplete = true;
            return;
        }
        if (segment->use_count > 0)
            memcpy(uses, segment->uses, segment->use_count * sizeof(uses[0]));
        env_free(env, segment->uses);
        segment->uses = uses;
        segment->use_capacity = capacity;
    }
    segment->uses[segment->use_count++] = (struct state_use){ns_id, pages, bytes};
}

uint64_t
segment_low_water(const struct segment *segment)
{
    return segment->flight_first != NULL ? segment->flight_first->offset : segment->append;
}

struct segment *
log_acquire(struct log *log, uint64_t number)
{
    struct segment *segment;

    mutex_lock(&log->lock);
    segment = log_find(log, number);
    if (segment != NULL && segment->phase == SEGMENT_DROPPING)
        segment = NULL;
    if (segment != NULL)
        segment->refs++;
    mutex_unlock(&log->lock);
    return segment;
}

bool
log_share(struct log *log, struct segment *segment)
{
    bool shared;

    mutex_lock(&log->lock);
    shared = segment->phase != SEGMENT_DROPPING;
    segment->shared = segment->shared || shared;
    mutex_unlock(&log->lock);
    return shared;
}

void
log_note_stray(struct log *log, struct segment *segment)
{
    mutex_lock(&log->lock);
    segment->stray = true;
    mutex_unlock(&log->lock);
}

static void
lru_remove(struct log *log, struct segment *segment)
{
    if (segment->lru_prev != NULL)
        segment->lru_prev->lru_next = segment->lru_next;
    else
        log->lru_first = segment->lru_next;
    if (segment->lru_next != NULL)
        segment->lru_next->lru_prev = segment->lru_prev;
    else
        log->lru_last = segment->lru_prev;
    segment->lru_prev = segment->lru_next = NULL;
}

static void
lru_push(struct log *log, struct segment *segment)
{
    segment->lru_prev = NULL;
    segment->lru_next = log->lru_first;
    if (log->lru_first != NULL)
        log->lru_first->lru_prev = segment;
    else
        log->lru_last = segment;
    log->lru_first = segment;
}

void
log_release(struct log *log, struct segment *segment)
{
    bool last;

    mutex_lock(&log->lock);
    last = segment_unref(segment);
    if (last && segment->file != NULL) {
        assert(segment->phase == SEGMENT_DROPPING); /* or the table would hold a reference */
        lru_remove(log, segment);
        log->open_file_count--;
    }
    mutex_unlock(&log->lock);
    if (last && segment->kept) {
        log_keep_file(log, segment);
    } else if (last) {
        uint64_t bytes = segment->unlinked ? log_segment_space(segment) : 0;

        if (segment->cut != NULL) {
            /* What fails leaves the bytes to whoever has the file open, for as long as that is: nothing that could be done about it. */
            (void)log->env->ops->truncate(segment->cut, 0);
            log->env->ops->close(segment->cut);
        }
        segment_destroy(segment);
        log->hooks.segment_gone(log->hooks.arg, bytes);
    }
}

/* Take the file that was used longest ago off the list, for the caller to close; NULL while there are not too many. */
static struct env_file *
lru_evict(struct log *log)
{
    struct segment *segment = log->lru_last;
    struct env_file *file;

    if (log->open_file_count <= log->settings.open_files || segment == NULL)
        return NULL;
    lru_remove(log, segment);
    file = segment->file;
    segment->file = NULL;
    log->open_file_count--;
    return file;
}

int
log_file_acquire(struct log *log, struct segment *segment, struct env_file **out, varve_error *err)
{
    struct env_file *opened = NULL, *surplus = NULL;
    char name[FORMAT_NAME_MAX];
    int rc;

    mutex_lock(&log->lock);
    if (segment->file == NULL) {
        mutex_unlock(&log->lock);
        format_file_name(FORMAT_FILE_SEGMENT, segment->number, name);
        rc = log->env->ops->open(log->env, name, ENV_OPEN_DIRECT, &opened);
        if (rc < 0)
            return error_os(err, rc, "open %s", name);
        mutex_lock(&log->lock);
    }
    if (segment->file == NULL) {
        segment->file = opened;
        opened = NULL;
        log->open_file_count++;
    } else if (segment->file_users == 0) {
        lru_remove(log, segment);
    }
    segment->file_users++;
    *out = segment->file;
    surplus = lru_evict(log);
    mutex_unlock(&log->lock);
    if (opened != NULL) /* someone else was faster */
        log->env->ops->close(opened);
    if (surplus != NULL)
        log->env->ops->close(surplus);
    return VARVE_OK;
}

void
log_file_release(struct log *log, struct segment *segment)
{
    mutex_lock(&log->lock);
    assert(segment->file_users > 0);
    if (--segment->file_users == 0)
        lru_push(log, segment);
    mutex_unlock(&log->lock);
}

enum segment_state
log_segment_state(struct log *log, uint64_t number)
{
    enum segment_state state = SEGMENT_GONE;
    struct segment *segment;

    mutex_lock(&log->lock);
    segment = log_find(log, number);
    if (segment != NULL && segment->phase != SEGMENT_DROPPING)
        state = segment->removals == NULL ? SEGMENT_LIVE : SEGMENT_LIVE_REMOVALS;
    mutex_unlock(&log->lock);
    return state;
}

struct heat_segment *
log_heat(struct log *log, uint64_t number)
{
    const struct segment *segment;
    struct heat_segment *heat;

    mutex_lock(&log->lock);
    segment = log_find(log, number);
    heat = segment == NULL || segment->phase == SEGMENT_DROPPING ? NULL : segment->heat;
    mutex_unlock(&log->lock);
    return heat;
}

static struct state_removal
removal_make(uint64_t offset, const uint8_t id_prefix[ID_PREFIX_BYTES])
{
    struct state_removal removal = {.offset = offset};

    memcpy(removal.id_prefix, id_prefix, ID_PREFIX_BYTES);
    return removal;
}

int
log_removal_reserve(struct log *log, uint64_t number)
{
    struct segment *segment;
    int rc = VARVE_MISS;

    mutex_lock(&log->lock);
    segment = log_find(log, number);
    if (segment != NULL) {
        if (segment->removals == NULL)
            segment->removals = removal_set_create(log->env);
        rc = segment->removals == NULL ? VARVE_E_NOMEM : removal_set_reserve(segment->removals);
    }
    mutex_unlock(&log->lock);
    return rc;
}

void
log_removal_finish(struct log *log, uint64_t number, uint64_t offset, const uint8_t id_prefix[ID_PREFIX_BYTES],
                   bool committed)
{
    struct state_removal removal = removal_make(offset, id_prefix);
    struct segment *segment;
    int rc = VARVE_OK;

    mutex_lock(&log->lock);
    segment = log_find(log, number);
    if (segment != NULL && committed) {
        log->losses++;
        rc = removal_set_add(segment->removals, &removal);
    }
    if (segment != NULL)
        removal_set_unreserve(segment->removals);
    mutex_unlock(&log->lock);
    assert(rc == VARVE_OK); /* reserved */
    (void)rc;
}

bool
log_page_removed(struct log *log, uint64_t number, uint64_t offset, const uint8_t id_prefix[ID_PREFIX_BYTES])
{
    struct state_removal removal = removal_make(offset, id_prefix);
    struct segment *segment;
    bool removed;

    mutex_lock(&log->lock);
    segment = log_find(log, number);
    removed = segment == NULL || (segment->removals != NULL && removal_set_has(segment->removals, &removal));
    mutex_unlock(&log->lock);
    return removed;
}

void
log_count_use(struct log *log, uint64_t number, uint32_t ns_id, uint64_t pages, uint64_t bytes)
{
    struct segment *segment;

    mutex_lock(&log->lock);
    segment = log_find(log, number);
    if (segment != NULL)
        segment_add_use(segment, ns_id, pages, bytes);
    mutex_unlock(&log->lock);
}

uint64_t
log_segment_end(struct log *log, struct segment *segment)
{
    uint64_t end;

    mutex_lock(&log->lock);
    end = segment->append;
    mutex_unlock(&log->lock);
    return end;
}

bool
log_has_file(struct log *log, uint64_t number)
{
    bool has;

    mutex_lock(&log->lock);
    has = log_find(log, number) != NULL;
    for (int stream = 0; stream < LOG_STREAMS; stream++)
        has = has || log->heads[stream].making == number;
    for (uint32_t i = 0; i < log->kept_count; i++)
        has = has || log->kept[i].file.number == number;
    mutex_unlock(&log->lock);
    return has;
}

size_t
log_segment_count(struct log *log)
{
    size_t count;

    mutex_lock(&log->lock);
    count = log->segment_count;
    mutex_unlock(&log->lock);
    return count;
}

uint64_t
log_losses(struct log *log)
{
    uint64_t losses;

    mutex_lock(&log->lock);
    losses = log->losses;
    mutex_unlock(&log->lock);
    return losses;
}

uint64_t
log_segment_pages(struct log *log, struct segment *segment)
{
    uint64_t pages = 0;

    mutex_lock(&log->lock);
    for (size_t i = 0; i < segment->use_count; i++)
        pages += segment->uses[i].pages;
    mutex_unlock(&log->lock);
    return pages;
}

void
log_for_each(struct log *log, void (*each)(void *arg, const struct segment *segment), void *arg)
{
    mutex_lock(&log->lock);
    for (size_t i = 0; i < log->table_size; i++) {
        for (const struct segment *segment = log->table[i]; segment != NULL; segment = segment->table_next)
            each(arg, segment);
    }
    mutex_unlock(&log->lock);
}

uint64_t
log_segment_space(const struct segment *segment)
{
    return segment->bytes + SEGMENT_OVERHEAD_BYTES;
}
