/* test_memory.c -- how much memory is left, out of the texts that kernels and container engines
 * write: control groups of both versions, and texts that nobody should write. */
#include <stdio.h>
#include <string.h>

#include "storage/memory.h"
#include "tests/support/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define told_among(...) told_in_files((const struct file[]){__VA_ARGS__, {NULL, NULL}})
static uint64_t told_in_files(const struct file *all)
{
    files = all;
    return memory_told(read_files);
}

#define SYSTEM "/proc/meminfo"
#define MEMINFO "MemTotal:  9000 kB\nMemFree:  100 kB\nMemAvailable:    4000 kB\n"
#define GROUP "/proc/self/cgroup"
#define V1 "9:name=systemd:/\n4:memory:/box/one\n1:cpu:/\n0::/\n"
#define DIR "/sys/fs/cgroup"

static void test_system(void **state)
{
    (void)state;
    assert_true(told_among({SYSTEM, MEMINFO}) == 4000 * 1024);
    assert_true(told_among({"/none", ""}) == UINT64_MAX);
    assert_true(told_among({SYSTEM, "MemAvailable: lots\n"}) == UINT64_MAX);
    assert_true(told_among({SYSTEM, "MemAvailable: 99999999999999999999 kB\n"}) == UINT64_MAX);
}

static void test_version_2(void **state)
{
    (void)state;
    assert_true(told_among({SYSTEM, MEMINFO}, {GROUP, "0::/a/b\n"},
                           {DIR "/a/b/memory.max", "1000000\n"},
                           {DIR "/a/b/memory.current", "700000\n"},
                           {DIR "/a/b/memory.stat", "anon 5\nfile 300000\n"}) == 600000);
    assert_true(told_among({SYSTEM, MEMINFO}, {GROUP, "0::/a/b\n"},
                           {DIR "/a/b/memory.max", "max\n"}, {DIR "/a/b/memory.current", "7\n"},
                           {DIR "/a/memory.max", "9000\n"},
                           {DIR "/a/memory.current", "10000\n"}) == 0);
}

/* What the page cache of the group holds can be had; limits above it are in the same file. */
static void test_version_1(void **state)
{
    (void)state;
    const char *stat = "cache 1\nrss 2\nhierarchical_memory_limit 1000000\n"
                       "hierarchical_memsw_limit 5\ntotal_cache 300000\n";
    assert_true(told_among({SYSTEM, MEMINFO}, {GROUP, V1},
                           {DIR "/memory/box/one/memory.usage_in_bytes", "700000\n"},
                           {DIR "/memory/box/one/memory.stat", stat}) == 600000);
    /* In a container its group is what is mounted. */
    assert_true(told_among({SYSTEM, MEMINFO}, {GROUP, V1},
                           {DIR "/memory/memory.usage_in_bytes", "400000\n"},
                           {DIR "/memory/memory.stat", stat}) == 900000);
    assert_true(told_among({SYSTEM, MEMINFO}, {GROUP, V1},
                           {DIR "/memory/box/one/memory.usage_in_bytes", "9700000\n"},
                           {DIR "/memory/box/one/memory.stat", stat}) == 0);
    assert_true(told_among({SYSTEM, MEMINFO}, {GROUP, V1},
                           {DIR "/memory/box/one/memory.usage_in_bytes", "7\n"},
                           {DIR "/memory/box/one/memory.stat",
                            "rss 1\nhierarchical_memory_limit 9223372036854771712\n"}) ==
                4000 * 1024);
    assert_true(told_among({SYSTEM, MEMINFO}, {GROUP, V1},
                           {DIR "/memory/box/one/memory.usage_in_bytes", "7\n"},
                           {DIR "/memory/box/one/memory.stat", "nothing\n"}) == 4000 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_system),
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_version_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
