/* codes_levels.h -- the kernels for codes, by level; dispatch.c and tests alone name them. */
#ifndef NAVMAP_ENGINE_DISTANCE_CODES_LEVELS_H
#define NAVMAP_ENGINE_DISTANCE_CODES_LEVELS_H

#include "engine/distance/codes.h"

/* Plain C; the definition that every other level is tested against. */
codes_many_fn codes_many_scalar;
/* Defined only where the compiler's target can have them. */
codes_many_fn codes_many_avx2;
codes_many_fn codes_many_avx512; /* AVX-512F and BW */
codes_many_fn codes_many_vnni;   /* and VNNI */
codes_many_fn codes_many_neon;   /* products of 16 bits */
codes_many_fn codes_many_dot;    /* SDOT, of the dotprod extension */

#endif
