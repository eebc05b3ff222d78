/* test_verify_live.c -- verify where things move: after crashes, beside a writer, and while writers
 * come, go, die and stop under it.  It must find what is damaged, and nothing else.
 */
#include "tests/unit/planted.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/io.h"

#define DIM PLANTED_DIM

static char dir[64], path[80], data_path[128], wal_path[96];
static struct planted_report report;

static int make_dir(void **state)
{
    (void)state;
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(dir, sizeof(dir), "%s/navmap-verify-XXXXXX", base);
    if (mkdtemp(dir) == NULL)
        return -1;
    (void)snprintf(path, sizeof(path), "%s/index", dir);
    (void)snprintf(data_path, sizeof(data_path), "%s/data-00000001.navmap", path);
    (void)snprintf(wal_path, sizeof(wal_path), "%s/wal.mdb", path);
    memset(&report, 0, sizeof(report));
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

/* Work for a writer ----------------------------------------------------------------------------*/

static navmap_index *create(void)
{
    const struct navmap_options options = {.struct_size = sizeof(options),
                                           .dim = DIM,
                                           .space = NAVMAP_L2,
                                           .M = 4,
                                           .ef_construction = 24,
                                           .slot_shift = 4};
    navmap_index *index = NULL;
    return navmap_create(path, &options, &index) == NAVMAP_OK ? index : NULL;
}

static navmap_index *open_writer(void)
{
    navmap_index *index = NULL;
    return navmap_open(path, NAVMAP_WRITE, NULL, &index) == NAVMAP_OK ? index : NULL;
}

/* Labels [from, from + n), new or updated, in one call. */
static bool add(navmap_index *index, uint64_t from, uint32_t n, uint64_t *random)
{
    float *vectors = malloc((size_t)n * DIM * sizeof(*vectors));
    uint64_t *labels = malloc(n * sizeof(*labels)), added = 0;
    for (uint32_t i = 0; i < n * DIM; i++)
        vectors[i] = (float)(planted_random(random) >> 40) / (float)(1 << 24);
    for (uint32_t i = 0; i < n; i++)
        labels[i] = from + i;
    navmap_status status = navmap_add(index, n, vectors, labels, NULL, &added);
    free(vectors);
    free(labels);
    return status == NAVMAP_OK;
}

/* One step of a mixed workload on labels 1000.. ; 0.. are left alone. */
static bool step(navmap_index *index, uint64_t *random)
{
    uint64_t label = 1000 + planted_random(random) % 400;
    switch (planted_random(random) % 4) {
    case 0:
        return add(index, label, 1, random);
    case 1:
        return add(index, label, 1 + (uint32_t)(planted_random(random) % 60), random);
    case 2: {
        navmap_status status = navmap_delete(index, label);
        return status == NAVMAP_OK || status == NAVMAP_ENOTFOUND || status == NAVMAP_EDELETED;
    }
    default: {
        navmap_status status = navmap_undelete(index, label);
        return status == NAVMAP_OK || status == NAVMAP_ENOTFOUND || status == NAVMAP_ENOTDELETED;
    }
    }
}

/* Runs in a child; `stop_at` < 0: goes on for ever. */
static int work(uint64_t seed, int stop_at)
{
    uint64_t random = seed;
    navmap_index *index = create();
    if (index == NULL || !add(index, 0, 60, &random) || navmap_flush(index) != NAVMAP_OK)
        return 1;
    for (int i = 0; i != stop_at; i++)
        if (!step(index, &random))
            return 2;
    return 0; /* not closed: as after kill -9, but at a place that the test knows */
}

static pid_t spawn(uint64_t seed, int stop_at)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(work(seed, stop_at));
    assert_true(child > 0);
    return child;
}

static int wait_for(pid_t child)
{
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    return how;
}

static void leave_crashed(uint64_t seed)
{
    assert_int_equal(wait_for(spawn(seed, 40)), 0);
}

/* Until a full check gets to see some items. */
static void wait_until_growing(void)
{
    struct navmap_stats stats = {.struct_size = sizeof(stats)};
    for (int i = 0; i < 2000; i++) {
        if (navmap_inspect(path, &stats) == NAVMAP_OK && stats.n_live > 80)
            return;
        usleep(5000);
    }
    fail_msg("the writer does not get going: %s", navmap_error_detail());
}

static void verify(void)
{
    planted_verify(path, false, &report);
    if (report.status != NAVMAP_OK)
        planted_print(&report);
    assert_int_equal(report.status, NAVMAP_OK);
}

static void expect_damaged(uint64_t n)
{
    if (report.result.damaged != n)
        planted_print(&report);
    assert_int_equal(report.result.damaged, n);
}

static uint8_t *read_all(const char *name, size_t *ret_bytes)
{
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *ret_bytes = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*ret_bytes + 1);
    assert_int_equal(fread(bytes, 1, *ret_bytes, file), *ret_bytes);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

static void poke(const char *name, uint64_t offset, const void *bytes, size_t n)
{
    FILE *file = fopen(name, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)offset, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static struct layout layout_of_file(void)
{
    size_t n = 0;
    uint8_t *bytes = read_all(data_path, &n);
    struct layout l;
    int read_only = 0;
    assert_int_equal(layout_read_header(bytes, n, data_path, &l, &read_only), NAVMAP_OK);
    free(bytes);
    return l;
}

/* Damage the vector of slot 3, which holds label 2 and is never touched by step(). */
static uint64_t damage_slot_3(void)
{
    struct layout l = layout_of_file();
    const uint8_t byte = 0xa5;
    poke(data_path, layout_vec_off(&l, 3) + 3, &byte, 1);
    return layout_tag_off(&l, 3);
}

/* Change a byte in the first cell of every record that wal.mdb holds. */
static void damage_log(void)
{
    size_t n = 0, hits = 0;
    uint8_t *wal = read_all(wal_path, &n), *from = wal;
    for (uint8_t *hit; (hit = memmem(from, n - (size_t)(from - wal), "NVW1", 4)) != NULL; hits++) {
        hit[60] ^= 1;
        from = hit + 4;
    }
    assert_true(hits > 0);
    poke(wal_path, 0, wal, n);
    free(wal);
}

/* After a crash --------------------------------------------------------------------------------*/

static void test_crashed(void **state)
{
    (void)state;
    uint64_t seed = planted_seed();
    leave_crashed(seed);
    size_t n_data = 0, n_wal = 0, n = 0;
    uint8_t *data = read_all(data_path, &n_data), *wal = read_all(wal_path, &n_wal);
    struct navmap_stats stats = {.struct_size = sizeof(stats)};
    assert_int_equal(navmap_inspect(path, &stats), NAVMAP_OK);
    assert_true(stats.last_lsn > stats.checkpoint_lsn && !stats.writer_held);

    for (int quick = 0; quick <= 1; quick++) {
        planted_verify(path, quick, &report);
        assert_int_equal(report.status, NAVMAP_OK);
        expect_damaged(0);
        assert_true(report.result.warnings >= 1);
        assert_string_equal(report.finding[0].section, "log");
        assert_int_equal(report.result.log_records, stats.last_lsn - stats.checkpoint_lsn);
    }
    /* Nothing was written. */
    uint8_t *after = read_all(data_path, &n);
    assert_true(n == n_data && memcmp(after, data, n) == 0);
    free(after);
    after = read_all(wal_path, &n);
    assert_true(n == n_wal && memcmp(after, wal, n) == 0);
    free(after);

    navmap_index *index = open_writer(); /* recovers */
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
    leave_crashed(planted_seed());
    const uint8_t zeros[128] = {0};
    poke(data_path, LAYOUT_ROOT_OFFSET, zeros, sizeof(zeros)); /* a torn page */
    verify();
    expect_damaged(0);

    uint64_t tag_at = damage_slot_3();
    verify();
    expect_damaged(1);
    assert_true(planted_has(&report, "payload", 3, tag_at));

    damage_log();
    verify();
    expect_damaged(1);
    assert_string_equal(report.finding[0].section, "log");
}

/* A data file from before the last checkpoint: the log cannot bring it up to date. */
static void test_older_than_its_log(void **state)
{
    (void)state;
    uint64_t random = planted_seed();
    navmap_index *index = create();
    assert_non_null(index);
    assert_true(add(index, 0, 60, &random));
    assert_int_equal(navmap_flush(index), NAVMAP_OK);
    size_t n = 0;
    uint8_t *old = read_all(data_path, &n);
    assert_true(add(index, 0, 5, &random));
    assert_int_equal(navmap_close(index), NAVMAP_OK);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        index = open_writer();
        _exit(index != NULL && add(index, 5, 1, &random) ? 0 : 1);
    }
    assert_int_equal(wait_for(child), 0);
    verify();
    expect_damaged(0);
    poke(data_path, 0, old, n);
    free(old);
    verify();
    expect_damaged(1);
    assert_string_equal(report.finding[0].section, "log");
    assert_non_null(strstr(report.finding[0].message, "older"));
}

static enum kill_point end_point;
static int end_signal;
static uint32_t hits_left;

static void end_here(void *ctx, enum kill_point point)
{
    (void)ctx;
    if (point != end_point || --hits_left != 0)
        return;
    if (end_signal != 0)
        raise(end_signal);
    else
        _exit(0);
}

static pid_t spawn_ending(enum kill_point point, uint32_t hit, int signal_number, uint64_t seed)
{
    static const struct io_hooks hooks = {.kill_point = end_here};
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        end_point = point;
        end_signal = signal_number;
        hits_left = hit;
        io_hooks = &hooks;
        _exit(work(seed, 60));
    }
    assert_true(child > 0);
    return child;
}

/* Ended at every step of the protocol: sound each time, and verify never recovers. */
static void test_every_kill_point(void **state)
{
    uint64_t seed = planted_seed();
    for (int point = 0; point < KP_COUNT; point++) {
        for (uint32_t hit = 1; hit <= 25; hit += 12) {
            if (wait_for(spawn_ending((enum kill_point)point, hit, 0, seed + hit)) != 0)
                fail_msg("%s: the writer failed", io_kill_point_names[point]);
            if (access(path, F_OK) == 0) { /* it was there already */
                verify();
                if (report.result.damaged != 0)
                    printf("at %s, hit %u\n", io_kill_point_names[point], hit);
                expect_damaged(0);
            }
            assert_int_equal(remove_dir(state), 0);
            assert_int_equal(make_dir(state), 0);
        }
    }
}

/* Beside a writer ------------------------------------------------------------------------------*/

static void expect_graph_warnings_only(void)
{
    for (uint32_t i = 0; i < report.n && i < PLANTED_FINDINGS_MAX; i++)
        if (strcmp(report.finding[i].section, "graph") != 0) {
            planted_print(&report);
            fail_msg("a finding in a sound index");
        }
}

static void test_beside_a_writer(void **state)
{
    (void)state;
    pid_t child = spawn(planted_seed(), -1);
    wait_until_growing();
    uint64_t slots = 0;
    for (int i = 0; i < 25; i++) {
        verify();
        expect_damaged(0);
        expect_graph_warnings_only();
        assert_true(report.result.slots >= slots);
        slots = report.result.slots;
    }
    struct navmap_stats stats = {.struct_size = sizeof(stats)};
    assert_int_equal(navmap_inspect(path, &stats), NAVMAP_OK);
    assert_true(stats.writer_held);
    assert_int_equal(stats.writer_pid, child);

    /* It looks twice, but it is not blind. */
    uint64_t tag_at = damage_slot_3();
    verify();
    expect_damaged(1);
    assert_true(planted_has(&report, "payload", 3, tag_at));

    assert_int_equal(kill(child, SIGKILL), 0);
    (void)wait_for(child);
    verify();
    expect_damaged(1);
    assert_true(planted_has(&report, "payload", 3, tag_at));
}

/* The records beside a writer that pauses. */
static void test_log_beside_a_writer(void **state)
{
    (void)state;
    uint64_t random = planted_seed();
    navmap_index *index = create();
    assert_non_null(index);
    for (uint64_t label = 0; label < 8; label++)
        assert_true(add(index, label, 1, &random));
    verify();
    expect_damaged(0);
    assert_int_equal(report.result.log_records, 8);
    damage_log();
    verify();
    expect_damaged(1);
    assert_string_equal(report.finding[0].section, "log");
    damage_log(); /* and back */
    assert_int_equal(navmap_close(index), NAVMAP_OK);
}

/* A writer that is stopped half way through an apply: nothing it may explain is reported. */
static void test_stopped_writer(void **state)
{
    static const enum kill_point points[] = {KP_C4, KP_P2_OWN, KP_P4_STATE};
    uint64_t seed = planted_seed();
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        int how = 0;
        pid_t child = spawn_ending(points[i], 9, SIGSTOP, seed + 3);
        assert_int_equal(waitpid(child, &how, WUNTRACED), child);
        if (!WIFSTOPPED(how))
            fail_msg("%s was not reached", io_kill_point_names[points[i]]);
        verify();
        expect_damaged(0);
        assert_int_equal(kill(child, SIGKILL), 0);
        (void)wait_for(child);
        verify();
        expect_damaged(0);
        assert_int_equal(remove_dir(state), 0);
        assert_int_equal(make_dir(state), 0);
    }
}

/* The ground changes under the check: within its first report, something happens. ---------------*/

static navmap_index *hook_index;
static uint64_t hook_random;

static void hook_open_and_add(void *ctx, uint32_t n)
{
    (void)ctx;
    if (n != 1)
        return;
    hook_index = open_writer();
    assert_non_null(hook_index);
    assert_true(add(hook_index, 5000, 700, &hook_random));
    for (int i = 0; i < 30; i++)
        assert_true(step(hook_index, &hook_random));
}

static void hook_close(void *ctx, uint32_t n)
{
    (void)ctx;
    if (n != 1)
        return;
    assert_true(step(hook_index, &hook_random));
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
    (void)wait_for(*child);
}

static void with_hook(void (*hook)(void *ctx, uint32_t n), void *ctx)
{
    report.hook = hook;
    report.hook_ctx = ctx;
    verify();
    report.hook = NULL;
}

static void test_writer_comes(void **state)
{
    (void)state;
    hook_random = planted_seed();
    navmap_index *index = create();
    assert_non_null(index);
    assert_true(add(index, 0, 60, &hook_random));
    assert_true(add(index, 1000, 100, &hook_random));
    assert_int_equal(navmap_close(index), NAVMAP_OK);
    uint64_t tag_at = damage_slot_3(); /* makes the check report, and so call the hook */
    with_hook(hook_open_and_add, NULL);
    expect_damaged(1);
    assert_true(planted_has(&report, "payload", 3, tag_at));
    /* Now a writer is there, and goes. */
    with_hook(hook_close, NULL);
    expect_damaged(1);
    /* And one comes and goes between two looks. */
    with_hook(hook_open_add_close, NULL);
    expect_damaged(1);
}

static void test_recovered_meanwhile(void **state)
{
    (void)state;
    hook_random = planted_seed();
    leave_crashed(hook_random);
    with_hook(hook_open_and_add, NULL); /* the first report says that a log awaits recovery */
    expect_damaged(0);
    assert_int_equal(navmap_close(hook_index), NAVMAP_OK);
}

static void test_writer_dies(void **state)
{
    (void)state;
    pid_t child = spawn(planted_seed(), -1);
    wait_until_growing();
    uint64_t tag_at = damage_slot_3();
    with_hook(hook_kill, &child);
    expect_damaged(1);
    assert_true(planted_has(&report, "payload", 3, tag_at));
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        EACH(test_crashed),
        EACH(test_crashed_and_damaged),
        EACH(test_every_kill_point),
        EACH(test_older_than_its_log),
        EACH(test_log_beside_a_writer),
        EACH(test_beside_a_writer),
        EACH(test_stopped_writer),
        EACH(test_writer_comes),
        EACH(test_recovered_meanwhile),
        EACH(test_writer_dies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
