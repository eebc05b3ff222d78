/* navmap.c -- the command line: main, the table of subcommands, and the guard around them.
 *
 * A mapped file can vanish under its reader (truncated by somebody else, a failing disk): the
 * kernel then sends SIGBUS.  The library leaves signals alone; a command has nothing to save, so
 * it may leave at once with a sentence in place of a core dump.
 */
#include <getopt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "engine/navmap.h"
#include "tools/cli.h"

struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
    {"info", "what is in an index: parameters, counts, bytes, log", cmd_info},
    {"verify", "check every checksum, bound, link and label", cmd_verify},
    {"query", "the nearest of vectors from a file or standard input", cmd_query},
    {"import", "vectors from .npy, .fvecs, .hdf5, hnswlib, ... into an index", cmd_import},
    {"export", "vectors and labels to .npy, or the graph to hnswlib's .bin", cmd_export},
    {"compact", "drop what is not needed, mend links, renumber for speed", cmd_compact},
    {"save", "the backup: an index as one file", cmd_save},
    {"salvage", "what is sound of a damaged index, as a new one", cmd_salvage},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static sigjmp_buf bus_jump;

static void on_sigbus(int signal_number)
{
    (void)signal_number;
    siglongjmp(bus_jump, 1);
}

/* What the interrupted call held is never released: the process only says so and ends. */
static int run_guarded(const struct command *command, int argc, char **argv)
{
    if (sigsetjmp(bus_jump, 1) != 0)
        return cli_error(
            "%s: a mapped file could not be read (SIGBUS): it was truncated by another "
            "program, or its disk fails",
            command->name);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_sigbus;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
    return command->run(argc, argv);
}

static void print_usage(FILE *out)
{
    fputs("usage: navmap COMMAND [OPTION]... ARGUMENT...\n\ncommands:\n", out);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
    fputs("\noptions:\n"
          "  -h, --help     this text; `navmap COMMAND --help` tells about one command\n"
          "  -V, --version  the library's version\n"
          "\nexit: 0 success, 1 damage found (verify) or something left out (salvage),\n"
          "      2 the command could not do its job\n",
          out);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    int c;
    /* '+': stop at the command's name, whose options are its own. */
    while ((c = getopt_long(argc, argv, "+hV", options, NULL)) != -1) {
        switch (c) {
        case 'h':
            print_usage(stdout);
            return cli_finish_output(EXIT_SOUND);
        case 'V':
            printf("navmap %s\n", navmap_version());
            return cli_finish_output(EXIT_SOUND);
        default:
            print_usage(stderr);
            return EXIT_UNABLE;
        }
    }
    if (optind == argc) {
        print_usage(stderr);
        return EXIT_UNABLE;
    }
    const struct command *command = find_command(argv[optind]);
    if (command == NULL)
        return cli_error("no command named '%s'; `navmap --help` lists them", argv[optind]);
    argc -= optind;
    argv += optind;
    optind = 0; /* start over, also with the ordering rule: each command scans its own options */
    return run_guarded(command, argc, argv);
}
