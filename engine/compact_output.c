/* compact_output.c -- an index that is written otherwise than it is: with codes or without, as a
 * new directory, or first built anew with another M.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/distance/codes.h"
#include "engine/index.h"
#include "engine/regraph.h"
#include "storage/fail.h"
#include "storage/rewriting.h"

/* Codes ---------------------------------------------------------------------------------------*/

const struct recoding *index_recode(const navmap_index *ix, uint32_t codes,
                                    struct recoding *ret_recode)
{
    if (codes == 0 || codes == index_codes(ix))
        return NULL;
    *ret_recode = (struct recoding){.encode = codes_encode};
    if (codes == NAVMAP_CODES_I8) {
        ret_recode->scheme = (uint16_t)codes_scheme(ix->layout->dim);
        ret_recode->header = (uint16_t)codes_header(ix->layout->dim);
    }
    return ret_recode;
}

/* A directory ---------------------------------------------------------------------------------*/

static navmap_status put_into(struct store *into, struct store *from, const struct sealing *what)
{
    bool shrunk;
    TRY(store_rebuild_begin(into));
    navmap_status status = store_generation_put(into, from, what);
    store_rebuild_end(into);
    TRY(status);
    return store_generation_clear(into, true, &shrunk);
}

/* Under a temporary name, so that nothing, or all of it, is at `path`. */
static navmap_status fill_directory(navmap_index *ix, const struct sealing *what,
                                    const char *temporary, const char *path)
{
    const struct layout *l = ix->layout;
    const struct recoding *recode = what->recode;
    const struct layout_params params = {.dim = l->dim,
                                         .space = l->space,
                                         .scalar = l->scalar,
                                         .code_scheme = recode ? recode->scheme : l->code_scheme,
                                         .code_header = recode ? recode->header : l->code_header,
                                         .M = l->M,
                                         .ef_construction = l->ef_construction,
                                         .flags = l->flags & HEADER_ALLOW_REPLACE_DELETED,
                                         .seed = l->seed};
    const struct store_options options = {.durability = STORE_FULL};
    struct store *into;
    TRY(store_create(temporary, &params, store_root(ix->store).max_elements, &options, &into));
    navmap_status status = put_into(into, ix->store, what);
    if (status == NAVMAP_OK) {
        status = store_close(into);
    } else if (store_close(into) != NAVMAP_OK) {
        /* the first failure is the one to tell of */
    }
    return status == NAVMAP_OK ? store_rename(temporary, path) : status;
}

navmap_status index_output_directory(navmap_index *ix, const struct sealing *what, const char *path)
{
    char *temporary;
    TRY(store_check_new(path));
    TRY(store_name_temporary(path, &temporary));
    navmap_status status = fill_directory(ix, what, temporary, path);
    if (status != NAVMAP_OK)
        status = store_discard(temporary, status);
    free(temporary);
    return status;
}

/* Another M -----------------------------------------------------------------------------------*/

struct building {
    navmap_index *from, *to;
    const struct sealing *what;
    struct toil *toil;
    bool by_slot;
    _Atomic uint32_t next;
};

static void insert_items(void *ctx, uint32_t worker)
{
    struct building *b = ctx;
    const struct stage *e = store_edit(b->from->store);
    struct scratch *s = NULL;
    navmap_status status = scratch_take(&b->to->shelf, b->to->layout, &s);
    struct graph g;
    if (status == NAVMAP_OK)
        graph_of_edit(e, &b->from->distance, s, &g);
    while (status == NAVMAP_OK && !atomic_load(&b->toil->stop)) {
        uint32_t i = atomic_fetch_add(&b->next, 1);
        if (i >= b->what->n)
            break;
        const uint32_t slot = b->what->slots[i];
        const float *vector = edit_vec(e, slot);
        if (s->halves) {
            distance_widen(vector, b->to->layout->dim, s->vector);
            vector = s->vector;
        }
        const struct insert in = {.label = b->by_slot ? slot : edit_tag(e, slot)->label,
                                  .vector = vector,
                                  .batch_items = b->what->n,
                                  .has_level = b->by_slot,
                                  .level = graph_level(&g, slot)};
        status = index_insert(b->to, s, &in);
        atomic_fetch_add(&b->toil->done, 1);
        if (status == NAVMAP_OK && worker == 0)
            status = toil_tell(b->toil);
    }
    if (status != NAVMAP_OK)
        toil_fail(b->toil, status);
    scratch_give(&b->to->shelf, s);
}

static navmap_status mark_items(const struct building *b)
{
    const struct stage *e = store_edit(b->from->store);
    navmap_status status = NAVMAP_OK;
    TRY(store_write_begin(b->to->store, 0));
    for (uint32_t i = 0; i < b->what->n && status == NAVMAP_OK; i++)
        if (edit_status(e, b->what->slots[i]) == SLOT_DELETED)
            status = store_mark(b->to->store, edit_tag(e, b->what->slots[i])->label, true);
    store_write_end(b->to->store);
    return status;
}

/* All vectors and marks; the limit last, since it may be lower than the slots that adding takes. */
static navmap_status build(struct building *b, uint32_t threads)
{
    b->to->distance.normalise = 0; /* they are, and shall stay bit for bit what they are */
    b->toil->total += b->what->n;
    crew_run(b->from->crew, threads, insert_items, b);
    TRY(toil_status(b->toil));
    return b->by_slot ? NAVMAP_OK : mark_items(b);
}

navmap_status index_build_anew(navmap_index *ix, const struct sealing *what,
                               const struct build_anew *how, struct toil *toil,
                               navmap_index **ret_index)
{
    const struct layout *l = ix->layout;
    const struct navmap_options options = {
        .struct_size = sizeof options,
        .dim = l->dim,
        .space = l->space,
        .vectors = l->scalar == LAYOUT_F16 ? NAVMAP_VECTORS_F16 : NAVMAP_VECTORS_F32,
        .M = how->M,
        .ef_construction = how->ef_construction ? how->ef_construction : l->ef_construction,
        .random_seed = l->seed,
        .codes = how->codes ? how->codes : index_codes(ix),
        .max_elements = store_root(ix->store).max_elements,
        .allow_replace_deleted = (l->flags & HEADER_ALLOW_REPLACE_DELETED) != 0};
    struct building b = {.from = ix, .what = what, .toil = toil, .by_slot = how->by_slot};
    TRY(navmap_new(&options, &b.to));
    navmap_status status = build(&b, how->threads);
    if (status != NAVMAP_OK)
        return index_close_after(b.to, status);
    *ret_index = b.to;
    return NAVMAP_OK;
}
