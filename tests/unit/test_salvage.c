/* test_salvage.c -- navmap_salvage as a call: its arguments, its numbers, being stopped; and the
 * check's being stopped.  What it saves of what damage is tests/python/test_cli_salvage.py's. */
#include "tests/unit/planted_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char out[96];

static struct navmap_salvage_result fresh_result(void)
{
    return (struct navmap_salvage_result){.struct_size = sizeof(struct navmap_salvage_result)};
}

static void remove_out(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", out);
    assert_int_equal(system(command), 0);
}

static int stop_at(void *ctx, uint64_t done, uint64_t total)
{
    uint64_t *limit = ctx;
    assert_true(done <= total && total > 0);
    return done >= *limit;
}

static void test_arguments(void **state)
{
    (void)state;
    struct navmap_salvage_result r = fresh_result();
    struct navmap_salvage_options o = {.struct_size = 8};
    assert_int_equal(navmap_salvage(NULL, out, NULL, NULL, NULL, &r), NAVMAP_EINVAL);
    assert_int_equal(navmap_salvage(planted.path, out, NULL, NULL, NULL, NULL), NAVMAP_EINVAL);
    assert_int_equal(navmap_salvage(planted.path, out, &o, NULL, NULL, &r), NAVMAP_EINVAL);
    r.struct_size = 4;
    assert_int_equal(navmap_salvage(planted.path, out, NULL, NULL, NULL, &r), NAVMAP_EINVAL);
    r = fresh_result();
    assert_int_equal(navmap_salvage("/nowhere/at/all", out, NULL, NULL, NULL, &r), NAVMAP_ENOINDEX);
    assert_int_equal(navmap_salvage(planted.path, planted.path, NULL, NULL, NULL, &r),
                     NAVMAP_EEXIST);
    assert_int_not_equal(access(out, F_OK), 0);
}

static void test_numbers(void **state)
{
    (void)state;
    struct navmap_salvage_result look = fresh_result(), r = fresh_result();
    const struct disk_root *root = planted_root(&planted);
    assert_int_equal(navmap_salvage(planted.path, NULL, NULL, NULL, NULL, &look), NAVMAP_OK);
    assert_int_not_equal(access(out, F_OK), 0);
    assert_int_equal(navmap_salvage(planted.path, out, NULL, NULL, NULL, &r), NAVMAP_OK);
    assert_memory_equal(&look, &r, sizeof r);
    assert_int_equal(r.live, root->n_live);
    assert_int_equal(r.deleted, root->n_deleted);
    assert_int_equal(r.left_out + r.warnings, 0);
    assert_int_equal(r.log_read + r.labels_read, 2);
    assert_true(r.slots >= root->n_live + root->n_deleted + root->n_dead);
    struct navmap_stats stats = {.struct_size = sizeof stats};
    assert_int_equal(navmap_inspect(out, &stats), NAVMAP_OK);
    assert_int_equal(stats.n_live, root->n_live);
    assert_int_equal(stats.n_deleted, root->n_deleted);
    assert_int_equal(stats.n_dead, 0);
    planted_verify(out, false, &report);
    assert_int_equal(report.result.damaged, 0);
    remove_out();
}

static void test_stopped(void **state)
{
    (void)state;
    uint64_t limit = 0;
    struct navmap_salvage_result r = fresh_result();
    const struct navmap_salvage_options o = {
        .struct_size = sizeof o, .progress = stop_at, .progress_ctx = &limit};
    assert_int_equal(navmap_salvage(planted.path, out, &o, NULL, NULL, &r), NAVMAP_EINTERRUPTED);
    remove_out();
    limit = UINT64_MAX;
    assert_int_equal(navmap_salvage(planted.path, out, &o, NULL, NULL, &r), NAVMAP_OK);
    remove_out();
}

static void test_check_stopped(void **state)
{
    (void)state;
    char file[96];
    navmap_index *ix;
    uint64_t limit;
    struct navmap_verify_result result;
    const struct navmap_verify_options o = {
        .struct_size = sizeof o, .progress = stop_at, .progress_ctx = &limit};
    (void)snprintf(file, sizeof file, "%s/saved", planted.dir);
    assert_int_equal(navmap_open(planted.path, NAVMAP_READ, NULL, &ix), NAVMAP_OK);
    assert_int_equal(navmap_save(ix, file), NAVMAP_OK);
    assert_int_equal(navmap_close(ix), NAVMAP_OK);
    for (int i = 0; i < 2; i++) {
        const char *path = i ? file : planted.path;
        for (limit = 0; limit <= 256; limit += 256)
            assert_int_equal(navmap_verify_with(path, &o, NULL, NULL, &result),
                             NAVMAP_EINTERRUPTED);
        limit = UINT64_MAX;
        assert_int_equal(navmap_verify_with(path, &o, NULL, NULL, &result), NAVMAP_OK);
        assert_int_equal(result.damaged, 0);
    }
    planted_verify(planted.path, false, &report); /* nothing is held any more */
    assert_int_equal(report.status, NAVMAP_OK);
}

static int begin(void **state)
{
    int failed = make_index(state);
    (void)snprintf(out, sizeof out, "%s/out", planted.dir);
    return failed;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_arguments, restore_index),
        cmocka_unit_test_setup(test_numbers, restore_index),
        cmocka_unit_test_setup(test_stopped, restore_index),
        cmocka_unit_test_setup(test_check_stopped, restore_index),
    };
    return cmocka_run_group_tests(tests, begin, free_index);
}
