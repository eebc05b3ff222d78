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

/* Halves away from zero. */
static inline int32_t nearest(float x)
{
    return (int32_t)(x + copysignf(0.5f, x));
}

/* Loops that compilers make vectors of. */
static void code(const float *restrict v, uint32_t dim, float inverse, int8_t *restrict ret)
{
    for (uint32_t i = 0; i < dim; i++)
        ret[i] = (int8_t)nearest(v[i] * inverse);
}

static int32_t squares(const int8_t *c, uint32_t n)
{
    int32_t sum = 0; /* 127 * 127 * 65,536 fits */
    for (uint32_t i = 0; i < n; i++)
        sum += c[i] * c[i];
    return sum;
}

/* The scale that 16 bits can say: no sign, and 8 bits of the fraction. */
static float scale_of(uint32_t bits)
{
    float scale;
    bits <<= CODES_HELD_SHIFT;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

/* The least such that is no less. */
static uint32_t scale_bits(float scale)
{
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    return (bits + (1u << CODES_HELD_SHIFT) - 1) >> CODES_HELD_SHIFT;
}

static void encode_held(const float *v, uint32_t dim, float most, int8_t *c)
{
    const uint32_t bits = scale_bits(most / CODE_MOST);
    const float inverse = 1.0f / scale_of(bits);
    code(v, dim, inverse, c);
    for (uint32_t i = 0; i < CODES_HELD; i++) {
        const int32_t bit = bits >> i & 1;
        const int32_t near = 2 * nearest((v[i] * inverse - (float)bit) * 0.5f) + bit;
        c[i] = (int8_t)(near > 127 ? near - 2 : near < -127 ? near + 2 : near);
    }
}

void codes_encode(const float *restrict v, uint32_t dim, uint32_t stride, uint8_t *restrict ret_row)
{
    float most = largest(v, dim), header[2] = {0, 0};
    memset(ret_row, 0, stride);
    if (most < SMALLEST)
        return;
    if (codes_held(dim, stride)) {
        encode_held(v, dim, most, (int8_t *)ret_row);
        return;
    }
    int8_t *c = (int8_t *)ret_row + CODES_HEADER;
    code(v, dim, CODE_MOST / most, c);
    const int32_t norm = squares(c, dim);
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

static float held_scale(const int8_t *c)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < CODES_HELD; i++)
        bits |= (uint32_t)(c[i] & 1) << i;
    return scale_of(bits);
}

void codes_prepare(uint32_t space, const uint8_t *row, uint32_t dim, uint32_t stride,
                   struct codes_query *ret_query)
{
    float header[2];
    copy_row(row, stride, ret_query->c);
    ret_query->stride = stride;
    ret_query->held = codes_held(dim, stride);
    if (ret_query->held) {
        header[0] = held_scale(ret_query->c);
        header[1] = header[0] * header[0] * (float)squares(ret_query->c, stride);
        /* What holds a bit is off by up to one, four times the mean square of up to a half. */
        ret_query->error = (float)(dim + 3 * CODES_HELD) / (float)dim;
    } else {
        memcpy(header, ret_query->c, sizeof header);
        memset(ret_query->c, 0, CODES_HEADER);
        ret_query->error = 1;
    }
    ret_query->scale = header[0];
    ret_query->norm = header[1];
    ret_query->weight = space == NAVMAP_L2 ? 1.0f : 0.0f;
    ret_query->base = space == NAVMAP_L2 ? header[1] : 1.0f;
    ret_query->mult = space == NAVMAP_L2 ? 2.0f * header[0] : header[0];
}

MAY_RACE static inline int32_t code_at(const uint8_t *row, uint32_t i)
{
#ifdef DISTANCE_TSAN_BUILD
    return (int8_t)__atomic_load_n(row + i, __ATOMIC_RELAXED);
#else
    return (int8_t)row[i];
#endif
}

MAY_RACE static inline float float_at(const uint8_t *row, uint32_t at)
{
    uint8_t bytes[4];
    float f;
    for (uint32_t i = 0; i < 4; i++)
        bytes[i] = (uint8_t)code_at(row, at + i);
    memcpy(&f, bytes, sizeof f);
    return f;
}

MAY_RACE static inline float scale_at(const struct codes_query *q, const uint8_t *row)
{
    int8_t first[CODES_HELD];
    if (!q->held)
        return float_at(row, 0);
    for (uint32_t i = 0; i < CODES_HELD; i++)
        first[i] = (int8_t)code_at(row, i);
    return held_scale(first);
}

MAY_RACE static inline float norm_at(const struct codes_query *q, const uint8_t *row, float scale)
{
    int32_t sum = 0;
    if (!q->held)
        return float_at(row, 4);
    for (uint32_t i = 0; i < q->stride; i++) /* whole lines, so that it becomes vectors */
        sum += code_at(row, i) * code_at(row, i);
    return scale * scale * (float)sum;
}

float codes_doubt(const struct codes_query *query, const uint8_t *row, float dist)
{
    const float scale = scale_at(query, row);
    const float mine = query->scale * query->scale, other = scale * scale;
    const float far = dist > 0 ? dist : 0;
    const float spread = query->weight > 0
                             ? 4 * far * (mine + other)
                             : mine * norm_at(query, row, scale) + other * query->norm;
    return sqrtf(query->error * spread / 12); /* a twelfth: of what is even over one step */
}

MAY_RACE static float scalar_one(const struct codes_query *q, const uint8_t *row)
{
    const float scale = scale_at(q, row), norm = norm_at(q, row, scale);
    int32_t dot = 0;
    for (uint32_t i = 0; i < q->stride; i++)
        dot += q->c[i] * code_at(row, i);
    return (q->base + q->weight * norm) - (q->mult * scale) * (float)dot;
}

void codes_many_scalar(const struct codes_query *query, const uint8_t *const *rows, uint32_t n,
                       float *ret)
{
    for (uint32_t i = 0; i < n; i++)
        ret[i] = scalar_one(query, rows[i]);
}
