/* presort.h -- where the vectors of a large addition are to lie, before there is a graph: near ones
 * on the same pages, so that walks, those of the addition itself included, find on few pages what
 * they look at.
 *
 * k-means all the way down (D. Nister and H. Stewenius, "Scalable recognition with a vocabulary
 * tree", CVPR 2006, section 3): some vectors settle on up to sixteen centres, each vector goes to
 * the nearest of them, and each group is split by itself, down to a page or two.  A compaction has
 * the graph to go by (order.h), and takes a quarter of the time of adding; this takes a hundredth.
 *
 * I1  The places depend on the vectors and their order alone: groups are split independently of
 *     each other, each by one thread, and all levels of instructions measure alike (distance.h).
 * I2  It ends on any content: what no longer splits stays as it is, and no group is split more
 *     than DEPTH_MOST times.
 */
#ifndef NAVMAP_ENGINE_PRESORT_H
#define NAVMAP_ENGINE_PRESORT_H

#include <stdint.h>

#include "engine/crew.h"
#include "engine/distance/distance.h"
#include "storage/status.h"

#define PRESORT_PAGE 4096u

struct presort {
    uint32_t n;
    const float *vectors;            /* n * dim, finite */
    const struct distance *distance; /* l2 or cosine, of floats */
    uint32_t stride;                 /* bytes of each in what walks read most, not 0 */
    struct crew *crew;               /* NULL = this thread alone */
    uint32_t threads;
    navmap_status (*tick)(void *ctx); /* now and then, on the calling thread; NULL = none */
    void *ctx;
};

/* ret_order[i] = the vector at place i; each of 0 to n-1 once.  Cost: some 60 distances a vector,
 * and 5 bytes beside the order.  NAVMAP_ENOMEM, or what the tick returned. */
navmap_status presort(const struct presort *p, uint32_t *ret_order) NAVMAP_MUST_USE;

#endif
