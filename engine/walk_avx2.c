/* walk_avx2.c -- walk_fast.inc for AVX2. */
#include "engine/graph_inline.h"
#include "engine/walk_levels.h"

#include "engine/distance/codes_avx2.h"

#define WALK_TARGET __attribute__((target("avx2,bmi,bmi2")))
#define WALK_STEP walk_step_avx2
#define WALK_STAGED walk_staged_avx2
#define WALK_FOUR codes_avx2_four
#include "engine/walk_vectors.inc"

#include "engine/walk_fast.inc"
