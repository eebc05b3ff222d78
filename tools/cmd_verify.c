/* cmd_verify.c -- `navmap verify`: run the check, print each finding where it is found. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/navmap.h"
#include "tools/cli.h"
#include "tools/json.h"
#include "tools/progress.h"

static const char usage[] =
    "usage: navmap verify [--quick] [--json] [--limit=N] DIR\n"
    "\n"
    "Check the index at DIR: every checksum, bound, link, level, label both ways, the log, and "
    "what\n"
    "can be reached.  Nothing is repaired or written; a live writer and its readers go on "
    "meanwhile.\n"
    "If a crash left a log to replay, the index is checked as the replay will leave it.\n"
    "\n"
    "  -q, --quick    only what every open checks: headers, sums of the roots, sizes, the log\n"
    "  -j, --json     one JSON object instead of the text\n"
    "  -l, --limit=N  print at most N findings, 1000 unless told; all are counted\n"
    "  -h, --help     this text\n"
    "\n"
    "exit: 0 sound (there may be warnings), 1 damaged, 2 unreadable or no index\n"
    "\n"
    "example: navmap verify --json words.navmap\n";

struct report {
    bool as_json;
    uint64_t limit, seen;
    struct json json;
    struct progress progress;
};

static void report_text(const struct navmap_finding *f)
{
    char where[64];
    int n = 0;
    if (f->slot != 0)
        n = snprintf(where, sizeof where, "slot %" PRIu32, f->slot);
    if (f->offset != UINT64_MAX)
        snprintf(where + n, sizeof where - (size_t)n, "%soffset %" PRIu64, n > 0 ? ", " : "",
                 f->offset);
    else if (n == 0)
        snprintf(where, sizeof where, "-");
    printf("%-8s %-8s %-32s %s\n", f->warning ? "warning" : "DAMAGE", f->section, where,
           f->message);
}

static void report_json(struct json *j, const struct navmap_finding *f)
{
    json_object(j, NULL);
    json_string(j, "kind", f->warning ? "warning" : "damage");
    json_string(j, "section", f->section);
    if (f->slot != 0)
        json_number(j, "slot", f->slot);
    else
        json_null(j, "slot");
    if (f->offset != UINT64_MAX)
        json_number(j, "offset", f->offset);
    else
        json_null(j, "offset");
    json_string(j, "message", f->message);
    json_object_end(j);
}

static void on_finding(void *ctx, const struct navmap_finding *finding)
{
    struct report *r = ctx;
    if (r->seen++ >= r->limit)
        return;
    progress_end(&r->progress); /* the bar comes back below what is printed */
    if (r->as_json)
        report_json(&r->json, finding);
    else
        report_text(finding);
}

static const char *verdict(const struct navmap_verify_result *result)
{
    return result->damaged ? "damaged" : "sound";
}

static void summary_line(const char *name, uint64_t n)
{
    char text[CLI_NUMBER_BYTES];
    printf("  %-18s %15s\n", name, cli_count(n, text));
}

static void summary_text(const char *path, const struct report *r, bool quick,
                         const struct navmap_verify_result *result)
{
    char text[CLI_NUMBER_BYTES];
    if (r->seen > r->limit)
        printf("and %s further findings, not printed (--limit)\n",
               cli_count(r->seen - r->limit, text));
    if (r->seen > 0)
        putchar('\n');
    printf("%s: %s", path, verdict(result));
    if (result->damaged)
        printf(", %s %s", cli_count(result->damaged, text),
               result->damaged == 1 ? "finding" : "findings");
    if (result->warnings)
        printf(", %s %s", cli_count(result->warnings, text),
               result->warnings == 1 ? "warning" : "warnings");
    printf("%s\n", quick ? " (quick check: headers, roots and log only)" : "");
    if (!quick) {
        summary_line("slots", result->slots);
        summary_line("rows", result->rows);
        summary_line("upper rows", result->uppers);
        summary_line("vectors", result->payloads);
        summary_line("labels", result->labels);
        summary_line("live and reachable", result->reachable);
    }
    summary_line("log records", result->log_records);
}

static void summary_json(struct json *j, const struct report *r,
                         const struct navmap_verify_result *result)
{
    json_number(j, "findings_omitted", r->seen > r->limit ? r->seen - r->limit : 0);
    json_string(j, "verdict", verdict(result));
    json_number(j, "damaged", result->damaged);
    json_number(j, "warnings", result->warnings);
    json_object(j, "checked");
    json_number(j, "slots", result->slots);
    json_number(j, "rows", result->rows);
    json_number(j, "uppers", result->uppers);
    json_number(j, "payloads", result->payloads);
    json_number(j, "labels", result->labels);
    json_number(j, "log_records", result->log_records);
    json_number(j, "reachable", result->reachable);
    json_object_end(j);
}

static navmap_status check(const char *path, bool quick, struct report *r,
                           struct navmap_verify_result *ret_result)
{
    const struct navmap_verify_options o = {.struct_size = sizeof o,
                                            .quick = quick,
                                            .progress = progress_step,
                                            .progress_ctx = &r->progress};
    progress_catch();
    progress_begin(&r->progress, "checking", 0);
    navmap_status status = navmap_verify_with(path, &o, on_finding, r, ret_result);
    progress_end(&r->progress);
    return status;
}

static int finish_json(struct report *r, navmap_status status,
                       const struct navmap_verify_result *result, char **buffer)
{
    json_array_end(&r->json);
    if (status == NAVMAP_OK)
        summary_json(&r->json, r, result);
    json_object_end(&r->json);
    json_end(&r->json);
    if (fclose(r->json.out) != 0)
        return cli_error("building the report: %s", strerror(errno));
    if (status != NAVMAP_OK)
        return EXIT_UNABLE;
    fputs(*buffer, stdout);
    return EXIT_SOUND;
}

static int verify(const char *path, bool quick, struct report *r)
{
    struct navmap_verify_result result;
    navmap_status status;
    if (!r->as_json) {
        status = check(path, quick, r, &result);
        if (status != NAVMAP_OK)
            return cli_library_error();
        summary_text(path, r, quick, &result);
        return result.damaged ? EXIT_DAMAGED : EXIT_SOUND;
    }
    /* Built in memory and printed whole: a script never sees half an object. */
    char *buffer = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&buffer, &size);
    if (memory == NULL)
        return cli_error("building the report: %s", strerror(errno));
    json_begin(&r->json, memory);
    json_object(&r->json, NULL);
    json_string(&r->json, "path", path);
    json_bool(&r->json, "quick", quick);
    json_array(&r->json, "findings");
    status = check(path, quick, r, &result);
    if (status != NAVMAP_OK)
        (void)cli_library_error();
    int code = finish_json(r, status, &result, &buffer);
    free(buffer);
    return code == EXIT_SOUND && result.damaged ? EXIT_DAMAGED : code;
}

int cmd_verify(int argc, char **argv)
{
    static const struct option options[] = {
        {"quick", no_argument, NULL, 'q'},
        {"json", no_argument, NULL, 'j'},
        {"limit", required_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct report r = {.limit = 1000};
    bool quick = false;
    int c;
    while ((c = getopt_long(argc, argv, "qjl:h", options, NULL)) != -1) {
        switch (c) {
        case 'q':
            quick = true;
            break;
        case 'j':
            r.as_json = true;
            break;
        case 'l':
            if (!cli_parse_number(optarg, &r.limit))
                return cli_error("--limit: '%s' is not a number", optarg);
            break;
        case 'h':
            fputs(usage, stdout);
            return cli_finish_output(EXIT_SOUND);
        default:
            fputs(usage, stderr);
            return EXIT_UNABLE;
        }
    }
    if (argc - optind != 1) {
        fputs(usage, stderr);
        return EXIT_UNABLE;
    }
    return cli_finish_output(verify(argv[optind], quick, &r));
}
