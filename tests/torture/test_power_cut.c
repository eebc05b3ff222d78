/* test_power_cut.c -- images of a disk whose power went at any effect of a random life (T3).
 *
 * A life of an index is recorded, LMDB's writes included.  For a cut behind any effect, with the
 * un-synced rest missing in one of eight styles, the image is written out, recovered in process
 * and compared with what the oracle noted: the recovered state must be exactly a commit, not older
 * than what had been acknowledged at the cut (E1..E5).  Recovery is itself recorded for some of the
 * images and cut again, two deep.  Some cuts are preceded by kill -9, with the power going while
 * the next process recovers; some lives commit in the middle of their checkpoints.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "storage/fail.h"
#include "tests/support/harness.h"
#include "tests/support/images.h"
#include "tests/support/life.h"
#include "tests/support/oracle.h"

#define STEPS 45u
#define NESTED_ONE_IN 8u
#define KILLED_ONE_IN 10u
#define VERIFY_ONE_IN 16u
#define GO_ON_ONE_IN 48u
#define DEPTH 3

struct test {
    struct harness h;
    struct oracle *second; /* for lives that go on after recovery */
    struct images *images[DEPTH];
    char dirs[DEPTH][300];
    uint64_t by_style[STYLES], by_phase[KP_COUNT], beside, nested, verified, killed_then_cut,
        went_on, recovered_newer;
};

/* Record one life. */
static bool record(struct test *t, struct life *l, uint64_t round)
{
    uint64_t seed = harness_round_seed(&t->h, round);
    char why[600] = "";
    struct workload_options options = workload_draw(seed, round % 2 ? STORE_MANUAL : STORE_FULL);
    l->commits_beside = round % 4 == 0;
    if (l->commits_beside) { /* checkpoints come by flush and close only */
        options.dim = 4;
        options.ckpt_bytes = 1 << 20;
    }
    life_begin(l, &options, mix64(seed), NULL);
    navmap_status status = life_create(l);
    for (uint32_t i = 0; i < STEPS && status == NAVMAP_OK; i++)
        status = workload_step(&l->workload);
    life_end(l);
    t->beside += l->beside;
    l->beside = 0;
    harness_case(&t->h, status == NAVMAP_OK, round, "the recorded life failed: %s",
                 navmap_error_detail());
    bool match = status == NAVMAP_OK && images_match(&l->trace, l->root, why, sizeof why);
    if (status == NAVMAP_OK)
        harness_case(&t->h, match, round, "R1: %s", why);
    workload_drop(&l->workload);
    return match;
}

static bool recover(struct test *t, const struct life *l, const char *root, struct life_mark mark,
                    uint64_t seed, char *why, size_t n)
{
    struct life_check check = {.oracle = l->oracle,
                               .options = &l->workload.options,
                               .mark = mark,
                               .seed = seed,
                               .verify = seed % VERIFY_ONE_IN == 0,
                               .go_on = seed % GO_ON_ONE_IN == 0 ? 6 : 0,
                               .second = t->second};
    uint64_t lsn;
    bool ok = life_recover(&check, root, &lsn, why, n);
    t->verified += check.verify;
    t->went_on += check.go_on > 0;
    t->recovered_newer += lsn > mark.acked;
    return ok;
}

/* Record the recovery of the image at depth `depth`, cut it at random, check the image of that;
 * one deeper now and then. */
static bool nest(struct test *t, const struct life *l, int depth, struct life_mark mark,
                 uint64_t seed, char *why, size_t n)
{
    struct rng rng = {mix64(seed + 5)};
    struct trace trace;
    char path[320];
    struct store *s = NULL;
    struct store_options options = {STORE_FULL, 10.0, l->workload.options.ckpt_bytes};
    (void)snprintf(path, sizeof path, "%s/idx", t->dirs[depth]);
    struct recorder *r = recorder_start(t->dirs[depth], NULL, NULL, NULL);
    navmap_status status = store_open(path, STORE_WRITE, &options, &s);
    recorder_stop(r, &trace);
    if (status == NAVMAP_OK)
        status = store_close(s);
    bool ok = status == NAVMAP_OK || (status == NAVMAP_ENOINDEX && !mark.created);
    if (!ok)
        (void)snprintf(why, n, "depth %d: open: %s", depth, navmap_error_detail());
    for (int i = 0; i < 2 && ok && trace.n > 0; i++) {
        struct disk *d = disk_new(&trace);
        disk_advance(d, rng_below(&rng, trace.n + 1));
        enum style style = (enum style)rng_below(&rng, STYLES);
        images_write(t->images[depth + 1], d, style, rng_next(&rng));
        t->nested++;
        disk_free(d);
        if (depth + 2 < DEPTH && rng_one_in(&rng, 3))
            ok = nest(t, l, depth + 1, mark, rng_next(&rng), why, n);
        else
            ok = recover(t, l, t->dirs[depth + 1], mark, rng_next(&rng), why, n);
    }
    trace_free(&trace);
    return ok;
}

/* kill -9, then the power goes while the next process recovers: what the dead one had written but
 * not synced is in the page cache that recovery reads, and may still be lost. */
static bool kill_then_cut(struct test *t, const struct life *l, size_t position,
                          struct life_mark mark, uint64_t seed, char *why, size_t n)
{
    struct rng rng = {mix64(seed + 6)};
    struct trace trace;
    char path[320];
    struct store *s = NULL;
    struct store_options options = {STORE_FULL, 10.0, l->workload.options.ckpt_bytes};
    (void)snprintf(path, sizeof path, "%s/idx", t->dirs[0]);
    struct recorder *r = recorder_continue(t->dirs[0], &l->trace, position);
    navmap_status status = store_open(path, STORE_WRITE, &options, &s);
    recorder_stop(r, &trace);
    if (status == NAVMAP_OK)
        status = store_close(s);
    bool ok = status == NAVMAP_OK || (status == NAVMAP_ENOINDEX && !mark.created);
    if (!ok)
        (void)snprintf(why, n, "after kill -9: open: %s", navmap_error_detail());
    for (int i = 0; i < 3 && ok; i++) {
        struct disk *d = disk_new(&trace);
        disk_advance(d, position + rng_below(&rng, trace.n - position + 1));
        images_write(t->images[1], d, (enum style)rng_below(&rng, STYLES), rng_next(&rng));
        disk_free(d);
        t->killed_then_cut++;
        ok = recover(t, l, t->dirs[1], mark, rng_next(&rng), why, n);
    }
    trace_free(&trace);
    return ok;
}

/* Between LMDB's meta write and its sync: the commit is in the page cache, and only there. */
static bool meta_unsynced(const struct trace *trace, size_t position)
{
    if (position == 0 || position >= trace->n)
        return false;
    const struct effect *a = &trace->effects[position - 1], *b = &trace->effects[position];
    return a->kind == EFFECT_WRITE && b->kind == EFFECT_SYNC_RANGE && a->node == b->node &&
           a->off == b->off;
}

static void one_image(struct test *t, const struct life *l, const struct disk *d, size_t position,
                      uint64_t round, struct rng *rng)
{
    char why[600] = "";
    enum style style = (enum style)rng_below(rng, disk_clean(d) ? 1 : STYLES);
    uint64_t seed = rng_next(rng);
    struct life_mark mark = life_mark_at(l, position);
    bool killed = seed % (meta_unsynced(&l->trace, position) ? 2 : KILLED_ONE_IN) == 1;
    if (killed)
        style = STYLE_ALL;
    images_write(t->images[0], d, style, seed);
    t->by_style[style]++;
    t->by_phase[disk_phase(d)]++;
    bool ok;
    if (killed)
        ok = kill_then_cut(t, l, position, mark, seed, why, sizeof why);
    else if (seed % NESTED_ONE_IN == 3)
        ok = nest(t, l, 0, mark, seed, why, sizeof why);
    else
        ok = recover(t, l, t->dirs[0], mark, seed, why, sizeof why);
    harness_case(&t->h, ok, round, "cut before effect %zu of %zu (step %s), un-synced: %s: %s",
                 position, l->trace.n, io_kill_point_names[disk_phase(d)], style_names[style], why);
}

/* Between two stores of one apply: most of the boundaries, and much alike. */
static bool dull(const struct trace *trace, size_t position)
{
    if (position == 0 || position >= trace->n)
        return false;
    const struct effect *a = &trace->effects[position - 1], *b = &trace->effects[position];
    return a->kind == EFFECT_WRITE && b->kind == EFFECT_WRITE && b->phase >= KP_P0 &&
           b->phase <= KP_P4;
}

/* Images of one life at every boundary, or at `images` of them, dull ones less often. */
static void cut(struct test *t, const struct life *l, uint64_t round, uint64_t images)
{
    struct rng rng = {harness_round_seed(&t->h, round) + 1};
    struct disk *d = disk_new(&l->trace);
    uint64_t weight = 0, taken = 0;
    bool all = images > l->trace.n;
    for (size_t at = 0; at <= l->trace.n; at++)
        weight += dull(&l->trace, at) ? 1 : 6;
    for (size_t at = 0; at <= l->trace.n; at++) {
        uint64_t chance = dull(&l->trace, at) ? 1 : 6;
        if (!all && rng_below(&rng, weight) >= chance * images)
            continue;
        if (taken++ >= images)
            break;
        disk_advance(d, at);
        one_image(t, l, d, at, round, &rng);
    }
    disk_free(d);
}

static void report(const struct test *t, uint64_t images)
{
    uint32_t phases = 0;
    for (int i = 0; i < KP_COUNT; i++)
        phases += t->by_phase[i] > 0;
    printf("%" PRIu64 " images; recovery cut again %" PRIu64 " times; verified %" PRIu64
           "; went on %" PRIu64 "; newer than acknowledged %" PRIu64 "; cuts in %u steps\n",
           images, t->nested, t->verified, t->went_on, t->recovered_newer, phases);
    printf("%" PRIu64 " cuts while recovering from kill -9; %" PRIu64
           " commits in the middle of a checkpoint\n",
           t->killed_then_cut, t->beside);
    for (int i = 0; i < STYLES; i++)
        printf("  un-synced %s: %" PRIu64 "\n", style_names[i], t->by_style[i]);
    for (int i = 0; i < KP_COUNT && t->h.verbose; i++)
        printf("  behind %s: %" PRIu64 "\n", io_kill_point_names[i], t->by_phase[i]);
}

int main(int argc, char **argv)
{
    static struct test t;
    static struct life life;
    harness_begin(&t.h, "power_cut", argc, argv);
    uint64_t images = harness_count(&t.h, 2000, 50000, 1000000);
    /* Small runs sample many lives, large ones visit every boundary. */
    uint64_t per_life = t.h.tier == TIER_TEST ? 250 : UINT64_MAX;
    char root[300];
    (void)snprintf(root, sizeof root, "%s/life", t.h.dir);
    life_init(&life, root);
    t.second = oracle_new();
    for (int i = 0; i < DEPTH; i++) {
        (void)snprintf(t.dirs[i], sizeof t.dirs[i], "%s/cut%d", t.h.dir, i);
        t.images[i] = images_new(t.dirs[i]);
    }
    harness_case(&t.h, interpose_works(t.h.dir), 0, "LMDB's system calls are not seen");
    uint64_t done = 0;
    for (uint64_t round = 0; done < images && t.h.failed == 0; round++) {
        if (!harness_wants(&t.h, round)) {
            if ((int64_t)round > t.h.only)
                break;
            continue;
        }
        if (record(&t, &life, round)) {
            uint64_t left = images - done;
            cut(&t, &life, round, per_life < left ? per_life : left);
        }
        done = 0;
        for (int i = 0; i < STYLES; i++)
            done += t.by_style[i];
    }
    report(&t, done);
    for (int i = 0; i < DEPTH; i++)
        images_free(t.images[i]);
    life_free(&life);
    oracle_free(t.second);
    return harness_end(&t.h);
}
