/* test_kill_points.c -- the process dies at every named step, and at LMDB's own (T2).
 *
 * Each point x both durability modes x {its first hit, a random one}.  A profile run with the same
 * seed counts the hits beforehand.  Steps of create and of recovery have preludes of their own.  A
 * reader process lives through half of the deaths.  A point that is never reached fails.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "storage/fail.h"
#include "tests/support/aftermath.h"
#include "tests/support/harness.h"
#include "tests/support/interpose.h"
#include "tests/support/oracle.h"
#include "tests/support/workload.h"

#define STEPS 60u
#define LONG_LOG_COMMITS 8400u /* more frames than a slice of K3 deletes */

/* Steps inside LMDB, which know nothing of io.h. */
enum lmdb_point { LMDB_PAGES = KP_COUNT, LMDB_SYNCED, LMDB_META_BEFORE, LMDB_META, POINTS };
static const char *const lmdb_names[] = {"LMDB_PAGES", "LMDB_SYNCED", "LMDB_META_BEFORE",
                                         "LMDB_META"};

static const char *point_name(int point)
{
    return point < KP_COUNT ? io_kill_point_names[point] : lmdb_names[point - KP_COUNT];
}

/* In the child: counting, and dying when the count is reached. */
static struct {
    uint32_t *hits; /* shared, [POINTS]; when profiling */
    int target;     /* -1 = none */
    uint32_t nth, seen;
} armed = {NULL, -1, 0, 0};

static void reach(int point)
{
    if (armed.hits)
        armed.hits[point]++;
    if (point == armed.target && ++armed.seen == armed.nth) {
        (void)kill(getpid(), SIGKILL);
        for (;;)
            (void)pause();
    }
}

static void on_kill_point(void *ctx, enum kill_point point)
{
    (void)ctx;
    reach((int)point);
}

static bool is_wal(const struct sys_event *e)
{
    const char *tail = e->path ? strrchr(e->path, '/') : NULL;
    return tail && strcmp(tail, "/wal.mdb") == 0;
}

static int before_call(void *ctx, const struct sys_event *e)
{
    (void)ctx;
    if (is_wal(e) && e->kind == SYS_WRITE && (e->flags & O_DSYNC))
        reach(LMDB_META_BEFORE);
    return 0;
}

static int after_call(void *ctx, const struct sys_event *e, int64_t result)
{
    (void)ctx;
    if (!is_wal(e) || result < 0)
        return 0;
    if (e->kind == SYS_WRITE)
        reach(e->flags & O_DSYNC ? LMDB_META : LMDB_PAGES);
    else if (e->kind == SYS_FDATASYNC || e->kind == SYS_FSYNC)
        reach(LMDB_SYNCED);
    return 0;
}

/* Before any file is opened: only then are LMDB's descriptors followed. */
static void install(const char *root)
{
    static struct interpose_hooks calls;
    static struct io_hooks io;
    calls = (struct interpose_hooks){NULL, root, before_call, after_call};
    io = (struct io_hooks){NULL, NULL, NULL, on_kill_point};
    interpose_set(&calls);
    io_hooks = &io;
}

/* What a child does, and from where on it may die. */
enum scene { SCENE_CREATE, SCENE_LIVE, SCENE_RECOVER, SCENE_LONG_LOG };

struct plan {
    enum scene scene;
    int target;
    uint32_t nth;
    uint64_t seed;
    struct workload_options options;
};

struct test {
    struct harness h;
    struct oracle *oracle;
    uint32_t *hits; /* [POINTS], shared */
    struct workload workload;
    uint32_t reached[POINTS];
    uint64_t deaths, survivors, survivor_queries;
    char path[320];
};

/* A saved file has no log and no writer: tests/unit/test_engine_saved.c dies at these.  At those of
 * a new generation test_swap.c does. */
static bool of_a_save(int point)
{
    return (point >= KP_SAVE_OPENED && point <= KP_SAVE_RENAMED) ||
           (point >= KP_GEN_CREATED && point <= KP_SHRINK_REOPENED);
}

static enum scene scene_of(int point)
{
    if (point <= KP_CREATE_RENAMED)
        return SCENE_CREATE;
    if (point == KP_K3_SLICE)
        return SCENE_LONG_LOG;
    if (point >= KP_O1 && point <= KP_O8)
        return SCENE_RECOVER;
    return SCENE_LIVE;
}

/* Thousands of one-frame commits without a checkpoint, then one. */
static navmap_status long_log(struct workload *w)
{
    for (uint32_t i = 0; i < LONG_LOG_COMMITS; i++) {
        TRY(store_write_begin(w->store, 0));
        bool deleted = i % 2 == 0;
        oracle_intend(w->oracle, 0, w->label[0].version, deleted ? SLOT_DELETED : SLOT_LIVE);
        navmap_status status = store_mark(w->store, truth_label(0), deleted);
        store_write_end(w->store);
        TRY(status);
        oracle_staged(w->oracle);
        TRY(store_settle(w->store));
        oracle_ack(w->oracle, store_last_lsn(w->store));
    }
    return workload_flush(w);
}

static void arm(const struct test *t, const struct plan *p)
{
    armed.hits = t->hits;
    armed.target = p->target;
    armed.nth = p->nth;
    armed.seen = 0;
}

static navmap_status act(struct test *t, const struct plan *p, bool create)
{
    struct workload *w = &t->workload;
    install(t->h.dir);
    if (p->scene == SCENE_CREATE || p->scene == SCENE_RECOVER)
        arm(t, p);
    TRY(create ? workload_create(w) : workload_open(w, true));
    if (p->scene == SCENE_LIVE || p->scene == SCENE_LONG_LOG)
        arm(t, p);
    if (p->scene == SCENE_LONG_LOG) {
        do
            TRY(workload_step(w));
        while (w->label[0].status != SLOT_LIVE || w->options.durability != STORE_FULL);
        TRY(long_log(w));
    }
    for (uint32_t i = 0; i < STEPS && p->scene == SCENE_LIVE; i++)
        TRY(workload_step(w));
    return workload_close(w);
}

/* Run a plan in a child; the signal it died of or -(exit code). */
static int run(struct test *t, const struct plan *p, bool create)
{
    workload_init(&t->workload, t->path, &p->options, p->seed, t->oracle);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        navmap_status status = act(t, p, create);
        if (status != NAVMAP_OK)
            (void)snprintf(t->oracle->error, sizeof t->oracle->error, "%s: %s",
                           navmap_strerror(status), navmap_error_detail());
        _exit(status == NAVMAP_OK ? 0 : 1);
    }
    return harness_wait(pid);
}

static bool fresh(struct test *t)
{
    harness_remove(t->path);
    oracle_reset(t->oracle);
    return true;
}

/* Leave an index whose log has several records: a life that dies while applying. */
static bool crash_first(struct test *t, const struct plan *p, char *why, size_t n)
{
    struct plan first = *p;
    struct rng rng = {p->seed + 9};
    (void)fresh(t);
    first.scene = SCENE_LIVE;
    first.options.ckpt_bytes = 1 << 20;
    first.options.durability = STORE_FULL; /* several commits since the last checkpoint */
    first.target = rng_one_in(&rng, 2) ? KP_P1 : KP_C5;
    first.nth = 3 + (uint32_t)rng_below(&rng, 5);
    first.options.never_flush = true;
    int how = run(t, &first, true);
    if (how != SIGKILL)
        (void)snprintf(why, n, "the prelude ended with %d: %s", how, t->oracle->error);
    return how == SIGKILL;
}

static bool begin(struct test *t, const struct plan *p, char *why, size_t n)
{
    return p->scene == SCENE_RECOVER ? crash_first(t, p, why, n) : fresh(t);
}

/* How often the point comes by when nobody dies there. */
static uint32_t profile(struct test *t, const struct plan *p, char *why, size_t n)
{
    struct plan count = *p;
    count.target = -1;
    (void)memset(t->hits, 0, POINTS * sizeof t->hits[0]);
    if (!begin(t, p, why, n))
        return 0;
    (void)memset(t->hits, 0, POINTS * sizeof t->hits[0]);
    int how = run(t, &count, p->scene != SCENE_RECOVER);
    if (how != 0)
        (void)snprintf(why, n, "the profile run ended with %d: %s", how, t->oracle->error);
    return how == 0 ? t->hits[p->target] : 0;
}

static bool after_create(struct test *t, const struct plan *p, char *why, size_t n)
{
    struct store *s = NULL;
    struct store_options options = {STORE_FULL, 10.0, 0};
    uint64_t lsn;
    if (access(t->path, F_OK) == 0) {
        /* The note of lsn 0 is written after create returned; an empty index needs none. */
        navmap_status status = store_open(t->path, STORE_WRITE, &options, &s);
        if (status == NAVMAP_OK) {
            t->oracle->notes[0] = (struct oracle_note){store_state_hash(s, false), 0, 1};
            status = store_close(s);
        }
        if (status != NAVMAP_OK) {
            (void)snprintf(why, n, "an index that is there does not open: %s",
                           navmap_error_detail());
            return false;
        }
        return aftermath_check(t->oracle, t->path, p->seed, &lsn, why, n);
    }
    workload_init(&t->workload, t->path, &p->options, p->seed, t->oracle);
    if (workload_create(&t->workload) != NAVMAP_OK) {
        (void)snprintf(why, n, "create again: %s", navmap_error_detail());
        return false;
    }
    workload_drop(&t->workload);
    return aftermath_check(t->oracle, t->path, p->seed, &lsn, why, n);
}

static bool die_and_recover(struct test *t, const struct plan *p, char *why, size_t n)
{
    struct survivor survivor = {0, NULL};
    uint64_t lsn = 0;
    if (!begin(t, p, why, n))
        return false;
    bool create = p->scene != SCENE_RECOVER;
    /* The survivor must come while a writer holds W, or its open would recover: so the index is
     * made, a little life let pass, and the writer of the plan is another process. */
    if (p->scene == SCENE_LIVE && p->seed % 2 == 0) {
        workload_init(&t->workload, t->path, &p->options, p->seed, t->oracle);
        if (workload_create(&t->workload) != NAVMAP_OK) {
            (void)snprintf(why, n, "create: %s", navmap_error_detail());
            return false;
        }
        workload_drop(&t->workload);
        (void)survivor_start(&survivor, t->path, p->seed);
        t->survivors++;
        create = false;
    }
    int how = run(t, p, create);
    bool ok = how == SIGKILL;
    t->deaths += ok;
    if (how == 0 && p->scene == SCENE_LIVE && survivor.pid > 0) {
        ok = true; /* a life over an index that was there may take another course */
    } else if (!ok) {
        (void)snprintf(why, n, "the child ended with %d instead of dying: %s", how,
                       t->oracle->error);
    }
    if (ok && p->scene == SCENE_CREATE)
        ok = after_create(t, p, why, n);
    else if (ok)
        ok = aftermath_check(t->oracle, t->path, p->seed >> 1, &lsn, why, n);
    if (ok && p->scene != SCENE_CREATE) {
        workload_init(&t->workload, t->path, &p->options, p->seed + 1, t->oracle);
        ok = aftermath_go_on(&t->workload, 6, why, n);
    }
    char other[600];
    bool reader = survivor_stop(&survivor, &t->survivor_queries, other, sizeof other);
    if (ok && !reader)
        (void)snprintf(why, n, "%s", other);
    return ok && reader;
}

static void one(struct test *t, int point, enum store_durability mode, bool first, uint64_t round)
{
    char why[700] = "";
    uint64_t seed = harness_round_seed(&t->h, round);
    struct rng rng = {seed};
    struct plan p = {scene_of(point), point, 1, seed, workload_draw(seed, mode)};
    p.options.dim = p.options.dim > 4 && p.scene == SCENE_LONG_LOG ? 4 : p.options.dim;
    if (p.scene == SCENE_LONG_LOG) {
        p.options.durability = STORE_FULL; /* one commit a change, whatever the mode */
        p.options.ckpt_bytes = (uint64_t)1 << 30;
        p.options.never_flush = true;
    }
    if (point == KP_PAYLOAD_CODE || point == KP_C2_MSYNC)
        p.options.code_header = 8;
    bool ok = true;
    if (!first && p.scene != SCENE_LONG_LOG) {
        uint32_t hits = profile(t, &p, why, sizeof why);
        ok = hits > 0 || why[0] == '\0';
        p.nth = hits > 0 ? 1 + (uint32_t)rng_below(&rng, hits) : 1;
    }
    uint64_t deaths = t->deaths;
    ok = ok && die_and_recover(t, &p, why, sizeof why);
    t->reached[point] += (uint32_t)(t->deaths - deaths);
    harness_case(&t->h, ok, round, "at hit %u of %s, mode %s: %s", p.nth, point_name(point),
                 mode == STORE_FULL ? "full" : "manual", why);
}

int main(int argc, char **argv)
{
    static struct test t;
    harness_begin(&t.h, "kill_points", argc, argv);
    uint64_t times = harness_count(&t.h, 1, 20, 400);
    t.oracle = oracle_new();
    t.hits = harness_shared(POINTS * sizeof t.hits[0]);
    (void)snprintf(t.path, sizeof t.path, "%s/idx", t.h.dir);
    uint64_t round = 0;
    for (uint64_t time = 0; time < times && t.h.failed < 10; time++) {
        for (int point = 0; point < POINTS; point++) {
            if (of_a_save(point))
                continue;
            for (int how = 0; how < 4; how++, round++) {
                if (scene_of(point) == SCENE_LONG_LOG && (how > 0 || time % 10 > 0))
                    continue; /* a second each */
                if (t.h.shrink && scene_of(point) != SCENE_LONG_LOG && how != point % 4)
                    continue;
                if (harness_wants(&t.h, round))
                    one(&t, point, how & 1 ? STORE_MANUAL : STORE_FULL, how < 2, round);
            }
        }
    }
    printf("%" PRIu64 " deaths at %d points; %" PRIu64
           " readers lived through theirs and asked %" PRIu64 " queries\n",
           t.deaths, POINTS, t.survivors, t.survivor_queries);
    for (int point = 0; point < POINTS && t.h.only < 0; point++) {
        if (of_a_save(point))
            continue;
        if (t.h.verbose)
            printf("  %s: %u\n", point_name(point), t.reached[point]);
        harness_case(&t.h, t.reached[point] > 0, 0, "%s was never reached", point_name(point));
    }
    harness_unshare(t.hits, POINTS * sizeof t.hits[0]);
    oracle_free(t.oracle);
    return harness_end(&t.h);
}
