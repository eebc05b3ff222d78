/* test_sync_fail.c -- a sync fails, and the kernel forgets what it could not write (T7).
 *
 * The n-th sync of a recorded life reports EIO: fdatasync and fsync of either file, msync of
 * payloads, LMDB's O_DSYNC meta write, fsync of a directory.  What was not durable is then clean
 * (R3): no later sync writes it unless it is stored again.  Required:
 *   F1  the writer says so and is poisoned: every later mutation is NAVMAP_EPOISONED
 *   F2  searches go on over whole pairs, and each acknowledged label is there
 *   F3  reopening in the same page cache heals: exactly a commit, nothing acknowledged lost
 *   F4  the same with the unwritten pages read back from disk first, and for a power cut at any
 *       effect behind the failure, during the healing and in the life after it
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "storage/fail.h"
#include "tests/support/harness.h"
#include "tests/support/images.h"
#include "tests/support/life.h"
#include "tests/support/oracle.h"
#include "tests/support/scan.h"

#define STEPS 30u
#define STEPS_AFTER 8u

enum site { SITE_DATA, SITE_MSYNC, SITE_LMDB, SITE_META, SITE_META_WRITTEN, SITE_DIR, SITES };
static const char *const site_names[SITES] = {"data file", "payload msync",      "LMDB data",
                                              "LMDB meta", "LMDB meta, written", "directory"};

struct test {
    struct harness h;
    struct life life;
    struct oracle *healed, *second;
    struct images *images;
    char image_dir[300];
    uint32_t nth, seen;
    bool armed, fired, written; /* written: the meta write is done, its sync is not */
    bool attended;
    struct store *reader;
    enum site site;
    uint64_t by_site[SITES], poisoned, images_checked, unnoticed;
};

static void fire(struct test *t, enum site site)
{
    t->fired = true;
    t->armed = false;
    t->site = site;
}

static bool is_sync(const struct sys_event *e)
{
    return e->kind == SYS_FSYNC || e->kind == SYS_FDATASYNC || e->kind == SYS_MSYNC ||
           (e->kind == SYS_WRITE && (e->flags & O_DSYNC));
}

static enum site site_of(const struct sys_event *e)
{
    if (e->kind == SYS_MSYNC)
        return SITE_MSYNC;
    if (e->kind == SYS_WRITE)
        return SITE_META;
    if (e->flags & O_DIRECTORY)
        return SITE_DIR;
    return strstr(e->path, "wal.mdb") ? SITE_LMDB : SITE_DATA;
}

static int before(void *ctx, const struct sys_event *e)
{
    struct test *t = ctx;
    if (!is_sync(e) || !t->armed || ++t->seen != t->nth)
        return 0;
    if (e->kind == SYS_WRITE && t->written)
        return 0; /* `after` fails it */
    fire(t, site_of(e));
    return EIO;
}

static int after(void *ctx, const struct sys_event *e, int64_t result)
{
    struct test *t = ctx;
    (void)result;
    if (e->kind != SYS_WRITE || !(e->flags & O_DSYNC) || !t->armed || t->seen != t->nth)
        return 0;
    fire(t, SITE_META_WRITTEN);
    return EIO;
}

static bool no(char *why, size_t n, const char *text)
{
    (void)snprintf(why, n, "%s: %s", text, navmap_error_detail());
    return false;
}

/* F1, F2 on the handle that has just failed. */
static bool check_poisoned(struct test *t, char *why, size_t n)
{
    struct store *s = t->life.workload.store;
    struct scan scan;
    struct rng rng = {t->nth};
    struct store_stats stats;
    navmap_status begun = store_write_begin(s, 1);
    if (begun == NAVMAP_OK)
        store_write_end(s);
    if (begun != NAVMAP_EPOISONED)
        return no(why, n, "F1: a mutation was not refused");
    bool full = t->life.workload.options.durability == STORE_FULL; /* manual: settle does nothing */
    if ((full && store_settle(s) != NAVMAP_EPOISONED) || store_flush(s) != NAVMAP_EPOISONED)
        return no(why, n, "F1: settle or flush was not refused");
    if (store_stats_read(s, &stats) != NAVMAP_OK || !stats.poisoned)
        return no(why, n, "F1: stats do not say it");
    scan_begin(&scan, s);
    bool ok = scan_query(&scan, NULL, &rng, why, n);
    scan_end(&scan);
    uint64_t lsn = store_last_lsn(s);
    t->poisoned++;
    return ok &&
           oracle_check(t->life.oracle, s, lsn, atomic_load(&t->life.oracle->acked_lsn), why, n);
}

/* A reader of this very process keeps the environment in being, over the failure and the healing:
 * who opens next must not get it as it is. */
static void attend(struct test *t)
{
    struct store_options options = {STORE_FULL, 10.0, 0};
    float v[512];
    if (store_open(t->life.path, STORE_READ, &options, &t->reader) == NAVMAP_OK &&
        t->life.workload.options.dim <= 512)
        (void)!store_get(t->reader, truth_label(0), v);
}

/* The life up to the failure and over it; *ret_status is what the failing call said. */
static navmap_status live_until_failure(struct test *t)
{
    TRY(life_create(&t->life));
    if (t->attended)
        attend(t);
    for (uint32_t i = 0; i < STEPS && !t->fired; i++)
        TRY(workload_step(&t->life.workload));
    return NAVMAP_OK;
}

/* A copy of what may be recovered before healing overwrites the notes of lost commits. */
static void keep_oracle(struct oracle *to, const struct oracle *from)
{
    uint64_t lsn = atomic_load(&from->noted_lsn);
    uint32_t n = atomic_load(&from->n_begun);
    oracle_reset(to);
    (void)memcpy(to->notes, from->notes, (lsn + 1) * sizeof to->notes[0]);
    (void)memcpy(to->ops, from->ops, n * sizeof to->ops[0]);
    atomic_store(&to->noted_lsn, lsn);
    atomic_store(&to->n_begun, n);
    atomic_store(&to->n_staged, n);
    atomic_store(&to->acked_lsn, atomic_load(&from->acked_lsn));
}

/* One image of the trace at a position. */
static bool check_image(struct test *t, struct disk *d, size_t position, enum style style,
                        const struct oracle *oracle, struct life_mark mark, uint64_t seed,
                        char *why, size_t n)
{
    char what[600] = "";
    struct life_check check = {.oracle = oracle,
                               .options = &t->life.workload.options,
                               .mark = mark,
                               .seed = seed,
                               .verify = seed % 3 == 0,
                               .go_on = seed % 7 == 0 ? 5 : 0,
                               .second = t->second};
    uint64_t lsn;
    disk_advance(d, position);
    images_write(t->images, d, style, seed);
    t->images_checked++;
    if (life_recover(&check, t->image_dir, &lsn, what, sizeof what))
        return true;
    (void)snprintf(why, n, "F4: image before effect %zu of %zu, un-synced %s: %s", position,
                   t->life.trace.n, style_names[style], what);
    return false;
}

struct moments {
    size_t failed, closed, healed, end; /* trace positions */
};

/* F4.  Before `healed` the old notes hold, from then on the new ones. */
static bool check_images(struct test *t, const struct moments *m, uint64_t seed, char *why,
                         size_t n)
{
    struct rng rng = {seed};
    struct disk *d = disk_new(&t->life.trace);
    struct oracle *old = t->healed, *now = t->life.oracle;
    struct life_mark before = {0, atomic_load(&old->acked_lsn), atomic_load(&old->noted_lsn), true};
    bool ok = true;
    size_t span = m->healed - m->failed;
    for (size_t i = 0; i < 4 && ok && span > 0; i++)
        ok = check_image(t, d, m->failed + span * i / 4 + rng_below(&rng, (span + 3) / 4),
                         (enum style)rng_below(&rng, STYLES), old, before, rng_next(&rng), why, n);
    /* What the healing open left behind is durable: nothing un-synced is needed. */
    for (int i = 0; i < 2 && ok; i++)
        ok = check_image(t, d, m->healed, i == 0 ? STYLE_NONE : STYLE_SECTORS, now,
                         life_mark_at(&t->life, m->healed), rng_next(&rng), why, n);
    span = m->end - m->healed;
    for (size_t i = 0; i < 4 && ok && span > 0; i++) {
        size_t at = m->healed + span * i / 4 + rng_below(&rng, (span + 3) / 4);
        ok = check_image(t, d, at, (enum style)rng_below(&rng, STYLES), now,
                         life_mark_at(&t->life, at), rng_next(&rng), why, n);
    }
    disk_free(d);
    return ok;
}

/* F4 without a power cut: the lost pages are read back from disk, then the index is opened. */
static bool check_evicted(struct test *t, size_t closed, uint64_t seed, char *why, size_t n)
{
    struct disk *d = disk_new(&t->life.trace);
    struct life_mark mark = {0, atomic_load(&t->healed->acked_lsn),
                             atomic_load(&t->healed->noted_lsn), true};
    bool ok = check_image(t, d, closed, STYLE_ALL, t->healed, mark, seed, why, n);
    disk_free(d);
    return ok;
}

static bool heal(struct test *t, struct moments *m, char *why, size_t n)
{
    struct life *l = &t->life;
    struct oracle *o = l->oracle;
    m->closed = recorder_position(l->recorder);
    keep_oracle(t->healed, o);
    navmap_status status = workload_open(&l->workload, false);
    if (status != NAVMAP_OK)
        return no(why, n, "F3: reopening");
    uint64_t lsn = store_last_lsn(l->workload.store);
    if (!oracle_check(o, l->workload.store, lsn, atomic_load(&o->acked_lsn), why, n))
        return false;
    workload_drop(&l->workload);
    /* From here on commits get the numbers of those that were lost. */
    oracle_rewind(o, lsn);
    l->workload.on_event(l->workload.on_event_ctx);
    m->healed = recorder_position(l->recorder);
    status = workload_open(&l->workload, false);
    for (uint32_t i = 0; i < STEPS_AFTER && status == NAVMAP_OK; i++)
        status = workload_step(&l->workload);
    return status == NAVMAP_OK || no(why, n, "F3: working after the reopening");
}

/* A create that failed leaves nothing, or (when the last sync failed) a whole, empty index. */
static bool after_failed_create(struct test *t, char *why, size_t n)
{
    struct store *s = NULL;
    struct store_options options = {STORE_FULL, 10.0, 0};
    navmap_status status = store_open(t->life.path, STORE_WRITE, &options, &s);
    if (status == NAVMAP_ENOINDEX)
        return true;
    if (status != NAVMAP_OK)
        return no(why, n, "what a failed create left does not open");
    bool empty = store_last_lsn(s) == 0;
    status = store_close(s);
    return (empty && status == NAVMAP_OK) || no(why, n, "what a failed create left is not empty");
}

static bool after_failure(struct test *t, navmap_status said, struct moments *m, char *why,
                          size_t n)
{
    struct workload *w = &t->life.workload;
    if (!t->life.created)
        return said != NAVMAP_OK ? after_failed_create(t, why, n)
                                 : no(why, n, "F1: create did not notice");
    if (said == NAVMAP_OK && t->site != SITE_DIR) {
        (void)snprintf(why, n, "F1: the failed sync was not noticed");
        return false;
    }
    if (w->store && !check_poisoned(t, why, n))
        return false;
    workload_drop(w);
    return heal(t, m, why, n);
}

/* One life with its n-th sync failing; false when there were fewer. */
static bool one(struct test *t, uint64_t round, uint32_t nth, bool written, uint64_t life_seed)
{
    char why[800] = "";
    struct workload_options options =
        workload_draw(life_seed, life_seed & 1 ? STORE_MANUAL : STORE_FULL);
    struct injector injector = {t, before, after};
    struct moments m = {0, 0, 0, 0};
    t->nth = nth;
    t->written = written;
    t->seen = 0;
    t->fired = false;
    t->armed = true;
    t->attended = (life_seed >> 1) % 2 == 0;
    life_begin(&t->life, &options, life_seed, &injector);
    navmap_status said = live_until_failure(t);
    t->armed = false;
    bool ok = true;
    if (t->fired) {
        m.failed = recorder_position(t->life.recorder);
        ok = after_failure(t, said, &m, why, sizeof why);
        t->by_site[t->site]++;
    } else if (said != NAVMAP_OK) {
        ok = no(why, sizeof why, "a life without a fault failed");
    }
    if (store_close(t->reader) != NAVMAP_OK && ok)
        ok = no(why, sizeof why, "closing the reader");
    t->reader = NULL;
    m.end = recorder_position(t->life.recorder);
    life_end(&t->life);
    if (t->life.workload.store)
        workload_drop(&t->life.workload);
    if (ok && t->fired && m.healed > 0)
        ok = check_evicted(t, m.closed, mix64(life_seed + nth), why, sizeof why) &&
             check_images(t, &m, mix64(life_seed + 3 * nth), why, sizeof why);
    if (t->fired || !ok)
        harness_case(&t->h, ok, round, "sync %u of a life failed (%s), mode %s: %s", nth,
                     site_names[t->site], options.durability == STORE_FULL ? "full" : "manual",
                     why);
    return t->fired;
}

int main(int argc, char **argv)
{
    static struct test t;
    char root[300];
    harness_begin(&t.h, "sync_fail", argc, argv);
    uint64_t lives = harness_count(&t.h, 12, 60, 2000);
    uint32_t step = t.h.tier == TIER_TEST ? 3 : 1;
    (void)snprintf(root, sizeof root, "%s/life", t.h.dir);
    (void)snprintf(t.image_dir, sizeof t.image_dir, "%s/image", t.h.dir);
    life_init(&t.life, root);
    t.healed = oracle_new();
    t.second = oracle_new();
    t.images = images_new(t.image_dir);
    harness_case(&t.h, interpose_works(t.h.dir), 0, "LMDB's system calls are not seen");
    for (uint64_t life = 0; life < lives && t.h.failed < 10; life++) {
        uint64_t seed = harness_round_seed(&t.h, life);
        bool more = harness_wants(&t.h, life);
        for (uint32_t nth = 1 + (uint32_t)(life % step); more && t.h.failed < 10; nth += step)
            more = one(&t, life, nth, mix64(seed + nth) & 1, seed);
    }
    printf("%" PRIu64 " handles poisoned, %" PRIu64 " images recovered\n", t.poisoned,
           t.images_checked);
    for (int i = 0; i < SITES; i++) {
        printf("  failing sync of %s: %" PRIu64 "\n", site_names[i], t.by_site[i]);
        harness_case(&t.h, t.by_site[i] > 0 || t.h.only >= 0 || t.h.shrink, 0,
                     "no sync of %s was made to fail", site_names[i]);
    }
    images_free(t.images);
    oracle_free(t.healed);
    oracle_free(t.second);
    life_free(&t.life);
    return harness_end(&t.h);
}
