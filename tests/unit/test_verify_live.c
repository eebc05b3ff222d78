/* test_verify_live.c -- verify where things move: beside a writer, and while writers come, go, die
 * and stop under it.  It must find what is damaged, and nothing else.
 */
#include "tests/unit/verify_writer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Beside a writer ------------------------------------------------------------------------------*/

static void expect_graph_warnings_only(void)
{
    for (uint32_t i = 0; i < writer_report.n && i < PLANTED_FINDINGS_MAX; i++)
        if (strcmp(writer_report.finding[i].section, "graph") != 0) {
            planted_print(&writer_report);
            fail_msg("a finding in a sound index");
        }
}

static void test_beside_a_writer(void **state)
{
    (void)state;
    pid_t child = writer_spawn(planted_seed(), -1);
    writer_wait_growing();
    uint64_t slots = 0;
    for (int i = 0; i < 25; i++) {
        writer_verify();
        writer_expect_damaged(0);
        expect_graph_warnings_only();
        assert_true(writer_report.result.slots >= slots);
        slots = writer_report.result.slots;
    }
    struct navmap_stats stats = {.struct_size = sizeof(stats)};
    assert_int_equal(navmap_inspect(writer_path, &stats), NAVMAP_OK);
    assert_true(stats.writer_held);
    assert_int_equal(stats.writer_pid, child);

    /* It looks twice, but it is not blind. */
    uint64_t tag_at = writer_damage_slot_3();
    writer_verify();
    writer_expect_damaged(1);
    assert_true(planted_has(&writer_report, "payload", 3, tag_at));

    assert_int_equal(kill(child, SIGKILL), 0);
    (void)writer_wait(child);
    writer_verify();
    writer_expect_damaged(1);
    assert_true(planted_has(&writer_report, "payload", 3, tag_at));
}

/* The records beside a writer that pauses. */
static void test_log_beside_a_writer(void **state)
{
    (void)state;
    uint64_t random = planted_seed();
    navmap_index *index = writer_create();
    assert_non_null(index);
    for (uint64_t label = 0; label < 8; label++)
        assert_true(writer_add(index, label, 1, &random));
    writer_verify();
    writer_expect_damaged(0);
    assert_int_equal(writer_report.result.log_records, 8);
    writer_damage_log();
    writer_verify();
    writer_expect_damaged(1);
    assert_string_equal(writer_report.finding[0].section, "log");
    writer_damage_log(); /* and back */
    assert_int_equal(navmap_close(index), NAVMAP_OK);
}

/* A writer that is stopped half way through an apply: nothing it may explain is reported. */
static void test_stopped_writer(void **state)
{
    static const enum kill_point points[] = {KP_C4, KP_P2_OWN, KP_P4_STATE};
    uint64_t seed = planted_seed();
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        int how = 0;
        pid_t child = writer_spawn_ending(points[i], 9, SIGSTOP, seed + 3);
        assert_int_equal(waitpid(child, &how, WUNTRACED), child);
        if (!WIFSTOPPED(how))
            fail_msg("%s was not reached", io_kill_point_names[points[i]]);
        writer_verify();
        writer_expect_damaged(0);
        assert_int_equal(kill(child, SIGKILL), 0);
        (void)writer_wait(child);
        writer_verify();
        writer_expect_damaged(0);
        assert_int_equal(writer_remove_dir(state), 0);
        assert_int_equal(writer_make_dir(state), 0);
    }
}

/* The ground changes under the check: within its first report, something happens ----------------*/

static navmap_index *hook_index;
static uint64_t hook_random;

static void hook_open_and_add(void *ctx, uint32_t n)
{
    (void)ctx;
    if (n != 1)
        return;
    hook_index = writer_open();
    assert_non_null(hook_index);
    assert_true(writer_add(hook_index, 5000, 700, &hook_random));
    for (int i = 0; i < 30; i++)
        assert_true(writer_step(hook_index, &hook_random));
}

static void hook_close(void *ctx, uint32_t n)
{
    (void)ctx;
    if (n != 1)
        return;
    assert_true(writer_step(hook_index, &hook_random));
    assert_int_equal(navmap_close(hook_index), NAVMAP_OK);
    hook_index = NULL;
}

static void hook_open_add_close(void *ctx, uint32_t n)
{
    hook_open_and_add(ctx, n);
    hook_close(ctx, n);
}

static void hook_kill(void *ctx, uint32_t n)
{
    pid_t *child = ctx;
    if (n != 1)
        return;
    assert_int_equal(kill(*child, SIGKILL), 0);
    (void)writer_wait(*child);
}

static void with_hook(void (*hook)(void *ctx, uint32_t n), void *ctx)
{
    writer_report.hook = hook;
    writer_report.hook_ctx = ctx;
    writer_verify();
    writer_report.hook = NULL;
}

static void test_writer_comes(void **state)
{
    (void)state;
    hook_random = planted_seed();
    navmap_index *index = writer_create();
    assert_non_null(index);
    assert_true(writer_add(index, 0, 60, &hook_random));
    assert_true(writer_add(index, 1000, 100, &hook_random));
    assert_int_equal(navmap_close(index), NAVMAP_OK);
    uint64_t tag_at = writer_damage_slot_3(); /* makes the check report, and so call the hook */
    with_hook(hook_open_and_add, NULL);
    writer_expect_damaged(1);
    assert_true(planted_has(&writer_report, "payload", 3, tag_at));
    /* Now a writer is there, and goes. */
    with_hook(hook_close, NULL);
    writer_expect_damaged(1);
    /* And one comes and goes between two looks. */
    with_hook(hook_open_add_close, NULL);
    writer_expect_damaged(1);
}

static void test_recovered_meanwhile(void **state)
{
    (void)state;
    hook_random = planted_seed();
    writer_leave_crashed(hook_random);
    with_hook(hook_open_and_add, NULL); /* the first report says that a log awaits recovery */
    writer_expect_damaged(0);
    assert_int_equal(navmap_close(hook_index), NAVMAP_OK);
}

static void test_writer_dies(void **state)
{
    (void)state;
    pid_t child = writer_spawn(planted_seed(), -1);
    writer_wait_growing();
    uint64_t tag_at = writer_damage_slot_3();
    with_hook(hook_kill, &child);
    writer_expect_damaged(1);
    assert_true(planted_has(&writer_report, "payload", 3, tag_at));
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, writer_make_dir, writer_remove_dir)
    const struct CMUnitTest tests[] = {
        EACH(test_beside_a_writer), EACH(test_log_beside_a_writer), EACH(test_stopped_writer),
        EACH(test_writer_comes),    EACH(test_recovered_meanwhile), EACH(test_writer_dies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
