/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmarks of engines and of the raw disk share: clocks and the order of the chains. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "cli.h"
#include "random.h"

struct bench_result
bench_result_make(const char *engine, const char *phase)
{
    const double unknown = (double)NAN;

    return (struct bench_result){.engine = engine,
                                 .phase = phase,
                                 .seconds = unknown,
                                 .core_seconds = unknown,
                                 .call_us_p50 = unknown,
                                 .call_us_p99 = unknown,
                                 .us_per_chain = unknown,
                                 .open_ms = unknown,
                                 .index_bytes_per_page = unknown,
                                 .codec_ratio = unknown};
}

static uint64_t
cpu_now_ns(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000u +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000u;
}

void
bench_clock_start(struct bench_clock *clock)
{
    clock->cpu_start_ns = cpu_now_ns();
    clock->wall_start_ns = cli_now_ns();
}

void
bench_clock_stop(struct bench_clock *clock)
{
    clock->wall_ns += cli_now_ns() - clock->wall_start_ns;
    clock->cpu_ns += cpu_now_ns() - clock->cpu_start_ns;
}

uint64_t
bench_chain_count(const struct bench_settings *settings)
{
    return (settings->pages + settings->chain - 1) / settings->chain;
}

uint64_t
bench_chain_pages(const struct bench_settings *settings, uint64_t chain)
{
    uint64_t left = settings->pages - chain * settings->chain;

    return left < settings->chain ? left : settings->chain;
}

uint64_t *
bench_chain_order(const struct bench_settings *settings)
{
    uint64_t count = bench_chain_count(settings);
    uint64_t *order = reallocarray(NULL, (size_t)count, sizeof(*order));
    struct random random = random_make(settings->seed);

    for (uint64_t i = 0; order != NULL && i < count; i++) {
        uint64_t other = random_below(&random, i + 1);

        if (other != i) /* Fisher-Yates, inside out */
            order[i] = order[other];
        order[other] = i;
    }
    return order;
}
