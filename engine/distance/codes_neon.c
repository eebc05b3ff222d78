/* codes_neon.c -- distances of codes for AArch64.
 *
 * With the dotprod extension SDOT adds four products of signed bytes to 32 bits.  Without it smull
 * makes products of 16 bits, and sadalp adds neighbours to 32.  Both are exact (codes.h, O1).
 */
#include <arm_neon.h>

#include "engine/distance/codes.h"
#include "engine/distance/codes_by_fours.h"
#include "engine/distance/codes_levels.h"

#define INLINE static inline __attribute__((always_inline))
#define TARGET_DOT __attribute__((target("arch=armv8.2-a+dotprod")))

INLINE int8x16_t load(const void *p)
{
    return vld1q_s8((const int8_t *)p);
}

INLINE int32x4_t add_products(int32x4_t sum, int8x16_t c, const uint8_t *row)
{
    int8x16_t v = load(row);
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(v), vget_low_s8(c)));
    return vpadalq_s16(sum, vmull_s8(vget_high_s8(v), vget_high_s8(c)));
}

/* Of four rows. */
struct scales {
    float32x4_t scale, norm;
};

INLINE struct scales header(const uint8_t *const *r)
{
    float32x2_t h0 = vreinterpret_f32_u8(vld1_u8(r[0])), h1 = vreinterpret_f32_u8(vld1_u8(r[1]));
    float32x2_t h2 = vreinterpret_f32_u8(vld1_u8(r[2])), h3 = vreinterpret_f32_u8(vld1_u8(r[3]));
    return (struct scales){vcombine_f32(vzip1_f32(h0, h1), vzip1_f32(h2, h3)),
                           vcombine_f32(vzip2_f32(h0, h1), vzip2_f32(h2, h3))};
}

/* The lowest bits of the first 16 codes. */
INLINE uint32_t bits_of(const uint8_t *row)
{
    static const int8_t place[16] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7};
    uint8x16_t bits = vshlq_u8(vandq_u8(vld1q_u8(row), vdupq_n_u8(1)), vld1q_s8(place));
    return vaddv_u8(vget_low_u8(bits)) | (uint32_t)vaddv_u8(vget_high_u8(bits)) << 8;
}

INLINE int32x4_t fold(int32x4_t s0, int32x4_t s1, int32x4_t s2, int32x4_t s3)
{
    return vpaddq_s32(vpaddq_s32(s0, s1), vpaddq_s32(s2, s3));
}

INLINE struct scales held(const uint8_t *const *r, int32x4_t squares)
{
    const uint32_t bits[4] = {bits_of(r[0]), bits_of(r[1]), bits_of(r[2]), bits_of(r[3])};
    float32x4_t scale = vreinterpretq_f32_u32(vshlq_n_u32(vld1q_u32(bits), CODES_HELD_SHIFT));
    return (struct scales){scale, vmulq_f32(vmulq_f32(scale, scale), vcvtq_f32_s32(squares))};
}

INLINE void finish(const struct codes_query *q, int32x4_t sums, struct scales of, float *ret)
{
    float32x4_t scale = vmulq_f32(vdupq_n_f32(q->mult), of.scale);
    float32x4_t norm = vmulq_f32(vdupq_n_f32(q->weight), of.norm);
    norm = vaddq_f32(vdupq_n_f32(q->base), norm);
    vst1q_f32(ret, vsubq_f32(norm, vmulq_f32(scale, vcvtq_f32_s32(sums))));
}

/* Four rows, with `add` for sixteen bytes of one. */
#define FOUR_BODY(add)                                                                             \
    const uint8_t *r0 = r[0], *r1 = r[1], *r2 = r[2], *r3 = r[3];                                  \
    int32x4_t s0 = vdupq_n_s32(0), s1 = s0, s2 = s0, s3 = s0, n0 = s0, n1 = s0, n2 = s0, n3 = s0;  \
    const bool norms = q->held && q->weight != 0;                                                  \
    for (uint32_t i = 0; i < q->stride; i += 16) {                                                 \
        int8x16_t c = load(q->c + i);                                                              \
        s0 = add(s0, c, r0 + i);                                                                   \
        s1 = add(s1, c, r1 + i);                                                                   \
        s2 = add(s2, c, r2 + i);                                                                   \
        s3 = add(s3, c, r3 + i);                                                                   \
        if (norms) {                                                                               \
            n0 = add(n0, load(r0 + i), r0 + i);                                                    \
            n1 = add(n1, load(r1 + i), r1 + i);                                                    \
            n2 = add(n2, load(r2 + i), r2 + i);                                                    \
            n3 = add(n3, load(r3 + i), r3 + i);                                                    \
        }                                                                                          \
    }                                                                                              \
    finish(q, fold(s0, s1, s2, s3), q->held ? held(r, fold(n0, n1, n2, n3)) : header(r), ret)

INLINE void four_neon(const struct codes_query *q, const uint8_t *const *r, float *ret)
{
    FOUR_BODY(add_products);
}

TARGET_DOT INLINE int32x4_t add_dot(int32x4_t sum, int8x16_t c, const uint8_t *row)
{
    return vdotq_s32(sum, vld1q_s8((const int8_t *)(const void *)row), c);
}

TARGET_DOT INLINE void four_dot(const struct codes_query *q, const uint8_t *const *r, float *ret)
{
    FOUR_BODY(add_dot);
}

void codes_many_neon(const struct codes_query *query, const uint8_t *const *rows, uint32_t n,
                     float *ret)
{
    CODES_BY_FOURS(four_neon);
}

TARGET_DOT void codes_many_dot(const struct codes_query *query, const uint8_t *const *rows,
                               uint32_t n, float *ret)
{
    CODES_BY_FOURS(four_dot);
}
