/* codes_avx512.h -- the distances of four code rows with AVX-512, to be inlined.
 *
 * With VNNI, vpdpbusd adds four products of an unsigned and a signed byte to 32 bits without
 * saturation.  Rows are made unsigned by turning their highest bit over, which adds 128 to each
 * code and so 128 times the sum of the query's codes to the dot product; that is taken off again,
 * lane by lane.
 * Without VNNI both are widened to 16 bits, whose products vpmaddwd adds in pairs.  Either way the
 * sum is exact (codes.h, O1): 255 * 127 * 65,536 fits into 32 bits.
 */
#ifndef NAVMAP_ENGINE_DISTANCE_CODES_AVX512_H
#define NAVMAP_ENGINE_DISTANCE_CODES_AVX512_H

#include <immintrin.h>

#include "engine/distance/codes_sse.h"

#define CODES_BW "avx512f,avx512bw"
#define CODES_VNNI "avx512f,avx512bw,avx512vnni"
#define CODES_AVX512(t) __attribute__((target(t))) static inline __attribute__((always_inline))

CODES_AVX512(CODES_VNNI) __m512i codes_avx512_add_vnni(__m512i sum, __m512i c, const uint8_t *row)
{
    __m512i v = _mm512_loadu_si512((const void *)row);
    return _mm512_dpbusd_epi32(sum, _mm512_xor_si512(v, _mm512_set1_epi8((char)0x80)), c);
}

CODES_AVX512(CODES_VNNI) __m512i codes_avx512_add_squares(__m512i sum, const uint8_t *row)
{
    __m512i v = _mm512_abs_epi8(_mm512_loadu_si512((const void *)row));
    return _mm512_dpbusd_epi32(sum, v, v);
}

CODES_AVX512(CODES_BW) __m512i codes_avx512_widen(const void *bytes)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)bytes));
}

CODES_AVX512(CODES_BW)
__m512i codes_avx512_add_words(__m512i sum, __m512i low, __m512i high, const uint8_t *row)
{
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(low, codes_avx512_widen(row)));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(high, codes_avx512_widen(row + 32)));
}

CODES_AVX512(CODES_BW)
__m512i codes_avx512_add_word_squares(__m512i sum, const uint8_t *row)
{
    __m512i low = codes_avx512_widen(row), high = codes_avx512_widen(row + 32);
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(low, low));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(high, high));
}

/* Four sums of sixteen lanes each. */
CODES_AVX512(CODES_BW)
__m128i codes_avx512_fold_four(__m512i s0, __m512i s1, __m512i s2, __m512i s3)
{
    __m512i x = _mm512_add_epi32(_mm512_unpacklo_epi32(s0, s1), _mm512_unpackhi_epi32(s0, s1));
    __m512i y = _mm512_add_epi32(_mm512_unpacklo_epi32(s2, s3), _mm512_unpackhi_epi32(s2, s3));
    x = _mm512_add_epi32(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* `held`: rows hold their scales; `norms`: and norms are asked for. */
CODES_AVX512(CODES_VNNI)
__m128 codes_avx512_rows_vnni(const struct codes_query *q, const uint8_t *const *r, uint32_t bytes,
                              bool held, bool norms)
{
    const uint8_t *r0 = r[0], *r1 = r[1], *r2 = r[2], *r3 = r[3];
    const __m512i half = _mm512_set1_epi8((char)0x80);
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0, over = s0;
    __m512i n0 = _mm512_setzero_si512(), n1 = n0, n2 = n0, n3 = n0;
    for (uint32_t i = 0; i < bytes; i += 64) {
        __m512i c = _mm512_load_si512((const void *)(q->c + i));
        over = _mm512_dpbusd_epi32(over, half, c);
        s0 = codes_avx512_add_vnni(s0, c, r0 + i);
        s1 = codes_avx512_add_vnni(s1, c, r1 + i);
        s2 = codes_avx512_add_vnni(s2, c, r2 + i);
        s3 = codes_avx512_add_vnni(s3, c, r3 + i);
        if (norms) {
            n0 = codes_avx512_add_squares(n0, r0 + i);
            n1 = codes_avx512_add_squares(n1, r1 + i);
            n2 = codes_avx512_add_squares(n2, r2 + i);
            n3 = codes_avx512_add_squares(n3, r3 + i);
        }
    }
    s0 = _mm512_sub_epi32(s0, over);
    s1 = _mm512_sub_epi32(s1, over);
    s2 = _mm512_sub_epi32(s2, over);
    s3 = _mm512_sub_epi32(s3, over);
    const struct codes_scales of =
        held ? codes_sse_held(r, codes_avx512_fold_four(n0, n1, n2, n3)) : codes_sse_header(r);
    return codes_sse_finish(q, codes_avx512_fold_four(s0, s1, s2, s3), of);
}

CODES_AVX512(CODES_VNNI)
__m128 codes_avx512_four_vnni(const struct codes_query *q, const uint8_t *const *r, uint32_t lines)
{
    CODES_FOUR(codes_avx512_rows_vnni);
}

CODES_AVX512(CODES_BW)
__m128 codes_avx512_rows_bw(const struct codes_query *q, const uint8_t *const *r, uint32_t bytes,
                            bool held, bool norms)
{
    const uint8_t *r0 = r[0], *r1 = r[1], *r2 = r[2], *r3 = r[3];
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    __m512i n0 = _mm512_setzero_si512(), n1 = n0, n2 = n0, n3 = n0;
    for (uint32_t i = 0; i < bytes; i += 64) {
        __m512i low = codes_avx512_widen(q->c + i), high = codes_avx512_widen(q->c + i + 32);
        s0 = codes_avx512_add_words(s0, low, high, r0 + i);
        s1 = codes_avx512_add_words(s1, low, high, r1 + i);
        s2 = codes_avx512_add_words(s2, low, high, r2 + i);
        s3 = codes_avx512_add_words(s3, low, high, r3 + i);
        if (norms) {
            n0 = codes_avx512_add_word_squares(n0, r0 + i);
            n1 = codes_avx512_add_word_squares(n1, r1 + i);
            n2 = codes_avx512_add_word_squares(n2, r2 + i);
            n3 = codes_avx512_add_word_squares(n3, r3 + i);
        }
    }
    const struct codes_scales of =
        held ? codes_sse_held(r, codes_avx512_fold_four(n0, n1, n2, n3)) : codes_sse_header(r);
    return codes_sse_finish(q, codes_avx512_fold_four(s0, s1, s2, s3), of);
}

CODES_AVX512(CODES_BW)
__m128 codes_avx512_four_bw(const struct codes_query *q, const uint8_t *const *r, uint32_t lines)
{
    CODES_FOUR(codes_avx512_rows_bw);
}

#endif
