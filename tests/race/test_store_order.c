/* test_store_order.c -- every store into the shared file, in the order in which others can see it.
 *
 * What a reader in another process may meet between two stores depends on their order, and a race
 * test sees a wrong one by luck.  Here each store of a random life is looked at as it comes (io.h
 * tells them), against a copy of the file as it was before.  Lives end by kill -9 in the middle of
 * an apply, too; the open that follows is held to the same rules:
 *   A1  cells are stored between apply_begin, which rises above both counters (P0), and apply_end
 *       (P5); an open stores one such pair
 *   A2  payload bytes change only while their slot is FREE (I3), in an apply before any row
 *   A3  the STATE that publishes a slot carries the generation FREE announced, over a whole payload
 *       (P1), and comes before any row
 *   A4  no row names a FREE slot (I4)
 *   A5  a row that leads to a slot published in this apply comes after all rows of that slot (P2;
 *       in a replay its other end may have been published before the crash)
 *   A6  ROOT after the rows; its extent before its entry, which names a published slot below it
 *   A7  deaths after all that (P4); FREE raises the generation, and nothing names the slot (I5)
 *   A8  no cell is stored twice in an apply: none moves backwards
 * Order between processors is not seen here: that is what the other race tests are for.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "storage/fail.h"
#include "tests/support/harness.h"
#include "tests/support/oracle.h"
#include "tests/support/workload.h"

#define STEPS 50u
#define FILE_MAX ((size_t)16 << 20)
#define CELLS_MAX 65536u /* of a kind */

enum reached { PAYLOADS, ROWS, ROOT, DEATHS };
enum counted { APPLIES, BIRTHS, DIRECT, LINKS, DIED, FREED, REPLAYED, COUNTED };
static const char *const counted_names[COUNTED] = {
    "applies", "births", "direct payloads", "links to the new", "deaths", "frees", "replays"};

/* Shared with the child that lives. */
struct shared {
    struct layout layout;
    char why[300];
    uint64_t count[COUNTED];
};

struct watch {
    struct shared *shared;
    bool on, applying, replay, extent_stored;
    enum reached reached;
    uint32_t pairs; /* apply_end stored so often since it was last set to 0 */
    uint8_t *file;  /* as it is before the store that is looked at */
    uint8_t published[CELLS_MAX], named[CELLS_MAX];
    uint8_t row_stored[CELLS_MAX], upper_stored[CELLS_MAX], state_stored[CELLS_MAX];
    uint32_t freed[CELLS_MAX], n_freed; /* in the apply under way */
    int target;                         /* the kill point to die at, and at which hit; -1 = none */
    uint32_t nth, seen;
};

static void violated(struct watch *w, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void violated(struct watch *w, const char *format, ...)
{
    va_list args;
    if (w->shared->why[0] != '\0')
        return;
    va_start(args, format);
    (void)vsnprintf(w->shared->why, sizeof w->shared->why, format, args);
    va_end(args);
}

/* What the file holds -------------------------------------------------------------------------- */

static uint32_t word_at(const struct watch *w, uint64_t off)
{
    uint32_t word;
    memcpy(&word, w->file + off, sizeof word);
    return word;
}

static uint64_t word64_at(const struct watch *w, uint64_t off)
{
    uint64_t word;
    memcpy(&word, w->file + off, sizeof word);
    return word;
}

static uint32_t state_of(const struct watch *w, uint32_t slot)
{
    return word_at(w, layout_state_off(&w->shared->layout, slot));
}

static void tag_of(const struct watch *w, uint32_t slot, struct disk_tag *ret_tag)
{
    memcpy(ret_tag, w->file + layout_tag_off(&w->shared->layout, slot), sizeof *ret_tag);
}

static uint32_t slots(const struct watch *w)
{
    uint64_t extent = word64_at(w, LAYOUT_ROOT_OFFSET + offsetof(struct disk_root, extent));
    return extent_slots(extent);
}

/* The slot that owns an upper cell; 0 when none does. */
static uint32_t owner_of(const struct watch *w, uint32_t cell)
{
    for (uint32_t slot = 1; slot < slots(w) + w->shared->layout.slots_per_chunk; slot++) {
        struct disk_tag tag;
        if (layout_tag_off(&w->shared->layout, slot) + sizeof tag > FILE_MAX)
            break;
        tag_of(w, slot, &tag);
        if (STATE_STATUS(state_of(w, slot)) != SLOT_FREE && TAG_LEVEL(tag.up) > 0 &&
            cell >= TAG_CELL(tag.up) && cell < TAG_CELL(tag.up) + TAG_LEVEL(tag.up))
            return slot;
    }
    return 0;
}

static bool names(const struct watch *w, uint64_t row_off, uint32_t n, uint32_t slot)
{
    for (uint32_t i = 0; i < n; i++)
        if (word_at(w, row_off + 4ull * i) == slot)
            return true;
    return false;
}

/* I5 */
static bool is_named(const struct watch *w, uint32_t slot)
{
    const struct layout *l = &w->shared->layout;
    for (uint32_t s = 1; s < slots(w); s++) {
        struct disk_tag tag;
        if (s == slot || STATE_STATUS(state_of(w, s)) == SLOT_FREE)
            continue;
        tag_of(w, s, &tag);
        if (names(w, layout_row_off(l, s), l->M0, slot))
            return true;
        for (uint32_t i = 0; i < TAG_LEVEL(tag.up); i++)
            if (names(w, layout_upper_off(l, TAG_CELL(tag.up) + i), l->M, slot))
                return true;
    }
    return (uint32_t)word64_at(w, LAYOUT_ROOT_OFFSET + offsetof(struct disk_root, entry)) == slot;
}

/* The stores ----------------------------------------------------------------------------------- */

static void live_stored(struct watch *w, uint64_t rel, const void *bytes)
{
    uint64_t begin = word64_at(w, LAYOUT_LIVE_OFFSET + offsetof(struct disk_live, apply_begin));
    uint64_t end = word64_at(w, LAYOUT_LIVE_OFFSET + offsetof(struct disk_live, apply_end)), now;
    if (rel == offsetof(struct disk_live, apply_begin)) {
        memcpy(&now, bytes, sizeof now);
        if (now <= begin || now <= end)
            violated(w, "A1: apply_begin %" PRIu64 " over %" PRIu64 " and %" PRIu64, now, begin,
                     end);
        w->applying = true;
        w->extent_stored = false;
        w->reached = PAYLOADS;
        w->n_freed = 0;
        memset(w->published, 0, sizeof w->published);
        memset(w->named, 0, sizeof w->named);
        memset(w->row_stored, 0, sizeof w->row_stored);
        memset(w->upper_stored, 0, sizeof w->upper_stored);
        memset(w->state_stored, 0, sizeof w->state_stored);
    } else if (rel == offsetof(struct disk_live, apply_end)) {
        memcpy(&now, bytes, sizeof now);
        if (!w->applying || now != begin)
            violated(w, "A1: apply_end %" PRIu64 ", begun %" PRIu64, now, begin);
        /* Not at each FREE: those that are freed together may name one another. */
        for (uint32_t i = 0; i < w->n_freed; i++)
            if (is_named(w, w->freed[i]))
                violated(w, "A7: slot %u freed while it is named", w->freed[i]);
        w->applying = false;
        w->pairs++;
        w->shared->count[APPLIES]++;
    }
}

/* A cell of a published kind: inside an apply, not behind its time, once. */
static void cell_stored(struct watch *w, enum reached now, const char *what, uint32_t index,
                        uint8_t *stored)
{
    if (!w->applying)
        violated(w, "A1: %s %u stored outside an apply", what, index);
    if (w->reached > now)
        violated(w, "P-order: %s %u stored too late (step %d after %d)", what, index, (int)now,
                 (int)w->reached);
    if (w->reached < now)
        w->reached = now;
    if (stored && stored[index]++)
        violated(w, "A8: %s %u stored twice in an apply", what, index);
}

static void root_stored(struct watch *w, uint64_t rel, const void *bytes)
{
    uint64_t entry;
    cell_stored(w, ROOT, "root byte", (uint32_t)rel, NULL);
    if (rel == offsetof(struct disk_root, extent))
        w->extent_stored = true;
    if (rel != offsetof(struct disk_root, entry))
        return;
    memcpy(&entry, bytes, sizeof entry);
    uint32_t slot = (uint32_t)entry;
    if (!w->extent_stored)
        violated(w, "A6: entry stored before extent");
    if (slot != 0 && (slot >= slots(w) || STATE_STATUS(state_of(w, slot)) == SLOT_FREE))
        violated(w, "A6: entry names slot %u, which is not published", slot);
}

static void payload_stored(struct watch *w, uint32_t slot, uint64_t off, const void *bytes,
                           uint64_t len)
{
    if (w->applying && w->reached != PAYLOADS)
        violated(w, "A2: payload of slot %u stored behind rows", slot);
    if (STATE_STATUS(state_of(w, slot)) != SLOT_FREE && memcmp(w->file + off, bytes, len) != 0)
        violated(w, "A2: payload of slot %u changed while it is published", slot);
    w->shared->count[DIRECT] += !w->applying;
}

static void born(struct watch *w, uint32_t slot, uint32_t old, uint32_t word)
{
    const struct layout *l = &w->shared->layout;
    struct disk_tag tag;
    tag_of(w, slot, &tag);
    if (STATE_GEN(old) != STATE_GEN(word) || tag.gen != STATE_GEN(word))
        violated(w, "A3: slot %u published with generation %u, FREE had %u, its tag %u", slot,
                 STATE_GEN(word), STATE_GEN(old), tag.gen);
    if (layout_vsum(l, tag.label, slot, tag.gen, tag.up, w->file + layout_code_off(l, slot),
                    w->file + layout_vec_off(l, slot)) != tag.vsum)
        violated(w, "A3: slot %u published before its payload was whole", slot);
    w->published[slot] = 1;
    w->shared->count[BIRTHS]++;
}

static void state_stored(struct watch *w, uint32_t slot, uint32_t word)
{
    uint32_t old = state_of(w, slot);
    bool birth = STATE_STATUS(old) == SLOT_FREE && STATE_STATUS(word) != SLOT_FREE;
    /* A replay publishes again what was published before the crash. */
    bool again = w->replay && STATE_STATUS(word) != SLOT_FREE && w->reached == PAYLOADS;
    cell_stored(w, birth || again ? PAYLOADS : DEATHS, "state", slot, w->state_stored);
    if (birth) {
        born(w, slot, old, word);
    } else if (STATE_STATUS(word) != SLOT_FREE) {
        if (STATE_GEN(old) != STATE_GEN(word))
            violated(w, "A7: slot %u changed its generation while published", slot);
        w->shared->count[DIED] += STATE_STATUS(word) == SLOT_DEAD;
    } else if (STATE_STATUS(old) != SLOT_FREE) {
        if (STATE_GEN(word) != STATE_GEN(old) + 1)
            violated(w, "A7: slot %u freed with generation %u after %u", slot, STATE_GEN(word),
                     STATE_GEN(old));
        w->freed[w->n_freed++] = slot;
        w->shared->count[FREED]++;
    }
}

static void row_stored(struct watch *w, uint32_t owner, const uint32_t *ids, uint32_t n)
{
    const uint32_t most = (uint32_t)(FILE_MAX / w->shared->layout.vec_stride);
    enum slot_status status = STATE_STATUS(state_of(w, owner));
    /* Of a slot that died within a replayed log, or is about to be freed again: nobody's. */
    if (owner == 0 || status == SLOT_FREE || (w->replay && status == SLOT_DEAD))
        return;
    if (w->published[owner] && w->named[owner])
        violated(w, "A5: a row of slot %u stored after one that leads to it", owner);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = ids[i];
        if (id == 0)
            continue;
        if (id >= most || STATE_STATUS(state_of(w, id)) == SLOT_FREE) {
            violated(w, "A4: a row of slot %u names slot %u, which is FREE", owner, id);
        } else if (w->published[id] && !w->published[owner] && !w->replay) {
            if (!w->row_stored[id])
                violated(w, "A5: slot %u leads to slot %u, whose row is not stored", owner, id);
            w->named[id] = 1;
            w->shared->count[LINKS]++;
        }
    }
}

static void chunk_stored(struct watch *w, uint64_t off, const void *bytes, uint64_t len)
{
    const struct layout *l = &w->shared->layout;
    uint64_t chunk = (off - LAYOUT_CHUNK0_OFFSET) / l->chunk_bytes;
    uint32_t in = (uint32_t)((off - LAYOUT_CHUNK0_OFFSET) % l->chunk_bytes);
    uint32_t base = (uint32_t)chunk << l->slot_shift, ids[LAYOUT_M_MAX * 2], word;
    if (in >= l->off_vec) {
        payload_stored(w, base + (in - l->off_vec) / l->vec_stride, off, bytes, len);
    } else if (in >= l->off_code && l->code_stride > 0) {
        payload_stored(w, base + (in - l->off_code) / l->code_stride, off, bytes, len);
    } else if (in >= l->off_tag) {
        payload_stored(w, base + (in - l->off_tag) / l->tag_stride, off, bytes, len);
    } else if (in >= l->off_upper) {
        uint32_t cell =
            (uint32_t)chunk * l->uppers_per_chunk + (in - l->off_upper) / l->upper_stride;
        memcpy(ids, bytes, len);
        cell_stored(w, ROWS, "upper cell", cell, w->upper_stored);
        row_stored(w, owner_of(w, cell), ids, (uint32_t)len / 4);
    } else if (in >= l->off_row) {
        uint32_t slot = base + (in - l->off_row) / l->row_stride;
        memcpy(ids, bytes, len);
        cell_stored(w, ROWS, "row", slot, w->row_stored);
        row_stored(w, slot, ids, (uint32_t)len / 4);
    } else {
        memcpy(&word, bytes, sizeof word);
        state_stored(w, base + (in - l->off_state) / 4, word);
    }
}

static void after(void *ctx, const struct io_event *e, int error)
{
    struct watch *w = ctx;
    if (e->kind != IO_STORE || error != 0 || !w->on)
        return;
    if (e->off + e->len > FILE_MAX) {
        violated(w, "the file is larger than this test expects");
        return;
    }
    if (e->off >= LAYOUT_CHUNK0_OFFSET)
        chunk_stored(w, e->off, e->bytes, e->len);
    else if (e->off >= LAYOUT_LIVE_OFFSET)
        live_stored(w, e->off - LAYOUT_LIVE_OFFSET, e->bytes);
    else
        root_stored(w, e->off - LAYOUT_ROOT_OFFSET, e->bytes);
    memcpy(w->file + e->off, e->bytes, e->len);
}

static void kill_point(void *ctx, enum kill_point point)
{
    struct watch *w = ctx;
    if (w->on && (int)point == w->target && ++w->seen == w->nth)
        (void)kill(getpid(), SIGKILL);
}

/* Lives ---------------------------------------------------------------------------------------- */

static bool watch_begin(struct watch *w, const char *path)
{
    char name[400];
    (void)snprintf(name, sizeof name, "%s/data-00000001.navmap", path);
    FILE *f = fopen(name, "rb");
    memset(w->file, 0, FILE_MAX);
    bool read = f && fread(w->file, 1, FILE_MAX, f) > LAYOUT_CHUNK0_OFFSET;
    if (f)
        (void)fclose(f);
    w->applying = false;
    w->pairs = 0;
    w->on = true;
    return read;
}

static navmap_status live(struct watch *w, struct workload *life)
{
    TRY(workload_create(life));
    w->shared->layout = *store_layout(life->store);
    if (!watch_begin(w, life->path))
        return fail(NAVMAP_EIO, "cannot read the data file");
    for (uint32_t i = 0; i < STEPS; i++)
        TRY(workload_step(life));
    return workload_close(life);
}

static const enum kill_point points[] = {KP_C4,       KP_P0, KP_P1_PAYLOAD, KP_P1_STATE, KP_P1,
                                         KP_P2_OWN,   KP_P2, KP_P3_EXTENT,  KP_P3_ENTRY, KP_P3,
                                         KP_P4_STATE, KP_P4, KP_C5};
#define N_POINTS (sizeof points / sizeof points[0])

/* A life in a child; then the open that follows it here.  What the child says is in w->shared. */
static bool one(struct watch *w, struct harness *h, struct workload *life, uint64_t round)
{
    struct rng rng = {harness_round_seed(h, round)};
    struct workload_options options =
        workload_draw(rng_next(&rng), round % 4 == 3 ? STORE_MANUAL : STORE_FULL);
    struct store_options open = {STORE_FULL, 10.0, options.ckpt_bytes};
    struct store *s = NULL;
    bool dies = round % 3 != 0;
    w->on = w->replay = false;
    w->seen = 0;
    w->target = dies ? (int)points[rng_below(&rng, N_POINTS)] : -1;
    w->nth = 1 + (uint32_t)rng_below(&rng, 30);
    options.never_flush = dies && rng_one_in(&rng, 2);
    harness_remove(life->path);
    oracle_reset(life->oracle);
    workload_init(life, life->path, &options, rng_next(&rng), life->oracle);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        navmap_status status = live(w, life);
        if (status != NAVMAP_OK)
            violated(w, "the life failed: %s", navmap_error_detail());
        _exit(status == NAVMAP_OK ? 0 : 1);
    }
    int how = harness_wait(pid);
    if ((how != 0 && how != SIGKILL) || w->shared->why[0] != '\0')
        return false;
    if (!watch_begin(w, life->path))
        return false;
    w->replay = how == SIGKILL;
    w->target = -1;
    if (store_open(life->path, STORE_WRITE, &open, &s) != NAVMAP_OK)
        violated(w, "open: %s", navmap_error_detail());
    if (w->pairs != 1)
        violated(w, "A1: an open stored the counters %u times", w->pairs);
    w->shared->count[REPLAYED] += w->replay;
    w->replay = false;
    if (store_close(s) != NAVMAP_OK)
        violated(w, "close: %s", navmap_error_detail());
    w->on = false;
    return w->shared->why[0] == '\0';
}

int main(int argc, char **argv)
{
    static struct harness h;
    static struct watch w;
    static struct workload life;
    static struct io_hooks hooks;
    char path[300];
    harness_begin(&h, "store_order", argc, argv);
    (void)snprintf(path, sizeof path, "%s/idx", h.dir);
    w.shared = harness_shared(sizeof *w.shared);
    w.file = malloc(FILE_MAX);
    life.path = path;
    life.oracle = oracle_new();
    hooks = (struct io_hooks){&w, NULL, after, kill_point};
    io_hooks = &hooks;
    uint64_t rounds = w.file ? harness_count(&h, 40, 1000, 20000) : 0;
    for (uint64_t round = 0; round < rounds && h.failed < 10; round++) {
        if (!harness_wants(&h, round))
            continue;
        w.shared->why[0] = '\0';
        bool ok = one(&w, &h, &life, round);
        harness_case(&h, ok, round, "%s", w.shared->why);
    }
    for (int i = 0; i < COUNTED; i++) {
        printf("  %s: %" PRIu64 "\n", counted_names[i], w.shared->count[i]);
        harness_case(&h, w.shared->count[i] > 0 || h.only >= 0 || h.shrink, 0, "no %s were seen",
                     counted_names[i]);
    }
    io_hooks = NULL;
    free(w.file);
    oracle_free(life.oracle);
    harness_unshare(w.shared, sizeof *w.shared);
    return harness_end(&h);
}
