/* rows_usearch.c -- vectors and labels of a usearch index (version 2, one vector a key).
 *
 *     u32 rows, u32 bytes of a row, the rows
 *     head of 64 bytes: "usearch", u16 major, minor, patch, u8 metric, scalar, key, slot kinds,
 *                       u64 present, u64 deleted, u64 dimensions, u8 multi
 *     graph: u64 rows, M, M0, top, entry; i16 level of each; then each node:
 *            u64 key, i16 level, lists of u32 count and ids: one of M0, `level` ones of M
 *
 * A deleted row's key is the largest number.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/rows.h"

#define HEAD_BYTES 64u
#define GRAPH_BYTES 40u
#define NODE_BYTES 10u /* key and level */

struct state {
    enum number type;
    uint64_t *label; /* of each row */
    uint64_t *node;  /* where its node is */
    bool *deleted;
    size_t slot_bytes; /* of a slot number in a list */
    struct rows_links links;
};

static uint64_t u64_at(const struct rows *r, size_t at)
{
    uint64_t x;
    memcpy(&x, r->bytes + at, sizeof x);
    return x;
}

static int cut_short(const struct rows *r, size_t at)
{
    return cli_error("%s: the file ends at byte %zu, expected more behind %zu", r->path, r->n_bytes,
                     at);
}

static int read_head(struct rows *r, struct state *s, size_t at)
{
    static const struct {
        uint8_t kind;
        enum number type;
    } scalars[] = {{10, F64}, {11, F32}, {12, F16}};
    static const struct {
        char kind;
        uint32_t space;
    } metrics[] = {{'e', NAVMAP_L2}, {'i', NAVMAP_IP}, {'c', NAVMAP_COSINE}};
    if (r->n_bytes < HEAD_BYTES || at > r->n_bytes - HEAD_BYTES)
        return cut_short(r, at);
    const uint8_t *head = r->bytes + at;
    if (memcmp(head, "usearch", 7) != 0)
        return cli_error("%s: byte %zu: expected a usearch index", r->path, at);
    if (head[7] != 2)
        return cli_error("%s: usearch version: expected 2, found %u", r->path, head[7]);
    bool known = false;
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++)
        if (head[14] == scalars[i].kind) {
            s->type = scalars[i].type;
            known = true;
        }
    const uint64_t dim = u64_at(r, at + 33);
    if (!known || dim < 1 || dim > 65536 || dim * number_bytes(s->type) != r->dim)
        return cli_error("%s: scalars: expected f64, f32 or f16, found kind %u in rows of %" PRIu32
                         " bytes for %" PRIu64 " dimensions",
                         r->path, head[14], r->dim, dim);
    if (head[41] != 0)
        return cli_error("%s: several vectors a key; a label has one", r->path);
    r->dim = (uint32_t)dim;
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        if ((char)head[13] == metrics[i].kind) {
            r->has_space = true;
            r->space = metrics[i].space;
        }
    return EXIT_SOUND;
}

static uint32_t level_of(const struct rows *r, uint64_t i)
{
    const struct state *s = r->state;
    int16_t level;
    memcpy(&level, r->bytes + s->node[i] + 8, sizeof level);
    return (uint32_t)level;
}

static uint32_t links_of(const struct rows *r, uint64_t i, uint32_t level, uint32_t *ret_rows)
{
    const struct state *s = r->state;
    const uint32_t M = s->links.M, width = level == 0 ? 2 * M : M;
    const uint8_t *list = r->bytes + s->node[i] + NODE_BYTES;
    if (level > 0)
        list += 4 + 2 * M * s->slot_bytes + (level - 1) * (4 + M * s->slot_bytes);
    uint32_t n;
    memcpy(&n, list, sizeof n);
    n = n < width ? n : width;
    for (uint32_t j = 0; j < n; j++) {
        const uint8_t *slot = list + 4 + j * s->slot_bytes;
        memcpy(&ret_rows[j], slot, sizeof ret_rows[j]);
        if (s->slot_bytes == 5 && slot[4] != 0)
            ret_rows[j] = UINT32_MAX; /* is refused */
    }
    return n;
}

/* A row that was removed is in the graph still, and others are reached through it only: then the
 * vectors are all that is taken. */
static void take_links(struct rows *r, uint64_t M, uint64_t M0, uint64_t top, uint64_t entry)
{
    struct state *s = r->state;
    s->links = (struct rows_links){.M = (uint32_t)M,
                                   .top = (uint32_t)top,
                                   .entry = (uint32_t)entry,
                                   .level = level_of,
                                   .row = links_of};
    bool whole = r->M != 0 && M0 == 2 * M && top <= INT16_MAX && entry < r->n;
    for (uint64_t i = 0; i < r->n && whole; i++)
        whole = !s->deleted[i];
    if (whole)
        r->links = &s->links;
}

static int read_nodes(struct rows *r, struct state *s, size_t head)
{
    size_t at = head + HEAD_BYTES;
    if (r->n_bytes - at < GRAPH_BYTES)
        return cut_short(r, at);
    const uint64_t n = u64_at(r, at), M = u64_at(r, at + 8), M0 = u64_at(r, at + 16);
    if (n != r->n || M > 4096 || M0 > 8192)
        return cli_error("%s: byte %zu: expected a graph of %" PRIu64 " nodes, found %" PRIu64
                         " with M %" PRIu64,
                         r->path, at, r->n, n, M);
    const uint64_t top = u64_at(r, at + 24), entry = u64_at(r, at + 32);
    r->M = M >= 2 && M <= 512 ? (uint32_t)M : 0;
    s->slot_bytes = r->bytes[head + 16] == 15 ? 4 : 5; /* u32, else of 40 bits */
    at += GRAPH_BYTES;
    if (n > (r->n_bytes - at) / 2)
        return cut_short(r, at);
    at += n * 2;
    const size_t base = 4 + M0 * s->slot_bytes, upper = 4 + M * s->slot_bytes;
    for (uint64_t i = 0; i < n; i++) {
        int16_t level;
        if (r->n_bytes - at < NODE_BYTES + base)
            return cut_short(r, at);
        s->node[i] = at;
        s->label[i] = u64_at(r, at);
        s->deleted[i] = s->label[i] == UINT64_MAX;
        memcpy(&level, r->bytes + at + 8, sizeof level);
        at += NODE_BYTES + base;
        if (level < 0 || (size_t)level > (r->n_bytes - at) / upper)
            return cut_short(r, at);
        at += (size_t)level * upper;
    }
    take_links(r, M, M0, top, entry);
    return EXIT_SOUND;
}

static int read_rows(struct rows *r, uint64_t first, uint64_t n, float *ret_vectors)
{
    const struct state *s = r->state;
    const size_t row = r->dim * number_bytes(s->type);
    numbers_as_floats(s->type, r->bytes + 8 + first * row, n * r->dim, ret_vectors);
    return EXIT_SOUND;
}

static int read_labels(struct rows *r, uint64_t first, uint64_t n, uint64_t *ret_labels)
{
    const struct state *s = r->state;
    memcpy(ret_labels, s->label + first, n * sizeof *ret_labels);
    return EXIT_SOUND;
}

static bool is_absent(const struct rows *r, uint64_t i)
{
    const struct state *s = r->state;
    return s->deleted[i];
}

static void close_usearch(struct rows *r)
{
    struct state *s = r->state;
    free(s->label);
    free(s->node);
    free(s->deleted);
    free(s);
}

int rows_open_usearch(struct rows *r)
{
    uint32_t shape[2];
    int code = rows_map(r);
    if (code != EXIT_SOUND)
        return code;
    if (r->n_bytes < sizeof shape)
        return cut_short(r, 0);
    memcpy(shape, r->bytes, sizeof shape);
    const uint64_t matrix = (uint64_t)shape[0] * shape[1];
    if (matrix > r->n_bytes - sizeof shape)
        return cut_short(r, sizeof shape);
    struct state *s = calloc(1, sizeof *s);
    if (s == NULL)
        return cli_error("%s: out of memory", r->path);
    r->state = s;
    r->close = close_usearch;
    r->read = read_rows;
    r->labels = read_labels;
    r->has_labels = true;
    r->absent = is_absent;
    r->n = shape[0];
    r->dim = shape[1]; /* in bytes, until the head is read */
    s->label = calloc(r->n + 1, sizeof *s->label);
    s->node = calloc(r->n + 1, sizeof *s->node);
    s->deleted = calloc(r->n + 1, sizeof *s->deleted);
    if (s->label == NULL || s->node == NULL || s->deleted == NULL)
        return cli_error("%s: out of memory", r->path);
    code = read_head(r, s, sizeof shape + matrix);
    return code == EXIT_SOUND ? read_nodes(r, s, sizeof shape + matrix) : code;
}
