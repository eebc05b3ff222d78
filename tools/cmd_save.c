/* cmd_save.c -- `navmap save`: an index as one sealed file, which is the backup. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tools/cli.h"
#include "tools/json.h"
#include "tools/progress.h"

static const char usage[] = "usage: navmap save [--json] DIR FILE\n"
                            "\n"
                            "Write the index at DIR as one file, as it was last committed, with "
                            "checksums over everything:\n"
                            "the backup.  Under a temporary name, synced, renamed: FILE is the old "
                            "one or the whole new one.\n"
                            "Nobody may hold DIR for writing meanwhile (a process that does saves "
                            "it itself); readers go on.\n"
                            "FILE can be searched as it is, in Python by load_index(), and `navmap "
                            "import FILE DIR` makes a\n"
                            "directory of it again.\n"
                            "\n"
                            "  -j, --json  one JSON object instead of the text\n"
                            "  -h, --help  this text\n"
                            "\n"
                            "example: navmap save words.navmap words-backup.navmap\n";

static void report(const char *dir, const char *file, bool as_json, const struct navmap_stats *s)
{
    char live[CLI_NUMBER_BYTES], size[CLI_NUMBER_BYTES];
    struct stat info = {.st_size = 0};
    (void)stat(file, &info);
    if (as_json) {
        struct json j;
        json_begin(&j, stdout);
        json_object(&j, NULL);
        json_string(&j, "path", dir);
        json_string(&j, "file", file);
        json_number(&j, "live", s->n_live);
        json_number(&j, "deleted", s->n_deleted);
        json_number(&j, "bytes", (uint64_t)info.st_size);
        json_object_end(&j);
        json_end(&j);
        return;
    }
    printf("%s: %s live items in %s\n", file, cli_count(s->n_live, live),
           cli_bytes((uint64_t)info.st_size, size));
}

static int save(const char *dir, const char *file, bool as_json)
{
    navmap_index *index = NULL;
    struct progress progress;
    struct navmap_stats stats;
    const struct navmap_save_options o = {
        .struct_size = sizeof o, .progress = progress_step, .progress_ctx = &progress};
    int code = cli_open(dir, false, 0, &index);
    if (code != EXIT_SOUND)
        return code;
    progress_catch();
    progress_begin(&progress, "saving", 0);
    navmap_status status = navmap_save_with(index, file, &o);
    progress_end(&progress);
    if (status == NAVMAP_EINTERRUPTED)
        code = cli_error("called off; %s is as it was", file);
    else if (status != NAVMAP_OK)
        code = cli_library_error();
    else
        code = cli_stats(index, &stats);
    code = cli_close(index, code);
    if (code == EXIT_SOUND)
        report(dir, file, as_json, &stats);
    return code;
}

int cmd_save(int argc, char **argv)
{
    bool as_json;
    int stop = cli_plain_options(argc, argv, usage, 2, &as_json);
    if (stop != 0)
        return stop - 1;
    return cli_finish_output(save(argv[optind], argv[optind + 1], as_json));
}
