/* read.c -- looking at committed data: views, one label's vector, all labels.
 *
 * A label look-up asks LMDB for (slot, generation) and then believes only the slot itself: state,
 * label and checksum must agree.  LMDB may be a commit ahead of the map, or a killed writer's
 * read-visible transaction one behind, so a mismatch is looked up afresh, and at last a scan of
 * state words and tags decides.  A process that may not register with LMDB scans at once.
 *
 * A scan that finds nothing decides only if no apply ran beside it and it saw all slots: an update
 * makes the new slot LIVE, then raises the extent, then lets the old slot die (apply.c, P1 to P4),
 * and a scan that took the extent before may come to the old slot after.  So it is made again, of
 * a new view; not for ever, since a writer may have died within an apply.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/half.h"
#include "storage/handle.h"
#include "storage/labels.h"

#define LOOKUPS 3
#define ROUNDS 32 /* of look-ups that an apply ran beside */

/* Views ---------------------------------------------------------------------------------------*/

static struct view *current_view(struct store *s)
{
    (void)pthread_mutex_lock(&s->view_lock);
    struct view *v = s->view;
    view_ref(v);
    (void)pthread_mutex_unlock(&s->view_lock);
    return v;
}

navmap_status store_view_begin(struct store *s, struct view **ret_view)
{
    store_enter(s);
    struct view *v = current_view(s);
    if (__builtin_expect(store_has_moved(s, v), 0)) {
        navmap_status status = store_move(s, v);
        view_unref(v);
        TRY(status);
        v = current_view(s);
    }
    uint32_t nchunks = extent_chunks(view_load64(&view_root(v)->extent, memory_order_acquire));
    if (nchunks > atomic_load_explicit(&v->nchunks, memory_order_acquire)) {
        view_unref(v);
        TRY(store_follow(s, nchunks));
        v = current_view(s);
    }
    *ret_view = v;
    return NAVMAP_OK;
}

void store_view_end(struct store *s, struct view *v)
{
    (void)s;
    view_unref(v);
}

/* Slots in use, as far as they are mapped. */
static uint32_t slots_in_use(const struct view *v)
{
    uint32_t nslots = extent_slots(view_load64(&view_root(v)->extent, memory_order_acquire));
    return nslots < view_slots(v) ? nslots : view_slots(v);
}

/* Label look-up -------------------------------------------------------------------------------*/

/* The environment found by the path is that of the index that is mapped: its directory may have
 * been removed, and another one made in its place. */
static navmap_status check_belongs(const struct store *s, struct wal *w)
{
    struct wal_txn t;
    struct wal_id id;
    TRY(wal_txn_read(w, &t));
    navmap_status status = wal_get_id(&t, &id);
    wal_txn_abort(&t);
    TRY(status);
    return store_check_identity(s, &id, &s->layout, s->path);
}

static navmap_status open_lookup_wal(struct store *s, struct wal **ret_wal)
{
    struct wal *w = NULL;
    TRY(lock_opening_shared(&s->lock, 1.0));
    navmap_status status = wal_acquire(s->path, false, &w);
    lock_opening_release(&s->lock);
    TRY(status);
    status = check_belongs(s, w);
    if (status != NAVMAP_OK) {
        wal_release(w);
        return status;
    }
    *ret_wal = w;
    return NAVMAP_OK;
}

/* A reader's environment, opened when first needed; NULL = look-ups by scan. */
static struct wal *lookup_wal(struct store *s)
{
    if (s->epoch != fork_epoch())
        return NULL; /* inherited over fork: LMDB's environment is not ours */
    if (s->mode == STORE_WRITE)
        return s->wal;
    (void)pthread_mutex_lock(&s->wal_lock);
    if (!s->wal && !s->wal_refused) {
        navmap_status status = open_lookup_wal(s, &s->wal);
        /* Memory comes back; permission does not. */
        s->wal_refused = status != NAVMAP_OK && status != NAVMAP_ENOMEM;
    }
    struct wal *w = s->wal;
    (void)pthread_mutex_unlock(&s->wal_lock);
    return w;
}

/* *ret_known = false: LMDB could not be asked, or speaks of another generation. */
static navmap_status ask_lmdb(struct store *s, struct wal *w, const struct view *v, uint64_t label,
                              struct label_entry *ret_entry, bool *ret_known)
{
    struct wal_txn t;
    struct wal_state state;
    *ret_known = false;
    if (wal_txn_read(w, &t) != NAVMAP_OK)
        return NAVMAP_OK;
    navmap_status status = wal_get_state(&t, &state);
    if (status == NAVMAP_OK && state.generation == v->layout.generation) {
        status = labels_get(&t, state.generation, s->uuid_low, label, ret_entry);
        *ret_known = status == NAVMAP_OK;
    }
    wal_txn_abort(&t);
    return status;
}

struct seen {
    uint32_t slot;
    uint32_t state; /* the word that was read before anything of the payload */
};

static bool slot_owns(const struct view *v, uint32_t slot, uint64_t label, struct seen *ret_seen)
{
    uint32_t g = atomic_load_explicit(view_state(v, slot), memory_order_acquire);
    if (STATE_STATUS(g) != SLOT_LIVE && STATE_STATUS(g) != SLOT_DELETED)
        return false;
    if (view_tag_label(v, slot) != label)
        return false;
    *ret_seen = (struct seen){slot, g};
    return true;
}

static bool scan(const struct view *v, uint64_t label, struct seen *ret_seen)
{
    uint32_t nslots = slots_in_use(v);
    for (uint32_t slot = 1; slot < nslots; slot++)
        if (slot_owns(v, slot, label, ret_seen))
            return true;
    return false;
}

/* A scan, and whether it decides (above). */
static void scan_all(const struct view *v, uint64_t label, struct seen *ret_seen, bool *ret_sure)
{
    const struct disk_live *live = view_live(v);
    const uint64_t end = view_load64(&live->apply_end, memory_order_acquire);
    *ret_sure = true;
    if (scan(v, label, ret_seen))
        return;
    *ret_seen = (struct seen){0, 0};
    const uint64_t extent = view_load64(&view_root(v)->extent, memory_order_acquire);
    atomic_thread_fence(memory_order_acquire); /* pairing "apply" */
    *ret_sure = view_load64(&live->apply_begin, memory_order_relaxed) == end &&
                extent_slots(extent) <= view_slots(v);
}

/* Where the label is committed; slot 0 = nowhere, or, unless *ret_sure, it was missed. */
static navmap_status find(struct store *s, const struct view *v, uint64_t label,
                          struct seen *ret_seen, bool *ret_sure)
{
    struct wal *w = s->in_memory ? NULL : lookup_wal(s);
    *ret_seen = (struct seen){0, 0};
    *ret_sure = true;
    for (int attempt = 0; s->in_memory && attempt < LOOKUPS; attempt++) {
        (void)pthread_mutex_lock(&s->item_lock);
        struct label_entry entry = store_label_now(s, label, (struct label_entry){0, 0});
        (void)pthread_mutex_unlock(&s->item_lock);
        if (entry.slot == 0 ||
            (entry.slot < view_slots(v) && slot_owns(v, entry.slot, label, ret_seen) &&
             STATE_GEN(ret_seen->state) == entry.gen))
            return NAVMAP_OK;
    }
    for (int attempt = 0; w && attempt < LOOKUPS; attempt++) {
        struct label_entry entry;
        bool known;
        TRY(ask_lmdb(s, w, v, label, &entry, &known));
        if (!known)
            break;
        if (entry.slot == 0)
            return NAVMAP_OK;
        if (entry.slot < view_slots(v) && slot_owns(v, entry.slot, label, ret_seen) &&
            STATE_GEN(ret_seen->state) == entry.gen)
            return NAVMAP_OK;
    }
    scan_all(v, label, ret_seen, ret_sure);
    return NAVMAP_OK;
}

/* Is the entry what the map says?  The slot, when it is live. */
static bool entry_holds(const struct view *v, uint64_t label, struct label_entry entry,
                        uint32_t *ret_slot)
{
    struct seen at = {0, 0};
    *ret_slot = 0;
    if (entry.slot == 0)
        return true;
    if (entry.slot >= view_slots(v) || !slot_owns(v, entry.slot, label, &at) ||
        STATE_GEN(at.state) != entry.gen)
        return false;
    *ret_slot = STATE_STATUS(at.state) == SLOT_LIVE ? at.slot : 0;
    return true;
}

static bool private_slots(struct store *s, const struct view *v, uint32_t n, const uint64_t *labels,
                          uint32_t *ret_slots)
{
    bool sure = true;
    (void)pthread_mutex_lock(&s->item_lock);
    for (uint32_t i = 0; i < n && sure; i++)
        sure = entry_holds(v, labels[i], store_label_now(s, labels[i], (struct label_entry){0, 0}),
                           &ret_slots[i]);
    (void)pthread_mutex_unlock(&s->item_lock);
    return sure;
}

navmap_status store_slots(struct store *s, const struct view *v, uint32_t n, const uint64_t *labels,
                          uint32_t *ret_slots, bool *ret_sure)
{
    struct wal *w = s->in_memory ? NULL : lookup_wal(s);
    struct wal_txn t;
    struct wal_state state;
    *ret_sure = s->in_memory && private_slots(s, v, n, labels, ret_slots);
    if (!w || wal_txn_read(w, &t) != NAVMAP_OK)
        return NAVMAP_OK;
    navmap_status status = wal_get_state(&t, &state);
    bool sure = status == NAVMAP_OK && state.generation == v->layout.generation;
    for (uint32_t i = 0; i < n && sure; i++) {
        struct label_entry entry = {0, 0};
        status = labels_get(&t, state.generation, s->uuid_low, labels[i], &entry);
        sure = status == NAVMAP_OK && entry_holds(v, labels[i], entry, &ret_slots[i]);
    }
    wal_txn_abort(&t);
    *ret_sure = sure;
    return status;
}

/* By words: the slot's next life may be on its way into it (pairing "payload"). */
static void copy_words(const uint8_t *from, uint32_t n, void *ret_words)
{
    const _Atomic uint32_t *words = (const _Atomic uint32_t *)(const void *)from;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t word = atomic_load_explicit(&words[i], memory_order_relaxed);
        memcpy((uint8_t *)ret_words + 4 * (size_t)i, &word, sizeof word);
    }
}

/* Copy what a slot holds; *ret_same = false when it was reused meanwhile. */
static navmap_status copy_vector(const struct view *v, const struct seen *at, uint64_t label,
                                 float *ret_vector, bool *ret_same)
{
    const struct layout *l = &v->layout;
    const struct disk_tag *tag = view_tag(v, at->slot);
    const bool halves = l->scalar == LAYOUT_F16;
    const uint32_t whole = l->vec_bytes / 4, odd = l->vec_bytes % 4; /* the last half */
    uint8_t *vector = (uint8_t *)ret_vector + (halves ? l->vec_bytes : 0);
    uint8_t rest[LAYOUT_VEC_PADDING + 4];
    const uint8_t *from = view_vec(v, at->slot);
    copy_words(from, whole, vector);
    copy_words(from + 4 * (size_t)whole, l->vec_stride / 4 - whole, rest);
    memcpy(vector + 4 * (size_t)whole, rest, odd);
    uint64_t vsum =
        layout_vsum_apart(l, label, at->slot, STATE_GEN(at->state), view_tag_up(v, at->slot),
                          view_code(v, at->slot), vector, rest + odd);
    uint64_t expected = view_load64(&tag->vsum, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    uint32_t now = atomic_load_explicit(view_state(v, at->slot), memory_order_relaxed);
    *ret_same = STATE_GEN(now) == STATE_GEN(at->state) && STATE_STATUS(now) != SLOT_FREE;
    if (*ret_same && vsum != expected)
        return fail(
            NAVMAP_ECORRUPT,
            "%s: payload of slot %u (label %llu) at offset %llu: checksum expected %016llx, "
            "found %016llx",
            v->path, at->slot, (unsigned long long)label,
            (unsigned long long)layout_tag_off(l, at->slot), (unsigned long long)expected,
            (unsigned long long)vsum);
    if (*ret_same && halves)
        half_widen(vector, l->dim, ret_vector);
    return NAVMAP_OK;
}

/* *ret_found = false with *ret_sure: it is not there. */
static navmap_status get(struct store *s, const struct view *v, uint64_t label, float *ret_vector,
                         bool *ret_found, bool *ret_sure)
{
    *ret_found = *ret_sure = false;
    for (int attempt = 0; attempt < LOOKUPS && !*ret_found; attempt++) {
        struct seen at;
        TRY(find(s, v, label, &at, ret_sure));
        if (at.slot == 0 || STATE_STATUS(at.state) != SLOT_LIVE)
            return NAVMAP_OK;
        *ret_sure = false; /* unless it is the same at the end */
        TRY(copy_vector(v, &at, label, ret_vector, ret_found));
    }
    return NAVMAP_OK;
}

navmap_status store_get(struct store *s, uint64_t label, float *ret_vector)
{
    bool found = false, sure = false;
    for (int round = 0; round < ROUNDS && !found && !sure; round++) {
        struct view *v;
        TRY(store_view_begin(s, &v));
        navmap_status status = get(s, v, label, ret_vector, &found, &sure);
        store_view_end(s, v);
        TRY(status);
    }
    if (!found)
        return fail(NAVMAP_ENOTFOUND, "Label not found: %llu", (unsigned long long)label);
    return NAVMAP_OK;
}

navmap_status store_contains(struct store *s, uint64_t label, enum slot_status *ret_status)
{
    struct seen at = {0, 0};
    bool sure = false;
    for (int round = 0; round < ROUNDS && !sure; round++) {
        struct view *v;
        TRY(store_view_begin(s, &v));
        navmap_status status = find(s, v, label, &at, &sure);
        store_view_end(s, v);
        TRY(status);
    }
    *ret_status = at.slot == 0 ? SLOT_FREE : STATE_STATUS(at.state);
    return NAVMAP_OK;
}

/* The label table by itself -------------------------------------------------------------------*/

/* A transaction on the table of the view's generation; asked = false: there is none to be had. */
static navmap_status table_begin(struct store *s, const struct view *v, struct wal_txn *t,
                                 struct store_where *ret_where)
{
    struct wal *w = lookup_wal(s);
    struct wal_state state = {0};
    *ret_where = (struct store_where){.asked = false};
    if (w == NULL)
        return NAVMAP_OK;
    navmap_status status = wal_txn_read(w, t);
    if (status != NAVMAP_OK) /* no place among its readers, unless it is broken */
        return status == NAVMAP_EPOISONED ? status : NAVMAP_OK;
    status = wal_get_state(t, &state);
    ret_where->asked = status == NAVMAP_OK && state.generation == v->layout.generation;
    ret_where->current = state.last_lsn == view_load64(&view_root(v)->lsn, memory_order_relaxed);
    if (!ret_where->asked)
        wal_txn_abort(t);
    return status;
}

navmap_status store_where(struct store *s, const struct view *v, uint64_t label,
                          struct store_where *ret_where)
{
    struct label_entry entry;
    struct wal_txn t;
    navmap_status status = NAVMAP_OK;
    store_enter(s);
    if (s->in_memory) {
        (void)pthread_mutex_lock(&s->item_lock);
        entry = store_label_now(s, label, (struct label_entry){0, 0});
        (void)pthread_mutex_unlock(&s->item_lock);
        *ret_where = (struct store_where){entry.slot, entry.gen, true, true};
        return NAVMAP_OK;
    }
    TRY(table_begin(s, v, &t, ret_where));
    if (!ret_where->asked)
        return NAVMAP_OK;
    status = labels_get(&t, v->layout.generation, s->uuid_low, label, &entry);
    wal_txn_abort(&t);
    TRY(status);
    ret_where->slot = entry.slot;
    ret_where->gen = entry.gen;
    return NAVMAP_OK;
}

static int count_label(void *ctx, uint64_t label, struct label_entry entry, bool sound)
{
    uint64_t *n = ctx;
    (void)label;
    (void)entry;
    (void)sound;
    ++*n;
    return 0;
}

navmap_status store_where_all(struct store *s, const struct view *v, uint64_t *ret_n,
                              struct store_where *ret_where)
{
    struct wal_txn t;
    uint64_t n = 0;
    store_enter(s);
    if (s->in_memory) {
        (void)pthread_mutex_lock(&s->item_lock);
        *ret_n = s->table.n;
        (void)pthread_mutex_unlock(&s->item_lock);
        *ret_where = (struct store_where){.asked = true, .current = true};
        return NAVMAP_OK;
    }
    TRY(table_begin(s, v, &t, ret_where));
    if (!ret_where->asked)
        return NAVMAP_OK;
    navmap_status status = labels_walk(&t, v->layout.generation, s->uuid_low, 0, count_label, &n);
    wal_txn_abort(&t);
    TRY(status);
    *ret_n = n;
    return NAVMAP_OK;
}

navmap_status store_labels(struct store *s, bool include_deleted, uint64_t cap,
                           uint64_t *ret_labels, uint64_t *ret_n)
{
    struct view *v;
    uint64_t n = 0;
    TRY(store_view_begin(s, &v));
    uint32_t nslots = slots_in_use(v);
    for (uint32_t slot = 1; slot < nslots; slot++) {
        uint32_t g = atomic_load_explicit(view_state(v, slot), memory_order_acquire);
        if (STATE_STATUS(g) != SLOT_LIVE && !(include_deleted && STATE_STATUS(g) == SLOT_DELETED))
            continue;
        uint64_t label = view_tag_label(v, slot);
        atomic_thread_fence(memory_order_acquire);
        uint32_t now = atomic_load_explicit(view_state(v, slot), memory_order_relaxed);
        if (STATE_GEN(now) != STATE_GEN(g) || STATE_STATUS(now) == SLOT_FREE)
            continue;
        if (n < cap)
            ret_labels[n] = label;
        n++;
    }
    store_view_end(s, v);
    *ret_n = n;
    return NAVMAP_OK;
}
