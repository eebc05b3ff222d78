/* test_engine_halves.c -- an index of halves beside a model: a table of labels and of the floats
 * that are kept, rounded by the standard's words.
 *
 * Whatever happens to the index, get gives the model's numbers bit for bit, and distances are those
 * of the definition to these numbers.
 */
#include <sys/stat.h>

#include "engine/index.h"
#include "storage/half.h"
#include "tests/support/engine.h"

#define DIM 13u /* odd: the last half stands alone */
#define LABELS 300u

struct model {
    enum navmap_space space;
    float v[LABELS][DIM];
    bool here[LABELS], deleted[LABELS];
    struct rng r;
};

static void remember(struct model *m, uint32_t label, const float *v)
{
    float unit[DIM];
    uint16_t halves[DIM];
    memcpy(unit, v, sizeof unit);
    if (m->space == NAVMAP_COSINE)
        distance_normalise(v, DIM, unit);
    half_narrow(unit, DIM, halves);
    half_widen(halves, DIM, m->v[label]);
    m->here[label] = true;
    m->deleted[label] = false;
}

/* Of any size that a half can have, subnormal ones too. */
static void draw(struct model *m, float *v)
{
    float size = ldexpf(1, -(int)rng_below(&m->r, 24));
    for (uint32_t i = 0; i < DIM; i++)
        v[i] = size * rng_normal(&m->r);
}

static void change(struct model *m, navmap_index *ix, uint32_t steps)
{
    for (uint32_t i = 0; i < steps; i++) {
        float v[20][DIM];
        uint64_t labels[20], first = rng_below(&m->r, LABELS);
        uint32_t n = 1 + rng_below(&m->r, 20);
        for (uint32_t j = 0; j < n; j++) {
            labels[j] = (first + j) % LABELS;
            draw(m, v[j]);
        }
        assert_ok(navmap_add(ix, n, v[0], labels, NULL, NULL));
        for (uint32_t j = 0; j < n; j++)
            remember(m, (uint32_t)labels[j], v[j]);
        if (i % 4 == 3 && !index_flat(ix)) {
            assert_ok(navmap_delete(ix, labels[0]));
            m->deleted[labels[0]] = true;
        }
    }
}

static float distance_to(const struct model *m, const float *query, uint32_t label)
{
    return (m->space == NAVMAP_L2 ? distance_scalar.l2 : distance_scalar.ip)(query, m->v[label],
                                                                             DIM);
}

static void check_search(const struct model *m, navmap_index *ix, const float *given, bool exact)
{
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = LABELS};
    uint64_t labels[20];
    float distances[20], query[DIM], best = INFINITY;
    memcpy(query, given, sizeof query);
    if (m->space == NAVMAP_COSINE)
        distance_normalise(given, DIM, query);
    assert_ok((exact ? navmap_search_exact : navmap_search)(ix, 1, given, 20, &o, labels, distances,
                                                            NULL));
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(m->here[labels[i]] && !m->deleted[labels[i]]);
        float expected = distance_to(m, query, (uint32_t)labels[i]);
        assert_memory_equal(&distances[i], &expected, sizeof expected);
        assert_true(i == 0 || distances[i - 1] <= distances[i]);
    }
    for (uint32_t label = 0; label < LABELS; label++)
        if (m->here[label] && !m->deleted[label])
            best = fminf(best, distance_to(m, query, label));
    if (exact)
        assert_true(distances[0] == best);
}

static void on_finding(void *ctx, const struct navmap_finding *f)
{
    (void)ctx;
    if (!f->warning)
        print_error("%s, slot %u: %s\n", f->section, f->slot, f->message);
}

static void check(struct model *m, navmap_index *ix)
{
    struct navmap_stats s = {.struct_size = sizeof s};
    assert_ok(navmap_get_stats(ix, &s));
    assert_int_equal(s.vectors, NAVMAP_VECTORS_F16);
    for (uint64_t label = 0; label < LABELS; label++) {
        float v[DIM];
        if (m->here[label] && !m->deleted[label]) {
            assert_ok(navmap_get(ix, 1, &label, v));
            assert_memory_equal(v, m->v[label], sizeof v);
        } else {
            assert_status(navmap_get(ix, 1, &label, v), NAVMAP_ENOTFOUND);
        }
    }
    for (uint32_t i = 0; i < 20; i++) {
        float query[DIM];
        draw(m, query);
        check_search(m, ix, query, true);
        check_search(m, ix, query, false);
    }
    if (!index_flat(ix)) {
        struct navmap_check_result found = {.struct_size = sizeof found};
        assert_ok(navmap_check(ix, on_finding, NULL, &found));
        assert_int_equal(found.damaged, 0);
    }
}

static struct navmap_options options_of(enum navmap_space space, uint32_t codes)
{
    return (struct navmap_options){.struct_size = sizeof(struct navmap_options),
                                   .dim = DIM,
                                   .space = space,
                                   .M = 6,
                                   .ef_construction = 40,
                                   .codes = codes,
                                   .vectors = NAVMAP_VECTORS_F16};
}

static void sound(const char *path)
{
    struct navmap_verify_result result;
    assert_ok(navmap_verify(path, false, NULL, NULL, &result));
    assert_int_equal(result.damaged, 0);
}

static navmap_index *saved_and_loaded(navmap_index *ix)
{
    const struct navmap_load_options o = {.struct_size = sizeof o, .flat = index_flat(ix)};
    navmap_index *loaded = NULL;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/file", test_dir);
    assert_ok(navmap_save(ix, path));
    sound(path);
    assert_ok(navmap_load(path, &o, &loaded));
    return loaded;
}

static void life_in_memory(struct model *m, uint32_t codes, uint32_t flat)
{
    struct navmap_options o = options_of(m->space, codes);
    navmap_index *ix = NULL;
    o.flat = flat;
    assert_ok(navmap_new(&o, &ix));
    change(m, ix, 60);
    check(m, ix);
    navmap_index *loaded = saved_and_loaded(ix);
    assert_ok(navmap_close(ix));
    check(m, loaded);
    change(m, loaded, 20);
    check(m, loaded);
    assert_ok(navmap_close(loaded));
}

/* What was deleted is forgotten. */
static void compact(struct model *m, navmap_index *ix, uint32_t refine)
{
    const struct navmap_compact_options o = {.struct_size = sizeof o, .refine = refine};
    assert_ok(navmap_compact(ix, &o, NULL));
    for (uint32_t label = 0; label < LABELS; label++)
        m->here[label] = m->here[label] && !m->deleted[label];
}

static void life_in_a_directory(struct model *m, uint32_t codes)
{
    const struct navmap_options o = options_of(m->space, codes);
    navmap_index *ix = NULL;
    assert_ok(navmap_create(test_path, &o, &ix));
    change(m, ix, 40);
    check(m, ix);
    assert_ok(navmap_close(ix));
    sound(test_path);
    ix = open_index(NAVMAP_WRITE);
    check(m, ix);
    change(m, ix, 40);
    compact(m, ix, 0);
    check(m, ix);
    change(m, ix, 10);
    compact(m, ix, 1);
    check(m, ix);
    navmap_index *loaded = saved_and_loaded(ix);
    check(m, loaded);
    assert_ok(navmap_close(loaded));
    assert_ok(navmap_close(ix));
    sound(test_path);
}

static void test_lives(void **state)
{
    static const enum navmap_space spaces[] = {NAVMAP_L2, NAVMAP_IP, NAVMAP_COSINE};
    struct rng r = test_rng();
    struct model *m = malloc(sizeof *m);
    assert_non_null(m);
    for (uint32_t i = 0; i < 9; i++) {
        const uint32_t codes = i % 2 ? NAVMAP_CODES_NONE : NAVMAP_CODES_I8;
        memset(m, 0, sizeof *m);
        m->space = spaces[i / 3];
        m->r = (struct rng){rng_next(&r)};
        if (i % 3 == 0)
            life_in_memory(m, codes, 0);
        else if (i % 3 == 1)
            life_in_memory(m, codes, 1);
        memset(m->here, 0, sizeof m->here);
        life_in_a_directory(m, codes);
        assert_int_equal(remove_dir(state) | mkdir(test_dir, 0700), 0);
    }
    free(m);
}

/* Another M, another directory, what is left of a damaged one: the same numbers. */
static void test_made_anew(void **state)
{
    (void)state;
    const struct navmap_options o = options_of(NAVMAP_L2, NAVMAP_CODES_I8);
    struct model *m = calloc(1, sizeof *m);
    navmap_index *ix = NULL, *other = NULL;
    char out[128], saved[128];
    assert_non_null(m);
    m->r = test_rng();
    (void)snprintf(out, sizeof out, "%s/out", test_dir);
    (void)snprintf(saved, sizeof saved, "%s/salvaged", test_dir);
    assert_ok(navmap_create(test_path, &o, &ix));
    change(m, ix, 40);
    struct navmap_compact_options how = {
        .struct_size = sizeof how, .keep_deleted = 1, .output = out, .output_directory = 1};
    assert_ok(navmap_compact(ix, &how, NULL));
    assert_ok(navmap_open(out, NAVMAP_READ, NULL, &other));
    check(m, other);
    assert_ok(navmap_close(other));
    how.output = saved;
    how.M = 9;
    assert_ok(navmap_compact(ix, &how, NULL));
    assert_ok(navmap_open(saved, NAVMAP_READ, NULL, &other));
    check(m, other);
    assert_ok(navmap_close(other));
    assert_ok(navmap_close(ix));
    (void)snprintf(saved, sizeof saved, "%s/again", test_dir);
    struct navmap_salvage_result result = {.struct_size = sizeof result};
    assert_ok(navmap_salvage(test_path, saved, NULL, NULL, NULL, &result));
    assert_ok(navmap_open(saved, NAVMAP_READ, NULL, &other));
    check(m, other);
    assert_ok(navmap_close(other));
    free(m);
}

static void test_for_hnswlib(void **state)
{
    (void)state;
    const struct navmap_options o = options_of(NAVMAP_IP, NAVMAP_CODES_NONE);
    const struct navmap_load_options how = {
        .struct_size = sizeof how, .has_space = 1, .space = NAVMAP_IP};
    struct model *m = calloc(1, sizeof *m);
    navmap_index *ix = NULL, *other = NULL;
    char path[128];
    assert_non_null(m);
    m->r = test_rng();
    m->space = NAVMAP_IP;
    (void)snprintf(path, sizeof path, "%s/h.bin", test_dir);
    assert_ok(navmap_new(&o, &ix));
    change(m, ix, 20);
    assert_ok(navmap_export_hnswlib(ix, path, NULL));
    assert_ok(navmap_load(path, &how, &other));
    struct navmap_stats s = {.struct_size = sizeof s};
    assert_ok(navmap_get_stats(other, &s));
    assert_int_equal(s.vectors, NAVMAP_VECTORS_F32);
    for (uint64_t label = 0; label < LABELS; label++) {
        float v[DIM];
        if (!m->here[label] || m->deleted[label])
            continue;
        assert_ok(navmap_get(other, 1, &label, v));
        assert_memory_equal(v, m->v[label], sizeof v);
    }
    assert_ok(navmap_close(other));
    assert_ok(navmap_close(ix));
    free(m);
}

static void test_range(void **state)
{
    (void)state;
    struct navmap_options o = options_of(NAVMAP_L2, NAVMAP_CODES_I8);
    navmap_index *ix = NULL;
    float v[3][DIM] = {{0}};
    uint64_t added = 9;
    assert_ok(navmap_new(&o, &ix));
    v[1][4] = -65504.0f;
    v[2][0] = 65504.0f;
    assert_ok(navmap_add(ix, 3, v[0], NULL, NULL, NULL));
    v[1][4] = nextafterf(-65504.0f, -INFINITY);
    assert_status(navmap_add(ix, 3, v[0], NULL, NULL, &added), NAVMAP_EINVAL);
    assert_int_equal(added, 0);
    assert_non_null(strstr(navmap_error_detail(), "row 1, column 4 is -65504.0039"));
    uint64_t label;
    float distance; /* a query may be what it likes */
    v[0][0] = 1e9f;
    assert_ok(navmap_search(ix, 1, v[0], 1, NULL, &label, &distance, NULL));
    assert_int_equal(label, 2);
    assert_ok(navmap_close(ix));
    o.space = NAVMAP_COSINE;
    assert_ok(navmap_new(&o, &ix));
    assert_ok(navmap_add(ix, 1, v[0], NULL, NULL, NULL)); /* of length 1 when it is kept */
    assert_ok(navmap_close(ix));
    o.vectors = 2;
    assert_status(navmap_new(&o, &ix), NAVMAP_EINVAL);
}

/* Equal vectors are copies of each other (select.h), also those that became equal by rounding. */
static void test_copies(void **state)
{
    (void)state;
    for (uint32_t codes = NAVMAP_CODES_I8; codes <= NAVMAP_CODES_NONE; codes++) {
        struct navmap_options o = options_of(NAVMAP_L2, codes);
        struct navmap_check_result found = {.struct_size = sizeof found};
        navmap_index *ix = NULL;
        assert_ok(navmap_new(&o, &ix));
        for (uint32_t i = 0; i < 500; i++) {
            float v[DIM];
            for (uint32_t j = 0; j < DIM; j++)
                v[j] = 1.0f + (float)(i % 7) * 1e-5f;
            assert_ok(navmap_add(ix, 1, v, NULL, NULL, NULL));
        }
        assert_ok(navmap_check(ix, NULL, NULL, &found));
        assert_int_equal(found.damaged, 0);
        assert_int_equal(found.reachable, 500);
        assert_ok(navmap_close(ix));
    }
}

/* A reader whose index is emptied by another kind of numbers cannot go on. */
static void test_overwritten_by_floats(void **state)
{
    (void)state;
    struct navmap_options o = options_of(NAVMAP_L2, NAVMAP_CODES_I8);
    const float v[DIM] = {1};
    navmap_index *ix = NULL;
    uint64_t label;
    float distance;
    assert_ok(navmap_create(test_path, &o, &ix));
    assert_ok(navmap_add(ix, 1, v, NULL, NULL, NULL));
    assert_ok(navmap_close(ix));
    navmap_index *reader = open_index(NAVMAP_READ);
    assert_ok(navmap_search(reader, 1, v, 1, NULL, &label, &distance, NULL));
    o.overwrite = 1;
    o.vectors = NAVMAP_VECTORS_F32;
    assert_ok(navmap_create(test_path, &o, &ix));
    assert_ok(navmap_add(ix, 1, v, NULL, NULL, NULL));
    assert_status(navmap_search(reader, 1, v, 1, NULL, &label, &distance, NULL), NAVMAP_ESTALE);
    assert_ok(navmap_close(reader));
    assert_ok(navmap_close(ix));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lives, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_made_anew, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_for_hnswlib, make_dir, remove_dir),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_copies),
        cmocka_unit_test_setup_teardown(test_overwritten_by_floats, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
