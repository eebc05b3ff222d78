/* cmd_salvage.c -- `navmap salvage`: what is still sound of a damaged index, as a new one.
 *
 * LMDB trusts its own file, and damage in it can end whoever reads it.  So a child process looks
 * first; if that ends with a signal, the work is done without the log.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/cli.h"
#include "tools/findings.h"
#include "tools/newdir.h"

static const char usage[] =
    "usage: navmap salvage [OPTION]... DIR OUT\n"
    "       navmap salvage --dry-run [OPTION]... DIR\n"
    "\n"
    "Make a new index at OUT of all that is sound in the damaged one at DIR (or in a damaged "
    "saved\n"
    "file), which is not changed.  Each vector whose checksum holds is taken, with its label, "
    "live\n"
    "or deleted as it was; the graph is built anew from the vectors.  If the label table is lost,\n"
    "labels are read from the slots.  What is left out, and what had to be mended, is listed.  "
    "OUT\n"
    "appears when it is complete.\n"
    "\n"
    "  -d, --dry-run      only look, and list\n"
    "  -w, --without-log  leave wal.mdb alone: labels from the slots, and no commits that had not\n"
    "                     reached the data file.  Done by itself when reading it crashes\n"
    "  -t, --threads=N    all processors unless told\n"
    "  -l, --limit=N      print at most N findings, 1000 unless told; all are counted\n"
    "  -j, --json         one JSON object instead of the text\n"
    "  -h, --help         this text\n"
    "\n"
    "exit: 0 everything was saved, 1 something was left out, 2 nothing could be made\n"
    "\n"
    "example: navmap salvage broken.navmap whole.navmap\n";

struct job {
    const char *dir, *out; /* out NULL = dry run */
    struct navmap_salvage_options options;
    struct findings findings;
    struct navmap_salvage_result result;
};

/* Does reading the log end the process?  The child says nothing and exits in any other case. */
static bool log_crashes(const struct job *j)
{
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        return false;
    if (child == 0) {
        struct navmap_salvage_options o = {.struct_size = sizeof o};
        struct navmap_salvage_result result = {.struct_size = sizeof result};
        _exit(navmap_salvage(j->dir, NULL, &o, NULL, NULL, &result) == NAVMAP_OK ? 0 : 1);
    }
    int how = 0;
    while (waitpid(child, &how, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(how);
}

static void print_text(const struct job *j)
{
    char live[CLI_NUMBER_BYTES], deleted[CLI_NUMBER_BYTES], out[CLI_NUMBER_BYTES];
    const struct navmap_salvage_result *r = &j->result;
    findings_close_text(&j->findings);
    printf("%s: %s live and %s deleted items %s, %s left out\n", j->out ? j->out : j->dir,
           cli_count(r->live, live), cli_count(r->deleted, deleted),
           j->out ? "saved" : "can be saved", cli_count(r->left_out, out));
    printf("  log     %s\n", r->log_read
                                 ? "read to its end"
                                 : "lost: commits that had not reached the data file may be "
                                   "missing");
    printf("  labels  %s\n", r->labels_read ? "from their table" : "from the slots");
}

static void print_json(struct job *j)
{
    struct json *json = &j->findings.json;
    const struct navmap_salvage_result *r = &j->result;
    findings_close_json(&j->findings);
    json_string(json, "out", j->out);
    json_number(json, "slots", r->slots);
    json_number(json, "live", r->live);
    json_number(json, "deleted", r->deleted);
    json_number(json, "left_out", r->left_out);
    json_number(json, "warnings", r->warnings);
    json_bool(json, "log_read", r->log_read != 0);
    json_bool(json, "labels_read", r->labels_read != 0);
}

static int salvage(struct job *j, struct newdir *fresh)
{
    navmap_status status;
    if (!j->options.without_log && log_crashes(j)) {
        cli_say("%s: reading wal.mdb ends the process that does; going on without it", j->dir);
        j->options.without_log = 1;
    }
    progress_begin(&j->findings.progress, "adding", 0);
    status = navmap_salvage(j->dir, j->out ? fresh->index : NULL, &j->options, findings_take,
                            &j->findings, &j->result);
    progress_end(&j->findings.progress);
    if (status == NAVMAP_EINTERRUPTED)
        return cli_error("called off; nothing was made at %s", j->out);
    if (status != NAVMAP_OK)
        return cli_library_error();
    int code = j->out ? newdir_finish(fresh) : EXIT_SOUND;
    return code == EXIT_SOUND && j->result.left_out > 0 ? EXIT_DAMAGED : code;
}

static int run_json(struct job *j, struct newdir *fresh)
{
    char *buffer = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&buffer, &size);
    struct json *json = &j->findings.json;
    if (memory == NULL)
        return cli_error("building the report: %s", strerror(errno));
    json_begin(json, memory);
    json_object(json, NULL);
    json_string(json, "path", j->dir);
    json_array(json, "findings");
    int code = salvage(j, fresh);
    json_array_end(json);
    print_json(j);
    json_object_end(json);
    json_end(json);
    if (fclose(memory) != 0)
        code = cli_error("building the report: %s", strerror(errno));
    if (code != EXIT_UNABLE)
        fputs(buffer, stdout);
    free(buffer);
    return code;
}

static int run(struct job *j)
{
    struct newdir fresh = {.path = NULL};
    int code = EXIT_SOUND;
    if (cli_kind_of(j->dir) == CLI_NOTHING)
        return cli_error("%s: nothing is there", j->dir);
    progress_catch(); /* before there is anything that would be left behind */
    if (j->out != NULL)
        code = newdir_begin(&fresh, j->out);
    if (code == EXIT_SOUND && j->findings.as_json) {
        code = run_json(j, &fresh);
    } else if (code == EXIT_SOUND) {
        code = salvage(j, &fresh);
        if (code != EXIT_UNABLE)
            print_text(j);
    }
    newdir_abandon(&fresh);
    return code;
}

int cmd_salvage(int argc, char **argv)
{
    static const struct option options[] = {
        {"dry-run", no_argument, NULL, 'd'},
        {"without-log", no_argument, NULL, 'w'},
        {"threads", required_argument, NULL, 't'},
        {"limit", required_argument, NULL, 'l'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct job j = {.findings = {.damage = "LEFT OUT", .limit = 1000},
                    .result.struct_size = sizeof j.result};
    uint64_t threads = navmap_default_threads();
    bool dry = false;
    int c, code = EXIT_SOUND;
    while ((c = getopt_long(argc, argv, "dwt:l:jh", options, NULL)) != -1) {
        switch (c) {
        case 'd':
            dry = true;
            break;
        case 'w':
            j.options.without_log = 1;
            break;
        case 't':
            code = cli_option_number("--threads", optarg, 1, 4096, &threads);
            break;
        case 'l':
            code = cli_option_number("--limit", optarg, 0, UINT64_MAX, &j.findings.limit);
            break;
        case 'j':
            j.findings.as_json = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return cli_finish_output(EXIT_SOUND);
        default:
            fputs(usage, stderr);
            return EXIT_UNABLE;
        }
        if (code != EXIT_SOUND)
            return code;
    }
    if (argc - optind != (dry ? 1 : 2)) {
        fputs(usage, stderr);
        return EXIT_UNABLE;
    }
    j.dir = argv[optind];
    j.out = dry ? NULL : argv[optind + 1];
    j.options.struct_size = sizeof j.options;
    j.options.num_threads = (uint32_t)threads;
    j.options.progress = progress_step;
    j.options.progress_ctx = &j.findings.progress;
    return cli_finish_output(run(&j));
}
