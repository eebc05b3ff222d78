/* marks.c -- making the bits and bringing them up to date; see marks.h for M1..M5. */
#include "engine/marks.h"

#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"

#define LOOKUPS 256u /* labels of one transaction of the label table */
/* Slots that are passed in the time of one look-up; measured with 336,479 items: 250 ns a look-up,
 * 2.5 ns a slot by bitmap, 3 to 30 ns by a table of 5,000 to 300,000 labels. */
#define SLOTS_A_LOOKUP 80u
#define ATTEMPTS 3 /* to find a moment without a change */

navmap_status marks_reserve(struct marks *m, uint64_t n_slots)
{
    m->n_blocks = (uint32_t)((n_slots + MARKS_SLOTS - 1) >> MARKS_SHIFT);
    m->blocks = calloc(m->n_blocks + 1ull, sizeof *m->blocks);
    if (!m->blocks)
        return fail(NAVMAP_ENOMEM, "filter: no memory for %llu slots", (unsigned long long)n_slots);
    return NAVMAP_OK;
}

void marks_free(struct marks *m)
{
    for (uint32_t i = 0; m->blocks && i < m->n_blocks; i++)
        free(m->blocks[i]);
    free(m->blocks);
    label_set_free(&m->labels);
    m->blocks = NULL;
}

uint64_t marks_bytes(const struct marks *m)
{
    uint64_t bytes = label_set_bytes(&m->labels);
    for (uint32_t i = 0; i < m->n_blocks; i++)
        if (atomic_load_explicit(&m->blocks[i], memory_order_relaxed))
            bytes += sizeof(struct marks_block);
    return bytes;
}

/* In a shared index whatever changes is counted by apply_end.  A private one counts there what
 * makes a slot DEAD; a label that is new shows in `inserted` before its slot is LIVE and in n_live
 * after it, a mark in n_live and n_deleted. */
uint64_t marks_moment(const struct view *v)
{
    const struct disk_root *root = view_root(v);
    uint64_t x = view_load64(&view_live(v)->apply_end, memory_order_acquire);
    x ^= label_mixed(v->serial); /* M4 */
    x = label_mixed(x + UINT64_C(0x9e3779b97f4a7c15));
    x = label_mixed(x ^ view_load64(&root->inserted, memory_order_acquire));
    x = label_mixed(x ^ view_load64(&root->n_live, memory_order_acquire));
    x = label_mixed(x ^ view_load64(&root->n_deleted, memory_order_acquire));
    return x | 1;
}

static navmap_status block_of(struct marks *m, uint32_t slot, struct marks_block **ret_block)
{
    struct marks_block *_Atomic *place = &m->blocks[slot >> MARKS_SHIFT];
    *ret_block = atomic_load_explicit(place, memory_order_relaxed);
    if (*ret_block)
        return NAVMAP_OK;
    *ret_block = calloc(1, sizeof **ret_block);
    if (!*ret_block)
        return fail(NAVMAP_ENOMEM, "filter: no memory for %u slots", MARKS_SLOTS);
    atomic_store_explicit(place, *ret_block, memory_order_release);
    return NAVMAP_OK;
}

/* Every word by a factor of its own: two states of a part have one sum with chance 2^-60 or so. */
static uint64_t sum_of(const struct view *v, uint32_t slot, uint32_t end)
{
    const uint32_t in_chunk = v->layout.slots_per_chunk;
    uint64_t sum = 1, factor = UINT64_C(0x9e3779b97f4a7c15) * (2 * (uint64_t)slot + 1);
    while (slot < end) {
        const _Atomic uint32_t *state = view_state(v, slot);
        uint32_t left = in_chunk - (slot & (in_chunk - 1));
        uint32_t n = end - slot < left ? end - slot : left;
        for (uint32_t i = 0; i < n; i++) {
            sum += factor * (atomic_load_explicit(&state[i], memory_order_relaxed) + 1ull);
            factor += UINT64_C(0x3c6ef372fe94f82a);
        }
        slot += n;
    }
    return sum;
}

static void set_word(struct marks *m, struct marks_block *b, uint32_t slot, uint64_t bits)
{
    _Atomic uint64_t *word = &b->bits[(slot & (MARKS_SLOTS - 1)) / 64];
    uint64_t before = atomic_load_explicit(word, memory_order_relaxed);
    if (before == bits)
        return;
    atomic_store_explicit(word, bits, memory_order_relaxed);
    int change = __builtin_popcountll(bits) - __builtin_popcountll(before);
    (void)atomic_fetch_add_explicit(&m->n_pass, (uint64_t)(int64_t)change, memory_order_relaxed);
}

static void mark_part(struct marks *m, struct marks_block *b, const struct view *v, uint32_t slot,
                      uint32_t end)
{
    for (uint32_t stop = slot + MARKS_PART; slot < stop; slot += 64) {
        uint64_t bits = 0;
        for (uint32_t i = 0; i < 64 && slot + i < end; i++) {
            uint32_t word = atomic_load_explicit(view_state(v, slot + i), memory_order_acquire);
            if (STATE_STATUS(word) == SLOT_LIVE && marks_lists(m, view_tag_label(v, slot + i)))
                bits |= UINT64_C(1) << i;
        }
        set_word(m, b, slot, bits);
    }
}

static navmap_status mark_by_scan(struct marks *m, const struct view *v, uint32_t end)
{
    uint32_t last = end > m->end ? end : m->end; /* the index may have been compacted */
    m->end = last;
    for (uint32_t slot = 0; slot < last; slot += MARKS_PART) {
        struct marks_block *b;
        uint32_t stop = slot + MARKS_PART < end ? slot + MARKS_PART : end;
        TRY(block_of(m, slot, &b));
        uint64_t *sum = &b->sums[(slot & (MARKS_SLOTS - 1)) / MARKS_PART];
        uint64_t now = sum_of(v, slot, stop);
        if (now == *sum)
            continue;
        *sum = now; /* M2 */
        mark_part(m, b, v, slot, stop);
    }
    m->end = end;
    return NAVMAP_OK;
}

static navmap_status mark_by_look_up(struct marks *m, struct store *store, const struct view *v,
                                     const uint64_t *labels, uint64_t n, uint32_t end,
                                     bool *ret_sure)
{
    uint32_t slots[LOOKUPS];
    *ret_sure = true;
    for (uint64_t i = 0; i < n && *ret_sure; i += LOOKUPS) {
        uint32_t part = n - i < LOOKUPS ? (uint32_t)(n - i) : LOOKUPS;
        TRY(store_slots(store, v, part, labels + i, slots, ret_sure));
        for (uint32_t j = 0; j < part && *ret_sure; j++) {
            struct marks_block *b;
            if (slots[j] == 0 || slots[j] >= end)
                continue;
            TRY(block_of(m, slots[j], &b));
            set_word(m, b, slots[j], marks_word(m, slots[j] >> 6) | UINT64_C(1) << (slots[j] & 63));
        }
    }
    return NAVMAP_OK;
}

/* M4: what the sums are about is another view. */
static void change_ground(struct marks *m, const struct view *v)
{
    if (atomic_load_explicit(&m->ground, memory_order_relaxed) == v->serial)
        return;
    atomic_store_explicit(&m->ground, v->serial, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* pairing "marks ground" */
    for (uint32_t i = 0; i < m->n_blocks; i++) {
        struct marks_block *b = atomic_load_explicit(&m->blocks[i], memory_order_relaxed);
        if (b)
            memset(b->sums, 0, sizeof b->sums);
    }
}

/* One pass. */
static navmap_status mark(struct marks *m, struct store *store, const struct view *v,
                          const uint64_t *labels, uint64_t n)
{
    bool looked_up = false;
    uint64_t moment = marks_moment(v);
    uint64_t room = (uint64_t)m->n_blocks << MARKS_SHIFT;
    uint32_t end = extent_slots(view_load64(&view_root(v)->extent, memory_order_acquire));
    if (end > view_slots(v) || end > room)
        return NAVMAP_OK; /* births beyond the mapping, or beyond our memory: not fresh */
    change_ground(m, v);
    if (labels && !m->deny && n <= end / SLOTS_A_LOOKUP &&
        atomic_load_explicit(&m->moment, memory_order_relaxed) == 0)
        TRY(mark_by_look_up(m, store, v, labels, n, end, &looked_up));
    if (!looked_up)
        TRY(mark_by_scan(m, v, end));
    atomic_thread_fence(memory_order_acquire); /* "apply" */
    bool quiet = view_load64(&view_live(v)->apply_begin, memory_order_relaxed) ==
                 view_load64(&view_live(v)->apply_end, memory_order_relaxed);
    if (quiet && marks_moment(v) == moment)
        atomic_store_explicit(&m->moment, moment, memory_order_release);
    return NAVMAP_OK;
}

navmap_status marks_update(struct marks *m, struct store *store, const struct view *v,
                           const uint64_t *labels, uint64_t n)
{
    navmap_status status = NAVMAP_OK;
    if (atomic_exchange_explicit(&m->busy, true, memory_order_acquire))
        return NAVMAP_OK;
    for (int i = 0; i < ATTEMPTS && status == NAVMAP_OK && !marks_fresh(m, marks_moment(v)); i++)
        status = mark(m, store, v, labels, n);
    atomic_store_explicit(&m->busy, false, memory_order_release);
    return status;
}
