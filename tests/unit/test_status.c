/* test_status.c -- names, codes from errno, and the sentence that each thread keeps to itself. */
#include "storage/fail.h" /* before cmocka.h, which makes fail() a macro */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#undef fail

/* The numbers are part of the interface; a new one is added, none is moved. */
static void test_numbers_are_frozen(void **state)
{
    (void)state;
    static const char *const names[] = {
        "NAVMAP_OK",        "NAVMAP_EINVAL",       "NAVMAP_ENOMEM",    "NAVMAP_EIO",
        "NAVMAP_ENOSPC",    "NAVMAP_ELOCKED",      "NAVMAP_EFULL",     "NAVMAP_ENOTFOUND",
        "NAVMAP_ECORRUPT",  "NAVMAP_EVERSION",     "NAVMAP_EREADONLY", "NAVMAP_ENEEDSRECOVERY",
        "NAVMAP_EPOISONED", "NAVMAP_EFORKED",      "NAVMAP_ESTALE",    "NAVMAP_EFSTYPE",
        "NAVMAP_EEXIST",    "NAVMAP_ENOINDEX",     "NAVMAP_EDELETED",  "NAVMAP_ENOTDELETED",
        "NAVMAP_EFEWER",    "NAVMAP_EINTERRUPTED", "NAVMAP_ECLOSED",   "NAVMAP_EREPLACE",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_string_equal(navmap_strerror(-(int)i), names[i]);
    assert_string_equal(navmap_strerror(1), "unknown navmap status");
    assert_string_equal(navmap_strerror(-24), "unknown navmap status");
}

static void test_errno_codes(void **state)
{
    (void)state;
    static const struct {
        int err, writing;
        navmap_status code;
    } cases[] = {
        {ENOSPC, 1, NAVMAP_ENOSPC},    {EDQUOT, 1, NAVMAP_ENOSPC},   {EFBIG, 1, NAVMAP_ENOSPC},
        {ENOMEM, 0, NAVMAP_ENOMEM},    {EROFS, 1, NAVMAP_EREADONLY}, {EROFS, 0, NAVMAP_EIO},
        {EACCES, 1, NAVMAP_EREADONLY}, {EACCES, 0, NAVMAP_EIO},      {EIO, 1, NAVMAP_EIO},
        {ENOENT, 0, NAVMAP_EIO},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(fail_errno(cases[i].err, cases[i].writing, "open", "/x"), cases[i].code);
    assert_int_equal(fail_errno(EIO, 0, "read", "/a/b"), NAVMAP_EIO);
    assert_string_equal(navmap_error_detail(), "read /a/b: Input/output error");
}

static void test_sentence(void **state)
{
    (void)state;
    assert_int_equal(fail(NAVMAP_ECORRUPT, "%s: %d", "inner", 5), NAVMAP_ECORRUPT);
    assert_string_equal(navmap_error_detail(), "inner: 5");
    /* A sentence may quote the one before it. */
    assert_int_equal(fail(NAVMAP_EIO, "outer: %s", navmap_error_detail()), NAVMAP_EIO);
    assert_string_equal(navmap_error_detail(), "outer: inner: 5");

    char long_text[2000];
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    (void)fail(NAVMAP_EIO, "%s", long_text);
    assert_int_equal(strlen(navmap_error_detail()), 511);
}

static void *other_thread(void *arg)
{
    char *seen = arg;
    seen[0] = navmap_error_detail()[0] == '\0'; /* nothing of the first thread's */
    (void)fail(NAVMAP_EIO, "other");
    seen[1] = strcmp(navmap_error_detail(), "other") == 0;
    return NULL;
}

static void test_threads_apart(void **state)
{
    (void)state;
    (void)fail(NAVMAP_EIO, "mine");
    char seen[2] = {0, 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, other_thread, seen), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(seen[0] && seen[1]);
    assert_string_equal(navmap_error_detail(), "mine");
}

static navmap_status two_steps(navmap_status first, int *reached)
{
    TRY(first);
    *reached = 1;
    return NAVMAP_OK;
}

static void test_try(void **state)
{
    (void)state;
    int reached = 0;
    assert_int_equal(two_steps(NAVMAP_EFULL, &reached), NAVMAP_EFULL);
    assert_int_equal(reached, 0);
    assert_int_equal(two_steps(NAVMAP_OK, &reached), NAVMAP_OK);
    assert_int_equal(reached, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_frozen),
        cmocka_unit_test(test_errno_codes),
        cmocka_unit_test(test_sentence),
        cmocka_unit_test(test_threads_apart),
        cmocka_unit_test(test_try),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
