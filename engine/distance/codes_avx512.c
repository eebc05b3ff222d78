/* codes_avx512.c -- the kernels of codes_avx512.h for any number of rows. */
#include "engine/distance/codes_avx512.h"
#include "engine/distance/codes_by_fours.h"
#include "engine/distance/codes_levels.h"

__attribute__((target(CODES_VNNI))) void codes_many_vnni(const struct codes_query *query,
                                                         const uint8_t *const *rows, uint32_t n,
                                                         float *ret)
{
    CODES_BY_FOURS(codes_avx512_four_vnni);
}

__attribute__((target(CODES_BW))) void codes_many_avx512(const struct codes_query *query,
                                                         const uint8_t *const *rows, uint32_t n,
                                                         float *ret)
{
    CODES_BY_FOURS(codes_avx512_four_bw);
}
