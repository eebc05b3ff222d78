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
#include "tools/findings.h"
#include "tools/whole.h"

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

static const char *verdict(const struct navmap_verify_result *result)
{
    return result->damaged ? "damaged" : "sound";
}

static void summary_line(const char *name, uint64_t n)
{
    char text[CLI_NUMBER_BYTES];
    printf("  %-18s %15s\n", name, cli_count(n, text));
}

static void summary_text(const char *path, const struct findings *r, bool quick,
                         const struct navmap_verify_result *result)
{
    char text[CLI_NUMBER_BYTES];
    findings_close_text(r);
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
        summary_line("named by nobody", result->no_in_links);
        summary_line("links to dead", result->dead_links);
    }
    summary_line("log records", result->log_records);
}

static void summary_json(struct findings *r, bool quick, const struct navmap_verify_result *result)
{
    struct json *j = &r->json;
    findings_close_json(r);
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
    if (quick)
        return;
    json_object(j, "graph");
    json_number(j, "live", result->live);
    json_number(j, "reachable", result->reachable);
    json_number(j, "no_in_links", result->no_in_links);
    json_number(j, "dead_links", result->dead_links);
    json_array(j, "in_degrees"); /* live items, by how many rows name them; the last: 64 and more */
    for (uint32_t i = 0; i < sizeof result->in_degrees / sizeof *result->in_degrees; i++)
        json_number(j, NULL, result->in_degrees[i]);
    json_array_end(j);
    json_object_end(j);
}

static int check(const char *path, bool quick, struct findings *r,
                 struct navmap_verify_result *ret_result)
{
    const struct navmap_verify_options o = {.struct_size = sizeof o,
                                            .quick = quick,
                                            .progress = progress_step,
                                            .progress_ctx = &r->progress};
    progress_catch();
    progress_begin(&r->progress, "checking", 0);
    navmap_status status = navmap_verify_with(path, &o, findings_take, r, ret_result);
    progress_end(&r->progress);
    if (status != NAVMAP_OK)
        return cli_library_error();
    return ret_result->damaged ? EXIT_DAMAGED : EXIT_SOUND;
}

static int verify(const char *path, bool quick, struct findings *r)
{
    struct navmap_verify_result result;
    struct whole whole;
    int code;
    if (!r->as_json) {
        code = check(path, quick, r, &result);
        if (code != EXIT_UNABLE)
            summary_text(path, r, quick, &result);
        return code;
    }
    code = whole_begin(&whole, &r->json);
    if (code != EXIT_SOUND)
        return code;
    json_string(&r->json, "path", path);
    json_bool(&r->json, "quick", quick);
    json_array(&r->json, "findings");
    code = check(path, quick, r, &result);
    json_array_end(&r->json);
    if (code != EXIT_UNABLE)
        summary_json(r, quick, &result);
    return whole_end(&whole, &r->json, code);
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
    struct findings r = {.damage = "DAMAGE", .limit = 1000};
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
        default:
            return cli_usage(c, usage);
        }
    }
    if (argc - optind != 1)
        return cli_usage('?', usage);
    return cli_finish_output(verify(argv[optind], quick, &r));
}
