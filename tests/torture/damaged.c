/* damaged.c -- making, using and mending an index that tests damage; see damaged.h. */
#include "tests/torture/damaged.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEW_LABEL 1000u

static void vector_of(uint64_t label, float *ret_vector)
{
    for (uint32_t j = 0; j < DAMAGED_DIM; j++)
        ret_vector[j] = (float)(mix64(label * 16 + j) % 1000);
}

static bool ok(struct damaged *d, navmap_status status)
{
    return status == NAVMAP_OK ||
           ward_says(d->ward, "%s: %s", navmap_strerror(status), navmap_error_detail());
}

static navmap_status add(navmap_index *ix, uint64_t label)
{
    float v[DAMAGED_DIM];
    vector_of(label, v);
    return navmap_add(ix, 1, v, &label, NULL, NULL);
}

static bool fill(struct damaged *d, bool crashed)
{
    navmap_index *ix = NULL;
    const struct navmap_options o = {.struct_size = sizeof o,
                                     .dim = DAMAGED_DIM,
                                     .M = 4,
                                     .ef_construction = 30,
                                     .durability = NAVMAP_FULL,
                                     .slot_shift = 4};
    if (!ok(d, navmap_create(d->path, &o, &ix)))
        return false;
    for (uint64_t i = 0; i < DAMAGED_ITEMS; i++) {
        if (i == DAMAGED_ITEMS - 20 && !ok(d, navmap_flush(ix)))
            return false;
        if (!ok(d, add(ix, i)))
            return false;
    }
    for (uint64_t i = 0; i < DAMAGED_ITEMS; i += 15)
        if (!ok(d, navmap_delete(ix, i)) || !ok(d, add(ix, i + 1))) /* an update: a dead slot */
            return false;
    return ok(d, navmap_save(ix, d->sealed.path)) && (crashed || ok(d, navmap_close(ix)));
}

static bool take(struct damaged *d, struct damaged_file *f)
{
    struct stat st;
    f->fd = open(f->path, O_RDWR | O_CLOEXEC);
    if (f->fd < 0 || fstat(f->fd, &st) != 0)
        return ward_says(d->ward, "cannot open %s", f->path);
    f->n = (size_t)st.st_size;
    f->bytes = malloc(f->n);
    f->map = mmap(NULL, f->n, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
    if (!f->bytes || f->map == MAP_FAILED || pread(f->fd, f->bytes, f->n, 0) != (ssize_t)f->n)
        return ward_says(d->ward, "cannot read %s", f->path);
    return true;
}

bool damaged_make(struct damaged *d, struct ward *ward, const char *dir, bool crashed)
{
    memset(d, 0, sizeof *d);
    d->ward = ward;
    (void)snprintf(d->path, sizeof d->path, "%s/%s", dir, crashed ? "crashed" : "closed");
    (void)snprintf(d->data.path, sizeof d->data.path, "%s/data-00000001.navmap", d->path);
    (void)snprintf(d->wal.path, sizeof d->wal.path, "%s/wal.mdb", d->path);
    (void)snprintf(d->sealed.path, sizeof d->sealed.path, "%s.sealed", d->path);
    d->data.fd = d->wal.fd = d->sealed.fd = -1;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(fill(d, crashed) ? 0 : 1);
    return harness_wait(pid) == 0 && take(d, &d->data) && take(d, &d->wal) && take(d, &d->sealed);
}

static void drop(struct damaged_file *f)
{
    if (f->map && f->map != MAP_FAILED)
        (void)munmap(f->map, f->n);
    if (f->fd >= 0)
        (void)close(f->fd);
    free(f->bytes);
}

void damaged_free(struct damaged *d)
{
    drop(&d->data);
    drop(&d->wal);
    drop(&d->sealed);
}

void damaged_restore(struct damaged_file *f)
{
    if (pwrite(f->fd, f->bytes, f->n, 0) != (ssize_t)f->n || ftruncate(f->fd, (off_t)f->n) != 0)
        (void)fprintf(stderr, "cannot restore %s\n", f->path);
}

void damaged_restore_all(struct damaged *d)
{
    damaged_restore(&d->data);
    damaged_restore(&d->wal);
}

static void on_finding(void *ctx, const struct navmap_finding *f)
{
    struct damaged_verdict *v = ctx;
    if (f->warning)
        return;
    if (v->first[0] == '\0')
        (void)snprintf(v->first, sizeof v->first, "%s: %s", f->section, f->message);
    v->slot_was_named |= f->slot == v->slot || strcmp(f->section, "counters") == 0;
}

void damaged_verify(const char *path, struct damaged_verdict *v)
{
    struct navmap_verify_result result = {0};
    v->slot_was_named = false;
    v->first[0] = '\0';
    v->status = navmap_verify(path, false, on_finding, v, &result);
    v->damaged = result.damaged;
}

/* Using --------------------------------------------------------------------------------------- */

/* What the library has to say of a damaged file is the caller's; here only that it comes back. */
static void any(navmap_status status)
{
    (void)status;
}

static bool vectors_hold(struct damaged *d, navmap_index *ix)
{
    for (uint64_t label = 0; label < DAMAGED_ITEMS; label++) {
        float v[DAMAGED_DIM], expected[DAMAGED_DIM];
        vector_of(label, expected);
        if (navmap_get(ix, 1, &label, v) == NAVMAP_OK && memcmp(v, expected, sizeof v) != 0)
            return ward_says(d->ward, "label %llu has a wrong vector", (unsigned long long)label);
    }
    return true;
}

static void ask(navmap_index *ix)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    struct navmap_stats s = {.struct_size = sizeof s};
    const struct navmap_search_options o = {.struct_size = sizeof o, .ef = 60, .allow_fewer = 1};
    uint64_t labels[200], n = 0;
    float distances[200], queries[4 * DAMAGED_DIM];
    bool contains;
    for (uint64_t i = 0; i < 4; i++)
        vector_of(40 * i, queries + i * DAMAGED_DIM);
    any(navmap_search(ix, 4, queries, 10, &o, labels, distances, NULL));
    any(navmap_search_exact(ix, 1, queries, 200, &o, labels, distances, NULL));
    any(navmap_contains(ix, 50, &contains));
    any(navmap_labels(ix, true, 200, labels, &n));
    any(navmap_check(ix, NULL, NULL, &r));
    any(navmap_get_stats(ix, &s));
}

static void change(navmap_index *ix)
{
    for (uint64_t i = 0; i < 12; i++)
        any(add(ix, NEW_LABEL + i));
    for (uint64_t i = 0; i < 4; i++) {
        any(add(ix, 10 * i + 3)); /* updates; the vector stays what it is */
        any(navmap_delete(ix, 10 * i + 4));
        any(navmap_undelete(ix, 15 * i));
    }
    any(navmap_flush(ix));
}

static navmap_status open_it(struct damaged *d, enum damaged_way way, navmap_index **ret_index)
{
    const struct navmap_load_options o = {.struct_size = sizeof o, .copy = way == AS_COPY};
    if (way == AS_MAPPED || way == AS_COPY)
        return navmap_load(d->sealed.path, &o, ret_index);
    return navmap_open(d->path, way == AS_READER ? NAVMAP_READ : NAVMAP_WRITE, NULL, ret_index);
}

bool damaged_use(struct damaged *d, enum damaged_way way, bool *ret_opened)
{
    navmap_index *ix = NULL;
    navmap_status status = open_it(d, way, &ix);
    *ret_opened = status == NAVMAP_OK;
    if (status != NAVMAP_OK) {
        const char *why = navmap_error_detail();
        return strstr(why, way == AS_MAPPED || way == AS_COPY ? d->sealed.path : d->path) != NULL ||
               ward_says(d->ward, "refused without the file's name: %s", why);
    }
    bool good = vectors_hold(d, ix);
    ask(ix);
    if (good && way != AS_READER) {
        change(ix);
        ask(ix);
        good = vectors_hold(d, ix);
    }
    any(navmap_close(ix));
    return good;
}
