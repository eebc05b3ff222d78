/* npy.c -- .npy files read and written; see npy.h. */
#include "tools/npy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cli.h"

#define HEADER_MOST 65536u /* of a dictionary with three keys */

static const struct {
    const char *name;
    enum number type;
} types[] = {
    {"f2", F16}, {"f4", F32}, {"f8", F64}, {"i1", I8},  {"i2", I16}, {"i4", I32},
    {"i8", I64}, {"u1", U8},  {"u2", U16}, {"u4", U32}, {"u8", U64},
};
#define N_TYPES (sizeof types / sizeof *types)

/* Reading --------------------------------------------------------------------------------------*/

/* What stands behind 'KEY':, or NULL. */
static const char *value_of(const char *header, const char *key)
{
    char quoted[32];
    (void)snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *at = strstr(header, quoted);
    if (at == NULL)
        return NULL;
    at += strlen(quoted);
    at += strspn(at, " ");
    if (*at++ != ':')
        return NULL;
    return at + strspn(at, " ");
}

static int parse_type(const char *path, const char *header, struct npy *npy)
{
    const char *at = value_of(header, "descr");
    if (at == NULL || at[0] != '\'')
        return cli_error("%s: no plain type in its header", path);
    at++;
    const int n = (int)strcspn(at, "'");
    for (size_t i = 0; i < N_TYPES; i++)
        if (n == 3 && (at[0] == '<' || (at[0] == '|' && at[2] == '1')) &&
            strncmp(at + 1, types[i].name, 2) == 0) {
            npy->type = types[i].type;
            return EXIT_SOUND;
        }
    return cli_error("%s: type: expected little-endian floats or integers (such as '<f4'), found "
                     "'%.*s'",
                     path, n, at);
}

static int parse_shape(const char *path, const char *header, struct npy *npy)
{
    const char *at = value_of(header, "shape");
    uint64_t shape[2] = {1, 1};
    npy->dimensions = 0;
    if (at == NULL || *at++ != '(')
        return cli_error("%s: no shape in its header", path);
    for (at += strspn(at, " "); *at >= '0' && *at <= '9'; npy->dimensions++) {
        char *end;
        errno = 0;
        unsigned long long n = strtoull(at, &end, 10);
        if (npy->dimensions == 2 || errno != 0)
            return cli_error("%s: shape: expected one or two dimensions", path);
        shape[npy->dimensions] = n;
        at = end + strspn(end, " ,");
    }
    if (*at != ')' || npy->dimensions == 0)
        return cli_error("%s: shape: expected one or two dimensions", path);
    npy->rows = shape[0];
    npy->columns = shape[1];
    return EXIT_SOUND;
}

static int parse_order(const char *path, const char *header, const struct npy *npy)
{
    const char *at = value_of(header, "fortran_order");
    if (at != NULL && strncmp(at, "False", 5) == 0)
        return EXIT_SOUND;
    if (at != NULL && (npy->rows == 1 || npy->columns == 1))
        return EXIT_SOUND;
    return cli_error("%s: columns lie before rows (Fortran order); "
                     "numpy.ascontiguousarray() turns it",
                     path);
}

int npy_parse(const char *path, const uint8_t *bytes, size_t n, struct npy *ret_npy)
{
    struct npy npy = {.type = F32};
    if (n < 12 || memcmp(bytes, "\x93NUMPY", 6) != 0)
        return cli_error("%s: no .npy file", path);
    size_t before = bytes[6] == 1 ? 10 : 12, length = bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] > 1)
        length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (bytes[6] < 1 || bytes[6] > 3)
        return cli_error("%s: .npy version: expected 1 to 3, found %u", path, bytes[6]);
    if (length > HEADER_MOST || before + length > n)
        return cli_error("%s: header: expected at most %zu bytes, found %zu", path, n - before,
                         length);
    char *header = strndup((const char *)bytes + before, length);
    if (header == NULL)
        return cli_error("%s: out of memory", path);
    int code = parse_type(path, header, &npy);
    if (code == EXIT_SOUND)
        code = parse_shape(path, header, &npy);
    if (code == EXIT_SOUND)
        code = parse_order(path, header, &npy);
    free(header);
    if (code != EXIT_SOUND)
        return code;
    npy.offset = before + length;
    const uint64_t size = number_bytes(npy.type), room = (n - npy.offset) / size;
    if (npy.columns != 0 && npy.rows > room / npy.columns)
        return cli_error("%s: size: expected %" PRIu64 " x %" PRIu64 " numbers of %" PRIu64
                         " bytes behind the header, found %zu bytes",
                         path, npy.rows, npy.columns, size, n - npy.offset);
    *ret_npy = npy;
    return EXIT_SOUND;
}

/* Writing --------------------------------------------------------------------------------------*/

#define WRITTEN_HEADER 128 /* bytes, so that the number of rows can be filled in at the end */

static int write_header(struct npy_writer *w, uint64_t rows)
{
    char header[WRITTEN_HEADER + 1], dictionary[WRITTEN_HEADER];
    const char *name = "f4";
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].type == w->type)
            name = types[i].name;
    int n = w->columns > 0
                ? snprintf(dictionary, sizeof dictionary,
                           "{'descr': '<%s', 'fortran_order': False, 'shape': (%" PRIu64
                           ", %" PRIu64 "), }",
                           name, rows, w->columns)
                : snprintf(dictionary, sizeof dictionary,
                           "{'descr': '<%s', 'fortran_order': False, 'shape': (%" PRIu64 ",), }",
                           name, rows);
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10); /* 0x76 = 118 bytes follow */
    memcpy(header + 10, dictionary, (size_t)n);
    header[WRITTEN_HEADER - 1] = '\n';
    if (fwrite(header, 1, WRITTEN_HEADER, w->out) != WRITTEN_HEADER)
        return cli_error("writing %s: %s", w->path, strerror(errno));
    return EXIT_SOUND;
}

int npy_create(struct npy_writer *w, const char *path, enum number type, uint64_t columns)
{
    *w = (struct npy_writer){.path = path, .type = type, .columns = columns};
    if (cli_kind_of(path) == CLI_DIRECTORY)
        return cli_error("%s is a directory; name a file", path);
    if (asprintf(&w->temporary, "%s.tmp-%ld", path, (long)getpid()) < 0) {
        w->temporary = NULL;
        return cli_error("%s: out of memory", path);
    }
    int fd = open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    w->out = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (w->out == NULL) {
        int code = cli_error("%s: %s", w->temporary, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        free(w->temporary);
        w->temporary = NULL;
        return code;
    }
    return write_header(w, 0);
}

int npy_write(struct npy_writer *w, const void *numbers, uint64_t n)
{
    if (fwrite(numbers, number_bytes(w->type), n, w->out) != n)
        return cli_error("writing %s: %s", w->path, strerror(errno));
    return EXIT_SOUND;
}

static int sync_parent(const char *path)
{
    char *copy = strdup(path);
    int fd = copy != NULL ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int failed = fd < 0 || fsync(fd) != 0;
    int code =
        failed ? cli_error("syncing the directory of %s: %s", path, strerror(errno)) : EXIT_SOUND;
    if (fd >= 0)
        (void)close(fd);
    free(copy);
    return code;
}

int npy_finish(struct npy_writer *w, uint64_t rows)
{
    rewind(w->out);
    int code = write_header(w, rows);
    if (code != EXIT_SOUND)
        return code;
    bool failed = fflush(w->out) != 0 || fsync(fileno(w->out)) != 0;
    failed |= fclose(w->out) != 0;
    w->out = NULL;
    if (failed || rename(w->temporary, w->path) != 0)
        return cli_error("writing %s: %s", w->path, strerror(errno));
    free(w->temporary);
    w->temporary = NULL;
    return sync_parent(w->path);
}

void npy_abandon(struct npy_writer *w)
{
    if (w->out != NULL)
        (void)fclose(w->out);
    if (w->temporary != NULL)
        (void)unlink(w->temporary);
    free(w->temporary);
    *w = (struct npy_writer){.out = NULL};
}
