/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor_data.h"

#include <math.h>

#include "random.h"

const struct float_format tensor_bf16 = {2, 8, 7, 0};
const struct float_format tensor_fp16 = {2, 5, 10, 0};
const struct float_format tensor_fp32 = {4, 8, 23, 0};
const struct float_format tensor_fp32_of_bf16 = {4, 8, 7, 16};
const struct float_format tensor_fp8_e4m3 = {1, 4, 3, 0};
const struct float_format tensor_fp8_e5m2 = {1, 5, 2, 0};

uint32_t
float_bits(const struct float_format *format, double value)
{
    int bias = (1 << (format->exponent_bits - 1)) - 1, exponent;
    double fraction = frexp(fabs(value), &exponent), magnitude;
    int biased = exponent - 1 + bias;
    uint32_t sign = signbit(value) ? 1 : 0;

    /* Read as an integer, a float counts the floats from zero on; a carry of the rounding goes into the exponent. */
    if (biased < 1 || fraction == 0)
        magnitude = rint(ldexp(fraction, exponent - 1 + bias + format->mantissa_bits));
    else
        magnitude = rint(ldexp(2 * fraction - 1, format->mantissa_bits)) + ldexp(biased, format->mantissa_bits);
    return (sign << (format->exponent_bits + format->mantissa_bits) | (uint32_t)magnitude) << format->zero_bits;
}

static double
random_normal(struct random *random) /* Box and Muller */
{
    return sqrt(2 * random_exponential(random)) * cos(2 * 3.14159265358979323846 * random_unit(random));
}

void
tensor_fill(const struct float_format *format, double channel_sd, uint64_t seed, uint8_t *out, size_t count)
{
    double scales[TENSOR_CHANNELS];
    struct random random = random_make(seed);

    for (size_t i = 0; i < TENSOR_CHANNELS; i++)
        scales[i] = exp(channel_sd * random_normal(&random));
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = float_bits(format, scales[i % TENSOR_CHANNELS] * random_normal(&random));

        for (uint32_t byte = 0; byte < format->bytes; byte++)
            *out++ = (uint8_t)(bits >> (8 * byte));
    }
}

void
noise_fill(uint64_t seed, uint8_t *out, size_t size)
{
    struct random random = random_make(seed);

    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)(random_next(&random) >> 56);
}
