/* harness.c -- options, seeds, directories and counts of the torture programs; see harness.h. */
#include "tests/support/harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SEED 20240229u
#define PRINTED_FAILURES 20u

double harness_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(2);
}

static void usage(const char *name)
{
    fprintf(stderr, "usage: %s [--seed N] [--budget N] [--only N] [--dir PATH] [--verbose]\n",
            name);
    exit(2);
}

static uint64_t number(const char *name, const char *text)
{
    char *end = NULL;
    uint64_t n = text ? strtoull(text, &end, 0) : 0;
    if (!text || end == text || *end != '\0')
        usage(name);
    return n;
}

static const char *work_root(const char *wanted)
{
    static const char *const places[] = {"/dev/shm", "/tmp"};
    if (wanted)
        return wanted;
    if (getenv("NAVMAP_DIR"))
        return getenv("NAVMAP_DIR");
    if (access(places[0], W_OK | X_OK) == 0)
        return places[0];
    return getenv("TMPDIR") ? getenv("TMPDIR") : places[1];
}

void harness_begin(struct harness *h, const char *name, int argc, char **argv)
{
    const char *dir = NULL, *tier = getenv("NAVMAP_TIER"), *shrink = getenv("NAVMAP_SHORT");
    *h = (struct harness){.name = name, .seed = DEFAULT_SEED, .only = -1};
    if (getenv("NAVMAP_SEED"))
        h->seed = number(name, getenv("NAVMAP_SEED"));
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--verbose") == 0) {
            h->verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0)
            h->seed = number(name, value);
        else if (strcmp(argv[i], "--budget") == 0)
            h->budget = number(name, value);
        else if (strcmp(argv[i], "--only") == 0)
            h->only = (int64_t)number(name, value);
        else if (strcmp(argv[i], "--dir") == 0 && value)
            dir = value;
        else
            usage(name);
        i++;
    }
    if (tier && strcmp(tier, "ci") == 0)
        h->tier = TIER_CI;
    else if (tier && strcmp(tier, "long") == 0)
        h->tier = TIER_LONG;
    else if (tier && strcmp(tier, "test") != 0)
        usage(name);
    h->shrink = shrink && strcmp(shrink, "1") == 0;
    (void)snprintf(h->dir, sizeof h->dir, "%s/navmap-%s-XXXXXX", work_root(dir), name);
    if (!mkdtemp(h->dir))
        die(h->dir);
    static const char *const tiers[] = {"test", "ci", "long"};
    printf("%s: seed %llu, tier %s%s\n", name, (unsigned long long)h->seed, tiers[h->tier],
           h->shrink ? ", shrunk" : "");
    (void)fflush(stdout);
    h->started = harness_now();
}

int harness_end(struct harness *h)
{
    harness_remove(h->dir);
    printf("%s: %.1f s, seed %llu\n%llu passed, %llu failed\n", h->name, harness_now() - h->started,
           (unsigned long long)h->seed, (unsigned long long)h->passed,
           (unsigned long long)h->failed);
    /* A run in which nothing was tried has shown nothing. */
    return h->failed == 0 && h->passed > 0 ? 0 : 1;
}

uint64_t harness_count(const struct harness *h, uint64_t test, uint64_t ci, uint64_t longer)
{
    if (h->budget != 0)
        return h->budget;
    uint64_t n = h->tier == TIER_TEST ? test : h->tier == TIER_CI ? ci : longer;
    return h->shrink && n >= 4 ? n / 4 : n;
}

bool harness_wants(const struct harness *h, uint64_t i)
{
    return h->only < 0 || (uint64_t)h->only == i;
}

void harness_case(struct harness *h, bool ok, uint64_t round, const char *format, ...)
{
    if (ok) {
        h->passed++;
        return;
    }
    if (h->failed++ >= PRINTED_FAILURES)
        return;
    va_list args;
    va_start(args, format);
    printf("FAILED %s round %llu: ", h->name, (unsigned long long)round);
    (void)vprintf(format, args);
    va_end(args);
    printf("\n  repeat: test_%s --seed %llu --only %llu\n", h->name, (unsigned long long)h->seed,
           (unsigned long long)round);
    (void)fflush(stdout);
}

uint64_t harness_round_seed(const struct harness *h, uint64_t i)
{
    return mix64(h->seed * UINT64_C(0x2545F4914F6CDD1D) + i);
}

void *harness_shared(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    return memory;
}

void harness_unshare(void *memory, size_t bytes)
{
    (void)munmap(memory, bytes);
}

void harness_remove(const char *path)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return;
    if (!S_ISDIR(st.st_mode)) {
        (void)unlink(path);
        return;
    }
    DIR *dir = opendir(path);
    if (dir) {
        const struct dirent *entry;
        while ((entry = readdir(dir)) != NULL) {
            char below[1024];
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            (void)snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
            harness_remove(below);
        }
        (void)closedir(dir);
    }
    (void)rmdir(path);
}

static void copy_file(const char *from, const char *to)
{
    static char buffer[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ssize_t n;
    if (in < 0 || out < 0)
        die(to);
    while ((n = read(in, buffer, sizeof buffer)) > 0) {
        if (write(out, buffer, (size_t)n) != n)
            die(to);
    }
    (void)close(in);
    (void)close(out);
}

void harness_copy_dir(const char *from, const char *to)
{
    DIR *dir = opendir(from);
    const struct dirent *entry;
    if (!dir || (mkdir(to, 0755) != 0 && errno != EEXIST))
        die(to);
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        const char *target = harness_path(to, entry->d_name);
        copy_file(harness_path(from, entry->d_name), target);
    }
    (void)closedir(dir);
}

const char *harness_path(const char *dir, const char *name)
{
    static _Thread_local char buffers[8][512];
    static _Thread_local unsigned next;
    char *buffer = buffers[next++ % 8];
    (void)snprintf(buffer, sizeof buffers[0], "%s/%s", dir, name);
    return buffer;
}

int harness_wait(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            die("waitpid");
    }
    return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}
