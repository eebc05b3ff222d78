/* readers_writer.c -- the one writer of test_readers.c: a random life without a graph. */
#include "tests/race/readers.h"

#include <signal.h>

#include "storage/fail.h"
#include "tests/support/oracle.h"

/* Announce a change; the word that will be true is kept in last[]. */
static void announce(struct writer *w, uint32_t number, uint32_t version, bool deleted)
{
    uint64_t old = w->last[number];
    uint32_t stamp = WORD_STAMP(old) + 1;
    atomic_store(&w->shared->begun[number], version);
    /* A label that was absent must not seem to have had a version: version 0 bounds nothing. */
    atomic_store(&w->shared->now[number], WORD(stamp, WORD_VERSION(old), WORD_DELETED(old), 1));
    w->last[number] = WORD(stamp, version, deleted, 0);
    w->pending[w->n_pending++] = number;
}

static void acknowledge(struct writer *w)
{
    for (uint32_t i = 0; i < w->n_pending; i++)
        atomic_store(&w->shared->now[w->pending[i]], w->last[w->pending[i]]);
    w->n_pending = 0;
    w->calls++;
}

static uint32_t live_slot(struct writer *w)
{
    const struct stage *e = store_edit(w->store);
    uint32_t n = extent_slots(e->root.extent);
    for (int i = 0; i < 8 && n > 1; i++) {
        uint32_t slot = 1 + (uint32_t)rng_below(&w->rng, n - 1);
        if (STATE_STATUS(edit_state(e, slot)) == SLOT_LIVE)
            return slot;
    }
    return 0;
}

static navmap_status put(struct writer *w, uint32_t number)
{
    const struct layout *l = store_layout(w->store);
    uint32_t version = WORD_VERSION(w->last[number]) + 1;
    float vector[64];
    uint8_t code[256] = {0};
    struct store_item item;
    TRY(store_item_begin(w->store, truth_label(number), rng_one_in(&w->rng, 4), &item));
    announce(w, number, version, false);
    truth_vector(number, version, l->dim, vector);
    truth_code(number, version, l->dim + l->code_header, code);
    store_item_payload(w->store, &item, l->code_scheme ? code : NULL, vector);
    _Atomic uint32_t *row = store_row_edit(w->store, item.slot, 0);
    for (uint32_t i = 0, kept = 0; i < l->M0; i++) {
        uint32_t other = live_slot(w);
        bool fits = other != 0 && other != item.slot;
        for (uint32_t j = 0; j < kept; j++)
            fits = fits && row[j] != other;
        if (fits)
            row[kept++] = other;
    }
    uint32_t other = live_slot(w);
    if (other != 0 && other != item.slot) {
        _Atomic uint32_t *back = store_row_edit(w->store, other, 0);
        uint32_t place = 0; /* the first that is empty, or has it already; of a full row any */
        while (place < l->M0 && back[place] != 0 && back[place] != item.slot)
            place++;
        back[place < l->M0 ? place : rng_below(&w->rng, l->M0)] = item.slot;
    }
    store_item_end(w->store, &item);
    if (store_root(w->store).entry == 0)
        store_entry_set(w->store, item.slot, item.level);
    return NAVMAP_OK;
}

static bool pending(const struct writer *w, uint32_t number)
{
    for (uint32_t i = 0; i < w->n_pending; i++) {
        if (w->pending[i] == number)
            return true;
    }
    return false;
}

static navmap_status change_some(struct writer *w, uint32_t want_labels)
{
    navmap_status status = NAVMAP_OK;
    uint32_t n = 1 + (uint32_t)rng_below(&w->rng, 12);
    TRY(store_write_begin(w->store, rng_one_in(&w->rng, 3) ? 200 : n));
    for (uint32_t i = 0; i < n && status == NAVMAP_OK; i++) {
        uint32_t number = w->used > 0 ? (uint32_t)rng_below(&w->rng, w->used) : 0;
        if (w->used < want_labels && w->used < LABELS && !rng_one_in(&w->rng, 4))
            number = w->used++;
        if (pending(w, number))
            continue;
        bool known = w->last[number] != 0;
        bool deleted = known && WORD_DELETED(w->last[number]);
        if (known && rng_one_in(&w->rng, 3)) {
            announce(w, number, WORD_VERSION(w->last[number]), !deleted);
            status = store_mark(w->store, truth_label(number), !deleted);
        } else {
            status = put(w, number);
        }
    }
    store_write_end(w->store);
    return status;
}

static void clean_rows(struct writer *w, uint32_t slot)
{
    const struct layout *l = store_layout(w->store);
    const _Atomic uint32_t *old = edit_row(store_edit(w->store), slot);
    bool dirty = false;
    for (uint32_t i = 0; i < l->M0; i++)
        dirty = dirty || (old[i] != 0 && store_sweep_member(w->store, old[i]));
    if (!dirty)
        return;
    _Atomic uint32_t *row = store_row_edit(w->store, slot, 0);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->M0; i++) {
        if (row[i] != 0 && !store_sweep_member(w->store, row[i]))
            row[kept++] = row[i];
    }
    while (kept < l->M0)
        row[kept++] = 0;
}

static navmap_status sweep(struct writer *w)
{
    uint64_t dead;
    TRY(store_write_begin(w->store, 0));
    navmap_status status = store_sweep_begin(w->store, false, &dead);
    if (status == NAVMAP_OK && store_sweep_running(w->store)) {
        const struct stage *e = store_edit(w->store);
        uint32_t n = extent_slots(e->root.extent);
        uint32_t entry = (uint32_t)store_root(w->store).entry;
        for (uint32_t i = 1; entry != 0 && store_sweep_member(w->store, entry) && i < n; i++) {
            if (STATE_STATUS(edit_state(e, i)) == SLOT_LIVE)
                store_entry_set(w->store, entry = i, 0);
        }
        for (uint32_t i = 1; i < n && status == NAVMAP_OK; i++) {
            status = store_sweep_room(w->store, 1);
            enum slot_status state = STATE_STATUS(edit_state(e, i));
            if (status == NAVMAP_OK && state != SLOT_FREE && !store_sweep_member(w->store, i))
                clean_rows(w, i);
        }
        store_sweep_advance(w->store, n);
        if (status == NAVMAP_OK)
            status = store_sweep_end(w->store);
        w->sweeps++;
    }
    store_write_end(w->store);
    return status;
}

navmap_status writer_work(struct writer *w, double seconds, const pid_t *pids, uint32_t n_pids,
                          uint32_t readers)
{
    double start = harness_now(), spent;
    pid_t stopped = 0;
    while ((spent = harness_now() - start) < seconds) {
        double done = spent / (0.75 * seconds);
        TRY(change_some(w, (uint32_t)((done < 1 ? done : 1) * LABELS)));
        TRY(store_settle(w->store));
        acknowledge(w);
        if (rng_one_in(&w->rng, 40)) {
            TRY(sweep(w));
            TRY(store_settle(w->store));
        }
        if (rng_one_in(&w->rng, 200))
            TRY(store_flush(w->store));
        if (n_pids > 0 && rng_one_in(&w->rng, 60)) { /* one reader at a time takes a long nap */
            if (stopped != 0)
                (void)kill(stopped, SIGCONT);
            stopped = stopped == 0 ? pids[rng_below(&w->rng, n_pids)] : 0;
            if (stopped != 0)
                (void)kill(stopped, SIGSTOP);
        }
        for (uint32_t i = 0; i < readers; i++) {
            if (w->shared->counts[i].why[0] != '\0')
                spent = seconds;
        }
        if (spent >= seconds)
            break;
    }
    if (stopped != 0)
        (void)kill(stopped, SIGCONT);
    return NAVMAP_OK;
}

navmap_status writer_fill(struct writer *w, uint32_t chunks)
{
    struct store_stats stats;
    TRY(store_stats_read(w->store, &stats));
    while (stats.nchunks < chunks) {
        TRY(change_some(w, LABELS));
        TRY(store_settle(w->store));
        acknowledge(w);
        TRY(store_stats_read(w->store, &stats));
    }
    return NAVMAP_OK;
}
