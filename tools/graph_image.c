/* graph_image.c -- rows and links, written as hnswlib 0.8 writes an index (engine/hnswlib_parse.h).
 *
 * What the source says of its graph is passed on as it is, only brought into bounds that the format
 * has room for: whoever loads it checks links, levels and entry, and says what is wrong.
 */
#include "tools/graph_image.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools/cli.h"

#define BLOCK 256u /* rows that are read at a time */

struct image {
    struct rows *r;
    FILE *file;
    uint32_t *list; /* the counts before the links, and 2 M of them */
    float *vectors; /* BLOCK rows */
    uint64_t *labels;
};

static void put(const struct image *im, const void *bytes, size_t n)
{
    (void)fwrite(bytes, 1, n, im->file); /* ferror() is asked at the end */
}

static void put_u64(const struct image *im, uint64_t number)
{
    put(im, &number, sizeof number);
}

static void put_head(const struct image *im, uint32_t ef_construction)
{
    const struct rows *r = im->r;
    const struct rows_links *links = r->links;
    const uint64_t M = links->M, offset = 4 + 8 * M, vector = 4ull * r->dim;
    const int32_t top = (int32_t)links->top;
    const double mult = 1 / log((double)M);
    put_u64(im, 0);
    put_u64(im, r->n);
    put_u64(im, r->n);
    put_u64(im, offset + vector + 8);
    put_u64(im, offset + vector);
    put_u64(im, offset);
    put(im, &top, sizeof top);
    put(im, &links->entry, sizeof links->entry);
    put_u64(im, M);
    put_u64(im, 2 * M);
    put_u64(im, M);
    put(im, &mult, sizeof mult);
    put_u64(im, ef_construction);
}

static void put_list(const struct image *im, uint64_t i, uint32_t level)
{
    const struct rows_links *links = im->r->links;
    const uint32_t width = level == 0 ? 2 * links->M : links->M;
    memset(im->list, 0, (1 + (size_t)width) * sizeof *im->list);
    im->list[0] = links->row(im->r, i, level, im->list + 1); /* a count of 16 bits, no mark */
    put(im, im->list, (1 + (size_t)width) * sizeof *im->list);
}

/* As navmap does it to what is added, and the others do not. */
static void normalise(float *v, uint32_t dim)
{
    float sum = 0;
    for (uint32_t i = 0; i < dim; i++)
        sum += v[i] * v[i];
    const float by = 1.0f / (sqrtf(sum) + 1e-30f);
    for (uint32_t i = 0; i < dim; i++)
        v[i] *= by;
}

static int put_rows(const struct image *im)
{
    struct rows *r = im->r;
    int code = EXIT_SOUND;
    for (uint64_t at = 0; at < r->n && code == EXIT_SOUND; at += BLOCK) {
        const uint64_t n = r->n - at < BLOCK ? r->n - at : BLOCK;
        code = rows_read(r, at, n, im->vectors);
        if (code == EXIT_SOUND && r->has_labels)
            code = rows_labels(r, at, n, im->labels);
        for (uint64_t i = 0; i < n && code == EXIT_SOUND; i++) {
            float *vector = im->vectors + i * r->dim;
            if (r->space == NAVMAP_COSINE)
                normalise(vector, r->dim);
            put_list(im, at + i, 0);
            put(im, vector, r->dim * sizeof *vector);
            put_u64(im, r->has_labels ? im->labels[i] : at + i);
        }
    }
    return code;
}

static void put_uppers(const struct image *im)
{
    const struct rows_links *links = im->r->links;
    for (uint64_t i = 0; i < im->r->n; i++) {
        const uint32_t level = links->level(im->r, i), bytes = level * (4 + 4 * links->M);
        put(im, &bytes, sizeof bytes);
        for (uint32_t l = 1; l <= level; l++)
            put_list(im, i, l);
    }
}

static int put_all(struct image *im, uint32_t ef_construction)
{
    const struct rows *r = im->r;
    im->list = malloc((1 + 2 * (size_t)r->links->M) * sizeof *im->list);
    im->vectors = malloc(BLOCK * (size_t)r->dim * sizeof *im->vectors);
    im->labels = malloc(BLOCK * sizeof *im->labels);
    if (im->list == NULL || im->vectors == NULL || im->labels == NULL)
        return cli_error("%s: out of memory", r->path);
    put_head(im, ef_construction);
    int code = put_rows(im);
    if (code != EXIT_SOUND)
        return code;
    put_uppers(im);
    if (fflush(im->file) != 0 || ferror(im->file))
        return cli_error("%s: converting it: %s", r->path, strerror(errno));
    return EXIT_SOUND;
}

int graph_image(struct rows *r, uint32_t ef_construction, const char *folder, int *ret_fd)
{
    struct image im = {.r = r};
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        fd = memfd_create("navmap-import", MFD_CLOEXEC);
    int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    im.file = copy >= 0 ? fdopen(copy, "wb") : NULL;
    int code = im.file != NULL
                   ? put_all(&im, ef_construction)
                   : cli_error("%s: no room to convert it: %s", r->path, strerror(errno));
    if (im.file != NULL)
        (void)fclose(im.file);
    else if (copy >= 0)
        (void)close(copy);
    free(im.list);
    free(im.vectors);
    free(im.labels);
    if (code == EXIT_SOUND)
        *ret_fd = fd;
    else if (fd >= 0)
        (void)close(fd);
    return code;
}
