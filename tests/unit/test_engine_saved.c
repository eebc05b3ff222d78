/* test_engine_saved.c -- save and load: the same index afterwards, and nothing half-done. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "engine/index.h"
#include "storage/handle.h"
#include "tests/support/engine.h"

#define DIM 12u

static navmap_index *new_index(uint64_t max_elements, uint32_t space, bool replace)
{
    struct navmap_options o = {.struct_size = sizeof o,
                               .dim = DIM,
                               .space = space,
                               .M = 6,
                               .ef_construction = 60,
                               .max_elements = max_elements,
                               .bounded = max_elements != 0,
                               .allow_replace_deleted = replace};
    navmap_index *ix = NULL;
    assert_ok(navmap_new(&o, &ix));
    return ix;
}

static navmap_index *load(const struct navmap_load_options *options)
{
    navmap_index *ix = NULL;
    assert_ok(navmap_load(test_path, options, &ix));
    return ix;
}

static void assert_sound(navmap_index *ix)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    assert_ok(navmap_check(ix, NULL, NULL, &r));
    assert_int_equal(r.damaged, 0);
}

static uint64_t file_bytes_at(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

/* Both answer `nq` queries with the same labels and distances. */
static void assert_same_answers(navmap_index *a, navmap_index *b, const float *queries, uint32_t nq)
{
    enum { K = 10 };
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 40, .allow_fewer = 1};
    uint64_t *labels = malloc(2 * nq * K * sizeof *labels);
    float *distances = malloc(2 * nq * K * sizeof *distances);
    assert_ok(navmap_search(a, nq, queries, K, &o, labels, distances, NULL));
    assert_ok(navmap_search(b, nq, queries, K, &o, labels + nq * K, distances + nq * K, NULL));
    assert_memory_equal(labels, labels + nq * K, nq * K * sizeof *labels);
    assert_memory_equal(distances, distances + nq * K, nq * K * sizeof *distances);
    free(labels);
    free(distances);
}

/* Every label of `a`, deleted ones too, is in `b` in the same state with the same vector. */
static void assert_same_items(navmap_index *a, navmap_index *b)
{
    uint64_t n = 0, m = 0;
    struct navmap_stats s = stats_of(a), t = stats_of(b);
    assert_int_equal(s.n_live, t.n_live);
    assert_int_equal(s.n_deleted, t.n_deleted);
    uint64_t *labels = malloc((s.n_live + s.n_deleted + 1) * sizeof *labels);
    assert_ok(navmap_labels(a, true, s.n_live + s.n_deleted, labels, &n));
    assert_ok(navmap_labels(b, true, 0, NULL, &m));
    assert_int_equal(n, m);
    for (uint64_t i = 0; i < n; i++) {
        float x[DIM], y[DIM];
        bool live = false, there = false;
        assert_ok(navmap_contains(a, labels[i], &live));
        assert_ok(navmap_contains(b, labels[i], &there));
        assert_int_equal(live, there);
        if (!live)
            continue;
        assert_ok(navmap_get(a, 1, &labels[i], x));
        assert_ok(navmap_get(b, 1, &labels[i], y));
        assert_memory_equal(x, y, sizeof x);
    }
    free(labels);
}

/* An index with everything in it: updated, deleted, replaced items, labels in no order. */
static navmap_index *busy_index(struct rng *r, uint32_t n, uint32_t space, float **ret_vectors)
{
    float *v = clustered_vectors(r, 2 * n, DIM, 9);
    navmap_index *ix = new_index(2 * n, space, true);
    struct navmap_add_options o = {.struct_size = sizeof o, .replace_deleted = 1};
    for (uint32_t i = 0; i < n; i++) {
        uint64_t label = (uint64_t)i * 7919 % n * 3;
        assert_ok(navmap_add(ix, 1, v + (size_t)i * DIM, &label, NULL, NULL));
    }
    for (uint32_t i = 0; i < n; i += 5)
        assert_ok(navmap_delete(ix, 3 * i));
    for (uint32_t i = 0; i < n / 10; i++) { /* half of those are replaced */
        uint64_t label = 1000000 + i;
        assert_ok(navmap_add(ix, 1, v + (size_t)(n + i) * DIM, &label, &o, NULL));
    }
    for (uint32_t i = 1; i < n; i += 5) { /* updates */
        uint64_t label = 3 * i;
        assert_ok(navmap_add(ix, 1, v + (size_t)(n + i) * DIM, &label, NULL, NULL));
    }
    *ret_vectors = v;
    return ix;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t sizes[] = {0, 1, 2, 15, 17, 300, scaled(3000, 4)};
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        float *v;
        navmap_index *ix = busy_index(&r, sizes[i], i % 3, &v);
        uint64_t bytes = 0;
        assert_ok(navmap_file_bytes(ix, &bytes));
        assert_ok(navmap_save(ix, test_path));
        assert_int_equal(bytes, file_bytes_at(test_path));
        for (uint32_t copy = 0; copy < 2; copy++) {
            struct navmap_load_options o = {.struct_size = sizeof o, .copy = copy, .dim = DIM};
            navmap_index *again = load(&o);
            assert_same_items(ix, again);
            assert_sound(again);
            struct navmap_stats s = stats_of(again), t = stats_of(ix);
            assert_int_equal(s.n_dead + s.n_free, 0);
            assert_int_equal(s.max_elements, t.max_elements);
            assert_int_equal(s.bounded, t.bounded);
            assert_int_equal(s.inserted, t.inserted);
            assert_int_equal(s.space, t.space);
            assert_int_equal(s.in_memory, 1);
            assert_int_equal(s.mapped, !copy);
            if (sizes[i] > 100)
                assert_true(recall_of(again, v, 50, 5, 200) > 0.9);
            assert_ok(navmap_close(again));
        }
        assert_ok(navmap_close(ix));
        free(v);
    }
}

/* Without dead slots nothing moves: the answers are those of the original, to the last bit. */
static void test_same_answers(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(4000, 4);
    float *v = clustered_vectors(&r, n, DIM, 20);
    navmap_index *ix = new_index(n, NAVMAP_COSINE, false);
    add_range(ix, v, 0, n);
    for (uint32_t i = 0; i < n; i += 7)
        assert_ok(navmap_delete(ix, i));
    assert_ok(navmap_save(ix, test_path));
    navmap_index *again = load(NULL);
    assert_same_answers(ix, again, v, 200);
    /* And goes on as the original does: the next levels are the same draw. */
    add_range(ix, v, n + 1, 0);
    assert_ok(navmap_resize(ix, 2 * n));
    assert_ok(navmap_resize(again, 2 * n));
    for (uint32_t i = 0; i < 300; i++) {
        float w[DIM];
        for (uint32_t j = 0; j < DIM; j++)
            w[j] = v[(size_t)i * DIM + j] + 0.01f;
        uint64_t label = 10 * n + i;
        assert_ok(navmap_add(ix, 1, w, &label, NULL, NULL));
        assert_ok(navmap_add(again, 1, w, &label, NULL, NULL));
    }
    assert_same_answers(ix, again, v, 200);
    assert_sound(again);
    assert_ok(navmap_close(again));
    assert_ok(navmap_close(ix));
    free(v);
}

/* Changes after loading: growth past the file, updates, deletes, replaced base labels; the file and
 * another handle over it know nothing of them. */
static void test_private(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(2000, 4);
    float *v;
    navmap_index *ix = busy_index(&r, n, NAVMAP_L2, &v);
    assert_ok(navmap_save(ix, test_path));
    struct navmap_load_options o = {
        .struct_size = sizeof o, .max_elements = 20 * n, .allow_replace_deleted = 1};
    navmap_index *a = load(&o), *b = load(&o);
    uint64_t any = 0;
    assert_ok(navmap_labels(a, false, 0, NULL, &any));
    float *w = clustered_vectors(&r, 4 * n, DIM, 9);
    assert_ok(navmap_add(a, 4 * n, w, NULL, NULL, &any)); /* after the largest label */
    assert_int_equal(any, 4 * n);
    uint64_t first = 1000000 + n / 10;
    float got[DIM];
    assert_ok(navmap_get(a, 1, &first, got));
    assert_memory_equal(got, w, sizeof got);
    for (uint64_t label = 1000000; label < 1000000 + n / 10; label++)
        assert_ok(navmap_delete(a, label));
    struct navmap_add_options replace = {.struct_size = sizeof replace, .replace_deleted = 1};
    for (uint64_t label = 5000000; label < 5000000 + n / 5; label++) {
        assert_ok(navmap_add(a, 1, w + (label % n) * DIM, &label, &replace, NULL));
        assert_ok(navmap_get(a, 1, &label, got));
        assert_memory_equal(got, w + (label % n) * DIM, sizeof got);
    }
    assert_sound(a);
    assert_true(recall_of(a, w, 50, 5, 200) > 0.9);
    assert_same_items(ix, b);
    assert_sound(b);
    /* Saved over the very file that both lie over. */
    assert_ok(navmap_save(a, test_path));
    navmap_index *c = load(NULL);
    assert_same_items(a, c);
    assert_same_items(ix, b);
    assert_ok(navmap_close(c));
    assert_ok(navmap_close(b));
    assert_ok(navmap_close(a));
    assert_ok(navmap_close(ix));
    free(v);
    free(w);
}

/* Labels leave the base and come back; the largest one is what implicit numbers follow. */
static void test_labels(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 64, DIM);
    navmap_index *ix = new_index(64, NAVMAP_L2, true);
    add_range(ix, v, 100, 40);
    assert_ok(navmap_delete(ix, 139));
    assert_ok(navmap_delete(ix, 120));
    assert_ok(navmap_save(ix, test_path));
    struct navmap_load_options o = {.struct_size = sizeof o, .allow_replace_deleted = 1};
    navmap_index *again = load(&o);
    struct navmap_add_options replace = {.struct_size = sizeof replace, .replace_deleted = 1};
    const uint64_t two[] = {7, 8};
    assert_ok(navmap_add(again, 2, v, two, &replace, NULL)); /* 120 and 139 are forgotten */
    assert_status(navmap_undelete(again, 139), NAVMAP_ENOTFOUND);
    assert_status(navmap_undelete(again, 120), NAVMAP_ENOTFOUND);
    assert_ok(navmap_add(again, 1, v + DIM, NULL, NULL, NULL)); /* follows 138, now the largest */
    float got[DIM];
    assert_ok(navmap_get(again, 1, &(uint64_t){139}, got));
    assert_memory_equal(got, v + DIM, sizeof got);
    assert_ok(navmap_delete(again, 139));
    assert_ok(navmap_add(again, 1, v, &(uint64_t){9}, &replace, NULL));
    assert_status(navmap_get(again, 1, &(uint64_t){139}, got), NAVMAP_ENOTFOUND);
    assert_ok(navmap_add(again, 1, v, &(uint64_t){120}, NULL, NULL));
    assert_ok(navmap_get(again, 1, &(uint64_t){120}, got));
    assert_int_equal(stats_of(again).n_live, 42);
    assert_sound(again);
    assert_ok(navmap_save(again, test_path));
    navmap_index *third = load(NULL);
    assert_same_items(again, third);
    assert_ok(navmap_close(third));
    assert_ok(navmap_close(again));
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_capacity(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 20, DIM);
    navmap_index *ix = new_index(15, NAVMAP_L2, false);
    add_range(ix, v, 0, 10);
    assert_ok(navmap_save(ix, test_path));
    const uint64_t given[] = {0, 3, 10, 12}, then[] = {15, 15, 10, 12};
    for (uint32_t i = 0; i < 4; i++) {
        struct navmap_load_options o = {.struct_size = sizeof o, .max_elements = given[i]};
        navmap_index *again = load(&o);
        assert_int_equal(stats_of(again).max_elements, then[i]);
        assert_status(navmap_add(again, then[i] - 9, v, NULL, NULL, NULL), NAVMAP_EFULL);
        add_range(again, v, 50, then[i] - 10);
        assert_ok(navmap_close(again));
    }
    assert_ok(navmap_close(ix));
    ix = new_index(9, NAVMAP_L2, false); /* empty: its capacity is kept */
    assert_ok(navmap_save(ix, test_path));
    navmap_index *again = load(NULL);
    assert_int_equal(stats_of(again).max_elements, 9);
    add_range(again, v, 0, 9);
    assert_status(navmap_add(again, 1, v, NULL, NULL, NULL), NAVMAP_EFULL);
    assert_ok(navmap_close(again));
    assert_ok(navmap_close(ix));
    free(v);
}

/* The vectors stay, the distance is another one. */
static void test_other_space(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 200, DIM);
    navmap_index *ix = new_index(200, NAVMAP_IP, false);
    add_range(ix, v, 0, 200);
    assert_ok(navmap_save(ix, test_path));
    struct navmap_load_options o = {.struct_size = sizeof o, .has_space = 1, .space = NAVMAP_L2};
    navmap_index *again = load(&o);
    assert_int_equal(stats_of(again).space, NAVMAP_L2);
    uint64_t label;
    float distance;
    assert_ok(navmap_search_exact(again, 1, v + 17 * DIM, 1, NULL, &label, &distance, NULL));
    assert_int_equal(label, 17);
    assert_true(distance == 0);
    assert_same_items(ix, again);
    assert_ok(navmap_close(again));
    assert_ok(navmap_close(ix));
    free(v);
}

/* A directory is saved by its writer, and by a reader if nobody writes. */
static void test_directory(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(1500, 3);
    float *v = clustered_vectors(&r, n, DIM, 5);
    char index[128], file[128];
    (void)snprintf(index, sizeof index, "%s", test_path);
    (void)snprintf(file, sizeof file, "%s.sealed", test_path);
    navmap_index *writer = create_index(DIM, NAVMAP_COSINE, 8, NAVMAP_MANUAL), *again;
    add_range(writer, v, 0, n);
    for (uint32_t i = 0; i < n; i += 4)
        assert_ok(navmap_add(writer, 1, v, &(uint64_t){i}, NULL, NULL)); /* dead slots */
    assert_ok(navmap_save(writer, file));
    assert_ok(navmap_load(file, NULL, &again));
    assert_same_items(writer, again);
    assert_sound(again);
    assert_ok(navmap_add(again, 1, v, NULL, NULL, NULL)); /* it grows by itself, as its original */
    assert_int_equal(stats_of(again).bounded, 0);
    assert_ok(navmap_close(again));
    navmap_index *reader = open_index(NAVMAP_READ);
    assert_status(navmap_save(reader, file), NAVMAP_ELOCKED);
    assert_ok(navmap_close(writer));
    assert_ok(navmap_save(reader, file));
    assert_ok(navmap_load(file, NULL, &again));
    assert_same_items(reader, again);
    assert_ok(navmap_close(again));
    assert_ok(navmap_close(reader));
    /* A live index is no file. */
    assert_status(navmap_load(index, NULL, &again), NAVMAP_EINVAL);
    assert_non_null(strstr(navmap_error_detail(), "navmap.open()"));
    char data[160];
    (void)snprintf(data, sizeof data, "%s/data-00000001.navmap", index);
    assert_status(navmap_load(data, NULL, &again), NAVMAP_EINVAL);
    assert_non_null(strstr(navmap_error_detail(), "navmap.open()"));
    free(v);
}

static void test_refusals(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 20, DIM);
    navmap_index *ix = new_index(20, NAVMAP_L2, false), *none = NULL;
    char path[160];
    add_range(ix, v, 0, 20);
    assert_status(navmap_save(ix, test_dir), NAVMAP_EINVAL);
    assert_status(navmap_save(ix, "/dev/null"), NAVMAP_EINVAL);
    assert_status(navmap_save(ix, ""), NAVMAP_EINVAL);
    assert_status(navmap_save(ix, NULL), NAVMAP_EINVAL);
    (void)snprintf(path, sizeof path, "%s/no/such/place", test_dir);
    assert_status(navmap_save(ix, path), NAVMAP_ENOINDEX);
    assert_status(navmap_load(path, NULL, &none), NAVMAP_ENOINDEX);
    assert_status(navmap_load("/dev/null", NULL, &none), NAVMAP_EINVAL);
    assert_status(navmap_load(test_dir, NULL, &none), NAVMAP_EINVAL);
    (void)snprintf(path, sizeof path, "%s/fifo", test_dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_status(navmap_load(path, NULL, &none), NAVMAP_EINVAL);
    assert_status(navmap_save(ix, path), NAVMAP_EINVAL);
    assert_ok(navmap_save(ix, test_path));
    struct navmap_load_options o = {.struct_size = sizeof o, .dim = DIM + 1};
    assert_status(navmap_load(test_path, &o, &none), NAVMAP_EINVAL);
    assert_non_null(strstr(navmap_error_detail(), "dim expected 13, found 12"));
    o = (struct navmap_load_options){.struct_size = sizeof o, .flat = 1};
    assert_status(navmap_load(test_path, &o, &none), NAVMAP_EINVAL);
    o = (struct navmap_load_options){.struct_size = sizeof o, .flat = 7};
    assert_status(navmap_load(test_path, &o, &none), NAVMAP_EINVAL);
    o = (struct navmap_load_options){.struct_size = sizeof o, .space = 3};
    assert_status(navmap_load(test_path, &o, &none), NAVMAP_EINVAL);
    o = (struct navmap_load_options){.struct_size = 8};
    assert_status(navmap_load(test_path, &o, &none), NAVMAP_EINVAL);
    (void)snprintf(path, sizeof path, "%s/words", test_dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs("not an index", f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_status(navmap_load(path, NULL, &none), NAVMAP_ECORRUPT);
    assert_null(none);
    assert_ok(navmap_close(ix));
    free(v);
}

/* What a failing system leaves at the path: the old file, and nothing beside it. */
static int fail_at = 0, fail_errno_of = ENOSPC;
static enum io_kind fail_kind;
static int failing_before(void *ctx, const struct io_event *event)
{
    (void)ctx;
    return event->kind == fail_kind && --fail_at == 0 ? fail_errno_of : 0;
}
static unsigned files_in(const char *dir)
{
    char command[160], text[32] = "";
    (void)snprintf(command, sizeof command, "ls -A %s | wc -l", dir);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    assert_int_equal(pclose(f), 0);
    return (unsigned)atoi(text);
}
static void test_failures(void **state)
{
    (void)state;
    struct rng r = test_rng();
    static const struct io_hooks hooks = {.before = failing_before};
    static const enum io_kind kinds[] = {IO_OPEN, IO_PWRITE, IO_FSYNC, IO_RENAME};
    float *v = random_vectors(&r, 300, DIM);
    navmap_index *ix = new_index(300, NAVMAP_L2, false);
    add_range(ix, v, 0, 100);
    assert_ok(navmap_save(ix, test_path));
    add_range(ix, v, 100, 200);
    uint32_t failures = 0;
    for (uint32_t k = 0; k < 4; k++) {
        for (int n = 1;; n++) {
            fail_at = n;
            fail_kind = kinds[k];
            fail_errno_of = n % 2 ? ENOSPC : EIO;
            io_hooks = &hooks;
            navmap_status status = navmap_save(ix, test_path);
            io_hooks = NULL;
            if (fail_at > 0) { /* no n-th call of the kind: nothing failed */
                assert_ok(status);
                break;
            }
            failures++;
            assert_int_not_equal(status, NAVMAP_OK);
            assert_int_equal(files_in(test_dir), 1);
            if (kinds[k] == IO_FSYNC && n == 2) /* of the directory, after the rename */
                continue;
            navmap_index *old = load(NULL);
            if (k == 0 && n == 1)
                assert_int_equal(stats_of(old).n_live, 100);
            assert_ok(navmap_close(old));
        }
    }
    assert_true(failures > 10);
    assert_ok(navmap_close(ix));
    free(v);
}

/* A process that dies while saving leaves the old file or the new one. */
static void die_at(void *ctx, enum kill_point point)
{
    if ((int)point == *(int *)ctx)
        _exit(9);
}
static void test_kills(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 300, DIM);
    navmap_index *ix = new_index(300, NAVMAP_L2, false);
    add_range(ix, v, 0, 100);
    assert_ok(navmap_save(ix, test_path));
    add_range(ix, v, 100, 200);
    for (int point = KP_SAVE_OPENED; point <= KP_SAVE_RENAMED; point++) {
        const struct io_hooks hooks = {.ctx = &point, .kill_point = die_at};
        pid_t child = fork();
        if (child == 0) {
            io_hooks = &hooks;
            _exit(navmap_save(ix, test_path) == NAVMAP_OK);
        }
        int how = 0;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 9);
        navmap_index *there = load(NULL);
        assert_int_equal(stats_of(there).n_live, point == KP_SAVE_RENAMED ? 300 : 100);
        assert_sound(there);
        assert_ok(navmap_close(there));
    }
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_permissions(void **state)
{
    (void)state;
    struct stat st;
    navmap_index *ix = new_index(4, NAVMAP_L2, false);
    mode_t old = umask(027);
    assert_ok(navmap_save(ix, test_path));
    assert_int_equal(stat(test_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(chmod(test_path, 0604), 0);
    assert_ok(navmap_save(ix, test_path));
    assert_int_equal(stat(test_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0604);
    (void)umask(old);
    assert_ok(navmap_close(ix));
}

/* From and to an open file without a name. */
static void test_descriptor(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v;
    navmap_index *ix = busy_index(&r, 300, NAVMAP_IP, &v), *again;
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_ok(navmap_save_fd(ix, fd));
    assert_ok(navmap_load_fd(fd, "a memfd", NULL, &again));
    assert_int_equal(close(fd), 0);
    assert_same_items(ix, again);
    assert_sound(again);
    pid_t child = fork(); /* private indexes go on in a child, as copies */
    if (child == 0) {
        bool fine = navmap_add(again, 1, v, &(uint64_t){77777777}, NULL, NULL) == NAVMAP_OK &&
                    navmap_delete(again, 77777777) == NAVMAP_OK;
        _exit(fine ? 0 : 1);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
    assert_same_items(ix, again);
    assert_ok(navmap_close(again));
    assert_ok(navmap_close(ix));
    free(v);
}

/* A vector that does not match its sum is not passed on. */
static void test_damaged_vector(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 50, DIM);
    navmap_index *ix = new_index(50, NAVMAP_L2, false);
    add_range(ix, v, 0, 50);
    struct view *view = ix->store->view;
    uint64_t at = layout_vec_off(&view->layout, 33);
    view->wbase[at] ^= 1;
    assert_status(navmap_save(ix, test_path), NAVMAP_ECORRUPT);
    assert_non_null(strstr(navmap_error_detail(), "slot 33 (label 32)"));
    assert_int_equal(files_in(test_dir), 0);
    view->wbase[at] ^= 1;
    assert_ok(navmap_save(ix, test_path));
    assert_ok(navmap_close(ix));
    free(v);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),     TEST(test_same_answers), TEST(test_private),
        TEST(test_labels),         TEST(test_capacity),     TEST(test_other_space),
        TEST(test_directory),      TEST(test_refusals),     TEST(test_failures),
        TEST(test_kills),          TEST(test_permissions),  TEST(test_descriptor),
        TEST(test_damaged_vector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
