/* rows_vecs.c -- .fvecs, .bvecs and .ivecs (corpus-texmex): each row with its length before it. */
#include <inttypes.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/rows.h"

static enum number type_of(const struct rows *r)
{
    return r->format[0] == 'f' ? F32 : r->format[0] == 'b' ? U8 : I32;
}

static uint32_t length_at(const struct rows *r, uint64_t row, size_t row_bytes)
{
    uint32_t n;
    memcpy(&n, r->bytes + row * row_bytes, sizeof n);
    return n;
}

static int read_vecs(struct rows *r, uint64_t first, uint64_t n, float *ret_vectors)
{
    const size_t row_bytes = 4 + r->dim * number_bytes(type_of(r));
    for (uint64_t i = 0; i < n; i++) {
        uint32_t found = length_at(r, first + i, row_bytes);
        if (found != r->dim)
            return cli_error("%s: row %" PRIu64 ": length: expected %" PRIu32 ", found %" PRIu32,
                             r->path, first + i, r->dim, found);
        numbers_as_floats(type_of(r), r->bytes + (first + i) * row_bytes + 4, r->dim,
                          ret_vectors + i * r->dim);
    }
    return EXIT_SOUND;
}

int rows_open_vecs(struct rows *r)
{
    int code = rows_map(r);
    if (code != EXIT_SOUND)
        return code;
    if (r->n_bytes < 4)
        return cli_error("%s: %zu bytes, expected a row", r->path, r->n_bytes);
    r->dim = length_at(r, 0, 0);
    code = r->dim >= 1 && r->dim <= 65536 ? EXIT_SOUND
                                          : cli_error("%s: row 0: length: expected 1 to 65536, "
                                                      "found %" PRIu32,
                                                      r->path, r->dim);
    if (code != EXIT_SOUND)
        return code;
    const size_t row_bytes = 4 + r->dim * number_bytes(type_of(r));
    if (r->n_bytes % row_bytes != 0)
        return cli_error("%s: size: expected a multiple of %zu bytes, found %zu", r->path,
                         row_bytes, r->n_bytes);
    r->n = r->n_bytes / row_bytes;
    r->read = read_vecs;
    return EXIT_SOUND;
}
