/* walk_avx512.c -- walk_fast.inc for AVX-512 without VNNI. */
#include "engine/graph_inline.h"
#include "engine/walk_levels.h"

#include "engine/distance/codes_avx512.h"

#define WALK_TARGET __attribute__((target("avx2,bmi,bmi2," CODES_BW)))
#define WALK_STEP walk_step_avx512
#define WALK_STAGED walk_staged_avx512
#define WALK_FOUR codes_avx512_four_bw
#define WALK_WIDE
#include "engine/walk_vectors.inc"

#include "engine/walk_wide.inc"

#include "engine/walk_fast.inc"
