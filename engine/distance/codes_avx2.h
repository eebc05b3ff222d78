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

#include "engine/distance/codes_sse.h"

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

CODES_AVX2 __m256i codes_avx2_add_squares(__m256i sum, const uint8_t *row)
{
    __m256i v = _mm256_abs_epi8(_mm256_loadu_si256((const __m256i *)(const void *)row));
    return _mm256_add_epi32(sum,
                            _mm256_madd_epi16(_mm256_maddubs_epi16(v, v), _mm256_set1_epi16(1)));
}

/* `held`: rows hold their scales; `norms`: and norms are asked for. */
CODES_AVX2 __m128 codes_avx2_rows(const struct codes_query *q, const uint8_t *const *r,
                                  uint32_t bytes, bool held, bool norms)
{
    const uint8_t *r0 = r[0], *r1 = r[1], *r2 = r[2], *r3 = r[3];
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    __m256i n0 = s0, n1 = s0, n2 = s0, n3 = s0;
    for (uint32_t i = 0; i < bytes; i += 32) {
        __m256i c = _mm256_load_si256((const __m256i *)(const void *)(q->c + i));
        __m256i size = _mm256_abs_epi8(c);
        s0 = codes_avx2_add_products(s0, size, c, r0 + i);
        s1 = codes_avx2_add_products(s1, size, c, r1 + i);
        s2 = codes_avx2_add_products(s2, size, c, r2 + i);
        s3 = codes_avx2_add_products(s3, size, c, r3 + i);
        if (norms) {
            n0 = codes_avx2_add_squares(n0, r0 + i);
            n1 = codes_avx2_add_squares(n1, r1 + i);
            n2 = codes_avx2_add_squares(n2, r2 + i);
            n3 = codes_avx2_add_squares(n3, r3 + i);
        }
    }
    const struct codes_scales of =
        held ? codes_sse_held(r, codes_avx2_fold_four(n0, n1, n2, n3)) : codes_sse_header(r);
    return codes_sse_finish(q, codes_avx2_fold_four(s0, s1, s2, s3), of);
}

CODES_AVX2 __m128 codes_avx2_four(const struct codes_query *q, const uint8_t *const *r,
                                  uint32_t lines)
{
    CODES_FOUR(codes_avx2_rows);
}

#endif
