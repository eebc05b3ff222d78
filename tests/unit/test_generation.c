/* test_generation.c -- a new data file takes the old one's place, at the level of the store. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/fail.h" /* before cmocka.h, which makes fail() a macro */
#include "storage/io.h"
#include "tests/support/swap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char dir[64], path[96];
static struct workload w;
static struct oracle *oracle;

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/navmap-generation-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/index", dir);
    oracle = oracle_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    io_hooks = NULL;
    oracle_free(oracle);
    harness_remove(dir);
    return 0;
}

static void ok(navmap_status status)
{
    if (status != NAVMAP_OK)
        print_message("%s: %s\n", navmap_strerror(status), navmap_error_detail());
    assert_int_equal(status, NAVMAP_OK);
}

static void begin(enum store_durability durability, uint64_t seed)
{
    struct workload_options options = workload_draw(seed, durability);
    options.never_flush = true;
    workload_init(&w, path, &options, seed, oracle);
    ok(workload_create(&w));
}

static void steps(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        ok(workload_step(&w));
}

static struct store *reader(void)
{
    struct store_options options = {STORE_FULL, 5.0, 0};
    struct store *s = NULL;
    ok(store_open(path, STORE_READ, &options, &s));
    return s;
}

static uint32_t count_files(const char *part)
{
    uint32_t n = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += strstr(e->d_name, part) != NULL;
    (void)closedir(d);
    return n;
}

static void check(struct store *s)
{
    char why[600] = "";
    struct view *v;
    ok(store_view_begin(s, &v)); /* a reader moves now, if it has to */
    store_view_end(s, v);
    uint64_t lsn = store_last_lsn(s);
    bool sound = oracle_check(oracle, s, lsn, lsn, why, sizeof why);
    if (!sound)
        print_message("%s\n", why);
    assert_true(sound);
}

static void verify(void)
{
    char why[600] = "";
    bool sound = oracle_verify(path, why, sizeof why);
    if (!sound)
        print_message("%s\n", why);
    assert_true(sound);
}

static uint64_t generation(struct store *s)
{
    struct store_stats stats;
    ok(store_stats_read(s, &stats));
    return stats.generation;
}

/* Swaps and other changes in turn; readers that were open all the while, and new ones, see it. */
static void test_swaps(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        bool shrunk;
        oracle_reset(oracle);
        begin(seed % 2 ? STORE_FULL : STORE_MANUAL, seed);
        struct store *old = reader();
        for (uint64_t g = 2; g <= 5; g++) {
            steps(25);
            ok(swap_step(&w, seed % 3 == 0, &shrunk));
            assert_int_equal(generation(w.store), g);
            assert_int_equal(count_files("data-"), 1);
            check(w.store);
            check(old); /* moves by itself */
            assert_int_equal(generation(old), g);
            struct store *fresh = reader();
            check(fresh);
            assert_int_equal(generation(fresh), g);
            ok(store_close(fresh));
            verify();
        }
        steps(20);
        ok(workload_close(&w));
        check(old);
        verify();
        ok(store_close(old));
        ok(workload_open(&w, false));
        check(w.store);
        assert_int_equal(generation(w.store), 5);
        ok(workload_close(&w));
        harness_remove(path);
    }
}

/* Nothing in it, before and after; and what was dead is gone. */
static void test_empty(void **state)
{
    bool shrunk;
    (void)state;
    begin(STORE_FULL, 3);
    ok(swap_step(&w, true, &shrunk));
    assert_true(shrunk);
    check(w.store);
    steps(60);
    ok(swap_step(&w, true, &shrunk));
    struct store_stats stats;
    ok(store_stats_read(w.store, &stats));
    assert_int_equal(stats.n_dead + stats.n_free, 0);
    assert_int_equal(stats.nslots, stats.n_live + stats.n_deleted + 1);
    assert_int_equal(stats.wal_bytes, 0);
    check(w.store);
    ok(workload_close(&w));
    verify();
}

/* A view that a query holds stays what it was. */
static void test_query_finishes(void **state)
{
    bool shrunk;
    struct view *before, *after;
    (void)state;
    begin(STORE_FULL, 5);
    steps(30);
    struct store *r = reader();
    ok(store_view_begin(r, &before));
    uint64_t lsn = view_root(before)->lsn;
    ok(swap_step(&w, true, &shrunk));
    steps(30);
    assert_int_equal(view_root(before)->lsn, lsn);
    assert_int_equal(view_load32(&view_live(before)->superseded, memory_order_acquire), 1);
    ok(store_view_begin(r, &after));
    assert_ptr_not_equal(before, after);
    assert_int_equal(after->layout.generation, 2);
    /* G9: the counters go on */
    assert_true(view_live(after)->apply_end > view_live(before)->apply_end);
    store_view_end(r, after);
    store_view_end(r, before);
    check(r);
    ok(store_close(r));
    ok(workload_close(&w));
}

/* Many threads of one reader move at once. */
struct looker {
    struct store *store;
    _Atomic bool stop, failed;
    _Atomic uint64_t looks;
};

static void *look(void *ctx)
{
    struct looker *l = ctx;
    while (!atomic_load(&l->stop)) {
        struct view *v;
        enum slot_status status;
        if (store_view_begin(l->store, &v) != NAVMAP_OK ||
            store_contains(l->store, truth_label(1), &status) != NAVMAP_OK) {
            print_message("%s\n", navmap_error_detail());
            atomic_store(&l->failed, true);
            break;
        }
        store_view_end(l->store, v);
        atomic_fetch_add(&l->looks, 1);
    }
    return NULL;
}

static void test_threads_move(void **state)
{
    bool shrunk;
    pthread_t threads[6];
    (void)state;
    begin(STORE_FULL, 6);
    steps(40);
    struct looker l = {.store = reader()}, own = {.store = w.store};
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look, i < 4 ? &l : &own), 0);
    for (int i = 0; i < 30; i++) {
        steps(3);
        ok(swap_step(&w, i % 5 == 0, &shrunk));
    }
    atomic_store(&l.stop, true);
    atomic_store(&own.stop, true);
    for (int i = 0; i < 6; i++)
        (void)pthread_join(threads[i], NULL);
    assert_false(l.failed);
    assert_false(own.failed);
    assert_true(l.looks > 100);
    check(l.store);
    assert_int_equal(generation(l.store), 31);
    ok(store_close(l.store));
    ok(workload_close(&w));
    verify();
}

/* A reader that was inherited over fork() moves in the child, and leaves the parent alone. */
static void test_fork(void **state)
{
    bool shrunk;
    (void)state;
    begin(STORE_FULL, 7);
    steps(30);
    struct store *r = reader();
    int go[2];
    assert_int_equal(pipe(go), 0);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        int code = read(go[0], &c, 1) == 1 ? 0 : 2;
        struct view *v;
        if (code == 0 && store_view_begin(r, &v) != NAVMAP_OK)
            code = 3;
        if (code == 0 && v->layout.generation != 2)
            code = 4;
        _exit(code);
    }
    ok(swap_step(&w, false, &shrunk));
    assert_int_equal(write(go[1], "x", 1), 1);
    assert_int_equal(harness_wait(pid), 0);
    check(r);
    ok(store_close(r));
    steps(10); /* the writer still has its lock, and its log */
    ok(workload_close(&w));
}

/* What goes wrong leaves the old generation, and nothing of the new one. */
static struct {
    enum io_kind kind;
    int nth, error;
    int seen;
} fault;

static int inject(void *ctx, const struct io_event *e)
{
    (void)ctx;
    return e->kind == fault.kind && ++fault.seen == fault.nth ? fault.error : 0;
}

static const struct io_hooks faulty = {NULL, inject, NULL, NULL};

static void test_faults(void **state)
{
    static const struct {
        enum io_kind kind;
        int error;
    } kinds[] = {{IO_OPEN, EACCES}, {IO_FALLOCATE, ENOSPC}, {IO_PWRITE, ENOSPC},
                 {IO_PWRITE, EIO},  {IO_FSYNC, EIO},        {IO_MMAP, ENOMEM}};
    bool shrunk;
    (void)state;
    begin(STORE_FULL, 8);
    steps(40);
    uint32_t failures = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (int nth = 1; nth < 12; nth++) {
            uint64_t was = generation(w.store);
            fault.kind = kinds[k].kind;
            fault.error = kinds[k].error;
            fault.nth = nth;
            fault.seen = 0;
            io_hooks = &faulty;
            struct swap_order order;
            ok(store_rebuild_begin(w.store));
            swap_order_make(&order, w.store, NULL);
            navmap_status status = store_generation_put(w.store, w.store, &order.what);
            store_rebuild_end(w.store);
            swap_order_free(&order);
            io_hooks = NULL;
            assert_int_equal(count_files("data-"), 1);
            assert_int_equal(generation(w.store), was + (status == NAVMAP_OK));
            failures += status != NAVMAP_OK;
            check(w.store);
            if (fault.seen < nth)
                break; /* so many calls there are not */
        }
    }
    print_message("%u swaps failed\n", failures);
    assert_true(failures > 15);
    ok(swap_step(&w, true, &shrunk));
    ok(workload_close(&w));
    verify();
}

/* shrinking: not while somebody else has the log open, and then the file is small. */
static void test_shrink(void **state)
{
    bool shrunk;
    enum slot_status status;
    struct stat large, small;
    (void)state;
    begin(STORE_FULL, 9);
    steps(150);
    char wal[128];
    (void)snprintf(wal, sizeof wal, "%s/wal.mdb", path);
    assert_int_equal(stat(wal, &large), 0);
    struct store *r = reader();
    ok(store_contains(r, truth_label(3), &status)); /* opens the log */
    ok(swap_step(&w, true, &shrunk));
    assert_false(shrunk);
    ok(store_close(r));
    int go[2], done[2];
    assert_int_equal(pipe(go) | pipe(done), 0);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) { /* another process */
        char c = 0;
        struct store_options options = {STORE_FULL, 5.0, 0};
        struct store *other = NULL;
        int code = store_open(path, STORE_READ, &options, &other) != NAVMAP_OK ||
                   store_contains(other, truth_label(3), &status) != NAVMAP_OK;
        (void)!write(done[1], &c, 1);
        (void)!read(go[0], &c, 1);
        _exit(code);
    }
    char c;
    assert_int_equal(read(done[0], &c, 1), 1);
    ok(swap_step(&w, true, &shrunk));
    assert_false(shrunk);
    assert_int_equal(write(go[1], "x", 1), 1);
    assert_int_equal(harness_wait(pid), 0);
    ok(swap_step(&w, true, &shrunk));
    assert_true(shrunk);
    assert_int_equal(stat(wal, &small), 0);
    assert_true(small.st_size < large.st_size);
    assert_int_equal(count_files("wal.mdb"), 2);
    steps(30);
    check(w.store);
    ok(workload_close(&w));
    verify();
}

/* The progress function of a rewriting call cannot change the same index. */
static void test_aside(void **state)
{
    struct store_stats stats;
    (void)state;
    begin(STORE_FULL, 10);
    steps(10);
    ok(store_rebuild_begin(w.store));
    store_aside_begin(w.store);
    assert_int_equal(store_write_begin(w.store, 1), NAVMAP_EINVAL);
    assert_int_equal(store_settle(w.store), NAVMAP_EINVAL);
    assert_int_equal(store_flush(w.store), NAVMAP_EINVAL);
    ok(store_stats_read(w.store, &stats));
    store_aside_end();
    store_rebuild_end(w.store);
    steps(10);
    ok(workload_close(&w));
}

/* A reader whose index was superseded and then taken away is told so. */
static void test_gone(void **state)
{
    bool shrunk;
    struct view *v;
    char elsewhere[128];
    (void)state;
    begin(STORE_FULL, 11);
    steps(10);
    struct store *r = reader();
    ok(swap_step(&w, false, &shrunk));
    (void)snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", dir);
    assert_int_equal(rename(path, elsewhere), 0);
    assert_int_equal(store_view_begin(r, &v), NAVMAP_ESTALE);
    assert_int_equal(rename(elsewhere, path), 0);
    ok(store_view_begin(r, &v));
    store_view_end(r, v);
    ok(store_close(r));
    ok(workload_close(&w));
}

/* A reader is told, too, when what took the place of its data file is another index's. */
static void test_another(void **state)
{
    bool shrunk;
    struct view *v;
    struct store_stats stats;
    struct layout own, other;
    struct disk_header h;
    unsigned char page[LAYOUT_PAGE];
    int read_only;
    char data[160];
    (void)state;
    begin(STORE_FULL, 13);
    steps(10);
    struct store *r = reader();
    ok(swap_step(&w, false, &shrunk));
    ok(store_stats_read(w.store, &stats));
    (void)snprintf(data, sizeof data, "%s/data-%08llu.navmap", path,
                   (unsigned long long)stats.generation);
    int fd = open(data, O_RDWR | O_CLOEXEC);
    off_t bytes = lseek(fd, 0, SEEK_END);
    assert_true(bytes > 0);
    assert_int_equal(pread(fd, page, sizeof page, 0), sizeof page);
    ok(layout_read_header(page, (uint64_t)bytes, data, &own, &read_only));
    for (uint32_t which = 0; which < 5; which++) {
        other = own;
        switch (which) {
        case 0:
            other.uuid[3] ^= 1;
            break;
        case 1:
            other.instance ^= 1;
            break;
        case 2:
            other.space = own.space == 0 ? 1 : 0;
            break;
        case 3:
            other.flags ^= HEADER_ALLOW_REPLACE_DELETED;
            break;
        default:
            break;
        }
        layout_write_header(&other, &h);
        assert_int_equal(pwrite(fd, &h, sizeof h, 0), sizeof h);
        if (which < 4)
            assert_int_equal(store_view_begin(r, &v), NAVMAP_ESTALE);
    }
    check(r); /* its own again */
    (void)close(fd);
    ok(store_close(r));
    ok(workload_close(&w));
}

/* LOCK was removed and made anew: a reader finds it within a second or two, and goes on. */
static void test_lock_anew(void **state)
{
    bool shrunk;
    (void)state;
    begin(STORE_FULL, 12);
    steps(10);
    ok(workload_close(&w));
    struct store *r = reader();
    char lock[128];
    (void)snprintf(lock, sizeof lock, "%s/LOCK", path);
    assert_int_equal(unlink(lock), 0);
    int fd = open(lock, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    (void)close(fd);
    ok(workload_open(&w, false));
    steps(10);
    ok(swap_step(&w, false, &shrunk));
    check(r);
    struct store_stats stats;
    ok(store_stats_read(r, &stats));
    assert_true(stats.writer_held);
    ok(store_close(r));
    ok(workload_close(&w));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_swaps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_query_finishes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads_move, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fork, setup, teardown),
        cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shrink, setup, teardown),
        cmocka_unit_test_setup_teardown(test_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock_anew, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
