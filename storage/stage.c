/* stage.c -- arenas, overlays and the label table of the writer's private after-images. */
#include "storage/stage.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "storage/fail.h"

#define SLOTS_CAP (512u << 10)
#define LARGE (8u << 10)                        /* slots */
#define LABEL_HASH_SIZE (2u * STAGE_LABELS_MAX) /* a power of two */
#define CELL_HEADER 16u

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

/* Address space that costs memory only where it is touched. */
static void *reserve(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void unreserve(void *p, uint64_t bytes)
{
    if (p)
        (void)munmap(p, bytes);
}

/* Adders look all over an arena: but for a small index huge pages are worth their memory. */
static void advise(void *p, uint64_t bytes, uint64_t slots)
{
    if (slots >= LARGE)
        (void)madvise(p, bytes, MADV_HUGEPAGE);
}

static uint64_t slots_bytes(const struct stage *e)
{
    return STAGE_SLOT_AT + e->slots_cap * e->slot_stride;
}

static navmap_status grow_overlay(_Atomic uint32_t **overlay, uint64_t *size, uint64_t need)
{
    if (*size >= need)
        return NAVMAP_OK;
    uint64_t larger = round_up(need * 2, 1024);
    void *p =
        *overlay ? mremap(*overlay, *size * 4, larger * 4, MREMAP_MAYMOVE) : reserve(larger * 4);
    if (!p || p == MAP_FAILED)
        return fail(NAVMAP_ENOMEM, "no address space for a stage of %llu slots",
                    (unsigned long long)need);
    *overlay = p;
    *size = larger;
    advise(p, larger * 4, need);
    return NAVMAP_OK;
}

navmap_status stage_follow(struct stage *e, const struct view *view)
{
    if (e->slots) {
        TRY(grow_overlay(&e->ov, &e->ov_slots, view_slots(view)));
        TRY(grow_overlay(&e->ov_upper, &e->ov_cells, view_cells(view)));
        advise(e->slots, slots_bytes(e), view_slots(view));
    }
    e->view = view;
    return NAVMAP_OK;
}

void stage_open_through(struct stage *e, const struct view *view)
{
    memset(e, 0, sizeof *e);
    e->view = view;
    memcpy(&e->root, view_root(view), sizeof e->root);
}

navmap_status stage_open(struct stage *e, const struct view *view)
{
    const struct layout *l = &view->layout;
    memset(e, 0, sizeof *e);
    e->slot_stride = (uint32_t)round_up(sizeof(struct stage_slot) + 4ull * l->M0, 64);
    e->upper_stride = (uint32_t)round_up(sizeof(struct stage_upper) + 4ull * l->M, 64);
    e->slots_cap = SLOTS_CAP;
    e->uppers_cap = STAGE_CELL_BYTES_MAX / (CELL_HEADER + 4ull * l->M) + 1;
    e->slots = reserve(slots_bytes(e));
    e->uppers = reserve(e->uppers_cap * e->upper_stride);
    e->payloads_bytes = STAGE_LOGGED_BYTES_MAX;
    e->payloads = reserve(e->payloads_bytes);
    e->labels = reserve(STAGE_LABELS_MAX * sizeof *e->labels);
    e->label_hash = reserve(LABEL_HASH_SIZE * sizeof *e->label_hash);
    navmap_status status = NAVMAP_OK;
    if (!e->slots || !e->uppers || !e->payloads || !e->labels || !e->label_hash)
        status = fail(NAVMAP_ENOMEM, "%s: no address space for a stage", view->path);
    if (status == NAVMAP_OK)
        status = stage_follow(e, view);
    if (status != NAVMAP_OK) {
        stage_close(e);
        return status;
    }
    memcpy(&e->root, view_root(view), sizeof e->root);
    return NAVMAP_OK;
}

void stage_close(struct stage *e)
{
    unreserve(e->ov, e->ov_slots * 4);
    unreserve(e->ov_upper, e->ov_cells * 4);
    unreserve(e->slots, slots_bytes(e));
    unreserve(e->uppers, e->uppers_cap * e->upper_stride);
    unreserve(e->payloads, e->payloads_bytes);
    unreserve(e->labels, STAGE_LABELS_MAX * sizeof *e->labels);
    unreserve(e->label_hash, LABEL_HASH_SIZE * sizeof *e->label_hash);
    memset(e, 0, sizeof *e);
}

void stage_clear(struct stage *e)
{
    for (uint32_t i = 0; i < e->n_slots; i++)
        atomic_store_explicit(&e->ov[stage_slot_at(e, i)->slot], 0, memory_order_relaxed); /* S3 */
    for (uint32_t i = 0; i < e->n_uppers; i++)
        atomic_store_explicit(&e->ov_upper[stage_upper_at(e, i)->cell], 0, memory_order_relaxed);
    if (e->n_labels > 0)
        memset(e->label_hash, 0, LABEL_HASH_SIZE * sizeof *e->label_hash);
    e->n_slots = e->n_uppers = 0;
    e->n_logged = 0;
    e->n_labels = e->n_direct = 0;
    e->logged_bytes = 0;
    e->items = 0;
    e->root_changed = false;
}

bool stage_empty(const struct stage *e)
{
    return e->n_slots == 0 && e->n_uppers == 0 && e->n_labels == 0 && !e->root_changed;
}

static uint64_t bytes_with(const struct stage *e, uint64_t more_slots, uint64_t more_uppers,
                           uint64_t more_payload)
{
    const struct layout *l = &e->view->layout;
    uint64_t slot = (CELL_HEADER + 8) + (CELL_HEADER + 4ull * l->M0);
    uint64_t upper = CELL_HEADER + round_up(4ull * l->M, 8);
    return 48 + CELL_HEADER + sizeof(struct disk_root) + (e->n_slots + more_slots) * slot +
           (e->n_uppers + more_uppers) * upper + e->logged_bytes + more_payload +
           (uint64_t)(e->n_logged + 1) * CELL_HEADER + (uint64_t)(e->n_direct + 1) * 32;
}

uint64_t stage_bytes(const struct stage *e)
{
    return bytes_with(e, 0, 0, 0);
}

bool stage_room(const struct stage *e, uint32_t items, uint32_t levels)
{
    const struct layout *l = &e->view->layout;
    /* Its own row, its old slot's state, a replaced item's; what it links to, and what is linked
     * anew where its old slot was. */
    uint64_t slots = items * (3ull + 2ull * l->M0), uppers = items * levels * (1ull + l->M);
    return e->n_slots + slots <= e->slots_cap && e->n_uppers + uppers <= e->uppers_cap &&
           e->n_labels + 2ull * items <= STAGE_LABELS_MAX &&
           bytes_with(e, slots, uppers, items * (uint64_t)layout_payload_bytes(l)) <=
               STAGE_CELL_BYTES_MAX;
}

uint32_t stage_items(const struct stage *e)
{
    uint32_t items = 16;
    struct stage empty = *e;
    empty.n_slots = empty.n_uppers = empty.n_logged = 0;
    empty.n_labels = empty.n_direct = 0;
    empty.logged_bytes = 0;
    while (items > 1 && !stage_room(&empty, 2 * items, layout_level_most(&e->view->layout)))
        items /= 2;
    return items;
}

bool stage_room_rows(const struct stage *e, uint32_t n)
{
    return (uint64_t)e->n_slots + n <= e->slots_cap && (uint64_t)e->n_uppers + n <= e->uppers_cap &&
           bytes_with(e, n, n, 0) <= STAGE_CELL_BYTES_MAX;
}

struct stage_slot *stage_slot_get(struct stage *e, uint32_t slot)
{
    uint32_t n = atomic_load_explicit(&e->ov[slot], memory_order_acquire);
    if (n != 0)
        return stage_slot_at(e, OV_NUMBER(n) - 1);
    n = atomic_fetch_add_explicit(&e->n_slots, 1, memory_order_relaxed) + 1;
    struct stage_slot *r = stage_slot_at(e, n - 1);
    r->slot = slot;
    atomic_init(&r->flags, 0);
    atomic_store_explicit(&e->ov[slot], n, memory_order_release); /* S4 */
    return r;
}

void stage_slot_flag(struct stage *e, struct stage_slot *r, uint32_t flags)
{
    atomic_fetch_or_explicit(&r->flags, flags, memory_order_release);
    uint32_t bits = (flags & STAGE_LOGGED ? OV_LOGGED : 0) | (flags & STAGE_ROW ? OV_ROW : 0);
    if (bits != 0)
        atomic_fetch_or_explicit(&e->ov[r->slot], bits, memory_order_release);
}

void stage_slot_state(struct stage *e, struct stage_slot *r, uint32_t state)
{
    uint32_t word = atomic_load_explicit(&e->ov[r->slot], memory_order_relaxed);
    atomic_store_explicit(&r->state, state, memory_order_release);
    atomic_fetch_or_explicit(&r->flags, STAGE_STATE, memory_order_release);
    atomic_store_explicit(&e->ov[r->slot],
                          (word & (OV_LOGGED | OV_ROW | OV_NUMBER(~0u))) | OV_STATE |
                              (uint32_t)STATE_STATUS(state) << 28,
                          memory_order_release); /* the node is locked: no bit is lost */
}

struct stage_upper *stage_upper_get(struct stage *e, uint32_t cell, const _Atomic uint32_t *ids)
{
    uint32_t n = atomic_load_explicit(&e->ov_upper[cell], memory_order_acquire);
    if (n != 0)
        return stage_upper_at(e, n - 1);
    n = atomic_fetch_add_explicit(&e->n_uppers, 1, memory_order_relaxed) + 1;
    struct stage_upper *r = stage_upper_at(e, n - 1);
    r->cell = cell;
    for (uint32_t i = 0; i < e->view->layout.M; i++)
        atomic_init(&r->ids[i], ids ? atomic_load_explicit(&ids[i], memory_order_relaxed) : 0);
    atomic_store_explicit(&e->ov_upper[cell], n, memory_order_release); /* S4 */
    return r;
}

void stage_slot_pop(struct stage *e)
{
    e->ov[stage_slot_at(e, --e->n_slots)->slot] = 0;
}

void stage_upper_pop(struct stage *e)
{
    e->ov_upper[stage_upper_at(e, --e->n_uppers)->cell] = 0;
}

/* Where a label is in the hash, or the empty place where it would go. */
static uint32_t label_place(const struct stage *e, uint64_t label)
{
    uint64_t h = label * 0x9E3779B97F4A7C15ull;
    uint32_t i = (uint32_t)(h >> 32) & (LABEL_HASH_SIZE - 1);
    while (e->label_hash[i] != 0 && e->labels[e->label_hash[i] - 1].label != label)
        i = (i + 1) & (LABEL_HASH_SIZE - 1);
    return i;
}

void stage_label_pop(struct stage *e)
{
    /* The newest is the end of its probe chain: no later one was placed behind it. */
    e->label_hash[label_place(e, e->labels[e->n_labels - 1].label)] = 0;
    e->n_labels--;
}

struct stage_label *stage_label_find(const struct stage *e, uint64_t label)
{
    if (e->n_labels == 0)
        return NULL;
    uint32_t n = e->label_hash[label_place(e, label)];
    return n == 0 ? NULL : &e->labels[n - 1];
}

struct stage_label *stage_label_add(struct stage *e, uint64_t label, uint32_t old_slot,
                                    uint32_t old_gen)
{
    struct stage_label *c = &e->labels[e->n_labels];
    *c = (struct stage_label){label, old_slot, old_gen, old_slot, old_gen};
    e->label_hash[label_place(e, label)] = ++e->n_labels;
    return c;
}
