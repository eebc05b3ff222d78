/* workload.c -- the random life of an index without a graph; see workload.h. */
#include "tests/support/workload.h"

#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"

#define TRIES 20 /* random draws for a slot to link to, before giving up */

struct workload_options workload_draw(uint64_t seed, enum store_durability durability)
{
    struct rng r = {seed};
    struct workload_options o = {.dim = 4, .M = 4, .slot_shift = 4, .durability = durability};
    if (rng_one_in(&r, 4))
        o.dim = 512; /* a promise of 130 items makes its payloads direct, with growth in the call */
    o.M = 2 + (uint32_t)rng_below(&r, 5);
    o.code_header = rng_one_in(&r, 2) ? 8 : 0;
    o.ckpt_bytes = (uint64_t)4096 << rng_below(&r, 6);
    o.labels = 20 + (uint32_t)rng_below(&r, 60);
    return o;
}

void workload_init(struct workload *w, const char *path, const struct workload_options *options,
                   uint64_t seed, struct oracle *oracle)
{
    (void)memset(w, 0, sizeof *w);
    w->options = *options;
    w->path = path;
    w->rng.state = seed;
    w->oracle = oracle;
    w->next_version = 1;
}

static void event(const struct workload *w)
{
    if (w->on_event)
        w->on_event(w->on_event_ctx);
}

static void observe(void *ctx, struct store *s, uint64_t lsn)
{
    struct workload *w = ctx;
    oracle_observe(w->oracle, s, lsn);
    event(w);
}

static struct store_options store_options(const struct workload *w)
{
    return (struct store_options){w->options.durability, 20.0, w->options.ckpt_bytes};
}

navmap_status workload_create(struct workload *w)
{
    const struct workload_options *o = &w->options;
    struct layout_params params = {.dim = o->dim,
                                   .M = o->M,
                                   .ef_construction = 16,
                                   .seed = 7,
                                   .slot_shift = o->slot_shift,
                                   .code_scheme = o->code_header > 0,
                                   .code_header = (uint16_t)o->code_header};
    struct store_options options = store_options(w);
    TRY(store_create(w->path, &params, 0, &options, &w->store));
    w->oracle->notes[0] = (struct oracle_note){store_state_hash(w->store, false), 0, 1};
    store_observe_commits(w->store, observe, w);
    return NAVMAP_OK;
}

navmap_status workload_open(struct workload *w, bool rewind)
{
    struct store_options options = store_options(w);
    TRY(store_open(w->path, STORE_WRITE, &options, &w->store));
    if (rewind)
        oracle_rewind(w->oracle, store_last_lsn(w->store));
    oracle_replay(w->oracle, atomic_load(&w->oracle->n_staged), w->label);
    for (uint32_t i = 0; i < ORACLE_LABELS_MAX; i++) {
        if (w->label[i].version >= w->next_version)
            w->next_version = w->label[i].version + 1;
    }
    store_observe_commits(w->store, observe, w);
    return NAVMAP_OK;
}

static void acknowledge(struct workload *w)
{
    oracle_ack(w->oracle, store_last_lsn(w->store));
    event(w);
}

navmap_status workload_settle(struct workload *w)
{
    if (w->options.durability == STORE_MANUAL)
        return store_settle(w->store);
    TRY(store_settle(w->store));
    acknowledge(w);
    return NAVMAP_OK;
}

navmap_status workload_flush(struct workload *w)
{
    TRY(store_flush(w->store));
    acknowledge(w);
    return NAVMAP_OK;
}

navmap_status workload_close(struct workload *w)
{
    struct store *s = w->store;
    w->store = NULL;
    TRY(store_close(s));
    /* Closing flushes: what was staged is durable now. */
    oracle_ack(w->oracle, atomic_load(&w->oracle->noted_lsn));
    event(w);
    return NAVMAP_OK;
}

void workload_drop(struct workload *w)
{
    struct store *s = w->store;
    w->store = NULL;
    if (store_close(s) != NAVMAP_OK)
        return; /* expected: there was a failure before */
}

/* Rows -----------------------------------------------------------------------------------------*/

static uint32_t slots_used(const struct workload *w)
{
    return extent_slots(store_edit(w->store)->root.extent);
}

static bool linkable(const struct workload *w, uint32_t slot)
{
    enum slot_status status = STATE_STATUS(edit_state(store_edit(w->store), slot));
    return status == SLOT_LIVE || status == SLOT_DELETED;
}

/* A random published slot that reaches `level`, not `self`; 0 = none found. */
static uint32_t draw_slot(struct workload *w, uint32_t level, uint32_t self)
{
    uint32_t n = slots_used(w);
    for (int i = 0; i < TRIES && n > 1; i++) {
        uint32_t slot = 1 + (uint32_t)rng_below(&w->rng, n - 1);
        if (slot != self && linkable(w, slot) &&
            TAG_LEVEL(edit_tag(store_edit(w->store), slot)->up) >= level)
            return slot;
    }
    return 0;
}

static bool row_has(const _Atomic uint32_t *row, uint32_t width, uint32_t id)
{
    for (uint32_t i = 0; i < width; i++) {
        if (row[i] == id)
            return true;
    }
    return false;
}

/* Append, or replace a random id of a full row. */
static void row_put(struct workload *w, _Atomic uint32_t *row, uint32_t width, uint32_t id)
{
    if (row_has(row, width, id))
        return;
    for (uint32_t i = 0; i < width; i++) {
        if (row[i] == 0) {
            row[i] = id;
            return;
        }
    }
    row[rng_below(&w->rng, width)] = id;
}

/* Own row of the item at one level, and links back from some of those it names. */
static void link_level(struct workload *w, const struct store_item *item, uint32_t level)
{
    const struct layout *l = store_layout(w->store);
    uint32_t width = level == 0 ? l->M0 : l->M;
    uint32_t want = (uint32_t)rng_below(&w->rng, width + 1);
    for (uint32_t i = 0; i < want; i++) {
        uint32_t other = draw_slot(w, level, item->slot);
        _Atomic uint32_t *own = store_row_edit(w->store, item->slot, level);
        if (other == 0 || row_has(own, width, other))
            continue;
        row_put(w, own, width, other);
        if (rng_below(&w->rng, 3) > 0)
            row_put(w, store_row_edit(w->store, other, level), width, item->slot);
    }
}

/* Items ----------------------------------------------------------------------------------------*/

static uint32_t draw_level(struct workload *w)
{
    uint32_t level = 0;
    while (level < 6 && rng_one_in(&w->rng, w->options.M))
        level++;
    return level;
}

static navmap_status put(struct workload *w, uint32_t number, uint32_t version)
{
    const struct layout *l = store_layout(w->store);
    float vector[4096];
    uint8_t code[8192] = {0};
    struct store_item item;
    truth_vector(number, version, l->dim, vector);
    truth_code(number, version, w->options.code_header ? l->dim + l->code_header : 0, code);
    const void *code_row = l->code_scheme ? code : NULL;
    TRY(store_item_begin(w->store, truth_label(number), draw_level(w), &item));
    if (rng_one_in(&w->rng, 30)) { /* a change of mind, with or without a payload */
        if (rng_one_in(&w->rng, 2))
            store_item_payload(w->store, &item, code_row, vector);
        store_item_abandon(w->store, &item);
        TRY(store_item_begin(w->store, truth_label(number), draw_level(w), &item));
    }
    store_item_payload(w->store, &item, code_row, vector);
    for (uint32_t level = 0; level <= item.level; level++)
        link_level(w, &item, level);
    store_item_end(w->store, &item);
    if (store_root(w->store).entry == 0 || rng_one_in(&w->rng, 12))
        store_entry_set(w->store, item.slot, item.level);
    return NAVMAP_OK;
}

static navmap_status put_one(struct workload *w)
{
    uint32_t number = (uint32_t)rng_below(&w->rng, w->options.labels);
    uint32_t version = w->next_version++;
    oracle_intend(w->oracle, number, version, SLOT_LIVE);
    navmap_status status = put(w, number, version);
    if (status != NAVMAP_OK) {
        oracle_withdraw(w->oracle);
        return status;
    }
    w->label[number] = (struct oracle_label){version, SLOT_LIVE};
    oracle_staged(w->oracle);
    return NAVMAP_OK;
}

/* How many items the call claims: a large number makes payloads direct.  Where that would make
 * the file grow by chunks that nobody needs, the claim must fit the chunks there are. */
static uint64_t draw_claim(struct workload *w, uint32_t n)
{
    const struct layout *l = store_layout(w->store);
    uint64_t direct = STAGE_LOGGED_BYTES_MAX / layout_payload_bytes(l) + 1;
    const struct disk_root *root = view_root(store_edit(w->store)->view);
    uint32_t room = (extent_chunks(root->extent) << l->slot_shift) - extent_slots(root->extent);
    if (!rng_one_in(&w->rng, 3))
        return n;
    return room > n || direct < 200 ? direct : n;
}

static navmap_status put_some(struct workload *w)
{
    uint32_t large = w->options.batch ? w->options.batch : 12;
    uint32_t n = 1;
    if (rng_one_in(&w->rng, 3))
        n += (uint32_t)rng_below(&w->rng, rng_one_in(&w->rng, 4) ? large : 5);
    TRY(store_write_begin(w->store, draw_claim(w, n)));
    navmap_status status = NAVMAP_OK;
    for (uint32_t i = 0; i < n && status == NAVMAP_OK; i++)
        status = put_one(w);
    store_write_end(w->store);
    return status;
}

/* Marks ----------------------------------------------------------------------------------------*/

static navmap_status mark_one(struct workload *w)
{
    for (int i = 0; i < TRIES; i++) {
        uint32_t number = (uint32_t)rng_below(&w->rng, w->options.labels);
        struct oracle_label *now = &w->label[number];
        if (now->status == SLOT_FREE)
            continue;
        bool deleted = now->status == SLOT_LIVE;
        uint32_t status_after = deleted ? SLOT_DELETED : SLOT_LIVE;
        oracle_intend(w->oracle, number, now->version, status_after);
        navmap_status status = store_mark(w->store, truth_label(number), deleted);
        if (status != NAVMAP_OK) {
            oracle_withdraw(w->oracle);
            return status;
        }
        now->status = status_after;
        oracle_staged(w->oracle);
        return NAVMAP_OK;
    }
    return NAVMAP_OK;
}

static navmap_status mark_some(struct workload *w)
{
    TRY(store_write_begin(w->store, 0));
    navmap_status status = NAVMAP_OK;
    for (uint64_t n = 1 + rng_below(&w->rng, 3); n > 0 && status == NAVMAP_OK; n--)
        status = mark_one(w);
    store_write_end(w->store);
    return status;
}

/* Sweep ----------------------------------------------------------------------------------------*/

static void move_entry(struct workload *w)
{
    uint32_t slot = (uint32_t)store_root(w->store).entry;
    if (slot == 0 || !store_sweep_member(w->store, slot))
        return;
    for (uint32_t i = 1; i < slots_used(w); i++) {
        if (linkable(w, i)) {
            uint32_t up = edit_tag(store_edit(w->store), i)->up;
            store_entry_set(w->store, i, TAG_LEVEL(up));
            return;
        }
    }
    store_entry_set(w->store, 0, 0);
}

/* Take members of D out of one row; now and then put something else in. */
static void clean_row(struct workload *w, uint32_t slot, uint32_t level,
                      const _Atomic uint32_t *old)
{
    const struct layout *l = store_layout(w->store);
    uint32_t width = level == 0 ? l->M0 : l->M, kept = 0;
    bool dirty = false;
    for (uint32_t i = 0; i < width; i++)
        dirty = dirty || (old[i] != 0 && store_sweep_member(w->store, old[i]));
    if (!dirty)
        return;
    _Atomic uint32_t *row = store_row_edit(w->store, slot, level);
    for (uint32_t i = 0; i < width; i++) {
        if (row[i] != 0 && !store_sweep_member(w->store, row[i]))
            row[kept++] = row[i];
    }
    for (uint32_t i = kept; i < width; i++)
        row[i] = 0;
    uint32_t other = rng_one_in(&w->rng, 2) ? draw_slot(w, level, slot) : 0;
    if (other != 0)
        row_put(w, row, width, other);
}

static navmap_status sweep_portion(struct workload *w)
{
    uint32_t slot = store_sweep_cursor(w->store), used = slots_used(w);
    uint32_t end = slot + 1 + (uint32_t)rng_below(&w->rng, used);
    move_entry(w);
    for (; slot < used && slot < end; slot++) {
        const struct stage *e = store_edit(w->store);
        if (STATE_STATUS(edit_state(e, slot)) == SLOT_FREE || store_sweep_member(w->store, slot)) {
            store_sweep_advance(w->store, slot + 1);
            continue;
        }
        uint32_t levels = TAG_LEVEL(edit_tag(e, slot)->up);
        TRY(store_sweep_room(w->store, levels + 1));
        e = store_edit(w->store);
        clean_row(w, slot, 0, edit_row(e, slot));
        for (uint32_t level = 1; level <= levels; level++)
            clean_row(w, slot, level, edit_upper(e, slot, level));
        store_sweep_advance(w->store, slot + 1);
    }
    return slot >= used ? store_sweep_end(w->store) : NAVMAP_OK;
}

static navmap_status sweep_some(struct workload *w)
{
    uint64_t dead = 0;
    TRY(store_write_begin(w->store, 0));
    navmap_status status = NAVMAP_OK;
    if (!store_sweep_running(w->store))
        status = store_sweep_begin(w->store, false, &dead);
    if (status == NAVMAP_OK && store_sweep_running(w->store))
        status = sweep_portion(w);
    store_write_end(w->store);
    return status;
}

/* Steps ----------------------------------------------------------------------------------------*/

static navmap_status reopen(struct workload *w)
{
    TRY(workload_close(w));
    return workload_open(w, false);
}

navmap_status workload_step(struct workload *w)
{
    uint64_t draw = rng_below(&w->rng, 100);
    if (draw >= 93 && !w->options.never_flush)
        return draw >= 98 ? reopen(w) : workload_flush(w);
    if (draw < 55)
        TRY(put_some(w));
    else if (draw < 72)
        TRY(mark_some(w));
    else
        TRY(sweep_some(w));
    return workload_settle(w);
}

navmap_status workload_beside(struct workload *w)
{
    TRY(put_some(w));
    return workload_settle(w);
}
