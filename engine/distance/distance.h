/* distance.h -- how far apart two vectors are: one function per metric and kind of number that is
 * stored, chosen once per handle.
 *
 * A kernel is a pure function of its two vectors and the dimension.  It reads exactly `dim` numbers
 * of each, needs no alignment beyond that of a number, and fixes the order of its additions: that
 * of float i goes to accumulator i mod 16, and the sixteen are folded by halves.  A kernel for
 * another instruction set that keeps this order, and fuses no multiplication with an addition,
 * gives the same bits; so a graph does not depend on the machine that built it.  (A NaN is a NaN:
 * which one is not promised.)  Of halves (storage/half.h) each is made the float that it is, which
 * is exact, and then all is as above: the distance is that of the vector widened beforehand.
 *
 * D1  The second vector may lie in a slot that the writer is rewriting.  The result is then any
 *     float, NaN included: a hint.  Callers use it to choose where to look, and re-check the slot's
 *     generation before they believe it.  Kernels are exempt from ThreadSanitizer for this reason;
 *     in its own build only the scalar level is offered, and it loads that vector by relaxed
 *     atomics, so no report is suppressed.
 */
#ifndef NAVMAP_ENGINE_DISTANCE_DISTANCE_H
#define NAVMAP_ENGINE_DISTANCE_DISTANCE_H

#include <float.h>
#include <stdint.h>

#include "engine/distance/codes.h"
#include "storage/status.h"

/* Smaller is nearer.  `stored` is a vector of the file or a stage (D1), floats or halves. */
typedef float distance_fn(const float *query, const void *stored, uint32_t dim);
/* ret[i] = the same function of (query, stored[i]), bit for bit, for i < n.  Several at a time, so
 * that their sums overlap, and while some are summed the lines of the next are fetched. */
typedef void distance_many_fn(const float *query, const void *const *stored, uint32_t n,
                              uint32_t dim, float *ret);

struct distance_kernels {
    const char *name; /* of the instruction set */
    distance_fn *l2;  /* sum of squared differences */
    distance_fn *ip;  /* 1 - dot product */
    distance_many_fn *l2_many;
    distance_many_fn *ip_many;
    codes_many_fn *codes; /* of codes, whatever the metric */
    distance_fn *l2_half; /* the same of stored halves */
    distance_fn *ip_half;
    distance_many_fn *l2_half_many;
    distance_many_fn *ip_half_many;
};

/* Plain C; the definition that every other level is tested against. */
extern const struct distance_kernels distance_scalar;
/* Defined only where the compiler's target can have them; dispatch.c alone names them. */
extern const struct distance_kernels distance_avx2;
extern const struct distance_kernels distance_avx512;
extern const struct distance_kernels distance_vnni; /* its codes only are other than avx512's */
extern const struct distance_kernels distance_neon;
extern const struct distance_kernels distance_dot; /* likewise, than neon's */

/* The levels that this machine and this build have, best first, scalar last; returns how many. */
#define DISTANCE_LEVELS_MAX 4u
uint32_t distance_levels(const struct distance_kernels *ret_levels[DISTANCE_LEVELS_MAX]);

/* Settle the level for the life of this process: the best one, or the one that the environment
 * variable NAVMAP_SIMD names (empty is unset).  Quick once it has succeeded.  Error: NAVMAP_EINVAL
 * when no such level is to be had; the sentence lists those that are, and the next call looks
 * again.  Opening calls this first, before anything is made on disk. */
navmap_status distance_settle(void) NAVMAP_MUST_USE;

/* What a handle needs, filled once when it is opened. */
struct distance {
    distance_fn *fn;
    distance_many_fn *many;
    codes_many_fn *codes;
    uint32_t dim;
    uint32_t bytes; /* of a stored vector */
    uint32_t space; /* enum navmap_space */
    int normalise;  /* cosine: vectors and queries are scaled to length one first */
    const char *name;
};

/* `space` is enum navmap_space as the file has it, `scalar` enum layout_scalar; returns -1 for a
 * space that is unknown.  The level is the settled one; before that, the one that distance_settle()
 * would take, else scalar. */
int distance_choose(uint32_t space, uint32_t scalar, uint32_t dim, struct distance *ret_distance);

/* v / (|v| + tiny), in float arithmetic and in the order hnswlib uses.  A zero vector stays zero.
 * The result is finite for finite input. */
void distance_normalise(const float *v, uint32_t dim, float *ret_v);

/* Index of the first NaN or infinity, or n. */
uint64_t distance_first_unfinite(const float *v, uint64_t n);

/* Stored halves as floats (D1). */
void distance_widen(const void *stored, uint32_t dim, float *ret_v);

/* Distances order candidates, so they must be comparable: NaN and +inf become the largest float. */
static inline float distance_hint(const struct distance *d, const float *query, const void *stored)
{
    float x = d->fn(query, stored, d->dim);
    return x < FLT_MAX ? x : FLT_MAX;
}

#endif
