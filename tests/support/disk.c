/* disk.c -- replaying a trace up to a cut: writes wait until a sync takes them; see images.h. */
#include "tests/support/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *disk_grow(void *memory, size_t bytes)
{
    memory = realloc(memory, bytes);
    if (!memory) {
        fprintf(stderr, "disk: out of memory\n");
        abort();
    }
    return memory;
}

#define PUSH(array, n, cap, value)                                                                 \
    do {                                                                                           \
        if ((n) == (cap)) {                                                                        \
            (cap) = (cap) ? 2 * (cap) : 32;                                                        \
            (array) = disk_grow(array, (cap) * sizeof(array)[0]);                                  \
        }                                                                                          \
        (array)[(n)++] = (value);                                                                  \
    } while (0)

static void reserve(struct disk_file *f, uint64_t bytes)
{
    if (bytes <= f->cap)
        return;
    uint64_t cap = (bytes + (1u << 20)) & ~(uint64_t)(DISK_PAGE - 1);
    f->durable = disk_grow(f->durable, cap);
    (void)memset(f->durable + f->cap, 0, cap - f->cap);
    f->cap = cap;
}

struct disk *disk_new(const struct trace *trace)
{
    struct disk *d = disk_grow(NULL, sizeof *d);
    *d = (struct disk){.trace = trace};
    d->files = disk_grow(NULL, trace->n_nodes * sizeof d->files[0]);
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
    uint64_t from = e->off & ~(uint64_t)(DISK_PAGE - 1);
    uint64_t to = (e->off + e->len + DISK_PAGE - 1) & ~(uint64_t)(DISK_PAGE - 1);
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
