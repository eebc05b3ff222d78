/* cmd_export.c -- `navmap export`: vectors and labels as .npy, or the graph as hnswlib's .bin. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/json.h"
#include "tools/npy.h"
#include "tools/progress.h"
#include "tools/rows.h"

static const char usage[] =
    "usage: navmap export [OPTION]... DIR DST\n"
    "\n"
    "Write the live vectors of the index at DIR to DST, an .npy of float32, and their labels, in\n"
    "the same order, to an .npy of uint64 beside it: DST without its ending, then .labels.npy.\n"
    "Vectors are as they are stored: normalised under cosine.  Beside a writer, what is live when\n"
    "the export begins and still is when its row comes.\n"
    "\n"
    "With --format=hnswlib: the whole graph, with what is marked as deleted, as a file that "
    "hnswlib\n"
    "0.8 loads and searches with the same results.  Nobody may hold DIR for writing meanwhile.\n"
    "\n"
    "  -f, --format=NAME  npy or hnswlib; else hnswlib if DST ends in .bin\n"
    "  -l, --labels=FILE  where the labels go\n"
    "  -j, --json         one JSON object instead of the text\n"
    "  -h, --help         this text\n"
    "\n"
    "example: navmap export words.navmap vectors.npy\n"
    "         navmap export --format=hnswlib words.navmap words.bin\n";

#define BATCH_BYTES (4u << 20)

struct export
{
    const char *source, *target, *labels_file;
    bool hnswlib, as_json;
    uint64_t rows;
    uint32_t dim;
};

/* .npy -----------------------------------------------------------------------------------------*/

struct pair {
    struct npy_writer vectors, labels;
    float *buffer;
    uint64_t *label;
    uint64_t room;
    struct progress progress;
};

/* One by one, because one of them was deleted meanwhile; that one is left out. */
static int write_singly(struct export *e, struct pair *p, navmap_index *index, uint64_t n)
{
    int code = EXIT_SOUND;
    for (uint64_t i = 0; i < n && code == EXIT_SOUND; i++) {
        navmap_status status = navmap_get(index, 1, p->label + i, p->buffer);
        if (status == NAVMAP_ENOTFOUND)
            continue;
        if (status != NAVMAP_OK)
            return cli_library_error();
        code = npy_write(&p->vectors, p->buffer, e->dim);
        if (code == EXIT_SOUND)
            code = npy_write(&p->labels, p->label + i, 1);
        e->rows++;
    }
    return code;
}

static int write_some(struct export *e, struct pair *p, navmap_index *index, uint64_t n)
{
    navmap_status status = navmap_get(index, n, p->label, p->buffer);
    if (status == NAVMAP_ENOTFOUND)
        return write_singly(e, p, index, n);
    if (status != NAVMAP_OK)
        return cli_library_error();
    int code = npy_write(&p->vectors, p->buffer, n * e->dim);
    if (code == EXIT_SOUND)
        code = npy_write(&p->labels, p->label, n);
    e->rows += n;
    return code;
}

static int write_rows(struct export *e, struct pair *p, navmap_index *index)
{
    uint64_t *all = NULL, n = 0;
    int code = cli_labels(index, false, &all, &n);
    progress_begin(&p->progress, "writing", n);
    for (uint64_t done = 0; done < n && code == EXIT_SOUND;) {
        uint64_t some = n - done < p->room ? n - done : p->room;
        p->label = all + done;
        code = write_some(e, p, index, some);
        done += some;
        if (code == EXIT_SOUND && progress_step(&p->progress, done, n) != 0)
            code = cli_error("called off; nothing was written to %s", e->target);
    }
    progress_end(&p->progress);
    free(all);
    return code;
}

/* The labels come last: where they are, both are whole. */
static int export_npy(struct export *e, navmap_index *index)
{
    struct pair p = {.room = BATCH_BYTES / (e->dim * sizeof(float)) + 1};
    p.buffer = malloc(p.room * e->dim * sizeof *p.buffer);
    int code = p.buffer != NULL ? EXIT_SOUND : cli_error("out of memory");
    if (code == EXIT_SOUND)
        code = npy_create(&p.vectors, e->target, F32, e->dim);
    if (code == EXIT_SOUND)
        code = npy_create(&p.labels, e->labels_file, U64, 0);
    if (code == EXIT_SOUND)
        code = write_rows(e, &p, index);
    if (code == EXIT_SOUND)
        code = npy_finish(&p.vectors, e->rows);
    if (code == EXIT_SOUND)
        code = npy_finish(&p.labels, e->rows);
    npy_abandon(&p.vectors);
    npy_abandon(&p.labels);
    free(p.buffer);
    return code;
}

/* The whole ------------------------------------------------------------------------------------*/

static int export_hnswlib(struct export *e, navmap_index *index)
{
    struct progress progress;
    const struct navmap_save_options o = {
        .struct_size = sizeof o, .progress = progress_step, .progress_ctx = &progress};
    progress_begin(&progress, "writing", 0);
    navmap_status status = navmap_export_hnswlib(index, e->target, &o);
    progress_end(&progress);
    if (status == NAVMAP_EINTERRUPTED)
        return cli_error("called off; %s is as it was", e->target);
    return status == NAVMAP_OK ? EXIT_SOUND : cli_library_error();
}

static void report(const struct export *e)
{
    char rows[CLI_NUMBER_BYTES];
    if (e->as_json) {
        struct json j;
        json_begin(&j, stdout);
        json_object(&j, NULL);
        json_string(&j, "path", e->source);
        json_string(&j, "format", e->hnswlib ? "hnswlib" : "npy");
        json_string(&j, "vectors", e->target);
        json_string(&j, "labels", e->hnswlib ? NULL : e->labels_file);
        json_number(&j, "items", e->rows);
        json_number(&j, "dim", e->dim);
        json_object_end(&j);
        json_end(&j);
        return;
    }
    printf("%s: %s items of %" PRIu32 " dimensions", e->target, cli_count(e->rows, rows), e->dim);
    printf(e->hnswlib ? ", for hnswlib\n" : "; %s: their labels\n", e->labels_file);
}

static int export_index(struct export *e)
{
    navmap_index *index = NULL;
    struct navmap_stats stats;
    int code = cli_open(e->source, false, 0, &index);
    if (code != EXIT_SOUND)
        return code;
    code = cli_stats(index, &stats);
    e->dim = stats.dim;
    if (code == EXIT_SOUND) {
        progress_catch();
        code = e->hnswlib ? export_hnswlib(e, index) : export_npy(e, index);
    }
    if (e->hnswlib)
        e->rows = stats.n_live + stats.n_deleted;
    code = cli_close(index, code);
    if (code == EXIT_SOUND)
        report(e);
    return code;
}

static bool take_format(struct export *e, const char *name)
{
    e->hnswlib = strcmp(name, "hnswlib") == 0;
    return e->hnswlib || strcmp(name, "npy") == 0;
}

/* vectors.npy -> vectors.labels.npy */
static char *labels_beside(const char *target)
{
    char *name = NULL;
    int stem = (int)strlen(target) - (cli_ends_with(target, ".npy") ? 4 : 0);
    return asprintf(&name, "%.*s.labels.npy", stem, target) < 0 ? NULL : name;
}

static int run(struct export *e, bool format_given)
{
    if (!format_given)
        e->hnswlib = cli_ends_with(e->target, ".bin");
    if (e->hnswlib && e->labels_file != NULL)
        return cli_error("--labels: hnswlib's file holds the labels itself");
    char *beside = labels_beside(e->target);
    if (beside == NULL)
        return cli_error("out of memory");
    if (e->labels_file == NULL)
        e->labels_file = beside;
    int code = strcmp(e->labels_file, e->target) == 0
                   ? cli_error("--labels: the same file as for the vectors")
                   : export_index(e);
    free(beside);
    return code;
}

int cmd_export(int argc, char **argv)
{
    static const struct option options[] = {
        {"format", required_argument, NULL, 'f'},
        {"labels", required_argument, NULL, 'l'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct export e = {.source = NULL};
    bool format_given = false;
    int c;
    while ((c = getopt_long(argc, argv, "f:l:jh", options, NULL)) != -1) {
        switch (c) {
        case 'f':
            format_given = true;
            if (!take_format(&e, optarg))
                return cli_error("--format: expected npy or hnswlib, found '%s'", optarg);
            break;
        case 'l':
            e.labels_file = optarg;
            break;
        case 'j':
            e.as_json = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return cli_finish_output(EXIT_SOUND);
        default:
            fputs(usage, stderr);
            return EXIT_UNABLE;
        }
    }
    if (argc - optind != 2) {
        fputs(usage, stderr);
        return EXIT_UNABLE;
    }
    e.source = argv[optind];
    e.target = argv[optind + 1];
    return cli_finish_output(run(&e, format_given));
}
