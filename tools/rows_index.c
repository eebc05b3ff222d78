/* rows_index.c -- the items of an index as rows: navmap's directories and sealed files, hnswlib's
 * .bin files.
 *
 * A file is loaded privately, so what is marked as deleted there can be unmarked in this process's
 * copy, read, and marked again in the index that it goes to.  Of a directory, whose writer may be
 * at work, the live items are read.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "tools/cli.h"
#include "tools/rows.h"

struct state {
    navmap_index *index;
    uint64_t *label;
    bool *deleted;
    bool unmarked; /* so that they can be read */
};

static void close_index(struct rows *r)
{
    struct state *s = r->state;
    (void)cli_close(s->index, EXIT_UNABLE); /* nothing was written: nothing can be lost */
    free(s->label);
    free(s->deleted);
    free(s);
}

static int unmark(struct rows *r, struct state *s);

static int read_index(struct rows *r, uint64_t first, uint64_t n, float *ret_vectors)
{
    struct state *s = r->state;
    if (s->deleted != NULL && !s->unmarked && unmark(r, s) != EXIT_SOUND)
        return EXIT_UNABLE;
    if (navmap_get(s->index, n, s->label + first, ret_vectors) != NAVMAP_OK)
        return cli_library_error();
    return EXIT_SOUND;
}

static int read_labels(struct rows *r, uint64_t first, uint64_t n, uint64_t *ret_labels)
{
    const struct state *s = r->state;
    for (uint64_t i = 0; i < n; i++)
        ret_labels[i] = s->label[first + i];
    return EXIT_SOUND;
}

static bool is_deleted(const struct rows *r, uint64_t i)
{
    const struct state *s = r->state;
    return s->deleted[i];
}

static int unmark(struct rows *r, struct state *s)
{
    r->graph = NULL; /* is not what it was */
    s->unmarked = true;
    for (uint64_t i = 0; i < r->n; i++)
        if (s->deleted[i] && navmap_undelete(s->index, s->label[i]) != NAVMAP_OK)
            return cli_library_error();
    return EXIT_SOUND;
}

/* Both lists are in the order of the slots. */
static int find_deleted(const struct rows *r, const struct state *s)
{
    uint64_t *live = NULL, n = 0, at = 0;
    int code = cli_labels(s->index, false, &live, &n);
    for (uint64_t i = 0; i < r->n && code == EXIT_SOUND; i++) {
        s->deleted[i] = at == n || live[at] != s->label[i];
        at += !s->deleted[i];
    }
    free(live);
    return code;
}

static int take_items(struct rows *r, struct state *s, bool from_file)
{
    int code = cli_labels(s->index, from_file, &s->label, &r->n);
    if (code != EXIT_SOUND || !from_file)
        return code;
    s->deleted = calloc(r->n + 1, sizeof *s->deleted);
    if (s->deleted == NULL)
        return cli_error("%s: out of memory", r->path);
    r->deleted = is_deleted;
    return find_deleted(r, s);
}

/* A file is loaded; a directory opened for reading. */
static int open_any(const struct rows *r, const struct rows_how *how, bool bin, struct state *s)
{
    const struct navmap_load_options o = {.struct_size = sizeof o,
                                          .has_space = bin,
                                          .space = bin ? how->space : 0,
                                          .allow_replace_deleted = how->replace_deleted};
    if (cli_kind_of(r->path) == CLI_FILE && navmap_load(r->path, &o, &s->index) == NAVMAP_OK)
        return EXIT_SOUND;
    return cli_open(r->path, bin, how->space, &s->index); /* a flat one, or says what is wrong */
}

int rows_open_index(struct rows *r, const struct rows_how *how)
{
    struct navmap_stats stats;
    struct state *s = calloc(1, sizeof *s);
    if (s == NULL)
        return cli_error("%s: out of memory", r->path);
    r->state = s;
    r->close = close_index;
    r->read = read_index;
    r->labels = read_labels;
    r->has_labels = true;
    const bool bin = r->format[0] == 'h'; /* for navmap's own a space would replace the file's */
    if (bin && !how->has_space)
        return cli_error(
            "%s: hnswlib's files do not say how they measure: --space=l2, ip or cosine", r->path);
    int code = open_any(r, how, bin, s);
    if (code == EXIT_SOUND)
        code = cli_stats(s->index, &stats);
    if (code != EXIT_SOUND)
        return code;
    r->dim = stats.dim;
    r->has_space = true;
    r->space = stats.space;
    r->M = stats.flat ? 0 : stats.M;
    r->ef_construction = stats.flat ? 0 : stats.ef_construction;
    r->vectors = stats.vectors;
    r->codes = bin || stats.flat ? NAVMAP_CODES_DEFAULT : stats.codes;
    if (stats.in_memory && !stats.flat)
        r->graph = s->index;
    return take_items(r, s, stats.in_memory != 0);
}
