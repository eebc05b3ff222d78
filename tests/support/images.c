/* images.c -- choosing what a cut leaves of the un-synced rest, and writing it; see images.h. */
#include "tests/support/images.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/disk.h"
#include "tests/support/harness.h"

const char *const style_names[STYLES] = {
    "none", "all", "one", "all but one", "sectors", "pages", "sector versions", "page versions"};

/* Which un-synced writes survive ---------------------------------------------------------------*/

struct choice {
    enum style style;
    uint64_t seed;
    size_t at;         /* the cut */
    uint32_t one_file; /* STYLE_ONE, STYLE_ALL_BUT_ONE */
    uint64_t one_sector;
};

static struct choice choose(const struct disk *d, enum style style, uint64_t seed)
{
    struct choice c = {style, seed, d->at, UINT32_MAX, 0};
    uint64_t total = 0;
    for (uint32_t i = 0; i < d->trace->n_nodes; i++)
        total += d->files[i].n_writes;
    if (total == 0 || (style != STYLE_ONE && style != STYLE_ALL_BUT_ONE))
        return c;
    uint64_t pick = mix64(seed) % total;
    for (uint32_t i = 0; i < d->trace->n_nodes; i++) {
        if (pick < d->files[i].n_writes) {
            const struct pending_write *w = &d->files[i].writes[pick];
            c.one_file = i;
            c.one_sector = (w->off + mix64(seed + 1) % w->len) / DISK_SECTOR;
            break;
        }
        pick -= d->files[i].n_writes;
    }
    return c;
}

/* Writes to this sector with an index below the result survive.  `of` is how many effects the
 * choice is among: ages are drawn from the younger ones, where un-synced writes are. */
static size_t survives_below(const struct choice *c, uint32_t file, uint64_t sector, size_t oldest)
{
    uint64_t page = sector / (DISK_PAGE / DISK_SECTOR);
    uint64_t unit = c->style == STYLE_PAGES || c->style == STYLE_PAGE_VERSIONS ? page : sector;
    uint64_t draw = mix64(c->seed ^ mix64(unit * 8192 + file));
    switch (c->style) {
    case STYLE_NONE:
        return 0;
    case STYLE_ONE:
        return file == c->one_file && sector == c->one_sector ? c->at : 0;
    case STYLE_ALL_BUT_ONE:
        return file == c->one_file && sector == c->one_sector ? 0 : c->at;
    case STYLE_SECTORS:
    case STYLE_PAGES:
        return draw & 1 ? c->at : 0;
    case STYLE_SECTOR_VERSIONS:
    case STYLE_PAGE_VERSIONS:
        return oldest + (size_t)(draw % (c->at - oldest + 1));
    default:
        return c->at;
    }
}

static uint64_t image_size(const struct disk_file *f, const struct choice *c, uint32_t file)
{
    uint64_t size = f->durable_size;
    size_t limit = c->at;
    if (c->style == STYLE_NONE || c->style == STYLE_ONE)
        limit = 0;
    else if (c->style != STYLE_ALL && c->style != STYLE_ALL_BUT_ONE && f->n_sizes > 0)
        limit = f->sizes[0].index + mix64(c->seed + file) % (c->at - f->sizes[0].index + 1);
    for (uint32_t i = 0; i < f->n_sizes; i++) {
        if (f->sizes[i].index < limit)
            size = f->sizes[i].size;
    }
    return size;
}

/* Fill `bytes` (of cap >= size rounded up) with what the file holds after the cut. */
static uint64_t image_file(const struct disk *d, uint32_t file, const struct choice *c,
                           uint8_t **bytes, uint64_t *cap)
{
    const struct disk_file *f = &d->files[file];
    uint64_t size = image_size(f, c, file);
    if (*cap < size + DISK_PAGE) {
        *cap = size + (1u << 20);
        *bytes = disk_grow(*bytes, *cap);
    }
    uint64_t have = size < f->cap ? size : f->cap;
    (void)memcpy(*bytes, f->durable, have);
    (void)memset(*bytes + have, 0, size - have);
    size_t oldest = f->n_writes > 0 ? f->writes[0].index : c->at;
    for (uint32_t i = 0; i < f->n_writes; i++) {
        const struct pending_write *w = &f->writes[i];
        for (uint64_t off = w->off; off < w->off + w->len;) {
            uint64_t sector = off / DISK_SECTOR, end = (sector + 1) * DISK_SECTOR;
            if (end > w->off + w->len)
                end = w->off + w->len;
            if (end > size)
                end = size;
            if (end <= off)
                break;
            if (w->index < survives_below(c, file, sector, oldest))
                (void)memcpy(*bytes + off, w->bytes + (off - w->off), end - off);
            off = end;
        }
    }
    return size;
}

static void image_names(const struct disk *d, const struct choice *c, struct trace_names *ret)
{
    names_copy(ret, &d->names);
    for (uint32_t i = 0; i < d->n_names; i++) {
        bool keep = c->style == STYLE_ALL || c->style == STYLE_ALL_BUT_ONE ||
                    (c->style != STYLE_NONE && c->style != STYLE_ONE &&
                     (mix64(c->seed + 77 + d->pending_names[i]) & 1));
        if (keep)
            names_apply(ret, &d->trace->effects[d->pending_names[i]]);
    }
}

/* Writing --------------------------------------------------------------------------------------*/

#define MAX_FILES 32
#define MAP_BYTES ((uint64_t)1 << 28) /* mapped beyond the end; only what exists is touched */

struct image_slot {
    char path[512];
    int fd;
    uint8_t *map;
    ino_t ino;
    bool used; /* by the image being written */
};

struct images {
    char root[256];
    struct image_slot slots[MAX_FILES];
    uint32_t n;
    struct trace_names names;
    uint8_t *scratch;
    uint64_t cap;
};

struct images *images_new(const char *root)
{
    struct images *im = disk_grow(NULL, sizeof *im);
    (void)memset(im, 0, sizeof *im);
    (void)snprintf(im->root, sizeof im->root, "%s", root);
    (void)mkdir(root, 0755);
    return im;
}

static void slot_close(struct image_slot *s)
{
    (void)munmap(s->map, MAP_BYTES);
    (void)close(s->fd);
}

void images_free(struct images *im)
{
    for (uint32_t i = 0; im && i < im->n; i++)
        slot_close(&im->slots[i]);
    if (im) {
        free(im->names.at);
        free(im->scratch);
    }
    free(im);
}

static struct image_slot *slot_open(struct images *im, const char *path)
{
    struct stat st;
    bool exists = stat(path, &st) == 0;
    for (uint32_t i = 0; i < im->n; i++) {
        if (strcmp(im->slots[i].path, path) != 0)
            continue;
        if (exists && im->slots[i].ino == st.st_ino)
            return &im->slots[i];
        slot_close(&im->slots[i]);
        im->slots[i] = im->slots[--im->n];
        break;
    }
    if (im->n == MAX_FILES) {
        slot_close(&im->slots[0]);
        im->slots[0] = im->slots[--im->n];
    }
    struct image_slot *s = &im->slots[im->n++];
    (void)snprintf(s->path, sizeof s->path, "%s", path);
    s->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    s->map = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, s->fd, 0);
    if (s->fd < 0 || s->map == MAP_FAILED || fstat(s->fd, &st) != 0) {
        perror(path);
        abort();
    }
    s->ino = st.st_ino;
    return s;
}

static void write_file(struct images *im, const char *path, const uint8_t *bytes, uint64_t size)
{
    struct image_slot *s = slot_open(im, path);
    struct stat st;
    if (fstat(s->fd, &st) != 0 || size >= MAP_BYTES ||
        ((uint64_t)st.st_size != size && ftruncate(s->fd, (off_t)size) != 0)) {
        perror(path);
        abort();
    }
    for (uint64_t off = 0; off < size; off += DISK_PAGE) {
        uint64_t n = size - off < DISK_PAGE ? size - off : DISK_PAGE;
        if (memcmp(s->map + off, bytes + off, n) != 0)
            (void)memcpy(s->map + off, bytes + off, n);
    }
}

/* Remove what the image does not have (LMDB's lock file among it). */
static void remove_others(const struct trace_names *names, uint32_t dir, const char *path)
{
    DIR *d = opendir(path);
    const struct dirent *entry;
    while (d && (entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !names_find(names, dir, entry->d_name))
            harness_remove(harness_path(path, entry->d_name));
    }
    if (d)
        (void)closedir(d);
}

static void write_dir(struct images *im, const struct disk *d, const struct choice *c,
                      const struct trace_names *names, uint32_t dir, const char *path)
{
    (void)mkdir(path, 0755);
    remove_others(names, dir, path);
    for (uint32_t i = 0; i < names->n; i++) {
        char below[512];
        if (names->at[i].dir != dir)
            continue;
        (void)snprintf(below, sizeof below, "%s/%s", path, names->at[i].name);
        if (d->trace->nodes[names->at[i].node].is_dir) {
            write_dir(im, d, c, names, names->at[i].node, below);
        } else {
            uint64_t size = image_file(d, names->at[i].node, c, &im->scratch, &im->cap);
            write_file(im, below, im->scratch, size);
        }
    }
}

void images_write(struct images *im, const struct disk *d, enum style style, uint64_t seed)
{
    struct choice c = choose(d, style, seed);
    image_names(d, &c, &im->names);
    write_dir(im, d, &c, &im->names, 0, im->root);
}

/* R1 -------------------------------------------------------------------------------------------*/

static bool same_file(const char *path, const uint8_t *bytes, uint64_t size, char *why, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *found = disk_grow(NULL, size + 1);
    ssize_t got = fd < 0 ? -1 : pread(fd, found, size + 1, 0);
    bool same = got == (ssize_t)size && memcmp(found, bytes, size) == 0;
    if (!same) {
        uint64_t at = 0;
        while (got >= 0 && at < size && at < (uint64_t)got && found[at] == bytes[at])
            at++;
        (void)snprintf(why, n, "%s: recorded %llu bytes, found %lld; first difference at %llu",
                       path, (unsigned long long)size, (long long)got, (unsigned long long)at);
    }
    free(found);
    (void)close(fd);
    return same;
}

static bool same_dir(const struct disk *d, const struct choice *c, const struct trace_names *names,
                     uint32_t dir, const char *path, char *why, size_t n)
{
    uint8_t *bytes = NULL;
    uint64_t cap = 0;
    bool same = true;
    for (uint32_t i = 0; i < names->n && same; i++) {
        char below[512];
        if (names->at[i].dir != dir)
            continue;
        (void)snprintf(below, sizeof below, "%s/%s", path, names->at[i].name);
        if (d->trace->nodes[names->at[i].node].is_dir) {
            same = same_dir(d, c, names, names->at[i].node, below, why, n);
        } else {
            uint64_t size = image_file(d, names->at[i].node, c, &bytes, &cap);
            same = same_file(below, bytes, size, why, n);
        }
    }
    free(bytes);
    return same;
}

bool images_match(const struct trace *trace, const char *root, char *ret_why, size_t why_bytes)
{
    struct disk *d = disk_new(trace);
    struct trace_names names = {0};
    disk_advance(d, trace->n);
    struct choice c = choose(d, STYLE_ALL, 0);
    image_names(d, &c, &names);
    bool same = same_dir(d, &c, &names, 0, root, ret_why, why_bytes);
    free(names.at);
    disk_free(d);
    return same;
}
