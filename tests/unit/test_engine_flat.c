/* test_engine_flat.c -- indexes without a graph: the answers are those of a loop over everything,
 * and what is removed makes room, in slots as under max_elements.
 */
#include "engine/index.h"
#include "storage/handle.h"
#include "tests/support/engine.h"

#define DIM 19u
#define LABELS 400u /* of the model: label = place * 3 + 1, so that numbers have gaps */
#define K_MOST 50u

static navmap_index *new_flat(uint32_t space, uint64_t max_elements, bool bounded, bool replace)
{
    struct navmap_options o = {.struct_size = sizeof o,
                               .dim = DIM,
                               .space = space,
                               .max_elements = max_elements,
                               .bounded = bounded,
                               .slot_shift = 5,
                               .allow_replace_deleted = replace,
                               .flat = 1};
    navmap_index *ix = NULL;
    assert_ok(navmap_new(&o, &ix));
    return ix;
}

static navmap_status add_one(navmap_index *ix, uint64_t label, const float *v, bool replace)
{
    struct navmap_add_options o = {.struct_size = sizeof o, .replace_deleted = replace};
    return navmap_add(ix, 1, v, &label, &o, NULL);
}

static bool contains(navmap_index *ix, uint64_t label)
{
    bool yes = false;
    assert_ok(navmap_contains(ix, label, &yes));
    return yes;
}

static struct navmap_check_result check_of(navmap_index *ix)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    assert_ok(navmap_check(ix, NULL, NULL, &r));
    return r;
}

static void assert_sound(navmap_index *ix)
{
    struct navmap_check_result r = check_of(ix);
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(r.damaged + r.warnings, 0);
    assert_int_equal(r.links + r.upper_links + r.no_in_links + r.dangling + r.dead_links, 0);
    assert_int_equal(r.max_level, 0);
    assert_int_equal(r.live, s.n_live);
    assert_int_equal(r.reachable, s.n_live);
    assert_int_equal(r.labels, s.n_live + s.n_deleted);
    assert_int_equal(r.degrees[0], r.live + r.deleted + r.dead);
    assert_int_equal(s.entry_slot + s.entry_level, 0);
}

/* The model -----------------------------------------------------------------------------------*/

enum fate { ABSENT, LIVE, DELETED };

struct model {
    struct rng r;
    navmap_index *ix;
    uint32_t space;
    enum fate fate[LABELS];
    float v[LABELS][DIM]; /* as stored */
};

struct answer {
    uint64_t label;
    float dist;
};

static uint64_t label_at(uint32_t place)
{
    return (uint64_t)place * 3 + 1;
}

static uint64_t count(const struct model *m, enum fate fate)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < LABELS; i++)
        n += m->fate[i] == fate;
    return n;
}

static int by_distance(const void *a, const void *b)
{
    const struct answer *x = a, *y = b;
    if (x->dist != y->dist)
        return x->dist > y->dist ? 1 : -1;
    return (x->label > y->label) - (x->label < y->label);
}

static double plain_distance(const struct model *m, const float *q, const float *v)
{
    double sum = 0;
    for (uint32_t i = 0; i < DIM; i++) {
        double d = (double)q[i] - (double)v[i];
        sum += m->space == NAVMAP_L2 ? d * d : (double)q[i] * (double)v[i];
    }
    return m->space == NAVMAP_L2 ? sum : 1 - sum;
}

/* Every live item that `pass` lets through, nearest first. */
static uint32_t brute(const struct model *m, const float *query, const bool *pass,
                      struct answer *ret_answers)
{
    float q[DIM];
    uint32_t n = 0;
    memcpy(q, query, sizeof q);
    if (m->space == NAVMAP_COSINE)
        distance_normalise(query, DIM, q);
    for (uint32_t i = 0; i < LABELS; i++) {
        if (m->fate[i] != LIVE || !pass[i])
            continue;
        float d = m->ix->distance.fn(q, m->v[i], DIM);
        assert_true(fabs((double)d - plain_distance(m, q, m->v[i])) < 1e-4);
        ret_answers[n++] = (struct answer){label_at(i), d};
    }
    qsort(ret_answers, n, sizeof *ret_answers, by_distance);
    return n;
}

static int passes(void *ctx, uint64_t label)
{
    const bool *pass = ctx;
    return pass[label / 3];
}

/* By either call, by several threads or one, with a list, a function, both or neither. */
static void search_once(struct model *m)
{
    enum { ROWS = 12 };
    uint32_t k = 1 + rng_below(&m->r, K_MOST), kind = rng_below(&m->r, 4), n_allowed = 0;
    bool pass[LABELS], exact = rng_below(&m->r, 2);
    uint64_t allowed[LABELS + 2], labels[ROWS * K_MOST], found[ROWS];
    float distances[ROWS * K_MOST], *q = random_vectors(&m->r, ROWS, DIM);
    struct answer answers[LABELS];
    for (uint32_t i = 0; i < LABELS; i++) {
        pass[i] = kind == 0 || rng_below(&m->r, 3) == 0;
        if (pass[i])
            allowed[n_allowed++] = label_at(i);
    }
    allowed[n_allowed++] = 3; /* unknown, and the first of the list once more */
    allowed[n_allowed++] = allowed[0];
    struct navmap_search_options o = {.struct_size = sizeof o,
                                      .ef = rng_below(&m->r, 3),
                                      .allow_fewer = 1,
                                      .num_threads = rng_below(&m->r, 4),
                                      .filter = kind & 1 ? passes : NULL,
                                      .filter_ctx = pass,
                                      .allowed = kind & 2 ? allowed : NULL,
                                      .n_allowed = kind & 2 ? n_allowed : 0};
    assert_ok((exact ? navmap_search_exact : navmap_search)(m->ix, ROWS, q, k, &o, labels,
                                                            distances, found));
    for (uint32_t row = 0; row < ROWS; row++) {
        uint32_t n = brute(m, q + (size_t)row * DIM, pass, answers);
        n = n < k ? n : k;
        assert_int_equal(found[row], n);
        for (uint32_t i = 0; i < k; i++) {
            struct answer a = i < n ? answers[i] : (struct answer){UINT64_MAX, INFINITY};
            assert_int_equal(labels[row * k + i], a.label);
            assert_true(distances[row * k + i] == a.dist);
        }
    }
    free(q);
}

static void add_some(struct model *m)
{
    uint32_t n = 1 + rng_below(&m->r, 60);
    uint64_t labels[60];
    float *v = random_vectors(&m->r, n, DIM);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t place = rng_below(&m->r, LABELS);
        labels[i] = label_at(place);
        if (i > 0 && rng_below(&m->r, 3) == 0) /* distances that are equal */
            memcpy(v + (size_t)i * DIM, v + (size_t)(i - 1) * DIM, sizeof(float) * DIM);
        m->fate[place] = LIVE;
        memcpy(m->v[place], v + (size_t)i * DIM, sizeof m->v[place]);
        if (m->space == NAVMAP_COSINE)
            distance_normalise(v + (size_t)i * DIM, DIM, m->v[place]);
    }
    struct navmap_add_options o = {.struct_size = sizeof o, .num_threads = rng_below(&m->r, 4)};
    assert_ok(navmap_add(m->ix, n, v, labels, &o, NULL));
    free(v);
}

static void change_one(struct model *m, uint32_t what)
{
    uint32_t place = rng_below(&m->r, LABELS);
    uint64_t label = label_at(place);
    enum fate fate = m->fate[place];
    if (what == 0) {
        assert_status(navmap_remove(m->ix, label), fate == LIVE ? NAVMAP_OK : NAVMAP_ENOTFOUND);
        m->fate[place] = fate == LIVE ? ABSENT : fate;
    } else if (what == 1) {
        assert_status(navmap_delete(m->ix, label), fate == LIVE      ? NAVMAP_OK
                                                   : fate == DELETED ? NAVMAP_EDELETED
                                                                     : NAVMAP_ENOTFOUND);
        m->fate[place] = fate == LIVE ? DELETED : fate;
    } else {
        assert_status(navmap_undelete(m->ix, label), fate == DELETED ? NAVMAP_OK
                                                     : fate == LIVE  ? NAVMAP_ENOTDELETED
                                                                     : NAVMAP_ENOTFOUND);
        m->fate[place] = fate == DELETED ? LIVE : fate;
    }
}

static void look_up_all(struct model *m)
{
    uint64_t labels[LABELS], n = 0;
    struct navmap_stats s = stats_of(m->ix);
    assert_int_equal(s.n_live, count(m, LIVE));
    assert_int_equal(s.n_deleted, count(m, DELETED));
    assert_int_equal(s.n_dead, 0);
    assert_ok(navmap_labels(m->ix, true, LABELS, labels, &n));
    assert_int_equal(n, s.n_live + s.n_deleted);
    assert_ok(navmap_labels(m->ix, false, LABELS, labels, &n));
    assert_int_equal(n, s.n_live);
    for (uint32_t i = 0; i < LABELS; i++) {
        uint64_t label = label_at(i);
        float got[DIM];
        assert_int_equal(contains(m->ix, label), m->fate[i] == LIVE);
        assert_status(navmap_get(m->ix, 1, &label, got),
                      m->fate[i] == LIVE ? NAVMAP_OK : NAVMAP_ENOTFOUND);
        if (m->fate[i] == LIVE)
            assert_memory_equal(got, m->v[i], sizeof got);
    }
}

static void test_as_a_loop(void **state)
{
    (void)state;
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->r = test_rng();
    for (m->space = NAVMAP_L2; m->space <= NAVMAP_COSINE; m->space++) {
        m->ix = new_flat(m->space, 0, false, false);
        memset(m->fate, 0, sizeof m->fate);
        search_once(m); /* of an empty one */
        for (uint32_t step = 0; step < scaled(600, 6); step++) {
            add_some(m);
            for (uint32_t i = 0; i < 45; i++)
                change_one(m, rng_below(&m->r, 4) % 3);
            search_once(m);
            if (step % 50 == 0)
                look_up_all(m);
        }
        look_up_all(m);
        assert_sound(m->ix);
        /* What is freed is used: no more slots than there were ever labels, and an item of each
         * thread's while it is under way. */
        assert_true(stats_of(m->ix).nslots <= LABELS + 5);
        assert_ok(navmap_close(m->ix));
    }
    free(m);
}

/* Room ----------------------------------------------------------------------------------------*/

/* Filled, emptied and filled again, in every order, under new labels all the while. */
static void test_refilled(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = 200, rounds = scaled(300, 6);
    float *v = random_vectors(&r, n + 1, DIM), got[DIM];
    navmap_index *ix = new_flat(NAVMAP_L2, n, true, false);
    uint64_t *held = calloc(n, sizeof *held), next = 0;
    for (uint32_t i = 0; i < n; i++)
        held[i] = next++;
    add_range(ix, v, 0, n);
    for (uint32_t round = 0; round < rounds; round++) {
        assert_status(add_one(ix, next, v, false), NAVMAP_EFULL);
        uint32_t gone = 1 + rng_below(&r, n);
        for (uint32_t i = 0; i < gone; i++) { /* any of those left: to the end of `held` */
            uint32_t at = rng_below(&r, n - i);
            uint64_t label = held[at];
            held[at] = held[n - 1 - i];
            held[n - 1 - i] = label;
            assert_ok(navmap_remove(ix, label));
            assert_status(navmap_remove(ix, label), NAVMAP_ENOTFOUND);
            assert_false(contains(ix, label));
        }
        assert_int_equal(stats_of(ix).n_live, n - gone);
        for (uint32_t i = n - gone; i < n; i++) {
            held[i] = next++;
            assert_ok(add_one(ix, held[i], v + (size_t)(held[i] % n) * DIM, false));
        }
        assert_ok(add_one(ix, held[0], v + (size_t)(held[0] % n) * DIM, false)); /* needs no room */
    }
    for (uint32_t i = 0; i < n; i++) {
        assert_ok(navmap_get(ix, 1, &held[i], got));
        assert_memory_equal(got, v + (size_t)(held[i] % n) * DIM, sizeof got);
    }
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.n_dead, 0);
    assert_true(s.nslots <= n + 3); /* slot 0, and one for an update at full house */
    assert_sound(ix);
    free(held);
    assert_ok(navmap_close(ix));
    free(v);
}

/* One item, updated and removed over and over, lives in two slots. */
static void test_two_slots(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 16, DIM), d;
    navmap_index *ix = new_flat(NAVMAP_L2, 1, true, false);
    uint64_t label;
    for (uint32_t i = 0; i < 5000; i++) {
        assert_ok(add_one(ix, 7, v + (size_t)(i % 16) * DIM, false));
        assert_ok(navmap_search(ix, 1, v + (size_t)(i % 16) * DIM, 1, NULL, &label, &d, NULL));
        assert_true(label == 7 && d == 0);
        if (i % 3 == 0)
            assert_ok(navmap_remove(ix, 7));
    }
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.nslots, 3);
    assert_int_equal(s.n_dead, 0);
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    free(v);
}

/* A slot whose generations are used up stays dead, and nothing else does. */
static void test_last_generation(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 4, DIM);
    navmap_index *ix = new_flat(NAVMAP_L2, 0, false, false);
    add_range(ix, v, 0, 2);
    assert_ok(navmap_remove(ix, 1));
    struct view *view = ix->store->view;
    _Atomic uint32_t *word = (_Atomic uint32_t *)(uintptr_t)view_state(view, 2);
    assert_int_equal(atomic_load(word), STATE_WORD(1, SLOT_FREE));
    atomic_store(word, STATE_WORD(STATE_GEN_MAX, SLOT_FREE));
    assert_ok(add_one(ix, 5, v + 2 * DIM, false));
    assert_int_equal(stats_of(ix).nslots, 3);
    assert_ok(navmap_remove(ix, 5));
    assert_int_equal(atomic_load(word), STATE_WORD(STATE_GEN_MAX, SLOT_DEAD));
    assert_int_equal(stats_of(ix).n_dead, 1);
    assert_ok(add_one(ix, 6, v + 3 * DIM, false));
    assert_int_equal(stats_of(ix).nslots, 4);
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_replacement(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 300, DIM);
    navmap_index *ix = new_flat(NAVMAP_L2, 100, true, true);
    add_range(ix, v, 0, 100);
    for (uint64_t label = 0; label < 40; label++)
        assert_ok(navmap_delete(ix, label));
    assert_status(navmap_remove(ix, 5), NAVMAP_ENOTFOUND); /* deleted ones keep their place */
    assert_status(add_one(ix, 500, v, false), NAVMAP_EFULL);
    assert_ok(navmap_undelete(ix, 5));
    assert_ok(navmap_remove(ix, 5));
    assert_ok(add_one(ix, 500, v, false));
    uint64_t labels[39];
    for (uint64_t i = 0; i < 39; i++)
        labels[i] = 1000 + i;
    struct navmap_add_options o = {.struct_size = sizeof o, .replace_deleted = 1, .num_threads = 2};
    assert_ok(navmap_add(ix, 39, v + 100 * DIM, labels, &o, NULL));
    assert_status(add_one(ix, 2000, v, true), NAVMAP_EFULL);
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.n_live, 100);
    assert_int_equal(s.n_deleted + s.n_dead, 0);
    for (uint64_t i = 0; i < 39; i++)
        assert_true(contains(ix, labels[i]));
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_limits(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 20, DIM);
    navmap_index *ix = new_flat(NAVMAP_L2, 0, true, false);
    assert_status(add_one(ix, 1, v, false), NAVMAP_EFULL);
    assert_ok(navmap_resize(ix, 10));
    add_range(ix, v, 0, 10);
    assert_status(navmap_resize(ix, 9), NAVMAP_EINVAL);
    assert_ok(navmap_remove(ix, 9));
    assert_ok(navmap_resize(ix, 9));
    assert_status(add_one(ix, 9, v, false), NAVMAP_EFULL);
    assert_ok(navmap_remove(ix, 8));
    assert_ok(navmap_add(ix, 1, v, NULL, NULL, NULL)); /* after the largest label present */
    assert_true(contains(ix, 8));
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.in_memory, 1);
    assert_int_equal(s.bounded, 1);
    assert_int_equal(s.flat, 1);
    assert_int_equal(s.mapped, 0);
    assert_ok(navmap_close(ix));

    ix = new_flat(NAVMAP_L2, 0, false, false);
    assert_int_equal(stats_of(ix).bounded, 0);
    assert_ok(navmap_resize(ix, 5));
    assert_int_equal(stats_of(ix).bounded, 1);
    assert_ok(navmap_close(ix));
    free(v);
}

/* By threads ----------------------------------------------------------------------------------*/

static void test_threads_agree(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(5000, 5), nq = 100, k = 20;
    float *v = clustered_vectors(&r, n, DIM, 30), *d = malloc(sizeof *d * nq * k * 2);
    uint64_t *labels = malloc(sizeof *labels * nq * k * 2);
    for (uint32_t threads = 1; threads <= 6; threads += 5) {
        navmap_index *ix = new_flat(NAVMAP_COSINE, n, true, false);
        struct navmap_add_options o = {.struct_size = sizeof o, .num_threads = threads};
        struct navmap_search_options so = {.struct_size = sizeof so, .num_threads = 7 - threads};
        size_t at = threads == 1 ? 0 : (size_t)nq * k;
        assert_ok(navmap_add(ix, n, v, NULL, &o, NULL));
        assert_ok(navmap_search(ix, nq, v, k, &so, labels + at, d + at, NULL));
        assert_int_equal(stats_of(ix).n_live, n);
        assert_sound(ix);
        assert_ok(navmap_close(ix));
    }
    assert_memory_equal(labels, labels + (size_t)nq * k, sizeof *labels * nq * k);
    assert_memory_equal(d, d + (size_t)nq * k, sizeof *d * nq * k);
    free(labels);
    free(d);
    free(v);
}

/* Over a file ---------------------------------------------------------------------------------*/

/* Saved, loaded, turned over, and saved from there: the file under it is the first one still. */
static void test_saved(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 300, DIM), d[2][DIM];
    uint64_t labels[2][10];
    navmap_index *ix = new_flat(NAVMAP_IP, 200, true, false);
    add_range(ix, v, 0, 200);
    for (uint64_t label = 0; label < 60; label += 2)
        assert_ok(navmap_remove(ix, label));
    assert_ok(navmap_delete(ix, 61));
    for (int copy = 0; copy < 2; copy++) {
        struct navmap_load_options o = {
            .struct_size = sizeof o, .flat = 1, .copy = copy == 1, .verify = 1};
        struct navmap_verify_result result;
        navmap_index *loaded = NULL;
        assert_ok(navmap_save(ix, test_path));
        assert_ok(navmap_verify(test_path, false, NULL, NULL, &result));
        assert_int_equal(result.damaged + result.warnings, 0);
        assert_int_equal(result.reachable, stats_of(ix).n_live);
        assert_ok(navmap_load(test_path, &o, &loaded));
        assert_sound(loaded);
        struct navmap_stats s = stats_of(loaded);
        assert_true(s.flat && s.bounded && s.mapped == (copy == 0) && s.max_elements == 200);
        for (uint32_t i = 0; i < 20; i++) {
            const float *q = v + (size_t)(280 + i) * DIM;
            assert_ok(navmap_search(ix, 1, q, 10, NULL, labels[0], d[0], NULL));
            assert_ok(navmap_search(loaded, 1, q, 10, NULL, labels[1], d[1], NULL));
            assert_memory_equal(labels[0], labels[1], sizeof labels[0]);
            assert_memory_equal(d[0], d[1], sizeof(float) * 10);
        }
        for (uint64_t label = 62; label < 200; label++)
            assert_ok(navmap_remove(loaded, label));
        assert_status(navmap_remove(loaded, 61), NAVMAP_ENOTFOUND);
        add_range(loaded, v + 100 * DIM, 100, 168);
        assert_status(add_one(loaded, 500, v, false), NAVMAP_EFULL);
        assert_int_equal(stats_of(loaded).nslots, 201);
        assert_sound(loaded);
        assert_ok(navmap_save(loaded, test_path));
        assert_ok(navmap_close(loaded));
        assert_ok(navmap_load(test_path, &o, &loaded));
        assert_int_equal(stats_of(loaded).n_live + stats_of(loaded).n_deleted, 200);
        assert_ok(navmap_get(loaded, 1, &(uint64_t){267}, d[0]));
        assert_memory_equal(d[0], v + 267 * DIM, sizeof d[0]);
        assert_sound(loaded);
        assert_ok(navmap_close(loaded));
    }
    assert_ok(navmap_close(ix));
    free(v);
}

/* What is nothing, and what is wrong ----------------------------------------------------------*/

/* The place of a row is not looked at, and not written: untouched it takes no memory. */
static void test_rows_are_nothing(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 3, DIM);
    navmap_index *ix = new_flat(NAVMAP_L2, 0, false, false);
    _Atomic uint32_t *row = (_Atomic uint32_t *)(uintptr_t)view_row(ix->store->view, 1);
    atomic_store(row, 0xdeadbeef);
    add_range(ix, v, 0, 3);
    assert_ok(navmap_remove(ix, 2));
    assert_ok(add_one(ix, 0, v, false));
    assert_int_equal(atomic_load(row), 0xdeadbeef);
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_damage_is_found(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 10, DIM);
    navmap_index *ix = new_flat(NAVMAP_L2, 0, false, false);
    add_range(ix, v, 0, 10);
    store_entry_set(ix->store, 11, 0); /* an entry, and one that is no slot */
    assert_int_equal(check_of(ix).damaged, 1);
    store_entry_set(ix->store, 4, 0); /* none is to be there at all */
    assert_int_equal(check_of(ix).damaged, 1);
    store_entry_set(ix->store, 0, 0);
    assert_sound(ix);
    _Atomic uint32_t *word = (_Atomic uint32_t *)(uintptr_t)view_state(ix->store->view, 3);
    atomic_store(word, STATE_WORD(0, SLOT_FREE));
    assert_true(check_of(ix).damaged > 0); /* counters and labels */
    atomic_store(word, STATE_WORD(0, SLOT_LIVE));
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_refused(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 2, DIM), d[3];
    uint64_t labels[3], found[1] = {9};
    navmap_index *ix = NULL;
    struct navmap_options o = {.struct_size = sizeof o, .dim = DIM, .flat = 2};
    assert_status(navmap_new(&o, &ix), NAVMAP_EINVAL);
    o.flat = 1;
    assert_status(navmap_create("/tmp/never", &o, &ix), NAVMAP_EINVAL);
    assert_non_null(strstr(navmap_error_detail(), "flat"));
    o.flat = 0;
    assert_ok(navmap_new(&o, &ix));
    add_range(ix, v, 0, 2);
    assert_status(navmap_remove(ix, 1), NAVMAP_EINVAL);
    assert_true(contains(ix, 1));
    assert_int_equal(stats_of(ix).flat, 0);
    assert_ok(navmap_close(ix));

    assert_status(navmap_remove(NULL, 1), NAVMAP_EINVAL);
    ix = new_flat(NAVMAP_L2, 0, false, false);
    assert_status(navmap_remove(ix, 1), NAVMAP_ENOTFOUND);
    assert_non_null(strstr(navmap_error_detail(), "Label not found: 1"));
    assert_status(navmap_search(ix, 1, v, 1, NULL, labels, d, found), NAVMAP_EFEWER);
    add_range(ix, v, 0, 2);
    assert_status(navmap_search(ix, 1, v, 3, NULL, labels, d, found), NAVMAP_EFEWER);
    assert_int_equal(found[0], 9);
    assert_ok(navmap_delete(ix, 1));
    assert_status(navmap_search(ix, 1, v, 2, NULL, labels, d, found), NAVMAP_EFEWER);
    struct navmap_search_options so = {.struct_size = sizeof so, .allow_fewer = 1};
    assert_ok(navmap_search(ix, 1, v, 3, &so, labels, d, found));
    assert_true(found[0] == 1 && labels[0] == 0 && labels[1] == UINT64_MAX && d[2] == INFINITY);
    v[3] = NAN;
    assert_status(add_one(ix, 4, v, false), NAVMAP_EINVAL);
    assert_false(contains(ix, 4));
    assert_ok(navmap_close(ix));
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_a_loop),
        cmocka_unit_test(test_refilled),
        cmocka_unit_test(test_two_slots),
        cmocka_unit_test(test_last_generation),
        cmocka_unit_test(test_replacement),
        cmocka_unit_test(test_limits),
        cmocka_unit_test_setup_teardown(test_saved, make_dir, remove_dir),
        cmocka_unit_test(test_threads_agree),
        cmocka_unit_test(test_rows_are_nothing),
        cmocka_unit_test(test_damage_is_found),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
