/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/descriptors.h"

struct descriptor {
    struct descriptor *next;
    uint64_t segment;
    uint64_t used; /* when, by the clock */
    uint32_t users;
    bool kept; /* in the table */
    struct env_file *file;
};

static struct descriptor **
slot_of(struct descriptors *descriptors, uint64_t segment)
{
    return &descriptors->slots[segment * 0x9e3779b97f4a7c15u >> 56 & (DESCRIPTOR_SLOTS - 1)];
}

void
descriptors_init(struct descriptors *descriptors, struct env *env, uint32_t most)
{
    *descriptors = (struct descriptors){.env = env, .most = most};
    mutex_init(&descriptors->lock);
}

void
descriptors_deinit(struct descriptors *descriptors)
{
    descriptors_clear(descriptors);
    mutex_deinit(&descriptors->lock);
}

static void
destroy(struct descriptors *descriptors, struct descriptor *descriptor)
{
    descriptors->env->ops->close(descriptor->file);
    env_free(descriptors->env, descriptor);
}

/* Out of the table. Lock held. */
static void
take_out(struct descriptors *descriptors, struct descriptor *descriptor)
{
    struct descriptor **link = slot_of(descriptors, descriptor->segment);

    while (*link != descriptor)
        link = &(*link)->next;
    *link = descriptor->next;
    descriptor->kept = false;
    descriptors->count--;
}

/* The one that nobody uses and that was used longest ago, or NULL; taken out. Lock held. */
static struct descriptor *
evict(struct descriptors *descriptors)
{
    struct descriptor *oldest = NULL;

    for (int slot = 0; slot < DESCRIPTOR_SLOTS; slot++) {
        for (struct descriptor *other = descriptors->slots[slot]; other != NULL; other = other->next) {
            if (other->users == 0 && (oldest == NULL || other->used < oldest->used))
                oldest = other;
        }
    }
    if (oldest != NULL)
        take_out(descriptors, oldest);
    return oldest;
}

/* Lock held. */
static struct descriptor *
use(struct descriptors *descriptors, uint64_t segment)
{
    struct descriptor *found = *slot_of(descriptors, segment);

    while (found != NULL && found->segment != segment)
        found = found->next;
    if (found != NULL) {
        found->users++;
        found->used = ++descriptors->clock;
    }
    return found;
}

struct descriptor *
descriptor_find(struct descriptors *descriptors, uint64_t segment)
{
    struct descriptor *found;

    mutex_lock(&descriptors->lock);
    found = use(descriptors, segment);
    mutex_unlock(&descriptors->lock);
    return found;
}

struct descriptor *
descriptor_keep(struct descriptors *descriptors, uint64_t segment, struct env_file *file)
{
    struct descriptor *made = env_zalloc(descriptors->env, sizeof(*made)), *used, *surplus = NULL;

    if (made == NULL) {
        descriptors->env->ops->close(file);
        return NULL;
    }
    made->segment = segment;
    made->file = file;
    mutex_lock(&descriptors->lock);
    used = use(descriptors, segment);
    if (used == NULL) {
        if (descriptors->count >= descriptors->most)
            surplus = evict(descriptors);
        made->next = *slot_of(descriptors, segment);
        *slot_of(descriptors, segment) = made;
        made->kept = true;
        descriptors->count++;
        used = use(descriptors, segment);
    } else { /* another thread was faster */
        surplus = made;
    }
    mutex_unlock(&descriptors->lock);
    if (surplus != NULL)
        destroy(descriptors, surplus);
    return used;
}

void
descriptor_release(struct descriptors *descriptors, struct descriptor *descriptor)
{
    bool last;

    mutex_lock(&descriptors->lock);
    last = --descriptor->users == 0 && !descriptor->kept;
    mutex_unlock(&descriptors->lock);
    if (last)
        destroy(descriptors, descriptor);
}

struct env_file *
descriptor_file(const struct descriptor *descriptor)
{
    return descriptor->file;
}

void
descriptors_clear(struct descriptors *descriptors)
{
    struct descriptor *unused = NULL;

    mutex_lock(&descriptors->lock);
    for (int slot = 0; slot < DESCRIPTOR_SLOTS; slot++) {
        struct descriptor *descriptor;

        while ((descriptor = descriptors->slots[slot]) != NULL) {
            take_out(descriptors, descriptor);
            if (descriptor->users > 0)
                continue;
            descriptor->next = unused;
            unused = descriptor;
        }
    }
    mutex_unlock(&descriptors->lock);
    for (struct descriptor *next; unused != NULL; unused = next) {
        next = unused->next;
        destroy(descriptors, unused);
    }
}
