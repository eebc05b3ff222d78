/* rows.c -- which format a file of vectors has, and what all formats share; see rows.h. */
#include "tools/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cli.h"

#define DIM_MOST 65536u

int rows_map(struct rows *r)
{
    struct stat info;
    int fd = open(r->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cli_error("%s: %s", r->path, strerror(errno));
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        (void)close(fd);
        return cli_error("%s: no regular file", r->path);
    }
    void *at = NULL;
    if (info.st_size > 0)
        at = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    (void)close(fd);
    if (at == MAP_FAILED)
        return cli_error("%s: mapping it: %s", r->path, strerror(errno));
    if (at == NULL)
        return cli_error("%s: the file is empty", r->path);
    (void)madvise(at, (size_t)info.st_size, MADV_SEQUENTIAL);
    r->bytes = at;
    r->n_bytes = (size_t)info.st_size;
    return EXIT_SOUND;
}

int rows_check_shape(const struct rows *r)
{
    if (r->n == 0)
        return cli_error("%s: no vectors in it", r->path);
    if (r->dim < 1 || r->dim > DIM_MOST)
        return cli_error("%s: vectors of %" PRIu32 " dimensions, expected 1 to %u", r->path, r->dim,
                         DIM_MOST);
    return EXIT_SOUND;
}

/* Format ---------------------------------------------------------------------------------------*/

static const struct {
    const char *suffix, *format;
} by_suffix[] = {
    {".npy", "npy"},     {".fvecs", "fvecs"},      {".bvecs", "bvecs"},     {".ivecs", "ivecs"},
    {".hdf5", "hdf5"},   {".h5", "hdf5"},          {".bin", "hnswlib"},     {".navmap", "navmap"},
    {".faiss", "faiss"}, {".faissindex", "faiss"}, {".usearch", "usearch"},
};

static const struct {
    const char *format;
    size_t n;
    const char *magic;
} by_magic[] = {
    {"npy", 6, "\x93NUMPY"},
    {"hdf5", 8, "\x89HDF\r\n\x1a\n"},
    {"navmap", 8, "\x89NVM\r\n\x1a\n"},
    {"faiss", 4, "IHNf"},
    {"faiss", 4, "IxF2"},
    {"faiss", 4, "IxFI"},
    {"faiss", 4, "IxMp"},
    {"faiss", 4, "IxM2"},
};

/* What a file begins with is surer than what it is called. */
static const char *guess_format(const char *path)
{
    char head[8] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, head, sizeof head) : -1;
    if (fd >= 0)
        (void)close(fd);
    for (size_t i = 0; i < sizeof by_magic / sizeof *by_magic; i++)
        if (n >= (ssize_t)by_magic[i].n && memcmp(head, by_magic[i].magic, by_magic[i].n) == 0)
            return by_magic[i].format;
    for (size_t i = 0; i < sizeof by_suffix / sizeof *by_suffix; i++)
        if (cli_ends_with(path, by_suffix[i].suffix))
            return by_suffix[i].format;
    return NULL;
}

static int open_format(struct rows *r, const struct rows_how *how)
{
    const char *f = r->format;
    if (strcmp(f, "npy") == 0)
        return rows_open_npy(r);
    if (strcmp(f, "fvecs") == 0 || strcmp(f, "bvecs") == 0 || strcmp(f, "ivecs") == 0)
        return rows_open_vecs(r);
    if (strcmp(f, "hdf5") == 0)
        return rows_open_hdf5(r, how);
    if (strcmp(f, "hnswlib") == 0 || strcmp(f, "navmap") == 0)
        return rows_open_index(r, how);
    if (strcmp(f, "faiss") == 0)
        return rows_open_faiss(r);
    if (strcmp(f, "usearch") == 0)
        return rows_open_usearch(r);
    return cli_error("--format: '%s' is none of " ROWS_FORMATS, f);
}

int rows_open(const char *path, const struct rows_how *how, struct rows *ret_rows)
{
    struct rows r = {.path = path, .format = how->format};
    *ret_rows = (struct rows){.path = path};
    if (cli_kind_of(path) == CLI_NOTHING)
        return cli_error("%s: nothing is there", path);
    if (cli_kind_of(path) == CLI_DIRECTORY)
        r.format = "navmap";
    if (r.format == NULL)
        r.format = guess_format(path);
    if (r.format == NULL)
        return cli_error("%s: its format cannot be told from its name or content; --format names "
                         "it: " ROWS_FORMATS,
                         path);
    int code = open_format(&r, how);
    if (code == EXIT_SOUND)
        code = rows_check_shape(&r);
    if (code == EXIT_SOUND)
        *ret_rows = r;
    else
        rows_close(&r);
    return code;
}

void rows_close(struct rows *r)
{
    if (r->close != NULL)
        r->close(r);
    if (r->bytes != NULL)
        (void)munmap((void *)(uintptr_t)r->bytes, r->n_bytes);
    *r = (struct rows){.path = r->path};
}

int rows_read(struct rows *r, uint64_t first, uint64_t n, float *ret_vectors)
{
    if (r->mapped == NULL)
        return r->read(r, first, n, ret_vectors);
    memcpy(ret_vectors, r->mapped + first * r->dim, n * r->dim * sizeof(float));
    return EXIT_SOUND;
}

int rows_labels(struct rows *r, uint64_t first, uint64_t n, uint64_t *ret_labels)
{
    return r->labels(r, first, n, ret_labels);
}

/* Numbers --------------------------------------------------------------------------------------*/

size_t number_bytes(enum number type)
{
    static const uint8_t bytes[] = {2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8};
    return bytes[type];
}

/* IEEE 754 binary16, by its fields. */
static float half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu;
    uint32_t bits;
    float f;
    if (exponent == 31) {
        bits = sign | 0x7f800000u | fraction << 13;
    } else if (exponent != 0) {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    } else {
        f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}

#define CONVERT(type, expression)                                                                  \
    for (uint64_t i = 0; i < n; i++) {                                                             \
        type x;                                                                                    \
        memcpy(&x, from + i * sizeof x, sizeof x);                                                 \
        ret_floats[i] = (expression);                                                              \
    }                                                                                              \
    break

void numbers_as_floats(enum number type, const uint8_t *from, uint64_t n, float *ret_floats)
{
    switch (type) {
    case F16:
        CONVERT(uint16_t, half(x));
    case F32:
        memcpy(ret_floats, from, n * sizeof(float));
        break;
    case F64:
        CONVERT(double, (float)x);
    case I8:
        CONVERT(int8_t, (float)x);
    case I16:
        CONVERT(int16_t, (float)x);
    case I32:
        CONVERT(int32_t, (float)x);
    case I64:
        CONVERT(int64_t, (float)x);
    case U8:
        CONVERT(uint8_t, (float)x);
    case U16:
        CONVERT(uint16_t, (float)x);
    case U32:
        CONVERT(uint32_t, (float)x);
    case U64:
        CONVERT(uint64_t, (float)x);
    }
}
