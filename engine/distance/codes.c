/* codes.c -- vectors into codes, rows into queries, and the distance in plain C: the definition.
 *
 * One routine codes on every machine, with float operations that have one result each (no fused
 * multiplication, rounding to nearest, ties away from zero by hand).
 */
#include "engine/distance/codes.h"

#include <math.h>
#include <string.h>

#include "engine/distance/codes_levels.h"
#include "engine/navmap.h"

#define CODE_MOST 127.0f
#define SMALLEST 1e-35f /* below it 127 / max would not be a float */

/* D1: what a kernel reads may be written meanwhile. */
#define MAY_RACE __attribute__((no_sanitize("thread")))

/* Sizes of finite floats are in the order of their bits, and a compiler that may not reorder floats
 * makes vectors of integers. */
static float largest(const float *v, uint32_t dim)
{
    int32_t most = 0;
    float size;
    for (uint32_t i = 0; i < dim; i++) {
        int32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        bits &= INT32_MAX;
        most = bits > most ? bits : most;
    }
    memcpy(&size, &most, sizeof size);
    return size;
}

void codes_encode(const float *restrict v, uint32_t dim, uint32_t stride, uint8_t *restrict ret_row)
{
    float most = largest(v, dim), header[2] = {0, 0};
    memset(ret_row, 0, stride);
    if (most < SMALLEST)
        return;
    float inverse = CODE_MOST / most;
    /* Two loops that compilers make vectors of. */
    int8_t *c = (int8_t *)ret_row + CODES_HEADER;
    int32_t norm = 0; /* 127 * 127 * 65,536 fits */
    for (uint32_t i = 0; i < dim; i++) {
        float x = v[i] * inverse;
        c[i] = (int8_t)(int32_t)(x + copysignf(0.5f, x));
    }
    for (uint32_t i = 0; i < dim; i++)
        norm += c[i] * c[i];
    header[0] = most / CODE_MOST;
    header[1] = header[0] * header[0] * (float)norm;
    memcpy(ret_row, header, sizeof header);
}

MAY_RACE static void copy_row(const uint8_t *row, uint32_t stride, int8_t *ret)
{
#ifdef DISTANCE_TSAN_BUILD
    for (uint32_t i = 0; i < stride; i++)
        ret[i] = (int8_t)__atomic_load_n(row + i, __ATOMIC_RELAXED);
#else
    memcpy(ret, row, stride);
#endif
}

void codes_prepare(uint32_t space, const uint8_t *row, uint32_t stride,
                   struct codes_query *ret_query)
{
    float header[2];
    copy_row(row, stride, ret_query->c);
    memcpy(header, ret_query->c, sizeof header);
    memset(ret_query->c, 0, CODES_HEADER);
    ret_query->stride = stride;
    ret_query->scale = header[0];
    ret_query->norm = header[1];
    ret_query->weight = space == NAVMAP_L2 ? 1.0f : 0.0f;
    ret_query->base = space == NAVMAP_L2 ? header[1] : 1.0f;
    ret_query->mult = space == NAVMAP_L2 ? 2.0f * header[0] : header[0];
}

MAY_RACE static inline void read_header(const uint8_t *row, float *ret)
{
#ifdef DISTANCE_TSAN_BUILD
    uint8_t first[CODES_HEADER];
    for (uint32_t i = 0; i < CODES_HEADER; i++)
        first[i] = __atomic_load_n(row + i, __ATOMIC_RELAXED);
    memcpy(ret, first, sizeof first);
#else
    memcpy(ret, row, CODES_HEADER);
#endif
}

float codes_doubt(const struct codes_query *query, const uint8_t *row, float dist)
{
    float header[2];
    read_header(row, header);
    const float mine = query->scale * query->scale, other = header[0] * header[0];
    const float far = dist > 0 ? dist : 0;
    const float spread =
        query->weight > 0 ? 4 * far * (mine + other) : mine * header[1] + other * query->norm;
    return sqrtf(spread / 12); /* of what is even over one step */
}

MAY_RACE static float scalar_one(const struct codes_query *q, const uint8_t *row)
{
    float header[2];
    int32_t dot = 0;
    read_header(row, header);
#ifdef DISTANCE_TSAN_BUILD
    for (uint32_t i = CODES_HEADER; i < q->stride; i++)
        dot += q->c[i] * (int8_t)__atomic_load_n(row + i, __ATOMIC_RELAXED);
#else
    for (uint32_t i = 0; i < q->stride; i++) /* whole lines, so that it becomes vectors */
        dot += q->c[i] * (int8_t)row[i];
#endif
    return (q->base + q->weight * header[1]) - (q->mult * header[0]) * (float)dot;
}

void codes_many_scalar(const struct codes_query *query, const uint8_t *const *rows, uint32_t n,
                       float *ret)
{
    for (uint32_t i = 0; i < n; i++)
        ret[i] = scalar_one(query, rows[i]);
}
