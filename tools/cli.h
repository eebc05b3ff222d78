/* cli.h -- what main and the subcommands share: the table's row, exit codes, number formats. */
#ifndef NAVMAP_TOOLS_CLI_H
#define NAVMAP_TOOLS_CLI_H

#include <stddef.h>
#include <stdint.h>

enum exit_code {
    EXIT_SOUND = 0,
    EXIT_DAMAGED = 1, /* verify: at least one finding is damage */
    EXIT_UNABLE = 2   /* bad usage, unreadable, not an index: the command could not do its job */
};

/* A subcommand: argv[0] is its name; returns an exit code. */
int cmd_info(int argc, char **argv);
int cmd_verify(int argc, char **argv);

/* "navmap: SENTENCE" on standard error, from a printf format; returns EXIT_UNABLE. */
int cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same with what the library last said in this thread. */
int cli_library_error(void);
/* The rest of standard output reached its file?  EXIT_UNABLE with a sentence if not. */
int cli_finish_output(int code);

#define CLI_NUMBER_BYTES 32
/* 1234567 as "1,234,567"; returns `text`. */
const char *cli_count(uint64_t n, char text[CLI_NUMBER_BYTES]);
/* Bytes in a unit of three or four digits: "512 B", "1.2 MiB"; returns `text`. */
const char *cli_bytes(uint64_t n, char text[CLI_NUMBER_BYTES]);

#endif
