/* import_graph.c -- `navmap import`: a source that is an index keeps its graph.
 *
 * A file of navmap's or hnswlib's is loaded and written as it is, link for link, so that searches
 * answer as they did there.  Graphs of faiss and usearch come by way of a file as hnswlib has it;
 * they are compacted on the way: items that no search would come to are linked, and all are
 * renumbered.  Nothing of a new index is at its place before it is whole: newdir.h, navmap_save().
 */
#include <string.h>
#include <unistd.h>

#include "tools/cli.h"
#include "tools/graph_image.h"
#include "tools/import.h"

bool import_keeps(const struct import *m)
{
    const struct rows *r = &m->rows;
    const struct navmap_options *o = &m->options;
    if (!m->is_new || m->rebuild || (r->graph == NULL && r->links == NULL))
        return false;
    return m->labels_file == NULL && !m->has_count_from && m->first == 0 && m->count == r->n &&
           (o->M == 0 || o->M == r->M) && o->random_seed == 0 &&
           (o->ef_construction == 0 || o->ef_construction == r->ef_construction ||
            r->graph == NULL) &&
           (!m->has_dtype || o->vectors == r->vectors) &&
           (!m->how.has_space || m->how.space == r->space);
}

/* Either call's status, said. */
static int done(const struct import *m, navmap_status status)
{
    if (status == NAVMAP_EINTERRUPTED)
        return import_interrupted(m);
    return status == NAVMAP_OK ? EXIT_SOUND : cli_library_error();
}

static int write_as_it_is(struct import *m, const char *to)
{
    const struct navmap_save_options o = {.struct_size = sizeof o,
                                          .directory = !m->sealed,
                                          .codes = m->options.codes,
                                          .progress = progress_step,
                                          .progress_ctx = &m->progress};
    return done(m, navmap_save_with(m->rows.graph, to, &o));
}

static int write_compacted(struct import *m, navmap_index *index, const char *to)
{
    const struct navmap_compact_options o = {.struct_size = sizeof o,
                                             .num_threads = (uint32_t)m->threads,
                                             .keep_deleted = 1,
                                             .codes = m->options.codes ? m->options.codes
                                                                       : NAVMAP_CODES_I8,
                                             .output = to,
                                             .output_directory = !m->sealed,
                                             .progress = progress_step,
                                             .progress_ctx = &m->progress};
    return done(m, navmap_compact(index, &o, NULL));
}

/* The folder of the target, into `folder`. */
static const char *folder_of(const struct import *m, char folder[4096])
{
    const char *slash = strrchr(m->target, '/');
    const size_t n = slash != NULL ? (size_t)(slash - m->target) + 1 : 0;
    if (!m->sealed)
        return m->fresh.around;
    if (n == 0 || n >= 4096)
        return ".";
    memcpy(folder, m->target, n);
    folder[n] = 0;
    return folder;
}

/* What is wrong with the links, if something is, is known only now. */
static int load_links(struct import *m, navmap_index **ret_index)
{
    const struct navmap_options *o = &m->options;
    uint32_t ef = o->ef_construction ? o->ef_construction : m->rows.ef_construction;
    struct navmap_load_options how = {.struct_size = sizeof how,
                                      .has_space = 1,
                                      .space = m->rows.space,
                                      .max_elements = o->max_elements,
                                      .allow_replace_deleted = o->allow_replace_deleted};
    char folder[4096];
    int fd = -1;
    int code = graph_image(&m->rows, ef ? ef : 200, folder_of(m, folder), &fd);
    if (code != EXIT_SOUND)
        return code;
    if (navmap_load_fd(fd, m->source, &how, ret_index) != NAVMAP_OK) {
        (void)cli_library_error();
        code = cli_error("its graph cannot be taken over; --rebuild makes one from its vectors");
    }
    (void)close(fd);
    return code;
}

static int write_target(struct import *m)
{
    const char *to = m->sealed ? m->target : m->fresh.index;
    navmap_index *index = NULL;
    if (m->rows.graph != NULL)
        return write_as_it_is(m, to);
    int code = load_links(m, &index);
    if (code == EXIT_SOUND)
        code = write_compacted(m, index, to);
    return cli_close(index, code);
}

/* A file has a limit, hnswlib's always: a directory has the one that was asked for, or none. */
static int set_limit(struct import *m)
{
    if (m->sealed)
        return EXIT_SOUND;
    if (navmap_open(m->fresh.index, NAVMAP_WRITE, NULL, &m->index) != NAVMAP_OK ||
        navmap_resize(m->index, m->options.max_elements) != NAVMAP_OK)
        return cli_library_error();
    return EXIT_SOUND;
}

int import_graph(struct import *m)
{
    int code = m->sealed ? EXIT_SOUND : newdir_begin(&m->fresh, m->target);
    if (code != EXIT_SOUND)
        return code;
    if (m->sealed && m->rows.graph != NULL && m->options.max_elements > 0 &&
        navmap_resize(m->rows.graph, m->options.max_elements) != NAVMAP_OK)
        return cli_library_error();
    progress_begin(&m->progress, "writing", 0);
    code = write_target(m);
    progress_end(&m->progress);
    if (code == EXIT_SOUND)
        code = set_limit(m);
    for (uint64_t i = 0; i < m->rows.n && m->rows.deleted != NULL; i++)
        m->deleted += m->rows.deleted(&m->rows, i);
    m->added = m->rows.n;
    m->kept = true;
    return code;
}
