/* fours.h -- the loop around a level's kernel for four vectors: what is summed, what fetched.
 *
 * Every level shares it, since it is about memory and not about instructions.  Four at a time is
 * what registers allow everywhere but on AVX-512, and there eight were not faster.  Fetching two or
 * four groups ahead instead of one gained nothing: one group of 400-byte vectors is 28 lines, more
 * than a core keeps on the way.  Nor did fetching line by line between the additions, which made
 * vectors that were cached slower by 40 %.  Fetching into the second level only lost a quarter.
 */
#ifndef NAVMAP_ENGINE_DISTANCE_FOURS_H
#define NAVMAP_ENGINE_DISTANCE_FOURS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/distance/distance.h"

#define DISTANCE_INLINE static inline __attribute__((always_inline))
#define DISTANCE_LINE 64
#define DISTANCE_LINES 8 /* asked for of one vector; the hardware streams the rest */

/* distance_many_fn for exactly four. */
typedef void distance_four_fn(const float *query, const void *const *stored, uint32_t dim,
                              float *ret);

/* Ask for the lines of a vector of `bytes`, the last one too when the vector begins in the middle
 * of a line.  gcc 12 takes all but the first prefetch out of some loops unless something that it
 * may not reorder stands between them; tests/lint/check_kernels.py looks at what became of this
 * one. */
DISTANCE_INLINE void distance_fetch(const void *v, uint32_t bytes)
{
    const char *line = (const char *)v - (uintptr_t)v % DISTANCE_LINE;
    const char *end = (const char *)v + bytes;
    if (end - line > DISTANCE_LINES * DISTANCE_LINE)
        end = line + DISTANCE_LINES * DISTANCE_LINE;
    do {
        __builtin_prefetch(line);
        atomic_signal_fence(memory_order_seq_cst);
        line += DISTANCE_LINE;
    } while (line < end);
}

/* The one to three that remain are summed singly: nothing ties them together, so the processor
 * overlaps them by itself. */
DISTANCE_INLINE void distance_by_fours(distance_fn *one, distance_four_fn *four, const float *query,
                                       const void *const *stored, uint32_t n, uint32_t dim,
                                       uint32_t bytes, float *ret)
{
    uint32_t fetched = 0;
    for (; fetched < n && fetched < 4; fetched++)
        distance_fetch(stored[fetched], bytes);
    for (; n >= 4; n -= 4, stored += 4, ret += 4) {
        for (fetched = 4; fetched < n && fetched < 8; fetched++)
            distance_fetch(stored[fetched], bytes);
        four(query, stored, dim, ret);
    }
    for (uint32_t i = 0; i < n; i++)
        ret[i] = one(query, stored[i], dim);
}

/* A level's three kernels of one metric and kind of number.  The level has
 *     float sum_one(bool ip, bool half, const float *query, const void *stored, uint32_t dim)
 *     void sum_four(bool ip, bool half, query, stored[4], dim, float *ret)
 * inlined, with the two flags as constants, and `attribute` on each function. */
#define DISTANCE_KERNELS(attribute, name, ip, half)                                                \
    attribute static float name(const float *query, const void *stored, uint32_t dim)              \
    {                                                                                              \
        float sum = sum_one(ip, half, query, stored, dim);                                         \
        return (ip) ? 1.0f - sum : sum;                                                            \
    }                                                                                              \
    attribute static void name##_four(const float *query, const void *const *stored, uint32_t dim, \
                                      float *ret)                                                  \
    {                                                                                              \
        sum_four(ip, half, query, stored, dim, ret);                                               \
        for (uint32_t i = 0; (ip) && i < 4; i++)                                                   \
            ret[i] = 1.0f - ret[i];                                                                \
    }                                                                                              \
    attribute static void name##_many(const float *query, const void *const *stored, uint32_t n,   \
                                      uint32_t dim, float *ret)                                    \
    {                                                                                              \
        distance_by_fours(name, name##_four, query, stored, n, dim, dim *((half) ? 2 : 4), ret);   \
    }

/* All of a level, and its table of them. */
#define DISTANCE_LEVEL(attribute, level)                                                           \
    DISTANCE_KERNELS(attribute, level##_l2, false, false)                                          \
    DISTANCE_KERNELS(attribute, level##_ip, true, false)                                           \
    DISTANCE_KERNELS(attribute, level##_l2_half, false, true)                                      \
    DISTANCE_KERNELS(attribute, level##_ip_half, true, true)
#define DISTANCE_TABLE(name, level, codes)                                                         \
    {                                                                                              \
        name, level##_l2, level##_ip, level##_l2_many, level##_ip_many, codes, level##_l2_half,    \
            level##_ip_half, level##_l2_half_many, level##_ip_half_many                            \
    }

#endif
