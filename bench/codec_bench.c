/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the codec does, on one core: ratio, encoding and decoding in GB/s of page bytes, and the estimate from a sample, for each element
 * type and page size. Time is that of the thread, the best of several rounds; a round goes over more bytes than the L2 cache has.
 *
 *   codec_bench [--json] [--rounds=N] [--portable]      --portable: without vectors
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec/codec.h"
#include "codec/planes.h"
#include "env/env.h"
#include "json.h"
#include "tensor_data.h"

#define DATA_BYTES ((size_t)8 << 20)

struct data_set {
    const char *name;
    enum varve_element element;
    const struct float_format *format;
    double channel_sd;
};

static const struct data_set data_sets[] = {
    {"bf16, sd 0", VARVE_ELEMENT_BF16, &tensor_bf16, 0.0},
    {"bf16, sd 1", VARVE_ELEMENT_BF16, &tensor_bf16, 1.0},
    {"bf16, sd 1.5", VARVE_ELEMENT_BF16, &tensor_bf16, 1.5},
    {"fp16, sd 1", VARVE_ELEMENT_FP16, &tensor_fp16, 1.0},
    {"fp32, sd 1", VARVE_ELEMENT_FP32, &tensor_fp32, 1.0},
    {"fp32 of bf16, sd 1", VARVE_ELEMENT_FP32, &tensor_fp32_of_bf16, 1.0},
    {"fp8 e4m3, sd 1", VARVE_ELEMENT_FP8, &tensor_fp8_e4m3, 1.0},
    {"fp8 e5m2, sd 1", VARVE_ELEMENT_FP8, &tensor_fp8_e5m2, 1.0},
    {"noise as bf16", VARVE_ELEMENT_BF16, NULL, 0.0},
};

static const size_t page_sizes[] = {(size_t)64 << 10, (size_t)256 << 10, (size_t)1 << 20, (size_t)2 << 20};

struct result {
    uint64_t stored;
    uint64_t encode_ns, decode_ns, sample_ns; /* the best round */
    uint64_t estimate;                        /* per mille, mean */
};

static uint64_t
thread_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void
must(bool good, const char *what)
{
    if (!good) {
        (void)fprintf(stderr, "codec_bench: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

static void *
memory(size_t size)
{
    void *bytes = malloc(size);

    must(bytes != NULL, "out of memory");
    memset(bytes, 1, size); /* no page faults later */
    return bytes;
}

static void
keep_best(uint64_t *best, uint64_t begin_ns)
{
    uint64_t taken = thread_ns() - begin_ns;

    *best = taken < *best ? taken : *best;
}

/* One round over all pages. */
static void
measure_round(struct codec *codec, const struct data_set *set, uint8_t *data, size_t page_bytes, uint8_t *coded,
              uint8_t *decoded, struct result *result)
{
    size_t pages = DATA_BYTES / page_bytes, room = (size_t)codec_bound(page_bytes);
    static uint64_t stored[DATA_BYTES / ((size_t)64 << 10)];
    uint64_t begin;

    result->stored = 0;
    result->estimate = 0;
    begin = thread_ns();
    for (size_t i = 0; i < pages; i++) {
        struct iovec iov = {data + i * page_bytes, page_bytes};

        stored[i] = room;
        must(codec_encode(codec, set->element, &iov, 1, coded + i * room, &stored[i]) >= 0, "encoding failed");
        result->stored += stored[i];
    }
    keep_best(&result->encode_ns, begin);
    begin = thread_ns();
    for (size_t i = 0; i < pages; i++) {
        struct iovec iov = {decoded + i * page_bytes, page_bytes};

        must(codec_decode(codec, coded + i * room, stored[i], &iov, 1) == VARVE_OK, "decoding failed");
    }
    keep_best(&result->decode_ns, begin);
    begin = thread_ns();
    for (size_t i = 0; i < pages; i++) {
        struct iovec iov = {data + i * page_bytes, page_bytes};

        result->estimate += codec_sample(set->element, &iov, 1);
    }
    keep_best(&result->sample_ns, begin);
    result->estimate /= pages;
    must(memcmp(data, decoded, DATA_BYTES) == 0, "decoding gave other bytes");
}

static void
print_result(bool json, const struct data_set *set, size_t page_bytes, const struct result *result)
{
    double ratio = (double)DATA_BYTES / (double)result->stored;
    double encode = (double)DATA_BYTES / (double)result->encode_ns;
    double decode = (double)DATA_BYTES / (double)result->decode_ns;
    double sample_us = (double)result->sample_ns * 1e-3 * (double)page_bytes / (double)DATA_BYTES;
    double estimate = 1000.0 / (double)result->estimate;

    if (json) {
        struct json_writer writer = json_begin(stdout);

        json_put_text(&writer, "data", set->name);
        json_put_u64(&writer, "page_bytes", page_bytes);
        json_put_double(&writer, "ratio", ratio);
        json_put_double(&writer, "ratio_estimate", estimate);
        json_put_double(&writer, "encode_gb_s", encode);
        json_put_double(&writer, "decode_gb_s", decode);
        json_put_double(&writer, "sample_us", sample_us);
        json_end(&writer);
    } else {
        (void)printf("%-20s %6zu %8.3f %8.3f %10.2f %10.2f %10.1f\n", set->name, page_bytes >> 10, ratio, estimate,
                     encode, decode, sample_us);
    }
}

static void
make_data(const struct data_set *set, uint8_t *data)
{
    if (set->format != NULL)
        tensor_fill(set->format, set->channel_sd, 1, data, DATA_BYTES / set->format->bytes);
    else
        noise_fill(1, data, DATA_BYTES);
}

static void
measure_all(struct codec *codec, bool json, uint64_t rounds)
{
    uint8_t *data = memory(DATA_BYTES), *decoded = memory(DATA_BYTES);
    uint8_t *coded = memory(DATA_BYTES + DATA_BYTES / 8);

    if (!json)
        (void)printf("%-20s %6s %8s %8s %10s %10s %10s\n", "data", "KiB", "ratio", "sampled", "enc GB/s", "dec GB/s",
                     "sample us");
    for (size_t i = 0; i < sizeof(data_sets) / sizeof(data_sets[0]); i++) {
        make_data(&data_sets[i], data);
        for (size_t k = 0; k < sizeof(page_sizes) / sizeof(page_sizes[0]); k++) {
            struct result result = {
                .encode_ns = UINT64_MAX, .decode_ns = UINT64_MAX, .sample_ns = UINT64_MAX, .estimate = 0};

            for (uint64_t round = 0; round < rounds; round++)
                measure_round(codec, &data_sets[i], data, page_sizes[k], coded, decoded, &result);
            print_result(json, &data_sets[i], page_sizes[k], &result);
        }
    }
    free(data);
    free(decoded);
    free(coded);
}

int
main(int argc, char **argv)
{
    static const struct env_settings settings = {
        .io_engine = "threads", .direct_io = "off", .queue_depth = 1, .io_threads = 1};
    const char *rounds_text = "5";
    bool json = false, portable = false;
    struct codec *codec;
    struct env *env;
    uint64_t rounds;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--portable") == 0)
            portable = true;
        else if (strncmp(argv[i], "--rounds=", 9) == 0)
            rounds_text = argv[i] + 9;
        else
            must(false, "usage: codec_bench [--json] [--rounds=N] [--portable]");
    }
    rounds = strtoull(rounds_text, NULL, 10);
    must(rounds > 0, "--rounds: give 1 or more");
    must(env_open_posix(".", &settings, &env, NULL) == VARVE_OK, "cannot open the current directory");
    must(codec_create(env, &codec) == VARVE_OK, "out of memory");
    if (portable)
        codec_use_planes(codec, &planes_plain);
    measure_all(codec, json, rounds);
    codec_destroy(codec);
    env->ops->destroy(env);
    return EXIT_SUCCESS;
}
