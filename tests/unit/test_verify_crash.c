/* test_verify_crash.c -- verify after a crash: it sees the index as recovery will leave it, writes
 * nothing, and still finds what is damaged.
 */
#include "tests/unit/verify_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_crashed(void **state)
{
    (void)state;
    uint64_t seed = planted_seed();
    writer_leave_crashed(seed);
    size_t n_data = 0, n_wal = 0, n = 0;
    uint8_t *data = writer_read_file(writer_data_path, &n_data),
            *wal = writer_read_file(writer_wal_path, &n_wal);
    struct navmap_stats stats = {.struct_size = sizeof(stats)};
    assert_int_equal(navmap_inspect(writer_path, &stats), NAVMAP_OK);
    assert_true(stats.last_lsn > stats.checkpoint_lsn && !stats.writer_held);

    for (int quick = 0; quick <= 1; quick++) {
        planted_verify(writer_path, quick, &writer_report);
        assert_int_equal(writer_report.status, NAVMAP_OK);
        writer_expect_damaged(0);
        assert_true(writer_report.result.warnings >= 1);
        assert_string_equal(writer_report.finding[0].section, "log");
        assert_int_equal(writer_report.result.log_records, stats.last_lsn - stats.checkpoint_lsn);
    }
    /* Nothing was written. */
    uint8_t *after = writer_read_file(writer_data_path, &n);
    assert_true(n == n_data && memcmp(after, data, n) == 0);
    free(after);
    after = writer_read_file(writer_wal_path, &n);
    assert_true(n == n_wal && memcmp(after, wal, n) == 0);
    free(after);

    navmap_index *index = writer_open(); /* recovers */
    assert_non_null(index);
    struct navmap_stats recovered = {.struct_size = sizeof(recovered)};
    assert_int_equal(navmap_get_stats(index, &recovered), NAVMAP_OK);
    assert_int_equal(navmap_close(index), NAVMAP_OK);
    assert_int_equal(recovered.n_live, stats.n_live);
    assert_int_equal(recovered.n_dead, stats.n_dead);
    assert_int_equal(recovered.last_lsn, stats.last_lsn);
    free(data);
    free(wal);
}

/* What recovery overwrites is not judged; what it relies on and what it leaves alone is. */
static void test_crashed_and_damaged(void **state)
{
    (void)state;
    writer_leave_crashed(planted_seed());
    const uint8_t zeros[128] = {0};
    writer_poke(writer_data_path, LAYOUT_ROOT_OFFSET, zeros, sizeof(zeros)); /* a torn page */
    writer_verify();
    writer_expect_damaged(0);

    uint64_t tag_at = writer_damage_slot_3();
    writer_verify();
    writer_expect_damaged(1);
    assert_true(planted_has(&writer_report, "payload", 3, tag_at));

    writer_damage_log();
    writer_verify();
    writer_expect_damaged(1);
    assert_string_equal(writer_report.finding[0].section, "log");
}

/* A data file from before the last checkpoint: the log cannot bring it up to date. */
static void test_older_than_its_log(void **state)
{
    (void)state;
    uint64_t random = planted_seed();
    navmap_index *index = writer_create();
    assert_non_null(index);
    assert_true(writer_add(index, 0, 60, &random));
    assert_int_equal(navmap_flush(index), NAVMAP_OK);
    size_t n = 0;
    uint8_t *old = writer_read_file(writer_data_path, &n);
    assert_true(writer_add(index, 0, 5, &random));
    assert_int_equal(navmap_close(index), NAVMAP_OK);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        index = writer_open();
        _exit(index != NULL && writer_add(index, 5, 1, &random) ? 0 : 1);
    }
    assert_int_equal(writer_wait(child), 0);
    writer_verify();
    writer_expect_damaged(0);
    writer_poke(writer_data_path, 0, old, n);
    free(old);
    writer_verify();
    writer_expect_damaged(1);
    assert_string_equal(writer_report.finding[0].section, "log");
    assert_non_null(strstr(writer_report.finding[0].message, "older"));
}

/* Ended at every step of the protocol: sound each time, and verify never recovers. */
static void test_every_kill_point(void **state)
{
    uint64_t seed = planted_seed();
    for (int point = 0; point < KP_COUNT; point++) {
        for (uint32_t hit = 1; hit <= 25; hit += 12) {
            if (writer_wait(writer_spawn_ending((enum kill_point)point, hit, 0, seed + hit)) != 0)
                fail_msg("%s: the writer failed", io_kill_point_names[point]);
            if (access(writer_path, F_OK) == 0) { /* it was there already */
                writer_verify();
                if (writer_report.result.damaged != 0)
                    printf("at %s, hit %u\n", io_kill_point_names[point], hit);
                writer_expect_damaged(0);
            }
            assert_int_equal(writer_remove_dir(state), 0);
            assert_int_equal(writer_make_dir(state), 0);
        }
    }
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, writer_make_dir, writer_remove_dir)
    const struct CMUnitTest tests[] = {
        EACH(test_crashed),
        EACH(test_crashed_and_damaged),
        EACH(test_older_than_its_log),
        EACH(test_every_kill_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
