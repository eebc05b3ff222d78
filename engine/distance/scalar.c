/* scalar.c -- the kernels in plain C, and the definition of their results.
 *
 * Instructions: whatever the compiler's base level has.  Alignment: of a float.  Error: at most
 * dim/16 + 5 roundings on the way to any one sum, against dim for a single accumulator.
 *
 * The sixteen accumulators are spelled as four vectors of four.  Written as an array of sixteen
 * floats gcc 12 keeps them in memory and takes six times as long; as four named vectors both
 * gcc and clang keep them in registers from SSE2 and NEON upwards, without -ffast-math.
 */
#include "engine/distance/codes_levels.h"
#include "engine/distance/fours.h"

#include <math.h>
#include <string.h>

/* D1: what a kernel reads may be written meanwhile. */
#define MAY_RACE __attribute__((no_sanitize("thread")))

typedef float float4 __attribute__((vector_size(16)));

/* Up to four floats; the missing ones are zero and add nothing. */
MAY_RACE static inline float4 load(const float *p, uint32_t n)
{
    float4 v = {0, 0, 0, 0};
#ifdef DISTANCE_TSAN_BUILD
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits = __atomic_load_n((const uint32_t *)(const void *)(p + i), __ATOMIC_RELAXED);
        float f;
        memcpy(&f, &bits, sizeof f);
        v[i] = f;
    }
#else
    if (n == 4)
        memcpy(&v, p, sizeof v);
    else
        for (uint32_t i = 0; i < n; i++)
            v[i] = p[i];
#endif
    return v;
}

static inline float4 l2_term(float4 x, float4 y)
{
    float4 d = x - y;
    return d * d;
}
static inline float4 ip_term(float4 x, float4 y)
{
    return x * y;
}

/* One body for both sums.  The last dim mod 16 floats go to the accumulators that they would have
 * met in a full block. */
#define SUM_BODY(term)                                                                             \
    float4 s0 = {0, 0, 0, 0}, s1 = s0, s2 = s0, s3 = s0;                                           \
    for (; dim >= 16; dim -= 16, a += 16, b += 16) {                                               \
        s0 += term(load(a, 4), load(b, 4));                                                        \
        s1 += term(load(a + 4, 4), load(b + 4, 4));                                                \
        s2 += term(load(a + 8, 4), load(b + 8, 4));                                                \
        s3 += term(load(a + 12, 4), load(b + 12, 4));                                              \
    }                                                                                              \
    if (dim >= 4)                                                                                  \
        s0 += term(load(a, 4), load(b, 4));                                                        \
    if (dim >= 8)                                                                                  \
        s1 += term(load(a + 4, 4), load(b + 4, 4));                                                \
    if (dim >= 12)                                                                                 \
        s2 += term(load(a + 8, 4), load(b + 8, 4));                                                \
    if (dim % 4 != 0) {                                                                            \
        uint32_t done = dim / 4 * 4;                                                               \
        float4 last = term(load(a + done, dim % 4), load(b + done, dim % 4));                      \
        switch (dim / 4) {                                                                         \
        case 0:                                                                                    \
            s0 += last;                                                                            \
            break;                                                                                 \
        case 1:                                                                                    \
            s1 += last;                                                                            \
            break;                                                                                 \
        case 2:                                                                                    \
            s2 += last;                                                                            \
            break;                                                                                 \
        default:                                                                                   \
            s3 += last;                                                                            \
            break;                                                                                 \
        }                                                                                          \
    }                                                                                              \
    s0 += s2;                                                                                      \
    s1 += s3;                                                                                      \
    s0 += s1;                                                                                      \
    return (s0[0] + s0[2]) + (s0[1] + s0[3])

MAY_RACE static float sum_l2(const float *a, const float *b, uint32_t dim)
{
    SUM_BODY(l2_term);
}
MAY_RACE static float sum_ip(const float *a, const float *b, uint32_t dim)
{
    SUM_BODY(ip_term);
}

MAY_RACE static float scalar_l2(const float *query, const float *stored, uint32_t dim)
{
    return sum_l2(query, stored, dim);
}
MAY_RACE static float scalar_ip(const float *query, const float *stored, uint32_t dim)
{
    return 1.0f - sum_ip(query, stored, dim);
}

/* Sixteen accumulators each leave no registers to share: one after the other, and the processor
 * overlaps the end of one with the beginning of the next. */
MAY_RACE static void four_l2(const float *query, const float *const *stored, uint32_t dim,
                             float *ret)
{
    for (uint32_t i = 0; i < 4; i++)
        ret[i] = sum_l2(query, stored[i], dim);
}
MAY_RACE static void four_ip(const float *query, const float *const *stored, uint32_t dim,
                             float *ret)
{
    for (uint32_t i = 0; i < 4; i++)
        ret[i] = 1.0f - sum_ip(query, stored[i], dim);
}

MAY_RACE static void scalar_l2_many(const float *query, const float *const *stored, uint32_t n,
                                    uint32_t dim, float *ret)
{
    distance_by_fours(scalar_l2, four_l2, query, stored, n, dim, ret);
}
MAY_RACE static void scalar_ip_many(const float *query, const float *const *stored, uint32_t n,
                                    uint32_t dim, float *ret)
{
    distance_by_fours(scalar_ip, four_ip, query, stored, n, dim, ret);
}

const struct distance_kernels distance_scalar = {"scalar",       scalar_l2,      scalar_ip,
                                                 scalar_l2_many, scalar_ip_many, codes_many_scalar};

void distance_normalise(const float *v, uint32_t dim, float *ret_v)
{
    float sum = 0.0f;
    for (uint32_t i = 0; i < dim; i++)
        sum += v[i] * v[i];
    float scale = 1.0f / (sqrtf(sum) + 1e-30f);
    for (uint32_t i = 0; i < dim; i++)
        ret_v[i] = v[i] * scale;
}

uint64_t distance_first_unfinite(const float *v, uint64_t n)
{
    /* An exponent of all ones: 256 floats a time without a branch, then the culprit. */
    for (uint64_t i = 0; i < n; i += 256) {
        uint64_t end = i + 256 < n ? i + 256 : n;
        uint32_t bad = 0;
        for (uint64_t j = i; j < end; j++) {
            uint32_t bits;
            memcpy(&bits, v + j, sizeof bits);
            bad |= (bits & 0x7f800000u) == 0x7f800000u;
        }
        for (uint64_t j = i; bad && j < end; j++)
            if (!isfinite(v[j]))
                return j;
    }
    return n;
}
