/* verify_labels.c -- the LMDB side: the log, and labels to slots and back.
 *
 * Labels are walked in slices, a transaction each, so that none is held for long.  An entry that
 * fits its slot proves itself; one that does not is looked up again, in a transaction whose last
 * commit is the one that the file shows (between the commit point and its apply they differ).
 * An entry that fits marks its slot; published slots without a mark are then looked up one by one.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "storage/fail.h"
#include "storage/labels.h"
#include "storage/record.h"
#include "storage/verify.h"

#define SLICE_ENTRIES 8192u

/* Log ------------------------------------------------------------------------------------------*/

static navmap_status ignore_cell(void *ctx, const struct cell *cell)
{
    (void)ctx;
    (void)cell;
    return NAVMAP_OK;
}

/* One record, in a transaction that still has it. */
static navmap_status read_record(struct verify *v, uint64_t lsn)
{
    uint8_t *bytes = NULL;
    size_t nbytes = 0;
    const struct record_bounds bounds = {.lsn = lsn, .path = v->path};
    TRY(wal_get_record(&v->txn, lsn, RECORD_BYTES_MAX, &bytes, &nbytes));
    navmap_status status = record_read(&v->view->layout, bytes, nbytes, &bounds, ignore_cell, NULL);
    free(bytes);
    return status;
}

/* Damage of one record ends the look at the log, not the check: the data file is another matter,
 * and beside a living writer nobody replays the log. */
static navmap_status log_damage(struct verify *v, navmap_status status)
{
    bool stop = v->stop;
    TRY(verify_damage(v, status, "log", UINT64_MAX));
    v->stop = stop;
    return NAVMAP_OK;
}

/* Beside a writer: each record of the log as it was when the check came by.  A checkpoint may cut
 * it meanwhile, so each transaction asks anew where it begins. */
static navmap_status live_records(struct verify *v)
{
    struct wal_state state = v->state;
    uint64_t last = state.last_lsn;
    for (uint64_t lsn = state.ckpt_lsn + 1; lsn <= last; lsn++) {
        bool changed = false;
        TRY(verify_txn(v, &changed));
        navmap_status status = wal_get_state(&v->txn, &state);
        if (status == NAVMAP_OK && lsn <= state.ckpt_lsn) {
            lsn = state.ckpt_lsn; /* cut; go on behind it */
        } else if (status == NAVMAP_OK) {
            status = read_record(v, lsn);
            v->counts.log_records++;
        }
        verify_txn_end(v);
        if (status != NAVMAP_OK)
            return status;
    }
    return NAVMAP_OK;
}

static navmap_status all_frames(struct verify *v)
{
    struct wal_state state;
    TRY(wal_get_state(&v->txn, &state));
    return wal_check_frames(&v->txn, state.last_lsn);
}

/* A transaction on the ground as it is now; none is open afterwards if the check has to stop, or if
 * LMDB may not be read any more. */
static navmap_status settled_txn(struct verify *v)
{
    bool changed = true;
    while (v->have_state && !v->stop) {
        TRY(verify_txn(v, &changed));
        if (!changed)
            break;
        struct moment m; /* opens the ground anew */
        TRY(verify_moment_begin(v, &m));
    }
    return NAVMAP_OK;
}

navmap_status verify_log(struct verify *v)
{
    if (!v->have_state)
        return NAVMAP_OK; /* said when the ground was opened */
    TRY(log_damage(v, settled_txn(v)));
    if (v->txn_open)
        TRY(log_damage(v, all_frames(v)));
    verify_txn_end(v);
    /* REPLAYED: its records were read already, by the replay. */
    return v->ground == GROUND_LIVE ? log_damage(v, live_records(v)) : NAVMAP_OK;
}

/* Labels ---------------------------------------------------------------------------------------*/

static bool owns_label(uint32_t word)
{
    return STATE_STATUS(word) == SLOT_LIVE || STATE_STATUS(word) == SLOT_DELETED;
}

/* Do the slot's own words say the same as the entry? */
static bool entry_fits(const struct verify *v, uint64_t label, struct label_entry e)
{
    if (e.slot == 0 || e.slot >= verify_extent_slots(v))
        return false;
    uint32_t word = atomic_load_explicit(view_state(v->view, e.slot), memory_order_acquire);
    return owns_label(word) && STATE_GEN(word) == e.gen && view_tag_label(v->view, e.slot) == label;
}

static bool entry_misfit(const struct verify *v, uint64_t label, struct label_entry e,
                         struct finding *f)
{
    if (e.slot == 0 || e.slot >= verify_extent_slots(v))
        return finding_bad(f, "labels", e.slot, UINT64_MAX,
                           "label %" PRIu64 ": expected a slot of 1..%" PRIu32 ", found %" PRIu32,
                           label, verify_extent_slots(v) - 1, e.slot);
    static const char *const names[] = {"FREE", "LIVE", "DELETED", "DEAD"};
    uint32_t word = atomic_load_explicit(view_state(v->view, e.slot), memory_order_acquire);
    return finding_bad(f, "labels", e.slot, layout_tag_off(&v->view->layout, e.slot),
                       "label %" PRIu64 ": expected slot %" PRIu32
                       " to be its own in generation %" PRIu32
                       ", found it %s in generation %" PRIu32 " with label %" PRIu64,
                       label, e.slot, e.gen, names[STATE_STATUS(word)], STATE_GEN(word),
                       view_tag_label(v->view, e.slot));
}

/* The label's entry as LMDB has it now.  *ret_moving: the log is ahead of the file, or somebody
 * just became the writer, so the two cannot be compared. */
static navmap_status look_up(struct verify *v, uint64_t label, struct label_entry *ret_entry,
                             bool *ret_moving)
{
    struct wal_state state;
    TRY(verify_txn(v, ret_moving));
    if (*ret_moving)
        return NAVMAP_OK;
    TRY(wal_get_state(&v->txn, &state));
    *ret_moving = v->ground == GROUND_LIVE &&
                  state.last_lsn != view_load64(&view_root(v->view)->lsn, memory_order_relaxed);
    return labels_get(&v->txn, state.generation, v->view->layout.uuid_low, label, ret_entry);
}

/* A failed look-up is a finding of its own: the sentence is LMDB's or that of the entry's sum. */
static bool look_up_failed(struct finding *f, uint32_t slot)
{
    return finding_bad(f, "labels", slot, UINT64_MAX, "%s", navmap_error_detail());
}

/* LMDB to file.  what = label */
static bool check_label(struct verify *v, uint64_t what, struct finding *f)
{
    struct label_entry e = {0, 0};
    if (!v->have_state)
        return true; /* the ground changed: LMDB may not be read any more */
    if (look_up(v, what, &e, &f->moving) != NAVMAP_OK)
        return look_up_failed(f, 0);
    if (f->moving)
        return false;
    if (e.slot == 0) /* removed since the walk saw it */
        return true;
    if (entry_fits(v, what, e)) {
        bit_set(v->labelled, e.slot, true);
        return true;
    }
    if (e.slot < v->slots && bit_test(v->bad, e.slot))
        return true; /* its tag is damaged, which was said */
    return entry_misfit(v, what, e, f);
}

/* File to LMDB.  what = slot */
static bool check_slot_label(struct verify *v, uint64_t what, struct finding *f)
{
    uint32_t slot = (uint32_t)what;
    struct label_entry e = {0, 0};
    uint32_t word = atomic_load_explicit(view_state(v->view, slot), memory_order_acquire);
    if (!owns_label(word) || bit_test(v->bad, slot) || !v->have_state)
        return true;
    uint64_t label = view_tag_label(v->view, slot);
    if (look_up(v, label, &e, &f->moving) != NAVMAP_OK)
        return look_up_failed(f, slot);
    if (f->moving)
        return false;
    if (e.slot == slot && e.gen == STATE_GEN(word))
        return true;
    uint64_t at = layout_tag_off(&v->view->layout, slot);
    if (e.slot == 0)
        return finding_bad(f, "labels", slot, at,
                           "label %" PRIu64 ": expected an entry for slot %" PRIu32 ", found none",
                           label, slot);
    return finding_bad(f, "labels", slot, at,
                       "label %" PRIu64 ": expected its entry to name slot %" PRIu32
                       " generation %" PRIu32 ", found slot %" PRIu32 " generation %" PRIu32,
                       label, slot, STATE_GEN(word), e.slot, e.gen);
}

struct slice {
    uint32_t n;
    bool unsound; /* an entry whose own check sum fails: the last of the slice */
    uint64_t label[SLICE_ENTRIES];
    struct label_entry entry[SLICE_ENTRIES];
};

static int collect(void *ctx, uint64_t label, struct label_entry entry, bool sound)
{
    struct slice *s = ctx;
    s->label[s->n] = label;
    s->entry[s->n++] = entry;
    s->unsound = !sound;
    return !sound || s->n == SLICE_ENTRIES;
}

/* `table` is added to the generation: 0 the table in force, 1 the other. */
static navmap_status read_slice(struct verify *v, uint64_t from, uint32_t table, struct slice *s)
{
    struct wal_state state;
    s->n = 0;
    s->unsound = false;
    TRY(settled_txn(v));
    if (!v->txn_open)
        return NAVMAP_OK;
    TRY(wal_get_state(&v->txn, &state));
    navmap_status status =
        labels_walk(&v->txn, state.generation + table, v->view->layout.uuid_low, from, collect, s);
    if (v->ground == GROUND_LIVE)
        verify_txn_end(v);
    return status;
}

static navmap_status check_slice(struct verify *v, const struct slice *s)
{
    for (uint32_t i = 0; i < s->n && !v->stop; i++) {
        v->counts.labels++;
        TRY(verify_step(v));
        bool last_unsound = s->unsound && i + 1 == s->n;
        if (!last_unsound && entry_fits(v, s->label[i], s->entry[i]))
            bit_set(v->labelled, s->entry[i].slot, true);
        else
            TRY(verify_settle(v, check_label, s->label[i]));
    }
    return NAVMAP_OK;
}

/* All entries of a table.  The one not in force is only walked: it is empty, or being emptied. */
static navmap_status walk_table(struct verify *v, uint32_t table, struct slice *s)
{
    for (uint64_t from = 0; !v->stop && v->have_state;) {
        TRY(read_slice(v, from, table, s));
        if (table == 0)
            TRY(check_slice(v, s));
        if (s->n == 0 || (s->n < SLICE_ENTRIES && !s->unsound))
            break;
        uint64_t last = s->label[s->n - 1];
        if (last < from)
            return fail(NAVMAP_ECORRUPT,
                        "%s: a label key behind label %" PRIu64 " is out of order "
                        "or not of 8 bytes",
                        v->path, from);
        if (last == UINT64_MAX)
            break;
        from = last + 1;
    }
    return NAVMAP_OK;
}

/* Damage of LMDB itself (a page, not an entry) ends the look at the labels. */
static navmap_status walk_tables(struct verify *v, struct slice *s)
{
    TRY(walk_table(v, 0, s));
    return walk_table(v, 1, s);
}

static navmap_status unlabelled_slots(struct verify *v)
{
    for (uint32_t slot = 1; slot < v->nslots && !v->stop && v->have_state; slot++) {
        uint32_t word = atomic_load_explicit(view_state(v->view, slot), memory_order_acquire);
        if (owns_label(word) && !bit_test(v->labelled, slot) && !bit_test(v->bad, slot))
            TRY(verify_settle(v, check_slot_label, slot));
    }
    return NAVMAP_OK;
}

navmap_status verify_labels(struct verify *v)
{
    struct slice *s = malloc(sizeof(*s));
    if (s == NULL)
        return fail(NAVMAP_ENOMEM, "%s: no memory to check labels", v->path);
    navmap_status status = v->have_state ? walk_tables(v, s) : NAVMAP_OK;
    free(s);
    verify_txn_end(v);
    if (status == NAVMAP_OK)
        status = unlabelled_slots(v);
    else
        status = verify_damage(v, status, "labels", UINT64_MAX);
    verify_txn_end(v);
    return status;
}
