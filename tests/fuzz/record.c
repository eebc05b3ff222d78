/* record.c -- fuzz target: the records of a log that a crash left, parsed and replayed.
 *
 * The image is all records behind each other, oldest first; cut short, it loses the newest.  They
 * are parsed as they lie, then put into LMDB in place of the sound ones, and the index is opened.
 * `how`: 1 = lengths and sums are left as they are; 2 = so are the sums of ROOT images; 4 = parse
 * only; the bits above them are enum fuzz_visit.
 */
#include "storage/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/checksum.h"
#include "storage/wal.h"
#include "tests/fuzz/home.h"

#define CELL_HEAD_BYTES 16u
#define RECORDS 24u
#define AT_LSN 8u
#define AT_NBYTES 24u
#define AT_SUM 40u

#define OPTIONS .struct_size = sizeof(struct navmap_options)
static const struct {
    const char *name;
    struct fuzz_plan plan;
    uint32_t logged;
} plans[] = {
    {"few",
     {.options = {OPTIONS, .dim = 5, .M = 4, .slot_shift = 4, .ef_construction = 20},
      .items = 14,
      .deleted = 5},
     1},
    {"more",
     {.options = {OPTIONS, .dim = 3, .M = 2, .slot_shift = 4, .ef_construction = 10},
      .items = 30,
      .updates = 4,
      .deleted = 8},
     4},
};
#define BASES (sizeof plans / sizeof *plans)

static struct log {
    struct fuzz_home home;
    struct fuzz_image image;
    struct wal_state state;
    uint32_t n_records;
    uint64_t start[RECORDS + 1];
    uint64_t root[RECORDS]; /* where its ROOT image begins */
} base[BASES];
static struct fuzz_image mine;
static const struct log *log_now;

/* Regions of one record: its head, then head and image of each cell. */
static void describe(struct log *l, uint32_t i)
{
    struct fuzz_image *im = &l->image;
    const struct layout *layout = &l->home.layout;
    uint64_t at = l->start[i];
    fuzz_add_region(im, at, 0, 1, 10, 4);
    fuzz_add_region(im, at, 0, 1, 5, 8);
    for (at += RECORD_HEADER_BYTES; at < l->start[i + 1];) {
        const uint32_t kind = im->bytes[at], n = cell_bytes(layout, kind);
        fuzz_add_region(im, at, 0, 1, CELL_HEAD_BYTES / 4, 4);
        if (kind == CELL_ROOT) {
            l->root[i] = at + CELL_HEAD_BYTES;
            fuzz_add_region(im, l->root[i], 0, 1, 15, 8);
        }
        fuzz_add_region(im, at + CELL_HEAD_BYTES, 0, 1, n / 4, 4);
        im->region[im->n_regions - 1].payload = kind == CELL_PAYLOAD;
        im->region[im->n_regions - 1].first = (uint32_t)at;
        at += CELL_HEAD_BYTES + (n + 7) / 8 * 8;
    }
}

static void make(struct log *l, const char *name, const struct fuzz_plan *plan, uint32_t logged)
{
    struct wal *w;
    struct wal_txn t;
    uint8_t *all = NULL, *record;
    size_t n;
    fuzz_home_make(&l->home, name, plan, logged);
    fuzz_sound(wal_peek_open(l->home.dir, &w));
    fuzz_sound(wal_txn_read(w, &t));
    fuzz_sound(wal_get_state(&t, &l->state));
    for (uint64_t lsn = l->state.ckpt_lsn + 1; lsn <= l->state.last_lsn; lsn++) {
        fuzz_check(l->n_records < RECORDS, "too long a log");
        fuzz_sound(wal_get_record(&t, lsn, RECORD_BYTES_MAX, &record, &n));
        const uint64_t at = l->start[l->n_records++];
        all = fuzz_must(realloc(all, at + n));
        memcpy(all + at, record, n);
        l->start[l->n_records] = at + n;
        free(record);
    }
    wal_txn_abort(&t);
    wal_peek_close(w);
    fuzz_check(l->n_records > 0, "no log");
    fuzz_image_init(&l->image, all, l->start[l->n_records]);
    free(all);
    for (uint32_t i = l->n_records; i-- > 0;)
        describe(l, i);
    const uint64_t numbers[] = {l->state.ckpt_lsn,
                                l->state.last_lsn,
                                l->home.layout.slots_per_chunk,
                                l->home.layout.uppers_per_chunk,
                                layout_chunks_max(&l->home.layout),
                                plan->items,
                                l->home.data_bytes};
    for (uint32_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        fuzz_add_number(&l->image, numbers[i]);
}

static void begin(void)
{
    size_t most = 0;
    for (uint32_t i = 0; i < BASES; i++) {
        make(&base[i], plans[i].name, &plans[i].plan, plans[i].logged);
        most = base[i].image.capacity > most ? base[i].image.capacity : most;
    }
    static uint8_t *bytes;
    mine.bytes = bytes = fuzz_must(malloc(most));
}

/* `at` = of a cell that was a PAYLOAD when its record was sound. */
static void resum(struct fuzz_image *im, uint32_t at)
{
    const struct layout *l = &log_now->home.layout;
    struct disk_tag tag;
    uint32_t slot;
    memcpy(&slot, im->bytes + at + 4, sizeof slot);
    uint8_t *p = im->bytes + at + CELL_HEAD_BYTES;
    memcpy(&tag, p, sizeof tag);
    tag.vsum = layout_vsum(l, tag.label, slot, tag.gen, tag.up, p + sizeof tag,
                           p + sizeof tag + l->code_stride);
    memcpy(p, &tag, sizeof tag);
}

/* Record i of the image; its length, 0 = cut off. */
static size_t record_at(const struct log *l, const struct fuzz_image *im, uint32_t i)
{
    const uint64_t end = i + 1 == l->n_records ? im->n : l->start[i + 1];
    const uint64_t to = end < im->n ? end : im->n;
    return to > l->start[i] ? to - l->start[i] : 0;
}

static void fix(const struct log *l, struct fuzz_image *im, uint32_t i, bool roots)
{
    const uint64_t uuid_low = l->home.layout.uuid_low;
    const uint64_t nbytes = record_at(l, im, i);
    uint8_t *p = im->bytes + l->start[i];
    struct disk_root root;
    struct checksum sum;
    uint64_t lsn, value;
    if (nbytes < RECORD_HEADER_BYTES)
        return;
    if (roots && l->root[i] + sizeof root <= im->n) {
        memcpy(&root, im->bytes + l->root[i], sizeof root);
        root.sum = layout_root_sum(&root, uuid_low);
        memcpy(im->bytes + l->root[i], &root, sizeof root);
    }
    memcpy(p + AT_NBYTES, &nbytes, sizeof nbytes);
    memcpy(&lsn, p + AT_LSN, sizeof lsn);
    checksum_begin(&sum, lsn ^ uuid_low);
    checksum_add(&sum, p, AT_SUM);
    checksum_add(&sum, p + RECORD_HEADER_BYTES, nbytes - RECORD_HEADER_BYTES);
    value = checksum_end(&sum);
    memcpy(p + AT_SUM, &value, sizeof value);
}

struct visited {
    const struct layout *layout;
    uint64_t sum;
};

static navmap_status visit(void *ctx, const struct cell *c)
{
    struct visited *v = ctx;
    v->sum ^= checksum64(c->bytes, cell_bytes(v->layout, c->kind), c->index); /* all readable? */
    return NAVMAP_OK;
}

/* In memory of its own, so that a sanitizer sees whoever reads behind it. */
static void parse(const struct log *l, const struct fuzz_image *im, uint32_t i)
{
    const size_t n = record_at(l, im, i);
    const struct record_bounds b = {.lsn = l->state.ckpt_lsn + 1 + i, .path = "record"};
    struct visited v = {.layout = &l->home.layout};
    uint8_t *copy = fuzz_must(malloc(n ? n : 1));
    memcpy(copy, im->bytes + l->start[i], n);
    (void)fuzz_ok(record_read(&l->home.layout, copy, n, &b, visit, &v));
    free(copy);
}

static void replace_log(struct log *l, const struct fuzz_image *im)
{
    struct wal *w = NULL;
    struct wal_txn t;
    bool more = false;
    l->home.wal_spoilt = true;
    fuzz_sound(wal_acquire(l->home.dir, true, &w));
    wal_lock(w);
    fuzz_sound(wal_txn_write(w, &t));
    fuzz_sound(wal_delete_upto(&t, l->state.last_lsn, WAL_SLICE_FRAMES, &more));
    for (uint32_t i = 0; i < l->n_records; i++) {
        const size_t n = record_at(l, im, i);
        if (n > 0)
            fuzz_sound(wal_put_record(&t, l->state.ckpt_lsn + 1 + i, im->bytes + l->start[i], n));
    }
    fuzz_sound(wal_txn_commit(&t));
    wal_unlock(w);
    wal_release(w);
}

static void run(const uint8_t *bytes, size_t n)
{
    struct fuzz_script s;
    if (!mine.bytes)
        begin();
    fuzz_read_script(bytes, n, &s);
    struct log *l = &base[s.base % BASES];
    log_now = l;
    const bool resummed = fuzz_apply(&s, &l->image, &mine, resum);
    for (uint32_t i = 0; i < l->n_records; i++) {
        if (!(s.how & 1))
            fix(l, &mine, i, !(s.how & 2));
        parse(l, &mine, i);
    }
    if (s.how & 4)
        return;
    fuzz_home_restore(&l->home, l->home.data, l->home.data_bytes);
    replace_log(l, &mine);
    fuzz_home_visit(&l->home, resummed ? NULL : &l->home.truth, s.how >> 3);
}

const struct fuzz_target fuzz_record = {"record", run};
