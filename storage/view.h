/* view.h -- one mapping of one data file, immutable but for its bound, and its accessors.
 *
 * A private index has a view of the same layout over anonymous memory, without a file, or over a
 * private mapping of a sealed one, whose file it does not hold open.
 *
 * A query holds one reference to one view from its first byte to its last; there is no view lock
 * and nobody waits for queries.  Address space is reserved once; growth maps the tail inside the
 * reservation and raises the bound.  When the reservation is spent a new view is published and
 * the last reference unmaps the old one.
 *
 * W1  `base` is PROT_READ in every process.  Only apply.c and payload.c store to the data file,
 *     through `wbase`, a second mapping that nothing else uses (MADV_DONTFORK).  In a private
 *     index both are one, readable and writable, and items.c writes rows and states as well.
 * W2  A slot id read from the file is used only if 0 < id < view_slots(v).
 * W3  A cell index derived from the file is used only if it is < view_cells(v).
 */
#ifndef NAVMAP_STORAGE_VIEW_H
#define NAVMAP_STORAGE_VIEW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/layout.h"

/* A file beyond this is grown and mapped by whole huge pages and asks for them (view.c, advise).
 * What the cache had of it before stays on small pages, and is what all searches pass first: so it
 * is less than the first large batch makes. */
#define VIEW_HUGE_PAGE (UINT64_C(2) << 20)
#define VIEW_HUGE_FILE (UINT64_C(4) << 20)
/* How long a file of so many chunks is to be: a large one has the rest of its last huge page, which
 * the system makes whole only if the file reaches its end. */
uint64_t view_file_room(const struct layout *layout, uint32_t nchunks);

struct view {
    const uint8_t *base; /* reservation; [0, layout_file_bytes(nchunks)) is mapped, and of a file
                          * up to view_file_room(nchunks), whether it is that long or not */
    uint8_t *wbase;      /* the writer's alias, else NULL */
    uint64_t reserved;   /* bytes reserved at base (and at wbase) */
    struct layout layout;
    _Atomic uint32_t nchunks; /* the bound: chunks mapped; store-release after mapping */
    _Atomic bool asks;        /* searches ask for pages of payloads together (warm.c) */
    _Atomic uint32_t refs;    /* 1 for being published + 1 per query */
    int fd;                   /* the data file; closed with the view; -1 = this process's memory */
    uint64_t serial;          /* no other view of this process ever had it */
    uint64_t epoch;           /* fork_epoch() at view_map(): a forked child has no alias */
    uint64_t dev, ino;
    char *path; /* for messages */
};

/* Map `fd` (ownership passes on success) with room to grow: reserves clamp(8 x size, 1 GiB,
 * 256 GiB), less if refused.  The file must hold nchunks whole chunks (checked: NAVMAP_ECORRUPT).
 * `writable` adds the alias.  refs = 1. */
navmap_status view_map(int fd, const char *path, const struct layout *layout, uint32_t nchunks,
                       bool writable, struct view **ret_view) NAVMAP_MUST_USE;
/* The same over zeroed anonymous memory: `nchunks` chunks, with room to grow for `expected` of them
 * and more.  Memory is taken by the system as pages are touched. */
navmap_status view_anonymous(const struct layout *layout, uint32_t nchunks, uint32_t expected,
                             struct view **ret_view) NAVMAP_MUST_USE;
/* The same over a private mapping of a sealed file of `nchunks` chunks: what is changed, and chunks
 * beyond the file's, are this process's memory.  `fd` stays the caller's; the size was checked. */
navmap_status view_sealed(int fd, const char *path, const struct layout *layout, uint32_t nchunks,
                          struct view **ret_view) NAVMAP_MUST_USE;
/* Map more chunks in place.  Checks fstat first.  *ret_fits = false (and nothing done) when the
 * reservation is too small.  Callers serialise. */
navmap_status view_extend(struct view *v, uint32_t nchunks, bool *ret_fits) NAVMAP_MUST_USE;
void view_ref(struct view *v);
void view_unref(struct view *v); /* NULL allowed; the last one unmaps and closes */

/* warm.c: begin to read the pages of a slot's tag and vector. */
void view_ask_payload(const struct view *v, uint32_t slot);
static inline bool view_asks(const struct view *v)
{
    return atomic_load_explicit(&v->asks, memory_order_relaxed);
}

static inline uint32_t view_slots(const struct view *v)
{
    return atomic_load_explicit(&v->nchunks, memory_order_acquire) << v->layout.slot_shift;
}
static inline uint32_t view_cells(const struct view *v)
{
    return atomic_load_explicit(&v->nchunks, memory_order_acquire) * v->layout.uppers_per_chunk;
}

/* Shared words.  All are _Atomic; the caller names the memory order. */
static inline const _Atomic uint32_t *view_state(const struct view *v, uint32_t slot)
{
    return (const _Atomic uint32_t *)(const void *)(v->base + layout_state_off(&v->layout, slot));
}
static inline const _Atomic uint32_t *view_row(const struct view *v, uint32_t slot)
{
    return (const _Atomic uint32_t *)(const void *)(v->base + layout_row_off(&v->layout, slot));
}
static inline const _Atomic uint32_t *view_upper(const struct view *v, uint32_t cell)
{
    return (const _Atomic uint32_t *)(const void *)(v->base + layout_upper_off(&v->layout, cell));
}
/* Payload bytes: valid only under the generation check (storage/store.h, "reading a slot"). */
static inline const struct disk_tag *view_tag(const struct view *v, uint32_t slot)
{
    return (const struct disk_tag *)(const void *)(v->base + layout_tag_off(&v->layout, slot));
}
static inline const uint8_t *view_code(const struct view *v, uint32_t slot)
{
    return v->base + layout_code_off(&v->layout, slot);
}
static inline const void *view_vec(const struct view *v, uint32_t slot)
{
    return v->base + layout_vec_off(&v->layout, slot);
}
static inline uint64_t view_tag_label(const struct view *v, uint32_t slot)
{
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)&view_tag(v, slot)->label,
                                memory_order_relaxed);
}
static inline uint32_t view_tag_up(const struct view *v, uint32_t slot)
{
    return atomic_load_explicit((const _Atomic uint32_t *)(const void *)&view_tag(v, slot)->up,
                                memory_order_relaxed);
}

/* ROOT and LIVE fields, one atomic word each. */
static inline const struct disk_root *view_root(const struct view *v)
{
    return (const struct disk_root *)(const void *)(v->base + LAYOUT_ROOT_OFFSET);
}
static inline const struct disk_live *view_live(const struct view *v)
{
    return (const struct disk_live *)(const void *)(v->base + LAYOUT_LIVE_OFFSET);
}
static inline uint64_t view_load64(const uint64_t *word, memory_order order)
{
    return atomic_load_explicit((const _Atomic uint64_t *)(const void *)word, order);
}
static inline uint32_t view_load32(const uint32_t *word, memory_order order)
{
    return atomic_load_explicit((const _Atomic uint32_t *)(const void *)word, order);
}

#endif
