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
typedef uint32_t uint4 __attribute__((vector_size(16)));

/* Up to four floats; the missing ones are zero and add nothing. */
MAY_RACE DISTANCE_INLINE float4 load_floats(const float *p, uint32_t n)
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

/* The same of halves: what half_to_float() does, four at once. */
MAY_RACE DISTANCE_INLINE float4 load_halves(const uint16_t *p, uint32_t n)
{
    uint4 v = {0, 0, 0, 0};
    for (uint32_t i = 0; i < n; i++)
#ifdef DISTANCE_TSAN_BUILD
        v[i] = __atomic_load_n(p + i, __ATOMIC_RELAXED);
#else
        v[i] = p[i];
#endif
    const uint4 bits = (v & 0x7fff) << 13, exponent = bits & 0x0f800000u;
    const uint4 small = (uint4)(exponent == 0), special = (uint4)(exponent == 0x0f800000u);
    const uint4 tiny = (uint4)((float4)(bits + 0x38800000u) - 0x1p-14f);
    const uint4 plain = bits + 0x38000000u + (special & 0x38000000u);
    return (float4)((small & tiny) | (~small & plain) | (v & 0x8000) << 16);
}

/* Up to four numbers from the i-th. */
MAY_RACE DISTANCE_INLINE float4 load(bool half, const void *p, uint32_t i, uint32_t n)
{
    return half ? load_halves((const uint16_t *)p + i, n) : load_floats((const float *)p + i, n);
}

DISTANCE_INLINE float4 term(bool ip, float4 x, float4 y)
{
    float4 d = x - y;
    return ip ? x * y : d * d;
}

/* The last dim mod 16 numbers go to the accumulators that they would have met in a full block. */
MAY_RACE DISTANCE_INLINE float sum_one(bool ip, bool half, const float *a, const void *b,
                                       uint32_t dim)
{
    float4 s0 = {0, 0, 0, 0}, s1 = s0, s2 = s0, s3 = s0;
    uint32_t i = 0;
    for (; dim - i >= 16; i += 16) {
        s0 += term(ip, load(false, a, i, 4), load(half, b, i, 4));
        s1 += term(ip, load(false, a, i + 4, 4), load(half, b, i + 4, 4));
        s2 += term(ip, load(false, a, i + 8, 4), load(half, b, i + 8, 4));
        s3 += term(ip, load(false, a, i + 12, 4), load(half, b, i + 12, 4));
    }
    uint32_t fours = (dim - i) / 4, rest = dim % 4;
    if (fours >= 1)
        s0 += term(ip, load(false, a, i, 4), load(half, b, i, 4));
    if (fours >= 2)
        s1 += term(ip, load(false, a, i + 4, 4), load(half, b, i + 4, 4));
    if (fours >= 3)
        s2 += term(ip, load(false, a, i + 8, 4), load(half, b, i + 8, 4));
    if (rest != 0) {
        float4 last = term(ip, load(false, a, dim - rest, rest), load(half, b, dim - rest, rest));
        switch (fours) {
        case 0:
            s0 += last;
            break;
        case 1:
            s1 += last;
            break;
        case 2:
            s2 += last;
            break;
        default:
            s3 += last;
            break;
        }
    }
    s0 += s2;
    s1 += s3;
    s0 += s1;
    return (s0[0] + s0[2]) + (s0[1] + s0[3]);
}

/* Sixteen accumulators each leave no registers to share: one after the other, and the processor
 * overlaps the end of one with the beginning of the next. */
MAY_RACE DISTANCE_INLINE void sum_four(bool ip, bool half, const float *a, const void *const *b,
                                       uint32_t dim, float *ret)
{
    for (uint32_t i = 0; i < 4; i++)
        ret[i] = sum_one(ip, half, a, b[i], dim);
}

DISTANCE_LEVEL(MAY_RACE, scalar)

const struct distance_kernels distance_scalar = DISTANCE_TABLE("scalar", scalar, codes_many_scalar);

MAY_RACE void distance_widen(const void *stored, uint32_t dim, float *ret_v)
{
    for (uint32_t i = 0; i < dim; i += 4) {
        uint32_t n = dim - i < 4 ? dim - i : 4;
        float4 v = load(true, stored, i, n);
        memcpy(ret_v + i, &v, n * sizeof *ret_v);
    }
}

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
