/* cli.c -- how every subcommand words an error and a number, reads an option, opens an index. */
#include "tools/cli.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

static void say(const char *format, va_list args)
{
    fputs("navmap: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

int cli_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    return EXIT_UNABLE;
}

void cli_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

int cli_library_error(void)
{
    return cli_error("%s", navmap_error_detail());
}

int cli_finish_output(int code)
{
    /* A full disk or a closed pipe shows at the flush: a cut-off report must not look like one. */
    if (fflush(stdout) != 0 || ferror(stdout))
        return cli_error("writing the report: %s", strerror(errno));
    return code;
}

const char *cli_count(uint64_t n, char text[CLI_NUMBER_BYTES])
{
    char digits[CLI_NUMBER_BYTES];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n);
    char *out = text;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = 0;
    return text;
}

const char *cli_bytes(uint64_t n, char text[CLI_NUMBER_BYTES])
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double size = (double)n;
    size_t u = 0;
    while (size >= 999.5 && u + 1 < sizeof unit / sizeof *unit) {
        size /= 1024;
        u++;
    }
    snprintf(text, CLI_NUMBER_BYTES, u > 0 && size < 99.95 ? "%.1f %s" : "%.0f %s", size, unit[u]);
    return text;
}

/* Options --------------------------------------------------------------------------------------*/

bool cli_parse_number(const char *text, uint64_t *ret_number)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0 || *end != 0)
        return false;
    *ret_number = n;
    return true;
}

int cli_option_number(const char *option, const char *text, uint64_t least, uint64_t most,
                      uint64_t *ret_number)
{
    uint64_t n;
    if (!cli_parse_number(text, &n))
        return cli_error("%s: '%s' is not a number", option, text);
    if (n < least || n > most)
        return cli_error("%s: expected %" PRIu64 " to %" PRIu64 ", found %" PRIu64, option, least,
                         most, n);
    *ret_number = n;
    return EXIT_SOUND;
}

static const char *const space_names[] = {"l2", "ip", "cosine"};
#define N_SPACES (sizeof space_names / sizeof *space_names)

bool cli_parse_space(const char *text, uint32_t *ret_space)
{
    for (uint32_t i = 0; i < N_SPACES; i++)
        if (strcmp(text, space_names[i]) == 0) {
            *ret_space = i;
            return true;
        }
    return false;
}

const char *cli_space_name(uint32_t space)
{
    return space < N_SPACES ? space_names[space] : "unknown";
}

bool cli_parse_codes(const char *text, uint32_t *ret_codes)
{
    const bool none = strcmp(text, "none") == 0;
    if (!none && strcmp(text, "i8") != 0)
        return false;
    *ret_codes = none ? NAVMAP_CODES_NONE : NAVMAP_CODES_I8;
    return true;
}

const char *cli_codes_name(uint32_t codes)
{
    return codes == NAVMAP_CODES_I8 ? "i8" : "none";
}

static const char *const vectors_names[] = {"f32", "f16"}; /* enum navmap_vectors */

bool cli_parse_dtype(const char *text, uint32_t *ret_vectors)
{
    for (uint32_t i = 0; i < 2; i++)
        if (strcmp(text, vectors_names[i]) == 0) {
            *ret_vectors = i;
            return true;
        }
    return false;
}

const char *cli_dtype_name(uint32_t vectors)
{
    return vectors < 2 ? vectors_names[vectors] : "unknown";
}

int cli_usage(int option, const char *usage)
{
    fputs(usage, option == 'h' ? stdout : stderr);
    return option == 'h' ? cli_finish_output(EXIT_SOUND) : EXIT_UNABLE;
}

int cli_plain_options(int argc, char **argv, const char *usage, int n, bool *ret_json)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    *ret_json = false;
    while ((c = getopt_long(argc, argv, "jh", options, NULL)) != -1) {
        if (c != 'j')
            return 1 + cli_usage(c, usage);
        *ret_json = true;
    }
    return argc - optind == n ? 0 : 1 + cli_usage('?', usage);
}

/* Paths and indexes ----------------------------------------------------------------------------*/

bool cli_ends_with(const char *path, const char *suffix)
{
    size_t n = strlen(path), m = strlen(suffix);
    return n >= m && strcasecmp(path + n - m, suffix) == 0;
}

enum cli_kind cli_kind_of(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return errno == ENOENT || errno == ENOTDIR ? CLI_NOTHING : CLI_OTHER;
    return S_ISDIR(info.st_mode) ? CLI_DIRECTORY : S_ISREG(info.st_mode) ? CLI_FILE : CLI_OTHER;
}

int cli_open(const char *path, bool has_space, uint32_t space, navmap_index **ret_index)
{
    navmap_status status;
    if (cli_kind_of(path) != CLI_FILE) {
        status = navmap_open(path, NAVMAP_READ, NULL, ret_index);
    } else {
        struct navmap_load_options o = {
            .struct_size = sizeof o, .has_space = has_space, .space = space};
        status = navmap_load(path, &o, ret_index);
        if (status == NAVMAP_EINVAL) { /* a file without a graph has to be asked for */
            o.flat = 1;
            if (navmap_load(path, &o, ret_index) == NAVMAP_OK)
                return EXIT_SOUND;
            o.flat = 0;
            status = navmap_load(path, &o, ret_index); /* for its sentence */
        }
    }
    return status == NAVMAP_OK ? EXIT_SOUND : cli_library_error();
}

int cli_close(navmap_index *index, int code)
{
    if (navmap_close(index) != NAVMAP_OK && code == EXIT_SOUND)
        return cli_library_error();
    return code;
}

int cli_stats(navmap_index *index, struct navmap_stats *ret_stats)
{
    ret_stats->struct_size = sizeof *ret_stats;
    return navmap_get_stats(index, ret_stats) == NAVMAP_OK ? EXIT_SOUND : cli_library_error();
}

int cli_labels(navmap_index *index, bool include_deleted, uint64_t **ret_labels, uint64_t *ret_n)
{
    uint64_t *labels = NULL, room = 0, n = 0;
    while (navmap_labels(index, include_deleted, room, labels, &n) == NAVMAP_OK) {
        if (labels != NULL && n <= room) {
            *ret_labels = labels;
            *ret_n = n;
            return EXIT_SOUND;
        }
        free(labels);
        room = n + 1;
        labels = malloc(room * sizeof *labels);
        if (labels == NULL)
            return cli_error("out of memory for %" PRIu64 " labels", n);
    }
    free(labels);
    return cli_library_error();
}
