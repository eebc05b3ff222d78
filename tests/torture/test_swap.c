/* test_swap.c -- the process dies, or the power goes, at each step of the swap to a new generation.
 *
 * Lives of a workload with swaps in them.  Kill points: each of the swap's own, both durability
 * modes, at the first hit or a random one; a reader process lives through half of the deaths, and
 * the recovery that follows is itself killed now and then.  Power cuts: lives are recorded and cut
 * at any effect of a swap, as test_power_cut does it.  What is found must be exactly a commit, the
 * swap among them, not older than what was acknowledged (E1..E5 of oracle.h): the old generation
 * or the new one, and no file of the other after the next writer's open.
 */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "storage/fail.h"
#include "tests/support/aftermath.h"
#include "tests/support/harness.h"
#include "tests/support/images.h"
#include "tests/support/life.h"
#include "tests/support/oracle.h"
#include "tests/support/swap.h"

#define STEPS 24u
#define FIRST KP_GEN_CREATED
#define LAST KP_SHRINK_REOPENED

static struct {
    int target;
    uint32_t nth, seen;
} armed = {-1, 0, 0};

static void on_kill_point(void *ctx, enum kill_point point)
{
    (void)ctx;
    if ((int)point == armed.target && ++armed.seen == armed.nth) {
        (void)kill(getpid(), SIGKILL);
        for (;;)
            (void)pause();
    }
}

static const struct io_hooks deadly = {NULL, NULL, NULL, on_kill_point};

struct test {
    struct harness h;
    struct oracle *oracle;
    struct workload workload;
    struct life life;
    struct images *images;
    uint32_t reached[KP_COUNT], cuts[KP_COUNT];
    uint64_t deaths, again, queries, done_images;
    char path[320], cut_dir[300];
};

/* A life with a swap after every few steps. */
static navmap_status live(struct workload *w, uint32_t steps)
{
    navmap_status status = NAVMAP_OK;
    for (uint32_t i = 0; i < steps && status == NAVMAP_OK; i++) {
        bool shrunk;
        status = workload_step(w);
        if (status == NAVMAP_OK && i % 6 == 5)
            status = swap_step(w, i % 12 == 5, &shrunk);
    }
    return status;
}

static int run(struct test *t, const struct workload_options *options, uint64_t seed, int target,
               uint32_t nth, bool open_only)
{
    workload_init(&t->workload, t->path, options, seed, t->oracle);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        armed.target = target;
        armed.nth = nth;
        armed.seen = 0;
        io_hooks = &deadly;
        navmap_status status = workload_open(&t->workload, true);
        if (status == NAVMAP_OK && !open_only)
            status = live(&t->workload, STEPS);
        if (status == NAVMAP_OK)
            status = workload_close(&t->workload);
        if (status != NAVMAP_OK)
            (void)snprintf(t->oracle->error, sizeof t->oracle->error, "%s: %s",
                           navmap_strerror(status), navmap_error_detail());
        _exit(status == NAVMAP_OK ? 0 : 1);
    }
    return harness_wait(pid);
}

/* A writer has opened it: one data file, no copy of the log. */
static bool tidy(const char *path, char *why, size_t n)
{
    uint32_t data = 0, copies = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        data += strncmp(e->d_name, "data-", 5) == 0;
        copies += strcmp(e->d_name, "wal.mdb.new") == 0;
    }
    if (d)
        (void)closedir(d);
    if (data == 1 && copies == 0)
        return true;
    (void)snprintf(why, n, "%u data files and %u copies of the log are left", data, copies);
    return false;
}

static bool die(struct test *t, int point, uint32_t nth, const struct workload_options *options,
                uint64_t seed, char *why, size_t n)
{
    struct survivor survivor = {0, NULL};
    uint64_t lsn = 0;
    harness_remove(t->path);
    oracle_reset(t->oracle);
    workload_init(&t->workload, t->path, options, seed, t->oracle);
    if (workload_create(&t->workload) != NAVMAP_OK) {
        (void)snprintf(why, n, "create: %s", navmap_error_detail());
        return false;
    }
    if (seed % 2 == 0 && point != KP_SHRINK_ALONE && point != KP_SHRINK_RENAMED)
        (void)survivor_start(&survivor, t->path, seed);
    workload_drop(&t->workload);
    int how = run(t, options, seed, point, nth, false);
    bool ok = how == SIGKILL || (how == 0 && nth > 1);
    if (!ok)
        (void)snprintf(why, n, "the child ended with %d instead of dying: %s", how,
                       t->oracle->error);
    t->deaths += how == SIGKILL;
    t->reached[point] += how == SIGKILL;
    if (ok && how == SIGKILL && seed % 3 == 0) { /* and again, where leftovers are removed */
        uint64_t acked = atomic_load(&t->oracle->acked_lsn);
        how = run(t, options, seed + 1, seed % 9 == 0 ? KP_O3 : KP_O4, 1, true);
        atomic_store(&t->oracle->acked_lsn, acked);
        ok = how == SIGKILL;
        t->again++;
        if (!ok)
            (void)snprintf(why, n, "recovery ended with %d: %s", how, t->oracle->error);
    }
    ok = ok && aftermath_check(t->oracle, t->path, seed >> 1, &lsn, why, n);
    if (ok) {
        workload_init(&t->workload, t->path, options, seed + 1, t->oracle);
        ok = aftermath_go_on(&t->workload, 6, why, n) && tidy(t->path, why, n);
    }
    char other[600];
    bool reader = survivor_stop(&survivor, &t->queries, other, sizeof other);
    if (ok && !reader)
        (void)snprintf(why, n, "%s", other);
    return ok && reader;
}

static void kill_points(struct test *t, uint64_t times)
{
    uint64_t round = 0;
    for (uint64_t time = 0; time < times && t->h.failed < 10; time++)
        for (int point = FIRST; point <= LAST; point++)
            for (int how = 0; how < 4; how++, round++) {
                if (!harness_wants(&t->h, round) || (t->h.shrink && how != point % 4))
                    continue;
                char why[700] = "";
                uint64_t seed = harness_round_seed(&t->h, round);
                struct rng rng = {seed};
                enum store_durability mode = how & 1 ? STORE_MANUAL : STORE_FULL;
                struct workload_options o = workload_draw(seed, mode);
                o.dim = o.dim > 64 ? 64 : o.dim;
                uint32_t nth = how < 2 ? 1 : 1 + (uint32_t)rng_below(&rng, 4);
                bool ok = die(t, point, nth, &o, seed, why, sizeof why);
                harness_case(&t->h, ok, round, "at hit %u of %s, mode %s: %s", nth,
                             io_kill_point_names[point], how & 1 ? "manual" : "full", why);
            }
    /* Shortened, a point is tried once, maybe at a hit that does not come. */
    for (int point = FIRST; point <= LAST && t->h.only < 0 && !t->h.shrink; point++)
        harness_case(&t->h, t->reached[point] > 0, 0, "%s was never reached",
                     io_kill_point_names[point]);
}

/* Power cuts -----------------------------------------------------------------------------------*/

static bool record(struct test *t, uint64_t round, const struct workload_options *options)
{
    struct life *l = &t->life;
    char why[600] = "";
    life_begin(l, options, mix64(harness_round_seed(&t->h, round)), NULL);
    navmap_status status = life_create(l);
    if (status == NAVMAP_OK)
        status = live(&l->workload, STEPS);
    life_end(l);
    harness_case(&t->h, status == NAVMAP_OK, round, "the recorded life failed: %s",
                 navmap_error_detail());
    bool match = status == NAVMAP_OK && images_match(&l->trace, l->root, why, sizeof why);
    if (status == NAVMAP_OK)
        harness_case(&t->h, match, round, "R1: %s", why);
    workload_drop(&l->workload);
    return match;
}

static void power_cuts(struct test *t, uint64_t images)
{
    for (uint64_t round = 0; t->done_images < images && t->h.failed < 10; round++) {
        uint64_t seed = harness_round_seed(&t->h, round);
        struct rng rng = {seed + 1};
        struct workload_options o = workload_draw(seed, round % 2 ? STORE_MANUAL : STORE_FULL);
        o.dim = o.dim > 64 ? 64 : o.dim;
        if (!record(t, round, &o))
            return;
        struct life *l = &t->life;
        struct disk *d = disk_new(&l->trace);
        for (size_t at = 0; at <= l->trace.n && t->done_images < images; at++) {
            enum kill_point phase = at > 0 ? (enum kill_point)l->trace.effects[at - 1].phase : 0;
            bool of_a_swap = phase >= FIRST && phase <= LAST;
            if (!rng_one_in(&rng, of_a_swap ? 3 : 40))
                continue;
            char why[600] = "";
            disk_advance(d, at);
            enum style style = (enum style)rng_below(&rng, disk_clean(d) ? 1 : STYLES);
            images_write(t->images, d, style, rng_next(&rng));
            struct life_check check = {.oracle = l->oracle,
                                       .options = &l->workload.options,
                                       .mark = life_mark_at(l, at),
                                       .seed = rng_next(&rng),
                                       .verify = rng_one_in(&rng, 8)};
            uint64_t lsn;
            char path[320];
            bool ok = life_recover(&check, t->cut_dir, &lsn, why, sizeof why);
            (void)snprintf(path, sizeof path, "%s/idx", t->cut_dir);
            if (ok && check.mark.created)
                ok = tidy(path, why, sizeof why);
            t->cuts[disk_phase(d)]++;
            t->done_images++;
            harness_case(&t->h, ok, round,
                         "cut before effect %zu of %zu (step %s), un-synced: %s: %s", at,
                         l->trace.n, io_kill_point_names[disk_phase(d)], style_names[style], why);
        }
        disk_free(d);
    }
}

int main(int argc, char **argv)
{
    static struct test t;
    harness_begin(&t.h, "swap", argc, argv);
    uint64_t times = harness_count(&t.h, 1, 20, 400),
             images = harness_count(&t.h, 400, 20000, 2000000);
    char root[300];
    t.oracle = oracle_new();
    (void)snprintf(t.path, sizeof t.path, "%s/idx", t.h.dir);
    (void)snprintf(root, sizeof root, "%s/life", t.h.dir);
    (void)snprintf(t.cut_dir, sizeof t.cut_dir, "%s/cut", t.h.dir);
    life_init(&t.life, root);
    t.images = images_new(t.cut_dir);
    kill_points(&t, times);
    if (t.h.only < 0)
        power_cuts(&t, images);
    uint32_t steps = 0;
    for (int i = FIRST; i <= LAST; i++)
        steps += t.cuts[i] > 0;
    printf("%" PRIu64 " deaths at %d points, %" PRIu64 " more in the recovery; %" PRIu64
           " queries by readers that lived on; %" PRIu64 " images, cut in %u steps of a swap\n",
           t.deaths, LAST - FIRST + 1, t.again, t.queries, t.done_images, steps);
    images_free(t.images);
    life_free(&t.life);
    oracle_free(t.oracle);
    return harness_end(&t.h);
}
