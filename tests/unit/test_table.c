/* test_table.c -- the label table of a private index against a plain array, with and without the
 * label section of a file under it. */
#include "storage/table.h"
#include "tests/support/engine.h"

#define LABELS 300u /* few, so that they meet each other */

struct model {
    uint32_t slot[LABELS], gen[LABELS]; /* slot 0 = absent */
};

static uint64_t spread_out(uint32_t i)
{
    return i % 3 == 0 ? i : i % 3 == 1 ? UINT64_MAX - i : (uint64_t)i << 40;
}

static void assert_alike(struct table *t, const struct model *m)
{
    uint64_t n = 0, max = 0, last = 0;
    for (uint32_t i = 0; i < LABELS; i++) {
        const struct table_entry *e = table_get(t, spread_out(i));
        assert_int_equal(e != NULL, m->slot[i] != 0);
        if (!e)
            continue;
        assert_int_equal(e->label, spread_out(i));
        assert_int_equal(e->slot, m->slot[i]);
        assert_int_equal(e->gen, m->gen[i]);
        n++;
        max = e->label > max ? e->label : max;
    }
    assert_int_equal(t->n, n);
    assert_int_equal(table_last(t, &last), n > 0);
    if (n > 0)
        assert_int_equal(last, max);
    assert_null(table_get(t, 12345678901));
}

static int by_label(const void *a, const void *b)
{
    const struct table_entry *x = a, *y = b;
    return x->label < y->label ? -1 : x->label > y->label;
}

static void run(struct rng *r, uint32_t n_base)
{
    struct model m = {0};
    struct table t = {0};
    struct table_entry base[LABELS];
    uint32_t n = 0;
    while (n < n_base) {
        uint32_t i = rng_below(r, LABELS);
        if (m.slot[i] != 0)
            continue;
        m.slot[i] = n + 1;
        base[n] = (struct table_entry){spread_out(i), n + 1, 0};
        n++;
    }
    qsort(base, n, sizeof *base, by_label);
    struct table_entry kept[LABELS];
    memcpy(kept, base, sizeof kept);
    if (n > 0)
        table_over(&t, base, n);
    assert_alike(&t, &m);
    for (uint32_t step = 0; step < 3000; step++) {
        uint32_t i = rng_below(r, LABELS), what = rng_below(r, 3);
        assert_ok(table_reserve(&t, 1));
        assert_true(table_room(&t, 1));
        if (what == 0) {
            table_remove(&t, spread_out(i));
            m.slot[i] = 0;
        } else if (what == 1) {
            m.slot[i] = 1 + rng_below(r, 1000000);
            m.gen[i] = rng_below(r, 9);
            table_put(&t, spread_out(i), m.slot[i], m.gen[i]);
        } else { /* as a replacement does it: one out, one in, within the room for one */
            uint32_t j = rng_below(r, LABELS);
            table_remove(&t, spread_out(j));
            m.slot[j] = 0;
            m.slot[i] = 7;
            m.gen[i] = 1;
            table_put(&t, spread_out(i), 7, 1);
        }
        if (step % 10 == 0)
            assert_alike(&t, &m);
    }
    assert_memory_equal(base, kept, n * sizeof *base);
    table_free(&t);
}

static void test_alone(void **state)
{
    (void)state;
    struct rng r = test_rng();
    for (uint32_t i = 0; i < 20; i++)
        run(&r, 0);
}

static void test_over_a_file(void **state)
{
    (void)state;
    struct rng r = test_rng();
    for (uint32_t i = 0; i < 40; i++)
        run(&r, 1 + rng_below(&r, LABELS));
}

/* Entries that no sound file has: absent, never a slot. */
static void test_hostile_base(void **state)
{
    (void)state;
    const struct table_entry base[] = {{9, 0, 0}, {5, 3, 0}, {7, TABLE_GONE, 0}, {7, 4, 0}};
    struct table t = {0};
    table_over(&t, base, 4);
    for (uint64_t label = 0; label < 12; label++) {
        const struct table_entry *e = table_get(&t, label);
        assert_true(!e || (e->slot != 0 && e->slot != TABLE_GONE && e->label == label));
    }
    uint64_t last;
    (void)table_last(&t, &last);
    table_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_over_a_file),
        cmocka_unit_test(test_hostile_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
