/* test_engine_process.c -- readers in other processes see what the writer adds, without reopening.
 *
 * The children are forked before any index is open.  Parent and child take turns over two pipes;
 * the child's verdict is its answer, so that only the parent asserts.
 */
#include <sys/wait.h>

#include "tests/support/engine.h"

#define DIM 8u

struct peer {
    pid_t pid;
    int to, from;
};

enum { SAY_OPEN = 1, SAY_FIND, SAY_COUNT, SAY_CLOSE };

struct request {
    uint64_t what;
    float query[DIM];
};
/* found: label and distance of the nearest; count: live items. */
struct answer {
    int64_t status;
    uint64_t label;
    float distance;
    uint32_t chunks;
};

static void serve(int in, int out)
{
    navmap_index *ix = NULL;
    struct request r;
    while (read(in, &r, sizeof r) == (ssize_t)sizeof r) {
        struct answer a = {.status = NAVMAP_EINVAL};
        struct navmap_search_options o = {.struct_size = sizeof o, .ef = 100};
        struct navmap_stats s = {.struct_size = sizeof s};
        switch (r.what) {
        case SAY_OPEN:
            a.status = navmap_open(test_path, NAVMAP_READ, NULL, &ix);
            break;
        case SAY_FIND:
            a.status = navmap_search(ix, 1, r.query, 1, &o, &a.label, &a.distance, NULL);
            break;
        case SAY_COUNT:
            a.status = navmap_get_stats(ix, &s);
            a.label = s.n_live;
            a.chunks = (uint32_t)s.nchunks;
            break;
        case SAY_CLOSE:
            a.status = navmap_close(ix);
            break;
        default:
            break;
        }
        if (write(out, &a, sizeof a) != (ssize_t)sizeof a || r.what == SAY_CLOSE)
            break;
    }
    _exit(0);
}

static struct peer start_peer(void)
{
    int down[2], up[2];
    assert_int_equal(pipe(down), 0);
    assert_int_equal(pipe(up), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(down[1]);
        close(up[0]);
        serve(down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    return (struct peer){pid, down[1], up[0]};
}

static struct answer ask(struct peer p, uint64_t what, const float *query)
{
    struct request r = {.what = what};
    struct answer a;
    if (query)
        memcpy(r.query, query, sizeof r.query);
    assert_int_equal(write(p.to, &r, sizeof r), sizeof r);
    assert_int_equal(read(p.from, &a, sizeof a), sizeof a);
    return a;
}

static void stop_peer(struct peer p)
{
    int status;
    assert_int_equal(ask(p, SAY_CLOSE, NULL).status, NAVMAP_OK);
    assert_int_equal(waitpid(p.pid, &status, 0), p.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(p.to);
    close(p.from);
}

/* Full: seen when the call has returned, through a hundredfold growth of the file. */
static void test_reader_follows_growth(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(6400, 4), right = 0, asked = 0;
    float *v = random_vectors(&r, n, DIM);
    struct peer p = start_peer();
    struct navmap_options o = {
        .struct_size = sizeof o, .dim = DIM, .M = 8, .ef_construction = 60, .slot_shift = 4};
    navmap_index *ix = NULL;
    assert_ok(navmap_create(test_path, &o, &ix));
    assert_int_equal(ask(p, SAY_OPEN, NULL).status, NAVMAP_OK);
    assert_int_equal(ask(p, SAY_FIND, v).status, NAVMAP_EFEWER);
    uint32_t first_chunks = ask(p, SAY_COUNT, NULL).chunks;
    for (uint32_t done = 0, step = 1; done < n; done += step, step += step / 2 + 1) {
        step = step < n - done ? step : n - done;
        add_range(ix, v + (size_t)done * DIM, done, step);
        assert_int_equal(ask(p, SAY_COUNT, NULL).label, done + step);
        for (uint32_t i = 0; i < 20; i++) {
            uint32_t label = i == 0 ? done + step - 1 : done + rng_below(&r, step);
            struct answer a = ask(p, SAY_FIND, v + (size_t)label * DIM);
            assert_int_equal(a.status, NAVMAP_OK);
            asked++;
            right += a.label == label && a.distance == 0;
        }
    }
    print_message("%u of %u new items found at once\n", right, asked);
    assert_true(right * 100 >= asked * 99);
    assert_true(ask(p, SAY_COUNT, NULL).chunks >= 100 * first_chunks / (n < 6400 ? 4 : 1));
    /* Updates and marks. */
    for (uint64_t label = 0; label < 20; label++) {
        float moved[DIM];
        for (uint32_t j = 0; j < DIM; j++)
            moved[j] = 30.0f + rng_normal(&r); /* apart from all others */
        assert_ok(navmap_add(ix, 1, moved, &label, NULL, NULL));
        struct answer a = ask(p, SAY_FIND, moved);
        assert_int_equal(a.label, label);
        assert_true(a.distance == 0);
        assert_ok(navmap_delete(ix, label));
        assert_int_not_equal(ask(p, SAY_FIND, moved).label, label);
        assert_ok(navmap_undelete(ix, label));
        assert_int_equal(ask(p, SAY_FIND, moved).label, label);
    }
    assert_ok(navmap_close(ix));
    assert_int_equal(ask(p, SAY_COUNT, NULL).label, n); /* the reader outlives the writer */
    stop_peer(p);
    free(v);
}

/* Manual: seen after flush() and not before. */
static void test_reader_sees_flushes(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 200, DIM);
    struct peer p = start_peer();
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 8, NAVMAP_MANUAL);
    assert_int_equal(ask(p, SAY_OPEN, NULL).status, NAVMAP_OK);
    for (uint32_t i = 0; i < 10; i++) {
        add_range(ix, v + (size_t)i * 20 * DIM, i * 20, 20);
        assert_int_equal(ask(p, SAY_COUNT, NULL).label, i * 20);
        assert_ok(navmap_flush(ix));
        assert_int_equal(ask(p, SAY_COUNT, NULL).label, i * 20 + 20);
        assert_int_equal(ask(p, SAY_FIND, v + (size_t)(i * 20 + 7) * DIM).label, i * 20 + 7);
    }
    stop_peer(p);
    assert_ok(navmap_close(ix));
    free(v);
}

/* fork() with handles open: the writer's is dead in the child, the reader's goes on. */
static void test_handles_in_a_child(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 50, DIM), d;
    uint64_t label = 9;
    int status;
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 8, NAVMAP_FULL);
    add_range(ix, v, 0, 50);
    pid_t pid = fork();
    if (pid == 0)
        _exit(navmap_add(ix, 1, v, &label, NULL, NULL) == NAVMAP_EFORKED &&
                      navmap_search(ix, 1, v, 1, NULL, &label, &d, NULL) == NAVMAP_EFORKED
                  ? 0
                  : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    add_range(ix, v, 100, 20); /* the parent's handle is unharmed */
    assert_ok(navmap_close(ix));
    ix = open_index(NAVMAP_READ);
    assert_ok(navmap_search(ix, 1, v + DIM, 1, NULL, &label, &d, NULL));
    pid = fork();
    if (pid == 0)
        _exit(navmap_search(ix, 1, v + 3 * DIM, 1, NULL, &label, &d, NULL) == NAVMAP_OK && d == 0 &&
                      navmap_get(ix, 1, &label, v) == NAVMAP_OK
                  ? 0
                  : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_ok(navmap_close(ix));
    free(v);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        CASE(test_reader_follows_growth),
        CASE(test_reader_sees_flushes),
        CASE(test_handles_in_a_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
