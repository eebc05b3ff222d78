/* avx512.c -- the kernels for AVX-512: the sixteen accumulators are one register.
 *
 * Instructions: AVX-512F, which the file asks for function by function; the rest of the library is
 * built for the base level, and no call comes here before dispatch.c has asked the processor.
 * Alignment: of a float; a vector that begins at a multiple of 64 bytes saves half of the line
 * crossings.  Error: as scalar.c, dim/16 + 5 roundings, and the same bits: multiplication and
 * addition stay apart (-ffp-contract=off holds for intrinsics too), and the last dim mod 16 floats
 * come by a masked load, whose zeros leave an accumulator as it is.
 */
#include <immintrin.h>
#include <stdbool.h>

#include "engine/distance/codes_levels.h"
#include "engine/distance/fours.h"

#define TARGET __attribute__((target("avx512f")))
#define INLINE TARGET DISTANCE_INLINE

INLINE __m512 term(bool ip, __m512 x, __m512 y)
{
    __m512 d = _mm512_sub_ps(x, y);
    return ip ? _mm512_mul_ps(x, y) : _mm512_mul_ps(d, d);
}

/* The first `n` floats, 1 to 15, and zeros; the others are not touched. */
INLINE __m512 load_first(const float *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

INLINE float sum_one(bool ip, const float *a, const float *b, uint32_t dim)
{
    __m512 s = _mm512_setzero_ps();
    for (; dim >= 16; dim -= 16, a += 16, b += 16)
        s = _mm512_add_ps(s, term(ip, _mm512_loadu_ps(a), _mm512_loadu_ps(b)));
    if (dim > 0)
        s = _mm512_add_ps(s, term(ip, load_first(a, dim), load_first(b, dim)));
    __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(s), 1));
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(s), upper);
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

/* Quarters of 128 bits: [x0 x1 x2 x3], [y0 y1 y2 y3] -> [x0+x2 x1+x3 y0+y2 y1+y3]. */
INLINE __m512 fold_pair(__m512 x, __m512 y)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee));
}

/* The same folds by halves as of one vector, for four at once. */
INLINE __m128 fold_four(__m512 s0, __m512 s1, __m512 s2, __m512 s3)
{
    __m512 x = fold_pair(s0, s1), y = fold_pair(s2, s3);
    /* A quarter for each vector. */
    x = _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
    x = _mm512_add_ps(x, _mm512_permute_ps(x, 0x4e));
    x = _mm512_add_ps(x, _mm512_permute_ps(x, 0xb1));
    return _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, x));
}

INLINE __m128 sum_four(bool ip, const float *a, const float *const *b, uint32_t dim)
{
    const float *b0 = b[0], *b1 = b[1], *b2 = b[2], *b3 = b[3];
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    uint32_t i = 0;
    for (; dim - i >= 16; i += 16) {
        __m512 x = _mm512_loadu_ps(a + i);
        s0 = _mm512_add_ps(s0, term(ip, x, _mm512_loadu_ps(b0 + i)));
        s1 = _mm512_add_ps(s1, term(ip, x, _mm512_loadu_ps(b1 + i)));
        s2 = _mm512_add_ps(s2, term(ip, x, _mm512_loadu_ps(b2 + i)));
        s3 = _mm512_add_ps(s3, term(ip, x, _mm512_loadu_ps(b3 + i)));
    }
    if (dim > i) {
        __m512 x = load_first(a + i, dim - i);
        s0 = _mm512_add_ps(s0, term(ip, x, load_first(b0 + i, dim - i)));
        s1 = _mm512_add_ps(s1, term(ip, x, load_first(b1 + i, dim - i)));
        s2 = _mm512_add_ps(s2, term(ip, x, load_first(b2 + i, dim - i)));
        s3 = _mm512_add_ps(s3, term(ip, x, load_first(b3 + i, dim - i)));
    }
    return fold_four(s0, s1, s2, s3);
}

TARGET static float avx512_l2(const float *query, const float *stored, uint32_t dim)
{
    return sum_one(false, query, stored, dim);
}
TARGET static float avx512_ip(const float *query, const float *stored, uint32_t dim)
{
    return 1.0f - sum_one(true, query, stored, dim);
}

TARGET static void four_l2(const float *query, const float *const *stored, uint32_t dim, float *ret)
{
    _mm_storeu_ps(ret, sum_four(false, query, stored, dim));
}
TARGET static void four_ip(const float *query, const float *const *stored, uint32_t dim, float *ret)
{
    _mm_storeu_ps(ret, _mm_sub_ps(_mm_set1_ps(1.0f), sum_four(true, query, stored, dim)));
}

TARGET static void avx512_l2_many(const float *query, const float *const *stored, uint32_t n,
                                  uint32_t dim, float *ret)
{
    distance_by_fours(avx512_l2, four_l2, query, stored, n, dim, ret);
}
TARGET static void avx512_ip_many(const float *query, const float *const *stored, uint32_t n,
                                  uint32_t dim, float *ret)
{
    distance_by_fours(avx512_ip, four_ip, query, stored, n, dim, ret);
}

const struct distance_kernels distance_avx512 = {"avx512",       avx512_l2,      avx512_ip,
                                                 avx512_l2_many, avx512_ip_many, codes_many_avx512};
const struct distance_kernels distance_vnni = {"avx512vnni",   avx512_l2,      avx512_ip,
                                               avx512_l2_many, avx512_ip_many, codes_many_vnni};
