/* time_distance.h -- how long the kernels take; a measurement, not a test. */
#ifndef NAVMAP_TESTS_KERNEL_TIME_DISTANCE_H
#define NAVMAP_TESTS_KERNEL_TIME_DISTANCE_H

#include "engine/distance/distance.h"

/* One line for each level, metric and dimension.  Returns an exit status. */
int time_levels(const struct distance_kernels *const *levels, uint32_t n);

#endif
