/* codes_avx2.c -- the kernel of codes_avx2.h for any number of rows. */
#include "engine/distance/codes_avx2.h"
#include "engine/distance/codes_by_fours.h"
#include "engine/distance/codes_levels.h"

CODES_AVX2 void four_avx2(const struct codes_query *q, const uint8_t *const *r, float *ret)
{
    _mm_storeu_ps(ret, codes_avx2_four(q, r, 0));
}

__attribute__((target("avx2"))) void codes_many_avx2(const struct codes_query *query,
                                                     const uint8_t *const *rows, uint32_t n,
                                                     float *ret)
{
    CODES_BY_FOURS(four_avx2);
}
