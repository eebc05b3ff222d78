/* verify_cells.c -- every byte of the data file that means something, slot by slot.
 *
 * First states and payloads of all slots, then rows: a link is judged by its target, and a target
 * whose tag is damaged must not be blamed on those who link to it.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "storage/fail.h"
#include "storage/verify.h"

static const char *status_name(enum slot_status status)
{
    static const char *const names[] = {"FREE", "LIVE", "DELETED", "DEAD"};
    return names[status];
}

static uint32_t load_state(const struct verify *v, uint32_t slot)
{
    return atomic_load_explicit(view_state(v->view, slot), memory_order_acquire);
}

/* ROOT and its surroundings --------------------------------------------------------------------*/

static void copy_root(const struct verify *v, struct disk_root *ret_root)
{
    const uint64_t *from = (const uint64_t *)(const void *)view_root(v->view);
    uint64_t words[sizeof(struct disk_root) / 8];
    for (size_t i = 0; i < sizeof(words) / 8; i++)
        words[i] = view_load64(from + i, memory_order_relaxed);
    memcpy(ret_root, words, sizeof(words));
}

#define ROOT_AT(field) (LAYOUT_ROOT_OFFSET + offsetof(struct disk_root, field))

static bool check_root_sum(struct verify *v, uint64_t what, struct finding *f)
{
    (void)what;
    struct disk_root root;
    copy_root(v, &root);
    uint64_t sum = layout_root_sum(&root, v->view->layout.uuid_low);
    if (root.sum != sum)
        return finding_bad(f, "root", 0, ROOT_AT(sum),
                           "checksum: expected %016" PRIx64 ", found %016" PRIx64, sum, root.sum);
    if (!layout_curve_sound(&root))
        return finding_bad(f, "root", 0, ROOT_AT(curve_ef),
                           "recall curve of %" PRIu32 " items: its numbers do not rise",
                           root.curve_items);
    return true;
}

static bool check_root_lsn(struct verify *v, uint64_t what, struct finding *f)
{
    (void)what;
    uint64_t lsn = view_load64(&view_root(v->view)->lsn, memory_order_relaxed);
    if (v->ground == GROUND_LIVE || lsn == v->state.last_lsn)
        return true;
    if (lsn < v->state.ckpt_lsn)
        return finding_bad(f, "root", 0, ROOT_AT(lsn),
                           "data file older than its log: expected lsn %" PRIu64 ", found %" PRIu64,
                           v->state.last_lsn, lsn);
    return finding_bad(f, "root", 0, ROOT_AT(lsn),
                       "lsn: expected %" PRIu64 " as in the log, found %" PRIu64, v->state.last_lsn,
                       lsn);
}

/* What must hold before any slot is looked at. */
static bool check_root_bounds(struct verify *v, uint64_t what, struct finding *f)
{
    (void)what;
    const struct layout *l = &v->view->layout;
    struct disk_root root;
    copy_root(v, &root);
    uint32_t nslots = extent_slots(root.extent), nchunks = extent_chunks(root.extent);
    uint32_t mapped = atomic_load_explicit(&v->view->nchunks, memory_order_relaxed);
    if (nchunks < 1 || nchunks > mapped)
        return finding_bad(f, "root", 0, ROOT_AT(extent),
                           "chunks: expected 1..%" PRIu32 " (the file's size), found %" PRIu32,
                           mapped, nchunks);
    if (nslots < 1 || nslots > (uint64_t)nchunks << l->slot_shift)
        return finding_bad(f, "root", 0, ROOT_AT(extent),
                           "slots: expected 1..%" PRIu64 ", found %" PRIu32,
                           (uint64_t)nchunks << l->slot_shift, nslots);
    uint64_t ncells = (uint64_t)nchunks * l->uppers_per_chunk;
    if (root.nuppers > ncells)
        return finding_bad(f, "root", 0, ROOT_AT(nuppers),
                           "upper cells: expected at most %" PRIu64 ", found %" PRIu64, ncells,
                           root.nuppers);
    return true;
}

static bool check_entry(struct verify *v, uint64_t what, struct finding *f)
{
    (void)what;
    struct disk_root root;
    copy_root(v, &root);
    uint32_t slot = (uint32_t)root.entry;
    uint64_t level = root.entry >> 32;
    if (slot == 0) {
        if (root.entry != 0 || root.n_live != 0)
            return finding_bad(f, "root", 0, ROOT_AT(entry),
                               "entry point: none (%016" PRIx64 ") with %" PRIu64 " live items",
                               root.entry, root.n_live);
        return true;
    }
    if (slot >= verify_extent_slots(v))
        return finding_bad(f, "root", slot, ROOT_AT(entry),
                           "entry point: expected a slot below %" PRIu32 ", found %" PRIu32,
                           verify_extent_slots(v), slot);
    if (STATE_STATUS(load_state(v, slot)) == SLOT_FREE)
        return finding_bad(f, "root", slot, ROOT_AT(entry), "entry point: slot %" PRIu32 " is FREE",
                           slot);
    uint32_t own = TAG_LEVEL(view_tag_up(v->view, slot));
    if (level > own && !(v->bad && bit_test(v->bad, slot)))
        return finding_bad(f, "root", slot, ROOT_AT(entry),
                           "entry point: level %" PRIu64 ", but slot %" PRIu32
                           " reaches level %" PRIu32 " only",
                           level, slot, own);
    return true;
}

/* One pass over all states against ROOT's counters: a moment like any other, only longer. */
static bool check_counters(struct verify *v, uint64_t what, struct finding *f)
{
    (void)what;
    struct disk_root root;
    copy_root(v, &root);
    uint64_t n[4] = {0, 0, 0, 0};
    uint32_t nslots = verify_extent_slots(v);
    for (uint32_t slot = 1; slot < nslots; slot++)
        n[STATE_STATUS(atomic_load_explicit(view_state(v->view, slot), memory_order_relaxed))]++;
    const struct {
        enum slot_status status;
        uint64_t expected, offset;
    } counter[] = {{SLOT_LIVE, root.n_live, ROOT_AT(n_live)},
                   {SLOT_DELETED, root.n_deleted, ROOT_AT(n_deleted)},
                   {SLOT_DEAD, root.n_dead, ROOT_AT(n_dead)},
                   {SLOT_FREE, root.n_free, ROOT_AT(n_free)}};
    for (size_t i = 0; i < 4; i++)
        if (n[counter[i].status] != counter[i].expected)
            return finding_bad(f, "counters", 0, counter[i].offset,
                               "%s slots: the root says %" PRIu64 ", found %" PRIu64,
                               status_name(counter[i].status), counter[i].expected,
                               n[counter[i].status]);
    if (root.n_apart > root.n_deleted)
        return finding_bad(f, "counters", 0, ROOT_AT(n_apart),
                           "DELETED slots that are apart: expected at most %" PRIu64
                           ", found %" PRIu32,
                           root.n_deleted, root.n_apart);
    uint64_t labels = root.n_live + root.n_deleted;
    if (root.max_elements != 0 && labels > root.max_elements)
        return finding_bad(f, "counters", 0, ROOT_AT(max_elements),
                           "labels: expected at most %" PRIu64 " (max_elements), found %" PRIu64,
                           root.max_elements, labels);
    if (root.inserted < labels + root.n_dead)
        return finding_bad(f, "counters", 0, ROOT_AT(inserted),
                           "publications: expected at least %" PRIu64 ", found %" PRIu64,
                           labels + root.n_dead, root.inserted);
    return true;
}

/* Never trusted across a crash, yet a reader follows `superseded`. */
static bool check_live(struct verify *v, uint64_t what, struct finding *f)
{
    (void)what;
    const struct disk_live *live = view_live(v->view);
    uint32_t superseded = view_load32(&live->superseded, memory_order_relaxed);
    if (superseded != 0)
        return finding_bad(f, "live", 0, LAYOUT_LIVE_OFFSET,
                           "superseded: expected 0 in the current generation, found %" PRIu32,
                           superseded);
    return true;
}

/* Bytes [what, v->zeros_end) that no cell covers. */
static bool check_zeros(struct verify *v, uint64_t what, struct finding *f)
{
    for (uint64_t i = what; i < v->zeros_end; i += 4) {
        uint32_t word =
            view_load32((const uint32_t *)(const void *)(v->view->base + i), memory_order_relaxed);
        if (word != 0)
            return finding_bad(f, "padding", 0, i, "unused bytes: expected 0, found %08" PRIx32,
                               word);
    }
    return true;
}

static navmap_status zeros(struct verify *v, uint64_t from, uint64_t to)
{
    v->zeros_end = to;
    return verify_settle(v, check_zeros, from);
}

navmap_status verify_root(struct verify *v)
{
    uint64_t before = v->counts.damaged;
    TRY(verify_settle(v, check_root_sum, 0));
    TRY(verify_settle(v, check_root_lsn, 0));
    uint64_t sound = v->counts.damaged;
    TRY(verify_settle(v, check_root_bounds, 0));
    v->stop = v->stop || v->counts.damaged != sound;
    if (v->stop)
        return NAVMAP_OK;
    /* A root that fails its sum is reported once, not once for each of its fields. */
    v->root_sound = v->counts.damaged == before;
    if (v->root_sound && v->how.quick)
        TRY(verify_settle(v, check_entry, 0));
    TRY(verify_settle(v, check_live, 0));
    TRY(zeros(v, LAYOUT_ROOT_OFFSET + sizeof(struct disk_root), LAYOUT_LIVE_OFFSET));
    return zeros(v, LAYOUT_LIVE_OFFSET + sizeof(struct disk_live), LAYOUT_CHUNK0_OFFSET);
}

/* States and payloads --------------------------------------------------------------------------*/

#define TAG_AT(v, slot, field)                                                                     \
    (layout_tag_off(&(v)->view->layout, slot) + offsetof(struct disk_tag, field))

/* tag.up: a slot of level L owns L cells in a row within one chunk. */
static bool check_up(struct verify *v, uint32_t slot, uint32_t up, struct finding *f)
{
    uint32_t level = TAG_LEVEL(up), cell = TAG_CELL(up), per = v->view->layout.uppers_per_chunk;
    uint64_t nuppers = view_load64(&view_root(v->view)->nuppers, memory_order_relaxed);
    if (level == 0 && cell != 0)
        return finding_bad(f, "tag", slot, TAG_AT(v, slot, up),
                           "upper cell of a slot of level 0: expected 0, found %" PRIu32, cell);
    if (level == 0)
        return true;
    if ((uint64_t)cell + level > nuppers || (uint64_t)cell + level > v->cells)
        return finding_bad(f, "tag", slot, TAG_AT(v, slot, up),
                           "upper cells %" PRIu32 "..%" PRIu32 ": expected below %" PRIu64, cell,
                           cell + level - 1, nuppers);
    if (cell / per != (cell + level - 1) / per)
        return finding_bad(f, "tag", slot, TAG_AT(v, slot, up),
                           "upper cells %" PRIu32 "..%" PRIu32 ": expected in one chunk of %" PRIu32
                           " cells",
                           cell, cell + level - 1, per);
    return true;
}

static bool check_padding(const struct verify *v, uint32_t slot, struct finding *f)
{
    const struct layout *l = &v->view->layout;
    const uint8_t *vec = view_vec(v->view, slot);
    for (uint32_t i = l->vec_bytes; i < l->vec_stride; i++)
        if (vec[i] != 0)
            return finding_bad(f, "payload", slot, layout_vec_off(l, slot) + i,
                               "padding of the vector: expected 0, found %02x", vec[i]);
    return true;
}

/* The payload of a published slot, under the state word `word`. */
static bool check_payload(struct verify *v, uint32_t slot, uint32_t word, struct finding *f)
{
    const struct layout *l = &v->view->layout;
    struct disk_tag tag;
    memcpy(&tag, view_tag(v->view, slot), sizeof(tag));
    uint64_t sum = layout_vsum(l, tag.label, slot, tag.gen, tag.up, view_code(v->view, slot),
                               view_vec(v->view, slot));
    if (tag.gen != STATE_GEN(word)) {
        if (sum == tag.vsum) /* the tag is whole, so it is the state word that changed */
            return finding_bad(f, "state", slot, layout_state_off(l, slot),
                               "generation: expected %" PRIu32
                               " as in the sound tag, found %" PRIu32 " (%s)",
                               tag.gen, STATE_GEN(word), status_name(STATE_STATUS(word)));
        return finding_bad(f, "tag", slot, TAG_AT(v, slot, gen),
                           "generation: expected %" PRIu32 " as in the state word, found %" PRIu32,
                           STATE_GEN(word), tag.gen);
    }
    if (sum != tag.vsum)
        return finding_bad(f, "payload", slot, TAG_AT(v, slot, label),
                           "checksum of label %" PRIu64 ", vector and code: expected %016" PRIx64
                           ", found %016" PRIx64,
                           tag.label, sum, tag.vsum);
    if (tag.reserved != 0)
        return finding_bad(f, "tag", slot, TAG_AT(v, slot, reserved),
                           "reserved bytes: expected 0, found %016" PRIx64, tag.reserved);
    return check_up(v, slot, tag.up, f) && check_padding(v, slot, f);
}

static bool check_slot(struct verify *v, uint64_t what, struct finding *f)
{
    uint32_t slot = (uint32_t)what;
    uint32_t word = load_state(v, slot);
    bool sound = true;
    if (STATE_STATUS(word) != SLOT_FREE)
        sound = check_payload(v, slot, word, f);
    else if (STATE_GEN(word) > 0) /* once published: its cells stay its own for the next life */
        sound = check_up(v, slot, view_tag_up(v->view, slot), f);
    bit_set(v->bad, slot, !sound);
    return sound;
}

/* No two slots share an upper cell.  Claims are never taken back: a slot's cells are for ever. */
static bool check_owner(struct verify *v, uint64_t what, struct finding *f)
{
    uint32_t slot = (uint32_t)what;
    uint32_t up = view_tag_up(v->view, slot);
    for (uint32_t i = 0; i < TAG_LEVEL(up); i++) {
        uint32_t cell = TAG_CELL(up) + i;
        if (cell >= v->cells)
            return true; /* said by check_up */
        if (v->owner[cell] == 0)
            v->owner[cell] = slot;
        if (v->owner[cell] != slot) {
            bit_set(v->bad, slot, true);
            return finding_bad(f, "tag", slot, TAG_AT(v, slot, up),
                               "upper cell %" PRIu32 " belongs to slot %" PRIu32 " already", cell,
                               v->owner[cell]);
        }
    }
    return true;
}

/* Slot 0 means "none": it is never handed out. */
static bool check_slot_zero(struct verify *v, uint64_t what, struct finding *f)
{
    (void)what;
    uint32_t word = load_state(v, 0);
    if (word != 0)
        return finding_bad(f, "state", 0, layout_state_off(&v->view->layout, 0),
                           "slot 0 is never used: expected 0, found %08" PRIx32, word);
    return true;
}

static void read_ahead(const struct verify *v, uint32_t slot)
{
    const struct layout *l = &v->view->layout;
    uint32_t next = (slot >> l->slot_shift) + 1;
    if ((slot & (l->slots_per_chunk - 1)) == 1 &&
        next < atomic_load_explicit(&v->view->nchunks, memory_order_relaxed))
        (void)madvise((void *)(uintptr_t)(v->view->base + layout_chunk_off(l, next)),
                      l->chunk_bytes, MADV_WILLNEED);
}

static navmap_status verify_slots(struct verify *v)
{
    TRY(verify_settle(v, check_slot_zero, 0));
    for (uint32_t slot = 1; slot < v->nslots && !v->stop; slot++) {
        TRY(verify_step(v));
        read_ahead(v, slot);
        TRY(verify_settle(v, check_slot, slot));
        if (v->stop)
            break;
        uint32_t word = load_state(v, slot);
        v->counts.slots++;
        v->counts.payloads += STATE_STATUS(word) != SLOT_FREE;
        if (word != STATE_WORD(0, SLOT_FREE) && !bit_test(v->bad, slot))
            TRY(verify_settle(v, check_owner, slot));
    }
    return NAVMAP_OK;
}

/* Rows -----------------------------------------------------------------------------------------*/

struct row {
    const _Atomic uint32_t *ids;
    uint64_t offset;
    uint32_t width, words; /* ids; words with the padding */
};

/* False: the slot does not reach that level (any more readable). */
static bool find_row(const struct verify *v, uint32_t slot, uint32_t level, struct row *ret_row)
{
    const struct layout *l = &v->view->layout;
    if (level == 0) {
        *ret_row = (struct row){view_row(v->view, slot), layout_row_off(l, slot), l->M0,
                                l->row_stride / 4};
        return true;
    }
    uint32_t up = view_tag_up(v->view, slot);
    uint64_t cell = (uint64_t)TAG_CELL(up) + level - 1;
    if (level > TAG_LEVEL(up) || cell >= v->cells)
        return false;
    *ret_row = (struct row){view_upper(v->view, (uint32_t)cell),
                            layout_upper_off(l, (uint32_t)cell), l->M, l->upper_stride / 4};
    return true;
}

/* A link of a row whose owner readers can reach. */
static bool check_target(const struct verify *v, uint32_t slot, uint32_t level, uint32_t id,
                         uint64_t at, struct finding *f)
{
    const char *section = level == 0 ? "row" : "upper";
    if (STATE_STATUS(load_state(v, id)) == SLOT_FREE)
        return finding_bad(f, section, slot, at,
                           "level %" PRIu32 " names slot %" PRIu32 ", which is FREE", level, id);
    uint32_t own = TAG_LEVEL(view_tag_up(v->view, id));
    if (level > own && !bit_test(v->bad, id))
        return finding_bad(f, section, slot, at,
                           "level %" PRIu32 " names slot %" PRIu32 ", which reaches level %" PRIu32
                           " only",
                           level, id, own);
    return true;
}

/* what = slot << 5 | level */
static bool check_row(struct verify *v, uint64_t what, struct finding *f)
{
    uint32_t slot = (uint32_t)(what >> 5), level = (uint32_t)(what & 31);
    const char *section = level == 0 ? "row" : "upper";
    struct row row;
    if (!find_row(v, slot, level, &row))
        return true;
    /* A FREE slot's rows are those of its former life; what they name may be FREE as well. */
    bool reachable = STATE_STATUS(load_state(v, slot)) != SLOT_FREE;
    uint32_t nslots = verify_extent_slots(v);
    bool ended = false;
    if (++v->mark == 0) {
        memset(v->stamp, 0, (size_t)v->slots * sizeof(*v->stamp));
        v->mark = 1;
    }
    for (uint32_t i = 0; i < row.words; i++) {
        uint32_t id = atomic_load_explicit(&row.ids[i], memory_order_relaxed);
        uint64_t at = row.offset + 4 * (uint64_t)i;
        if (id == 0) {
            ended = true;
            continue;
        }
        if (i >= row.width)
            return finding_bad(f, section, slot, at,
                               "padding of level %" PRIu32 ": expected 0, found %" PRIu32, level,
                               id);
        if (ended)
            return finding_bad(f, section, slot, at,
                               "level %" PRIu32 ", place %" PRIu32
                               ": expected 0 behind the last link, found %" PRIu32,
                               level, i, id);
        if (id >= nslots)
            return finding_bad(f, section, slot, at,
                               "level %" PRIu32 ", place %" PRIu32
                               ": expected a slot below %" PRIu32 ", found %" PRIu32,
                               level, i, nslots, id);
        if (id == slot)
            return finding_bad(f, section, slot, at,
                               "level %" PRIu32 ", place %" PRIu32 ": names its own slot", level,
                               i);
        if (v->stamp[id] == v->mark)
            return finding_bad(f, section, slot, at,
                               "level %" PRIu32 ", place %" PRIu32 ": slot %" PRIu32
                               " is named twice",
                               level, i, id);
        v->stamp[id] = v->mark;
        if (reachable && !check_target(v, slot, level, id, at, f))
            return false;
    }
    return true;
}

static navmap_status verify_rows(struct verify *v)
{
    for (uint32_t slot = 1; slot < v->nslots && !v->stop; slot++) {
        TRY(verify_step(v));
        TRY(verify_settle(v, check_row, (uint64_t)slot << 5));
        v->counts.rows++;
        uint32_t word = load_state(v, slot);
        if (word == STATE_WORD(0, SLOT_FREE) || bit_test(v->bad, slot))
            continue; /* never published, or its cells are not known */
        uint32_t levels = TAG_LEVEL(view_tag_up(v->view, slot));
        for (uint32_t level = 1; level <= levels && !v->stop; level++) {
            TRY(verify_settle(v, check_row, (uint64_t)slot << 5 | level));
            v->counts.uppers++;
        }
    }
    return NAVMAP_OK;
}

/* The arrays of a chunk begin on pages; what is left between them is zero.  Chunks that a writer
 * added since the view was mapped are not looked at: nobody was asked whether they are there. */
static navmap_status verify_gaps(struct verify *v)
{
    const struct layout *l = &v->view->layout;
    uint32_t nchunks =
        extent_chunks(view_load64(&view_root(v->view)->extent, memory_order_acquire));
    const uint32_t mapped = atomic_load_explicit(&v->view->nchunks, memory_order_acquire);
    nchunks = nchunks < mapped ? nchunks : mapped;
    uint64_t S = l->slots_per_chunk;
    for (uint32_t c = 0; c < nchunks && !v->stop; c++) {
        uint64_t at = layout_chunk_off(l, c);
        TRY(zeros(v, at + l->off_state + 4 * S, at + l->off_row));
        TRY(zeros(v, at + l->off_row + S * l->row_stride, at + l->off_upper));
        TRY(zeros(v, at + l->off_upper + (uint64_t)l->uppers_per_chunk * l->upper_stride,
                  at + l->off_tag));
        TRY(zeros(v, at + l->off_tag + S * l->tag_stride, at + l->off_code));
        TRY(zeros(v, at + l->off_code + S * l->code_stride, at + l->off_vec));
        TRY(zeros(v, at + l->off_vec + S * l->vec_stride, at + l->chunk_bytes));
    }
    return NAVMAP_OK;
}

navmap_status verify_cells(struct verify *v)
{
    TRY(verify_settle(v, check_counters, 0));
    TRY(verify_slots(v));
    if (v->root_sound && !v->stop)
        TRY(verify_settle(v, check_entry, 0));
    TRY(verify_rows(v));
    return v->stop ? NAVMAP_OK : verify_gaps(v);
}
