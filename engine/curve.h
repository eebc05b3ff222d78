/* curve.h -- from recall to ef: the curve that ROOT keeps, made of measurements and read again.
 *
 * What is missed, 1 - recall, falls about as a power of ef, and ef grows as one of k: both are read
 * between two points on logarithmic scales.
 *
 * R1  A curve comes from a file, and beside a writer it may be half of an older one: whatever it
 *     holds, an ef comes out, of at most what a search bounds it by.
 */
#ifndef NAVMAP_ENGINE_CURVE_H
#define NAVMAP_ENGINE_CURVE_H

#include "storage/layout.h"

extern const double curve_recalls[LAYOUT_CURVE_POINTS]; /* rising */
extern const uint32_t curve_ks[LAYOUT_CURVES];

/* A ladder of beams with the recall that each had, climbed from the lowest. */
struct curve_climb {
    uint32_t reached;  /* points of the curve that are settled */
    double ef, missed; /* the rung before; 0 = this is the first */
};
/* The next rung: `missed` > 0 of what there is was not found with `ef`.  Settles what was reached
 * in ret_ef.  False when nothing is left to be reached. */
bool curve_climb(struct curve_climb *c, double ef, double missed,
                 uint16_t ret_ef[LAYOUT_CURVE_POINTS]);

/* The ef for k >= 1 results and 0 < recall <= the last of curve_recalls; 0 = it was not reached. */
uint32_t curve_ef(const struct disk_root *curve, uint64_t k, double recall);

#endif
