/* record.c -- cells to bytes and bytes to cells; nothing of a record is believed unchecked. */
#include "storage/record.h"

#include <stdlib.h>
#include <string.h>

#include "storage/checksum.h"
#include "storage/fail.h"

#define RECORD_MAGIC 0x3157564Eu /* "NVW1" */

struct disk_record {
    uint32_t magic, ncells; /*  0, 4 */
    uint64_t lsn;           /*  8 */
    uint64_t generation;    /* 16 */
    uint64_t nbytes;        /* 24: of the whole record */
    uint64_t reserved;      /* 32 */
    uint64_t sum;           /* 40: xxh3_64(bytes 0..39, then 48..; seed = lsn ^ uuid_low) */
};
static_assert(sizeof(struct disk_record) == RECORD_HEADER_BYTES, "disk_record is frozen");

struct disk_cell {
    uint8_t kind, reserved0[3]; /*  0 */
    uint32_t index;             /*  4 */
    uint32_t nbytes;            /*  8 */
    uint32_t reserved1;         /* 12; then the bytes, padded with zeros to 8 */
};
static_assert(sizeof(struct disk_cell) == 16, "disk_cell is frozen");

uint32_t cell_bytes(const struct layout *l, enum cell_kind kind)
{
    switch (kind) {
    case CELL_ROOT:
        return sizeof(struct disk_root);
    case CELL_PAYLOAD:
        return layout_payload_bytes(l);
    case CELL_STATE:
        return 4;
    case CELL_ROW:
        return 4 * l->M0;
    case CELL_UPPER:
        return 4 * l->M;
    case CELL_DIRECT:
        return sizeof(struct disk_direct);
    case CELL_KINDS:
        break;
    }
    return 0;
}

static uint32_t padded(uint32_t n)
{
    return (n + 7u) & ~7u;
}

navmap_status cells_add(struct cells *c, uint32_t kind, uint32_t index, const void *bytes)
{
    if (c->n == c->cap) {
        uint32_t cap = c->cap ? c->cap * 2 : 256;
        struct cell *cell = realloc(c->cell, cap * sizeof *cell);
        if (!cell)
            return fail(NAVMAP_ENOMEM, "no memory for %u cells of a commit", cap);
        c->cell = cell;
        c->cap = cap;
    }
    c->cell[c->n++] = (struct cell){kind, index, bytes};
    return NAVMAP_OK;
}

static int by_kind_and_index(const void *a, const void *b)
{
    const struct cell *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

navmap_status cells_sort(struct cells *c)
{
    c->done = calloc(c->n ? c->n : 1, 1);
    if (!c->done)
        return fail(NAVMAP_ENOMEM, "no memory for %u cells of a commit", c->n);
    qsort(c->cell, c->n, sizeof *c->cell, by_kind_and_index);
    uint32_t i = 0;
    for (uint32_t kind = 0; kind <= CELL_KINDS; kind++) {
        while (i < c->n && c->cell[i].kind < kind)
            i++;
        c->start[kind] = i;
    }
    return NAVMAP_OK;
}

const struct cell *cells_find(const struct cells *c, enum cell_kind kind, uint32_t index)
{
    uint32_t low = c->start[kind], high = c->start[kind + 1];
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (c->cell[mid].index < index)
            low = mid + 1;
        else
            high = mid;
    }
    return low < c->start[kind + 1] && c->cell[low].index == index ? &c->cell[low] : NULL;
}

void cells_free(struct cells *c)
{
    free(c->cell);
    free(c->direct);
    free(c->done);
    memset(c, 0, sizeof *c);
}

static navmap_status add_slot(const struct stage_slot *r, struct cells *c, uint32_t *n_direct)
{
    if (r->flags & STAGE_STATE)
        TRY(cells_add(c, CELL_STATE, r->slot, &r->state));
    if (r->flags & STAGE_ROW)
        TRY(cells_add(c, CELL_ROW, r->slot, r->row));
    if (r->flags & STAGE_LOGGED)
        TRY(cells_add(c, CELL_PAYLOAD, r->slot, r->payload));
    if (r->flags & STAGE_DIRECT) {
        c->direct[*n_direct] = (struct disk_direct){r->gen, 0, r->vsum};
        TRY(cells_add(c, CELL_DIRECT, r->slot, &c->direct[(*n_direct)++]));
    }
    return NAVMAP_OK;
}

static navmap_status add_all(const struct stage *e, struct cells *c)
{
    uint32_t n_direct = 0;
    TRY(cells_add(c, CELL_ROOT, 0, &e->root));
    for (uint32_t i = 0; i < e->n_slots; i++)
        TRY(add_slot(stage_slot_at(e, i), c, &n_direct));
    for (uint32_t i = 0; i < e->n_uppers; i++)
        TRY(cells_add(c, CELL_UPPER, stage_upper_at(e, i)->cell, stage_upper_at(e, i)->ids));
    return cells_sort(c);
}

navmap_status cells_from_stage(const struct stage *e, struct cells *ret_cells)
{
    struct cells c = {0};
    navmap_status status;
    c.direct = malloc((e->n_direct + 1) * sizeof *c.direct);
    status = c.direct ? add_all(e, &c)
                      : fail(NAVMAP_ENOMEM, "no memory for %u cells of a commit", e->n_direct);
    if (status != NAVMAP_OK)
        cells_free(&c);
    else
        *ret_cells = c;
    return status;
}

static uint64_t record_sum(const struct layout *l, const uint8_t *bytes, size_t nbytes,
                           uint64_t lsn)
{
    struct checksum sum;
    checksum_begin(&sum, lsn ^ l->uuid_low);
    checksum_add(&sum, bytes, offsetof(struct disk_record, sum));
    checksum_add(&sum, bytes + RECORD_HEADER_BYTES, nbytes - RECORD_HEADER_BYTES);
    return checksum_end(&sum);
}

navmap_status record_write(const struct layout *l, const struct cells *c, uint64_t lsn,
                           uint8_t **ret_bytes, size_t *ret_nbytes)
{
    size_t nbytes = RECORD_HEADER_BYTES;
    for (uint32_t i = 0; i < c->n; i++)
        nbytes += sizeof(struct disk_cell) + padded(cell_bytes(l, c->cell[i].kind));
    uint8_t *bytes = malloc(nbytes);
    if (!bytes)
        return fail(NAVMAP_ENOMEM, "no memory for a commit record of %zu bytes", nbytes);
    struct disk_record header = {RECORD_MAGIC, c->n, lsn, l->generation, nbytes, 0, 0};
    memcpy(bytes, &header, sizeof header);
    uint8_t *p = bytes + sizeof header;
    for (uint32_t i = 0; i < c->n; i++) {
        uint32_t n = cell_bytes(l, c->cell[i].kind);
        struct disk_cell cell = {
            .kind = (uint8_t)c->cell[i].kind, .index = c->cell[i].index, .nbytes = n};
        memcpy(p, &cell, sizeof cell);
        memcpy(p + sizeof cell, c->cell[i].bytes, n);
        memset(p + sizeof cell + n, 0, padded(n) - n);
        p += sizeof cell + padded(n);
    }
    header.sum = record_sum(l, bytes, nbytes, lsn);
    memcpy(bytes, &header, sizeof header);
    *ret_bytes = bytes;
    *ret_nbytes = nbytes;
    return NAVMAP_OK;
}

static navmap_status bad_record(const struct record_bounds *b, const char *what, uint64_t expected,
                                uint64_t found)
{
    return fail(NAVMAP_ECORRUPT, "%s: log record %llu: %s: expected %llu, found %llu", b->path,
                (unsigned long long)b->lsn, what, (unsigned long long)expected,
                (unsigned long long)found);
}

static uint64_t index_bound(const struct layout *l, const struct record_bounds *b, uint32_t kind)
{
    if (kind == CELL_ROOT)
        return 1;
    uint64_t chunks = layout_chunks_max(l);
    if (kind == CELL_UPPER)
        return b->cells ? b->cells : chunks * l->uppers_per_chunk;
    return b->slots ? b->slots : chunks << l->slot_shift;
}

static navmap_status read_cells(const struct layout *l, const uint8_t *p, size_t left,
                                uint32_t ncells, const struct record_bounds *b, record_visit *visit,
                                void *ctx)
{
    for (uint32_t i = 0; i < ncells; i++) {
        struct disk_cell cell;
        if (left < sizeof cell)
            return bad_record(b, "bytes left for a cell", sizeof cell, left);
        memcpy(&cell, p, sizeof cell);
        if (cell.kind < CELL_ROOT || cell.kind > CELL_DIRECT)
            return bad_record(b, "kind of a cell", CELL_DIRECT, cell.kind);
        uint32_t n = cell_bytes(l, cell.kind);
        if (cell.nbytes != n)
            return bad_record(b, "bytes of a cell", n, cell.nbytes);
        if (cell.index >= index_bound(l, b, cell.kind) ||
            (cell.index == 0 && cell.kind != CELL_ROOT && cell.kind != CELL_UPPER))
            return bad_record(b, "index of a cell below", index_bound(l, b, cell.kind), cell.index);
        if (left - sizeof cell < padded(n))
            return bad_record(b, "bytes left for a cell", padded(n), left - sizeof cell);
        TRY(visit(ctx, &(struct cell){cell.kind, cell.index, p + sizeof cell}));
        p += sizeof cell + padded(n);
        left -= sizeof cell + padded(n);
    }
    return left == 0 ? NAVMAP_OK : bad_record(b, "bytes behind the last cell", 0, left);
}

navmap_status record_read(const struct layout *l, const uint8_t *bytes, size_t nbytes,
                          const struct record_bounds *b, record_visit *visit, void *ctx)
{
    struct disk_record h;
    if (nbytes < sizeof h)
        return bad_record(b, "length at least", sizeof h, nbytes);
    memcpy(&h, bytes, sizeof h);
    if (h.magic != RECORD_MAGIC)
        return bad_record(b, "magic", RECORD_MAGIC, h.magic);
    if (h.lsn != b->lsn)
        return bad_record(b, "lsn", b->lsn, h.lsn);
    if (h.generation != l->generation)
        return bad_record(b, "generation", l->generation, h.generation);
    if (h.nbytes != nbytes)
        return bad_record(b, "length", h.nbytes, nbytes);
    uint64_t sum = record_sum(l, bytes, nbytes, h.lsn);
    if (h.sum != sum)
        return bad_record(b, "checksum", sum, h.sum);
    return read_cells(l, bytes + sizeof h, nbytes - sizeof h, h.ncells, b, visit, ctx);
}
