/* test_engine_check.c -- navmap_check on a reader, a writer and a private index: sound ones are
 * found sound and counted right, also beside adders.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/unit/checked.h"

/* Numbers that belong together, on an index that nobody changes. */
static void expect_sums(navmap_index *ix)
{
    const struct navmap_check_result *r = &got.result;
    struct navmap_stats s = stats_of(ix);
    uint64_t levels = 0, slots = 0, links = 0;
    for (uint32_t i = 0; i < 32; i++)
        levels += r->levels[i];
    for (uint32_t i = 0; i < 65; i++) {
        slots += r->degrees[i];
        links += i * r->degrees[i];
    }
    assert_int_equal(r->struct_size, sizeof *r);
    assert_int_equal(levels, r->live + r->deleted + r->dead);
    assert_int_equal(slots, levels);
    assert_int_equal(links, r->links); /* no row here has 64 */
    assert_int_equal(r->live, s.n_live);
    assert_int_equal(r->deleted, s.n_deleted);
    assert_int_equal(r->dead, s.n_dead);
    assert_int_equal(r->slots, s.n_live + s.n_deleted + s.n_dead + s.n_free);
    assert_int_equal(r->labels, s.n_live + s.n_deleted);
    assert_true(levels == 0 || r->max_level == s.entry_level || r->levels[r->max_level] > 0);
    assert_int_equal(r->dangling, 0);
    uint64_t warnings = 0;
    warnings += r->reachable < r->live;
    warnings += r->no_in_links > 0;
    assert_int_equal(r->warnings, warnings);
}

/* Sound ----------------------------------------------------------------------------------------*/

static void run_small(enum kind kind)
{
    struct rng r = test_rng();
    float *v = random_vectors(&r, 2, DIM);
    navmap_index *ix = make(kind);
    check(ix);
    expect_no_damage(NULL);
    assert_int_equal(got.n, 0);
    assert_int_equal(got.result.slots, 0);
    add_range(ix, v, 70, 1);
    ix = committed(ix, kind);
    check(ix);
    expect_sums(ix);
    assert_int_equal(got.n, 0); /* the entry needs no row that names it */
    assert_int_equal(got.result.live, 1);
    assert_int_equal(got.result.reachable, 1);
    assert_int_equal(got.result.labels, 1);
    assert_int_equal(got.result.degrees[0], 1);
    assert_ok(navmap_close(ix));
    free(v);
}

static void run_used(enum kind kind)
{
    navmap_index *ix = make_used(kind);
    check(ix);
    expect_no_damage(NULL);
    expect_sums(ix);
    struct navmap_stats s = stats_of(ix);
    assert_true(s.n_free > 0 && s.n_dead > 0 && s.n_deleted > 0);
    assert_true(got.result.dead_links > 0 && got.result.upper_links > 0);
    assert_true(got.result.reachable > got.result.live * 99 / 100);
    assert_ok(navmap_check(ix, NULL, NULL, &got.result));
    assert_ok(navmap_close(ix));
}

static void run_wrong_calls(enum kind kind)
{
    navmap_index *ix = make(kind);
    struct navmap_check_result r = {.struct_size = sizeof r - 8};
    assert_status(navmap_check(ix, NULL, NULL, &r), NAVMAP_EINVAL);
    assert_int_equal(r.slots, 0);
    assert_status(navmap_check(ix, NULL, NULL, NULL), NAVMAP_EINVAL);
    r.struct_size = sizeof r;
    assert_status(navmap_check(NULL, NULL, NULL, &r), NAVMAP_EINVAL);
    assert_ok(navmap_close(ix));
}

/* What a forked child may still ask: nothing of a writer, of a reader all but the labels. */
static int child_of(enum kind kind, navmap_index *ix)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    navmap_status status = navmap_check(ix, NULL, NULL, &r);
    if (kind == WRITER)
        return status != NAVMAP_EFORKED;
    return status != NAVMAP_OK || r.damaged != 0 || r.live != 3 || r.reachable != 3 ||
           r.warnings != (kind == READER) || r.labels != (kind == READER ? 0 : 3);
}

static void run_forked(enum kind kind)
{
    struct rng r = test_rng();
    float *v = random_vectors(&r, 3, DIM);
    navmap_index *ix = make(kind);
    int how = 0;
    add_range(ix, v, 70, 3);
    ix = committed(ix, kind);
    pid_t child = fork();
    if (child == 0)
        _exit(child_of(kind, ix));
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
    check(ix);
    assert_int_equal(got.n, 0);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Beside adders --------------------------------------------------------------------------------*/

struct adder {
    navmap_index *ix;
    struct rng rng;
    uint64_t first;
    atomic_bool *stop;
    uint64_t steps;
    navmap_status status;
};

/* Small batches: new labels, updates, marks; the labels of other adders are left alone. */
static void *add_and_delete(void *ctx)
{
    struct adder *a = ctx;
    float v[8 * DIM];
    uint64_t labels[8], n = 0;
    while (!atomic_load(a->stop) && a->status == NAVMAP_OK) {
        for (uint32_t i = 0; i < 8 * DIM; i++)
            v[i] = rng_normal(&a->rng);
        for (uint32_t i = 0; i < 8; i++)
            labels[i] =
                a->first + (i < 2 ? n++ : rng_below(&a->rng, (uint32_t)(n < 400 ? n : 400)));
        a->status = navmap_add(a->ix, 8, v, labels, NULL, NULL);
        uint64_t label = a->first + rng_below(&a->rng, (uint32_t)n);
        if (a->status == NAVMAP_OK) {
            navmap_status marked = navmap_delete(a->ix, label);
            if (marked == NAVMAP_EDELETED)
                marked = navmap_undelete(a->ix, label);
            a->status = marked;
        }
        a->steps++;
    }
    return NULL;
}

static void run_beside(enum kind kind)
{
    struct rng r = test_rng();
    struct adder adders[2];
    pthread_t threads[2];
    atomic_bool stop = false;
    struct navmap_options o = {
        .struct_size = sizeof o, .dim = DIM, .M = 4, .ef_construction = 20, .slot_shift = 5};
    navmap_index *ix = NULL, *seen;
    if (kind == PRIVATE)
        assert_ok(navmap_new(&o, &ix));
    else
        assert_ok(navmap_create(test_path, &o, &ix));
    seen = kind == READER ? open_index(NAVMAP_READ) : ix;
    for (uint32_t i = 0; i < 2; i++) {
        adders[i] = (struct adder){ix, {rng_next(&r)}, i * UINT64_C(1000000), &stop, 0, NAVMAP_OK};
        assert_int_equal(pthread_create(&threads[i], NULL, add_and_delete, &adders[i]), 0);
    }
    struct timespec begin, now;
    uint32_t checks = 0;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &begin), 0);
    do {
        check(seen);
        expect_no_damage("live");
        checks++;
        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    } while (now.tv_sec - begin.tv_sec < 2);
    atomic_store(&stop, true);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_ok(adders[i].status);
        assert_true(adders[i].steps > 3);
    }
    check(seen);
    expect_no_damage(NULL);
    expect_sums(seen);
    print_message("%u checks beside %llu steps; at the end %llu slots\n", checks,
                  (unsigned long long)(adders[0].steps + adders[1].steps),
                  (unsigned long long)got.result.slots);
    if (seen != ix)
        assert_ok(navmap_close(seen));
    assert_ok(navmap_close(ix));
}

EACH(small)
EACH(used)
EACH(wrong_calls)
EACH(forked)
EACH(beside)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),       cmocka_unit_test(test_used),
        cmocka_unit_test(test_wrong_calls), cmocka_unit_test(test_forked),
        cmocka_unit_test(test_beside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
