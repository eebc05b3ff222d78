/* npy.c -- a parser for as much of NumPy's file format as the measurements' data needs.
 *
 * A file is "\x93NUMPY", a version (1, or 2 and 3), the length of a text in 2, or 4, bytes, and the
 * text, a Python dictionary, padded so that the data after it is aligned. */
#include "tools/bench/npy.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES = 1024 }; /* NumPy writes 128 less the head for any array that is meant here */

/* Read up to the data; the reason, or NULL when the shape is known. */
static const char *read_head(FILE *f, unsigned long long shape[2])
{
    unsigned char head[8], size[4] = {0};
    char text[TEXT_BYTES + 1];
    if (fread(head, 1, sizeof head, f) != sizeof head || memcmp(head, "\x93NUMPY", 6) != 0)
        return "not a .npy file";
    const size_t size_bytes = head[6] == 1 ? 2 : 4;
    if (fread(size, 1, size_bytes, f) != size_bytes)
        return "ends in its head";
    const size_t n = size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 | (size_t)size[3] << 24;
    if (n > TEXT_BYTES || fread(text, 1, n, f) != n)
        return "ends in its head";
    text[n] = '\0';
    if (!strstr(text, "'descr': '<f4'") || !strstr(text, "'fortran_order': False"))
        return "not row-major little-endian float32";
    const char *at = strstr(text, "'shape': (");
    char after = 0;
    if (!at || sscanf(at, "'shape': (%llu, %llu%c", &shape[0], &shape[1], &after) != 3 ||
        after != ')')
        return "not of two dimensions";
    if (shape[0] == 0 || shape[1] == 0 || shape[1] > 65536 || shape[0] > UINT32_MAX)
        return "empty, or of more rows or columns than are meant here";
    return NULL;
}

float *npy_read_floats(const char *dir, const char *name, uint64_t max_rows, uint64_t *ret_rows,
                       uint64_t *ret_columns)
{
    char path[4096];
    unsigned long long shape[2] = {0, 0};
    float *data = NULL;
    const char *why = "cannot be opened";
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path) {
        fprintf(stderr, "%s: the path is too long\n", name);
        return NULL;
    }
    FILE *f = fopen(path, "rb");
    if (f)
        why = read_head(f, shape);
    if (f && !why) {
        const uint64_t rows = shape[0] < max_rows ? shape[0] : max_rows;
        data = malloc(rows * shape[1] * sizeof *data);
        if (!data) {
            why = "no memory for it";
        } else if (fread(data, sizeof *data * shape[1], rows, f) != rows) {
            why = "ends early";
            free(data);
            data = NULL;
        } else {
            *ret_rows = rows;
            *ret_columns = shape[1];
        }
    }
    if (f)
        (void)fclose(f);
    if (why)
        fprintf(stderr, "%s: %s\n", path, why);
    return data;
}
