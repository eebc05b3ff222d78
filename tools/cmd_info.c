/* cmd_info.c -- `navmap info`: the facts of an index, read from outside and printed. */
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "engine/navmap.h"
#include "tools/cli.h"
#include "tools/json.h"

static const char usage[] =
    "usage: navmap info [--json] DIR\n"
    "\n"
    "Print what is in the index at DIR, or in a saved file: parameters, counts, bytes per "
    "section, the state of log and\n"
    "checkpoint, and who writes.  Instant at any size; nothing is written, "
    "a writer is not disturbed.\n"
    "\n"
    "  -j, --json  one JSON object instead of the text\n"
    "  -h, --help  this text\n"
    "\n"
    "example: navmap info words.navmap\n";

static bool needs_recovery(const struct navmap_stats *s)
{
    return !s->writer_held && s->last_lsn != s->checkpoint_lsn;
}

/* Beside a writer the log is read through LMDB's lock table, which takes permission to write. */
static bool log_known(const struct navmap_stats *s)
{
    return !s->writer_held || s->last_lsn != 0 || s->applied_lsn == 0;
}

static void heading(const char *text)
{
    printf("\n%s\n", text);
}

static void line(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void line(const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("  %-18s ", name);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

static void count_line(const char *name, uint64_t n)
{
    char text[CLI_NUMBER_BYTES];
    line(name, "%17s", cli_count(n, text));
}

static void bytes_line(const char *name, uint64_t n)
{
    char exact[CLI_NUMBER_BYTES], round[CLI_NUMBER_BYTES];
    line(name, "%17s  %9s", cli_count(n, exact), cli_bytes(n, round));
}

/* A sealed file has neither log nor writer: it is never changed. */
static bool is_file(const struct navmap_stats *s)
{
    return s->mapped != 0;
}

static void print_log(const struct navmap_stats *s)
{
    char text[CLI_NUMBER_BYTES];
    heading("log");
    if (!log_known(s)) {
        line("last commit", "%" PRIu64 " or later", s->applied_lsn);
        line("checkpoint", "unknown: no permission to read the log beside its writer");
        return;
    }
    line("last commit", "%" PRIu64, s->last_lsn);
    line("checkpoint", "%" PRIu64, s->checkpoint_lsn);
    line("not checkpointed", "%s of %" PRIu64 " commits", cli_bytes(s->wal_bytes, text),
         s->last_lsn - s->checkpoint_lsn);
    line("checkpoint at", "%s", cli_bytes(s->checkpoint_bytes, text));
    if (needs_recovery(s))
        line("recovery", "needed: the next open replays the log; counts here are those after it");
}

static void print_text(const char *path, const struct navmap_stats *s)
{
    char text[CLI_NUMBER_BYTES], more[CLI_NUMBER_BYTES];
    printf("%s\n", path);

    heading("parameters");
    line("space", "%s", cli_space_name(s->space));
    line("dimensions", "%" PRIu32, s->dim);
    line("M", "%" PRIu32, s->M);
    line("ef_construction", "%" PRIu32, s->ef_construction);
    line("codes", "%s", cli_codes_name(s->codes));
    line("vectors", "%s", cli_dtype_name(s->vectors));
    line("random seed", "%" PRIu64, s->random_seed);
    line("replace deleted", "%s", s->allow_replace_deleted ? "allowed" : "no");
    line("max elements", "%s", s->max_elements ? cli_count(s->max_elements, text) : "none: grows");
    if (s->flat)
        line("graph", "none: every search is exact");

    heading("counts");
    count_line("live", s->n_live);
    count_line("deleted", s->n_deleted);
    count_line("dead", s->n_dead);
    count_line("free", s->n_free);
    count_line("capacity", s->capacity);
    line("chunks", "%17s  of %s slots", cli_count(s->nchunks, text),
         cli_count(s->slots_per_chunk, more));
    if (s->entry_slot != 0)
        line("entry point", "slot %" PRIu32 " at level %" PRIu32, s->entry_slot, s->entry_level);

    heading("bytes");
    bytes_line("states", s->state_bytes);
    bytes_line("rows", s->row_bytes);
    bytes_line("upper rows", s->upper_bytes);
    bytes_line("tags", s->tag_bytes);
    bytes_line("codes", s->code_bytes);
    bytes_line("vectors", s->vector_bytes);
    bytes_line("data file", s->data_file_bytes);
    bytes_line("data on disk", s->data_allocated_bytes);
    if (!is_file(s)) {
        bytes_line("log and labels", s->lmdb_allocated_bytes);
        print_log(s);
    }

    heading("state");
    if (is_file(s))
        line("form", "sealed file");
    else if (s->writer_held && s->writer_pid != 0)
        line("writer", "pid %" PRIu32, s->writer_pid);
    else
        line("writer", "%s", s->writer_held ? "yes, pid unknown" : "none");
    line("generation", "%" PRIu64, s->generation);
    line("format", "%" PRIu32 ".%" PRIu32, s->format_major, s->format_minor);
    line("library", "%s", navmap_version());
    line("distances by", "%s", navmap_simd());
}

static void json_text(struct json *j, const char *path, const struct navmap_stats *s)
{
    json_object(j, NULL);
    json_string(j, "path", path);
    json_string(j, "form", is_file(s) ? "file" : "directory");
    json_string(j, "library", navmap_version());
    json_string(j, "simd", navmap_simd());
    json_object(j, "format");
    json_number(j, "major", s->format_major);
    json_number(j, "minor", s->format_minor);
    json_object_end(j);
    json_number(j, "generation", s->generation);

    json_object(j, "parameters");
    json_string(j, "space", cli_space_name(s->space));
    json_number(j, "dim", s->dim);
    json_number(j, "M", s->M);
    json_number(j, "ef_construction", s->ef_construction);
    json_string(j, "codes", cli_codes_name(s->codes));
    json_string(j, "dtype", cli_dtype_name(s->vectors));
    json_number(j, "random_seed", s->random_seed);
    json_bool(j, "allow_replace_deleted", s->allow_replace_deleted != 0);
    json_number(j, "max_elements", s->max_elements);
    json_bool(j, "flat", s->flat != 0);
    json_object_end(j);

    json_object(j, "counts");
    json_number(j, "live", s->n_live);
    json_number(j, "deleted", s->n_deleted);
    json_number(j, "dead", s->n_dead);
    json_number(j, "free", s->n_free);
    json_number(j, "inserted", s->inserted);
    json_number(j, "slots", s->nslots);
    json_number(j, "chunks", s->nchunks);
    json_number(j, "slots_per_chunk", s->slots_per_chunk);
    json_number(j, "capacity", s->capacity);
    json_object_end(j);

    if (s->entry_slot == 0) {
        json_null(j, "entry");
    } else {
        json_object(j, "entry");
        json_number(j, "slot", s->entry_slot);
        json_number(j, "level", s->entry_level);
        json_object_end(j);
    }

    json_object(j, "bytes");
    json_number(j, "state", s->state_bytes);
    json_number(j, "row", s->row_bytes);
    json_number(j, "upper", s->upper_bytes);
    json_number(j, "tag", s->tag_bytes);
    json_number(j, "code", s->code_bytes);
    json_number(j, "vector", s->vector_bytes);
    json_number(j, "data_file", s->data_file_bytes);
    json_number(j, "data_allocated", s->data_allocated_bytes);
    json_number(j, "lmdb_allocated", s->lmdb_allocated_bytes);
    json_object_end(j);

    json_object(j, "log");
    if (log_known(s)) {
        json_number(j, "last_lsn", s->last_lsn);
        json_number(j, "checkpoint_lsn", s->checkpoint_lsn);
        json_number(j, "bytes", s->wal_bytes);
    } else {
        json_null(j, "last_lsn");
        json_null(j, "checkpoint_lsn");
        json_null(j, "bytes");
    }
    json_number(j, "checkpoint_at_bytes", s->checkpoint_bytes);
    json_bool(j, "needs_recovery", needs_recovery(s));
    json_object_end(j);

    json_object(j, "writer");
    json_bool(j, "held", s->writer_held != 0);
    if (s->writer_pid != 0)
        json_number(j, "pid", s->writer_pid);
    else
        json_null(j, "pid");
    json_object_end(j);
    json_object_end(j);
}

int cmd_info(int argc, char **argv)
{
    bool as_json;
    int stop = cli_plain_options(argc, argv, usage, 1, &as_json);
    if (stop != 0)
        return stop - 1;
    struct navmap_stats stats = {.struct_size = sizeof stats};
    if (navmap_inspect(argv[optind], &stats) != NAVMAP_OK)
        return cli_library_error();
    if (as_json) {
        struct json j;
        json_begin(&j, stdout);
        json_text(&j, argv[optind], &stats);
        json_end(&j);
    } else {
        print_text(argv[optind], &stats);
    }
    return cli_finish_output(EXIT_SOUND);
}
