/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tensors that look like a KV cache: Gaussian values with one scale a channel, the scales log-normal. The same bytes from the same seed on every
 * machine whose libm agrees.
 */
#ifndef VARVE_BENCH_TENSOR_DATA_H
#define VARVE_BENCH_TENSOR_DATA_H

#include <stddef.h>
#include <stdint.h>

#define TENSOR_CHANNELS 128

struct float_format {
    uint32_t bytes;
    int exponent_bits;
    int mantissa_bits; /* the sign is above both */
    int zero_bits;     /* at the bottom: a wider format that holds values of a narrower one */
};

extern const struct float_format tensor_bf16, tensor_fp16, tensor_fp32, tensor_fp32_of_bf16, tensor_fp8_e4m3,
    tensor_fp8_e5m2;

/* The value, which must not be too large for the format, rounded to the nearest. */
uint32_t float_bits(const struct float_format *format, double value);

/* Fill `count` elements; the standard deviation of the logarithm of the scales is channel_sd. */
void tensor_fill(const struct float_format *format, double channel_sd, uint64_t seed, uint8_t *out, size_t count);

/* Bytes that nothing makes shorter. */
void noise_fill(uint64_t seed, uint8_t *out, size_t size);

#endif
