/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages apart from the index, against pages in the runs, which every merge writes again: RocksDB with blob files and without (the same tuning else), and
 * varve. Bytes are those that the kernel counted for this process, until background work has come to rest.
 */
#include <stdio.h>

#include "bench.h"
#include "engine_load.h"
#include "random.h"

#define NAME           "values"
#define CAPACITY_SPARE ((uint64_t)1 << 30) /* beside twice the payload: nothing is reclaimed */
#define GET_SHARE      4                   /* of the chains: read back */

/* Chains at random, after an open, from the device. */
static void
measure_gets(struct engine_load *load, uint64_t chains, struct ablation_row *row)
{
    struct random random = random_make(load->settings->seed + 3);
    uint64_t count = chains / GET_SHARE + 1, before = ablation_io_bytes("read_bytes");
    double bytes = (double)(count * load->settings->chain * load->page_bytes), seconds = 0;

    for (uint64_t i = 0; i < count; i++)
        seconds += engine_load_get(load, random_below(&random, chains));
    ablation_row_put(row, "get_gb_per_s", bytes / seconds / 1e9);
    ablation_row_put(row, "read_per_byte", (double)(ablation_io_bytes("read_bytes") - before) / bytes);
}

static void
measure_engine(const struct ablation_settings *settings, const struct engine_ops *ops, uint64_t page_bytes,
               const char *scene)
{
    struct ablation_row row = ablation_row_make(NAME, ops->name, scene);
    uint64_t chains = settings->bytes / page_bytes / settings->chain + 1, written;
    double bytes = (double)(chains * settings->chain * page_bytes), seconds = 0, rest;
    struct bench_clock clock = {0};
    struct engine_load load;

    engine_load_init(&load, settings, ops, page_bytes,
                     2 * settings->bytes + 2 * settings->chain * page_bytes + CAPACITY_SPARE, NULL);
    written = ablation_io_bytes("write_bytes");
    engine_load_open(&load);
    bench_clock_start(&clock);
    for (uint64_t chain = 0; chain < chains; chain++)
        seconds += engine_load_put(&load, chain);
    seconds += engine_load_sync(&load);
    rest = engine_load_rest();
    bench_clock_stop(&clock);
    written = ablation_io_bytes("write_bytes") - written;
    ablation_row_put(&row, "page_bytes", (double)page_bytes);
    ablation_row_put(&row, "bytes_put", bytes);
    ablation_row_put(&row, "put_gb_per_s", bytes / seconds / 1e9);
    ablation_row_put(&row, "put_and_rest_gb_per_s", bytes / (seconds + rest) / 1e9);
    ablation_row_put(&row, "written_per_byte", (double)written / bytes);
    ablation_row_put(&row, "core_s_per_gb", (double)clock.cpu_ns / bytes);
    engine_load_close(&load);
    engine_load_open(&load);
    measure_gets(&load, chains, &row);
    ablation_row_print(settings, &row);
    engine_load_deinit(&load);
}

void
ablation_values(const struct ablation_settings *settings)
{
    static const struct {
        uint64_t page_bytes;
        const char *scene;
    } sizes[] = {{2048, "pages of 2 KiB"}, {16384, "pages of 16 KiB"}, {262144, "pages of 256 KiB"}};
    static const char *const engines[] = {"varve", "rocksdb", "rocksdb-inline"};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t k = 0; k < sizeof(engines) / sizeof(engines[0]); k++) {
            struct ablation_row row = ablation_row_make(NAME, engines[k], sizes[i].scene);
            const struct engine_ops *ops = engine_find(engines[k], &row.missing);

            (void)fprintf(stderr, "    %s, %s\n", engines[k], sizes[i].scene);
            if (ops == NULL)
                ablation_row_print(settings, &row);
            else
                measure_engine(settings, ops, sizes[i].page_bytes, sizes[i].scene);
        }
    }
}
