/* avx2.c -- the kernels for AVX2: the sixteen accumulators are two registers.
 *
 * Instructions: AVX2, and F16C for halves, which the file asks for function by function; the rest
 * of the library is built for the base level, and no call comes here before dispatch.c has asked
 * the processor.  FMA is not asked for, so nothing can be fused.  Alignment: of a float.  Error: as
 * scalar.c, at most dim/16 + 5 roundings, and the same bits: the last dim mod 16 floats come by
 * masked loads, whose zeros leave an accumulator as it is.
 */
#include <immintrin.h>
#include <stdbool.h>

#include "engine/distance/codes_levels.h"
#include "engine/distance/fours.h"

#define TARGET __attribute__((target("avx2,f16c")))
#define INLINE TARGET DISTANCE_INLINE

/* Accumulators 0 to 7 and 8 to 15 of one vector. */
struct sums {
    __m256 low, high;
};

/* Sixteen numbers. */
struct block {
    __m256 low, high;
};

INLINE __m256 term(bool ip, __m256 x, __m256 y)
{
    __m256 d = _mm256_sub_ps(x, y);
    return ip ? _mm256_mul_ps(x, y) : _mm256_mul_ps(d, d);
}

INLINE struct block widen(__m256i halves)
{
    return (struct block){_mm256_cvtph_ps(_mm256_castsi256_si128(halves)),
                          _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))};
}

/* Those from the i-th. */
INLINE struct block load(bool half, const void *p, uint32_t i)
{
    if (half)
        return widen(_mm256_loadu_si256((const void *)((const uint16_t *)p + i)));
    const float *f = (const float *)p + i;
    return (struct block){_mm256_loadu_ps(f), _mm256_loadu_ps(f + 8)};
}

/* Pairs of halves by a masked load, and the last one, which may have no other, by itself. */
INLINE __m256i first_halves(const uint16_t *p, uint32_t n)
{
    const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i halves = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m256i pairs = _mm256_maskload_epi32(
        (const int *)(const void *)p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n / 2), places));
    __m256i is_last = _mm256_cmpeq_epi16(halves, _mm256_set1_epi16((short)(n - 1)));
    return _mm256_or_si256(pairs, _mm256_and_si256(is_last, _mm256_set1_epi16((short)p[n - 1])));
}

/* The first `n` of them, 1 to 15, and zeros.  What is masked out is not touched, wherever it would
 * lie. */
INLINE struct block load_first(bool half, const void *p, uint32_t i, uint32_t n)
{
    if (half)
        return widen(first_halves((const uint16_t *)p + i, n));
    const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i count = _mm256_set1_epi32((int)n), eight = _mm256_set1_epi32(8);
    const float *f = (const float *)p + i;
    return (struct block){
        _mm256_maskload_ps(f, _mm256_cmpgt_epi32(count, places)),
        _mm256_maskload_ps(f + 8, _mm256_cmpgt_epi32(_mm256_sub_epi32(count, eight), places))};
}

INLINE struct sums add(bool ip, struct sums s, struct block x, struct block y)
{
    return (struct sums){_mm256_add_ps(s.low, term(ip, x.low, y.low)),
                         _mm256_add_ps(s.high, term(ip, x.high, y.high))};
}

INLINE float sum_one(bool ip, bool half, const float *a, const void *b, uint32_t dim)
{
    struct sums s = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    uint32_t i = 0;
    for (; dim - i >= 16; i += 16)
        s = add(ip, s, load(false, a, i), load(half, b, i));
    if (dim > i)
        s = add(ip, s, load_first(false, a, i, dim - i), load_first(half, b, i, dim - i));
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

INLINE void sum_four(bool ip, bool half, const float *a, const void *const *b, uint32_t dim,
                     float *ret)
{
    const void *b0 = b[0], *b1 = b[1], *b2 = b[2], *b3 = b[3];
    struct sums s0 = {_mm256_setzero_ps(), _mm256_setzero_ps()}, s1 = s0, s2 = s0, s3 = s0;
    uint32_t i = 0;
    for (; dim - i >= 16; i += 16) {
        struct block x = load(false, a, i);
        s0 = add(ip, s0, x, load(half, b0, i));
        s1 = add(ip, s1, x, load(half, b1, i));
        s2 = add(ip, s2, x, load(half, b2, i));
        s3 = add(ip, s3, x, load(half, b3, i));
    }
    if (dim > i) {
        uint32_t n = dim - i;
        struct block x = load_first(false, a, i, n);
        s0 = add(ip, s0, x, load_first(half, b0, i, n));
        s1 = add(ip, s1, x, load_first(half, b1, i, n));
        s2 = add(ip, s2, x, load_first(half, b2, i, n));
        s3 = add(ip, s3, x, load_first(half, b3, i, n));
    }
    _mm_storeu_ps(ret, fold_four(s0, s1, s2, s3));
}

DISTANCE_LEVEL(TARGET, avx2)

const struct distance_kernels distance_avx2 = DISTANCE_TABLE("avx2", avx2, codes_many_avx2);
