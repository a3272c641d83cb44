/* SPDX-License-Identifier: Apache-2.0 */
#include "reclaim/ages.h"

static void
push(struct ages *ages, uint64_t time_ns, uint64_t clock)
{
    uint32_t index = (ages->first + ages->count) % AGES_SAMPLES;

    if (ages->count == AGES_SAMPLES) /* the time to live was raised: its pages go with those of the next sample */
        ages->first = (ages->first + 1) % AGES_SAMPLES;
    else
        ages->count++;
    ages->sampled_ns = time_ns;
    ages->samples[index].time_ns = time_ns;
    ages->samples[index].clock = clock;
}

void
ages_begin(struct ages *ages, uint64_t ttl_ns, uint64_t now_ns, uint64_t clock)
{
    *ages = (struct ages){.ttl_ns = ttl_ns, .used_ns = now_ns};
    push(ages, now_ns, clock);
}

bool
ages_sample_due(const struct ages *ages, uint64_t now_ns)
{
    return ages->used_ns > ages->sampled_ns && now_ns > ages->sampled_ns &&
           now_ns - ages->sampled_ns >= ages->ttl_ns / AGES_A_TTL;
}

void
ages_sample(struct ages *ages, uint64_t clock)
{
    push(ages, ages->used_ns, clock);
}

void
ages_use(struct ages *ages, uint64_t now_ns)
{
    if (ages->used_ns < now_ns)
        ages->used_ns = now_ns;
}

uint64_t
ages_expired(struct ages *ages, uint64_t now_ns)
{
    uint64_t clock = 0;

    while (ages->count > 0) {
        uint64_t time_ns = ages->samples[ages->first].time_ns;

        if (now_ns < time_ns || now_ns - time_ns < ages->ttl_ns)
            break;
        clock = ages->samples[ages->first].clock;
        ages->first = (ages->first + 1) % AGES_SAMPLES;
        ages->count--;
    }
    return clock;
}
