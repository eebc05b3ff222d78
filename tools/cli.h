/* cli.h -- what main and the subcommands share: the table's row, exit codes, options, numbers. */
#ifndef NAVMAP_TOOLS_CLI_H
#define NAVMAP_TOOLS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/navmap.h"

enum exit_code {
    EXIT_SOUND = 0,
    EXIT_DAMAGED = 1, /* verify: at least one finding is damage */
    EXIT_UNABLE = 2   /* bad usage, unreadable, not an index: the command could not do its job */
};

/* A subcommand: argv[0] is its name; returns an exit code. */
int cmd_compact(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_query(int argc, char **argv);
int cmd_salvage(int argc, char **argv);
int cmd_save(int argc, char **argv);
int cmd_verify(int argc, char **argv);

/* "navmap: SENTENCE" on standard error, from a printf format; returns EXIT_UNABLE. */
int cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same with what the library last said in this thread. */
int cli_library_error(void);
/* "navmap: SENTENCE" on standard error, and no more: a remark. */
void cli_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The rest of standard output reached its file?  EXIT_UNABLE with a sentence if not. */
int cli_finish_output(int code);

/* A whole number of decimal digits, nothing before or behind; false for anything else. */
bool cli_parse_number(const char *text, uint64_t *ret_number);
/* The value of an option that is a number between `least` and `most`; else EXIT_UNABLE with a
 * sentence that names the option. */
int cli_option_number(const char *option, const char *text, uint64_t least, uint64_t most,
                      uint64_t *ret_number);
/* "l2", "ip" or "cosine"; false for anything else. */
bool cli_parse_space(const char *text, uint32_t *ret_space);
const char *cli_space_name(uint32_t space);
/* "i8" or "none", enum navmap_codes. */
bool cli_parse_codes(const char *text, uint32_t *ret_codes);
const char *cli_codes_name(uint32_t codes);
/* "f32" or "f16", enum navmap_vectors. */
bool cli_parse_dtype(const char *text, uint32_t *ret_vectors);
const char *cli_dtype_name(uint32_t vectors);

/* A path whose ending is `suffix` (which begins with a dot), whatever its case? */
bool cli_ends_with(const char *path, const char *suffix);
/* What is at `path`? */
enum cli_kind { CLI_NOTHING, CLI_DIRECTORY, CLI_FILE, CLI_OTHER };
enum cli_kind cli_kind_of(const char *path);

/* Open for reading whatever navmap can search: a directory as a live reader, a sealed file or one
 * of hnswlib's privately (`has_space`, `space`: for the latter, which do not say).
 * EXIT_UNABLE with a sentence.  Release with cli_close(). */
int cli_open(const char *path, bool has_space, uint32_t space, navmap_index **ret_index);
/* Close; when that fails and `code` was no error, say why and return EXIT_UNABLE. */
int cli_close(navmap_index *index, int code);
/* The facts of an open index. */
int cli_stats(navmap_index *index, struct navmap_stats *ret_stats);

/* All labels in the order of the slots, malloc'd, whatever a writer adds meanwhile. */
int cli_labels(navmap_index *index, bool include_deleted, uint64_t **ret_labels, uint64_t *ret_n);

/* The usage text, for --help (`option` is 'h') on standard output, else on standard error; returns
 * what the command is to return. */
int cli_usage(int option, const char *usage);
/* The options of a command that has no more than --json and --help, and `n` arguments.  0 = go on,
 * else the exit code + 1. */
int cli_plain_options(int argc, char **argv, const char *usage, int n, bool *ret_json);

#define CLI_NUMBER_BYTES 32
/* 1234567 as "1,234,567"; returns `text`. */
const char *cli_count(uint64_t n, char text[CLI_NUMBER_BYTES]);
/* Bytes in a unit of three or four digits: "512 B", "1.2 MiB"; returns `text`. */
const char *cli_bytes(uint64_t n, char text[CLI_NUMBER_BYTES]);

#endif
