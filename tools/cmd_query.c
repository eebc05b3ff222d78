/* cmd_query.c -- `navmap query`: the nearest of vectors from a file or from standard input. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/json.h"
#include "tools/npy.h"
#include "tools/progress.h"
#include "tools/rows.h"

static const char usage[] =
    "usage: navmap query [OPTION]... DIR [QUERIES]\n"
    "\n"
    "Search the index at DIR, or the saved file, for the nearest of each vector in QUERIES: any\n"
    "format that `navmap import` reads.  Without QUERIES, or with -, vectors are read from "
    "standard\n"
    "input as text, one a line, numbers separated by blanks or commas.\n"
    "\n"
    "Prints a line for each result: number of the query, label, distance.\n"
    "\n"
    "  -k, --k=N              results a query, 10 unless told; fewer if there are fewer items\n"
    "  -e, --ef=N             candidates that a search keeps, at least k; 10 unless told.  More\n"
    "                         finds more and takes longer\n"
    "  -x, --exact            look at every vector\n"
    "  -o, --output=FILE      labels to FILE, an .npy of uint64, a row a query, and distances to "
    "an\n"
    "                         .npy of float32 beside it: FILE without its ending, then\n"
    "                         .distances.npy.  Where there are fewer than k: 2^64 - 1, infinity\n"
    "  -d, --dataset=NAME     of an .hdf5 file; 'test' unless told\n"
    "  -f, --format=NAME      of QUERIES\n"
    "  -s, --space=NAME       how hnswlib's .bin measures, which does not say\n"
    "  -n, --count=N          N queries at most\n"
    "  -t, --threads=N        all processors unless told\n"
    "  -j, --json             one JSON object instead of the text\n"
    "  -h, --help             this text\n"
    "\n"
    "example: navmap query -k 5 words.navmap queries.npy\n"
    "         echo 0.1 0.7 0.2 | navmap query --json colours.navmap\n";

#define BATCH_ROWS 256u /* between two looks at Ctrl-C; shared out among threads */

struct query {
    const char *dir, *source, *output;
    struct rows_how how;
    uint64_t k, ef, count, threads;
    bool exact, as_json;

    navmap_index *index;
    uint32_t dim;
    struct rows rows;
    float *text; /* vectors from standard input */
    uint64_t n;
    float *vectors, *distances; /* of a batch */
    uint64_t *labels, *found;
    struct json json;
    struct npy_writer label_file, distance_file;
};

/* Standard input -------------------------------------------------------------------------------*/

/* The numbers of one line; 0 of them in an empty one. */
static int read_line(const struct query *q, char *line, uint64_t number, float *ret_row,
                     uint32_t *ret_n)
{
    static const char blanks[] = " ,;\t\r\n[]";
    uint32_t n = 0;
    for (char *at = line + strspn(line, blanks); *at != 0; at += strspn(at, blanks)) {
        char *end;
        float x = strtof(at, &end);
        if (end == at || !isfinite(x))
            return cli_error("standard input, line %" PRIu64 ": expected a number, found '%.20s'",
                             number, at);
        if (n < q->dim)
            ret_row[n] = x;
        n++;
        at = end;
    }
    if (n != 0 && n != q->dim)
        return cli_error("standard input, line %" PRIu64 ": expected %" PRIu32
                         " numbers, as the index has dimensions, found %" PRIu32,
                         number, q->dim, n);
    *ret_n = n;
    return EXIT_SOUND;
}

static int read_input(struct query *q)
{
    char *line = NULL;
    size_t bytes = 0;
    uint64_t number = 0, room = 0;
    uint32_t n = 0;
    int code = EXIT_SOUND;
    while (code == EXIT_SOUND && q->n < q->count && getline(&line, &bytes, stdin) >= 0) {
        if (q->n == room) {
            room = room ? 2 * room : 16;
            float *more = realloc(q->text, room * q->dim * sizeof *more);
            if (more == NULL) {
                code = cli_error("out of memory for %" PRIu64 " queries", room);
                break;
            }
            q->text = more;
        }
        code = read_line(q, line, ++number, q->text + q->n * q->dim, &n);
        q->n += code == EXIT_SOUND && n > 0;
    }
    free(line);
    if (code == EXIT_SOUND && q->n == 0)
        return cli_error("standard input: no vector in it");
    return code;
}

static int open_queries(struct query *q)
{
    if (q->source == NULL)
        return read_input(q);
    int code = rows_open(q->source, &q->how, &q->rows);
    if (code != EXIT_SOUND)
        return code;
    if (q->rows.dim != q->dim)
        return cli_error("%s has vectors of %" PRIu32 " dimensions, %s of %" PRIu32, q->source,
                         q->rows.dim, q->dir, q->dim);
    q->n = q->rows.n < q->count ? q->rows.n : q->count;
    return EXIT_SOUND;
}

/* Results --------------------------------------------------------------------------------------*/

static void print_text(const struct query *q, uint64_t first, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        for (uint64_t j = 0; j < q->found[i]; j++)
            printf("%" PRIu64 " %" PRIu64 " %.9g\n", first + i, q->labels[i * q->k + j],
                   (double)q->distances[i * q->k + j]);
}

static void print_json(struct query *q, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        json_object(&q->json, NULL);
        json_array(&q->json, "labels");
        for (uint64_t j = 0; j < q->found[i]; j++)
            json_number(&q->json, NULL, q->labels[i * q->k + j]);
        json_array_end(&q->json);
        json_array(&q->json, "distances");
        for (uint64_t j = 0; j < q->found[i]; j++)
            json_real(&q->json, NULL, (double)q->distances[i * q->k + j]);
        json_array_end(&q->json);
        json_object_end(&q->json);
    }
}

static int put(struct query *q, uint64_t first, uint64_t n)
{
    if (q->output != NULL) {
        int code = npy_write(&q->label_file, q->labels, n * q->k);
        return code == EXIT_SOUND ? npy_write(&q->distance_file, q->distances, n * q->k) : code;
    }
    if (q->as_json)
        print_json(q, n);
    else
        print_text(q, first, n);
    return EXIT_SOUND;
}

/* Searching ------------------------------------------------------------------------------------*/

static int search(struct query *q, uint64_t n, const float *vectors)
{
    const struct navmap_search_options o = {.struct_size = sizeof o,
                                            .ef = (uint32_t)q->ef,
                                            .allow_fewer = 1,
                                            .num_threads = (uint32_t)q->threads};
    navmap_status status =
        q->exact
            ? navmap_search_exact(q->index, n, vectors, q->k, &o, q->labels, q->distances, q->found)
            : navmap_search(q->index, n, vectors, q->k, &o, q->labels, q->distances, q->found);
    return status == NAVMAP_OK ? EXIT_SOUND : cli_library_error();
}

static int search_all(struct query *q)
{
    struct progress progress;
    int code = EXIT_SOUND;
    progress_begin(&progress, "searching", q->n);
    for (uint64_t done = 0; done < q->n && code == EXIT_SOUND;) {
        const uint64_t left = q->n - done, n = left < BATCH_ROWS ? left : BATCH_ROWS;
        const float *vectors = q->text + done * q->dim;
        if (q->source != NULL) {
            code = rows_read(&q->rows, done, n, q->vectors);
            vectors = q->vectors;
        }
        if (code == EXIT_SOUND)
            code = search(q, n, vectors);
        if (code == EXIT_SOUND)
            code = put(q, done, n);
        done += n;
        if (code == EXIT_SOUND && progress_step(&progress, done, q->n) != 0)
            code = cli_error("called off after %" PRIu64 " queries", done);
    }
    progress_end(&progress);
    return code;
}

static int allocate(struct query *q)
{
    const size_t room = (size_t)BATCH_ROWS * q->k;
    q->vectors = malloc((size_t)BATCH_ROWS * q->dim * sizeof *q->vectors);
    q->labels = malloc(room * sizeof *q->labels);
    q->distances = malloc(room * sizeof *q->distances);
    q->found = malloc(BATCH_ROWS * sizeof *q->found);
    if (q->vectors == NULL || q->labels == NULL || q->distances == NULL || q->found == NULL)
        return cli_error("out of memory");
    return EXIT_SOUND;
}

static int into_files(struct query *q)
{
    char *beside = NULL;
    int stem = (int)strlen(q->output) - (cli_ends_with(q->output, ".npy") ? 4 : 0);
    if (asprintf(&beside, "%.*s.distances.npy", stem, q->output) < 0)
        return cli_error("out of memory");
    int code = npy_create(&q->label_file, q->output, U64, q->k);
    if (code == EXIT_SOUND)
        code = npy_create(&q->distance_file, beside, F32, q->k);
    if (code == EXIT_SOUND)
        code = search_all(q);
    if (code == EXIT_SOUND)
        code = npy_finish(&q->distance_file, q->n);
    if (code == EXIT_SOUND)
        code = npy_finish(&q->label_file, q->n);
    npy_abandon(&q->label_file);
    npy_abandon(&q->distance_file);
    free(beside);
    return code;
}

static int into_json(struct query *q)
{
    char *buffer = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&buffer, &size);
    if (memory == NULL)
        return cli_error("building the report: %s", strerror(errno));
    json_begin(&q->json, memory);
    json_object(&q->json, NULL);
    json_string(&q->json, "path", q->dir);
    json_number(&q->json, "k", q->k);
    json_bool(&q->json, "exact", q->exact);
    json_array(&q->json, "queries");
    int code = search_all(q);
    json_array_end(&q->json);
    json_object_end(&q->json);
    json_end(&q->json);
    if (fclose(memory) != 0 && code == EXIT_SOUND)
        code = cli_error("building the report: %s", strerror(errno));
    if (code == EXIT_SOUND)
        fputs(buffer, stdout); /* whole, or not at all */
    free(buffer);
    return code;
}

static int query(struct query *q)
{
    struct navmap_stats stats;
    int code = cli_open(q->dir, q->how.has_space, q->how.space, &q->index);
    if (code == EXIT_SOUND)
        code = cli_stats(q->index, &stats);
    if (code != EXIT_SOUND)
        return code;
    q->dim = stats.dim;
    code = open_queries(q);
    if (code == EXIT_SOUND)
        code = allocate(q);
    if (code != EXIT_SOUND)
        return code;
    progress_catch();
    if (q->output != NULL)
        return into_files(q);
    return q->as_json ? into_json(q) : search_all(q);
}

/* Options --------------------------------------------------------------------------------------*/

/* 0 = go on, else the exit code + 1. */
static int take_option(struct query *q, int option)
{
    int code = EXIT_SOUND;
    switch (option) {
    case 'k':
        code = cli_option_number("--k", optarg, 1, 1000000, &q->k);
        break;
    case 'e':
        code = cli_option_number("--ef", optarg, 1, 1000000000, &q->ef);
        break;
    case 'n':
        code = cli_option_number("--count", optarg, 1, UINT64_MAX, &q->count);
        break;
    case 't':
        code = cli_option_number("--threads", optarg, 1, 4096, &q->threads);
        break;
    case 'x':
        q->exact = true;
        break;
    case 'o':
        q->output = optarg;
        break;
    case 'd':
        q->how.dataset = optarg;
        break;
    case 'f':
        q->how.format = optarg;
        break;
    case 's':
        q->how.has_space = true;
        if (!cli_parse_space(optarg, &q->how.space))
            code = cli_error("--space: expected l2, ip or cosine, found '%s'", optarg);
        break;
    case 'j':
        q->as_json = true;
        break;
    case 'h':
        fputs(usage, stdout);
        return 1 + cli_finish_output(EXIT_SOUND);
    default:
        fputs(usage, stderr);
        return 1 + EXIT_UNABLE;
    }
    return code == EXIT_SOUND ? 0 : 1 + code;
}

int cmd_query(int argc, char **argv)
{
    static const struct option options[] = {
        {"k", required_argument, NULL, 'k'},       {"ef", required_argument, NULL, 'e'},
        {"exact", no_argument, NULL, 'x'},         {"output", required_argument, NULL, 'o'},
        {"dataset", required_argument, NULL, 'd'}, {"format", required_argument, NULL, 'f'},
        {"space", required_argument, NULL, 's'},   {"count", required_argument, NULL, 'n'},
        {"threads", required_argument, NULL, 't'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    struct query q = {
        .how.fallback = "test", .k = 10, .count = UINT64_MAX, .threads = navmap_default_threads()};
    int c;
    while ((c = getopt_long(argc, argv, "k:e:xo:d:f:s:n:t:jh", options, NULL)) != -1) {
        int stop = take_option(&q, c);
        if (stop != 0)
            return stop - 1;
    }
    if (argc - optind != 1 && argc - optind != 2) {
        fputs(usage, stderr);
        return EXIT_UNABLE;
    }
    q.dir = argv[optind];
    q.source = argc - optind == 2 && strcmp(argv[optind + 1], "-") != 0 ? argv[optind + 1] : NULL;
    int code = query(&q);
    code = cli_close(q.index, code);
    rows_close(&q.rows);
    free(q.text);
    free(q.vectors);
    free(q.labels);
    free(q.distances);
    free(q.found);
    return cli_finish_output(code);
}
