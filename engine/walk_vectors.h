/* walk_vectors.h -- the line of the beam with vectors of eight words, for walk_fast.h on x86-64.
 *
 * Needs WALK_TARGET, which has AVX2 in it.
 */
#include <immintrin.h>

#include "engine/pool.h"

#define POOL_INLINE WALK_INLINE WALK_TARGET

/* Halved down to 64 without a branch, which nobody could predict; then counted, all at once. */
POOL_INLINE uint32_t pool_count(const float *dists, uint32_t n, float d)
{
    uint32_t lo = 0;
    for (; n > 64;) {
        uint32_t half = (n + 1) / 2;
        lo += dists[lo + half - 1] <= d ? half : 0;
        n -= half;
    }
    const __m256 limit = _mm256_set1_ps(d);
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i += 8) {
        __m256 x = _mm256_loadu_ps(dists + lo + i); /* POOL_ROOM */
        uint32_t near = (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x, limit, _CMP_LE_OQ));
        uint32_t left = n - i < 8 ? n - i : 8;
        count += (uint32_t)__builtin_popcount(near & ((1u << left) - 1));
    }
    return lo + count;
}

/* From the top down, eight at a time; the last eight are taken again from where the others were,
 * before they are written. */
POOL_INLINE void pool_open(void *words, uint32_t lo, uint32_t n)
{
    uint32_t *w = words;
    for (; n - lo >= 8; n -= 8) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(w + n - 8));
        _mm256_storeu_si256((__m256i *)(void *)(w + n - 7), x);
    }
    for (; n > lo; n--)
        w[n] = w[n - 1];
}

#include "engine/pool_line.h"

POOL_INLINE void fast_put(struct pool *p, float dist, uint32_t id)
{
    if (dist < p->nearest.dist)
        p->nearest = (struct pool_entry){dist, id, POOL_WORD};
    if (p->n < POOL_LINE_MAX || p->n_results >= p->ef)
        pool_line_put(p, dist, id, POOL_WORD);
    else
        pool_offer(p, dist, id, POOL_WORD);
}

POOL_INLINE uint32_t walk_near(const float *four, float bound)
{
    return (uint32_t)_mm_movemask_ps(
        _mm_cmp_ps(_mm_loadu_ps(four), _mm_set1_ps(bound), _CMP_LT_OQ));
}
#define WALK_NEAR walk_near
