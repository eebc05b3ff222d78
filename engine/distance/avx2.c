/* avx2.c -- the kernels for AVX2: the sixteen accumulators are two registers.
 *
 * Instructions: AVX2, which the file asks for function by function; the rest of the library is
 * built for the base level, and no call comes here before dispatch.c has asked the processor.  FMA
 * is not asked for, so nothing can be fused.  Alignment: of a float.  Error: as scalar.c, at most
 * dim/16 + 5 roundings, and the same bits: the last dim mod 16 floats come by masked loads, whose
 * zeros leave an accumulator as it is.
 */
#include <immintrin.h>
#include <stdbool.h>

#include "engine/distance/codes_levels.h"
#include "engine/distance/fours.h"

#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET DISTANCE_INLINE

/* Accumulators 0 to 7 and 8 to 15 of one vector. */
struct sums {
    __m256 low, high;
};

/* The last 1 to 15 floats: which of the first eight exist, and which of the next. */
struct rest {
    __m256i low, high;
};

INLINE __m256 term(bool ip, __m256 x, __m256 y)
{
    __m256 d = _mm256_sub_ps(x, y);
    return ip ? _mm256_mul_ps(x, y) : _mm256_mul_ps(d, d);
}

INLINE struct rest rest_of(uint32_t n)
{
    const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i count = _mm256_set1_epi32((int)n);
    return (struct rest){_mm256_cmpgt_epi32(count, places),
                         _mm256_cmpgt_epi32(_mm256_sub_epi32(count, _mm256_set1_epi32(8)), places)};
}

INLINE struct sums add_block(bool ip, struct sums s, __m256 low, __m256 high, const float *b)
{
    return (struct sums){_mm256_add_ps(s.low, term(ip, low, _mm256_loadu_ps(b))),
                         _mm256_add_ps(s.high, term(ip, high, _mm256_loadu_ps(b + 8)))};
}

/* A masked-out float is not touched, wherever it would lie. */
INLINE struct sums add_rest(bool ip, struct sums s, struct rest r, __m256 low, __m256 high,
                            const float *b)
{
    return (struct sums){_mm256_add_ps(s.low, term(ip, low, _mm256_maskload_ps(b, r.low))),
                         _mm256_add_ps(s.high, term(ip, high, _mm256_maskload_ps(b + 8, r.high)))};
}

INLINE float sum_one(bool ip, const float *a, const float *b, uint32_t dim)
{
    struct sums s = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (; dim >= 16; dim -= 16, a += 16, b += 16)
        s = add_block(ip, s, _mm256_loadu_ps(a), _mm256_loadu_ps(a + 8), b);
    if (dim > 0) {
        struct rest r = rest_of(dim);
        s = add_rest(ip, s, r, _mm256_maskload_ps(a, r.low), _mm256_maskload_ps(a + 8, r.high), b);
    }
    __m256 eight = _mm256_add_ps(s.low, s.high);
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

/* Halves of 128 bits: [x0 x1], [y0 y1] -> [x0+x1 y0+y1]. */
INLINE __m256 fold_pair(__m256 x, __m256 y)
{
    return _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
}

/* The same folds by halves as of one vector, for four at once. */
INLINE __m128 fold_four(struct sums s0, struct sums s1, struct sums s2, struct sums s3)
{
    __m256 x = fold_pair(_mm256_add_ps(s0.low, s0.high), _mm256_add_ps(s1.low, s1.high));
    __m256 y = fold_pair(_mm256_add_ps(s2.low, s2.high), _mm256_add_ps(s3.low, s3.high));
    /* Vectors 0 and 2 in the lower half, 1 and 3 in the upper. */
    x = _mm256_add_ps(_mm256_shuffle_ps(x, y, 0x44), _mm256_shuffle_ps(x, y, 0xee));
    x = _mm256_add_ps(x, _mm256_permute_ps(x, 0xb1));
    __m128 even = _mm256_castps256_ps128(x), odd = _mm256_extractf128_ps(x, 1);
    return _mm_permute_ps(_mm_shuffle_ps(even, odd, 0x88), 0xd8);
}

INLINE __m128 sum_four(bool ip, const float *a, const float *const *b, uint32_t dim)
{
    const float *b0 = b[0], *b1 = b[1], *b2 = b[2], *b3 = b[3];
    struct sums s0 = {_mm256_setzero_ps(), _mm256_setzero_ps()}, s1 = s0, s2 = s0, s3 = s0;
    uint32_t i = 0;
    for (; dim - i >= 16; i += 16) {
        __m256 low = _mm256_loadu_ps(a + i), high = _mm256_loadu_ps(a + i + 8);
        s0 = add_block(ip, s0, low, high, b0 + i);
        s1 = add_block(ip, s1, low, high, b1 + i);
        s2 = add_block(ip, s2, low, high, b2 + i);
        s3 = add_block(ip, s3, low, high, b3 + i);
    }
    if (dim > i) {
        struct rest r = rest_of(dim - i);
        __m256 low = _mm256_maskload_ps(a + i, r.low);
        __m256 high = _mm256_maskload_ps(a + i + 8, r.high);
        s0 = add_rest(ip, s0, r, low, high, b0 + i);
        s1 = add_rest(ip, s1, r, low, high, b1 + i);
        s2 = add_rest(ip, s2, r, low, high, b2 + i);
        s3 = add_rest(ip, s3, r, low, high, b3 + i);
    }
    return fold_four(s0, s1, s2, s3);
}

TARGET static float avx2_l2(const float *query, const float *stored, uint32_t dim)
{
    return sum_one(false, query, stored, dim);
}
TARGET static float avx2_ip(const float *query, const float *stored, uint32_t dim)
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

TARGET static void avx2_l2_many(const float *query, const float *const *stored, uint32_t n,
                                uint32_t dim, float *ret)
{
    distance_by_fours(avx2_l2, four_l2, query, stored, n, dim, ret);
}
TARGET static void avx2_ip_many(const float *query, const float *const *stored, uint32_t n,
                                uint32_t dim, float *ret)
{
    distance_by_fours(avx2_ip, four_ip, query, stored, n, dim, ret);
}

const struct distance_kernels distance_avx2 = {"avx2",       avx2_l2,      avx2_ip,
                                               avx2_l2_many, avx2_ip_many, codes_many_avx2};
