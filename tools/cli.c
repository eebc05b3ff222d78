/* cli.c -- how every subcommand words an error and a number. */
#include "tools/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/navmap.h"

int cli_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("navmap: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return EXIT_UNABLE;
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
