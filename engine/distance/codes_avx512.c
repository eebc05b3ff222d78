/* codes_avx512.c -- the kernels of codes_avx512.h for any number of rows. */
#include "engine/distance/codes_avx512.h"
#include "engine/distance/codes_by_fours.h"
#include "engine/distance/codes_levels.h"

CODES_AVX512(CODES_VNNI)
void four_vnni(const struct codes_query *q, const uint8_t *const *r, float *ret)
{
    _mm_storeu_ps(ret, codes_avx512_four_vnni(q, r, 0));
}

CODES_AVX512(CODES_BW)
void four_bw(const struct codes_query *q, const uint8_t *const *r, float *ret)
{
    _mm_storeu_ps(ret, codes_avx512_four_bw(q, r, 0));
}

__attribute__((target(CODES_VNNI))) void codes_many_vnni(const struct codes_query *query,
                                                         const uint8_t *const *rows, uint32_t n,
                                                         float *ret)
{
    CODES_BY_FOURS(four_vnni);
}

__attribute__((target(CODES_BW))) void codes_many_avx512(const struct codes_query *query,
                                                         const uint8_t *const *rows, uint32_t n,
                                                         float *ret)
{
    CODES_BY_FOURS(four_bw);
}
