/* load.c -- navmap_load: what kind of file is it, and who opens it.
 *
 * A sealed file is known by its magic.  hnswlib's has none: it is whatever its header's arithmetic
 * agrees with.  All else is refused, an index directory with a hint.
 */
#include "engine/hnswlib_file.h"
#include "engine/index.h"

#include <stdio.h>

#include "storage/fail.h"
#include "storage/source.h"

#define FINDING_MAX 400

static const char refused[] = "Index seems to be corrupted or unsupported";

static navmap_status check_options(const struct navmap_load_options *o)
{
    if (o->dim > LAYOUT_DIM_MAX)
        return fail(NAVMAP_EINVAL, "dim is %u, must be 0 to %u", o->dim, LAYOUT_DIM_MAX);
    if (o->space > NAVMAP_COSINE)
        return fail(NAVMAP_EINVAL, "space is %u, must be 0 (l2), 1 (ip) or 2 (cosine)", o->space);
    if (o->has_space > 1 || o->allow_replace_deleted > 1 || o->flat > 1 || o->copy > 1 ||
        o->verify > 1)
        return fail(NAVMAP_EINVAL, "navmap_load_options: a field that is 0 or 1 is something else");
    return NAVMAP_OK;
}

/* A flat file has no graph to walk, and the other's rows would be lost on a flat index. */
static navmap_status check_kind(const navmap_index *ix, const char *name,
                                const struct navmap_load_options *o)
{
    const struct layout *l = ix->layout;
    const bool flat = (l->flags & HEADER_FLAT) != 0;
    if (o->dim != 0 && o->dim != l->dim)
        return fail(NAVMAP_EINVAL, "%s: %s: dim expected %u, found %u", refused, name, o->dim,
                    l->dim);
    if (flat != (o->flat != 0))
        return fail(NAVMAP_EINVAL, "%s: %s: the file is of an index %s a graph (in Python: %s)",
                    refused, name, flat ? "without" : "with", flat ? "BFIndex" : "Index");
    return NAVMAP_OK;
}

static void on_finding(void *ctx, const struct navmap_finding *f)
{
    char *first = ctx;
    if (!f->warning && first[0] == 0)
        (void)snprintf(first, FINDING_MAX, "%s, slot %u: %s", f->section, f->slot, f->message);
}

/* By an index of its own, so that the one to be used is opened like any other. */
static navmap_status check_all(const struct source *from, const struct navmap_load_options *o)
{
    const struct navmap_load_options plain = {.struct_size = sizeof plain, .flat = o->flat};
    char first[FINDING_MAX] = "";
    struct navmap_verify_result result;
    navmap_index *ix;
    TRY(navmap_load_fd(from->fd, from->path, &plain, &ix));
    const struct navmap_verify_options how = {.struct_size = sizeof how};
    navmap_status status = index_verify_loaded(ix, &how, on_finding, first, &result);
    navmap_status closed = navmap_close(ix);
    TRY(status);
    TRY(closed);
    if (result.damaged == 0)
        return NAVMAP_OK;
    return fail(NAVMAP_ECORRUPT, "%s: %s: %llu findings, first: %s", refused, from->path,
                (unsigned long long)result.damaged, first);
}

static navmap_status load_sealed(const struct source *from, const struct navmap_load_options *o,
                                 navmap_index **ret_index)
{
    const struct store_load how = {.max_elements = o->max_elements,
                                   .allow_replace_deleted = o->allow_replace_deleted != 0,
                                   .has_space = o->has_space != 0,
                                   .copy = o->copy != 0,
                                   .space = (uint16_t)o->space};
    struct store *store;
    navmap_index *ix;
    TRY(store_load_sealed(from->fd, from->path, &how, &store));
    TRY(index_of_store(store, &ix));
    navmap_status status = check_kind(ix, from->path, o);
    if (status == NAVMAP_OK) {
        *ret_index = ix;
        return NAVMAP_OK;
    }
    if (navmap_close(ix) != NAVMAP_OK)
        return status; /* the first failure is the one to tell of */
    return status;
}

static navmap_status load(const struct source *from, const struct navmap_load_options *o,
                          navmap_index **ret_index)
{
    bool ours;
    TRY(source_is_ours(from, &ours));
    if (ours && o->verify)
        TRY(check_all(from, o));
    if (ours)
        return load_sealed(from, o, ret_index);
    return hnswlib_load(from->fd, from->path, o, ret_index);
}

static navmap_status take_options(const struct navmap_load_options *options,
                                  struct navmap_load_options *ret_options)
{
    TRY(index_copy_options(options, sizeof *ret_options, "navmap_load_options", ret_options));
    return check_options(ret_options);
}

navmap_status navmap_load_fd(int fd, const char *name, const struct navmap_load_options *options,
                             navmap_index **ret_index)
{
    struct navmap_load_options o;
    struct source from;
    if (!name || !ret_index)
        return fail(NAVMAP_EINVAL, "navmap_load_fd: name and ret_index are required");
    TRY(take_options(options, &o));
    TRY(source_of_fd(fd, name, &from));
    return load(&from, &o, ret_index);
}

navmap_status navmap_load(const char *path, const struct navmap_load_options *options,
                          navmap_index **ret_index)
{
    struct navmap_load_options o;
    struct source from;
    if (!path || path[0] == 0 || !ret_index)
        return fail(NAVMAP_EINVAL, "navmap_load: path and ret_index are required");
    TRY(take_options(options, &o));
    TRY(source_open(path, &from));
    navmap_status status = load(&from, &o, ret_index);
    source_close(&from);
    return status;
}
