/* renumber.c -- items under new numbers, chunk by chunk; see renumber.h for Z1 to Z3. */
#include "storage/renumber.h"

#include <stdlib.h>
#include <string.h>

#include "storage/half.h"
#include "storage/handle.h"

void renumber_free(struct renumber *p)
{
    free(p->up);
    free(p->owner);
    free(p->to);
    p->up = p->owner = p->to = NULL;
}

/* Cells in the order of the slots; those of one slot in one chunk (FORMAT.md, section 8). */
static navmap_status plan_cells(struct renumber *p)
{
    const uint64_t per_chunk = p->l.uppers_per_chunk, most = per_chunk * layout_chunks_max(&p->l);
    uint64_t cell = 0;
    p->nuppers = 0;
    for (uint32_t slot = 1; slot < p->nslots; slot++) {
        uint32_t level = TAG_LEVEL(edit_up(&p->from->stage, renumber_old(p, slot)));
        if (level == 0)
            continue;
        if (level > layout_level_most(&p->l) || level > per_chunk)
            return fail(NAVMAP_ECORRUPT, "%s: slot %u: level %u, expected at most %u",
                        p->from->path, renumber_old(p, slot), level, layout_level_most(&p->l));
        if (cell % per_chunk + level > per_chunk)
            cell += per_chunk - cell % per_chunk;
        if (cell + level > most)
            return fail(NAVMAP_EFULL, "%s: a file cannot have more than %llu upper cells",
                        p->from->path, (unsigned long long)most);
        p->up[slot] = TAG_UP(cell, level);
        cell += level;
        p->nuppers = cell;
    }
    uint64_t chunks = (uint64_t)p->nslots + p->l.slots_per_chunk - 1;
    chunks /= p->l.slots_per_chunk;
    uint64_t by_cells = (p->nuppers + per_chunk - 1) / per_chunk;
    p->nchunks = (uint32_t)(chunks > by_cells ? chunks : by_cells);
    return NAVMAP_OK;
}

static navmap_status plan_owners(struct renumber *p)
{
    p->owner = calloc(p->nuppers + 1, sizeof *p->owner);
    if (!p->owner)
        return fail(NAVMAP_ENOMEM, "%s: no memory for rewriting it", p->from->path);
    for (uint32_t slot = 1; slot < p->nslots; slot++)
        for (uint32_t i = 0; i < TAG_LEVEL(p->up[slot]); i++)
            p->owner[TAG_CELL(p->up[slot]) + i] = slot;
    return NAVMAP_OK;
}

static navmap_status plan_layout(struct renumber *p, uint32_t flags)
{
    const struct layout *old = &p->from->layout;
    const struct recoding *recode = p->what->recode;
    const uint64_t expected = p->what->expected > p->what->n ? p->what->expected : p->what->n;
    struct layout_params params = {.dim = old->dim,
                                   .space = old->space,
                                   .scalar = old->scalar,
                                   .code_scheme = recode ? recode->scheme : old->code_scheme,
                                   .code_header = recode ? recode->header : old->code_header,
                                   .M = old->M,
                                   .ef_construction = old->ef_construction,
                                   .flags = flags,
                                   .seed = old->seed,
                                   .expected_slots = expected + 1};
    TRY(layout_compute(&params, &p->l));
    memcpy(p->l.uuid, old->uuid, sizeof p->l.uuid);
    p->l.uuid_low = old->uuid_low;
    return NAVMAP_OK;
}

navmap_status renumber_make(struct renumber *p, struct store *from, const struct sealing *what,
                            uint32_t flags)
{
    *p = (struct renumber){.from = from, .what = what, .nslots = what->n + 1};
    TRY(plan_layout(p, flags));
    p->old_slots = view_slots(from->view);
    p->up = calloc(p->nslots, sizeof *p->up);
    p->to = calloc(p->old_slots, sizeof *p->to);
    if (!p->up || !p->to)
        return fail(NAVMAP_ENOMEM, "%s: no memory for rewriting %u items", from->path, what->n);
    for (uint32_t slot = 1; slot < p->nslots; slot++)
        p->to[renumber_old(p, slot)] = slot;
    TRY(plan_cells(p));
    return plan_owners(p);
}

/* Chunks --------------------------------------------------------------------------------------*/

navmap_status renumbering_begin(struct renumbering *c, const struct renumber *p)
{
    *c = (struct renumbering){.p = p};
    c->labels = malloc(((uint64_t)p->what->n + 1) * sizeof *c->labels);
    c->ids = malloc((uint64_t)p->l.M0 * sizeof *c->ids);
    c->wide = malloc((uint64_t)p->l.dim * sizeof *c->wide);
    if (c->labels && c->ids && c->wide)
        return NAVMAP_OK;
    renumbering_end(c);
    return fail(NAVMAP_ENOMEM, "%s: no memory for rewriting %u items", p->from->path, p->what->n);
}

void renumbering_end(struct renumbering *c)
{
    free(c->labels);
    free(c->ids);
    free(c->wide);
    c->labels = NULL;
    c->ids = NULL;
    c->wide = NULL;
}

static navmap_status fill_row(const struct renumbering *c, uint32_t slot, uint32_t level,
                              uint8_t *ret_row)
{
    const struct renumber *p = c->p;
    const uint32_t width = level == 0 ? p->l.M0 : p->l.M;
    uint32_t n = 0;
    if (!p->what->row)
        return NAVMAP_OK;
    TRY(p->what->row(p->what->ctx, renumber_old(p, slot), level, c->ids));
    for (uint32_t i = 0; i < width; i++) {
        uint32_t id = c->ids[i] < p->old_slots ? p->to[c->ids[i]] : 0;
        if (id != 0 && TAG_LEVEL(p->up[id]) >= level) {
            memcpy(ret_row + 4 * (size_t)n, &id, sizeof id);
            n++;
        }
    }
    return NAVMAP_OK;
}

navmap_status renumber_check(struct store *s, uint32_t old)
{
    const struct stage *e = &s->stage;
    const struct layout *l = &s->layout;
    const struct disk_tag *tag = edit_tag(e, old);
    uint64_t sum = layout_vsum(l, tag->label, old, STATE_GEN(edit_state(e, old)), tag->up,
                               edit_code(e, old), edit_vec(e, old));
    if (sum == tag->vsum)
        return NAVMAP_OK;
    return fail(NAVMAP_ECORRUPT,
                "%s: payload of slot %u (label %llu) at offset %llu: checksum expected %016llx, "
                "found %016llx; nothing was written",
                s->path, old, (unsigned long long)tag->label,
                (unsigned long long)layout_tag_off(l, old), (unsigned long long)tag->vsum,
                (unsigned long long)sum);
}

/* Codes are a function of the vector as it is stored: halves are widened, which is exact. */
static void encode(const struct renumbering *c, const uint8_t *vec, uint8_t *ret_code)
{
    const struct layout *l = &c->p->l;
    const float *vector = (const float *)(const void *)vec;
    if (l->scalar == LAYOUT_F16) {
        for (uint32_t i = 0; i < l->dim; i++)
            c->wide[i] = half_to_float(((const uint16_t *)(const void *)vec)[i]);
        vector = c->wide;
    }
    c->p->what->recode->encode(vector, l->dim, l->code_stride, ret_code);
}

/* Everything of one slot but its upper rows. */
static navmap_status fill_slot(struct renumbering *c, uint32_t slot, uint8_t *bytes)
{
    const struct renumber *p = c->p;
    const struct layout *l = &p->l;
    const struct stage *e = &p->from->stage;
    const uint32_t old = renumber_old(p, slot), i = slot & (l->slots_per_chunk - 1);
    const enum slot_status status = STATE_STATUS(edit_state(e, old));
    const uint32_t state = STATE_WORD(0, status);
    uint8_t *code = bytes + l->off_code + (uint64_t)i * l->code_stride;
    uint8_t *vec = bytes + l->off_vec + (uint64_t)i * l->vec_stride;
    TRY(renumber_check(p->from, old)); /* Z2 */
    memcpy(bytes + l->off_state + (uint64_t)i * 4, &state, sizeof state);
    TRY(fill_row(c, slot, 0, bytes + l->off_row + (uint64_t)i * l->row_stride));
    memcpy(vec, edit_vec(e, old), l->vec_stride);
    if (l->code_stride > 0 && p->what->recode)
        encode(c, vec, code);
    else if (l->code_stride > 0)
        memcpy(code, edit_code(e, old), l->code_stride);
    struct disk_tag tag = {.label = edit_tag(e, old)->label, .up = p->up[slot]};
    tag.vsum = layout_vsum(l, tag.label, slot, 0, tag.up, code, vec);
    memcpy(bytes + l->off_tag + (uint64_t)i * l->tag_stride, &tag, sizeof tag);
    c->labels[slot - 1] = (struct sealed_label){tag.label, slot, 0};
    c->n_live += status == SLOT_LIVE;
    return NAVMAP_OK;
}

navmap_status renumbering_chunk(struct renumbering *c, uint8_t *bytes)
{
    const struct renumber *p = c->p;
    const struct layout *l = &p->l;
    const uint64_t first = (uint64_t)c->number << l->slot_shift, end = first + l->slots_per_chunk;
    const uint64_t cell = (uint64_t)c->number * l->uppers_per_chunk;
    if (p->what->tick)
        TRY(p->what->tick(p->what->ctx, first < p->nslots ? first : p->nslots, p->nslots));
    for (uint64_t slot = first ? first : 1; slot < end && slot < p->nslots; slot++)
        TRY(fill_slot(c, (uint32_t)slot, bytes));
    for (uint64_t i = 0; i < l->uppers_per_chunk && cell + i < p->nuppers; i++) {
        uint32_t slot = p->owner[cell + i];
        if (slot == 0)
            continue;
        uint32_t level = (uint32_t)(cell + i - TAG_CELL(p->up[slot]) + 1);
        TRY(fill_row(c, slot, level, bytes + l->off_upper + i * l->upper_stride));
    }
    c->number++;
    return NAVMAP_OK;
}

static int by_label(const void *a, const void *b)
{
    const struct sealed_label *x = a, *y = b;
    return x->label < y->label ? -1 : x->label > y->label;
}

navmap_status renumbering_sort(struct renumbering *c)
{
    const uint64_t n = c->p->what->n;
    bool sorted = true;
    for (uint64_t i = 1; i < n && sorted; i++)
        sorted = c->labels[i - 1].label < c->labels[i].label;
    if (!sorted)
        qsort(c->labels, n, sizeof *c->labels, by_label);
    for (uint64_t i = 1; i < n && !sorted; i++)
        if (c->labels[i - 1].label == c->labels[i].label)
            return fail(
                NAVMAP_ECORRUPT, "%s: label %llu is in slots %u and %u; nothing was written",
                c->p->from->path, (unsigned long long)c->labels[i].label,
                renumber_old(c->p, c->labels[i - 1].slot), renumber_old(c->p, c->labels[i].slot));
    return NAVMAP_OK;
}

struct disk_root renumbering_root(const struct renumbering *c)
{
    const struct renumber *p = c->p;
    const struct disk_root *old = &p->from->stage.root;
    const uint32_t entry = p->what->entry ? p->to[p->what->entry] : 0;
    struct disk_root root = *old; /* limit, insertions, curve */
    root.lsn = root.sum = root.n_dead = 0;
    root.n_free = root.n_apart = 0;
    root.entry = entry ? ENTRY(TAG_LEVEL(p->up[entry]), entry) : 0;
    root.extent = EXTENT(p->nchunks, p->nslots);
    root.nuppers = p->nuppers;
    root.n_live = c->n_live;
    root.n_deleted = p->what->n - c->n_live;
    if (p->what->recode || p->what->relinked) {
        root.curve_items = 0;
        memset(root.curve_ef, 0, sizeof root.curve_ef);
    }
    return root;
}

/* How many bytes of an array are worth writing: what follows is zeros. */
uint64_t renumbering_used(const uint8_t *bytes, uint64_t n)
{
    while (n >= LAYOUT_PAGE && bytes[n - LAYOUT_PAGE] == 0 &&
           memcmp(bytes + n - LAYOUT_PAGE, bytes + n - LAYOUT_PAGE + 1, LAYOUT_PAGE - 1) == 0)
        n -= LAYOUT_PAGE;
    return n;
}
