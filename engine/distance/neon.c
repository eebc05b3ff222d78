/* neon.c -- the kernels for AArch64: the sixteen accumulators are four registers.
 *
 * Instructions: Advanced SIMD, which every AArch64 processor has.  Alignment: of a float.  Error:
 * as scalar.c, at most dim/16 + 5 roundings, and the same bits: vmulq and vaddq instead of vfmaq or
 * vmlaq, and -ffp-contract=off.  scalar.c is compiled to nearly the same loop for one vector; what
 * this level adds is four vectors that share the loads of the query, and the folding of the four.
 */
#include <arm_neon.h>
#include <stdbool.h>

#include "engine/distance/codes_levels.h"
#include "engine/distance/fours.h"

/* Sixteen floats: the accumulators of one vector, or a block of one. */
struct block {
    float32x4_t q0, q1, q2, q3;
};

DISTANCE_INLINE float32x4_t add_term(bool ip, float32x4_t s, float32x4_t x, float32x4_t y)
{
    float32x4_t d = vsubq_f32(x, y);
    return vaddq_f32(s, ip ? vmulq_f32(x, y) : vmulq_f32(d, d));
}

DISTANCE_INLINE struct block zeros(void)
{
    float32x4_t zero = vdupq_n_f32(0);
    return (struct block){zero, zero, zero, zero};
}

DISTANCE_INLINE float32x4_t widen(uint16x4_t halves)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(halves));
}

/* Four numbers from the i-th. */
DISTANCE_INLINE float32x4_t load_four(bool half, const void *p, uint32_t i)
{
    return half ? widen(vld1_u16((const uint16_t *)p + i)) : vld1q_f32((const float *)p + i);
}

DISTANCE_INLINE struct block load(bool half, const void *p, uint32_t i)
{
    return (struct block){load_four(half, p, i), load_four(half, p, i + 4),
                          load_four(half, p, i + 8), load_four(half, p, i + 12)};
}

/* Up to four, the missing ones zero: they leave an accumulator as it is. */
DISTANCE_INLINE float32x4_t load_up_to_four(bool half, const void *p, uint32_t i, uint32_t n)
{
    float32x4_t v = vdupq_n_f32(0);
    uint16x4_t h = vdup_n_u16(0);
    const float *f = (const float *)p + i;
    const uint16_t *u = (const uint16_t *)p + i;
    if (n >= 4)
        return load_four(half, p, i);
    if (half) {
        h = n >= 1 ? vld1_lane_u16(u, h, 0) : h;
        h = n >= 2 ? vld1_lane_u16(u + 1, h, 1) : h;
        return widen(n >= 3 ? vld1_lane_u16(u + 2, h, 2) : h);
    }
    v = n >= 1 ? vld1q_lane_f32(f, v, 0) : v;
    v = n >= 2 ? vld1q_lane_f32(f + 1, v, 1) : v;
    return n >= 3 ? vld1q_lane_f32(f + 2, v, 2) : v;
}

/* The last `n`, 1 to 15, and zeros; what lies behind them is not touched. */
DISTANCE_INLINE struct block load_first(bool half, const void *p, uint32_t i, uint32_t n)
{
    struct block v = zeros();
    v.q0 = load_up_to_four(half, p, i, n);
    if (n > 4)
        v.q1 = load_up_to_four(half, p, i + 4, n - 4);
    if (n > 8)
        v.q2 = load_up_to_four(half, p, i + 8, n - 8);
    if (n > 12)
        v.q3 = load_up_to_four(half, p, i + 12, n - 12);
    return v;
}

DISTANCE_INLINE struct block add_block(bool ip, struct block s, struct block x, struct block y)
{
    return (struct block){add_term(ip, s.q0, x.q0, y.q0), add_term(ip, s.q1, x.q1, y.q1),
                          add_term(ip, s.q2, x.q2, y.q2), add_term(ip, s.q3, x.q3, y.q3)};
}

/* Sixteen to eight to four. */
DISTANCE_INLINE float32x4_t fold(struct block s)
{
    return vaddq_f32(vaddq_f32(s.q0, s.q2), vaddq_f32(s.q1, s.q3));
}

DISTANCE_INLINE float sum_one(bool ip, bool half, const float *a, const void *b, uint32_t dim)
{
    struct block s = zeros();
    uint32_t i = 0;
    for (; dim - i >= 16; i += 16)
        s = add_block(ip, s, load(false, a, i), load(half, b, i));
    if (dim > i)
        s = add_block(ip, s, load_first(false, a, i, dim - i), load_first(half, b, i, dim - i));
    float32x4_t x = fold(s);
    return vpadds_f32(vadd_f32(vget_low_f32(x), vget_high_f32(x)));
}

/* [x0 x1 x2 x3], [y0 y1 y2 y3] -> [x0+x2 x1+x3 y0+y2 y1+y3]. */
DISTANCE_INLINE float32x4_t fold_pair(float32x4_t x, float32x4_t y)
{
    return vaddq_f32(vcombine_f32(vget_low_f32(x), vget_low_f32(y)),
                     vcombine_f32(vget_high_f32(x), vget_high_f32(y)));
}

/* The fences emit nothing.  Without them gcc 12 loads the blocks of all four vectors before it sums
 * any, and three of the sixteen accumulators live in memory. */
DISTANCE_INLINE void sum_four(bool ip, bool half, const float *a, const void *const *b,
                              uint32_t dim, float *ret)
{
    const void *b0 = b[0], *b1 = b[1], *b2 = b[2], *b3 = b[3];
    struct block s0 = zeros(), s1 = s0, s2 = s0, s3 = s0;
    uint32_t i = 0;
    for (; dim - i >= 16; i += 16) {
        struct block x = load(false, a, i);
        s0 = add_block(ip, s0, x, load(half, b0, i));
        atomic_signal_fence(memory_order_seq_cst);
        s1 = add_block(ip, s1, x, load(half, b1, i));
        atomic_signal_fence(memory_order_seq_cst);
        s2 = add_block(ip, s2, x, load(half, b2, i));
        atomic_signal_fence(memory_order_seq_cst);
        s3 = add_block(ip, s3, x, load(half, b3, i));
    }
    if (dim > i) {
        uint32_t n = dim - i;
        struct block x = load_first(false, a, i, n);
        s0 = add_block(ip, s0, x, load_first(half, b0, i, n));
        s1 = add_block(ip, s1, x, load_first(half, b1, i, n));
        s2 = add_block(ip, s2, x, load_first(half, b2, i, n));
        s3 = add_block(ip, s3, x, load_first(half, b3, i, n));
    }
    vst1q_f32(ret, vpaddq_f32(fold_pair(fold(s0), fold(s1)), fold_pair(fold(s2), fold(s3))));
}

DISTANCE_LEVEL(, neon)

const struct distance_kernels distance_neon = DISTANCE_TABLE("neon", neon, codes_many_neon);
const struct distance_kernels distance_dot = DISTANCE_TABLE("neondot", neon, codes_many_dot);
