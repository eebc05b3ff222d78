/* test_hnswlib_read.c -- pieces of a file larger than the buffer are its bytes; none are behind. */
#include <sys/mman.h>

#include "engine/hnswlib_read.h"
#include "tests/support/engine.h"

#define BYTES (5u * HNSWLIB_PIECE / 2 + 77)

static uint8_t *content;

static int make_file(uint64_t bytes)
{
    struct rng r = test_rng();
    int fd = memfd_create("file", MFD_CLOEXEC);
    content = malloc(bytes ? bytes : 1);
    assert_non_null(content);
    for (uint64_t i = 0; i < bytes; i++)
        content[i] = (uint8_t)rng_next(&r);
    assert_int_equal(write(fd, content, bytes), bytes);
    return fd;
}

static void test_pieces(void **state)
{
    (void)state;
    struct rng r = test_rng();
    struct hnswlib_reader s;
    const uint8_t *p;
    int fd = make_file(BYTES);
    assert_ok(hnswlib_read_begin(fd, "file", &s));
    assert_int_equal(s.file.bytes, BYTES);
    for (uint32_t round = 0; round < 40; round++) {
        uint64_t at = round == 0 ? 0 : rng_next(&r) % BYTES, most = 1u << rng_below(&r, 20), n;
        hnswlib_read_seek(&s, at);
        do {
            n = rng_below(&r, 8) == 0 ? HNSWLIB_PIECE : rng_next(&r) % (most + 1);
            n = n < HNSWLIB_PIECE ? n : HNSWLIB_PIECE;
            assert_int_equal(s.at, at);
            if (n > BYTES - at)
                break;
            assert_ok(hnswlib_read(&s, n, &p));
            assert_memory_equal(p, content + at, n);
            at += n;
        } while (at < BYTES);
        uint64_t left = BYTES - at;
        if (left < HNSWLIB_PIECE) {
            assert_status(hnswlib_read(&s, left + 1, &p), NAVMAP_ECORRUPT);
            assert_ok(hnswlib_read(&s, left, &p)); /* which has not used anything up */
            assert_memory_equal(p, content + at, left);
        }
    }
    hnswlib_read_seek(&s, 0);
    assert_status(hnswlib_read(&s, HNSWLIB_PIECE + 1, &p), NAVMAP_ECORRUPT);
    hnswlib_read_seek(&s, BYTES + 1);
    assert_status(hnswlib_read(&s, 1, &p), NAVMAP_ECORRUPT);
    hnswlib_read_seek(&s, UINT64_MAX);
    assert_status(hnswlib_read(&s, 2, &p), NAVMAP_ECORRUPT);
    hnswlib_read_end(&s);
    hnswlib_read_end(&s);
    close(fd);
    free(content);
}

static void test_small(void **state)
{
    (void)state;
    struct hnswlib_reader s;
    const uint8_t *p;
    for (uint64_t bytes = 0; bytes < 3; bytes++) {
        int fd = make_file(bytes);
        assert_ok(hnswlib_read_begin(fd, "file", &s));
        assert_ok(hnswlib_read(&s, 0, &p));
        assert_status(hnswlib_read(&s, bytes + 1, &p), NAVMAP_ECORRUPT);
        assert_ok(hnswlib_read(&s, bytes, &p));
        assert_memory_equal(p, content, bytes);
        hnswlib_read_end(&s);
        close(fd);
        free(content);
    }
}

/* It got shorter while it was read. */
static void test_shrinks(void **state)
{
    (void)state;
    struct hnswlib_reader s;
    const uint8_t *p;
    int fd = make_file(BYTES);
    assert_ok(hnswlib_read_begin(fd, "file", &s));
    assert_ok(hnswlib_read(&s, 1000, &p));
    assert_int_equal(ftruncate(fd, HNSWLIB_PIECE), 0);
    assert_ok(hnswlib_read(&s, HNSWLIB_PIECE - 1000, &p)); /* in the buffer already */
    assert_memory_equal(p, content + 1000, HNSWLIB_PIECE - 1000);
    assert_status(hnswlib_read(&s, 1, &p), NAVMAP_ECORRUPT);
    hnswlib_read_end(&s);
    close(fd);
    free(content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_shrinks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
