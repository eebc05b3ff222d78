/* test_commit_checks.c -- what a commit and a checkpoint check before they believe, what may run
 * beside them, and in which order a save does what it does: nobody else misses these.
 */
#include "tests/unit/store_tools.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "engine/navmap.h"
#include "storage/io.h"
#include "storage/labels.h"
#include "storage/wal.h"

#define GENERATION 1u

static void sleep_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

/* Files that were removed (C1) ----------------------------------------------------------------- */

static void removed(const char *name, const char *what)
{
    struct store *s = create(0, &full);
    char file[160];
    assert_int_equal(add(s, 1, 0, 1), NAVMAP_OK);
    (void)snprintf(file, sizeof file, "%s/%s", path, name);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(add(s, 2, 0, 1), NAVMAP_EPOISONED);
    assert_non_null(strstr(navmap_error_detail(), what));
    check_vector(s, 1, 0);
    assert_int_equal(store_close(s), NAVMAP_EPOISONED);
}

static void test_data_removed(void **state)
{
    (void)state;
    removed("data-00000001.navmap", "its data file was removed");
}

static void test_log_removed(void **state)
{
    (void)state;
    removed("wal.mdb", "was removed");
}

/* Somebody else writes (A3) -------------------------------------------------------------------- */

/* As another process would that got past W: through the environment this process has open. */
static void move_log(uint64_t by)
{
    struct wal *w;
    struct wal_txn t;
    struct wal_state state;
    assert_int_equal(wal_acquire(path, true, &w), NAVMAP_OK);
    assert_int_equal(wal_txn_write(w, &t), NAVMAP_OK);
    assert_int_equal(wal_get_state(&t, &state), NAVMAP_OK);
    state.last_lsn += by;
    state.ckpt_lsn += by;
    assert_int_equal(wal_put_state(&t, &state), NAVMAP_OK);
    assert_int_equal(wal_txn_commit(&t), NAVMAP_OK);
    wal_release(w);
}

static void test_log_moved_under_a_commit(void **state)
{
    (void)state;
    struct store *s = create(0, &full);
    assert_int_equal(add(s, 1, 0, 1), NAVMAP_OK);
    assert_int_equal(store_flush(s), NAVMAP_OK);
    move_log(1);
    assert_int_equal(add(s, 2, 0, 1), NAVMAP_EPOISONED);
    assert_non_null(strstr(navmap_error_detail(), "log moved"));
    check_vector(s, 1, 0);
    check_absent(s, 2);
    assert_int_equal(store_close(s), NAVMAP_EPOISONED);
}

static void test_log_moved_under_a_checkpoint(void **state)
{
    (void)state;
    struct store *s = create(0, &full);
    assert_int_equal(add(s, 1, 0, 1), NAVMAP_OK);
    move_log(1);
    assert_int_equal(store_flush(s), NAVMAP_EPOISONED);
    assert_non_null(strstr(navmap_error_detail(), "log moved"));
    assert_int_equal(store_close(s), NAVMAP_OK); /* nothing was staged */
}

static void test_label_moved(void **state)
{
    (void)state;
    struct store *s = create(0, &full);
    assert_int_equal(add(s, 1, 0, 1), NAVMAP_OK);
    assert_int_equal(add(s, 2, 0, 1), NAVMAP_OK);
    struct wal *w;
    struct wal_txn t;
    struct label_entry two;
    const uint64_t low = store_layout(s)->uuid_low;
    assert_int_equal(wal_acquire(path, true, &w), NAVMAP_OK);
    assert_int_equal(store_write_begin(s, 1), NAVMAP_OK);
    assert_int_equal(stage_item(s, 1, 1, 0), NAVMAP_OK); /* it looked label 1 up */
    store_write_end(s);
    assert_int_equal(wal_txn_write(w, &t), NAVMAP_OK);
    assert_int_equal(labels_get(&t, GENERATION, low, 2, &two), NAVMAP_OK);
    const struct stage_label gone = {2, two.slot, two.gen, 0, 0};
    struct label_entry one;
    assert_int_equal(labels_get(&t, GENERATION, low, 1, &one), NAVMAP_OK);
    const struct stage_label moved = {1, one.slot, one.gen, two.slot, two.gen};
    assert_int_equal(labels_change(&t, GENERATION, low, &gone, 1), NAVMAP_OK);
    assert_int_equal(labels_change(&t, GENERATION, low, &moved, 1), NAVMAP_OK);
    assert_int_equal(wal_txn_commit(&t), NAVMAP_OK);
    wal_release(w);
    assert_int_equal(store_settle(s), NAVMAP_EPOISONED);
    assert_non_null(strstr(navmap_error_detail(), "somebody else wrote"));
    assert_int_equal(store_close(s), NAVMAP_EPOISONED);
}

/* A commit and a checkpoint beside each other -------------------------------------------------- */

/* One thread commits, another makes a checkpoint; each can be held at a step. */
static struct {
    struct store *s;
    enum kill_point hold_commit, hold_checkpoint; /* KP_COUNT = nowhere */
    _Atomic bool commit_held, commit_free, checkpoint_held, checkpoint_free, reached_k1;
    _Atomic uint64_t lsn_seen;
    navmap_status flushed;
} beside;
static _Thread_local bool checkpoints; /* this thread does */

static void hold(_Atomic bool *held, _Atomic bool *let_go)
{
    atomic_store(held, true);
    while (!atomic_load(let_go))
        sleep_ms(1);
}

static void at(void *ctx, enum kill_point point)
{
    (void)ctx;
    if (point == KP_K1 && checkpoints)
        atomic_store(&beside.reached_k1, true);
    if (checkpoints && point == beside.hold_checkpoint)
        hold(&beside.checkpoint_held, &beside.checkpoint_free);
    if (!checkpoints && point == KP_P4 && beside.s)
        atomic_store(&beside.lsn_seen, store_last_lsn(beside.s));
    if (!checkpoints && point == beside.hold_commit && beside.s)
        hold(&beside.commit_held, &beside.commit_free);
}

static const struct io_hooks hooks = {.kill_point = at};

static void *make_checkpoint(void *ctx)
{
    (void)ctx;
    checkpoints = true;
    beside.flushed = store_relieve(beside.s); /* a checkpoint and nothing else */
    return NULL;
}

static void *make_commit(void *ctx)
{
    navmap_status *status = ctx;
    *status = add(beside.s, 2, 0, 1);
    return NULL;
}

static int unhook(void **state)
{
    io_hooks = NULL;
    return teardown(state);
}

static void begin(enum kill_point hold_commit, enum kill_point hold_checkpoint)
{
    memset(&beside, 0, sizeof beside);
    beside.hold_commit = hold_commit;
    beside.hold_checkpoint = hold_checkpoint;
    io_hooks = &hooks;
    const struct store_options short_log = {.durability = STORE_FULL, .ckpt_bytes = 300};
    struct store *s = create(0, &short_log);
    assert_int_equal(add(s, 1, 0, 1), NAVMAP_OK);
    assert_int_equal(store_flush(s), NAVMAP_OK);
    assert_int_equal(mark(s, 1, true), NAVMAP_OK);
    assert_int_equal(mark(s, 1, false), NAVMAP_OK);
    struct store_stats st; /* the log is long, but not so long that the commit cuts it itself */
    assert_int_equal(store_stats_read(s, &st), NAVMAP_OK);
    assert_true(st.wal_bytes > 300 && st.wal_bytes <= 600);
    beside.s = s;
}

static void end(void)
{
    struct store *s = beside.s;
    beside.s = NULL;
    assert_int_equal(store_close(s), NAVMAP_OK);
    s = open_as(STORE_READ, &full);
    check_vector(s, 1, 0);
    check_vector(s, 2, 0);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* A2: a commit whose memory lags behind its log would make the checkpoint think somebody else had
 * written. */
static void test_cut_behind_the_commit_point(void **state)
{
    (void)state;
    pthread_t checkpoint, commit;
    navmap_status committed = NAVMAP_EIO;
    begin(KP_C4, KP_K3_BEFORE);
    assert_int_equal(pthread_create(&checkpoint, NULL, make_checkpoint, NULL), 0);
    while (!atomic_load(&beside.checkpoint_held))
        sleep_ms(1);
    assert_int_equal(pthread_create(&commit, NULL, make_commit, &committed), 0);
    while (!atomic_load(&beside.commit_held))
        sleep_ms(1);
    atomic_store(&beside.checkpoint_free, true);
    assert_int_equal(pthread_join(checkpoint, NULL), 0);
    assert_int_equal(beside.flushed, NAVMAP_OK);
    atomic_store(&beside.commit_free, true);
    assert_int_equal(pthread_join(commit, NULL), 0);
    assert_int_equal(committed, NAVMAP_OK);
    end();
}

/* K1 counts what is applied: a checkpoint waits for a commit that is not. */
static void test_checkpoint_waits_for_apply(void **state)
{
    (void)state;
    pthread_t checkpoint, commit;
    navmap_status committed = NAVMAP_EIO;
    begin(KP_C4, KP_COUNT);
    assert_int_equal(pthread_create(&commit, NULL, make_commit, &committed), 0);
    while (!atomic_load(&beside.commit_held))
        sleep_ms(1);
    assert_int_equal(pthread_create(&checkpoint, NULL, make_checkpoint, NULL), 0);
    sleep_ms(200);
    bool early = atomic_load(&beside.reached_k1);
    atomic_store(&beside.commit_free, true);
    assert_int_equal(pthread_join(checkpoint, NULL), 0);
    assert_int_equal(pthread_join(commit, NULL), 0);
    assert_false(early);
    assert_true(atomic_load(&beside.reached_k1));
    assert_int_equal(committed, NAVMAP_OK);
    assert_int_equal(beside.flushed, NAVMAP_OK);
    end();
}

/* C6: until the last word is stored, the commit does not count as applied. */
static void test_applied_is_last(void **state)
{
    (void)state;
    begin(KP_COUNT, KP_COUNT);
    uint64_t before = store_last_lsn(beside.s);
    assert_int_equal(add(beside.s, 2, 0, 1), NAVMAP_OK);
    assert_int_equal(atomic_load(&beside.lsn_seen), before);
    assert_int_equal(store_last_lsn(beside.s), before + 1);
    end();
}

/* The log's length ----------------------------------------------------------------------------- */

static uint32_t slices;

static void count_slices(void *ctx, enum kill_point point)
{
    (void)ctx;
    slices += point == KP_K3_SLICE;
}

static const struct io_hooks counting = {.kill_point = count_slices};

/* C7: without it the log would grow for ever. */
static void test_log_stays_short(void **state)
{
    (void)state;
    const struct store_options short_log = {.durability = STORE_FULL, .ckpt_bytes = 1 << 14};
    struct store_stats st;
    struct store *s = create(0, &short_log);
    for (uint64_t label = 0; label < 300; label++) {
        assert_int_equal(add(s, label, 0, 1), NAVMAP_OK);
        assert_int_equal(store_stats_read(s, &st), NAVMAP_OK);
        assert_true(st.wal_bytes < 3 << 14);
    }
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* K3: a log of more frames than one transaction may delete is deleted all the same. */
static void test_slices(void **state)
{
    (void)state;
    const struct layout_params p = {.dim = 1, .M = 512, .ef_construction = 8, .slot_shift = 10};
    const struct store_options one_commit = {.durability = STORE_MANUAL, .ckpt_bytes = 1 << 30};
    struct store *s = NULL;
    struct wal *w;
    struct wal_txn t;
    bool more = true;
    float v = 1;
    slices = 0;
    io_hooks = &counting;
    assert_int_equal(store_create(path, &p, 0, &one_commit, &s), NAVMAP_OK);
    assert_int_equal(store_write_begin(s, 8300), NAVMAP_OK);
    for (uint64_t label = 0; label < 8300; label++) { /* a row is as long as a frame */
        struct store_item item;
        assert_int_equal(store_item_begin(s, label, 0, &item), NAVMAP_OK);
        store_item_payload(s, &item, NULL, &v);
        store_row_edit(s, item.slot, 0)[0] = 1;
        store_item_end(s, &item);
    }
    store_write_end(s);
    assert_int_equal(store_flush(s), NAVMAP_OK);
    assert_true(slices >= 2);
    assert_int_equal(wal_acquire(path, true, &w), NAVMAP_OK);
    assert_int_equal(wal_txn_write(w, &t), NAVMAP_OK);
    assert_int_equal(wal_check_frames(&t, 0), NAVMAP_OK); /* none is left */
    assert_int_equal(wal_delete_upto(&t, UINT64_MAX, 0, &more), NAVMAP_OK);
    assert_false(more);
    wal_txn_abort(&t);
    wal_release(w);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* A save --------------------------------------------------------------------------------------- */

static char steps[8]; /* F the file is synced, R it is renamed, D the folder is synced */
static uint32_t n_steps;

static void note_step(void *ctx, const struct io_event *e, int error)
{
    struct stat st;
    (void)ctx;
    char step = 0;
    if (e->kind == IO_RENAME)
        step = 'R';
    else if (e->kind == IO_FSYNC && fstat(e->fd, &st) == 0)
        step = S_ISDIR(st.st_mode) ? 'D' : 'F';
    if (step && error == 0 && n_steps < sizeof steps - 1)
        steps[n_steps++] = step;
}

/* Synced before it gets its name, and the name before the call returns. */
static void test_order_of_a_save(void **state)
{
    (void)state;
    static const struct io_hooks noting = {.after = note_step};
    const struct navmap_options o = {
        .struct_size = sizeof o, .dim = 2, .M = 4, .ef_construction = 8};
    const float v[2] = {1, 2};
    const uint64_t label = 5;
    navmap_index *ix = NULL;
    io_hooks = &noting;
    assert_int_equal(navmap_new(&o, &ix), NAVMAP_OK);
    assert_int_equal(navmap_add(ix, 1, v, &label, NULL, NULL), NAVMAP_OK);
    memset(steps, 0, sizeof steps);
    n_steps = 0;
    assert_int_equal(navmap_save(ix, path), NAVMAP_OK);
    assert_string_equal(steps, "FRD");
    assert_int_equal(navmap_close(ix), NAVMAP_OK);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, unhook)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_data_removed),
        CASE(test_log_removed),
        CASE(test_log_moved_under_a_commit),
        CASE(test_log_moved_under_a_checkpoint),
        CASE(test_label_moved),
        CASE(test_cut_behind_the_commit_point),
        CASE(test_checkpoint_waits_for_apply),
        CASE(test_applied_is_last),
        CASE(test_log_stays_short),
        CASE(test_slices),
        CASE(test_order_of_a_save),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
