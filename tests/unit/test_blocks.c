/* test_blocks.c -- what blocks.c writes: the bytes that were put, in whole aligned blocks, with
 * short gaps written and long ones left.
 */
#include <errno.h>
#include <sys/stat.h>

#include "storage/blocks.h"
#include "tests/support/engine.h"
#include "tests/unit/io_spy.h"

#define GAP (64u << 10)
#define BYTES (5 * BLOCK_BYTES + 12345)

/* Puts of any length, one behind the other and with gaps: the file is as a plain copy would be. */
static void test_bytes(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint8_t *want = calloc(1, BYTES), *found = malloc(BYTES);
    for (uint32_t round = 0; round < 20; round++) {
        struct blocks b;
        int fd = make_file(in_dir("bytes"), "");
        uint64_t end = 0;
        memset(want, 0, BYTES);
        assert_int_equal(blocks_begin(&b, fd, "bytes", GAP), NAVMAP_OK);
        while (true) {
            const uint32_t gap = rng_below(&r, 4) > 0 ? 0 : rng_below(&r, 3 * GAP);
            const uint32_t n = rng_below(&r, 8) > 0 ? rng_below(&r, 300000) : 0;
            if (end + gap + n > BYTES)
                break;
            for (uint32_t i = 0; i < n; i++)
                want[end + gap + i] = (uint8_t)rng_below(&r, 256);
            assert_int_equal(blocks_put(&b, want + end + gap, n, end + gap), NAVMAP_OK);
            end = n > 0 ? end + gap + n : end;
        }
        assert_int_equal(blocks_flush(&b), NAVMAP_OK);
        assert_int_equal(size_of(fd), end);
        assert_int_equal(io_pread(fd, "bytes", found, end, 0), NAVMAP_OK);
        assert_memory_equal(found, want, end);
        blocks_free(&b);
        close(fd);
    }
    free(want);
    free(found);
}

/* However small the puts, each write but the first and the last of a run is one whole block. */
static void test_writes(void **state)
{
    (void)state;
    static const uint8_t some[1000] = {1};
    struct blocks b;
    int fd = make_file(in_dir("writes"), "");
    watch();
    assert_int_equal(blocks_begin(&b, fd, "writes", GAP), NAVMAP_OK);
    uint64_t at = GAP;
    for (; at < 3 * BLOCK_BYTES + 5000; at += sizeof some)
        assert_int_equal(blocks_put(&b, some, sizeof some, at), NAVMAP_OK);
    const uint64_t far = 7 * BLOCK_BYTES + 4096;
    assert_int_equal(blocks_put(&b, some, sizeof some, far), NAVMAP_OK);
    assert_int_equal(blocks_flush(&b), NAVMAP_OK);
    assert_int_equal(blocks_flush(&b), NAVMAP_OK); /* nothing to do */
    io_hooks = NULL;
    const uint64_t written[][2] = {
        {0, BLOCK_BYTES},
        {BLOCK_BYTES, BLOCK_BYTES},
        {2 * BLOCK_BYTES, BLOCK_BYTES},
        {3 * BLOCK_BYTES, at - 3 * BLOCK_BYTES},
        {far, sizeof some},
    };
    assert_int_equal(seen.n_after, 5);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(seen.after[i].kind, IO_PWRITE);
        assert_int_equal(seen.after[i].off, written[i][0]);
        assert_int_equal(seen.after[i].len, written[i][1]);
    }
    struct stat st;
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, far + sizeof some);
    assert_true(st.st_blocks * 512 < 4 * (int64_t)BLOCK_BYTES); /* the long gap is a hole */
    blocks_free(&b);
    close(fd);
}

/* A failure is told by the put that fills a block, or by the flush. */
static void test_failure(void **state)
{
    (void)state;
    static uint8_t much[BLOCK_BYTES];
    struct blocks b;
    int fd = make_file(in_dir("failure"), "");
    assert_int_equal(blocks_begin(&b, fd, "failure", GAP), NAVMAP_OK);
    inject(IO_PWRITE, ENOSPC, 0, 2);
    assert_int_equal(blocks_put(&b, much, 10, 0), NAVMAP_OK);
    assert_int_equal(blocks_put(&b, much, sizeof much, 10), NAVMAP_ENOSPC);
    assert_int_equal(blocks_flush(&b), NAVMAP_ENOSPC);
    assert_non_null(strstr(navmap_error_detail(), "failure"));
    assert_int_equal(size_of(fd), 0);
    io_hooks = NULL;
    blocks_free(&b);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test_setup_teardown(test_writes, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_failure, NULL, unhook),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
