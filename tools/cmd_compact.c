/* cmd_compact.c -- `navmap compact`: an index without what it does not need, in a better order. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/cli.h"
#include "tools/json.h"
#include "tools/progress.h"

static const char usage[] =
    "usage: navmap compact [OPTION]... DIR\n"
    "\n"
    "Write the index at DIR anew: without slots of items that were replaced or updated, and "
    "WITHOUT\n"
    "ITEMS THAT ARE MARKED DELETED, which are forgotten for good.  Links through them are mended,\n"
    "and items are renumbered so that what a search looks at together lies together.\n"
    "The new data takes over at one instant: Ctrl-C, a crash or a full disk leave DIR as it was.\n"
    "Readers go on meanwhile and move to the new data by themselves; no other process may hold "
    "DIR\n"
    "for writing.  Room for a second copy of the data is needed.\n"
    "Afterwards no file of DIR holds a vector that was deleted, replaced or updated, unless a "
    "reader\n"
    "kept the log open; that is said, and another run makes up for it.\n"
    "With another M or other codes in place, readers that are open have to open DIR again.\n"
    "\n"
    "  -k, --keep-deleted      items that are marked deleted stay, marked\n"
    "  -o, --output=PATH       leave DIR as it is and write to PATH, one file as `navmap save` "
    "does\n"
    "  -d, --directory         PATH is to be an index directory\n"
    "  -M, --M=N               links per item, 2 to 512; the graph is built anew\n"
    "  -e, --ef-construction=N with --M: how many candidates building looks at\n"
    "  -C, --codes=NAME        i8 or none: what searches measure with on their way; the graph "
    "stays\n"
    "  -r, --refine            a second pass in which each item chooses its neighbours once more\n"
    "      --keep-order        leave the items in the order in which they lie\n"
    "  -t, --threads=N         else as many as the process may use\n"
    "  -w, --wait=SECONDS      for another writer to finish; else not at all\n"
    "  -j, --json              one JSON object instead of the text\n"
    "  -h, --help              this text\n"
    "\n"
    "example: navmap compact words.navmap\n"
    "         navmap compact --output=small.navmap --directory -M 12 words.navmap\n";

struct command {
    struct navmap_compact_options o;
    const char *path;
    uint64_t wait;
    bool as_json;
};

static uint64_t bytes_at(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (uint64_t)info.st_blocks * 512 : 0;
}

static void report_json(const struct command *c, const struct navmap_compact_result *r)
{
    struct json j;
    json_begin(&j, stdout);
    json_object(&j, NULL);
    json_string(&j, "path", c->path);
    if (c->o.output)
        json_string(&j, "output", c->o.output);
    json_number(&j, "items", r->items);
    json_number(&j, "forgotten", r->forgotten);
    json_number(&j, "dropped", r->dropped);
    json_number(&j, "bytes_before", r->bytes_before);
    if (!c->o.output) {
        json_number(&j, "bytes_after", r->bytes_after);
        json_number(&j, "log_erased", r->log_erased);
    }
    json_object_end(&j);
    json_end(&j);
}

static void report(const struct command *c, const struct navmap_compact_result *r)
{
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES], d[CLI_NUMBER_BYTES];
    if (c->as_json) {
        report_json(c, r);
        return;
    }
    printf("%s: %s items; %s deleted ones forgotten, %s slots dropped\n",
           c->o.output ? c->o.output : c->path, cli_count(r->items, a), cli_count(r->forgotten, b),
           cli_count(r->dropped, d));
    if (c->o.output) {
        if (!c->o.output_directory)
            printf("%s on disk\n", cli_bytes(bytes_at(c->o.output), a));
        return;
    }
    printf("%s on disk, before %s\n", cli_bytes(r->bytes_after, a), cli_bytes(r->bytes_before, b));
    printf(
        r->log_erased
            ? "no file of it holds a vector that was dropped\n"
            : "the log is open elsewhere: dropped vectors may still lie in it; run it again when "
              "no reader is\n");
}

static int close_after(navmap_index *index, navmap_status status, const struct command *c)
{
    int code = EXIT_SOUND;
    if (status == NAVMAP_EINTERRUPTED)
        code = cli_error("called off; %s is as it was", c->path);
    else if (status != NAVMAP_OK)
        code = cli_library_error();
    return cli_close(index, code);
}

static int compact(struct command *c)
{
    navmap_index *index = NULL;
    struct progress progress;
    struct navmap_compact_result result = {.struct_size = sizeof result};
    const struct navmap_open_options o = {.struct_size = sizeof o, .timeout = (double)c->wait};
    if (navmap_open(c->path, NAVMAP_WRITE, &o, &index) != NAVMAP_OK)
        return cli_library_error();
    progress_catch();
    progress_begin(&progress, "compacting", 0);
    c->o.progress = progress_step;
    c->o.progress_ctx = &progress;
    navmap_status status = navmap_compact(index, &c->o, &result);
    progress_end(&progress);
    int code = close_after(index, status, c);
    if (code == EXIT_SOUND)
        report(c, &result);
    return code;
}

/* 0 = the option was taken; else the exit code + 1. */
static int take(struct command *c, int letter)
{
    uint64_t n = 0;
    int code = EXIT_SOUND;
    switch (letter) {
    case 'k':
        c->o.keep_deleted = 1;
        break;
    case 'r':
        c->o.refine = 1;
        break;
    case 'O':
        c->o.keep_order = 1;
        break;
    case 'o':
        c->o.output = optarg;
        break;
    case 'd':
        c->o.output_directory = 1;
        break;
    case 'j':
        c->as_json = true;
        break;
    case 'M':
        code = cli_option_number("--M", optarg, 2, 512, &n);
        c->o.M = (uint32_t)n;
        break;
    case 'C':
        if (!cli_parse_codes(optarg, &c->o.codes))
            code = cli_error("--codes: expected i8 or none, found '%s'", optarg);
        break;
    case 'e':
        code = cli_option_number("--ef-construction", optarg, 1, 1u << 20, &n);
        c->o.ef_construction = (uint32_t)n;
        break;
    case 't':
        code = cli_option_number("--threads", optarg, 1, 256, &n);
        c->o.num_threads = (uint32_t)n;
        break;
    case 'w':
        code = cli_option_number("--wait", optarg, 0, 1u << 20, &c->wait);
        break;
    case 'h':
        fputs(usage, stdout);
        return cli_finish_output(EXIT_SOUND) + 1;
    default:
        fputs("try `navmap compact --help`\n", stderr);
        return EXIT_UNABLE + 1;
    }
    return code == EXIT_SOUND ? 0 : code + 1;
}

int cmd_compact(int argc, char **argv)
{
    static const struct option options[] = {
        {"keep-deleted", no_argument, NULL, 'k'},
        {"refine", no_argument, NULL, 'r'},
        {"keep-order", no_argument, NULL, 'O'},
        {"output", required_argument, NULL, 'o'},
        {"directory", no_argument, NULL, 'd'},
        {"M", required_argument, NULL, 'M'},
        {"ef-construction", required_argument, NULL, 'e'},
        {"codes", required_argument, NULL, 'C'},
        {"threads", required_argument, NULL, 't'},
        {"wait", required_argument, NULL, 'w'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct command c = {.o = {.struct_size = sizeof c.o, .num_threads = navmap_default_threads()}};
    for (int letter;
         (letter = getopt_long(argc, argv, "kro:dM:e:C:t:w:jh", options, NULL)) != -1;) {
        int stop = take(&c, letter);
        if (stop != 0)
            return stop - 1;
    }
    if (argc - optind != 1)
        return cli_error("compact takes one index directory; try `navmap compact --help`");
    c.path = argv[optind];
    return cli_finish_output(compact(&c));
}
