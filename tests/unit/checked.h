/* checked.h -- an index of each kind of handle, and what navmap_check says of it: for the tests of
 * the check.  Include it last, instead of tests/support/engine.h.
 */
#ifndef NAVMAP_TESTS_UNIT_CHECKED_H
#define NAVMAP_TESTS_UNIT_CHECKED_H

#include "tests/support/engine.h"

#define DIM 8u
#define FINDINGS_MAX 32u

enum kind { READER, WRITER, PRIVATE, KINDS };
static const char *const kind_name[] = {"reader", "writer", "private"};

static struct {
    uint32_t n;
    struct navmap_check_result result;
    struct {
        bool warning;
        char section[16], message[320];
        uint32_t slot;
        uint64_t offset;
    } finding[FINDINGS_MAX];
} got;

static UNUSED void keep(void *ctx, const struct navmap_finding *f)
{
    assert_ptr_equal(ctx, &got);
    if (got.n < FINDINGS_MAX) {
        got.finding[got.n].warning = f->warning;
        got.finding[got.n].slot = f->slot;
        got.finding[got.n].offset = f->offset;
        (void)snprintf(got.finding[got.n].section, sizeof got.finding->section, "%s", f->section);
        (void)snprintf(got.finding[got.n].message, sizeof got.finding->message, "%s", f->message);
    }
    got.n++;
}

static UNUSED void check(navmap_index *ix)
{
    memset(&got, 0, sizeof got);
    got.result.struct_size = sizeof got.result;
    assert_ok(navmap_check(ix, keep, &got, &got.result));
    assert_int_equal(got.n, got.result.damaged + got.result.warnings);
}

static UNUSED void print_findings(void)
{
    for (uint32_t i = 0; i < got.n && i < FINDINGS_MAX; i++)
        print_message("  %s %s slot %u offset %lld: %s\n",
                      got.finding[i].warning ? "warning" : "damage", got.finding[i].section,
                      got.finding[i].slot, (long long)got.finding[i].offset,
                      got.finding[i].message);
}

/* No damage; warnings are of the graph, or of `other`. */
static UNUSED void expect_no_damage(const char *other)
{
    bool fine = got.result.damaged == 0;
    for (uint32_t i = 0; i < got.n && i < FINDINGS_MAX; i++)
        fine &= strcmp(got.finding[i].section, "graph") == 0 ||
                (other && strcmp(got.finding[i].section, other) == 0);
    if (!fine) {
        print_findings();
        fail_msg("findings in a sound index: damaged %llu", (unsigned long long)got.result.damaged);
    }
}

/* The handle of a kind on an index of which `ix` is the writer. */
static UNUSED navmap_index *make(enum kind kind)
{
    struct navmap_options o = {.struct_size = sizeof o,
                               .dim = DIM,
                               .M = 4,
                               .ef_construction = 40,
                               .slot_shift = 5,
                               .durability = NAVMAP_MANUAL};
    navmap_index *ix = NULL;
    if (kind == PRIVATE)
        assert_ok(navmap_new(&o, &ix));
    else
        assert_ok(navmap_create(test_path, &o, &ix));
    return ix;
}

static UNUSED navmap_index *committed(navmap_index *ix, enum kind kind)
{
    assert_ok(navmap_flush(ix));
    if (kind != READER)
        return ix;
    assert_ok(navmap_close(ix));
    return open_index(NAVMAP_READ);
}

static UNUSED int each_kind(enum kind kind, void (*run)(enum kind kind))
{
    print_message("%s\n", kind_name[kind]);
    assert_int_equal(make_dir(NULL), 0);
    run(kind);
    return remove_dir(NULL);
}

/* 2,000 items, a third updated often enough for sweeps, some deleted: all four states. */
static UNUSED navmap_index *make_used(enum kind kind)
{
    struct rng r = test_rng();
    uint32_t n = 2000;
    float *v = clustered_vectors(&r, n, DIM, 30);
    navmap_index *ix = make(kind);
    add_range(ix, v, 1000, n);
    for (uint32_t i = 0; i < 2 * n; i++) {
        uint64_t label = 1000 + rng_below(&r, n / 3);
        assert_ok(navmap_add(ix, 1, v + (size_t)rng_below(&r, n) * DIM, &label, NULL, NULL));
    }
    for (uint64_t label = 1000; label < 1000 + n; label += 9)
        assert_ok(navmap_delete(ix, label));
    free(v);
    return committed(ix, kind);
}

/* test_NAME runs run_NAME on each kind. */
#define EACH(name)                                                                                 \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        for (enum kind kind = READER; kind < KINDS; kind++)                                        \
            assert_int_equal(each_kind(kind, run_##name), 0);                                      \
    }

#endif
