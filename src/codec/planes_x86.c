/* SPDX-License-Identifier: Apache-2.0 */
/* Planes with the vectors of x86-64: SSE2, which every one has, and AVX2. Wider ones gain nothing: zstd and memory are slower. */
#include "codec/planes.h"

#if defined(__x86_64__)

#include <immintrin.h>

/* The intrinsics take pointers to vectors for what is, by their name, an unaligned access. */
#define IN(p)  ((const void *)(p))
#define OUT(p) ((void *)(p))

#define TARGET
#define KERNEL(name)    sse2_##name
#define VECTOR          __m128i
#define OP(name)        _mm_##name
#define LOAD(p)         _mm_loadu_si128(IN(p))
#define STORE(p, v)     _mm_storeu_si128(OUT(p), v)
#define AND(a, b)       _mm_and_si128(a, b)
#define OR(a, b)        _mm_or_si128(a, b)
#define SPLIT2_ORDER(v) (v)
#define SPLIT4_ORDER(v) (v)
#define JOIN2_ORDER(v)  (v)
#define JOIN4_ORDER(v)  (v)
#include "codec/planes_x86_kernels.h"
#undef TARGET
#undef KERNEL
#undef VECTOR
#undef OP
#undef LOAD
#undef STORE
#undef AND
#undef OR
#undef SPLIT2_ORDER
#undef SPLIT4_ORDER
#undef JOIN2_ORDER
#undef JOIN4_ORDER

#define TARGET          __attribute__((target("avx2")))
#define KERNEL(name)    avx2_##name
#define VECTOR          __m256i
#define OP(name)        _mm256_##name
#define LOAD(p)         _mm256_loadu_si256(IN(p))
#define STORE(p, v)     _mm256_storeu_si256(OUT(p), v)
#define AND(a, b)       _mm256_and_si256(a, b)
#define OR(a, b)        _mm256_or_si256(a, b)
#define SPLIT2_ORDER(v) _mm256_permute4x64_epi64(v, 0xd8)
#define SPLIT4_ORDER(v) _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
#define JOIN2_ORDER(v)  _mm256_permute4x64_epi64(v, 0xd8)
#define JOIN4_ORDER(v)  _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7))
#include "codec/planes_x86_kernels.h"

static const struct planes_ops sse2 = {"sse2", sse2_split2, sse2_split4, sse2_join2, sse2_join4};
static const struct planes_ops avx2 = {"avx2", avx2_split2, avx2_split4, avx2_join2, avx2_join4};

const struct planes_ops *
planes_x86(size_t index)
{
    if (index == 0)
        return &sse2;
    return index == 1 && __builtin_cpu_supports("avx2") ? &avx2 : NULL;
}

#else

const struct planes_ops *
planes_x86(size_t index)
{
    (void)index;
    return NULL;
}

#endif
