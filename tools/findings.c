/* findings.c -- a finding as a line or as an object; see findings.h. */
#include "tools/findings.h"

#include <inttypes.h>
#include <stdio.h>

#include "tools/cli.h"

static void print_text(const struct findings *r, const struct navmap_finding *f)
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
    printf("%-8s %-8s %-32s %s\n", f->warning ? "warning" : r->damage, f->section, where,
           f->message);
}

static void print_json(struct json *j, const struct navmap_finding *f)
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

void findings_take(void *ctx, const struct navmap_finding *finding)
{
    struct findings *f = ctx;
    if (f->seen++ >= f->limit)
        return;
    progress_end(&f->progress); /* the bar comes back below what is printed */
    if (f->as_json)
        print_json(&f->json, finding);
    else
        print_text(f, finding);
}

static uint64_t omitted(const struct findings *f)
{
    return f->seen > f->limit ? f->seen - f->limit : 0;
}

void findings_close_text(const struct findings *f)
{
    char text[CLI_NUMBER_BYTES];
    if (omitted(f) > 0)
        printf("and %s further findings, not printed (--limit)\n", cli_count(omitted(f), text));
    if (f->seen > 0)
        putchar('\n');
}

void findings_close_json(struct findings *f)
{
    json_number(&f->json, "findings_omitted", omitted(f));
}
