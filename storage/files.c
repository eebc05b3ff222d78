/* files.c -- finding the data file of an index directory. */
#include "storage/files.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"
#include "storage/io.h"

char *files_data_path(const char *dir, uint64_t generation)
{
    char *path = NULL;
    if (asprintf(&path, "%s/data-%08llu.navmap", dir, (unsigned long long)generation) < 0)
        return NULL;
    return path;
}

/* 0 when the name is not one of ours. */
static uint64_t generation_of(const char *name)
{
    unsigned long long generation = 0;
    int end = 0;
    if (sscanf(name, "data-%8llu.navmap%n", &generation, &end) != 1 || end == 0 || name[end] != 0)
        return 0;
    return generation;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

struct generations {
    const char *dir;
    uint64_t *list;
    uint32_t n;
};

static navmap_status add_generation(void *ctx, const char *name)
{
    struct generations *g = ctx;
    uint64_t generation = generation_of(name);
    if (generation == 0)
        return NAVMAP_OK;
    uint64_t *longer = realloc(g->list, (g->n + 1) * sizeof *longer);
    if (!longer)
        return fail(NAVMAP_ENOMEM, "reading directory %s: out of memory", g->dir);
    g->list = longer;
    g->list[g->n++] = generation;
    return NAVMAP_OK;
}

navmap_status files_generations(const char *dir, uint64_t **ret_generations, uint32_t *ret_n)
{
    struct generations g = {.dir = dir};
    navmap_status status = io_list(dir, add_generation, &g);
    if (status != NAVMAP_OK) {
        free(g.list);
        return status;
    }
    if (g.n > 1)
        qsort(g.list, g.n, sizeof *g.list, by_number);
    *ret_generations = g.list;
    *ret_n = g.n;
    return NAVMAP_OK;
}

static navmap_status read_live(const char *dir, uint64_t generation, struct disk_live *ret_live)
{
    char *path = files_data_path(dir, generation);
    int fd = -1;
    if (!path)
        return fail(NAVMAP_ENOMEM, "reading %s: out of memory", dir);
    navmap_status status = io_open(path, O_RDONLY, 0, &fd);
    if (status == NAVMAP_OK) {
        status = io_pread(fd, path, ret_live, sizeof *ret_live, LAYOUT_LIVE_OFFSET);
        io_close(fd);
    }
    free(path);
    return status;
}

static navmap_status current_of(const char *dir, const uint64_t *list, uint32_t n,
                                uint64_t *ret_generation, struct disk_live *ret_live)
{
    for (uint32_t i = 0; i < n; i++) {
        TRY(read_live(dir, list[i], ret_live));
        if (ret_live->superseded == 0) {
            *ret_generation = list[i];
            return NAVMAP_OK;
        }
    }
    return fail(NAVMAP_ENOINDEX, "%s: no data file in use: not a navmap index, or being replaced",
                dir);
}

static navmap_status find_current(const char *dir, uint64_t *ret_generation,
                                  struct disk_live *ret_live)
{
    uint64_t *list = NULL;
    uint32_t n = 0;
    TRY(files_generations(dir, &list, &n));
    navmap_status status = current_of(dir, list, n, ret_generation, ret_live);
    free(list);
    return status;
}

navmap_status files_current(const char *dir, uint64_t *ret_generation)
{
    struct disk_live live;
    return find_current(dir, ret_generation, &live);
}

uint32_t files_writer_pid(const char *dir)
{
    struct disk_live live;
    uint64_t generation;
    return find_current(dir, &generation, &live) == NAVMAP_OK ? live.writer_pid : 0;
}

static navmap_status read_header(int fd, const char *path, uint64_t generation,
                                 struct layout *ret_layout, int *ret_read_only)
{
    struct disk_header page;
    uint64_t size;
    TRY(io_file_size(fd, path, &size));
    if (size < LAYOUT_CHUNK0_OFFSET)
        return fail(NAVMAP_ECORRUPT, "%s: file size: expected at least %u bytes, found %llu", path,
                    LAYOUT_CHUNK0_OFFSET, (unsigned long long)size);
    TRY(io_pread(fd, path, &page, sizeof page, LAYOUT_HEADER_OFFSET));
    TRY(layout_read_header(&page, size, path, ret_layout, ret_read_only));
    if (ret_layout->generation != generation)
        return fail(NAVMAP_ECORRUPT, "%s: header: generation: expected %llu, found %llu", path,
                    (unsigned long long)generation, (unsigned long long)ret_layout->generation);
    if (ret_layout->flags & HEADER_SEALED)
        return fail(NAVMAP_ECORRUPT, "%s: header: flags: a sealed file inside an index directory",
                    path);
    return NAVMAP_OK;
}

navmap_status files_open_data(const char *dir, uint64_t generation, int flags, int *ret_fd,
                              char **ret_path, struct layout *ret_layout, int *ret_read_only)
{
    int fd = -1;
    char *path = files_data_path(dir, generation);
    if (!path)
        return fail(NAVMAP_ENOMEM, "opening %s: out of memory", dir);
    navmap_status status = io_open(path, flags, 0, &fd);
    if (status == NAVMAP_ENOINDEX)
        status = fail(NAVMAP_ECORRUPT, "%s is missing, but the log names it", path);
    if (status == NAVMAP_OK)
        status = read_header(fd, path, generation, ret_layout, ret_read_only);
    if (status != NAVMAP_OK) {
        io_close(fd);
        free(path);
        return status;
    }
    *ret_fd = fd;
    *ret_path = path;
    return NAVMAP_OK;
}
