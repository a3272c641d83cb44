/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memtable; see memtable.h.
 *
 * Memory: an arena of chunks that are allocated when they are needed, and a hash table in three stages, each eight
 * times the one before and allocated when that is full: a table that holds little costs little. A slot names an entry
 * by its place in the arena (in units of 16 bytes; 0 is never used), so 8 bytes a slot are enough.
 *
 * Publication: arrays and fields of an entry are written, then its slots and links (release), then `published`
 * (release). A reader comes by a slot or a link (acquire) and looks at `published` (acquire) before it uses the entry.
 */
#include "index/memtable.h"

#include <assert.h>
#include <string.h>

#define HEIGHT_MAX        12
#define UNIT_SHIFT        4
#define STAGE_PAGES_MIN   (2 * (uint64_t)ENTRY_PAGES_MAX)
#define BYTES_PER_PAGE    40 /* of a full table: 24 to 28 in the arena, 12 of slots, and the entry's share */
#define CHUNK_SHIFT_MIN   15 /* holds the largest entry */
#define CHUNK_SHIFT_USUAL 17 /* unless the table is tiny */
#define CHUNK_SHIFT_MAX   20
#define TAG_SHIFT         42
#define PAGE_SHIFT        32
#define PAGE_MASK         (ENTRY_PAGES_MAX - 1)

static_assert(ENTRY_PAGES_MAX == 1 << (TAG_SHIFT - PAGE_SHIFT), "page index fills its field");

static size_t
node_bytes(uint32_t height, uint32_t count, bool sizes)
{
    size_t bytes = sizeof(struct mem_entry) + height * sizeof(struct mem_entry *);

    bytes += (size_t)count * (ID_PREFIX_BYTES + 8 + (sizes ? 4U : 0U));
    return (bytes + (1 << UNIT_SHIFT) - 1) & ~(size_t)((1 << UNIT_SHIFT) - 1);
}

static void
plan(struct memtable *memtable, uint64_t bytes)
{
    uint64_t pages = bytes / BYTES_PER_PAGE;
    uint64_t slot_bytes = 0;

    for (int i = 0; i < MEMTABLE_STAGES; i++) {
        struct mem_stage *stage = &memtable->stages[i];

        stage->pages_max = pages >> (3 * (MEMTABLE_STAGES - 1 - i));
        if (stage->pages_max < STAGE_PAGES_MIN)
            stage->pages_max = STAGE_PAGES_MIN;
        stage->slot_count = stage->pages_max + stage->pages_max / 2;
        slot_bytes += stage->slot_count * 8;
    }
    memtable->chunk_shift = CHUNK_SHIFT_MIN;
    while (memtable->chunk_shift < CHUNK_SHIFT_MAX &&
           UINT64_C(1) << (memtable->chunk_shift < CHUNK_SHIFT_USUAL ? 2 : 6) << memtable->chunk_shift < bytes)
        memtable->chunk_shift++;
    memtable->chunk_max = (uint32_t)((bytes - slot_bytes) >> memtable->chunk_shift);
    assert(memtable->chunk_max >= 1);
}

/* A new chunk of the arena; the first bytes of the first stay unused so that no place is 0. */
static bool
chunk_add(struct memtable *memtable)
{
    size_t bytes = (size_t)1 << memtable->chunk_shift;
    uint8_t *chunk;

    if (memtable->chunk_count == memtable->chunk_max)
        return false;
    chunk = memtable->env->ops->alloc(memtable->env, bytes, 64);
    if (chunk == NULL)
        return false;
    atomic_store_explicit(&memtable->chunks[memtable->chunk_count], chunk, memory_order_release);
    memtable->chunk_used = memtable->chunk_count == 0 ? 1 << UNIT_SHIFT : 0;
    memtable->chunk_count++;
    atomic_fetch_add_explicit(&memtable->memory_bytes, bytes, memory_order_relaxed);
    return true;
}

static bool
stage_begin(struct memtable *memtable, struct mem_stage *stage)
{
    _Atomic(uint64_t) *slots = env_zalloc(memtable->env, (size_t)stage->slot_count * 8);

    if (slots == NULL)
        return false;
    atomic_store_explicit(&stage->slots, slots, memory_order_release);
    atomic_fetch_add_explicit(&memtable->memory_bytes, stage->slot_count * 8, memory_order_relaxed);
    return true;
}

static void
memtable_free(struct memtable *memtable)
{
    struct env *env = memtable->env;

    for (int i = 0; i < MEMTABLE_STAGES; i++)
        env_free(env, atomic_load_explicit(&memtable->stages[i].slots, memory_order_relaxed));
    for (uint32_t i = 0; i < memtable->chunk_count; i++)
        env_free(env, atomic_load_explicit(&memtable->chunks[i], memory_order_relaxed));
    env_free(env, memtable->chunks);
    env_free(env, memtable->head);
    env_free(env, memtable);
}

int
memtable_create(struct env *env, uint64_t bytes, struct memtable **out)
{
    struct memtable *memtable = env_zalloc(env, sizeof(*memtable));
    size_t links = HEIGHT_MAX * sizeof(struct mem_entry *);

    if (memtable == NULL)
        return VARVE_E_NOMEM;
    memtable->env = env;
    atomic_init(&memtable->refs, 1);
    memtable->random = UINT64_C(0x9e3779b97f4a7c15);
    plan(memtable, bytes < MEMTABLE_BYTES_MIN ? MEMTABLE_BYTES_MIN : bytes);
    memtable->head = env_zalloc(env, sizeof(struct mem_entry) + links);
    memtable->chunks = env_zalloc(env, memtable->chunk_max * sizeof(*memtable->chunks));
    if (memtable->head == NULL || memtable->chunks == NULL || !stage_begin(memtable, &memtable->stages[0])) {
        memtable_free(memtable);
        return VARVE_E_NOMEM;
    }
    memtable->head->height = HEIGHT_MAX;
    *out = memtable;
    return VARVE_OK;
}

void
memtable_ref(struct memtable *memtable)
{
    (void)atomic_fetch_add_explicit(&memtable->refs, 1, memory_order_relaxed);
}

void
memtable_unref(struct memtable *memtable)
{
    if (atomic_fetch_sub_explicit(&memtable->refs, 1, memory_order_acq_rel) == 1)
        memtable_free(memtable);
}

static uint64_t
arena_left(const struct memtable *memtable)
{
    return memtable->chunk_count == 0 ? 0 : (UINT64_C(1) << memtable->chunk_shift) - memtable->chunk_used;
}

static bool
stage_has_room(const struct memtable *memtable, uint32_t count)
{
    const struct mem_stage *stage = &memtable->stages[memtable->stage_current];

    return stage->pages + count <= stage->pages_max || memtable->stage_current + 1 < MEMTABLE_STAGES;
}

bool
memtable_has_room(const struct memtable *memtable, uint32_t count)
{
    if (!stage_has_room(memtable, count))
        return false;
    return memtable->chunk_count < memtable->chunk_max || node_bytes(HEIGHT_MAX, count, true) <= arena_left(memtable);
}

static uint32_t
random_height(struct memtable *memtable)
{
    uint32_t height = 1;

    memtable->random ^= memtable->random << 13;
    memtable->random ^= memtable->random >> 7;
    memtable->random ^= memtable->random << 17;
    for (uint64_t bits = memtable->random; height < HEIGHT_MAX && (bits & 3) == 0; bits >>= 2)
        height++;
    return height;
}

/* Copy the entry to the arena. *place is the node's place, as slots hold it. */
static struct mem_entry *
node_create(struct memtable *memtable, const struct entry *entry, uint64_t *place)
{
    uint32_t height = random_height(memtable);
    size_t bytes = node_bytes(height, entry->count, entry->sizes != NULL);
    size_t count = entry->count;
    struct mem_entry *node;
    uint8_t *chunk;
    uint8_t *p;

    if (arena_left(memtable) < bytes && !chunk_add(memtable))
        return NULL;
    chunk = atomic_load_explicit(&memtable->chunks[memtable->chunk_count - 1], memory_order_relaxed);
    node = (void *)(chunk + memtable->chunk_used);
    *place = ((uint64_t)(memtable->chunk_count - 1) << memtable->chunk_shift | memtable->chunk_used) >> UNIT_SHIFT;
    memtable->chunk_used += bytes;
    assert(*place <= UINT32_MAX);

    node->entry = *entry;
    atomic_init(&node->published, false);
    node->height = height;
    p = (uint8_t *)&node->next[height];
    node->entry.ids = memcpy(p, entry->ids, count * ID_PREFIX_BYTES);
    p += count * ID_PREFIX_BYTES;
    node->entry.sums = memcpy(p, entry->sums, count * 8);
    if (entry->sizes != NULL)
        node->entry.sizes = memcpy(p + count * 8, entry->sizes, count * 4);
    return node;
}

/* The last node before the key on every level; equal keys count as before, so that they stay in order of arrival. */
static void
find_before(const struct memtable *memtable, const struct key *key, bool or_equal, struct mem_entry *before[HEIGHT_MAX])
{
    struct mem_entry *node = memtable->head;

    for (int level = HEIGHT_MAX - 1; level >= 0; level--) {
        for (;;) {
            struct mem_entry *next = atomic_load_explicit(&node->next[level], memory_order_acquire);
            int order = next == NULL ? 1 : key_compare(&next->entry.key, key);

            if (order > 0 || (order == 0 && !or_equal))
                break;
            node = next;
        }
        before[level] = node;
    }
}

static void
link_node(struct memtable *memtable, struct mem_entry *node)
{
    struct mem_entry *before[HEIGHT_MAX];

    find_before(memtable, &node->entry.key, true, before);
    for (uint32_t level = 0; level < node->height; level++) {
        struct mem_entry *next = atomic_load_explicit(&before[level]->next[level], memory_order_relaxed);

        atomic_init(&node->next[level], next);
        atomic_store_explicit(&before[level]->next[level], node, memory_order_release);
    }
}

static uint64_t
slot_of(uint64_t hash, uint64_t slot_count)
{
    return ((hash >> 32) * slot_count) >> 32;
}

static void
stage_insert(struct mem_stage *stage, uint64_t hash, uint64_t value)
{
    _Atomic(uint64_t) *slots = atomic_load_explicit(&stage->slots, memory_order_relaxed);
    uint64_t slot = slot_of(hash, stage->slot_count);

    assert(stage->pages < stage->slot_count);
    while (atomic_load_explicit(&slots[slot], memory_order_relaxed) != 0)
        slot = slot + 1 == stage->slot_count ? 0 : slot + 1;
    atomic_store_explicit(&slots[slot], value, memory_order_release);
    stage->pages++;
}

int
memtable_insert(struct memtable *memtable, const struct entry *entry)
{
    struct mem_stage *stage = &memtable->stages[memtable->stage_current];
    struct mem_entry *node;
    uint64_t place = 0;

    if (!stage_has_room(memtable, entry->count))
        return VARVE_E_NOMEM;
    if (stage->pages + entry->count > stage->pages_max) {
        if (!stage_begin(memtable, stage + 1))
            return VARVE_E_NOMEM;
        memtable->stage_current++;
        stage++;
    }
    node = node_create(memtable, entry, &place);
    if (node == NULL)
        return VARVE_E_NOMEM;
    for (uint32_t i = 0; i < entry->count; i++) {
        uint64_t hash = hash_id(entry->key.ns_id, entry_id(entry, i));

        stage_insert(stage, hash, hash << TAG_SHIFT | (uint64_t)i << PAGE_SHIFT | place);
    }
    if (entry->count > atomic_load_explicit(&memtable->entry_pages_max, memory_order_relaxed))
        atomic_store_explicit(&memtable->entry_pages_max, entry->count, memory_order_relaxed);
    link_node(memtable, node);
    atomic_store_explicit(&node->published, true, memory_order_release);
    atomic_fetch_add_explicit(&memtable->pages, entry->count, memory_order_relaxed);
    atomic_fetch_add_explicit(&memtable->entries, 1, memory_order_relaxed);
    return VARVE_OK;
}

/* The node itself, or the first published one after it. */
static const struct mem_entry *
skip_unpublished(const struct mem_entry *node)
{
    while (node != NULL && !atomic_load_explicit(&node->published, memory_order_acquire))
        node = atomic_load_explicit(&node->next[0], memory_order_acquire);
    return node;
}

const struct mem_entry *
memtable_first(const struct memtable *memtable)
{
    return memtable_next(memtable->head);
}

const struct mem_entry *
memtable_seek(const struct memtable *memtable, const struct key *key)
{
    struct mem_entry *before[HEIGHT_MAX];

    find_before(memtable, key, false, before);
    return memtable_next(before[0]);
}

const struct mem_entry *
memtable_next(const struct mem_entry *node)
{
    return skip_unpublished(atomic_load_explicit(&node->next[0], memory_order_acquire));
}

void
memtable_prefetch(const struct memtable *memtable, uint64_t hash)
{
    for (int i = 0; i < MEMTABLE_STAGES; i++) {
        const struct mem_stage *stage = &memtable->stages[i];
        _Atomic(uint64_t) *slots = atomic_load_explicit(&stage->slots, memory_order_acquire);

        if (slots != NULL)
            __builtin_prefetch((const void *)&slots[slot_of(hash, stage->slot_count)]);
    }
}

static void
probe_stage(struct memtable_probe *probe)
{
    const struct mem_stage *stage = &probe->memtable->stages[probe->stage];

    probe->slots_left = stage->slot_count;
    probe->slot = slot_of(probe->hash, stage->slot_count);
}

void
memtable_probe_init(struct memtable_probe *probe, const struct memtable *memtable, uint64_t hash)
{
    *probe = (struct memtable_probe){.memtable = memtable, .hash = hash, .stage = MEMTABLE_STAGES - 1};
    probe_stage(probe);
}

static const struct mem_entry *
node_at(const struct memtable *memtable, uint64_t place)
{
    uint64_t at = place << UNIT_SHIFT;
    uint8_t *chunk = atomic_load_explicit(&memtable->chunks[at >> memtable->chunk_shift], memory_order_acquire);

    return (void *)(chunk + (at & ((UINT64_C(1) << memtable->chunk_shift) - 1)));
}

/* The next slot with the tag in the present stage; 0: none. */
static uint64_t
probe_slot(struct memtable_probe *probe)
{
    const struct mem_stage *stage = &probe->memtable->stages[probe->stage];
    _Atomic(uint64_t) *slots = atomic_load_explicit(&stage->slots, memory_order_acquire);

    if (slots == NULL)
        return 0;
    while (probe->slots_left > 0) {
        uint64_t value = atomic_load_explicit(&slots[probe->slot], memory_order_acquire);

        if (value == 0)
            break;
        probe->slots_left--;
        probe->slot = probe->slot + 1 == stage->slot_count ? 0 : probe->slot + 1;
        if ((value ^ probe->hash << TAG_SHIFT) >> TAG_SHIFT == 0)
            return value;
    }
    return 0;
}

const struct mem_entry *
memtable_probe_next(struct memtable_probe *probe, uint32_t ns_id, const uint8_t id_prefix[ID_PREFIX_BYTES],
                    uint32_t *page)
{
    while (probe->stage >= 0) {
        uint64_t value = probe_slot(probe);
        const struct mem_entry *node;

        if (value == 0) {
            if (--probe->stage >= 0)
                probe_stage(probe);
            continue;
        }
        node = node_at(probe->memtable, value & UINT32_MAX);
        *page = (uint32_t)(value >> PAGE_SHIFT) & PAGE_MASK;
        if (atomic_load_explicit(&node->published, memory_order_acquire) && node->entry.key.ns_id == ns_id &&
            memcmp(entry_id(&node->entry, *page), id_prefix, ID_PREFIX_BYTES) == 0)
            return node;
    }
    return NULL;
}
