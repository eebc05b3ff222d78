/* test_stale_reader.c -- readers that are stopped or killed in the middle of a label look-up (T17).
 *
 * A look-up holds a read transaction of LMDB's, and with it a place in the table of readers and the
 * pages that its snapshot needs.  Nothing else of a reader can be in anybody's way.  The children
 * take a transaction as a look-up does, and are stopped or killed with it in hand.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "storage/wal.h"
#include "tests/support/engine.h"

#define DIM 16u
#define TABLE 1022u /* places: what wal.c asks for */

/* A child that holds as many read transactions as it can get, at most `wanted`; *ret_got. */
static pid_t holder(uint32_t wanted, uint32_t *ret_got)
{
    int report[2];
    assert_int_equal(pipe(report), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
        static struct wal_txn txn[TABLE + 1];
        struct wal *w = NULL;
        uint32_t got = 0;
        if (wal_acquire(test_path, false, &w) != NAVMAP_OK)
            _exit(1);
        while (got < wanted && wal_txn_read(w, &txn[got]) == NAVMAP_OK)
            got++;
        if (write(report[1], &got, sizeof got) == (ssize_t)sizeof got)
            pause();
        _exit(2);
    }
    close(report[1]);
    assert_int_equal(read(report[0], ret_got, sizeof *ret_got), sizeof *ret_got);
    close(report[0]);
    return pid;
}

static void put_an_end_to(pid_t pid)
{
    int status;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static navmap_index *open_writer(void)
{
    struct navmap_open_options o = {.struct_size = sizeof o, .checkpoint_bytes = 64 << 10};
    navmap_index *ix = NULL;
    assert_ok(navmap_open(test_path, NAVMAP_WRITE, &o, &ix));
    return ix;
}

/* Commits of one item, and the checkpoints that come with them. */
static void churn(navmap_index *ix, struct rng *r, uint32_t n)
{
    float v[DIM];
    uint64_t before = stats_of(ix).checkpoint_lsn;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t label = rng_below(r, 100);
        for (uint32_t j = 0; j < DIM; j++)
            v[j] = rng_normal(r);
        assert_ok(navmap_add(ix, 1, v, &label, NULL, NULL));
    }
    struct navmap_stats s = stats_of(ix);
    assert_true(s.checkpoint_lsn > before);
    assert_true(s.wal_bytes <= 3 * s.checkpoint_bytes);
}

static void test_stopped_and_killed(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(400, 2);
    uint32_t got = 0;
    assert_ok(navmap_close(create_index(DIM, NAVMAP_L2, 8, NAVMAP_FULL)));
    navmap_index *ix = open_writer();
    churn(ix, &r, 3 * n);
    uint64_t alone = stats_of(ix).lmdb_allocated_bytes;
    churn(ix, &r, n);
    assert_int_equal(stats_of(ix).lmdb_allocated_bytes, alone); /* pages go round */

    pid_t reader = holder(1, &got);
    assert_int_equal(got, 1);
    assert_int_equal(kill(reader, SIGSTOP), 0);
    churn(ix, &r, n); /* the writer goes on, and so do its checkpoints */
    uint64_t beside = stats_of(ix).lmdb_allocated_bytes;
    assert_true(beside > alone); /* what the snapshot needs is kept */

    put_an_end_to(reader);
    churn(ix, &r, n); /* the first checkpoint finds that nobody is there */
    uint64_t after = stats_of(ix).lmdb_allocated_bytes;
    churn(ix, &r, 3 * n);
    print_message("log file: %llu alone, %llu beside a stopped reader, %llu, %llu after it\n",
                  (unsigned long long)alone, (unsigned long long)beside, (unsigned long long)after,
                  (unsigned long long)stats_of(ix).lmdb_allocated_bytes);
    assert_int_equal(stats_of(ix).lmdb_allocated_bytes, after);
    assert_ok(navmap_close(ix));
}

/* A thousand killed readers beside one that lives, so that LMDB does not begin a new table. */
static void test_full_table(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__)
    print_message("skipped: ThreadSanitizer counts 64 read locks of a thread at most\n");
    skip();
#endif
    struct rng r = test_rng();
    uint32_t got = 0, rest = 0;
    float v[DIM] = {1};
    bool there = false;
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 8, NAVMAP_FULL);
    assert_ok(navmap_add(ix, 1, v, NULL, NULL, NULL));
    assert_ok(navmap_close(ix));
    pid_t survivor = holder(1, &got), others = holder(TABLE, &rest);
    assert_int_equal(got + rest, TABLE);
    /* All places are taken by the living: a reader looks through the slots, a writer gives up. */
    ix = open_index(NAVMAP_READ);
    assert_ok(navmap_contains(ix, 0, &there));
    assert_true(there);
    assert_ok(navmap_close(ix));
    assert_status(navmap_open(test_path, NAVMAP_WRITE, NULL, &ix), NAVMAP_EIO);
    assert_non_null(strstr(navmap_error_detail(), "MDB_READERS_FULL"));

    put_an_end_to(others);
    struct navmap_check_result check = {.struct_size = sizeof check};
    ix = open_index(NAVMAP_READ);
    assert_ok(navmap_check(ix, NULL, NULL, &check));
    assert_int_equal(check.warnings, 0); /* it was given a place */
    assert_int_equal(check.labels, 1);
    assert_ok(navmap_close(ix));
    others = holder(TABLE, &rest);
    assert_int_equal(got + rest, TABLE);
    put_an_end_to(others);
    ix = open_writer();
    churn(ix, &r, 200);
    assert_ok(navmap_close(ix));
    put_an_end_to(survivor);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        CASE(test_stopped_and_killed),
        CASE(test_full_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
