/* test_engine_bulk.c -- large additions to a directory: made in memory, swapped in at once. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "engine/index.h"
#include "storage/io.h"
#include "tests/support/engine.h"

#define DIM 1024u /* so that 8,200 items are 32 MiB */
#define N 8300u
#define FEW 500u

static float *vectors; /* [N + FEW] */

static int begin(void **state)
{
    (void)state;
    struct rng rng = test_rng();
    vectors = clustered_vectors(&rng, N + FEW, DIM, 60);
    return 0;
}

static int end(void **state)
{
    (void)state;
    free(vectors);
    return 0;
}

static navmap_index *create(enum navmap_durability durability, uint64_t max_elements)
{
    struct navmap_options o = {.struct_size = sizeof o,
                               .dim = DIM,
                               .M = 4,
                               .ef_construction = 12,
                               .codes = NAVMAP_CODES_NONE,
                               .durability = durability,
                               .max_elements = max_elements};
    navmap_index *ix = NULL;
    assert_ok(navmap_create(test_path, &o, &ix));
    return ix;
}

static navmap_status add(navmap_index *ix, uint64_t from, uint64_t n, navmap_progress *progress,
                         void *ctx, uint64_t *ret_added)
{
    struct navmap_add_options o = {
        .struct_size = sizeof o, .num_threads = 2, .progress = progress, .progress_ctx = ctx};
    return navmap_add(ix, n, vectors + from * DIM, NULL, &o, ret_added);
}

static void assert_items(navmap_index *ix, uint64_t n)
{
    float v[DIM];
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.n_live, n);
    for (uint64_t label = 0; label < n; label++) {
        assert_ok(navmap_get(ix, 1, &label, v));
        assert_memory_equal(v, vectors + label * DIM, sizeof v);
    }
    struct navmap_check_result r = {.struct_size = sizeof r};
    assert_ok(navmap_check(ix, NULL, NULL, &r));
    assert_int_equal(r.damaged, 0);
}

static void assert_verified(void)
{
    struct navmap_verify_result v;
    assert_ok(navmap_verify(test_path, false, NULL, NULL, &v));
    assert_int_equal(v.damaged, 0);
}

static void test_into_empty(void **state)
{
    uint64_t added = 0;
    (void)state;
    navmap_index *ix = create(NAVMAP_FULL, 0), *reader = open_index(NAVMAP_READ);
    assert_ok(add(ix, 0, N, NULL, NULL, &added));
    assert_int_equal(added, N);
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.generation, 2);
    assert_int_equal(s.wal_bytes, 0);
    assert_int_equal(s.inserted, N);
    assert_items(ix, N);
    assert_items(reader, N); /* moved by itself */
    /* and it goes on as ever */
    assert_ok(add(ix, N, FEW, NULL, NULL, &added));
    assert_int_equal(stats_of(ix).generation, 2);
    assert_ok(navmap_close(ix));
    assert_items(reader, N + FEW);
    assert_ok(navmap_close(reader));
    assert_verified();
    ix = open_index(NAVMAP_WRITE);
    assert_items(ix, N + FEW);
    assert_ok(navmap_close(ix));
}

/* What is there stays: live, deleted, and what an update replaces. */
static void test_into_small(void **state)
{
    (void)state;
    navmap_index *ix = create(NAVMAP_MANUAL, N + FEW);
    assert_ok(add(ix, 0, FEW, NULL, NULL, NULL));
    assert_ok(navmap_delete(ix, 7));
    struct navmap_add_options o = {.struct_size = sizeof o, .num_threads = 2};
    uint64_t *labels = malloc(N * sizeof *labels);
    for (uint64_t i = 0; i < N; i++)
        labels[i] = FEW / 2 + i; /* half of those that are there get another vector */
    assert_ok(navmap_add(ix, N, vectors + (uint64_t)FEW / 2 * DIM, labels, &o, NULL));
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.generation, 2);
    assert_int_equal(s.n_deleted, 1);
    assert_int_equal(s.n_dead + s.n_free, 0);
    assert_int_equal(s.max_elements, N + FEW);
    assert_ok(navmap_undelete(ix, 7));
    assert_ok(navmap_flush(ix));
    assert_items(ix, N + FEW / 2);
    /* the promise was given back: there is room for exactly so many more */
    assert_status(add(ix, 0, FEW, NULL, NULL, NULL), NAVMAP_EFULL);
    assert_ok(add(ix, N + FEW / 2, FEW / 2, NULL, NULL, NULL));
    assert_ok(navmap_close(ix));
    assert_verified();
    free(labels);
}

/* Not for a few, not for many into more, not in memory. */
static void test_not_for_all(void **state)
{
    (void)state;
    navmap_index *ix = create(NAVMAP_MANUAL, 0);
    assert_ok(add(ix, 0, N - FEW, NULL, NULL, NULL));
    assert_int_equal(stats_of(ix).generation, 1); /* 30 MiB */
    assert_ok(add(ix, 0, N, NULL, NULL, NULL));
    assert_int_equal(stats_of(ix).generation, 1);
    assert_ok(navmap_close(ix));
}

struct stopping {
    navmap_index *ix;
    int calls;
};

static int stop(void *ctx, uint64_t done, uint64_t total)
{
    struct stopping *s = ctx;
    uint64_t label = 3;
    assert_true(done <= total);
    assert_status(navmap_delete(s->ix, label), NAVMAP_EINVAL); /* it waits for itself otherwise */
    return ++s->calls == 5;
}

static void test_stopped(void **state)
{
    uint64_t added = 0;
    (void)state;
    struct stopping s = {.ix = create(NAVMAP_FULL, 0)};
    assert_status(add(s.ix, 0, N, stop, &s, &added), NAVMAP_EINTERRUPTED);
    assert_true(added > 0 && added < N);
    struct navmap_stats st = stats_of(s.ix);
    assert_int_equal(st.generation, 2);
    assert_true(st.n_live >= added && st.n_live <= added + 2);
    assert_ok(navmap_close(s.ix));
    assert_verified();
}

static int no_room(void *ctx, const struct io_event *e)
{
    (void)ctx;
    return e->kind == IO_FALLOCATE && strstr(e->path ? e->path : "", "data-") ? ENOSPC : 0;
}

static int no_write(void *ctx, const struct io_event *e)
{
    int *left = ctx;
    return e->kind == IO_PWRITE && --*left == 0 ? EIO : 0;
}

static void test_failures(void **state)
{
    static int left = 9;
    static const struct io_hooks full = {NULL, no_room, NULL, NULL},
                                 broken = {&left, no_write, NULL, NULL};
    uint64_t added = 1;
    (void)state;
    navmap_index *ix = create(NAVMAP_FULL, 0);
    assert_ok(add(ix, 0, 50, NULL, NULL, NULL));
    io_hooks = &broken;
    assert_status(add(ix, 50, N, NULL, NULL, &added), NAVMAP_EIO);
    assert_int_equal(added, 0);
    io_hooks = NULL;
    assert_items(ix, 50);
    io_hooks = &full;
    navmap_status status = add(ix, 50, N, NULL, NULL, &added);
    io_hooks = NULL;
    if (status != NAVMAP_OK) { /* the hook is told a path only where there is one */
        assert_int_equal(status, NAVMAP_ENOSPC);
        assert_int_equal(added, 0);
        assert_items(ix, 50);
        assert_ok(add(ix, 50, N, NULL, NULL, &added)); /* numbers are as they were */
    }
    assert_int_equal(added, N);
    assert_items(ix, N + 50);
    assert_ok(navmap_close(ix));
    assert_verified();
}

/* kill -9 at each step: all of the addition, or nothing of it. */
static enum kill_point deadly_point;

static void die(void *ctx, enum kill_point point)
{
    (void)ctx;
    if (point == deadly_point)
        (void)kill(getpid(), SIGKILL);
}

static void test_kills(void **state)
{
    static const struct io_hooks deadly = {NULL, NULL, NULL, die};
    static const enum kill_point points[] = {KP_GEN_CREATED, KP_GEN_CHUNK,     KP_GEN_SYNCED,
                                             KP_GEN_LABELS,  KP_SWAP_BEFORE,   KP_SWAP,
                                             KP_SWAP_MARKED, KP_SWAP_UNLINKED, KP_CLEAR_LOG};
    (void)state;
    assert_ok(navmap_close(create(NAVMAP_FULL, 0)));
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        (void)fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            navmap_index *ix = NULL;
            deadly_point = points[i];
            io_hooks = &deadly;
            if (navmap_open(test_path, NAVMAP_WRITE, NULL, &ix) != NAVMAP_OK)
                _exit(2);
            _exit(add(ix, 0, N, NULL, NULL, NULL) == NAVMAP_OK ? 0 : 3);
        }
        int how;
        assert_int_equal(waitpid(pid, &how, 0), pid);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
        navmap_index *ix = open_index(NAVMAP_WRITE);
        bool swapped = points[i] >= KP_SWAP;
        assert_int_equal(stats_of(ix).generation, swapped ? 2 : 1);
        assert_items(ix, swapped ? N : 0);
        assert_ok(navmap_close(ix));
        assert_verified();
        if (swapped) {
            remove_dir(NULL);
            assert_int_equal(make_dir(NULL), 0);
            assert_ok(navmap_close(create(NAVMAP_FULL, 0)));
        }
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_into_empty), TEST(test_into_small), TEST(test_not_for_all),
        TEST(test_stopped),    TEST(test_failures),   TEST(test_kills),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
