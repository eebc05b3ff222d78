/* seal.c -- writes a sealed file: the items of an index renumbered, its rows, labels and sums.
 *
 * Slots are numbered anew from 1, upper cells from 0, in the order that the engine gives, so what
 * was dead, free or never used takes no room.  The file is written chunk by chunk, of each array
 * only what is in use: the rest is a hole, which reads as the zeros that it is summed as.
 *
 * Z1  All numbers of the new file are fixed in a plan before the first byte is written: the slot
 *     of each item, and the cells of its upper levels.
 * Z2  A vector leaves only after it was found to match its checksum.
 */
#include "storage/seal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/checksum.h"
#include "storage/handle.h"
#include "storage/io.h"

struct plan {
    struct store *s;
    const struct sealing *what;
    struct layout l; /* of the new file */
    uint32_t nslots, nchunks;
    uint64_t nuppers;
    uint32_t *up;   /* [nslots] tag.up of each new slot (Z1) */
    uint32_t *from; /* [nuppers] the new slot that owns a cell; 0 = nobody */
    uint32_t *to;   /* [slots of the store] the new slot of each old one; 0 = it is left out */
    uint32_t old_slots;
    struct layout_sealed sealed;
};

static void plan_free(struct plan *p)
{
    free(p->up);
    free(p->from);
    free(p->to);
}

static uint32_t old_slot(const struct plan *p, uint32_t slot)
{
    return p->what->slots[slot - 1];
}

/* Cells in the order of the slots; those of one slot in one chunk (FORMAT.md, section 8). */
static navmap_status plan_cells(struct plan *p)
{
    const uint64_t per_chunk = p->l.uppers_per_chunk, most = per_chunk * layout_chunks_max(&p->l);
    uint64_t cell = 0;
    p->nuppers = 0;
    for (uint32_t slot = 1; slot < p->nslots; slot++) {
        uint32_t level = TAG_LEVEL(edit_up(&p->s->stage, old_slot(p, slot)));
        if (level == 0)
            continue;
        if (level > layout_level_most(&p->l) || level > per_chunk)
            return fail(NAVMAP_ECORRUPT, "%s: slot %u: level %u, expected at most %u", p->s->path,
                        old_slot(p, slot), level, layout_level_most(&p->l));
        if (cell % per_chunk + level > per_chunk)
            cell += per_chunk - cell % per_chunk;
        if (cell + level > most)
            return fail(NAVMAP_EFULL, "%s: a file cannot have more than %llu upper cells",
                        p->s->path, (unsigned long long)most);
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

static navmap_status plan_owners(struct plan *p)
{
    p->from = calloc(p->nuppers + 1, sizeof *p->from);
    if (!p->from)
        return fail(NAVMAP_ENOMEM, "%s: no memory for saving it", p->s->path);
    for (uint32_t slot = 1; slot < p->nslots; slot++)
        for (uint32_t i = 0; i < TAG_LEVEL(p->up[slot]); i++)
            p->from[TAG_CELL(p->up[slot]) + i] = slot;
    return NAVMAP_OK;
}

static navmap_status plan_layout(struct plan *p)
{
    const struct layout *old = &p->s->layout;
    struct layout_params params = {.dim = old->dim,
                                   .space = old->space,
                                   .code_scheme = old->code_scheme,
                                   .code_header = old->code_header,
                                   .M = old->M,
                                   .ef_construction = old->ef_construction,
                                   .flags = old->flags & LAYOUT_FLAGS_CHOSEN,
                                   .seed = old->seed,
                                   .expected_slots = (uint64_t)p->what->n + 1};
    if (p->s->in_memory && p->s->bounded)
        params.flags |= HEADER_BOUNDED;
    TRY(layout_compute(&params, &p->l));
    TRY(store_name_layout(&p->l));                  /* another instance ... */
    memcpy(p->l.uuid, old->uuid, sizeof p->l.uuid); /* ... of the same index */
    p->l.uuid_low = old->uuid_low;
    return NAVMAP_OK;
}

/* Z1.  Filled in so far as it succeeded: to be freed in any case. */
static navmap_status plan_make(struct plan *p, struct store *s, const struct sealing *what)
{
    *p = (struct plan){.s = s, .what = what, .nslots = what->n + 1};
    TRY(plan_layout(p));
    p->old_slots = view_slots(s->view);
    p->up = calloc(p->nslots, sizeof *p->up);
    p->to = calloc(p->old_slots, sizeof *p->to);
    if (!p->up || !p->to)
        return fail(NAVMAP_ENOMEM, "%s: no memory for saving %u items", s->path, what->n);
    for (uint32_t slot = 1; slot < p->nslots; slot++)
        p->to[old_slot(p, slot)] = slot;
    TRY(plan_cells(p));
    const uint64_t sums = (uint64_t)p->nchunks * LAYOUT_ARRAYS + 1;
    struct layout_sealed *f = &p->sealed;
    f->label_offset = layout_chunk_off(&p->l, p->nchunks);
    f->label_count = what->n;
    f->sums_offset = f->label_offset + f->label_count * sizeof(struct sealed_label);
    f->file_bytes = f->sums_offset + sums * sizeof(struct disk_sum) + sizeof(uint64_t);
    return NAVMAP_OK;
}

/* Chunks --------------------------------------------------------------------------------------*/

struct chunk {
    const struct plan *p;
    uint8_t *bytes;              /* chunk_bytes */
    uint32_t number;             /* of the chunk */
    struct sealed_label *labels; /* [n] filled as slots are written */
    struct disk_sum *sums;
    uint64_t n_sums;
    uint32_t *ids; /* M0, for a row */
    uint64_t n_live;
    int fd;
    const char *path;
};

static navmap_status fill_row(const struct chunk *c, uint32_t slot, uint32_t level,
                              uint8_t *ret_row)
{
    const struct plan *p = c->p;
    const uint32_t width = level == 0 ? p->l.M0 : p->l.M;
    uint32_t n = 0;
    if (!p->what->row)
        return NAVMAP_OK;
    TRY(p->what->row(p->what->ctx, old_slot(p, slot), level, c->ids));
    for (uint32_t i = 0; i < width; i++) {
        uint32_t id = c->ids[i] < p->old_slots ? p->to[c->ids[i]] : 0;
        if (id != 0 && TAG_LEVEL(p->up[id]) >= level) {
            memcpy(ret_row + 4 * (size_t)n, &id, sizeof id);
            n++;
        }
    }
    return NAVMAP_OK;
}

navmap_status seal_check(struct store *s, uint32_t old)
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
                "found %016llx; nothing was saved",
                s->path, old, (unsigned long long)tag->label,
                (unsigned long long)layout_tag_off(l, old), (unsigned long long)tag->vsum,
                (unsigned long long)sum);
}

/* Everything of one slot but its upper rows. */
static navmap_status fill_slot(struct chunk *c, uint32_t slot)
{
    const struct plan *p = c->p;
    const struct layout *l = &p->l;
    const struct stage *e = &p->s->stage;
    const uint32_t old = old_slot(p, slot), i = slot & (l->slots_per_chunk - 1);
    const enum slot_status status = STATE_STATUS(edit_state(e, old));
    const uint32_t state = STATE_WORD(0, status);
    uint8_t *code = c->bytes + l->off_code + (uint64_t)i * l->code_stride;
    uint8_t *vec = c->bytes + l->off_vec + (uint64_t)i * l->vec_stride;
    TRY(seal_check(p->s, old)); /* Z2 */
    memcpy(c->bytes + l->off_state + (uint64_t)i * 4, &state, sizeof state);
    TRY(fill_row(c, slot, 0, c->bytes + l->off_row + (uint64_t)i * l->row_stride));
    if (l->code_stride > 0)
        memcpy(code, edit_code(e, old), l->code_stride);
    memcpy(vec, edit_vec(e, old), l->vec_stride);
    struct disk_tag tag = {.label = edit_tag(e, old)->label, .up = p->up[slot]};
    tag.vsum = layout_vsum(l, tag.label, slot, 0, tag.up, code, vec);
    memcpy(c->bytes + l->off_tag + (uint64_t)i * l->tag_stride, &tag, sizeof tag);
    c->labels[slot - 1] = (struct sealed_label){tag.label, slot, 0};
    c->n_live += status == SLOT_LIVE;
    return NAVMAP_OK;
}

static navmap_status fill_chunk(struct chunk *c)
{
    const struct plan *p = c->p;
    const struct layout *l = &p->l;
    const uint64_t first = (uint64_t)c->number << l->slot_shift, end = first + l->slots_per_chunk;
    const uint64_t cell = (uint64_t)c->number * l->uppers_per_chunk;
    memset(c->bytes, 0, l->chunk_bytes);
    for (uint64_t slot = first ? first : 1; slot < end && slot < p->nslots; slot++)
        TRY(fill_slot(c, (uint32_t)slot));
    for (uint64_t i = 0; i < l->uppers_per_chunk && cell + i < p->nuppers; i++) {
        uint32_t slot = p->from[cell + i];
        if (slot == 0)
            continue;
        uint32_t level = (uint32_t)(cell + i - TAG_CELL(p->up[slot]) + 1);
        TRY(fill_row(c, slot, level, c->bytes + l->off_upper + i * l->upper_stride));
    }
    return NAVMAP_OK;
}

/* How many bytes of an array are worth writing: what follows is zeros. */
static uint64_t used_bytes(const uint8_t *bytes, uint64_t n)
{
    while (n >= LAYOUT_PAGE && bytes[n - LAYOUT_PAGE] == 0 &&
           memcmp(bytes + n - LAYOUT_PAGE, bytes + n - LAYOUT_PAGE + 1, LAYOUT_PAGE - 1) == 0)
        n -= LAYOUT_PAGE;
    return n;
}

static navmap_status write_chunk(struct chunk *c)
{
    const uint64_t at = layout_chunk_off(&c->p->l, c->number);
    struct layout_array arrays[LAYOUT_ARRAYS];
    TRY(fill_chunk(c));
    layout_arrays(&c->p->l, arrays);
    for (uint32_t i = 0; i < LAYOUT_ARRAYS; i++) {
        const uint8_t *bytes = c->bytes + arrays[i].offset;
        const uint64_t off = at + arrays[i].offset, n = arrays[i].used;
        c->sums[c->n_sums++] = (struct disk_sum){off, n, checksum64(bytes, n, 0)};
        TRY(io_pwrite(c->fd, c->path, bytes, used_bytes(bytes, n), off));
    }
    return NAVMAP_OK;
}

/* The rest of the file ------------------------------------------------------------------------*/

static int by_label(const void *a, const void *b)
{
    const struct sealed_label *x = a, *y = b;
    return x->label < y->label ? -1 : x->label > y->label;
}

static navmap_status write_labels(struct chunk *c)
{
    const struct layout_sealed *f = &c->p->sealed;
    const uint64_t n = f->label_count, bytes = n * sizeof *c->labels;
    bool sorted = true;
    for (uint64_t i = 1; i < n && sorted; i++)
        sorted = c->labels[i - 1].label < c->labels[i].label;
    if (!sorted)
        qsort(c->labels, n, sizeof *c->labels, by_label);
    for (uint64_t i = 1; i < n && !sorted; i++)
        if (c->labels[i - 1].label == c->labels[i].label)
            return fail(NAVMAP_ECORRUPT, "%s: label %llu is in slots %u and %u; nothing was saved",
                        c->p->s->path, (unsigned long long)c->labels[i].label,
                        old_slot(c->p, c->labels[i - 1].slot), old_slot(c->p, c->labels[i].slot));
    c->sums[c->n_sums++] =
        (struct disk_sum){f->label_offset, bytes, checksum64(c->labels, bytes, 0)};
    return io_pwrite(c->fd, c->path, c->labels, bytes, f->label_offset);
}

static navmap_status write_sums(const struct chunk *c)
{
    const struct layout_sealed *f = &c->p->sealed;
    const uint64_t bytes = c->n_sums * sizeof *c->sums, sum = checksum64(c->sums, bytes, 0);
    TRY(io_pwrite(c->fd, c->path, c->sums, bytes, f->sums_offset));
    return io_pwrite(c->fd, c->path, &sum, sizeof sum, f->sums_offset + bytes);
}

static navmap_status write_head(const struct chunk *c)
{
    const struct plan *p = c->p;
    const struct disk_root *old = &p->s->stage.root;
    struct disk_header header;
    const uint32_t entry = p->what->entry ? p->to[p->what->entry] : 0;
    struct disk_root root = {.entry = entry ? ENTRY(TAG_LEVEL(p->up[entry]), entry) : 0,
                             .extent = EXTENT(p->nchunks, p->nslots),
                             .nuppers = p->nuppers,
                             .max_elements = old->max_elements,
                             .n_live = c->n_live,
                             .n_deleted = p->what->n - c->n_live,
                             .inserted = old->inserted};
    root.sum = layout_root_sum(&root, p->l.uuid_low);
    layout_write_sealed(&p->l, &p->sealed, &header);
    TRY(io_pwrite(c->fd, c->path, &root, sizeof root, LAYOUT_ROOT_OFFSET));
    return io_pwrite(c->fd, c->path, &header, sizeof header, LAYOUT_HEADER_OFFSET);
}

static navmap_status write_all(struct chunk *c)
{
    const struct plan *p = c->p;
    c->bytes = malloc(p->l.chunk_bytes);
    c->labels = malloc((p->sealed.label_count + 1) * sizeof *c->labels);
    c->sums = malloc(((uint64_t)p->nchunks * LAYOUT_ARRAYS + 1) * sizeof *c->sums);
    c->ids = malloc((uint64_t)p->l.M0 * sizeof *c->ids);
    if (!c->bytes || !c->labels || !c->sums || !c->ids)
        return fail(NAVMAP_ENOMEM, "%s: no memory for saving %u items", p->s->path, p->what->n);
    for (c->number = 0; c->number < p->nchunks; c->number++)
        TRY(write_chunk(c));
    TRY(write_labels(c));
    TRY(write_sums(c));
    return write_head(c);
}

navmap_status seal_settle(struct store *s)
{
    return s->in_memory ? NAVMAP_OK : store_commit_locked(s);
}

navmap_status seal_write(struct store *s, const struct sealing *what, int fd, const char *path)
{
    struct plan p;
    struct chunk c = {.p = &p, .fd = fd, .path = path};
    TRY(seal_settle(s));
    navmap_status status = plan_make(&p, s, what);
    if (status == NAVMAP_OK)
        status = plan_owners(&p);
    if (status == NAVMAP_OK)
        status = write_all(&c);
    free(c.bytes);
    free(c.labels);
    free(c.sums);
    free(c.ids);
    plan_free(&p);
    return status;
}

navmap_status seal_bytes(struct store *s, const struct sealing *what, uint64_t *ret_bytes)
{
    struct plan p;
    navmap_status status = plan_make(&p, s, what);
    if (status == NAVMAP_OK)
        *ret_bytes = p.sealed.file_bytes;
    plan_free(&p);
    return status;
}
