/* test_cpus.c -- quotas out of the texts that kernels and container engines write, and out of
 * texts that nobody should write. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "storage/cpus.h"
#include "tests/support/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define quota_among(...) quota_in_files((const struct file[]){__VA_ARGS__, {NULL, NULL}})
static uint32_t quota_in_files(const struct file *all)
{
    files = all;
    return cpus_quota(read_files);
}
#define NONE UINT32_MAX

#define GROUP "/proc/self/cgroup"
#define MOUNTS "/proc/self/mountinfo"
#define V2_MOUNT "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNT(root)                                                                             \
    "33 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"                            \
    "32 31 0:28 " root " /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"

static uint32_t v2_text(const char *text)
{
    return quota_among({MOUNTS, V2_MOUNT}, {GROUP, "0::/\n"}, {"/sys/fs/cgroup/cpu.max", text});
}

static void test_v2_texts(void **state)
{
    (void)state;
    assert_int_equal(v2_text("100000 100000\n"), 1);
    assert_int_equal(v2_text("150000 100000\n"), 2);
    assert_int_equal(v2_text("200000 100000"), 2);
    assert_int_equal(v2_text("200001 100000\n"), 3);
    assert_int_equal(v2_text("1000 100000\n"), 1);
    assert_int_equal(v2_text("max 100000\n"), NONE);
    assert_int_equal(v2_text("18446744073709551615 1\n"), NONE);
    assert_int_equal(v2_text("18446744073709551615 18446744073709551615\n"), 1);
    assert_int_equal(v2_text("18446744073709551616 100000\n"), NONE);
    assert_int_equal(v2_text("99999999999999999999999999999999999999999 1\n"), NONE);
    assert_int_equal(v2_text("100000 18446744073709551616\n"), NONE);
    static const char *const garbage[] = {"",     "\n",         "100000", "100000 ", " ",
                                          "0 0",  "100000 0\n", "0 1000", "-1 1000", "1e5 1000",
                                          "x 10", "5 x\n",      "5 -1\n", "0x10 1",  "max"};
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++)
        assert_int_equal(v2_text(garbage[i]), NONE);
}

static uint32_t v1_texts(const char *quota, const char *period)
{
    return quota_among({MOUNTS, V1_MOUNT("/")}, {GROUP, "3:cpuset:/a\n2:cpu,cpuacct:/\n"},
                       {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", quota},
                       {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", period});
}

static void test_v1_texts(void **state)
{
    (void)state;
    assert_int_equal(v1_texts("-1\n", "100000\n"), NONE);
    assert_int_equal(v1_texts("50000\n", "100000\n"), 1);
    assert_int_equal(v1_texts("250000\n", "100000\n"), 3);
    assert_int_equal(v1_texts("250000\n", "0\n"), NONE);
    assert_int_equal(v1_texts("250000\n", ""), NONE);
    assert_int_equal(v1_texts("max\n", "100000\n"), NONE);
    assert_int_equal(v1_texts("9223372036854775807\n", "1\n"), NONE);
    assert_int_equal(quota_among({MOUNTS, V1_MOUNT("/")}, {GROUP, "2:cpu,cpuacct:/\n"},
                                 {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "1000\n"}),
                     NONE);
}

/* The tightest of our own group and all above it. */
static void test_walk(void **state)
{
    (void)state;
    assert_int_equal(quota_among({MOUNTS, V2_MOUNT}, {GROUP, "0::/a.slice/b c/d\n"},
                                 {"/sys/fs/cgroup/a.slice/b c/d/cpu.max", "max 100000\n"},
                                 {"/sys/fs/cgroup/a.slice/b c/cpu.max", "300000 100000\n"},
                                 {"/sys/fs/cgroup/a.slice/cpu.max", "700000 100000\n"}),
                     3);
    assert_int_equal(quota_among({MOUNTS, V2_MOUNT}, {GROUP, "0::/a/b\n"},
                                 {"/sys/fs/cgroup/a/b/cpu.max", "600000 100000\n"},
                                 {"/sys/fs/cgroup/a/cpu.max", "500000 100000\n"}),
                     5);
    assert_int_equal(quota_among({MOUNTS, V1_MOUNT("/")}, {GROUP, "2:cpuacct,cpu:/a/b\n0::/x\n"},
                                 {"/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n"},
                                 {"/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n"},
                                 {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "30000\n"},
                                 {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "10000\n"}),
                     3);
    /* A group that is not ours does not count. */
    assert_int_equal(quota_among({MOUNTS, V2_MOUNT}, {GROUP, "0::/ab\n"},
                                 {"/sys/fs/cgroup/a/cpu.max", "100000 100000\n"}),
                     NONE);
}

/* What a container sees: its own part of the tree, under names of its own or of the host. */
static void test_containers(void **state)
{
    (void)state;
    /* version 2, the names are the host's, the files the container's */
    assert_int_equal(quota_among({MOUNTS, V2_MOUNT}, {GROUP, "0::/system.slice/docker-12.scope\n"},
                                 {"/sys/fs/cgroup/cpu.max", "150000 100000\n"}),
                     2);
    assert_int_equal(quota_among({MOUNTS, V2_MOUNT}, {GROUP, "0::/../neighbour\n"},
                                 {"/sys/fs/cgroup/../neighbour/cpu.max", "100000 100000\n"},
                                 {"/sys/fs/cgroup/cpu.max", "400000 100000\n"}),
                     4);
    /* version 1, the mount shows the part below /docker/12 */
    static const struct file docker[] = {
        {MOUNTS, V1_MOUNT("/docker/12")},
        {GROUP, "5:memory:/docker/12\n4:cpu,cpuacct:/docker/12/in\n"},
        {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "400000\n"},
        {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"},
        {"/sys/fs/cgroup/cpu,cpuacct/in/cpu.cfs_quota_us", "200000\n"},
        {"/sys/fs/cgroup/cpu,cpuacct/in/cpu.cfs_period_us", "100000\n"},
        {NULL, NULL}};
    assert_int_equal(quota_in_files(docker), 2);
    /* a longer name that begins alike is not below it */
    assert_int_equal(quota_among({MOUNTS, V1_MOUNT("/docker/1")}, {GROUP, "4:cpu:/docker/12/in\n"},
                                 {"/sys/fs/cgroup/cpu,cpuacct/2/in/cpu.cfs_quota_us", "100\n"},
                                 {"/sys/fs/cgroup/cpu,cpuacct/2/in/cpu.cfs_period_us", "100\n"}),
                     NONE);
}

static void test_mounts(void **state)
{
    (void)state;
    /* both versions: each where mountinfo says */
    assert_int_equal(
        quota_among(
            {MOUNTS, V1_MOUNT("/") "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 c rw\n"},
            {GROUP, "1:cpu:/a\n0::/b\n"}, {"/sys/fs/cgroup/unified/b/cpu.max", "800000 100000\n"},
            {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "900000\n"},
            {"/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"}),
        8);
    /* a blank and a backslash in names; a second mount that is somebody else's view */
    assert_int_equal(quota_among({MOUNTS, "1 2 0:3 /x\\134x2d /my\\040cg rw - cgroup2 cgroup2 rw\n"
                                          "1 2 0:3 /y /elsewhere rw - cgroup2 cgroup2 rw\n"},
                                 {GROUP, "0::/x\\x2d/y\n"},
                                 {"/elsewhere/cpu.max", "100000 100000\n"},
                                 {"/my cg/y/cpu.max", "600000 100000\n"}),
                     6);
    /* no mountinfo, no cgroup: the usual places */
    assert_int_equal(quota_among({"/sys/fs/cgroup/cpu.max", "400000 100000\n"}), 4);
    assert_int_equal(quota_among({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n"},
                                 {"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"}),
                     4);
    assert_int_equal(quota_among({"", ""}), NONE);
    /* lines cut short and without sense */
    static const char *const lines[] = {
        " - ",       "a - b",          "1 2 3 4 5 - cgroup2", "1 2 3 - cgroup2 c rw",
        " -  -  - ", "\n\n - cgroup2 "};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_int_equal(quota_among({MOUNTS, lines[i]}, {GROUP, "0:\n:\n::\n0::"},
                                     {"/sys/fs/cgroup/cpu.max", "500000 100000\n"}),
                         5);
}

static void test_long_names(void **state)
{
    (void)state;
    static char group[20000], mounts[20000];
    memset(group, '/', sizeof group - 1);
    memcpy(group, "0::", 3);
    assert_int_equal(quota_among({MOUNTS, V2_MOUNT}, {GROUP, group},
                                 {"/sys/fs/cgroup/cpu.max", "500000 100000\n"}),
                     5);
    int n = snprintf(mounts, sizeof mounts, "1 2 0:3 / ");
    memset(mounts + n, 'm', 9000);
    (void)snprintf(mounts + n + 9000, sizeof mounts - 9100, " rw - cgroup2 cgroup2 rw\n");
    assert_int_equal(quota_among({MOUNTS, mounts}, {GROUP, group}), NONE);
}

/* Files that change within a second are not looked at again, and then they are. */
static void test_kept(void **state)
{
    (void)state;
    static const struct file two[] = {{MOUNTS, V2_MOUNT},
                                      {GROUP, "0::/\n"},
                                      {"/sys/fs/cgroup/cpu.max", "200000 100000\n"},
                                      {NULL, NULL}};
    static const struct file none[] = {{NULL, NULL}};
    files = two;
    assert_int_equal(cpus_quota_kept(read_files, 7), 2);
    files = none;
    assert_int_equal(cpus_quota_kept(read_files, 7), 2);
    assert_int_equal(cpus_quota_kept(read_files, 8), NONE);
    files = two;
    assert_int_equal(cpus_quota_kept(read_files, 8), NONE);
    assert_int_equal(cpus_quota_kept(read_files, 9), 2);
}

static void test_this_machine(void **state)
{
    (void)state;
    assert_true(cpus_usable() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v2_texts), cmocka_unit_test(test_v1_texts),
        cmocka_unit_test(test_walk),     cmocka_unit_test(test_containers),
        cmocka_unit_test(test_mounts),   cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_kept),     cmocka_unit_test(test_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
