/* images.c -- replaying a trace up to a cut and writing what may be left; see images.h. */
#include "tests/support/images.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/harness.h"

#define SECTOR 512u
#define PAGE 4096u

const char *const style_names[STYLES] = {
    "none", "all", "one", "all but one", "sectors", "pages", "sector versions", "page versions"};

struct pending_write {
    uint64_t off, len;
    const uint8_t *bytes;
    size_t index; /* of the effect */
};
struct pending_size {
    uint64_t size;
    size_t index;
};

struct disk_file {
    uint8_t *durable;
    uint64_t cap, durable_size;
    struct pending_write *writes;
    uint32_t n_writes, cap_writes;
    struct pending_size *sizes;
    uint32_t n_sizes, cap_sizes;
};

struct disk {
    const struct trace *trace;
    size_t at;
    struct disk_file *files;
    struct trace_names names; /* durable */
    size_t *pending_names;    /* effects */
    uint32_t n_names, cap_names;
};

static void *grow(void *memory, size_t bytes)
{
    memory = realloc(memory, bytes);
    if (!memory) {
        fprintf(stderr, "images: out of memory\n");
        abort();
    }
    return memory;
}

#define PUSH(array, n, cap, value)                                                                 \
    do {                                                                                           \
        if ((n) == (cap)) {                                                                        \
            (cap) = (cap) ? 2 * (cap) : 32;                                                        \
            (array) = grow(array, (cap) * sizeof(array)[0]);                                       \
        }                                                                                          \
        (array)[(n)++] = (value);                                                                  \
    } while (0)

/* Replay ---------------------------------------------------------------------------------------*/

static void reserve(struct disk_file *f, uint64_t bytes)
{
    if (bytes <= f->cap)
        return;
    uint64_t cap = (bytes + (1u << 20)) & ~(uint64_t)(PAGE - 1);
    f->durable = grow(f->durable, cap);
    (void)memset(f->durable + f->cap, 0, cap - f->cap);
    f->cap = cap;
}

struct disk *disk_new(const struct trace *trace)
{
    struct disk *d = grow(NULL, sizeof *d);
    *d = (struct disk){.trace = trace};
    d->files = grow(NULL, trace->n_nodes * sizeof d->files[0]);
    (void)memset(d->files, 0, trace->n_nodes * sizeof d->files[0]);
    for (uint32_t i = 0; i < trace->n_nodes; i++) {
        if (trace->nodes[i].is_dir)
            continue;
        reserve(&d->files[i], trace->nodes[i].size + 1);
        if (trace->nodes[i].bytes)
            (void)memcpy(d->files[i].durable, trace->nodes[i].bytes, trace->nodes[i].size);
        d->files[i].durable_size = trace->nodes[i].size;
    }
    names_copy(&d->names, &trace->start);
    return d;
}

void disk_free(struct disk *d)
{
    if (!d)
        return;
    for (uint32_t i = 0; i < d->trace->n_nodes; i++) {
        free(d->files[i].durable);
        free(d->files[i].writes);
        free(d->files[i].sizes);
    }
    free(d->files);
    free(d->names.at);
    free(d->pending_names);
    free(d);
}

/* Un-synced bytes of [from, to) become durable (`keep`) or are forgotten; what lies outside stays
 * un-synced. */
static void settle_range(struct disk_file *f, uint64_t from, uint64_t to, bool keep)
{
    struct pending_write *rest = NULL;
    uint32_t n_rest = 0, cap_rest = 0;
    for (uint32_t i = 0; i < f->n_writes; i++) {
        struct pending_write w = f->writes[i];
        uint64_t a = w.off > from ? w.off : from;
        uint64_t b = w.off + w.len < to ? w.off + w.len : to;
        if (a >= b) {
            PUSH(rest, n_rest, cap_rest, w);
            continue;
        }
        if (keep) {
            reserve(f, b);
            (void)memcpy(f->durable + a, w.bytes + (a - w.off), b - a);
        }
        if (w.off < a)
            PUSH(rest, n_rest, cap_rest,
                 ((struct pending_write){w.off, a - w.off, w.bytes, w.index}));
        if (b < w.off + w.len)
            PUSH(rest, n_rest, cap_rest,
                 ((struct pending_write){b, w.off + w.len - b, w.bytes + (b - w.off), w.index}));
    }
    free(f->writes);
    f->writes = rest;
    f->n_writes = n_rest;
    f->cap_writes = cap_rest;
}

static void sync_all(struct disk_file *f)
{
    for (uint32_t i = 0; i < f->n_writes; i++) {
        const struct pending_write *w = &f->writes[i];
        reserve(f, w->off + w->len);
        (void)memcpy(f->durable + w->off, w->bytes, w->len);
    }
    f->n_writes = 0;
    if (f->n_sizes > 0) {
        uint64_t size = f->sizes[f->n_sizes - 1].size;
        reserve(f, size + 1);
        if (size < f->durable_size)
            (void)memset(f->durable + size, 0, f->durable_size - size);
        f->durable_size = size;
    }
    f->n_sizes = 0;
}

static void sync_dir(struct disk *d, uint32_t dir)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < d->n_names; i++) {
        const struct effect *e = &d->trace->effects[d->pending_names[i]];
        if (e->dir == dir || (e->kind == EFFECT_RENAME && e->dir2 == dir))
            names_apply(&d->names, e);
        else
            d->pending_names[left++] = d->pending_names[i];
    }
    d->n_names = left;
}

static void replay(struct disk *d, const struct effect *e)
{
    struct disk_file *f = &d->files[e->node];
    uint64_t from = e->off & ~(uint64_t)(PAGE - 1);
    uint64_t to = (e->off + e->len + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    switch (e->kind) {
    case EFFECT_WRITE:
        PUSH(f->writes, f->n_writes, f->cap_writes,
             ((struct pending_write){e->off, e->len, d->trace->arena + e->bytes, d->at}));
        break;
    case EFFECT_SIZE:
        PUSH(f->sizes, f->n_sizes, f->cap_sizes, ((struct pending_size){e->off, d->at}));
        break;
    case EFFECT_SYNC:
        sync_all(f);
        break;
    case EFFECT_SYNC_RANGE: /* the kernel writes whole pages */
        settle_range(f, from, to, true);
        break;
    case EFFECT_DROP:
        f->n_writes = 0;
        break;
    case EFFECT_DROP_RANGE:
        settle_range(f, from, to, false);
        break;
    case EFFECT_LINK:
    case EFFECT_RENAME:
    case EFFECT_UNLINK:
        PUSH(d->pending_names, d->n_names, d->cap_names, d->at);
        break;
    case EFFECT_SYNC_DIR:
        sync_dir(d, e->dir);
        break;
    }
}

void disk_advance(struct disk *d, size_t position)
{
    for (; d->at < position && d->at < d->trace->n; d->at++)
        replay(d, &d->trace->effects[d->at]);
}

bool disk_clean(const struct disk *d)
{
    for (uint32_t i = 0; i < d->trace->n_nodes; i++) {
        if (d->files[i].n_writes > 0 || d->files[i].n_sizes > 0)
            return false;
    }
    return d->n_names == 0;
}

enum kill_point disk_phase(const struct disk *d)
{
    return d->at == 0 ? 0 : d->trace->effects[d->at - 1].phase;
}

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
            c.one_sector = (w->off + mix64(seed + 1) % w->len) / SECTOR;
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
    uint64_t page = sector / (PAGE / SECTOR);
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
    if (*cap < size + PAGE) {
        *cap = size + (1u << 20);
        *bytes = grow(*bytes, *cap);
    }
    uint64_t have = size < f->cap ? size : f->cap;
    (void)memcpy(*bytes, f->durable, have);
    (void)memset(*bytes + have, 0, size - have);
    size_t oldest = f->n_writes > 0 ? f->writes[0].index : c->at;
    for (uint32_t i = 0; i < f->n_writes; i++) {
        const struct pending_write *w = &f->writes[i];
        for (uint64_t off = w->off; off < w->off + w->len;) {
            uint64_t sector = off / SECTOR, end = (sector + 1) * SECTOR;
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
    struct images *im = grow(NULL, sizeof *im);
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
    for (uint64_t off = 0; off < size; off += PAGE) {
        uint64_t n = size - off < PAGE ? size - off : PAGE;
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
    uint8_t *found = grow(NULL, size + 1);
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
