/* walk_vnni.c -- walk_fast.inc for AVX-512 with VNNI. */
#include "engine/graph_inline.h"
#include "engine/walk_levels.h"

#include "engine/distance/codes_avx512.h"

#define WALK_TARGET __attribute__((target("avx2,bmi,bmi2," CODES_VNNI)))
#define WALK_STEP walk_step_vnni
#define WALK_STAGED walk_staged_vnni
#define WALK_FOUR codes_avx512_four_vnni
#define WALK_WIDE
#include "engine/walk_vectors.inc"

#include "engine/walk_wide.inc"

#include "engine/walk_fast.inc"
