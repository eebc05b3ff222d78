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

DISTANCE_INLINE struct block load(const float *p)
{
    return (struct block){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}

/* Up to four floats, the missing ones zero: they leave an accumulator as it is. */
DISTANCE_INLINE float32x4_t load_up_to_four(const float *p, uint32_t n)
{
    float32x4_t v = vdupq_n_f32(0);
    if (n >= 4)
        return vld1q_f32(p);
    if (n >= 1)
        v = vld1q_lane_f32(p, v, 0);
    if (n >= 2)
        v = vld1q_lane_f32(p + 1, v, 1);
    if (n >= 3)
        v = vld1q_lane_f32(p + 2, v, 2);
    return v;
}

/* The last `n` floats, 1 to 15, and zeros; what lies behind them is not touched. */
DISTANCE_INLINE struct block load_first(const float *p, uint32_t n)
{
    struct block v = zeros();
    v.q0 = load_up_to_four(p, n);
    if (n > 4)
        v.q1 = load_up_to_four(p + 4, n - 4);
    if (n > 8)
        v.q2 = load_up_to_four(p + 8, n - 8);
    if (n > 12)
        v.q3 = load_up_to_four(p + 12, n - 12);
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

DISTANCE_INLINE float sum_one(bool ip, const float *a, const float *b, uint32_t dim)
{
    struct block s = zeros();
    for (; dim >= 16; dim -= 16, a += 16, b += 16)
        s = add_block(ip, s, load(a), load(b));
    if (dim > 0)
        s = add_block(ip, s, load_first(a, dim), load_first(b, dim));
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
DISTANCE_INLINE float32x4_t sum_four(bool ip, const float *a, const float *const *b, uint32_t dim)
{
    const float *b0 = b[0], *b1 = b[1], *b2 = b[2], *b3 = b[3];
    struct block s0 = zeros(), s1 = s0, s2 = s0, s3 = s0;
    uint32_t i = 0;
    for (; dim - i >= 16; i += 16) {
        struct block x = load(a + i);
        s0 = add_block(ip, s0, x, load(b0 + i));
        atomic_signal_fence(memory_order_seq_cst);
        s1 = add_block(ip, s1, x, load(b1 + i));
        atomic_signal_fence(memory_order_seq_cst);
        s2 = add_block(ip, s2, x, load(b2 + i));
        atomic_signal_fence(memory_order_seq_cst);
        s3 = add_block(ip, s3, x, load(b3 + i));
    }
    if (dim > i) {
        struct block x = load_first(a + i, dim - i);
        s0 = add_block(ip, s0, x, load_first(b0 + i, dim - i));
        s1 = add_block(ip, s1, x, load_first(b1 + i, dim - i));
        s2 = add_block(ip, s2, x, load_first(b2 + i, dim - i));
        s3 = add_block(ip, s3, x, load_first(b3 + i, dim - i));
    }
    return vpaddq_f32(fold_pair(fold(s0), fold(s1)), fold_pair(fold(s2), fold(s3)));
}

static float neon_l2(const float *query, const float *stored, uint32_t dim)
{
    return sum_one(false, query, stored, dim);
}
static float neon_ip(const float *query, const float *stored, uint32_t dim)
{
    return 1.0f - sum_one(true, query, stored, dim);
}

static void four_l2(const float *query, const float *const *stored, uint32_t dim, float *ret)
{
    vst1q_f32(ret, sum_four(false, query, stored, dim));
}
static void four_ip(const float *query, const float *const *stored, uint32_t dim, float *ret)
{
    vst1q_f32(ret, vsubq_f32(vdupq_n_f32(1.0f), sum_four(true, query, stored, dim)));
}

static void neon_l2_many(const float *query, const float *const *stored, uint32_t n, uint32_t dim,
                         float *ret)
{
    distance_by_fours(neon_l2, four_l2, query, stored, n, dim, ret);
}
static void neon_ip_many(const float *query, const float *const *stored, uint32_t n, uint32_t dim,
                         float *ret)
{
    distance_by_fours(neon_ip, four_ip, query, stored, n, dim, ret);
}

const struct distance_kernels distance_neon = {"neon",       neon_l2,      neon_ip,
                                               neon_l2_many, neon_ip_many, codes_many_neon};
const struct distance_kernels distance_dot = {"neondot",    neon_l2,      neon_ip,
                                              neon_l2_many, neon_ip_many, codes_many_dot};
