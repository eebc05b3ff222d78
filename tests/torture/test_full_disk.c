/* test_full_disk.c -- a disk that is full in earnest: a small tmpfs of the test's own, and
 * RLIMIT_FSIZE (T9).
 *
 * An index is filled until it says NAVMAP_ENOSPC, with a ballast file beside it.  Required:
 *   D1  adds, marks and flushes say NAVMAP_ENOSPC or succeed; no signal, no poisoned writer
 *   D2  all that was acknowledged is there, bit for bit, and is found by searches, while it is full
 *   D3  a save on the full disk leaves the old file as it was and nothing beside it; a create
 *       leaves nothing
 *   D4  with the ballast gone the same handle goes on (STAY); closed, or killed, while the disk is
 *       full, the index opens while it is full (CLOSE, CRASH), and goes on when it is not
 *   D5  in the end it verifies, and holds what was acknowledged
 * Mounting takes root and a mount namespace; where that is refused only the limit is tried.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/navmap.h"
#include "tests/support/ward.h"

#define LABELS 65536u
#define BATCH 16u
#define DIM_MAX 2048u
#define LOW 65536u /* a limit below the size that the files have already */

enum way { STAY, CLOSE, CRASH, WAYS };
static const char *const way_names[WAYS] = {"stay", "close", "crash"};

/* What a crash must not take: shared. */
struct acks {
    uint64_t tried, done, n_acked; /* done: below it each label is acknowledged or was refused */
    bool acked[LABELS], marked[LABELS];
};

struct life {
    struct ward *ward;
    struct acks *acks;
    struct rng rng;
    char dir[300], path[320];
    uint32_t dim;
    uint64_t bytes; /* of the disk, or the limit */
    bool limited;   /* by RLIMIT_FSIZE, not by a mount */
    bool manual;
    enum way way;
    uint64_t old_sum; /* of the file saved before */
    navmap_index *ix;
};

enum { FULL, SAVES, SKIPPED };

static void vector_of(const struct life *l, uint64_t label, float *ret_vector)
{
    for (uint32_t j = 0; j < l->dim; j++)
        ret_vector[j] = (float)(mix64(label * DIM_MAX + j) % 1024);
}

static bool says(struct life *l, const char *what, navmap_status status)
{
    return ward_says(l->ward, "%s: %s: %s", what, navmap_strerror(status), navmap_error_detail());
}

static const char *in(const struct life *l, const char *name)
{
    return harness_path(l->dir, name);
}

/* The disk ------------------------------------------------------------------------------------- */

static bool limit(uint64_t bytes)
{
    const struct rlimit r = {bytes, RLIM_INFINITY};
    return setrlimit(RLIMIT_FSIZE, &r) == 0;
}

static bool write_file(const char *path, uint64_t bytes)
{
    static uint8_t zeros[1 << 16];
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    bool whole = fd >= 0;
    for (uint64_t left = bytes; whole && left > 0;) {
        ssize_t n = write(fd, zeros, left < sizeof zeros ? left : sizeof zeros);
        whole = n > 0;
        left -= n > 0 ? (uint64_t)n : 0;
    }
    if (fd >= 0)
        (void)close(fd);
    return whole;
}

static bool make_disk(struct life *l)
{
    char options[40];
    if (mkdir(l->dir, 0755) != 0)
        return ward_says(l->ward, "mkdir %s", l->dir);
    if (l->limited)
        return limit(l->bytes);
    (void)snprintf(options, sizeof options, "size=%" PRIu64, l->bytes);
    return (mount("tmpfs", l->dir, "tmpfs", 0, options) == 0 &&
            write_file(in(l, "ballast"), l->bytes / 4)) ||
           ward_says(l->ward, "mounting %s: %s", l->dir, strerror(errno));
}

/* Not a page is left. */
static void stop_gaps(struct life *l)
{
    if (!l->limited)
        (void)write_file(in(l, "filler"), l->bytes);
    else
        (void)limit(LOW);
}

static void free_space(struct life *l)
{
    if (l->limited)
        (void)limit(RLIM_INFINITY);
    (void)unlink(in(l, "filler"));
    (void)unlink(in(l, "ballast"));
}

/* The index ------------------------------------------------------------------------------------ */

static bool open_it(struct life *l, enum navmap_mode mode)
{
    const struct navmap_open_options o = {.struct_size = sizeof o,
                                          .durability = l->manual ? NAVMAP_MANUAL : NAVMAP_FULL};
    l->ix = NULL;
    navmap_status status = navmap_open(l->path, mode, &o, &l->ix);
    return status == NAVMAP_OK || says(l, "opening", status);
}

static navmap_status create(struct life *l, const char *path, navmap_index **ret_index)
{
    const struct navmap_options o = {.struct_size = sizeof o,
                                     .dim = l->dim,
                                     .M = 4,
                                     .ef_construction = 8,
                                     .durability = l->manual ? NAVMAP_MANUAL : NAVMAP_FULL};
    return navmap_create(path, &o, ret_index);
}

/* In mode manual what a flush followed is acknowledged. */
static navmap_status add_batch(struct life *l)
{
    static float vectors[BATCH * DIM_MAX];
    uint64_t labels[BATCH];
    struct acks *a = l->acks;
    const uint64_t first = a->tried;
    for (uint32_t i = 0; i < BATCH; i++) {
        labels[i] = first + i;
        vector_of(l, first + i, vectors + (size_t)i * l->dim);
    }
    a->tried += BATCH;
    navmap_status status = navmap_add(l->ix, BATCH, vectors, labels, NULL, NULL);
    if (status != NAVMAP_OK)
        a->done = a->tried; /* refused, in part or whole */
    if (status == NAVMAP_OK && l->manual && a->tried % (4 * BATCH) != 0)
        return NAVMAP_OK;
    if (status == NAVMAP_OK && l->manual)
        status = navmap_flush(l->ix);
    /* What a commit held back it brings too: all since the last one. */
    for (uint64_t i = a->tried; status == NAVMAP_OK && i > a->done; i--)
        a->acked[i - 1] = true;
    if (status != NAVMAP_OK)
        return status;
    a->n_acked += a->tried - a->done;
    a->done = a->tried;
    return NAVMAP_OK;
}

static bool one_holds(struct life *l, uint64_t label, bool must)
{
    float v[DIM_MAX], expected[DIM_MAX];
    navmap_status status = navmap_get(l->ix, 1, &label, v);
    if (status == NAVMAP_ENOTFOUND && (!must || l->acks->marked[label]))
        return true;
    if (status != NAVMAP_OK)
        return says(l, must ? "an acknowledged item" : "an item", status);
    vector_of(l, label, expected);
    return memcmp(v, expected, l->dim * sizeof *v) == 0 ||
           ward_says(l->ward, "label %" PRIu64 " has a wrong vector", label);
}

/* D2 */
static bool holds(struct life *l)
{
    const struct navmap_search_options o = {.struct_size = sizeof o, .ef = 30, .allow_fewer = 1};
    uint64_t labels[5];
    float distances[5], v[DIM_MAX];
    for (uint64_t label = 0; label < l->acks->tried; label++)
        if (!one_holds(l, label, l->acks->acked[label]))
            return false;
    for (int i = 0; i < 10; i++) {
        vector_of(l, rng_below(&l->rng, l->acks->tried), v);
        navmap_status status = navmap_search(l->ix, 1, v, 5, &o, labels, distances, NULL);
        if (status == NAVMAP_OK)
            status = navmap_search_exact(l->ix, 1, v, 5, &o, labels, distances, NULL);
        if (status != NAVMAP_OK)
            return says(l, "search", status);
    }
    return true;
}

static uint64_t sum_of(const char *path)
{
    uint64_t sum = 0;
    FILE *f = fopen(path, "rb");
    uint8_t bytes[4096];
    size_t n;
    while (f && (n = fread(bytes, 1, sizeof bytes, f)) > 0)
        for (size_t i = 0; i < n; i++)
            sum = sum * 31 + bytes[i] + 1;
    if (f)
        (void)fclose(f);
    return sum;
}

static bool is_littered(const struct life *l)
{
    char command[400];
    (void)snprintf(command, sizeof command, "ls -d %s/*.tmp-* >/dev/null 2>&1", l->dir);
    return system(command) == 0;
}

/* D3 */
static bool saving_fails_well(struct life *l)
{
    navmap_index *other = NULL;
    navmap_status status = navmap_save(l->ix, in(l, "saved"));
    if (status != NAVMAP_ENOSPC)
        return says(l, "save on a full disk", status);
    if (sum_of(in(l, "saved")) != l->old_sum)
        return ward_says(l->ward, "a failed save changed the old file");
    status = create(l, in(l, "other"), &other);
    if (status != NAVMAP_ENOSPC)
        return says(l, "create on a full disk", status);
    if (is_littered(l) || access(in(l, "other"), F_OK) == 0)
        return ward_says(l->ward, "save or create left something behind");
    atomic_fetch_add(&l->ward->count[SAVES], 1);
    return true;
}

/* D1: until it is full, and then some. */
static bool fill(struct life *l)
{
    navmap_status status = NAVMAP_OK;
    while (status == NAVMAP_OK && l->acks->tried < LABELS - 1000) {
        status = add_batch(l);
        if (status == NAVMAP_OK && l->acks->n_acked == 8 * BATCH) {
            if (navmap_save(l->ix, in(l, "saved")) != NAVMAP_OK)
                return ward_says(l->ward, "the first save: %s", navmap_error_detail());
            l->old_sum = sum_of(in(l, "saved"));
        }
    }
    if (status != NAVMAP_ENOSPC)
        return says(l, "filling", status);
    stop_gaps(l);
    for (int i = 0; i < 6; i++) {
        uint64_t label = rng_below(&l->rng, l->acks->tried);
        bool was = l->acks->marked[label];
        l->acks->marked[label] = true; /* before it is certain */
        status = i % 2                           ? add_batch(l)
                 : was || !l->acks->acked[label] ? NAVMAP_OK
                                                 : navmap_delete(l->ix, label);
        if (status == NAVMAP_OK && rng_one_in(&l->rng, 3))
            status = navmap_flush(l->ix);
        if (status != NAVMAP_OK && status != NAVMAP_ENOSPC)
            return says(l, "on the full disk", status);
    }
    atomic_fetch_add(&l->ward->count[FULL], 1);
    return true;
}

/* From nothing to a full disk. */
static bool live(struct life *l)
{
    navmap_status status = create(l, l->path, &l->ix);
    if (status != NAVMAP_OK)
        return says(l, "create", status);
    return fill(l) && holds(l) && saving_fails_well(l);
}

/* A limit below the size that wal.mdb has: a log cannot be replayed.  Then the old limit. */
static bool returns_below(struct life *l)
{
    navmap_index *ix = NULL;
    (void)limit(LOW);
    navmap_status status = navmap_open(l->path, NAVMAP_READ, NULL, &ix);
    if (status == NAVMAP_OK)
        status = navmap_close(ix);
    (void)limit(l->bytes);
    /* NAVMAP_EIO: LMDB's write was cut short by the limit. */
    return status == NAVMAP_OK || status == NAVMAP_ENOSPC || status == NAVMAP_EIO ||
           says(l, "opening, low", status);
}

/* Where it was closed or killed: opened while the disk is full. */
static bool return_to_it(struct life *l)
{
    navmap_status status;
    if (l->way == STAY)
        return true;
    if (l->way == CLOSE) {
        status = navmap_close(l->ix); /* what is staged may be lost, or may not */
        if (status != NAVMAP_OK && status != NAVMAP_ENOSPC)
            return says(l, "closing on the full disk", status);
    }
    if (l->limited && !returns_below(l))
        return false;
    if (!open_it(l, NAVMAP_READ) || !holds(l))
        return false;
    status = navmap_close(l->ix);
    if (status != NAVMAP_OK)
        return says(l, "closing the reader", status);
    return open_it(l, NAVMAP_WRITE) && holds(l);
}

/* D4, D5 */
static bool go_on(struct life *l)
{
    struct navmap_verify_result r = {0};
    free_space(l);
    navmap_status status = navmap_flush(l->ix);
    for (int i = 0; i < 8 && status == NAVMAP_OK; i++)
        status = add_batch(l);
    if (status == NAVMAP_OK)
        status = navmap_close(l->ix);
    if (status != NAVMAP_OK)
        return says(l, "with space again", status);
    status = navmap_verify(l->path, false, NULL, NULL, &r);
    if (status != NAVMAP_OK || r.damaged > 0)
        return says(l, "verify", status);
    if (!open_it(l, NAVMAP_READ))
        return false;
    bool good = holds(l);
    return navmap_close(l->ix) == NAVMAP_OK && good;
}

/* Up to a crash in a process of its own. */
static bool live_and_return(struct life *l)
{
    if (!make_disk(l))
        return false;
    if (l->way != CRASH)
        return live(l) && return_to_it(l) && go_on(l);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(100);
        _exit(live(l) ? 0 : 1);
    }
    int how = harness_wait(pid);
    if (how > 0)
        return ward_says(l->ward, "signal %d", how);
    return how == 0 && return_to_it(l) && go_on(l);
}

/* Lives ---------------------------------------------------------------------------------------- */

struct test {
    struct harness h;
    struct ward *ward;
    struct acks *acks;
    bool limited;
    uint64_t n;
};

static void draw(const struct test *t, uint64_t i, struct life *l)
{
    static const uint32_t dims[] = {256, 512, 1024, 2048};
    memset(l, 0, sizeof *l);
    l->ward = t->ward;
    l->acks = t->acks;
    l->rng.state = harness_round_seed(&t->h, i + (t->limited ? 1000 : 0));
    l->limited = t->limited;
    l->way = (enum way)(i % WAYS);
    l->manual = rng_one_in(&l->rng, 3);
    l->dim = dims[rng_below(&l->rng, 4)];
    uint64_t most = t->h.tier == TIER_TEST ? 16 : t->h.tier == TIER_CI ? 32 : 64;
    l->bytes = (t->limited ? 2 + rng_below(&l->rng, 6) : 16 + rng_below(&l->rng, most - 15)) << 20;
    (void)snprintf(l->dir, sizeof l->dir, "%s/disk-%d-%" PRIu64, t->h.dir, t->limited, i);
    (void)snprintf(l->path, sizeof l->path, "%s/index", l->dir);
    memset(t->acks, 0, sizeof *t->acks);
}

static bool lives(void *ctx, struct ward *ward, uint64_t from)
{
    struct test *t = ctx;
    static struct life l;
    if (!t->limited &&
        (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)) {
        printf("  skipped: no small tmpfs of its own: %s\n", strerror(errno));
        (void)fflush(stdout);
        atomic_fetch_add(&ward->count[SKIPPED], 1);
        return true;
    }
    for (uint64_t i = from; i < t->n; i++) {
        draw(t, i, &l);
        ward_case(ward, i);
        (void)alarm(100);
        (void)snprintf(ward->what, sizeof ward->what, "%s, dim %u, %" PRIu64 " MiB, %s%s",
                       l.limited ? "RLIMIT_FSIZE" : "tmpfs", l.dim, l.bytes >> 20, way_names[l.way],
                       l.manual ? ", manual" : "");
        bool good = live_and_return(&l);
        (void)limit(RLIM_INFINITY);
        if (!l.limited)
            (void)umount2(l.dir, MNT_DETACH);
        harness_remove(l.dir);
        if (!good)
            return false;
        atomic_fetch_add(&ward->passed, 1);
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct test t;
    harness_begin(&t.h, "full_disk", argc, argv);
    t.ward = harness_shared(sizeof *t.ward);
    t.acks = harness_shared(sizeof *t.acks);
    t.n = harness_count(&t.h, 3, 60, 2000);
    for (int limited = 0; limited < 2; limited++) {
        t.limited = limited;
        if (harness_wants(&t.h, (uint64_t)limited))
            ward_run(&t.h, t.ward, limited ? "limit" : "disk", (uint64_t)limited, 0, lives, &t);
    }
    printf("%" PRIu64 " times full, of which %" PRIu64 " saves and creates failed well\n",
           atomic_load(&t.ward->count[FULL]), atomic_load(&t.ward->count[SAVES]));
    harness_unshare(t.acks, sizeof *t.acks);
    harness_unshare(t.ward, sizeof *t.ward);
    return harness_end(&t.h);
}
