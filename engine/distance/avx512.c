/* avx512.c -- the kernels for AVX-512: the sixteen accumulators are one register.
 *
 * Instructions: AVX-512F, and BW for the last halves, which the file asks for function by function;
 * the rest of the library is built for the base level, and no call comes here before dispatch.c has
 * asked the processor.  Alignment: of a float; a vector that begins at a multiple of 64 bytes saves
 * half of the line crossings.  Error: as scalar.c, dim/16 + 5 roundings, and the same bits:
 * multiplication and addition stay apart (-ffp-contract=off holds for intrinsics too), and the last
 * dim mod 16 floats come by a masked load, whose zeros leave an accumulator as it is.
 */
#include <immintrin.h>
#include <stdbool.h>

#include "engine/distance/codes_levels.h"
#include "engine/distance/fours.h"

#define TARGET __attribute__((target("avx512f,avx512bw")))
#define INLINE TARGET DISTANCE_INLINE

INLINE __m512 term(bool ip, __m512 x, __m512 y)
{
    __m512 d = _mm512_sub_ps(x, y);
    return ip ? _mm512_mul_ps(x, y) : _mm512_mul_ps(d, d);
}

/* Sixteen numbers from the i-th. */
INLINE __m512 load(bool half, const void *p, uint32_t i)
{
    if (half)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)((const uint16_t *)p + i)));
    return _mm512_loadu_ps((const float *)p + i);
}

/* The first `n` of them, 1 to 15, and zeros; the others are not touched. */
INLINE __m512 load_first(bool half, const void *p, uint32_t i, uint32_t n)
{
    if (half) {
        __m512i halves =
            _mm512_maskz_loadu_epi16((__mmask32)((1u << n) - 1), (const uint16_t *)p + i);
        return _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
    }
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), (const float *)p + i);
}

INLINE float sum_one(bool ip, bool half, const float *a, const void *b, uint32_t dim)
{
    __m512 s = _mm512_setzero_ps();
    uint32_t i = 0;
    for (; dim - i >= 16; i += 16)
        s = _mm512_add_ps(s, term(ip, load(false, a, i), load(half, b, i)));
    if (dim > i) {
        uint32_t n = dim - i;
        s = _mm512_add_ps(s, term(ip, load_first(false, a, i, n), load_first(half, b, i, n)));
    }
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

INLINE void sum_four(bool ip, bool half, const float *a, const void *const *b, uint32_t dim,
                     float *ret)
{
    const void *b0 = b[0], *b1 = b[1], *b2 = b[2], *b3 = b[3];
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    uint32_t i = 0;
    for (; dim - i >= 16; i += 16) {
        __m512 x = load(false, a, i);
        s0 = _mm512_add_ps(s0, term(ip, x, load(half, b0, i)));
        s1 = _mm512_add_ps(s1, term(ip, x, load(half, b1, i)));
        s2 = _mm512_add_ps(s2, term(ip, x, load(half, b2, i)));
        s3 = _mm512_add_ps(s3, term(ip, x, load(half, b3, i)));
    }
    if (dim > i) {
        uint32_t n = dim - i;
        __m512 x = load_first(false, a, i, n);
        s0 = _mm512_add_ps(s0, term(ip, x, load_first(half, b0, i, n)));
        s1 = _mm512_add_ps(s1, term(ip, x, load_first(half, b1, i, n)));
        s2 = _mm512_add_ps(s2, term(ip, x, load_first(half, b2, i, n)));
        s3 = _mm512_add_ps(s3, term(ip, x, load_first(half, b3, i, n)));
    }
    _mm_storeu_ps(ret, fold_four(s0, s1, s2, s3));
}

DISTANCE_LEVEL(TARGET, avx512)

const struct distance_kernels distance_avx512 = DISTANCE_TABLE("avx512", avx512, codes_many_avx512);
const struct distance_kernels distance_vnni = DISTANCE_TABLE("avx512vnni", avx512, codes_many_vnni);
