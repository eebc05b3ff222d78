/* codes_by_fours.h -- any number of rows by a kernel for four. */
#ifndef NAVMAP_ENGINE_DISTANCE_CODES_BY_FOURS_H
#define NAVMAP_ENGINE_DISTANCE_CODES_BY_FOURS_H

/* The body of a codes_many_fn.  The last one to three are measured with some of them twice. */
#define CODES_BY_FOURS(four)                                                                       \
    for (; n >= 4; n -= 4, rows += 4, ret += 4)                                                    \
        four(query, rows, ret);                                                                    \
    if (n == 0)                                                                                    \
        return;                                                                                    \
    const uint8_t *rest[4] = {rows[0], rows[n > 1 ? 1 : 0], rows[n - 1], rows[n - 1]};             \
    float last[4];                                                                                 \
    four(query, rest, last);                                                                       \
    for (uint32_t i = 0; i < n; i++)                                                               \
    ret[i] = last[i]

#endif
