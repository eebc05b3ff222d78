/* apply.c -- committed images into the shared map, in an order that readers can live with.
 *
 *   P0  apply_begin raised: queries that overlap this apply know it.
 *   P1  per payload slot: its bytes, if logged; then its STATE, releasing them.  FREE until then.
 *   P2  rows and upper rows of the payload slots; a fence; those of all other slots.
 *   P3  ROOT: extent, entry, then the rest.
 *   P4  all other STATE words: marks, deaths, frees.
 *   P5  apply_end = apply_begin.
 *
 * P1 before P2: an id in a reachable row names a node that is whole (I4).  A node's own rows come
 * before the rows that lead to it, so that whoever follows a new link can go on.  Births before
 * deaths: an updated label may be seen twice for a moment, which queries remove, rather than not
 * at all.  The same routine serves recovery.
 */
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "storage/checksum.h"
#include "storage/handle.h"
#include "storage/words.h"

#define LIVE_FIELD(name) (LAYOUT_LIVE_OFFSET + offsetof(struct disk_live, name))
#define ROOT_FIELD(name) (LAYOUT_ROOT_OFFSET + offsetof(struct disk_root, name))

static void store_payload(struct view *v, const struct cell *c)
{
    const struct layout *l = &v->layout;
    const uint8_t *p = c->bytes;
    words_store(v, layout_tag_off(l, c->index), p, l->tag_stride);
    if (l->code_stride > 0)
        words_store(v, layout_code_off(l, c->index), p + l->tag_stride, l->code_stride);
    words_store(v, layout_vec_off(l, c->index), p + l->tag_stride + l->code_stride, l->vec_stride);
    STORE_KILL_POINT(P1_PAYLOAD);
}

static void store_state(struct view *v, struct cells *cells, const struct cell *c)
{
    uint32_t word;
    memcpy(&word, c->bytes, sizeof word);
    words_store32(v, layout_state_off(&v->layout, c->index), word, memory_order_release);
    cells->done[c - cells->cell] = 1;
}

/* P1.  A slot whose newest STATE is FREE died again within the log: its payload is nobody's. */
static void publish_slot(struct view *v, struct cells *cells, const struct cell *payload)
{
    const struct cell *state = cells_find(cells, CELL_STATE, payload->index);
    uint32_t word;
    memcpy(&word, state->bytes, sizeof word);
    if (STATE_STATUS(word) == SLOT_FREE)
        return;
    if (payload->kind == CELL_PAYLOAD)
        store_payload(v, payload);
    store_state(v, cells, state);
    STORE_KILL_POINT(P1_STATE);
}

static void store_row(struct view *v, struct cells *cells, const struct cell *c)
{
    const struct layout *l = &v->layout;
    if (c->kind == CELL_ROW)
        words_store(v, layout_row_off(l, c->index), c->bytes, 4 * l->M0);
    else
        words_store(v, layout_upper_off(l, c->index), c->bytes, 4 * l->M);
    cells->done[c - cells->cell] = 1;
}

/* P2, first half: the rows that a payload slot itself owns. */
static void store_own_rows(struct view *v, struct cells *cells, const struct cell *payload)
{
    uint32_t slot = payload->index;
    const struct cell *row = cells_find(cells, CELL_ROW, slot);
    if (row && !cells->done[row - cells->cell])
        store_row(v, cells, row);
    uint32_t up = view_tag_up(v, slot);
    for (uint32_t level = 1; level <= TAG_LEVEL(up); level++) {
        const struct cell *upper = cells_find(cells, CELL_UPPER, TAG_CELL(up) + level - 1);
        if (upper && !cells->done[upper - cells->cell])
            store_row(v, cells, upper);
    }
    STORE_KILL_POINT(P2_OWN);
}

static void store_root_image(struct view *v, const struct cell *c)
{
    struct disk_root root;
    memcpy(&root, c->bytes, sizeof root);
    words_store64(v, ROOT_FIELD(extent), root.extent, memory_order_release);
    STORE_KILL_POINT(P3_EXTENT);
    words_store64(v, ROOT_FIELD(entry), root.entry, memory_order_release);
    STORE_KILL_POINT(P3_ENTRY);
    words_store64(v, ROOT_FIELD(lsn), root.lsn, memory_order_relaxed);
    words_store(v, ROOT_FIELD(nuppers), &root.nuppers,
                sizeof root - offsetof(struct disk_root, nuppers));
}

#define EACH(c, cells, kind)                                                                       \
    const struct cell *c = (cells)->cell + (cells)->start[kind];                                   \
    c < (cells)->cell + (cells)->start[(kind) + 1];                                                \
    c++

void apply_cells(struct view *v, struct cells *cells, uint64_t lsn)
{
    const struct disk_live *live = view_live(v);
    uint64_t begin = view_load64(&live->apply_begin, memory_order_relaxed);
    uint64_t end = view_load64(&live->apply_end, memory_order_relaxed);
    uint64_t now = (begin > end ? begin : end) + 1;

    words_store64(v, LIVE_FIELD(apply_begin), now, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    STORE_KILL_POINT(P0);

    for (EACH(c, cells, CELL_PAYLOAD))
        publish_slot(v, cells, c);
    for (EACH(c, cells, CELL_DIRECT))
        publish_slot(v, cells, c);
    STORE_KILL_POINT(P1);

    atomic_thread_fence(memory_order_release);
    for (EACH(c, cells, CELL_PAYLOAD))
        store_own_rows(v, cells, c);
    for (EACH(c, cells, CELL_DIRECT))
        store_own_rows(v, cells, c);
    STORE_KILL_POINT(P2_FENCE);
    atomic_thread_fence(memory_order_release);
    for (EACH(c, cells, CELL_ROW))
        if (!cells->done[c - cells->cell]) {
            store_row(v, cells, c);
            STORE_KILL_POINT(P2_OTHER);
        }
    for (EACH(c, cells, CELL_UPPER))
        if (!cells->done[c - cells->cell])
            store_row(v, cells, c);
    STORE_KILL_POINT(P2);

    for (EACH(c, cells, CELL_ROOT))
        store_root_image(v, c);
    STORE_KILL_POINT(P3);

    for (EACH(c, cells, CELL_STATE))
        if (!cells->done[c - cells->cell]) {
            store_state(v, cells, c);
            STORE_KILL_POINT(P4_STATE);
        }
    STORE_KILL_POINT(P4);

    words_store64(v, LIVE_FIELD(applied_lsn), lsn, memory_order_relaxed);
    words_store64(v, LIVE_FIELD(apply_end), now, memory_order_release);
}

void apply_live_reset(struct view *v)
{
    const struct disk_live *live = view_live(v);
    uint64_t begin = view_load64(&live->apply_begin, memory_order_relaxed);
    uint64_t end = view_load64(&live->apply_end, memory_order_relaxed);
    uint64_t now = (begin > end ? begin : end) + 1;
    words_store64(v, LIVE_FIELD(apply_begin), now, memory_order_relaxed);
    words_store64(v, LIVE_FIELD(apply_end), now, memory_order_release);
}

static uint64_t boot_id_hash(void)
{
    char text[64] = {0};
    int fd = -1;
    if (io_open("/proc/sys/kernel/random/boot_id", O_RDONLY, 0, &fd) != NAVMAP_OK)
        return 0;
    navmap_status status = io_pread(fd, "boot_id", text, 36, 0);
    io_close(fd);
    return status == NAVMAP_OK ? checksum64(text, sizeof text, 0) : 0;
}

void apply_live_writer(struct view *v)
{
    struct timespec t = {0, 0};
    (void)clock_gettime(CLOCK_REALTIME, &t);
    uint64_t ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    words_store32(v, LIVE_FIELD(superseded), 0, memory_order_relaxed);
    words_store64(v, LIVE_FIELD(boot_id_hash), boot_id_hash(), memory_order_relaxed);
    words_store64(v, LIVE_FIELD(writer_start_ns), ns, memory_order_relaxed);
    words_store32(v, LIVE_FIELD(writer_pid), (uint32_t)getpid(), memory_order_release);
}

void apply_live_supersede(struct view *v)
{
    words_store32(v, LIVE_FIELD(superseded), 1, memory_order_release); /* pairing "superseded" */
}
