/* SPDX-License-Identifier: Apache-2.0 */
/* What reads took lately, and what the next ones will. */
#include "store/store.h"

void
store_average(_Atomic uint64_t *value, uint64_t sample)
{
    uint64_t old = atomic_load_explicit(value, memory_order_relaxed);

    /* Lost updates of concurrent calls only make it a little slower to follow. 1/5: as the controller's windows. */
    atomic_store_explicit(value, old == 0 ? sample : old - old / 5 + sample / 5, memory_order_relaxed);
}

struct read_speed
store_read_speed(const varve_store *store)
{
    struct read_speed speed = {
        .bandwidth = atomic_load_explicit(&store->read_bandwidth, memory_order_relaxed),
        .decode_bandwidth =
            atomic_load_explicit(&store->coding.decode_stored_speed, memory_order_relaxed) * store->coding.threads,
        .latency_us = atomic_load_explicit(&store->read_latency_ns, memory_order_relaxed) / 1000,
    };

    /* Until something was read: an ordinary NVMe drive, 100 us and 2 GB/s. */
    if (speed.bandwidth == 0)
        speed.bandwidth = 2000000000u;
    if (speed.latency_us == 0)
        speed.latency_us = 100;
    return speed;
}

uint64_t
read_speed_us(const struct read_speed *speed, uint64_t bytes, uint64_t coded_bytes)
{
    double read_us = (double)bytes * 1e6 / (double)speed->bandwidth, decode_us = 0;

    if (speed->decode_bandwidth > 0)
        decode_us = (double)coded_bytes * 1e6 / (double)speed->decode_bandwidth;
    /* Decoding goes on while more is read. */
    return speed->latency_us + (uint64_t)(read_us > decode_us ? read_us : decode_us);
}
