/* codes_sse.h -- what is left of four distances when their products are summed; for all levels of
 * x86, to be inlined.
 */
#ifndef NAVMAP_ENGINE_DISTANCE_CODES_SSE_H
#define NAVMAP_ENGINE_DISTANCE_CODES_SSE_H

#include <immintrin.h>

#include "engine/distance/codes.h"

#define CODES_SSE static inline __attribute__((always_inline))

/* The body of a kernel for four rows of `lines`, 0 if that is no constant, by one that is told how
 * many bytes they are, whether they hold their scales, and whether norms are asked for. */
#define CODES_FOUR(rows)                                                                           \
    const uint32_t bytes = lines != 0 ? lines * CODES_LINE : q->stride;                            \
    if (!q->held)                                                                                  \
        return rows(q, r, bytes, false, false);                                                    \
    return q->weight == 0 ? rows(q, r, bytes, true, false) : rows(q, r, bytes, true, true)

/* Of four rows. */
struct codes_scales {
    __m128 scale, norm;
};

CODES_SSE __m128i codes_sse_eight(const uint8_t *row)
{
    return _mm_loadl_epi64((const __m128i *)(const void *)row);
}

CODES_SSE struct codes_scales codes_sse_header(const uint8_t *const *r)
{
    __m128 x = _mm_castsi128_ps(_mm_unpacklo_epi32(codes_sse_eight(r[0]), codes_sse_eight(r[1])));
    __m128 y = _mm_castsi128_ps(_mm_unpacklo_epi32(codes_sse_eight(r[2]), codes_sse_eight(r[3])));
    return (struct codes_scales){_mm_movelh_ps(x, y), _mm_movehl_ps(y, x)};
}

/* The lowest bits of the first 16 codes. */
CODES_SSE int codes_sse_bits(const uint8_t *row)
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)row);
    return _mm_movemask_epi8(_mm_slli_epi16(v, 7));
}

CODES_SSE struct codes_scales codes_sse_held(const uint8_t *const *r, __m128i squares)
{
    __m128i bits = _mm_setr_epi32(codes_sse_bits(r[0]), codes_sse_bits(r[1]), codes_sse_bits(r[2]),
                                  codes_sse_bits(r[3]));
    __m128 scale = _mm_castsi128_ps(_mm_slli_epi32(bits, CODES_HELD_SHIFT));
    return (struct codes_scales){scale,
                                 _mm_mul_ps(_mm_mul_ps(scale, scale), _mm_cvtepi32_ps(squares))};
}

CODES_SSE __m128 codes_sse_finish(const struct codes_query *q, __m128i sums, struct codes_scales of)
{
    __m128 scale = _mm_mul_ps(_mm_set1_ps(q->mult), of.scale);
    __m128 norm = _mm_mul_ps(_mm_set1_ps(q->weight), of.norm);
    norm = _mm_add_ps(_mm_set1_ps(q->base), norm);
    return _mm_sub_ps(norm, _mm_mul_ps(scale, _mm_cvtepi32_ps(sums)));
}

#endif
