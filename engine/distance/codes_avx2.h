/* codes_avx2.h -- the distances of four code rows with AVX2, to be inlined.
 *
 * vpmaddubsw multiplies unsigned by signed bytes and adds neighbours into 16 bits.  With the sizes
 * of the query's codes as one factor, and the row's with the query's signs as the other, products
 * are what they should be, and a pair is at most 2 * 127 * 128, which 16 bits hold: nothing
 * saturates, the sum is exact (codes.h, O1).
 */
#ifndef NAVMAP_ENGINE_DISTANCE_CODES_AVX2_H
#define NAVMAP_ENGINE_DISTANCE_CODES_AVX2_H

#include <immintrin.h>

#include "engine/distance/codes.h"

#define CODES_AVX2 __attribute__((target("avx2"))) static inline __attribute__((always_inline))

CODES_AVX2 __m256i codes_avx2_add_products(__m256i sum, __m256i size, __m256i sign,
                                           const uint8_t *row)
{
    __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)row);
    __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(v, sign));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* Four sums of eight lanes each. */
CODES_AVX2 __m128i codes_avx2_fold_four(__m256i s0, __m256i s1, __m256i s2, __m256i s3)
{
    __m256i x = _mm256_hadd_epi32(_mm256_hadd_epi32(s0, s1), _mm256_hadd_epi32(s2, s3));
    return _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

CODES_AVX2 __m128i codes_avx2_header_of(const uint8_t *row)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)row);
}

CODES_AVX2 void codes_avx2_four(const struct codes_query *q, const uint8_t *const *r, float *ret)
{
    const uint8_t *r0 = r[0], *r1 = r[1], *r2 = r[2], *r3 = r[3];
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    for (uint32_t i = 0; i < q->stride; i += 32) {
        __m256i c = _mm256_load_si256((const __m256i *)(const void *)(q->c + i));
        __m256i size = _mm256_abs_epi8(c);
        s0 = codes_avx2_add_products(s0, size, c, r0 + i);
        s1 = codes_avx2_add_products(s1, size, c, r1 + i);
        s2 = codes_avx2_add_products(s2, size, c, r2 + i);
        s3 = codes_avx2_add_products(s3, size, c, r3 + i);
    }
    __m128 dot = _mm_cvtepi32_ps(codes_avx2_fold_four(s0, s1, s2, s3));
    __m128 x =
        _mm_castsi128_ps(_mm_unpacklo_epi32(codes_avx2_header_of(r0), codes_avx2_header_of(r1)));
    __m128 y =
        _mm_castsi128_ps(_mm_unpacklo_epi32(codes_avx2_header_of(r2), codes_avx2_header_of(r3)));
    __m128 scale = _mm_mul_ps(_mm_set1_ps(q->mult), _mm_movelh_ps(x, y));
    __m128 norm = _mm_mul_ps(_mm_set1_ps(q->weight), _mm_movehl_ps(y, x));
    norm = _mm_add_ps(_mm_set1_ps(q->base), norm);
    _mm_storeu_ps(ret, _mm_sub_ps(norm, _mm_mul_ps(scale, dot)));
}

#endif
