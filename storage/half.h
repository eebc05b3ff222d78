/* half.h -- IEEE 754 binary16, for vectors that are stored in half the room.
 *
 * H1  Rounding is to the nearest, ties to even, and subnormal halves are kept; widening is exact.
 *     So a number that has been a half stays what it is, however often it is stored.
 * H2  Integers do the work, but for one addition: no mode of the processor (flushing of subnormals,
 *     which some programs switch on) changes the outcome.
 */
#ifndef NAVMAP_STORAGE_HALF_H
#define NAVMAP_STORAGE_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HALF_MOST 65504.0f /* the largest one */

static inline float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, bits = (uint32_t)(half & 0x7fff) << 13;
    uint32_t exponent = bits & 0x0f800000u;
    float f;
    if (exponent == 0) { /* 2^-14 and the fraction, less 2^-14 */
        bits += 0x38800000u;
        memcpy(&f, &bits, sizeof f);
        f -= 0x1p-14f;
        memcpy(&bits, &f, sizeof bits);
    } else {
        bits += exponent == 0x0f800000u ? 0x70000000u : 0x38000000u;
    }
    bits |= sign;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* What lies beyond HALF_MOST by half a step or more becomes an infinity. */
static inline uint16_t half_of_float(float f)
{
    uint32_t bits, sign;
    memcpy(&bits, &f, sizeof bits);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00); /* a NaN */
    if (bits >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000u) { /* the last bit of 0.5 + x is 2^-24, that of a subnormal half */
        memcpy(&f, &bits, sizeof f);
        f += 0.5f;
        memcpy(&bits, &f, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    bits += 0xfffu + (bits >> 13 & 1);
    return (uint16_t)(sign | (bits - 0x38000000u) >> 13);
}

static inline void half_narrow(const float *v, size_t n, uint16_t *ret_halves)
{
    for (size_t i = 0; i < n; i++)
        ret_halves[i] = half_of_float(v[i]);
}

/* `halves` may be the last n of the 2n places that ret_v has for them. */
static inline void half_widen(const void *halves, size_t n, float *ret_v)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, (const uint8_t *)halves + 2 * i, sizeof half);
        float f = half_to_float(half);
        memcpy((uint8_t *)ret_v + 4 * i, &f, sizeof f);
    }
}

#endif
