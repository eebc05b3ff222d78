/* rows_faiss.c -- the vectors of a faiss index: IndexHNSWFlat or IndexFlat, by itself or within an
 * IndexIDMap.
 *
 * faiss (write_index) writes a word of four letters that names the class, a head, then the members
 * one after the other, vectors of numbers with their count before them.  The flat storage of an
 * HNSW index is a whole index in its place.
 *
 *     head   i32 dimensions, i64 vectors, i64, i64, u8 trained, i32 metric (0 ip, 1 l2)
 *     IHNf   head, f64[] , i32[] neighbours up to each level, i32[], u64[], i32[],
 *            i32 entry, i32 top, i32 ef_construction, i32, i32, then the storage
 *     IxF2, IxFI   head, f32[]
 *     IxMp, IxM2   head, an index, i64[] labels
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/rows.h"

struct state {
    const uint8_t *vectors;
    const uint8_t *labels; /* NULL = counted */
    /* The graph: levels of each row, counted from 1; where its neighbours begin, 2 M of level 0 and
     * then M of each, -1 behind the last of a level; all neighbours. */
    const uint8_t *levels, *offsets, *neighbours;
    uint64_t n_neighbours;
    struct rows_links links;
};

struct cursor {
    struct rows *r;
    size_t at;
    int nested;
};

static int cut_short(const struct cursor *c, uint64_t n)
{
    return cli_error("%s: the file ends at byte %zu, expected %" PRIu64 " bytes at %zu", c->r->path,
                     c->r->n_bytes, n, c->at);
}

static int take(struct cursor *c, size_t n, const uint8_t **ret_bytes)
{
    if (n > c->r->n_bytes - c->at)
        return cut_short(c, n);
    *ret_bytes = c->r->bytes + c->at;
    c->at += n;
    return EXIT_SOUND;
}

/* A vector of numbers: how many, and where. */
static int take_vector(struct cursor *c, size_t size, const uint8_t **ret_numbers, uint64_t *ret_n)
{
    const uint8_t *bytes = NULL;
    uint64_t n = 0;
    if (take(c, sizeof n, &bytes) != EXIT_SOUND)
        return EXIT_UNABLE;
    memcpy(&n, bytes, sizeof n);
    if (n > (c->r->n_bytes - c->at) / size)
        return cut_short(c, n);
    *ret_n = n;
    return take(c, n * size, ret_numbers);
}

static int take_i32(struct cursor *c, int32_t *ret_number)
{
    const uint8_t *bytes = NULL;
    if (take(c, sizeof *ret_number, &bytes) != EXIT_SOUND)
        return EXIT_UNABLE;
    memcpy(ret_number, bytes, sizeof *ret_number);
    return EXIT_SOUND;
}

static int read_head(struct cursor *c)
{
    struct rows *r = c->r;
    const uint8_t *bytes = NULL;
    int32_t dim = 0, metric = 0;
    uint64_t n = 0;
    if (take(c, 33, &bytes) != EXIT_SOUND)
        return EXIT_UNABLE;
    memcpy(&dim, bytes, sizeof dim);
    memcpy(&n, bytes + 4, sizeof n);
    memcpy(&metric, bytes + 29, sizeof metric);
    if (dim < 1 || (r->dim != 0 && (r->dim != (uint32_t)dim || r->n != n)))
        return cli_error("%s: byte %zu: expected %" PRIu64 " vectors of %" PRIu32
                         " dimensions, found %" PRIu64 " of %" PRId32,
                         r->path, c->at - 33, r->n, r->dim, n, dim);
    if (metric != 0 && metric != 1)
        return cli_error("%s: metric: expected 0 (inner product) or 1 (L2), found %" PRId32,
                         r->path, metric);
    r->dim = (uint32_t)dim;
    r->n = n;
    r->has_space = true;
    r->space = metric == 0 ? NAVMAP_IP : NAVMAP_L2;
    return EXIT_SOUND;
}

static int read_index(struct cursor *c);

static int32_t i32_at(const uint8_t *numbers, uint64_t i)
{
    int32_t x;
    memcpy(&x, numbers + 4 * i, sizeof x);
    return x;
}

static uint64_t u64_at(const uint8_t *numbers, uint64_t i)
{
    uint64_t x;
    memcpy(&x, numbers + 8 * i, sizeof x);
    return x;
}

static uint32_t level_of(const struct rows *r, uint64_t i)
{
    const struct state *s = r->state;
    return (uint32_t)i32_at(s->levels, i) - 1;
}

static uint32_t links_of(const struct rows *r, uint64_t i, uint32_t level, uint32_t *ret_rows)
{
    const struct state *s = r->state;
    const uint32_t M = s->links.M, width = level == 0 ? 2 * M : M;
    const uint64_t at = u64_at(s->offsets, i) + (level == 0 ? 0 : (level + 1ull) * M);
    uint32_t n = 0;
    while (n < width && i32_at(s->neighbours, at + n) >= 0) {
        ret_rows[n] = (uint32_t)i32_at(s->neighbours, at + n);
        n++;
    }
    return n;
}

/* Does each row have its neighbours within the list of them?  Where not, the vectors are all that
 * there is. */
static bool in_bounds(const struct rows *r, const struct state *s)
{
    for (uint64_t i = 0; i < r->n; i++) {
        const int32_t levels = i32_at(s->levels, i);
        const uint64_t at = u64_at(s->offsets, i);
        if (levels < 1 || levels > 64 || at > s->n_neighbours ||
            (levels + 1ull) * s->links.M > s->n_neighbours - at)
            return false;
    }
    return true;
}

static void take_links(struct rows *r, uint64_t n_levels, uint64_t n_offsets, int32_t entry,
                       int32_t top)
{
    struct state *s = r->state;
    s->links = (struct rows_links){.M = r->M,
                                   .top = (uint32_t)top,
                                   .entry = (uint32_t)entry,
                                   .level = level_of,
                                   .row = links_of};
    if (r->M >= 2 && r->M <= 512 && n_levels == r->n && n_offsets == r->n + 1 && entry >= 0 &&
        top >= 0 && in_bounds(r, s))
        r->links = &s->links;
}

static int read_graph(struct cursor *c)
{
    struct rows *r = c->r;
    struct state *s = r->state;
    const uint8_t *skipped = NULL, *places = NULL;
    uint64_t n = 0, n_places = 0, n_levels = 0, n_offsets = 0;
    int32_t number[5] = {0};
    if (read_head(c) != EXIT_SOUND || take_vector(c, 8, &skipped, &n) != EXIT_SOUND ||
        take_vector(c, 4, &places, &n_places) != EXIT_SOUND ||
        take_vector(c, 4, &s->levels, &n_levels) != EXIT_SOUND ||
        take_vector(c, 8, &s->offsets, &n_offsets) != EXIT_SOUND ||
        take_vector(c, 4, &s->neighbours, &s->n_neighbours) != EXIT_SOUND)
        return EXIT_UNABLE;
    for (int i = 0; i < 5; i++)
        if (take_i32(c, &number[i]) != EXIT_SOUND)
            return EXIT_UNABLE;
    bool even = n_places >= 2; /* 0, 2 M, 3 M, ... */
    if (even) {
        const int32_t base = i32_at(places, 1);
        r->M = base >= 4 && base <= 1024 ? (uint32_t)base / 2 : 0;
    }
    for (uint64_t i = 1; i < n_places && even; i++)
        even = (uint64_t)i32_at(places, i) == (i + 1) * r->M;
    r->ef_construction = number[2] > 0 ? (uint32_t)number[2] : 0;
    if (even)
        take_links(r, n_levels, n_offsets, number[0], number[1]);
    return read_index(c);
}

static int read_flat(struct cursor *c)
{
    struct rows *r = c->r;
    struct state *s = r->state;
    uint64_t n = 0;
    if (read_head(c) != EXIT_SOUND || take_vector(c, 4, &s->vectors, &n) != EXIT_SOUND)
        return EXIT_UNABLE;
    if (r->n > UINT64_MAX / r->dim || n != r->n * r->dim)
        return cli_error("%s: expected %" PRIu64 " x %" PRIu32 " numbers, found %" PRIu64, r->path,
                         r->n, r->dim, n);
    return EXIT_SOUND;
}

static int read_labels(struct rows *r, uint64_t first, uint64_t n, uint64_t *ret_labels)
{
    const struct state *s = r->state;
    memcpy(ret_labels, s->labels + first * 8, n * 8);
    return EXIT_SOUND;
}

static int read_map(struct cursor *c)
{
    struct rows *r = c->r;
    struct state *s = r->state;
    uint64_t n = 0;
    if (read_head(c) != EXIT_SOUND || read_index(c) != EXIT_SOUND ||
        take_vector(c, 8, &s->labels, &n) != EXIT_SOUND)
        return EXIT_UNABLE;
    if (n != r->n)
        return cli_error("%s: expected %" PRIu64 " labels, found %" PRIu64, r->path, r->n, n);
    r->has_labels = true;
    r->labels = read_labels;
    return EXIT_SOUND;
}

static int read_index(struct cursor *c)
{
    const uint8_t *name = NULL;
    if (c->nested++ == 3)
        return cli_error("%s: indexes within indexes, more than expected", c->r->path);
    if (take(c, 4, &name) != EXIT_SOUND)
        return EXIT_UNABLE;
    if (memcmp(name, "IHNf", 4) == 0)
        return read_graph(c);
    if (memcmp(name, "IxF2", 4) == 0 || memcmp(name, "IxFI", 4) == 0)
        return read_flat(c);
    if (memcmp(name, "IxMp", 4) == 0 || memcmp(name, "IxM2", 4) == 0)
        return read_map(c);
    return cli_error("%s: byte %zu: expected a faiss IndexHNSWFlat, IndexFlat or IndexIDMap of one "
                     "(IHNf, IxF2, IxFI, IxMp, IxM2), found '%.4s'; others do not keep the vectors "
                     "as they were",
                     c->r->path, c->at - 4, (const char *)name);
}

static int read_rows(struct rows *r, uint64_t first, uint64_t n, float *ret_vectors)
{
    const struct state *s = r->state;
    memcpy(ret_vectors, s->vectors + first * r->dim * 4, n * r->dim * 4);
    return EXIT_SOUND;
}

static void close_faiss(struct rows *r)
{
    free(r->state);
}

int rows_open_faiss(struct rows *r)
{
    int code = rows_map(r);
    if (code != EXIT_SOUND)
        return code;
    struct state *s = calloc(1, sizeof *s);
    if (s == NULL)
        return cli_error("%s: out of memory", r->path);
    r->state = s;
    r->close = close_faiss;
    r->read = read_rows;
    struct cursor c = {.r = r};
    code = read_index(&c);
    if (code == EXIT_SOUND && (uintptr_t)s->vectors % sizeof(float) == 0)
        r->mapped = (const float *)(const void *)s->vectors;
    return code;
}
