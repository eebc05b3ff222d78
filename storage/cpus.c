/* cpus.c -- from the affinity mask and the files of the cgroups to a number of processors.
 *
 * A quota is said at any level of the tree, and the tightest one decides; so the walk goes from our
 * own group up to the mount.  Where that is, mountinfo tells: with both versions mounted (hybrid)
 * neither lies at the usual place.  A mount that shows a part of the tree only, as containers have
 * it, is read from that part on; if our group cannot be found below the mount, as when the names
 * are the host's and the mount is ours, what the mount's own top says is all there is to know.
 */
#include "storage/cpus.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "storage/io.h"

#define TEXT_BYTES 65536u /* of mountinfo; cgroups are mounted early, what is cut does not matter */
#define PATH_BYTES 4096u
#define MASK_CPUS_MAX (1 << 20)

/* One of the two kinds of hierarchy. */
struct tree {
    bool v2;
    char root[PATH_BYTES];  /* the group that is seen at the mount */
    char mount[PATH_BYTES]; /* where; "" = nowhere */
    char group[PATH_BYTES]; /* our own; "" = unknown */
};

/* Numbers ---------------------------------------------------------------------------------------*/

/* Digits up to a blank or the end; 0 for anything else and for what exceeds 64 bits. */
static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9')
        return 0;
    unsigned long long value = strtoull(text, &end, 10);
    return errno == 0 && (*end == 0 || *end == ' ' || *end == '\n') ? value : 0;
}

static uint32_t quotient(uint64_t quota, uint64_t period)
{
    if (quota == 0 || period == 0)
        return UINT32_MAX;
    uint64_t n = quota / period + (quota % period != 0);
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static bool read_in(cpus_reader *reader, const char *folder, const char *name, char *ret_text,
                    uint64_t room)
{
    char path[2 * PATH_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return reader(path, ret_text, room);
}

/* "max 100000" or "150000 100000"; in version 1 a file each, and -1 for no limit. */
static uint32_t quota_of(cpus_reader *reader, const struct tree *tree, const char *folder)
{
    char quota[64], period[64];
    if (tree->v2) {
        if (!read_in(reader, folder, "cpu.max", quota, sizeof quota))
            return UINT32_MAX;
        const char *blank = strchr(quota, ' ');
        return blank ? quotient(number(quota), number(blank + 1)) : UINT32_MAX;
    }
    if (!read_in(reader, folder, "cpu.cfs_quota_us", quota, sizeof quota) ||
        !read_in(reader, folder, "cpu.cfs_period_us", period, sizeof period))
        return UINT32_MAX;
    return quotient(number(quota), number(period));
}

/* Names -----------------------------------------------------------------------------------------*/

/* Is `word` one of the words between commas? */
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += n) {
        bool begins = at == list || at[-1] == ',';
        if (begins && (at[n] == 0 || at[n] == ','))
            return true;
    }
    return false;
}

/* Copy, with \040 and its like (a blank, a backslash in mountinfo) as the character they mean. */
static void unescape(const char *from, char ret_name[PATH_BYTES])
{
    size_t n = 0;
    while (*from && n < PATH_BYTES - 1) {
        if (*from == '\\' && strspn(from + 1, "01234567") >= 3) {
            ret_name[n++] = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + from[3] - '0');
            from += 4;
        } else {
            ret_name[n++] = *from++;
        }
    }
    ret_name[n] = 0;
}

/* A line of mountinfo: "31 23 0:28 ROOT MOUNT options [tags] - TYPE source CONTROLLERS". */
static void look_at_mount(struct tree *tree, char *line)
{
    char *field[6], *rest = strstr(line, " - "), *save = NULL;
    if (tree->mount[0] || !rest) /* the first one counts, later ones are copies for somebody */
        return;
    *rest = 0;
    for (int i = 0; i < 5; i++) {
        field[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
        if (!field[i])
            return;
    }
    const char *type = strtok_r(rest + 3, " ", &save), *source = strtok_r(NULL, " ", &save);
    const char *controllers = strtok_r(NULL, " ", &save);
    if (!source || !controllers || strcmp(type, tree->v2 ? "cgroup2" : "cgroup") != 0)
        return;
    if (!tree->v2 && !has_word(controllers, "cpu"))
        return;
    unescape(field[3], tree->root);
    unescape(field[4], tree->mount);
}

/* A line of /proc/self/cgroup: "0::/group", "4:cpu,cpuacct:/group". */
static void look_at_group(struct tree *tree, char *line)
{
    char *controllers = strchr(line, ':'),
         *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group)
        return;
    *group++ = 0;
    if (tree->v2 ? strcmp(line, "0:") == 0 : has_word(controllers + 1, "cpu"))
        (void)snprintf(tree->group, sizeof tree->group, "%s", group);
}

static void each_line(struct tree *tree, char *text, void (*look)(struct tree *, char *))
{
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        look(tree, line);
}

/* The walk --------------------------------------------------------------------------------------*/

/* Our group as seen from the mount: "" when it is the top of it, or is not below it. */
static const char *below_root(const struct tree *tree)
{
    size_t n = strcmp(tree->root, "/") == 0 ? 0 : strlen(tree->root);
    const char *rest = tree->group + n;
    if (strncmp(tree->group, tree->root, n) != 0 || rest[0] != '/' || rest[1] == 0)
        return "";
    return strncmp(rest, "/..", 3) == 0 ? "" : rest; /* "/../x" is outside our namespace */
}

static uint32_t smallest_above(cpus_reader *reader, const struct tree *tree)
{
    char folder[2 * PATH_BYTES];
    size_t top = strlen(tree->mount);
    (void)snprintf(folder, sizeof folder, "%s%s", tree->mount, below_root(tree));
    uint32_t least = UINT32_MAX;
    for (;;) {
        uint32_t n = quota_of(reader, tree, folder);
        least = n < least ? n : least;
        if (strlen(folder) <= top)
            return least;
        *strrchr(folder + top, '/') = 0;
    }
}

static uint32_t quota_in(cpus_reader *reader, bool v2, char *text)
{
    struct tree *tree = calloc(1, sizeof *tree); /* 12 KB: the stack may be a callback's */
    if (!tree)
        return UINT32_MAX;
    tree->v2 = v2;
    if (reader("/proc/self/cgroup", text, TEXT_BYTES))
        each_line(tree, text, look_at_group);
    if (reader("/proc/self/mountinfo", text, TEXT_BYTES))
        each_line(tree, text, look_at_mount);
    if (!tree->mount[0]) {
        (void)snprintf(tree->mount, PATH_BYTES, v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu");
        (void)snprintf(tree->root, PATH_BYTES, "/");
    }
    uint32_t n = smallest_above(reader, tree);
    free(tree);
    return n;
}

uint32_t cpus_quota(cpus_reader *reader)
{
    char *text = malloc(TEXT_BYTES);
    if (!text)
        return UINT32_MAX;
    uint32_t v2 = quota_in(reader, true, text), v1 = quota_in(reader, false, text);
    free(text);
    return v1 < v2 ? v1 : v2;
}

/* Second and quota in one word, so that threads meet here without a lock (pairing quota).  The
 * second is never 0. */
static _Atomic uint64_t kept;

uint32_t cpus_quota_kept(cpus_reader *reader, uint32_t second)
{
    uint64_t word = atomic_load_explicit(&kept, memory_order_relaxed);
    if (word >> 32 != second) {
        word = (uint64_t)second << 32 | cpus_quota(reader);
        atomic_store_explicit(&kept, word, memory_order_relaxed);
    }
    return (uint32_t)word;
}

/* A mask shorter than the kernel's is refused, and the kernel's length is not told. */
static uint32_t affinity(void)
{
    for (int n = CPU_SETSIZE; n <= MASK_CPUS_MAX; n *= 2) {
        cpu_set_t *mask = CPU_ALLOC((size_t)n);
        if (!mask)
            break;
        int err = sched_getaffinity(0, CPU_ALLOC_SIZE(n), mask) == 0 ? 0 : errno;
        int count = err == 0 ? CPU_COUNT_S(CPU_ALLOC_SIZE(n), mask) : 0;
        CPU_FREE(mask);
        if (err == 0 && count > 0)
            return (uint32_t)count;
        if (err != EINVAL)
            break;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

uint32_t cpus_usable(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    uint32_t mask = affinity(), quota = cpus_quota_kept(io_read_text, (uint32_t)now.tv_sec + 1);
    return mask < quota ? mask : quota;
}
