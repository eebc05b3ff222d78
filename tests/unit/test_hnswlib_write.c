/* test_hnswlib_write.c -- hnswlib's files written: what was read comes out again, byte for byte. */
#include <stdio.h>
#include <unistd.h>

#include "tests/unit/hnswlib_load.h"

static char home[64];

static const char *target(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", home, name);
    return path;
}

static uint8_t *read_file(const char *path, uint64_t *ret_n)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *ret_n = (uint64_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*ret_n + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *ret_n, file), *ret_n);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

static void test_same_bytes(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10; i++) {
        struct hnswlib_plan plan = seeded(usual);
        plan.seed += i;
        plan.M = i == 0 ? 2 : 3 + 4 * i;
        plan.dim = 1 + 13 * i;
        plan.count = i == 5 ? 1 : i == 6 ? 0 : 100 + 35 * i;
        struct hnswlib_image im;
        struct navmap_load_options o = wish(i % 3);
        hnswlib_image_make(&plan, &im);
        navmap_index *ix = load(&im, &o);
        assert_ok(navmap_export_hnswlib(ix, target("x.bin"), NULL));
        uint64_t n;
        uint8_t *bytes = read_file(target("x.bin"), &n);
        assert_int_equal(n, im.n);
        assert_memory_equal(bytes, im.bytes, n);
        free(bytes);
        assert_ok(navmap_close(ix));
        hnswlib_image_free(&im);
    }
}

/* Room that is not used is zeros, whatever hnswlib had there. */
static void test_flat(void **state)
{
    (void)state;
    struct hnswlib_plan plan = seeded(usual);
    struct hnswlib_image im;
    struct navmap_load_options o = wish(NAVMAP_L2);
    o.flat = 1;
    hnswlib_image_make_flat(&plan, &im);
    navmap_index *ix = load(&im, &o);
    assert_ok(navmap_export_hnswlib(ix, target("f.bin"), NULL));
    uint64_t n, used = HNSWLIB_FLAT_BYTES + plan.count * im.element_bytes;
    uint8_t *bytes = read_file(target("f.bin"), &n);
    assert_int_equal(n, im.n);
    assert_memory_equal(bytes, im.bytes, used);
    for (uint64_t i = used; i < n; i++)
        assert_int_equal(bytes[i], 0);
    free(bytes);
    assert_ok(navmap_close(ix));
    hnswlib_image_free(&im);
}

/* What died, and was updated, does not go out; what does is the same index. */
static void test_after_changes(void **state)
{
    (void)state;
    struct rng r = test_rng();
    struct navmap_options make = {
        .struct_size = sizeof make, .dim = 9, .M = 5, .ef_construction = 40};
    float *v = random_vectors(&r, 1500, 9);
    navmap_index *ix, *again;
    assert_ok(navmap_new(&make, &ix));
    for (uint64_t i = 0; i < 1500; i++) { /* each label three times */
        uint64_t label = i % 500;
        assert_ok(navmap_add(ix, 1, v + i * 9, &label, NULL, NULL));
    }
    for (uint64_t label = 0; label < 500; label += 10)
        assert_ok(navmap_delete(ix, label));
    assert_ok(navmap_export_hnswlib(ix, target("c.bin"), NULL));
    struct navmap_load_options o = wish(NAVMAP_L2);
    assert_ok(navmap_load(target("c.bin"), &o, &again));
    assert_sound(again);
    struct navmap_stats s = stats_of(again);
    assert_int_equal(s.n_live, 450);
    assert_int_equal(s.n_deleted, 50);
    assert_int_equal(s.n_dead, 0);
    struct navmap_check_result c = {.struct_size = sizeof c};
    assert_ok(navmap_check(again, NULL, NULL, &c));
    assert_int_equal(c.reachable, 450);
    for (uint64_t label = 0; label < 500; label++) {
        float was[9], is[9];
        if (label % 10 == 0)
            continue;
        assert_ok(navmap_get(ix, 1, &label, was));
        assert_ok(navmap_get(again, 1, &label, is));
        assert_memory_equal(was, is, sizeof was);
    }
    assert_ok(navmap_close(ix));
    assert_ok(navmap_close(again));
    free(v);
}

static int stop_at(void *ctx, uint64_t done, uint64_t total)
{
    assert_true(done <= total);
    return done >= *(uint64_t *)ctx;
}

static void test_called_off(void **state)
{
    (void)state;
    struct rng r = test_rng();
    struct navmap_options make = {.struct_size = sizeof make, .dim = 4, .M = 4};
    float *v = random_vectors(&r, 2000, 4);
    uint64_t limit = 1000, n;
    const struct navmap_save_options o = {
        .struct_size = sizeof o, .progress = stop_at, .progress_ctx = &limit};
    navmap_index *ix;
    assert_ok(navmap_new(&make, &ix));
    assert_ok(navmap_add(ix, 2000, v, NULL, NULL, NULL));
    for (int sealed = 0; sealed < 2; sealed++) {
        const char *path = target(sealed ? "o.navmap" : "o.bin");
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fputs("old", file) >= 0, 1);
        assert_int_equal(fclose(file), 0);
        limit = 1000;
        assert_status(sealed ? navmap_save_with(ix, path, &o) : navmap_export_hnswlib(ix, path, &o),
                      NAVMAP_EINTERRUPTED);
        uint8_t *bytes = read_file(path, &n);
        assert_int_equal(n, 3);
        free(bytes);
        limit = 2001;
        assert_ok(sealed ? navmap_save_with(ix, path, &o) : navmap_export_hnswlib(ix, path, &o));
        bytes = read_file(path, &n);
        assert_true(n > 1000);
        free(bytes);
    }
    assert_status(navmap_export_hnswlib(ix, "", NULL), NAVMAP_EINVAL);
    assert_status(navmap_export_hnswlib(ix, home, NULL), NAVMAP_EINVAL);
    assert_status(navmap_export_hnswlib(ix, target("no/such"), NULL), NAVMAP_ENOINDEX);
    assert_ok(navmap_close(ix));
    free(v);
}

static int make_home(void **state)
{
    (void)state;
    (void)snprintf(home, sizeof home, "%s/navmap-export-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(home) == NULL;
}

static int remove_home(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_flat),
        cmocka_unit_test(test_after_changes),
        cmocka_unit_test(test_called_off),
    };
    return cmocka_run_group_tests(tests, make_home, remove_home);
}
