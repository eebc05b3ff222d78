/* test_flips.c -- one bit of a closed index is not what it was (T10).
 *
 * All bits of header and ROOT, and of LMDB's values meta "id" and "state"; random ones of each
 * array of the chunks, of LIVE, of the labels' values, and of the log that a crash left.  LMDB's
 * values are found through LMDB and then flipped where they lie: its pages have no sums.
 * Required:
 *   B1  never a signal or a hang, by a reader, a writer, verify
 *   B2  what every open checks is refused by every open, in words that name the file
 *   B3  verify finds each bit that a sum, a counter or a rule covers, and names the slot
 *   B4  navmap_get never returns a vector that is not its label's
 * LMDB trusts the rest of its file (FORMAT.md, section 10).  Random bits of its pages are flipped
 * as well, each in a process of its own: B4 is required, deaths are counted and told.
 */
#include <inttypes.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/layout.h"
#include "storage/wal.h"
#include "storage/wal_env.h"
#include "tests/support/mapped.h"
#include "tests/torture/damaged.h"

#define SPANS 8192u
#define WRITES_EVERY 16u /* a writer changes the files, and putting them back takes longest */

enum rule {
    ANY,     /* B1, B4 */
    FOUND,   /* B3 */
    REFUSED, /* B2, B3 */
};

struct span {
    uint64_t at;
    uint32_t bytes, slot;
};

struct region {
    const char *name;
    bool in_wal, crashed;
    enum rule rule;
    uint64_t test, ci; /* flips; 0 = every bit */
    uint32_t n;
    uint64_t bits;
    struct span span[SPANS];
};

struct test {
    struct harness h;
    struct ward *ward;
    struct damaged closed, crashed;
    struct region region; /* the one under way */
    uint32_t round;
};

enum { OPENED, TURNED_AWAY, UNFOUND };

/* Where the bits are ----------------------------------------------------------------------------*/

static void span(struct region *r, uint64_t at, uint32_t bytes, uint32_t slot)
{
    if (r->n == SPANS || bytes == 0)
        return;
    r->span[r->n++] = (struct span){at, bytes, slot};
    r->bits += 8 * (uint64_t)bytes;
}

static const struct disk_root *root_of(const struct damaged *d)
{
    return (const void *)(d->data.bytes + LAYOUT_ROOT_OFFSET);
}

static bool layout_of(const struct damaged *d, struct layout *ret_layout)
{
    int read_only;
    return layout_read_header(d->data.bytes, d->data.n, d->data.path, ret_layout, &read_only) ==
           NAVMAP_OK;
}

/* The arrays of a chunk, slot by slot (upper: cell by cell). */
enum array { STATE, ROW, UPPER, TAG, CODE, VECTOR };

static void array_spans(struct region *r, const struct damaged *d, enum array array)
{
    struct layout l;
    if (!layout_of(d, &l))
        return;
    uint32_t cells = (uint32_t)root_of(d)->nuppers, slots = extent_slots(root_of(d)->extent);
    for (uint32_t cell = 0; array == UPPER && cell < cells; cell++)
        span(r, layout_upper_off(&l, cell), l.upper_stride, 0);
    for (uint32_t slot = 1; slot < slots; slot++) {
        if (array == STATE)
            span(r, layout_state_off(&l, slot), 4, slot);
        else if (array == ROW)
            span(r, layout_row_off(&l, slot), l.row_stride, slot);
        else if (array == TAG)
            span(r, layout_tag_off(&l, slot), l.tag_stride, slot);
        else if (array == CODE)
            span(r, layout_code_off(&l, slot), l.code_stride, slot);
        else if (array == VECTOR)
            span(r, layout_vec_off(&l, slot), l.vec_stride, slot);
    }
}

static void value_span(struct region *r, const struct damaged *d, const MDB_val *value)
{
    uint64_t at = mapped_offset(d->wal.path, value->mv_data);
    if (at > 0 && memcmp(d->wal.bytes + at, value->mv_data, value->mv_size) == 0)
        span(r, at, (uint32_t)value->mv_size, 0);
}

static uint64_t frame_lsn(const MDB_val *key)
{
    uint64_t lsn = 0;
    for (size_t i = 0; i < 8 && i < key->mv_size; i++)
        lsn = lsn << 8 | ((const uint8_t *)key->mv_data)[i];
    return lsn;
}

/* The values of a table: all, that of `name`, or the frames that a recovery reads. */
static void lmdb_spans(struct region *r, const struct damaged *d, const char *table,
                       const char *name)
{
    struct wal *w = NULL;
    struct wal_txn t = {0};
    struct wal_state state = {0};
    if (wal_peek_open(d->path, &w) != NAVMAP_OK)
        return;
    if (wal_txn_read(w, &t) == NAVMAP_OK && wal_get_state(&t, &state) == NAVMAP_OK) {
        MDB_cursor *cursor = NULL;
        MDB_val key, value;
        MDB_dbi dbi = strcmp(table, "meta") == 0  ? w->meta
                      : strcmp(table, "wal") == 0 ? w->log
                                                  : w->labels[state.generation & 1];
        int rc = mdb_cursor_open(t.txn, dbi, &cursor);
        for (int op = MDB_FIRST; rc == 0; op = MDB_NEXT) {
            rc = mdb_cursor_get(cursor, &key, &value, (MDB_cursor_op)op);
            bool wanted = rc == 0 && (!name || (key.mv_size == strlen(name) &&
                                                memcmp(key.mv_data, name, key.mv_size) == 0));
            if (wanted && (dbi != w->log || frame_lsn(&key) > state.ckpt_lsn))
                value_span(r, d, &value);
        }
        mdb_cursor_close(cursor);
    }
    wal_txn_abort(&t);
    wal_peek_close(w);
}

/* A flip ----------------------------------------------------------------------------------------*/

static bool refuses(struct test *t, struct damaged *d, bool *ret_written, bool write)
{
    const enum rule rule = t->region.rule;
    for (int i = 0; i < 2; i++) {
        bool opened = false;
        const bool writer = i == 1;
        if (writer && !write)
            break;
        (void)snprintf(t->ward->what + strlen(t->ward->what), 20, ", %s",
                       writer ? "writer" : "reader");
        if (!damaged_use(d, writer ? AS_WRITER : AS_READER, &opened))
            return false;
        *ret_written |= writer || d == &t->crashed;
        atomic_fetch_add(&t->ward->count[opened ? OPENED : TURNED_AWAY], 1);
        if (opened && rule == REFUSED)
            return ward_says(t->ward, "it opened");
    }
    return true;
}

static bool verdict_holds(struct test *t, const struct damaged *d, uint32_t slot)
{
    struct damaged_verdict v = {.slot = slot};
    damaged_verify(d->path, &v);
    bool found = v.status != NAVMAP_OK || v.damaged > 0;
    if (v.status != NAVMAP_OK && !strstr(navmap_error_detail(), d->path))
        return ward_says(t->ward, "verify fails without the file's name: %s",
                         navmap_error_detail());
    if (v.status == NAVMAP_OK && v.damaged > 0 && strlen(v.first) < 12)
        return ward_says(t->ward, "verify says only: %s", v.first);
    if (!found && t->region.rule != ANY)
        return ward_says(t->ward, "verify does not find it");
    if (t->region.rule == FOUND && slot != 0 && !v.slot_was_named)
        return ward_says(t->ward, "verify does not name slot %u: %s", slot, v.first);
    atomic_fetch_add(&t->ward->count[UNFOUND], !found);
    return true;
}

static bool flip(struct test *t, uint64_t bit, bool write)
{
    struct damaged *d = t->region.crashed ? &t->crashed : &t->closed;
    struct damaged_file *f = t->region.in_wal ? &d->wal : &d->data;
    const struct span *s = t->region.span;
    while (bit >= 8 * (uint64_t)s->bytes)
        bit -= 8 * (uint64_t)s++->bytes;
    const uint64_t at = s->at + bit / 8;
    bool written = false;
    (void)snprintf(t->ward->what, sizeof t->ward->what, "slot %u, file offset %" PRIu64 ", bit %u",
                   s->slot, at, (unsigned)(bit % 8));
    f->map[at] ^= (uint8_t)(1u << bit % 8);
    bool good = verdict_holds(t, d, s->slot) && refuses(t, d, &written, write);
    if (written)
        damaged_restore_all(d);
    else
        f->map[at] = f->bytes[at];
    return good;
}

static uint64_t flips_wanted(const struct test *t)
{
    const struct region *r = &t->region;
    uint64_t n = harness_count(&t->h, r->test, r->ci ? r->ci : r->bits, 20 * r->ci);
    return n == 0 || (r->ci == 0 && n > r->bits) ? r->bits : n;
}

static bool flip_all(void *ctx, struct ward *ward, uint64_t from)
{
    struct test *t = ctx;
    const uint64_t n = flips_wanted(t);
    damaged_restore_all(&t->closed); /* a child that died has put nothing back */
    damaged_restore_all(&t->crashed);
    for (uint64_t i = from; i < n; i++) {
        struct rng r = {harness_round_seed(&t->h, (uint64_t)t->round << 32 | i)};
        ward_case(ward, i);
        uint64_t bit = t->region.ci == 0 && n == t->region.bits ? i : rng_below(&r, t->region.bits);
        if (!flip(t, bit, t->region.rule == REFUSED || rng_one_in(&r, WRITES_EVERY)))
            return false;
        atomic_fetch_add(&ward->passed, 1);
    }
    return true;
}

static void run(struct test *t)
{
    struct region *r = &t->region;
    uint64_t counts[3], was = t->h.passed;
    t->round++;
    if (!harness_wants(&t->h, t->round))
        return;
    if (r->n == 0) {
        printf("  %s: there is none\n", r->name);
        return;
    }
    for (int i = 0; i < 3; i++)
        counts[i] = atomic_load(&t->ward->count[i]);
    double began = harness_now();
    ward_run(&t->h, t->ward, r->name, t->round, 0, flip_all, t);
    for (int i = 0; i < 3; i++)
        counts[i] = atomic_load(&t->ward->count[i]) - counts[i];
    printf("  %s: %" PRIu64 " flips of %" PRIu64 " bits: %" PRIu64 " times opened, %" PRIu64
           " refused; verify was content with %" PRIu64 "; %.1f s\n",
           r->name, t->h.passed - was, r->bits, counts[OPENED], counts[TURNED_AWAY],
           counts[UNFOUND], harness_now() - began);
}

static struct region *begin(struct test *t, const char *name, enum rule rule, uint64_t test,
                            uint64_t ci)
{
    memset(&t->region, 0, sizeof t->region);
    t->region.name = name;
    t->region.rule = rule;
    t->region.test = test;
    t->region.ci = ci;
    return &t->region;
}

static void run_values(struct test *t, const char *name, const char *table, const char *key,
                       bool crashed, enum rule rule, uint64_t test, uint64_t ci)
{
    struct region *r = begin(t, name, rule, test, ci);
    r->in_wal = true;
    r->crashed = crashed;
    lmdb_spans(r, crashed ? &t->crashed : &t->closed, table, key);
    harness_case(&t->h, r->n > 0, t->round + 1, "%s: nothing found in LMDB", name);
    run(t);
}

/* LMDB's pages --------------------------------------------------------------------------------- */

enum { ALL_WELL = 0, REFUSALS = 2, WRONG = 3 }; /* 1 is a sanitizer's */

static int try_flipped(struct damaged *d)
{
    int refusals = 0;
    bool opened = false;
    struct damaged_verdict v = {0};
    (void)alarm(5);
    damaged_verify(d->path, &v);
    for (int i = 0; i < 2; i++) {
        if (!damaged_use(d, i ? AS_WRITER : AS_READER, &opened) && opened)
            return WRONG;
        refusals += !opened;
    }
    return refusals ? REFUSALS : ALL_WELL;
}

/* A byte of a page that is in use; of half of them its head, where LMDB's own numbers stand. */
static uint64_t draw_byte(const struct damaged_file *f, struct rng *r)
{
    for (;;) {
        const uint64_t page = rng_below(r, f->n / 4096) * 4096;
        for (uint64_t i = 0; i < 4096; i++)
            if (f->bytes[page + i] != 0)
                return page + rng_below(r, rng_one_in(r, 2) ? 48 : 4096);
    }
}

static void run_pages(struct test *t, struct damaged *d, uint64_t n)
{
    uint64_t well = 0, refused = 0, died = 0, hung = 0;
    if (!harness_wants(&t->h, ++t->round))
        return;
    for (uint64_t i = 0; i < n; i++) {
        struct rng r = {harness_round_seed(&t->h, (uint64_t)t->round << 32 | i)};
        const uint64_t at = draw_byte(&d->wal, &r);
        damaged_restore_all(d);
        d->wal.map[at] ^= (uint8_t)(1u << rng_below(&r, 8));
        (void)fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            /* A death in LMDB is to look like one under each sanitizer: their handlers end by a
             * status, the thread sanitizer by that of a race. */
            (void)signal(SIGSEGV, SIG_DFL);
            (void)signal(SIGBUS, SIG_DFL);
            _exit(try_flipped(d));
        }
        int how = harness_wait(pid);
        well += how == ALL_WELL;
        refused += how == -REFUSALS;
        hung += how == SIGALRM;
        died += (how > 0 && how != SIGALRM) || how == -1;
        harness_case(&t->h, how >= -REFUSALS, t->round, "wal.mdb, byte %" PRIu64 ": %s", at,
                     t->ward->why);
    }
    printf("  wal.mdb, pages in use%s: %" PRIu64 " flips: %" PRIu64 " worked, %" PRIu64
           " refused, %" PRIu64 " died in LMDB, %" PRIu64 " hung\n",
           d == &t->crashed ? " after a crash" : "", n, well, refused, died, hung);
    damaged_restore_all(d);
}

int main(int argc, char **argv)
{
    static struct test t;
    static const struct {
        const char *name;
        enum array array;
        enum rule rule;
    } arrays[] = {{"state", STATE, FOUND}, {"row", ROW, ANY},     {"upper", UPPER, ANY},
                  {"tag", TAG, FOUND},     {"code", CODE, FOUND}, {"vector", VECTOR, FOUND}};
    harness_begin(&t.h, "flips", argc, argv);
    t.ward = harness_shared(sizeof *t.ward);
    bool made = damaged_make(&t.closed, t.ward, t.h.dir, false) &&
                damaged_make(&t.crashed, t.ward, t.h.dir, true);
    harness_case(&t.h, made, 0, "making: %s", t.ward->why);
    if (made) {
        span(begin(&t, "header", REFUSED, 300, 0), 0, 4096, 0);
        run(&t);
        span(begin(&t, "root", REFUSED, 200, 0), LAYOUT_ROOT_OFFSET, sizeof(struct disk_root), 0);
        run(&t);
        span(begin(&t, "live", ANY, 60, 0), LAYOUT_LIVE_OFFSET, sizeof(struct disk_live), 0);
        run(&t);
        for (uint32_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
            const uint64_t ci =
                arrays[i].array == STATE ? 0 : 10000; /* every bit: fewer than that */
            array_spans(begin(&t, arrays[i].name, arrays[i].rule, 120, ci), &t.closed,
                        arrays[i].array);
            run(&t);
        }
        run_values(&t, "meta id", "meta", "id", false, REFUSED, 100, 0);
        run_values(&t, "meta state", "meta", "state", false, REFUSED, 100, 0);
        run_values(&t, "meta state after a crash", "meta", "state", true, REFUSED, 100, 0);
        run_values(&t, "labels", "labels", NULL, false, FOUND, 120, 10000);
        run_values(&t, "log", "wal", NULL, true, REFUSED, 120, 10000);
        run_pages(&t, &t.closed, harness_count(&t.h, 40, 1000, 100000));
        run_pages(&t, &t.crashed, harness_count(&t.h, 40, 1000, 100000));
    }
    damaged_free(&t.closed);
    damaged_free(&t.crashed);
    harness_unshare(t.ward, sizeof *t.ward);
    return harness_end(&t.h);
}
