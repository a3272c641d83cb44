/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Presets. H200: fitted (least relative squares) to prefill times of an 8 B Llama shape from 2,048 to 65,536 tokens, which gives 28.16 us + d * 0.8597
 * ns; it meets each of them within 2 %. H100 and A30: half of the peak of bf16 tensor cores, in both kinds of work.
 */
#include "serve/cost.h"

#include <string.h>

#define US_PER_S 1e6

static const struct serve_gpu gpus[] = {
    {"h200", 570.3e12, 609.9e12, 55e9, "measured: transformers, bf16"},
    {"h100", 494.5e12, 494.5e12, 55e9, "half of the peak of 989 TFLOP/s"},
    {"a30", 82.0e12, 82.0e12, 22e9, "half of the peak of 164 TFLOP/s"},
};

/* Attention: 4 operations a layer and a value of the heads; DeepSeek-V3's have 192 values in keys and 128 in values. */
static const struct serve_model models[] = {
    {"glm-4-9b", 9.40e9, 4.0 * 40 * 4096, 40 << 10, 1},
    {"llama-3-8b", 8.03e9, 4.0 * 32 * 4096, 128 << 10, 1},
    {"glm-4-32b", 32.6e9, 4.0 * 61 * 6144, 61 << 10, 1},
    {"deepseek-v3", 37e9, 2.0 * 61 * 128 * (192 + 128), 70272, 8},
};

const struct serve_gpu *
serve_gpu_at(size_t index)
{
    return index < sizeof(gpus) / sizeof(gpus[0]) ? &gpus[index] : NULL;
}

const struct serve_gpu *
serve_gpu_find(const char *name)
{
    const struct serve_gpu *gpu = NULL;

    for (size_t i = 0; (gpu = serve_gpu_at(i)) != NULL && strcmp(gpu->name, name) != 0; i++)
        ;
    return gpu;
}

const struct serve_model *
serve_model_at(size_t index)
{
    return index < sizeof(models) / sizeof(models[0]) ? &models[index] : NULL;
}

const struct serve_model *
serve_model_find(const char *name)
{
    const struct serve_model *model = NULL;

    for (size_t i = 0; (model = serve_model_at(i)) != NULL && strcmp(model->name, name) != 0; i++)
        ;
    return model;
}

struct serve_cost
serve_cost_make(const struct serve_gpu *gpu, const struct serve_model *model)
{
    return (struct serve_cost){
        .token_us = US_PER_S * 2 * model->parameters / (gpu->linear_flops * model->gpus),
        .depth_us = US_PER_S * model->attention_flops / (gpu->attention_flops * model->gpus),
    };
}

double
serve_cost_us(const struct serve_cost *cost, uint64_t from, uint64_t to)
{
    double tokens = to > from ? (double)(to - from) : 0;

    /* Linear in depth, so the mean depth counts: from, from + 1, ... to - 1. */
    return tokens * (cost->token_us + cost->depth_us * ((double)from + (tokens - 1) / 2));
}
