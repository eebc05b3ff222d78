/* json.h -- JSON to a stream, one value at a time: commas, indentation and escapes in one place.
 *
 * J1  Whatever bytes go in, valid JSON in ASCII comes out: a file name that is not UTF-8 must not
 *     break the script that reads the report.
 * J2  Begin and end calls pair up; nesting is at most JSON_DEPTH_MAX deep.
 */
#ifndef NAVMAP_TOOLS_JSON_H
#define NAVMAP_TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH_MAX 8

struct json {
    FILE *out;
    int depth;
    bool filled[JSON_DEPTH_MAX + 1]; /* has this level a value already? */
};

void json_begin(struct json *j, FILE *out);
void json_end(struct json *j); /* a final newline */

/* `key` is NULL for a member of an array and for the outermost value. */
void json_object(struct json *j, const char *key);
void json_object_end(struct json *j);
void json_array(struct json *j, const char *key);
void json_array_end(struct json *j);
void json_string(struct json *j, const char *key, const char *value); /* NULL is null */
void json_number(struct json *j, const char *key, uint64_t value);
/* Shortest of up to nine digits; null for what JSON has no number for (infinities, NaN). */
void json_real(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);
void json_null(struct json *j, const char *key);

#endif
