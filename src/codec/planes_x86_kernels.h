/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The x86 kernels, written once for vectors of 16 and 32 bytes; planes_x86.c includes this with, defined each time:
 *
 *   KERNEL(name)   the function's name; TARGET: its attribute
 *   VECTOR         the type; OP(name): the intrinsic; LOAD(p), STORE(p, v), AND(a, b), OR(a, b)
 *   SPLIT2_ORDER, SPLIT4_ORDER, JOIN2_ORDER, JOIN4_ORDER
 *                  pack and unpack work within 16 bytes each: these put the halves of wider vectors in order, after packing once or
 *                  twice, and before unpacking once or twice
 */

TARGET static inline VECTOR
KERNEL(low_bytes)(VECTOR a, VECTOR b)
{
    VECTOR mask = OP(set1_epi16)(0xff);

    return OP(packus_epi16)(AND(a, mask), AND(b, mask));
}

TARGET static inline VECTOR
KERNEL(high_bytes)(VECTOR a, VECTOR b)
{
    return OP(packus_epi16)(OP(srli_epi16)(a, 8), OP(srli_epi16)(b, 8));
}

TARGET static inline VECTOR
KERNEL(rotate_left)(VECTOR v)
{
    return OR(OP(slli_epi16)(v, 1), OP(srli_epi16)(v, 15));
}

TARGET static inline VECTOR
KERNEL(rotate_right)(VECTOR v)
{
    return OR(OP(srli_epi16)(v, 1), OP(slli_epi16)(v, 15));
}

/* The upper, and the lower, 16 bits of each element. Sign-extended first, so that packing saturates nothing. */
TARGET static inline VECTOR
KERNEL(upper_halves)(VECTOR a, VECTOR b)
{
    return OP(packs_epi32)(OP(srai_epi32)(a, 16), OP(srai_epi32)(b, 16));
}

TARGET static inline VECTOR
KERNEL(lower_halves)(VECTOR a, VECTOR b)
{
    return KERNEL(upper_halves)(OP(slli_epi32)(a, 16), OP(slli_epi32)(b, 16));
}

TARGET static void
KERNEL(split2)(const uint8_t *elements, size_t count, uint8_t *const *planes)
{
    size_t i = 0;

    for (; i + sizeof(VECTOR) <= count; i += sizeof(VECTOR)) {
        VECTOR a = KERNEL(rotate_left)(LOAD(elements + 2 * i));
        VECTOR b = KERNEL(rotate_left)(LOAD(elements + 2 * i + sizeof(VECTOR)));

        STORE(planes[0] + i, SPLIT2_ORDER(KERNEL(low_bytes)(a, b)));
        STORE(planes[1] + i, SPLIT2_ORDER(KERNEL(high_bytes)(a, b)));
    }
    planes_split2_from(i, elements, count, planes);
}

TARGET static void
KERNEL(split4)(const uint8_t *elements, size_t count, uint8_t *const *planes)
{
    size_t i = 0;

    for (; i + sizeof(VECTOR) <= count; i += sizeof(VECTOR)) {
        VECTOR a = LOAD(elements + 4 * i), b = LOAD(elements + 4 * i + sizeof(VECTOR));
        VECTOR c = LOAD(elements + 4 * i + 2 * sizeof(VECTOR)), d = LOAD(elements + 4 * i + 3 * sizeof(VECTOR));
        VECTOR lower_ab = KERNEL(lower_halves)(a, b), lower_cd = KERNEL(lower_halves)(c, d);
        VECTOR upper_ab = KERNEL(rotate_left)(KERNEL(upper_halves)(a, b));
        VECTOR upper_cd = KERNEL(rotate_left)(KERNEL(upper_halves)(c, d));

        STORE(planes[0] + i, SPLIT4_ORDER(KERNEL(low_bytes)(lower_ab, lower_cd)));
        STORE(planes[1] + i, SPLIT4_ORDER(KERNEL(high_bytes)(lower_ab, lower_cd)));
        STORE(planes[2] + i, SPLIT4_ORDER(KERNEL(low_bytes)(upper_ab, upper_cd)));
        STORE(planes[3] + i, SPLIT4_ORDER(KERNEL(high_bytes)(upper_ab, upper_cd)));
    }
    planes_split4_from(i, elements, count, planes);
}

TARGET static void
KERNEL(join2)(const uint8_t *const *planes, size_t count, uint8_t *elements)
{
    size_t i = 0;

    for (; i + sizeof(VECTOR) <= count; i += sizeof(VECTOR)) {
        VECTOR low = JOIN2_ORDER(LOAD(planes[0] + i)), high = JOIN2_ORDER(LOAD(planes[1] + i));

        STORE(elements + 2 * i, KERNEL(rotate_right)(OP(unpacklo_epi8)(low, high)));
        STORE(elements + 2 * i + sizeof(VECTOR), KERNEL(rotate_right)(OP(unpackhi_epi8)(low, high)));
    }
    planes_join2_from(i, planes, count, elements);
}

TARGET static void
KERNEL(join4)(const uint8_t *const *planes, size_t count, uint8_t *elements)
{
    size_t i = 0;

    for (; i + sizeof(VECTOR) <= count; i += sizeof(VECTOR)) {
        VECTOR b0 = JOIN4_ORDER(LOAD(planes[0] + i)), b1 = JOIN4_ORDER(LOAD(planes[1] + i));
        VECTOR low = JOIN4_ORDER(LOAD(planes[2] + i)), high = JOIN4_ORDER(LOAD(planes[3] + i));
        VECTOR lower_ab = OP(unpacklo_epi8)(b0, b1), lower_cd = OP(unpackhi_epi8)(b0, b1);
        VECTOR upper_ab = KERNEL(rotate_right)(OP(unpacklo_epi8)(low, high));
        VECTOR upper_cd = KERNEL(rotate_right)(OP(unpackhi_epi8)(low, high));

        STORE(elements + 4 * i, OP(unpacklo_epi16)(lower_ab, upper_ab));
        STORE(elements + 4 * i + sizeof(VECTOR), OP(unpackhi_epi16)(lower_ab, upper_ab));
        STORE(elements + 4 * i + 2 * sizeof(VECTOR), OP(unpacklo_epi16)(lower_cd, upper_cd));
        STORE(elements + 4 * i + 3 * sizeof(VECTOR), OP(unpackhi_epi16)(lower_cd, upper_cd));
    }
    planes_join4_from(i, planes, count, elements);
}
