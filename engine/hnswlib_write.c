/* hnswlib_write.c -- items, links and marks as hnswlib lays them out; see hnswlib_write.h.
 *
 * Element i of the file is the i-th item that is saved.  Three passes, as the file has them: the
 * head, the elements with their rows of level 0, the rows of the levels above.
 *
 * E1  hnswlib takes the entry point's level for the highest there is.  Who has a higher one (the
 * E1  hnswlib takes the entry point's level for the highest there is.  Who has a higher one (the
 *     are left out.
 * E2  A vector leaves only after it was found to match its checksum.
 */
#include "engine/hnswlib_write.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/hnswlib_file.h"
#include "engine/index.h"
#include "storage/fail.h"
#include "storage/sink.h"

#define NO_ENTRY 0xffffffffu

struct writing {
    navmap_index *ix;
    const struct sealing *what;
    struct sink *sink;
    uint32_t *to; /* [slots] element + 1; 0 = it is left out */
    uint32_t nslots;
    uint32_t *ids; /* M0, of a row */
    uint8_t *list; /* the same as hnswlib has it: a word, then M0 ids */
    float *vector; /* of an item that is stored as halves, else NULL */
    uint32_t top;  /* level of the entry point */
    uint64_t capacity;
};

static uint32_t level_of(const struct writing *w, uint32_t slot)
{
    uint32_t level = TAG_LEVEL(edit_up(store_edit(w->ix->store), slot));
    return level < w->top ? level : w->top; /* E1 */
}

static void put(uint8_t *head, uint32_t at, const void *value, size_t n)
{
    memcpy(head + at, value, n);
}

static navmap_status write_head(const struct writing *w)
{
    const struct layout *l = w->ix->layout;
    uint8_t head[HNSWLIB_HEAD_BYTES] = {0};
    const uint64_t M = l->M, M0 = l->M0, count = w->what->n, ef = l->ef_construction;
    const uint64_t vector_at = 4 + 4 * M0, label_at = vector_at + 4 * (uint64_t)l->dim;
    const uint64_t element = label_at + 8;
    const int32_t top = w->what->entry ? (int32_t)w->top : -1;
    const uint32_t entry = w->what->entry ? w->to[w->what->entry] - 1 : NO_ENTRY;
    const double mult = 1 / log((double)M);
    put(head, 8, &w->capacity, 8);
    put(head, 16, &count, 8);
    put(head, 24, &element, 8);
    put(head, 32, &label_at, 8);
    put(head, 40, &vector_at, 8);
    put(head, 48, &top, 4);
    put(head, 52, &entry, 4);
    put(head, 56, &M, 8);
    put(head, 64, &M0, 8);
    put(head, 72, &M, 8);
    put(head, 80, &mult, 8);
    put(head, 88, &ef, 8);
    return sink_put(w->sink, head, sizeof head);
}

/* A row into w->list, with zeros behind the links, as new ones of hnswlib's have. */
static navmap_status list_of(const struct writing *w, uint32_t slot, uint32_t level, bool deleted)
{
    const uint32_t width = level == 0 ? w->ix->layout->M0 : w->ix->layout->M;
    uint32_t n = 0;
    memset(w->list, 0, 4 + 4 * (size_t)width);
    TRY(w->what->row(w->what->ctx, slot, level, w->ids));
    for (uint32_t i = 0; i < width; i++) {
        const uint32_t id = w->ids[i], to = id < w->nslots ? w->to[id] : 0;
        if (to == 0 || level_of(w, id) < level)
            continue;
        const uint32_t element = to - 1;
        memcpy(w->list + 4 + 4 * (size_t)n++, &element, sizeof element);
    }
    const uint16_t links = (uint16_t)n;
    memcpy(w->list, &links, sizeof links);
    w->list[2] = deleted;
    return NAVMAP_OK;
}

static navmap_status write_item(const struct writing *w, uint32_t slot)
{
    const struct stage *e = store_edit(w->ix->store);
    TRY(seal_check(w->ix->store, slot)); /* E2 */
    const void *vector = edit_vec(e, slot);
    if (w->vector) {
        distance_widen(vector, w->ix->layout->dim, w->vector);
        vector = w->vector;
    }
    TRY(sink_put(w->sink, vector, 4 * (uint64_t)w->ix->layout->dim));
    return sink_put(w->sink, &edit_tag(e, slot)->label, 8);
}

static navmap_status write_element(const struct writing *w, uint32_t slot)
{
    const bool deleted = edit_status(store_edit(w->ix->store), slot) == SLOT_DELETED;
    TRY(list_of(w, slot, 0, deleted));
    TRY(sink_put(w->sink, w->list, 4 + 4 * (uint64_t)w->ix->layout->M0));
    return write_item(w, slot);
}

static navmap_status write_uppers(const struct writing *w, uint32_t slot)
{
    const uint32_t bytes = 4 + 4 * w->ix->layout->M, level = level_of(w, slot);
    const uint32_t all = level * bytes;
    TRY(sink_put(w->sink, &all, sizeof all));
    for (uint32_t i = 1; i <= level; i++) {
        TRY(list_of(w, slot, i, false));
        TRY(sink_put(w->sink, w->list, bytes));
    }
    return NAVMAP_OK;
}

static navmap_status write_graph(void *ctx, struct sink *sink)
{
    struct writing *w = ctx;
    w->sink = sink;
    TRY(write_head(w));
    for (uint32_t i = 0; i < w->what->n; i++)
        TRY(write_element(w, w->what->slots[i]));
    for (uint32_t i = 0; i < w->what->n; i++)
        TRY(write_uppers(w, w->what->slots[i]));
    return NAVMAP_OK;
}

/* Room that is not used is written as zeros: BFIndex reads capacity rows. */
static navmap_status write_flat(void *ctx, struct sink *sink)
{
    struct writing *w = ctx;
    static const uint8_t zeros[4096];
    const uint64_t row = 4 * (uint64_t)w->ix->layout->dim + 8, count = w->what->n;
    w->sink = sink;
    TRY(sink_put(sink, &w->capacity, 8));
    TRY(sink_put(sink, &row, 8));
    TRY(sink_put(sink, &count, 8));
    for (uint32_t i = 0; i < w->what->n; i++)
        TRY(write_item(w, w->what->slots[i]));
    for (uint64_t left = (w->capacity - count) * row; left > 0;) {
        uint64_t some = left < sizeof zeros ? left : sizeof zeros;
        TRY(sink_put(sink, zeros, some));
        left -= some;
    }
    return NAVMAP_OK;
}

static navmap_status prepare(struct writing *w)
{
    const struct stage *e = store_edit(w->ix->store);
    const uint64_t most = store_root(w->ix->store).max_elements;
    w->nslots = view_slots(e->view);
    w->capacity = most > w->what->n ? most : w->what->n;
    w->top = LAYOUT_LEVEL_MAX;
    w->top = w->what->entry ? level_of(w, w->what->entry) : 0;
    w->to = calloc(w->nslots, sizeof *w->to);
    w->ids = calloc(w->ix->layout->M0, sizeof *w->ids);
    w->list = calloc((size_t)w->ix->layout->M0 + 1, sizeof *w->ids);
    const bool half = w->ix->layout->scalar == LAYOUT_F16;
    w->vector = half ? calloc(w->ix->layout->dim, sizeof *w->vector) : NULL;
    if (!w->to || !w->ids || !w->list || (half && !w->vector))
        return fail(NAVMAP_ENOMEM, "%s: no memory for writing %u items", store_path(w->ix->store),
                    w->what->n);
    for (uint32_t i = 0; i < w->what->n; i++)
        w->to[w->what->slots[i]] = i + 1;
    return NAVMAP_OK;
}

navmap_status hnswlib_write(navmap_index *ix, const struct sealing *what, const char *path)
{
    struct writing w = {.ix = ix, .what = what};
    TRY(seal_settle(ix->store));
    navmap_status status = prepare(&w);
    if (status == NAVMAP_OK)
        status = sink_save(path, index_flat(ix) ? write_flat : write_graph, &w);
    free(w.to);
    free(w.ids);
    free(w.list);
    free(w.vector);
    return status;
}
