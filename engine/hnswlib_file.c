/* hnswlib_file.c -- an index made of hnswlib's file: every element its slot, every link as it was.
 *
 * A new private index hands out its slots in order, so element i becomes slot i + 1 and a link
 * needs no table.  The file has all of level 0 first, the levels above behind it, and is read thus:
 *
 *     lists above: their lengths, which are the levels   (a slot's level is fixed when it is taken)
 *     level 0:     item, vector, row of links, mark      (of most files this is 98 %)
 *     lists above: links
 *
 * U1  Nobody else has the handle: the write lock is held throughout, and rows may name slots that
 *     do not exist yet.  On failure the whole index is closed.
 * U2  Vectors are kept bit for bit, whatever the space: hnswlib has normalised what it was given
 *     for cosine, and promises that a file can be opened with another space.
 * U3  A label that two elements have, which hnswlib makes when a live one is added with
 *     replace_deleted, is the later one's, as there; the earlier one's slot is DEAD and is walked
 *     through until the sweep.
 * U4  A slot may get fewer levels than it should, when the pool of upper cells is spent (FORMAT.md,
 *     upper).  hnswlib draws levels as navmap does, so that takes a file made on purpose; links of
 *     levels that a slot has not got are left out, and the highest slot is the entry.
 */
#include "engine/hnswlib_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "engine/hnswlib_parse.h"
#include "engine/hnswlib_read.h"
#include "engine/index.h"
#include "storage/fail.h"

struct import {
    struct hnswlib_reader reader;
    const char *path;
    struct hnswlib_head head;
    struct hnswlib_lists lists;
    navmap_index *index;
    uint8_t *levels;     /* [count] as the file has them */
    float *vector;       /* vec_stride bytes; the padding is zero */
    bool low;            /* some slot has fewer levels (U4) */
    uint32_t entry, top; /* the highest slot so far, the file's entry before others */
};

/* Where the lists of upper levels begin. */
static uint64_t uppers_at(const struct import *m)
{
    return HNSWLIB_HEAD_BYTES + m->head.count * m->head.element_bytes;
}

/* Levels ---------------------------------------------------------------------------------------*/

static navmap_status check_level(const struct import *m, uint32_t id, uint32_t bytes)
{
    const struct hnswlib_head *h = &m->head;
    uint64_t level = bytes / h->list_bytes;
    uint32_t most = layout_level_most(m->index->layout);
    if (bytes % h->list_bytes != 0)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: element %" PRIu32
                                    ": bytes of upper levels: expected a multiple of %" PRIu64
                                    ", found %" PRIu32,
                    m->path, id, h->list_bytes, bytes);
    if (level > h->top || (id == h->entry && level != h->top))
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: element %" PRIu32 "%s: level: expected %s%" PRIu32
                                    ", found %" PRIu64,
                    m->path, id, id == h->entry ? ", the entry point" : "",
                    id == h->entry ? "" : "at most ", h->top, level);
    if (level > most)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: element %" PRIu32 ": level: expected at most %" PRIu32
                                    ", which is never drawn with M %" PRIu32 ", found %" PRIu64,
                    m->path, id, most, h->M, level);
    return NAVMAP_OK;
}

static navmap_status read_levels(struct import *m)
{
    const uint8_t *bytes;
    hnswlib_read_seek(&m->reader, uppers_at(m));
    for (uint32_t id = 0; id < m->head.count; id++) {
        TRY(hnswlib_read(&m->reader, 4, &bytes));
        uint32_t n = hnswlib_u32(bytes);
        TRY(check_level(m, id, n));
        TRY(hnswlib_read(&m->reader, n, &bytes));
        m->levels[id] = (uint8_t)(n / m->head.list_bytes);
    }
    if (m->reader.at != m->reader.file.bytes)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: size: expected %" PRIu64 " bytes, found %" PRIu64,
                    m->path, m->reader.at, m->reader.file.bytes);
    return NAVMAP_OK;
}

/* Items ----------------------------------------------------------------------------------------*/

static navmap_status take_vector(struct import *m, uint32_t id, const uint8_t *bytes,
                                 uint64_t label)
{
    uint32_t dim = m->head.dim;
    memcpy(m->vector, bytes, 4 * (size_t)dim);
    uint64_t at = distance_first_unfinite(m->vector, dim);
    if (at == dim)
        return NAVMAP_OK;
    return fail(NAVMAP_ECORRUPT,
                HNSWLIB_REFUSED ": %s: element %" PRIu32 " (label %" PRIu64 "), column %" PRIu64
                                ": expected a finite number, found %s",
                m->path, id, label, at, isnan(m->vector[at]) ? "NaN" : "infinity");
}

static void write_row(struct import *m, uint32_t slot, uint32_t level,
                      const struct hnswlib_list *list)
{
    const struct stage *e = store_edit(m->index->store);
    _Atomic uint32_t *row = store_row_edit(m->index->store, slot, level);
    for (uint32_t i = 0, n = 0; i < list->n; i++) {
        uint32_t to = hnswlib_u32(list->ids + 4 * (size_t)i) + 1;
        if (level == 0 || !m->low || TAG_LEVEL(edit_up(e, to)) >= level) /* U4 */
            row_put(row, n++, to);
    }
}

static void note_level(struct import *m, uint32_t id, const struct store_item *item)
{
    m->low |= item->level < m->levels[id];
    if (m->entry != 0 && (item->level < m->top || (item->level == m->top && id != m->head.entry)))
        return;
    m->entry = item->slot;
    m->top = item->level;
}

static navmap_status import_element(struct import *m, uint32_t id)
{
    struct store *store = m->index->store;
    struct store_item item;
    struct hnswlib_list list;
    const uint8_t *bytes;
    TRY(hnswlib_read(&m->reader, m->head.element_bytes, &bytes));
    uint64_t label = hnswlib_u64(bytes + m->head.element_bytes - 8);
    TRY(hnswlib_check_list(&m->lists, id, 0, bytes, &list));
    TRY(take_vector(m, id, bytes + m->head.vector_offset, label));
    TRY(store_item_begin(store, label, m->levels[id], &item)); /* U3 */
    store_item_payload(store, &item, NULL, m->vector);
    write_row(m, item.slot, 0, &list);
    store_item_end(store, &item);
    note_level(m, id, &item);
    return list.deleted ? store_mark(store, label, true) : NAVMAP_OK;
}

static navmap_status import_uppers(struct import *m, uint32_t id)
{
    const struct stage *e = store_edit(m->index->store);
    struct hnswlib_list list;
    const uint8_t *bytes;
    TRY(hnswlib_read(&m->reader, 4, &bytes));
    if (hnswlib_u32(bytes) != m->levels[id] * m->head.list_bytes)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: element %" PRIu32 " changed while it was read", m->path,
                    id);
    for (uint32_t level = 1; level <= m->levels[id]; level++) {
        TRY(hnswlib_read(&m->reader, m->head.list_bytes, &bytes));
        TRY(hnswlib_check_list(&m->lists, id, level, bytes, &list));
        if (!m->low || level <= TAG_LEVEL(edit_up(e, id + 1)))
            write_row(m, id + 1, level, &list);
    }
    return NAVMAP_OK;
}

static navmap_status import_graph(struct import *m)
{
    hnswlib_read_seek(&m->reader, HNSWLIB_HEAD_BYTES);
    for (uint32_t id = 0; id < m->head.count; id++)
        TRY(import_element(m, id));
    for (uint32_t id = 0; id < m->head.count; id++) /* which is where the file goes on */
        TRY(import_uppers(m, id));
    if (m->head.count > 0)
        store_entry_set(m->index->store, m->entry, m->top);
    return NAVMAP_OK;
}

static navmap_status import_row(struct import *m, uint32_t id)
{
    struct store *store = m->index->store;
    struct store_item item;
    const uint8_t *bytes;
    TRY(hnswlib_read(&m->reader, m->head.element_bytes, &bytes));
    uint64_t label = hnswlib_u64(bytes + m->head.element_bytes - 8);
    TRY(take_vector(m, id, bytes, label));
    TRY(store_item_begin(store, label, 0, &item));
    store_item_payload(store, &item, NULL, m->vector);
    store_item_end(store, &item);
    return NAVMAP_OK;
}

static navmap_status import_rows(struct import *m)
{
    hnswlib_read_seek(&m->reader, HNSWLIB_FLAT_BYTES);
    for (uint32_t id = 0; id < m->head.count; id++)
        TRY(import_row(m, id));
    return NAVMAP_OK;
}

/* The whole ------------------------------------------------------------------------------------*/

/* Which format it is, and that it is the one asked for. */
static navmap_status read_head(struct import *m, const struct navmap_load_options *o)
{
    const char *path = m->path;
    const uint64_t bytes = m->reader.file.bytes;
    const uint8_t *head = NULL;
    uint64_t n = bytes < HNSWLIB_HEAD_BYTES ? bytes : HNSWLIB_HEAD_BYTES;
    TRY(hnswlib_read(&m->reader, n, &head));
    bool graph = hnswlib_looks_like(head, n, bytes);
    bool flat = !graph && hnswlib_looks_like_flat(head, n, bytes);
    if ((graph && o->flat) || (flat && !o->flat))
        return fail(NAVMAP_EINVAL,
                    HNSWLIB_REFUSED ": %s: the file is of an index %s a graph (in Python: %s)",
                    path, graph ? "with" : "without", graph ? "Index" : "BFIndex");
    if (!graph && (!o->flat || n < HNSWLIB_FLAT_BYTES))
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: %" PRIu64 " bytes that begin neither as an index of "
                                    "navmap's nor as one of hnswlib's",
                    path, bytes);
    if (o->flat)
        TRY(hnswlib_parse_flat(head, bytes, path, &m->head));
    else
        TRY(hnswlib_parse_graph(head, bytes, path, &m->head));
    if (!o->has_space)
        return fail(NAVMAP_EINVAL,
                    HNSWLIB_REFUSED ": %s: no space given, and hnswlib's files do not say", path);
    if (o->dim != 0 && o->dim != m->head.dim)
        return fail(NAVMAP_EINVAL, HNSWLIB_REFUSED ": %s: dim expected %" PRIu32 ", found %" PRIu32,
                    path, o->dim, m->head.dim);
    return NAVMAP_OK;
}

static navmap_status make_index(struct import *m, const struct navmap_load_options *o)
{
    const struct hnswlib_head *h = &m->head;
    struct navmap_options options = {
        .struct_size = sizeof options,
        .dim = h->dim,
        .space = o->space,
        .M = h->M,
        .ef_construction = h->ef_construction,
        .max_elements =
            o->max_elements >= h->count && o->max_elements > 0 ? o->max_elements : h->capacity,
        .allow_replace_deleted = o->allow_replace_deleted,
        .bounded = 1,
        .codes = NAVMAP_CODES_NONE, /* the same walk as hnswlib's, so the same answers */
        .flat = o->flat};
    TRY(navmap_new(&options, &m->index));
    m->vector = calloc(1, m->index->layout->vec_stride);
    m->levels = calloc(h->count ? h->count : 1, 1); /* H1: the file has more bytes than that */
    if (!m->vector || !m->levels)
        return fail(NAVMAP_ENOMEM, "%s: no memory for the levels of %" PRIu32 " elements", m->path,
                    h->count);
    m->lists.path = m->path;
    m->lists.head = h;
    m->lists.levels = m->levels;
    return NAVMAP_OK;
}

static navmap_status import(struct import *m, const struct navmap_load_options *o)
{
    TRY(read_head(m, o));
    TRY(make_index(m, o));
    if (!o->flat)
        TRY(read_levels(m));
    TRY(store_write_begin(m->index->store, m->head.count)); /* U1 */
    navmap_status status = o->flat ? import_rows(m) : import_graph(m);
    store_write_end(m->index->store);
    return status;
}

static void give_up(navmap_index *ix)
{
    navmap_status closed = navmap_close(ix);
    (void)closed; /* nothing is in a file, and the first failure is the one to tell of */
}

navmap_status hnswlib_load(int fd, const char *path, const struct navmap_load_options *o,
                           navmap_index **ret_index)
{
    struct import *m = calloc(1, sizeof *m);
    if (!m)
        return fail(NAVMAP_ENOMEM, "%s: no memory to read it", path);
    m->path = path;
    navmap_status status = hnswlib_read_begin(fd, path, &m->reader);
    if (status == NAVMAP_OK)
        status = import(m, o);
    if (status == NAVMAP_OK)
        *ret_index = m->index;
    else
        give_up(m->index);
    free(m->levels);
    free(m->vector);
    hnswlib_read_end(&m->reader);
    free(m);
    return status;
}
