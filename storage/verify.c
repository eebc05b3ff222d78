/* verify.c -- the check of an index from outside: its order, its findings, and store_inspect.
 *
 * What is read, in this order: LMDB's meta records and the header (opening the ground), ROOT and
 * the words around it, the log, then with the full check every slot, every row, every label.
 * verify.h tells what the check stands on and when a finding is certain.
 *
 * Damage is a finding and the call succeeds; only what kept the check from running is a failure.
 * Damage without which nothing else can be judged (header, bounds of ROOT, a log that recovery
 * would refuse) ends the check after its finding.
 */
#include "storage/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"
#include "storage/handle.h"
#include "storage/io.h"

/* How often a suspicion is looked at again while a writer is busy; the pauses add up to about
 * two seconds, hundreds of times what an apply takes. */
#define SETTLE_TRIES 120
#define SETTLE_TRIES_STUCK 3
#define LOOK_TRIES 3
#define PAUSE_FIRST_NS 20000
#define PAUSE_LAST_NS 20000000

void verify_emit(struct verify *v, bool warning, const struct finding *f)
{
    if (warning)
        v->counts.warnings++;
    else
        v->counts.damaged++;
    if (v->how.report == NULL)
        return;
    verify_txn_end(v); /* no transaction and no lock while the caller's code runs */
    lock_opening_release(&v->lock);
    struct store_finding out = {warning, f->section, f->slot, f->offset, f->message};
    v->how.report(v->how.ctx, &out);
}

#define STEPS 256u /* between two looks at the caller's progress function */

navmap_status verify_step(struct verify *v)
{
    if (v->how.progress == NULL || v->done++ % STEPS != 0)
        return NAVMAP_OK;
    verify_txn_end(v);
    lock_opening_release(&v->lock);
    const uint64_t done = v->done - 1 < v->total ? v->done - 1 : v->total;
    if (v->how.progress(v->how.progress_ctx, done, v->total) == 0)
        return NAVMAP_OK;
    return fail(NAVMAP_EINTERRUPTED, "%s: the check was called off", v->path);
}

static bool tells_damage(navmap_status status)
{
    /* NAVMAP_EPOISONED comes from LMDB here: it found its own file inconsistent. */
    return status == NAVMAP_ECORRUPT || status == NAVMAP_EPOISONED;
}

navmap_status verify_damage(struct verify *v, navmap_status status, const char *section,
                            uint64_t offset)
{
    if (!tells_damage(status) || v->strict)
        return status;
    struct finding f = {.moving = false};
    (void)finding_bad(&f, section, 0, offset, "%s", navmap_error_detail());
    verify_emit(v, false, &f);
    v->stop = true;
    return NAVMAP_OK;
}

static void pause_ns(long ns)
{
    const struct timespec t = {0, ns};
    (void)nanosleep(&t, NULL);
}

/* An apply that never ends: the writer was stopped in it.  Said once; what it may explain is not
 * reported from here on. */
static void report_stuck(struct verify *v)
{
    if (v->writer_stuck)
        return;
    v->writer_stuck = true;
    struct finding f = {.moving = false};
    (void)finding_bad(&f, "live", 0, LAYOUT_LIVE_OFFSET,
                      "the writer never paused, or was stopped within a commit: differences that "
                      "this may explain are not reported; run again later");
    verify_emit(v, true, &f);
}

navmap_status verify_settle(struct verify *v, verify_check *check, uint64_t what)
{
    struct finding f = {.moving = false};
    if (check(v, what, &f))
        return NAVMAP_OK;
    long pause = PAUSE_FIRST_NS;
    int tries = v->writer_stuck ? SETTLE_TRIES_STUCK : SETTLE_TRIES;
    for (int i = 0; i < tries; i++) {
        struct moment m;
        TRY(verify_moment_begin(v, &m));
        if (v->stop)
            return NAVMAP_OK; /* the ground changed, and the new one is damaged */
        f.moving = false;
        if (check(v, what, &f))
            return NAVMAP_OK;
        if (!m.held && !f.moving && verify_moment_held(v, &m)) {
            verify_emit(v, false, &f);
            return NAVMAP_OK;
        }
        pause_ns(pause);
        pause = pause * 2 < PAUSE_LAST_NS ? pause * 2 : PAUSE_LAST_NS;
    }
    report_stuck(v);
    return NAVMAP_OK;
}

/* The log that a crash left: not damage, but whoever reads the report should know. */
static void report_replayed(struct verify *v)
{
    struct finding f = {.moving = false};
    (void)finding_bad(&f, "log", 0, UINT64_MAX,
                      "commits %" PRIu64 "..%" PRIu64 " (%" PRIu64
                      " bytes of log) await recovery by the next open; everything was checked as "
                      "recovery will leave it",
                      v->state.ckpt_lsn + 1, v->state.last_lsn, v->state.wal_bytes);
    verify_emit(v, true, &f);
}

/* Let the caller look, on ground that was the same before and after. */
static navmap_status show(struct verify *v)
{
    for (int i = 0; i < LOOK_TRIES; i++) {
        struct moment m;
        TRY(verify_moment_begin(v, &m));
        if (v->stop)
            return NAVMAP_OK;
        v->how.look(v->how.ctx, v->view);
        if (v->ground == GROUND_LIVE || verify_moment_held(v, &m))
            break;
    }
    return NAVMAP_OK;
}

#define WALKS 3u /* slots, rows, labels */

static navmap_status run(struct verify *v)
{
    TRY(verify_ground_open(v));
    if (v->stop)
        return NAVMAP_OK;
    if (v->ground == GROUND_REPLAYED)
        report_replayed(v);
    TRY(verify_room(v));
    TRY(verify_root(v));
    if (!v->stop)
        TRY(verify_log(v));
    if (v->stop || v->how.quick)
        return NAVMAP_OK;
    v->nslots = verify_extent_slots(v);
    v->total = WALKS * (uint64_t)v->nslots;
    TRY(verify_cells(v));
    if (!v->stop)
        TRY(verify_labels(v));
    return v->stop || v->how.look == NULL ? NAVMAP_OK : show(v);
}

static navmap_status open_lock(struct verify *v)
{
    TRY(io_check_fs(v->path));
    return lock_open(v->path, false, &v->lock);
}

static void end(struct verify *v)
{
    verify_ground_close(v);
    lock_close(&v->lock);
    free(v->owner);
    free(v->stamp);
    free(v->bad);
    free(v->labelled);
}

navmap_status store_verify_look(const char *path, const struct store_verify_how *how,
                                struct store_verify_counts *ret_counts)
{
    struct verify v = {.path = path, .how = *how, .lock.fd = -1};
    navmap_status status = open_lock(&v);
    if (status == NAVMAP_OK)
        status = run(&v);
    end(&v);
    if (status == NAVMAP_OK)
        *ret_counts = v.counts;
    return status;
}

navmap_status store_verify(const char *path, bool quick, store_report *report, void *ctx,
                           struct store_verify_counts *ret_counts)
{
    const struct store_verify_how how = {.quick = quick, .report = report, .ctx = ctx};
    return store_verify_look(path, &how, ret_counts);
}

/* Inspecting: the same ground, a read handle on it for as long as its numbers are read. */
static navmap_status read_stats(struct verify *v, struct store_stats *ret_stats)
{
    const struct store_options options = {.durability = STORE_FULL};
    struct store *s = store_new(v->path, STORE_READ, &options);
    if (s == NULL)
        return fail(NAVMAP_ENOMEM, "%s: no memory to inspect the index", v->path);
    s->stays = true;
    s->view = v->view;
    view_ref(s->view);
    s->lock = v->lock;
    v->lock.fd = -1;
    struct store_stats stats;
    navmap_status status = store_stats_read(s, &stats);
    store_destroy(s);
    TRY(status);
    stats.last_lsn = v->state.last_lsn;
    stats.ckpt_lsn = v->state.ckpt_lsn;
    stats.wal_bytes = v->state.wal_bytes;
    *ret_stats = stats;
    return NAVMAP_OK;
}

static navmap_status inspect(struct verify *v, struct layout *ret_layout,
                             struct store_stats *ret_stats)
{
    TRY(verify_ground_open(v));
    if (v->stop) /* before anything was mapped */
        return fail(NAVMAP_ECORRUPT,
                    "%s: data file and log do not belong together; run navmap verify", v->path);
    TRY(verify_room(v));
    TRY(verify_root(v));
    if (v->counts.damaged > 0)
        return fail(NAVMAP_ECORRUPT, "%s: the root does not hold; run navmap verify", v->path);
    *ret_layout = v->view->layout;
    return read_stats(v, ret_stats);
}

navmap_status store_inspect(const char *path, struct layout *ret_layout,
                            struct store_stats *ret_stats)
{
    struct verify v = {.path = path, .how.quick = true, .strict = true, .lock.fd = -1};
    navmap_status status = open_lock(&v);
    if (status == NAVMAP_OK)
        status = inspect(&v, ret_layout, ret_stats);
    end(&v);
    return status;
}
