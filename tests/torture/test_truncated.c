/* test_truncated.c -- a file of a closed index ends before it should (T11).
 *
 * The data file, a sealed file and wal.mdb, cut at every 4 KiB boundary, a byte before and a byte
 * behind it.  Required:
 *   U1  never a signal or a hang, by a reader, a writer, a load, verify
 *   U2  a data file or sealed file that lacks what it must have is refused, by its name
 *   U3  wal.mdb that lacks a page LMDB counts is refused; one that lacks only room kept in reserve
 *       works as before, and says so
 *   U4  verify says the same as opening does
 *   U5  no vector is ever wrong, whatever opens
 * A log that a crash left makes no difference: it cannot bring back what lay behind the cut.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "storage/layout.h"
#include "storage/wal.h"
#include "storage/wal_env.h"
#include "tests/torture/damaged.h"

#define PAGE 4096u

enum { OPENED, TURNED_AWAY };

struct test {
    struct harness h;
    struct ward *ward;
    struct damaged closed, crashed;
    struct damaged *d; /* under way */
    struct damaged_file *file;
    const char *verified; /* path */
    enum damaged_way ways[2];
    uint64_t needed; /* no shorter file may open */
    uint64_t enough; /* any that is not shorter must */
    uint32_t step;
};

static bool cut(struct test *t, uint64_t length)
{
    /* The writer last: it may replay a log, grow the file, and make it whole again. */
    for (int i = 0; i < 2; i++) {
        bool opened = false;
        (void)snprintf(t->ward->what, sizeof t->ward->what, "%s cut to %" PRIu64 " of %zu, %s",
                       strrchr(t->file->path, '/') + 1, length, t->file->n,
                       i == 0 ? "reader or map" : "writer or copy");
        if (ftruncate(t->file->fd, (off_t)length) != 0)
            return ward_says(t->ward, "ftruncate");
        struct damaged_verdict v = {0};
        damaged_verify(t->verified, &v);
        bool sound = v.status == NAVMAP_OK && v.damaged == 0;
        if (!damaged_use(t->d, t->ways[i], &opened))
            return false;
        if (opened && length < t->needed)
            return ward_says(t->ward, "it opened, but %" PRIu64 " bytes are needed", t->needed);
        if (!opened && length >= t->enough)
            return ward_says(t->ward, "refused, but %" PRIu64 " bytes are enough: %s", t->enough,
                             navmap_error_detail());
        if ((sound && length < t->needed) || (!sound && length >= t->enough))
            return ward_says(t->ward, "verify: %s, %s", navmap_strerror(v.status), v.first);
        atomic_fetch_add(&t->ward->count[opened ? OPENED : TURNED_AWAY], 1);
        damaged_restore(t->file);
        damaged_restore_all(t->d);
    }
    return true;
}

/* Case 3 i + j: boundary i, a byte before, at, behind. */
static bool cut_all(void *ctx, struct ward *ward, uint64_t from)
{
    struct test *t = ctx;
    const uint64_t cases = 3 * (t->file->n / PAGE + 1);
    damaged_restore(t->file); /* a child that died has put nothing back */
    damaged_restore_all(t->d);
    for (uint64_t i = from; i < cases; i += t->step) {
        const int64_t length = (int64_t)(i / 3 * PAGE) + (int64_t)(i % 3) - 1;
        ward_case(ward, i);
        if (length < 0 || length >= (int64_t)t->file->n)
            continue;
        if (!cut(t, (uint64_t)length))
            return false;
        atomic_fetch_add(&ward->passed, 1);
    }
    return true;
}

/* What the root counts, and what LMDB's meta page counts. */
static uint64_t data_bytes(const struct damaged *d)
{
    struct layout l;
    struct disk_root root;
    int read_only;
    if (layout_read_header(d->data.bytes, d->data.n, d->data.path, &l, &read_only) != NAVMAP_OK)
        return 0;
    memcpy(&root, d->data.bytes + LAYOUT_ROOT_OFFSET, sizeof root);
    return layout_file_bytes(&l, extent_chunks(root.extent));
}

static uint64_t wal_bytes(const struct damaged *d)
{
    struct wal *w = NULL;
    uint64_t need = 0, size = 0;
    if (wal_peek_open(d->path, &w) != NAVMAP_OK)
        return 0;
    if (wal_length(w, &need, &size) != NAVMAP_OK)
        need = 0;
    wal_peek_close(w);
    return need;
}

static void run(struct test *t, const char *name, struct damaged *d, struct damaged_file *file,
                uint64_t needed, uint64_t enough, uint64_t round)
{
    const bool sealed = file == &d->sealed;
    uint64_t was = t->h.passed;
    if (!harness_wants(&t->h, round))
        return;
    t->d = d;
    t->file = file;
    t->needed = needed;
    t->enough = enough;
    t->verified = sealed ? file->path : d->path;
    t->ways[0] = sealed ? AS_MAPPED : AS_READER;
    t->ways[1] = sealed ? AS_COPY : AS_WRITER;
    atomic_store(&t->ward->count[OPENED], 0);
    atomic_store(&t->ward->count[TURNED_AWAY], 0);
    double began = harness_now();
    harness_case(&t->h, enough > 0, round, "%s: no length", name);
    ward_run(&t->h, t->ward, name, round, harness_round_seed(&t->h, round) % t->step, cut_all, t);
    printf("  %s of %zu bytes: %" PRIu64 " lengths; opened %" PRIu64 " times, refused %" PRIu64
           "; %.1f s\n",
           name, file->n, t->h.passed - was, atomic_load(&t->ward->count[OPENED]),
           atomic_load(&t->ward->count[TURNED_AWAY]), harness_now() - began);
}

int main(int argc, char **argv)
{
    static struct test t;
    harness_begin(&t.h, "truncated", argc, argv);
    t.step = t.h.budget ? (uint32_t)t.h.budget : t.h.tier == TIER_TEST ? 13 : 1;
    if (t.h.shrink)
        t.step *= 4;
    t.ward = harness_shared(sizeof *t.ward);
    bool made = damaged_make(&t.closed, t.ward, t.h.dir, false) &&
                damaged_make(&t.crashed, t.ward, t.h.dir, true);
    harness_case(&t.h, made, 0, "making: %s", t.ward->why);
    if (made) {
        struct damaged *c = &t.closed, *x = &t.crashed;
        run(&t, "data file", c, &c->data, data_bytes(c), data_bytes(c), 1);
        run(&t, "sealed file", c, &c->sealed, c->sealed.n, c->sealed.n, 2);
        run(&t, "wal.mdb", c, &c->wal, wal_bytes(c), wal_bytes(c), 3);
        run(&t, "data file after a crash", x, &x->data, data_bytes(x), data_bytes(x), 4);
        run(&t, "wal.mdb after a crash", x, &x->wal, wal_bytes(x), wal_bytes(x), 5);
    }
    damaged_free(&t.closed);
    damaged_free(&t.crashed);
    harness_unshare(t.ward, sizeof *t.ward);
    return harness_end(&t.h);
}
