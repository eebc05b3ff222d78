/* cmd_import.c -- `navmap import`: vectors of a file into an index, made if it is not there.
 *
 * A new index appears when it is complete (newdir.h); in one that is there each row is whole or
 * absent.  Of a source that is an index itself the graph is kept, if nothing else is asked for.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/cli.h"
#include "tools/import.h"
#include "tools/json.h"

static const char usage[] =
    "usage: navmap import [OPTION]... SRC DIR\n"
    "\n"
    "Add the vectors in SRC to the index at DIR, which is made if nothing is there.  Formats: "
    ".npy,\n"
    ".fvecs, .bvecs, .ivecs, ann-benchmarks' .hdf5, hnswlib's .bin, an index or saved file of\n"
    "navmap's, faiss (IndexHNSWFlat, IndexFlat, IndexIDMap), usearch.  Labels are those of the\n"
    "source, or of --labels, or counted on from the largest in the index.  A label that is "
    "present\n"
    "gets the new vector.\n"
    "\n"
    "A new index keeps the graph of a source that is one file with a graph (hnswlib's, navmap's,\n"
    "faiss's IndexHNSWFlat, usearch's), unless other labels, rows, M, ef_construction or a seed "
    "are\n"
    "asked for.  Of navmap's and hnswlib's each link stays as it is, and so do codes: none for\n"
    "hnswlib's, whose answers are then the same.\n"
    "\n"
    "A new index appears at DIR when it is complete: an import that is killed or called off with\n"
    "Ctrl-C leaves nothing there.  In an index that was there before, the rows that were added so\n"
    "far stay, and it is told how to go on.\n"
    "\n"
    "  -f, --format=NAME        npy, fvecs, bvecs, ivecs, hdf5, hnswlib, navmap, faiss, usearch;\n"
    "                           else by content and name\n"
    "  -d, --dataset=NAME       of an .hdf5 file; 'train' unless told\n"
    "  -l, --labels=FILE        a label for each row: .npy of integers, or text, one a line\n"
    "  -c, --count-from=N       count the labels from N on, not from the largest in the index\n"
    "  -F, --first=N            leave out the first N rows\n"
    "  -n, --count=N            N rows at most\n"
    "  -t, --threads=N          all processors unless told\n"
    "for a new index:\n"
    "  -s, --space=NAME         l2, ip or cosine; required if the source does not say\n"
    "  -M, --M=N                links per item, 2..512; the source's, or 16\n"
    "  -e, --ef-construction=N  candidates per insertion; the source's, or 200\n"
    "  -C, --codes=NAME         i8 or none: what searches measure with on their way; i8 unless "
    "told,\n"
    "                           but for a file of navmap's or hnswlib's that keeps its graph\n"
    "  -D, --dtype=NAME         f32 or f16: what vectors are kept as; the source's, if it is an "
    "index\n"
    "                           of navmap's, or f32\n"
    "  -S, --seed=N             of the levels; 100 unless told\n"
    "  -m, --max-elements=N     labels allowed; none: grows\n"
    "  -r, --replace-deleted    allow hnswlib's replace_deleted\n"
    "  -R, --rebuild            build the graph anew, whatever graph the source has\n"
    "  -z, --sealed             DIR is to be one file, as `navmap save` writes it\n"
    "\n"
    "  -j, --json               one JSON object instead of the text\n"
    "  -h, --help               this text\n"
    "\n"
    "example: navmap import --space=cosine vectors.npy words.navmap\n";

/* Options --------------------------------------------------------------------------------------*/

static int take_number(struct import *m, int option, const char *text)
{
    uint64_t n;
    int code = EXIT_SOUND;
    switch (option) {
    case 'F':
        return cli_option_number("--first", text, 0, UINT64_MAX, &m->first);
    case 'n':
        return cli_option_number("--count", text, 1, UINT64_MAX, &m->count);
    case 't':
        return cli_option_number("--threads", text, 1, 4096, &m->threads);
    case 'm':
        return cli_option_number("--max-elements", text, 1, UINT64_MAX, &m->options.max_elements);
    case 'S':
        return cli_option_number("--seed", text, 1, UINT64_MAX, &m->options.random_seed);
    case 'M':
        code = cli_option_number("--M", text, 2, 512, &n);
        if (code == EXIT_SOUND)
            m->options.M = (uint32_t)n;
        return code;
    default:
        code = cli_option_number("--ef-construction", text, 1, 1000000, &n);
        if (code == EXIT_SOUND)
            m->options.ef_construction = (uint32_t)n;
        return code;
    }
}

/* 0 = go on, else the exit code + 1. */
static int take_option(struct import *m, int option)
{
    switch (option) {
    case 'f':
        m->how.format = optarg;
        return 0;
    case 'd':
        m->how.dataset = optarg;
        return 0;
    case 'l':
        m->labels_file = optarg;
        return 0;
    case 's':
        m->how.has_space = true;
        if (cli_parse_space(optarg, &m->how.space))
            return 0;
        return 1 + cli_error("--space: expected l2, ip or cosine, found '%s'", optarg);
    case 'c':
        m->has_count_from = true;
        if (cli_parse_number(optarg, &m->count_from))
            return 0;
        return 1 + cli_error("--count-from: '%s' is not a number", optarg);
    case 'C':
        if (cli_parse_codes(optarg, &m->options.codes))
            return 0;
        return 1 + cli_error("--codes: expected i8 or none, found '%s'", optarg);
    case 'D':
        m->has_dtype = true;
        if (cli_parse_dtype(optarg, &m->options.vectors))
            return 0;
        return 1 + cli_error("--dtype: expected f32 or f16, found '%s'", optarg);
    case 'r':
        m->options.allow_replace_deleted = 1;
        m->how.replace_deleted = true;
        return 0;
    case 'R':
        m->rebuild = true;
        return 0;
    case 'z':
        m->sealed = true;
        return 0;
    case 'j':
        m->as_json = true;
        return 0;
    case 'h':
    case '?':
        return 1 + cli_usage(option, usage);
    default: {
        int code = take_number(m, option, optarg);
        return code == EXIT_SOUND ? 0 : 1 + code;
    }
    }
}

/* Source and index -----------------------------------------------------------------------------*/

static int open_source(struct import *m)
{
    int code = rows_open(m->source, &m->how, &m->rows);
    uint64_t n = 0;
    if (code != EXIT_SOUND)
        return code;
    if (m->first > m->rows.n)
        return cli_error("--first: %s has %" PRIu64 " rows", m->source, m->rows.n);
    if (m->count > m->rows.n - m->first)
        m->count = m->rows.n - m->first;
    if (m->labels_file == NULL)
        return EXIT_SOUND;
    code = labels_read(m->labels_file, &m->labels, &n);
    if (code == EXIT_SOUND && n != m->rows.n)
        return cli_error("%s: expected %" PRIu64 " labels, one a row of %s, found %" PRIu64,
                         m->labels_file, m->rows.n, m->source, n);
    return code;
}

/* The number after the largest label of an index. */
static int next_label(const struct import *m, uint64_t *ret_label)
{
    uint64_t *labels = NULL, n = 0, largest = 0;
    int code = cli_labels(m->index, true, &labels, &n);
    for (uint64_t i = 0; i < n && code == EXIT_SOUND; i++)
        largest = labels[i] > largest ? labels[i] : largest;
    free(labels);
    *ret_label = n > 0 ? largest + 1 : 0;
    return code;
}

/* Counted here, not by the library, so that an import that was called off can go on: what several
 * threads had added behind the first rows then gets the same labels again. */
static int count_labels(struct import *m)
{
    uint64_t next = m->count_from;
    if (m->labels != NULL || (m->rows.has_labels && !m->has_count_from))
        return EXIT_SOUND;
    int code = m->has_count_from ? EXIT_SOUND : next_label(m, &next);
    if (code != EXIT_SOUND)
        return code;
    if (next > UINT64_MAX - m->count)
        return cli_error("labels cannot be counted on from %" PRIu64, next);
    m->labels = malloc((m->rows.n + 1) * sizeof *m->labels);
    if (m->labels == NULL)
        return cli_error("out of memory for %" PRIu64 " labels", m->rows.n);
    for (uint64_t i = 0; i < m->count; i++)
        m->labels[m->first + i] = next + i;
    m->counted = true;
    m->count_from = next;
    return EXIT_SOUND;
}

static int create_index(struct import *m)
{
    struct navmap_options *o = &m->options;
    int code = m->sealed ? EXIT_SOUND : newdir_begin(&m->fresh, m->target);
    if (code != EXIT_SOUND)
        return code;
    if (!m->how.has_space && !m->rows.has_space)
        return cli_error("%s does not say how distance is measured: --space=l2, ip or cosine",
                         m->source);
    o->struct_size = sizeof *o;
    o->dim = m->rows.dim;
    o->space = m->how.has_space ? m->how.space : m->rows.space;
    o->M = o->M ? o->M : m->rows.M;
    o->ef_construction = o->ef_construction ? o->ef_construction : m->rows.ef_construction;
    o->codes = o->codes ? o->codes : m->rows.codes;
    o->vectors = m->has_dtype ? o->vectors : m->rows.vectors;
    if ((m->sealed ? navmap_new(o, &m->index) : navmap_create(m->fresh.index, o, &m->index)) !=
        NAVMAP_OK)
        return cli_library_error();
    return EXIT_SOUND;
}

/* What only a new index can be told would be ignored. */
static int check_existing(const struct import *m, const struct navmap_stats *s)
{
    if (s->dim != m->rows.dim)
        return cli_error("%s has vectors of %" PRIu32 " dimensions, %s of %" PRIu32, m->target,
                         s->dim, m->source, m->rows.dim);
    if (m->how.has_space && m->how.space != s->space)
        return cli_error("%s measures by %s, which --space cannot change", m->target,
                         cli_space_name(s->space));
    if ((m->options.M && m->options.M != s->M) ||
        (m->options.ef_construction && m->options.ef_construction != s->ef_construction))
        return cli_error("%s has M %" PRIu32 " and ef_construction %" PRIu32
                         ", which an import cannot change",
                         m->target, s->M, s->ef_construction);
    if (m->options.codes && m->options.codes != s->codes)
        return cli_error("%s has codes %s, which an import cannot change", m->target,
                         cli_codes_name(s->codes));
    if (m->has_dtype && m->options.vectors != s->vectors)
        return cli_error("%s keeps vectors as %s, which --dtype cannot change", m->target,
                         cli_dtype_name(s->vectors));
    return EXIT_SOUND;
}

static int open_index(struct import *m)
{
    struct navmap_stats stats;
    if (navmap_open(m->target, NAVMAP_WRITE, NULL, &m->index) != NAVMAP_OK)
        return cli_library_error();
    int code = cli_stats(m->index, &stats);
    return code == EXIT_SOUND ? check_existing(m, &stats) : code;
}

/* hnswlib's files do not say how they measure; the index that they go to does. */
static void space_of_existing(struct import *m)
{
    struct navmap_stats stats = {.struct_size = sizeof stats};
    if (!m->how.has_space && navmap_inspect(m->target, &stats) == NAVMAP_OK) {
        m->how.has_space = true;
        m->how.space = stats.space;
    }
}

/* The whole ------------------------------------------------------------------------------------*/

static void report(const struct import *m, const struct navmap_stats *s, double seconds)
{
    char added[CLI_NUMBER_BYTES], rate[CLI_NUMBER_BYTES], live[CLI_NUMBER_BYTES];
    const double per_second = (double)m->added / (seconds > 1e-6 ? seconds : 1e-6);
    if (m->as_json) {
        struct json j;
        json_begin(&j, stdout);
        json_object(&j, NULL);
        json_string(&j, "path", m->target);
        json_string(&j, "source", m->source);
        json_string(&j, "format", m->rows.format);
        json_bool(&j, "created", m->is_new);
        json_number(&j, "added", m->added);
        json_number(&j, "deleted", m->deleted);
        json_string(&j, "graph", m->kept ? "kept" : "built");
        json_real(&j, "seconds", seconds);
        json_number(&j, "live", s->n_live);
        json_object_end(&j);
        json_end(&j);
        return;
    }
    printf("%s: %s vectors of %" PRIu32 " dimensions added in %.1f s (%s a second)%s, %s live\n",
           m->target, cli_count(m->added, added), m->rows.dim, seconds,
           cli_count((uint64_t)per_second, rate), m->kept ? " with their graph" : "",
           cli_count(s->n_live, live));
}

/* Rows, one after the other. */
static int build(struct import *m)
{
    int code = m->is_new ? create_index(m) : open_index(m);
    if (code == EXIT_SOUND)
        code = count_labels(m);
    return code == EXIT_SOUND ? import_rows(m) : code;
}

/* What was built in memory becomes a file. */
static int seal(struct import *m)
{
    const struct navmap_save_options o = {
        .struct_size = sizeof o, .progress = progress_step, .progress_ctx = &m->progress};
    progress_begin(&m->progress, "saving", 0);
    navmap_status status = navmap_save_with(m->index, m->target, &o);
    progress_end(&m->progress);
    if (status == NAVMAP_EINTERRUPTED)
        return import_interrupted(m);
    return status == NAVMAP_OK ? EXIT_SOUND : cli_library_error();
}

static double seconds_since(const struct timespec *begun)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - begun->tv_sec) + 1e-9 * (double)(now.tv_nsec - begun->tv_nsec);
}

static int import(struct import *m)
{
    struct navmap_stats stats = {.n_live = 0};
    struct timespec begun;
    m->is_new = cli_kind_of(m->target) == CLI_NOTHING;
    if (m->sealed && !m->is_new)
        return cli_error("%s: something is there already; name another", m->target);
    if (!m->is_new)
        space_of_existing(m);
    progress_catch(); /* before there is anything that would be left behind */
    (void)clock_gettime(CLOCK_MONOTONIC, &begun);
    int code = open_source(m);
    if (code != EXIT_SOUND)
        return code;
    code = import_keeps(m) ? import_graph(m) : build(m);
    if (code == EXIT_SOUND && m->sealed && !m->kept)
        code = seal(m);
    if (code == EXIT_SOUND && m->index != NULL)
        code = cli_stats(m->index, &stats);
    else
        stats.n_live = m->added - m->deleted;
    code = cli_close(m->index, code);
    m->index = NULL;
    if (code == EXIT_SOUND && m->is_new && !m->sealed)
        code = newdir_finish(&m->fresh);
    if (code == EXIT_SOUND)
        report(m, &stats, seconds_since(&begun));
    return code;
}

int cmd_import(int argc, char **argv)
{
    static const struct option options[] = {
        {"format", required_argument, NULL, 'f'},
        {"dataset", required_argument, NULL, 'd'},
        {"labels", required_argument, NULL, 'l'},
        {"count-from", required_argument, NULL, 'c'},
        {"first", required_argument, NULL, 'F'},
        {"count", required_argument, NULL, 'n'},
        {"threads", required_argument, NULL, 't'},
        {"space", required_argument, NULL, 's'},
        {"M", required_argument, NULL, 'M'},
        {"ef-construction", required_argument, NULL, 'e'},
        {"codes", required_argument, NULL, 'C'},
        {"dtype", required_argument, NULL, 'D'},
        {"seed", required_argument, NULL, 'S'},
        {"max-elements", required_argument, NULL, 'm'},
        {"replace-deleted", no_argument, NULL, 'r'},
        {"rebuild", no_argument, NULL, 'R'},
        {"sealed", no_argument, NULL, 'z'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct import m = {
        .how.fallback = "train", .count = UINT64_MAX, .threads = navmap_default_threads()};
    int c;
    while ((c = getopt_long(argc, argv, "f:d:l:c:F:n:t:s:M:e:C:D:S:m:rRzjh", options, NULL)) !=
           -1) {
        int stop = take_option(&m, c);
        if (stop != 0)
            return stop - 1;
    }
    if (argc - optind != 2)
        return cli_usage('?', usage);
    m.source = argv[optind];
    m.target = argv[optind + 1];
    int code = import(&m);
    code = cli_close(m.index, code);
    newdir_abandon(&m.fresh);
    rows_close(&m.rows);
    free(m.labels);
    return cli_finish_output(code);
}
