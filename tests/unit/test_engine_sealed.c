/* test_engine_sealed.c -- what becomes of a mapped file under an index, and what damage does. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "storage/checksum.h"
#include "storage/layout.h"
#include "tests/support/engine.h"

#define DIM 9u
#define ITEMS 400u

static float *vectors;

/* A file of ITEMS items, a few of them deleted, under labels 0, 2, 4, ... */
static void save_some(const char *path, uint64_t seed)
{
    struct navmap_options o = {.struct_size = sizeof o,
                               .dim = DIM,
                               .M = 5,
                               .ef_construction = 50,
                               .random_seed = seed,
                               .slot_shift = 4};
    navmap_index *ix = NULL;
    assert_ok(navmap_new(&o, &ix));
    for (uint64_t i = 0; i < ITEMS; i++)
        assert_ok(navmap_add(ix, 1, vectors + i * DIM, &(uint64_t){2 * i}, NULL, NULL));
    for (uint64_t i = 0; i < ITEMS; i += 40)
        assert_ok(navmap_delete(ix, 2 * i));
    assert_ok(navmap_save(ix, path));
    assert_ok(navmap_close(ix));
}

static int begin(void **state)
{
    struct rng r = test_rng();
    vectors = clustered_vectors(&r, ITEMS, DIM, 6);
    if (make_dir(state) != 0)
        return -1;
    save_some(test_path, 100);
    return 0;
}

static int end(void **state)
{
    free(vectors);
    return remove_dir(state);
}

static navmap_index *load(bool copy)
{
    const struct navmap_load_options o = {.struct_size = sizeof o, .copy = copy};
    navmap_index *ix = NULL;
    assert_ok(navmap_load(test_path, &o, &ix));
    return ix;
}

static navmap_status search(navmap_index *ix)
{
    uint64_t label;
    float distance;
    navmap_status status = navmap_search(ix, 1, vectors + DIM, 1, NULL, &label, &distance, NULL);
    if (status == NAVMAP_OK) {
        assert_int_equal(label, 2);
        assert_true(distance == 0);
    }
    return status;
}

static void shell(const char *format, const char *path)
{
    char command[300];
    (void)snprintf(command, sizeof command, format, path, path, path);
    assert_int_equal(system(command), 0);
}

static void test_deleted(void **state)
{
    (void)state;
    navmap_index *ix = load(false);
    assert_int_equal(unlink(test_path), 0);
    assert_ok(search(ix));
    assert_ok(navmap_add(ix, 1, vectors, &(uint64_t){1}, NULL, NULL));
    assert_ok(navmap_save(ix, test_path)); /* and it can be had back */
    assert_ok(navmap_close(ix));
    ix = load(false);
    assert_ok(search(ix));
    assert_int_equal(stats_of(ix).n_live, ITEMS - ITEMS / 40 + 1);
    assert_ok(navmap_close(ix));
}

static void test_replaced(void **state)
{
    (void)state;
    char other[128];
    navmap_index *ix = load(false);
    (void)snprintf(other, sizeof other, "%s.new", test_path);
    save_some(other, 7);
    assert_int_equal(rename(other, test_path), 0);
    assert_ok(search(ix));
    assert_ok(navmap_close(ix));
}

static void test_touched(void **state)
{
    (void)state;
    navmap_index *ix = load(false);
    shell("touch -d '2001-01-01' %s", test_path);
    assert_ok(search(ix));
    assert_ok(search(ix));
    shell("chmod 0444 %s", test_path);
    assert_ok(search(ix));
    assert_ok(navmap_close(ix));
}

/* Cut short, in every length, and grown again: an error at the next call, for good; a copy does not
 * mind. */
static void test_cut(void **state)
{
    (void)state;
    char saved[128];
    struct stat st;
    (void)snprintf(saved, sizeof saved, "%s.saved", test_path);
    assert_int_equal(stat(test_path, &st), 0);
    shell("cp %s %s.saved", test_path);
    const long sizes[] = {0, 4096, 70000, (long)st.st_size / 2, (long)st.st_size - 1};
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        navmap_index *ix = load(false), *copy = load(true);
        assert_ok(search(ix));
        assert_int_equal(truncate(test_path, sizes[i]), 0);
        assert_status(search(ix), NAVMAP_ECORRUPT);
        assert_non_null(strstr(navmap_error_detail(), "cut short"));
        assert_status(navmap_add(ix, 1, vectors, NULL, NULL, NULL), NAVMAP_ECORRUPT);
        assert_status(navmap_save(ix, saved), NAVMAP_ECORRUPT);
        assert_ok(search(copy));
        shell("cp %s.saved %s", test_path);
        assert_status(search(ix), NAVMAP_ECORRUPT);
        assert_ok(navmap_close(ix));
        assert_ok(navmap_close(copy));
    }
    navmap_index *ix = load(false); /* whole again: nothing is wrong with a new index over it */
    assert_ok(search(ix));
    assert_ok(navmap_close(ix));
}

static void test_overwritten(void **state)
{
    (void)state;
    char other[128];
    (void)snprintf(other, sizeof other, "%s.new", test_path);
    save_some(other, 7);
    navmap_index *ix = load(false);
    shell("cp %s.new %s", test_path); /* as long, and sound by itself */
    assert_status(search(ix), NAVMAP_ECORRUPT);
    assert_non_null(strstr(navmap_error_detail(), "overwritten"));
    assert_ok(navmap_close(ix));
}

/* A cut in the middle of a call is SIGBUS: noticed, by dying of it. */
static void test_cut_within_a_call(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        navmap_index *ix = NULL;
        (void)signal(SIGBUS, SIG_DFL); /* cmocka's */
        int status = navmap_load(test_path, NULL, &ix);
        const struct navmap_search_options o = {.struct_size = sizeof o, .ef = 400};
        uint64_t labels[300];
        float distances[300];
        while (status == NAVMAP_OK)
            status = navmap_search(ix, 1, vectors, 300, &o, labels, distances, NULL);
        _exit(status == NAVMAP_ECORRUPT ? 0 : 1);
    }
    (void)nanosleep(&(struct timespec){0, 20000000}, NULL);
    assert_int_equal(truncate(test_path, 4096), 0);
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true((WIFEXITED(how) && WEXITSTATUS(how) == 0) ||
                (WIFSIGNALED(how) && WTERMSIG(how) == SIGBUS) ||
                (WIFEXITED(how) && WEXITSTATUS(how) == 1)); /* a sanitizer turns it into an exit */
}

/* Damage --------------------------------------------------------------------------------------*/

static uint8_t *read_file(size_t *ret_n)
{
    struct stat st;
    FILE *f = fopen(test_path, "rb");
    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    uint8_t *bytes = malloc((size_t)st.st_size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)st.st_size, f), st.st_size);
    assert_int_equal(fclose(f), 0);
    *ret_n = (size_t)st.st_size;
    return bytes;
}

static void write_file(const uint8_t *bytes, size_t n)
{
    FILE *f = fopen(test_path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

struct seen {
    uint64_t damage;
    char first[200];
};
static void on_finding(void *ctx, const struct navmap_finding *f)
{
    struct seen *seen = ctx;
    if (!f->warning && seen->damage++ == 0)
        (void)snprintf(seen->first, sizeof seen->first, "%s", f->section);
}

/* Use a file that loaded although it is damaged, in every way: whatever it answers, no signal. */
static void use(navmap_index *ix)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 50, .allow_fewer = 1};
    uint64_t labels[20 * 10], n = 0;
    float distances[20 * 10], v[DIM];
    struct navmap_stats s = stats_of(ix);
    (void)!navmap_search(ix, 20, vectors, 10, &o, labels, distances, NULL);
    (void)!navmap_search_exact(ix, 1, vectors, 10, &o, labels, distances, NULL);
    for (uint64_t i = 0; i < ITEMS; i += 7) {
        uint64_t label = 2 * i;
        if (navmap_get(ix, 1, &label, v) == NAVMAP_OK) /* never a wrong vector */
            assert_memory_equal(v, vectors + i * DIM, sizeof v);
    }
    (void)!navmap_labels(ix, true, 100, labels, &n);
    (void)!navmap_check(ix, NULL, NULL, &r);
    (void)!navmap_resize(ix, s.n_live + s.n_deleted + 100);
    for (uint64_t i = 0; i < 20; i++)
        (void)!navmap_add(ix, 1, vectors + i * DIM, &(uint64_t){1 + 2 * i}, NULL, NULL);
    for (uint64_t i = 0; i < 10; i++)
        (void)!navmap_delete(ix, 2 * i + 100);
    (void)!navmap_add(ix, 1, vectors, &(uint64_t){100}, NULL, NULL);
    (void)!navmap_file_bytes(ix, &n);
}

/* Is the byte under a sum?  The rest is padding, which nobody reads. */
static bool is_summed(const uint8_t *bytes, size_t n, size_t at)
{
    struct layout l;
    struct layout_sealed sealed;
    struct layout_array arrays[LAYOUT_ARRAYS];
    int read_only;
    assert_ok(layout_read_header(bytes, n, test_path, &l, &read_only));
    layout_read_sealed(bytes, &sealed);
    layout_arrays(&l, arrays);
    if (at < LAYOUT_CHUNK0_OFFSET)
        return at < LAYOUT_ROOT_OFFSET + sizeof(struct disk_root);
    if (at >= sealed.label_offset)
        return true;
    const uint64_t into = (at - LAYOUT_CHUNK0_OFFSET) % l.chunk_bytes;
    for (uint32_t i = 0; i < LAYOUT_ARRAYS; i++)
        if (into >= arrays[i].offset && into < arrays[i].offset + arrays[i].used)
            return true;
    return false;
}

/* Every bit of what is summed is found by verify, and by load(verify); nothing dies of it. */
static void test_flipped_bits(void **state)
{
    (void)state;
    struct rng r = test_rng();
    size_t n;
    uint8_t *bytes = read_file(&n);
    const uint32_t rounds = scaled(1500, 8);
    uint32_t loaded = 0, refused = 0, silent = 0;
    for (uint32_t i = 0; i < rounds; i++) {
        /* The head more often than its size would have it. */
        size_t at = i % 3 == 0   ? rng_below(&r, 4096 + 128)
                    : i % 3 == 1 ? n - 1 - rng_below(&r, 20000)
                                 : rng_below(&r, (uint32_t)n);
        const uint8_t bit = (uint8_t)(1u << rng_below(&r, 8));
        bytes[at] ^= bit;
        write_file(bytes, n);
        struct navmap_verify_result result = {0};
        struct seen seen = {0};
        navmap_status status = navmap_verify(test_path, false, on_finding, &seen, &result);
        if (status == NAVMAP_OK && result.damaged == 0) {
            silent++;
            bytes[at] ^= bit;
            assert_false(is_summed(bytes, n, at));
            bytes[at] ^= bit;
        }
        if (status != NAVMAP_OK)
            assert_true(status == NAVMAP_EVERSION || status == NAVMAP_EINVAL ||
                        status == NAVMAP_ENOINDEX);
        navmap_index *ix = NULL;
        const struct navmap_load_options o = {.struct_size = sizeof o, .verify = 1};
        navmap_status checked = navmap_load(test_path, &o, &ix);
        assert_int_equal(checked == NAVMAP_OK, status == NAVMAP_OK && result.damaged == 0);
        if (checked == NAVMAP_OK)
            assert_ok(navmap_close(ix));
        if (navmap_load(test_path, NULL, &ix) == NAVMAP_OK) {
            loaded++;
            use(ix);
            assert_ok(navmap_close(ix));
        } else {
            refused++;
        }
        bytes[at] ^= bit;
    }
    print_message("%u loaded, %u refused, %u told nobody\n", loaded, refused, silent);
    assert_true(refused > rounds / 5 && loaded > rounds / 5);
    free(bytes);
}

/* Hostile: many bytes changed, and the sums of header and ROOT made right again. */
static void test_crafted(void **state)
{
    (void)state;
    struct rng r = test_rng();
    size_t n;
    uint8_t *bytes = read_file(&n), *mine = malloc(n);
    const uint32_t rounds = scaled(1500, 8);
    uint32_t loaded = 0;
    uint64_t uuid_low;
    memcpy(&uuid_low, bytes + offsetof(struct disk_header, uuid), 8);
    for (uint32_t i = 0; i < rounds; i++) {
        static const uint64_t odd[] = {0,          1,          0x7fffffff, 0xffffffff,
                                       UINT64_MAX, 1ull << 63, 400,        401};
        memcpy(mine, bytes, n);
        for (uint32_t k = 1 + rng_below(&r, 30); k > 0; k--) {
            uint64_t value = rng_below(&r, 2) ? odd[rng_below(&r, 8)] : rng_next(&r);
            const uint32_t size = 4u << rng_below(&r, 2);
            const size_t room = rng_below(&r, 8) == 0 ? 4096 + 128 : n - 16;
            size_t at = (rng_below(&r, (uint32_t)room)) / 4 * 4;
            memcpy(mine + at, &value, size);
        }
        struct disk_header *h = (void *)mine;
        memcpy(h->magic, bytes, 8);
        memcpy(h->uuid, bytes + offsetof(struct disk_header, uuid), 16);
        h->sum = checksum64(h, offsetof(struct disk_header, sum), 0);
        struct disk_root *root = (void *)(mine + LAYOUT_ROOT_OFFSET);
        root->sum = layout_root_sum(root, uuid_low);
        write_file(mine, n);
        navmap_index *ix = NULL;
        if (navmap_load(test_path, NULL, &ix) == NAVMAP_OK) {
            loaded++;
            if (stats_of(ix).dim == DIM)
                use(ix);
            assert_ok(navmap_close(ix));
        }
    }
    print_message("%u of %u loaded\n", loaded, rounds);
    assert_true(loaded > rounds / 4);
    free(mine);
    free(bytes);
}

static void test_truncated(void **state)
{
    (void)state;
    size_t n;
    uint8_t *bytes = read_file(&n);
    for (size_t length = 0; length < n; length += 4096)
        for (int more = -1; more <= 1; more++) {
            navmap_index *ix = NULL;
            if (length == 0 && more < 0)
                continue;
            write_file(bytes, (size_t)((long)length + more));
            navmap_status status = navmap_load(test_path, NULL, &ix);
            assert_int_equal(status, NAVMAP_ECORRUPT);
        }
    write_file(bytes, n);
    free(bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_deleted),      TEST(test_replaced),    TEST(test_touched),
        TEST(test_cut),          TEST(test_overwritten), TEST(test_cut_within_a_call),
        TEST(test_flipped_bits), TEST(test_crafted),     TEST(test_truncated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
