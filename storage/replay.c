/* replay.c -- the log, read back into the newest image of each cell (O6 of recovery).
 *
 * Newest first, so that each cell is kept once and never moves backwards; everything is checked
 * before anybody stores anything.
 */
#include "storage/replay.h"

#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"
#include "storage/io.h"

void replay_free(struct replay *r)
{
    cells_free(&r->cells);
    for (int kind = 0; kind < CELL_KINDS; kind++)
        free(r->seen[kind]);
    for (uint64_t i = 0; i < r->n_records; i++)
        free(r->records[i]);
    free(r->records);
}

static navmap_status no_memory(const struct replay *r)
{
    return fail(NAVMAP_ENOMEM, "%s: no memory to replay the log", r->path);
}

static navmap_status find_root(void *ctx, const struct cell *c)
{
    struct replay *r = ctx;
    if (c->kind == CELL_ROOT) {
        memcpy(&r->root, c->bytes, sizeof r->root);
        r->has_root = true;
    }
    return NAVMAP_OK;
}

static navmap_status remember(void *ctx, const struct cell *c)
{
    struct replay *r = ctx;
    uint64_t *seen = r->seen[c->kind == CELL_DIRECT ? CELL_PAYLOAD : c->kind];
    uint64_t bit = 1ull << (c->index & 63);
    if (seen[c->index >> 6] & bit)
        return NAVMAP_OK; /* a newer record has its image */
    seen[c->index >> 6] |= bit;
    return cells_add(&r->cells, c->kind, c->index, c->bytes);
}

static navmap_status fetch(struct replay *r, struct wal_txn *t, uint64_t lsn, uint8_t **ret_bytes,
                           size_t *ret_nbytes)
{
    if (r->n_records == r->cap_records) {
        uint64_t cap = r->cap_records ? r->cap_records * 2 : 64;
        uint8_t **records = realloc(r->records, cap * sizeof *records);
        if (!records)
            return no_memory(r);
        r->records = records;
        r->cap_records = cap;
    }
    TRY(wal_get_record(t, lsn, RECORD_BYTES_MAX, ret_bytes, ret_nbytes));
    r->records[r->n_records++] = *ret_bytes;
    r->bounds.lsn = lsn;
    return NAVMAP_OK;
}

/* The newest record tells how large the index is; only then can indexes be bounded. */
static navmap_status read_newest(struct replay *r, struct wal_txn *t, uint64_t lsn)
{
    uint8_t *bytes;
    size_t nbytes;
    TRY(fetch(r, t, lsn, &bytes, &nbytes));
    TRY(record_read(r->layout, bytes, nbytes, &r->bounds, find_root, r));
    if (!r->has_root || r->root.lsn != lsn ||
        r->root.sum != layout_root_sum(&r->root, r->layout->uuid_low))
        return fail(NAVMAP_ECORRUPT, "%s: log record %llu: it has no sound root", r->path,
                    (unsigned long long)lsn);
    uint64_t nchunks = extent_chunks(r->root.extent);
    if (nchunks == 0 || nchunks > layout_chunks_max(r->layout))
        return fail(NAVMAP_ECORRUPT,
                    "%s: log record %llu: root: %llu chunks, at most %u are possible", r->path,
                    (unsigned long long)lsn, (unsigned long long)nchunks,
                    layout_chunks_max(r->layout));
    r->bounds.slots = (uint32_t)(nchunks << r->layout->slot_shift);
    r->bounds.cells = (uint32_t)nchunks * r->layout->uppers_per_chunk;
    for (int kind = CELL_ROOT; kind < CELL_KINDS; kind++) {
        uint64_t bits = kind == CELL_UPPER ? r->bounds.cells : r->bounds.slots;
        r->seen[kind] = calloc((bits >> 6) + 1, sizeof(uint64_t));
        if (!r->seen[kind])
            return no_memory(r);
    }
    return record_read(r->layout, bytes, nbytes, &r->bounds, remember, r);
}

navmap_status replay_read(struct replay *r, struct wal_txn *t, const struct wal_state *state)
{
    r->bounds.path = r->path;
    TRY(read_newest(r, t, state->last_lsn));
    for (uint64_t lsn = state->last_lsn - 1; lsn > state->ckpt_lsn; lsn--) {
        uint8_t *bytes;
        size_t nbytes;
        TRY(fetch(r, t, lsn, &bytes, &nbytes));
        TRY(record_read(r->layout, bytes, nbytes, &r->bounds, remember, r));
        STORE_KILL_POINT(O6_READ);
    }
    return cells_sort(&r->cells);
}

/* A payload travels with the STATE and ROW of its slot; a direct one must be in the file, unless
 * the slot is FREE again and may hold the bytes of a store that never committed. */
static navmap_status check_payload(const struct replay *r, const struct view *v,
                                   const struct cell *c)
{
    const struct cell *state = cells_find(&r->cells, CELL_STATE, c->index);
    uint32_t word = 0;
    if (state)
        memcpy(&word, state->bytes, sizeof word);
    if (!state || !cells_find(&r->cells, CELL_ROW, c->index))
        return fail(NAVMAP_ECORRUPT,
                    "%s: the log has a payload of slot %u without its state or row", r->path,
                    c->index);
    if (c->kind == CELL_PAYLOAD || STATE_STATUS(word) == SLOT_FREE)
        return NAVMAP_OK;
    struct disk_direct direct;
    memcpy(&direct, c->bytes, sizeof direct);
    const struct disk_tag *tag = view_tag(v, c->index);
    uint64_t vsum = layout_vsum(&v->layout, tag->label, c->index, tag->gen, tag->up,
                                view_code(v, c->index), view_vec(v, c->index));
    if (direct.gen != STATE_GEN(word) || tag->gen != direct.gen || vsum != direct.vsum)
        return fail(
            NAVMAP_ECORRUPT,
            "%s: payload of slot %u generation %u: checksum expected %016llx, found %016llx",
            v->path, c->index, direct.gen, (unsigned long long)direct.vsum,
            (unsigned long long)vsum);
    return NAVMAP_OK;
}

navmap_status replay_check(const struct replay *r, const struct view *v)
{
    for (uint32_t i = r->cells.start[CELL_PAYLOAD]; i < r->cells.start[CELL_PAYLOAD + 1]; i++)
        TRY(check_payload(r, v, &r->cells.cell[i]));
    for (uint32_t i = r->cells.start[CELL_DIRECT]; i < r->cells.start[CELL_DIRECT + 1]; i++)
        TRY(check_payload(r, v, &r->cells.cell[i]));
    return NAVMAP_OK;
}
