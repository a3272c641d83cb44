/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What prefill costs: a token with d tokens before it takes token_us + d * depth_us microseconds. Both follow from the model (floating point
 * operations a token, and a pair of tokens in attention) and from how many of these a second the GPU does in each.
 */
#ifndef VARVE_TOOLS_SERVE_COST_H
#define VARVE_TOOLS_SERVE_COST_H

#include <stddef.h>
#include <stdint.h>

struct serve_gpu {
    const char *name;
    double linear_flops;    /* a second, reached in matrix products with the weights */
    double attention_flops; /* a second, reached in attention */
    double copy_bytes_s;    /* host to device */
    const char *source;
};

struct serve_model {
    const char *name;
    double parameters;      /* active ones */
    double attention_flops; /* a pair of tokens */
    uint64_t token_bytes;   /* of KV cache */
    uint32_t gpus;          /* that share the work */
};

struct serve_cost {
    double token_us;
    double depth_us;
};

/* By name, or at an index; NULL: none. */
const struct serve_gpu *serve_gpu_find(const char *name);
const struct serve_gpu *serve_gpu_at(size_t index);
const struct serve_model *serve_model_find(const char *name);
const struct serve_model *serve_model_at(size_t index);

struct serve_cost serve_cost_make(const struct serve_gpu *gpu, const struct serve_model *model);

/* Microseconds to compute the tokens [from, to) of a prompt. */
double serve_cost_us(const struct serve_cost *cost, uint64_t from, uint64_t to);

#endif
