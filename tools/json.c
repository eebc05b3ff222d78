/* json.c -- the writer behind json.h; the one place of the tools that knows JSON's grammar. */
#include "tools/json.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>

static void indent(struct json *j)
{
    fprintf(j->out, "\n%*s", 2 * j->depth, "");
}

/* One code point of UTF-8 at `s`, its length in *ret_n; U+FFFD and length 1 for anything that is
 * not well formed (overlong, surrogate, beyond U+10FFFF, cut off). */
static uint32_t next_code_point(const unsigned char *s, int *ret_n)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    int n = s[0] < 0x80                   ? 1
            : s[0] >= 0xf0 && s[0] < 0xf8 ? 4
            : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
            : s[0] >= 0xc0 && s[0] < 0xe0 ? 2
                                          : 0;
    if (n == 1) {
        *ret_n = 1;
        return s[0];
    }
    uint32_t code = n == 0 ? 0 : s[0] & (0x7fu >> n);
    for (int i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            n = 0;
            break;
        }
        code = code << 6 | (s[i] & 0x3fu);
    }
    if (n == 0 || code < smallest[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        *ret_n = 1;
        return 0xfffd;
    }
    *ret_n = n;
    return code;
}

static void quoted(struct json *j, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    fputc('"', j->out);
    while (*s != 0) {
        int n;
        uint32_t code = next_code_point(s, &n);
        s += n;
        if (code == '"' || code == '\\')
            fprintf(j->out, "\\%c", (int)code);
        else if (code == '\n')
            fputs("\\n", j->out);
        else if (code >= 0x20 && code < 0x7f)
            fputc((int)code, j->out);
        else if (code < 0x10000)
            fprintf(j->out, "\\u%04" PRIx32, code);
        else
            fprintf(j->out, "\\u%04" PRIx32 "\\u%04" PRIx32, 0xd800 + ((code - 0x10000) >> 10),
                    0xdc00 + ((code - 0x10000) & 0x3ff));
    }
    fputc('"', j->out);
}

/* What stands before every value: comma, line, key. */
static void lead_in(struct json *j, const char *key)
{
    if (j->filled[j->depth])
        fputc(',', j->out);
    j->filled[j->depth] = true;
    if (j->depth > 0)
        indent(j);
    if (key != NULL) {
        quoted(j, key);
        fputs(": ", j->out);
    }
}

static void open_level(struct json *j, const char *key, char bracket)
{
    lead_in(j, key);
    fputc(bracket, j->out);
    if (j->depth < JSON_DEPTH_MAX)
        j->depth++;
    j->filled[j->depth] = false;
}

static void close_level(struct json *j, char bracket)
{
    bool filled = j->filled[j->depth];
    if (j->depth > 0)
        j->depth--;
    if (filled)
        indent(j);
    fputc(bracket, j->out);
}

void json_begin(struct json *j, FILE *out)
{
    *j = (struct json){.out = out};
}

void json_end(struct json *j)
{
    fputc('\n', j->out);
}

void json_object(struct json *j, const char *key)
{
    open_level(j, key, '{');
}

void json_object_end(struct json *j)
{
    close_level(j, '}');
}

void json_array(struct json *j, const char *key)
{
    open_level(j, key, '[');
}

void json_array_end(struct json *j)
{
    close_level(j, ']');
}

void json_string(struct json *j, const char *key, const char *value)
{
    if (value == NULL) {
        json_null(j, key);
        return;
    }
    lead_in(j, key);
    quoted(j, value);
}

void json_number(struct json *j, const char *key, uint64_t value)
{
    lead_in(j, key);
    fprintf(j->out, "%" PRIu64, value);
}

void json_real(struct json *j, const char *key, double value)
{
    if (!isfinite(value)) {
        json_null(j, key);
        return;
    }
    lead_in(j, key);
    fprintf(j->out, "%.9g", value);
}

void json_bool(struct json *j, const char *key, bool value)
{
    lead_in(j, key);
    fputs(value ? "true" : "false", j->out);
}

void json_null(struct json *j, const char *key)
{
    lead_in(j, key);
    fputs("null", j->out);
}
