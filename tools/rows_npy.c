/* rows_npy.c -- vectors in NumPy's .npy: float32 where it lies, other numbers converted. */
#include <stdlib.h>

#include "tools/cli.h"
#include "tools/npy.h"
#include "tools/rows.h"

struct state {
    struct npy npy;
};

static int read_npy(struct rows *r, uint64_t first, uint64_t n, float *ret_vectors)
{
    const struct state *s = r->state;
    const size_t row = r->dim * number_bytes(s->npy.type);
    numbers_as_floats(s->npy.type, r->bytes + s->npy.offset + first * row, n * r->dim, ret_vectors);
    return EXIT_SOUND;
}

static void close_npy(struct rows *r)
{
    free(r->state);
}

int rows_open_npy(struct rows *r)
{
    int code = rows_map(r);
    struct state *s = code == EXIT_SOUND ? calloc(1, sizeof *s) : NULL;
    if (code != EXIT_SOUND)
        return code;
    if (s == NULL)
        return cli_error("%s: out of memory", r->path);
    r->state = s;
    r->close = close_npy;
    r->read = read_npy;
    code = npy_parse(r->path, r->bytes, r->n_bytes, &s->npy);
    if (code != EXIT_SOUND)
        return code;
    r->n = s->npy.dimensions == 2 ? s->npy.rows : 1; /* one vector by itself */
    r->dim = (uint32_t)(s->npy.dimensions == 2 ? s->npy.columns : s->npy.rows);
    if ((s->npy.dimensions == 2 ? s->npy.columns : s->npy.rows) > UINT32_MAX)
        return cli_error("%s: rows are too long", r->path);
    if (s->npy.type == F32 && s->npy.offset % sizeof(float) == 0)
        r->mapped = (const float *)(const void *)(r->bytes + s->npy.offset);
    return EXIT_SOUND;
}
