/* codes.h -- eight-bit codes: what a walk over the graph measures with.
 *
 * A vector x is kept as c = round(127 x / max|x|), one signed byte a dimension, next to the two
 * floats that a distance needs of it, all in one row of whole cache lines (FORMAT.md, section 7,
 * "code row").  Nothing is trained: a row is a function of its vector alone, so it can be written,
 * moved and dropped at any time (per-vector scales: Aguerrebere et al., "Similarity search in the
 * blink of an eye with compressed indices", 2023, section 3, without its centring).
 *
 *     scale f32, norm f32, dim bytes, zeros       x' = scale * c, norm = |x'|^2
 *
 * Where these 8 bytes would cost a line (dim is a multiple of 64, or little less) there are none,
 * and a row that is read at random is a line less to wait for: the scale, of 16 bits, is in the
 * lowest bits of the first 16 codes, which are the nearest with that bit, and the norm is summed
 * with the product.  The scale is held, then.
 *
 *     distance = (base + weight * norm) - (mult * scale) * dot
 *
 *     l2           base = norm of the query, weight = 1, mult = 2 * scale of the query: distance
 *                  of the two coded vectors
 *     ip, cosine   base = 1, weight = 0, mult = scale of the query
 *
 * So a row does not depend on the metric, of which a file may get another one when it is loaded.
 *
 * O1  The dot product is one of integers, exact at every level, and the floats around it are
 *     rounded in the order above: all levels give the same bits, so does either of two rows as the
 *     query, and the distance of a row to itself is that of any copy.
 * O2  A row that is being rewritten, or damaged, gives any float, NaN included: a hint (distance.h,
 *     D1).  Of a byte -128, which no sound row has, levels may make different things.
 * O3  Kernels read whole rows; the query has zeros where a row has its floats and its padding.
 *     Where rows have no floats their padding is zeros, for the sum of squares.  In
 *     the file a row begins on a line, which is what makes it quick; in a stage it need not.
 */
#ifndef NAVMAP_ENGINE_DISTANCE_CODES_H
#define NAVMAP_ENGINE_DISTANCE_CODES_H

#include <stdbool.h>
#include <stdint.h>

/* See distance.h, D1. */
#if defined(__SANITIZE_THREAD__)
#define DISTANCE_TSAN_BUILD 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DISTANCE_TSAN_BUILD 1
#endif
#endif

#define CODES_LINE 64u
#define CODES_HEADER 8u /* scale, norm */
#define CODES_HELD 16u  /* codes that hold a bit of the scale */
#define CODES_HELD_SHIFT 15

/* layout.h, code_scheme and code_header, of rows that are made for `dim` numbers. */
enum { CODES_SCHEME = 1, CODES_SCHEME_HELD = 2 };
static inline uint32_t codes_header(uint32_t dim)
{
    const uint32_t bare = (dim + CODES_LINE - 1) / CODES_LINE * CODES_LINE;
    return dim + CODES_HEADER > bare ? 0 : CODES_HEADER;
}
static inline uint32_t codes_scheme(uint32_t dim)
{
    return codes_header(dim) ? CODES_SCHEME : CODES_SCHEME_HELD;
}
/* Is the scale of such a row in its codes? */
static inline bool codes_held(uint32_t dim, uint32_t stride)
{
    return stride < dim + CODES_HEADER;
}
/* Are these rows of a kind that is known here? */
static inline bool codes_known(uint32_t dim, uint32_t scheme, uint32_t header)
{
    return scheme == CODES_SCHEME ? header == CODES_HEADER
                                  : scheme == CODES_SCHEME_HELD && header == 0 &&
                                        codes_scheme(dim) == CODES_SCHEME_HELD;
}

/* A row made ready to be compared with many. */
struct codes_query {
    float base, weight, mult;
    uint32_t stride;
    bool held;                       /* rows hold their scale in their codes */
    float scale, norm;               /* of the row that it was */
    float error;                     /* mean square of what a code is off, in twelfths */
    _Alignas(CODES_LINE) int8_t c[]; /* stride bytes (O3) */
};

/* Bytes of a query for rows of `stride` bytes; a multiple of the alignment. */
static inline uint64_t codes_query_bytes(uint32_t stride)
{
    return sizeof(struct codes_query) + stride;
}

/* ret[i] = distance of the query to rows[i], i < n; rows are `stride` bytes (O3). */
typedef void codes_many_fn(const struct codes_query *query, const uint8_t *const *rows, uint32_t n,
                           float *ret);

/* The row of a vector.  Finite input; one whose elements are all below 1e-35 in size is coded as
 * zero. */
void codes_encode(const float *v, uint32_t dim, uint32_t stride, uint8_t *ret_row);
/* By how much `dist`, from a query to a row by their codes, is usually off: the standard deviation,
 * were each element's rounding error by chance.  An error of e a dimension changes a square of a
 * difference x by 2 x e, and a product by the other factor times e. */
float codes_doubt(const struct codes_query *query, const uint8_t *row, float dist);
/* The query of a row, which may be one that is being rewritten (O2); `space` is enum
 * navmap_space. */
void codes_prepare(uint32_t space, const uint8_t *row, uint32_t dim, uint32_t stride,
                   struct codes_query *ret_query);

#endif
