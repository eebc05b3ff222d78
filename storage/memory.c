/* memory.c -- MemAvailable of the system, and what is left of the cgroup's limit; see memory.h. */
#include "storage/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/io.h"

#define TEXT_BYTES 4096

/* Bytes that the number behind `key` means, in `unit`s; UINT64_MAX when there is none. */
static uint64_t number_behind(const char *text, const char *key, uint64_t unit)
{
    const char *at = strstr(text, key);
    char *end;
    if (!at)
        return UINT64_MAX;
    at += strlen(key);
    unsigned long long n = strtoull(at, &end, 10);
    return end == at || n > UINT64_MAX / unit ? UINT64_MAX : n * unit;
}

static uint64_t of_system(memory_reader *read)
{
    char text[TEXT_BYTES];
    return read("/proc/meminfo", text, sizeof text) ? number_behind(text, "MemAvailable:", 1024)
                                                    : UINT64_MAX;
}

/* A number alone in a file: "max" is none. */
static uint64_t number_in(memory_reader *read, const char *dir, const char *name)
{
    char path[TEXT_BYTES + 64], text[64];
    if (snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", dir, name) >= (int)sizeof path ||
        !read(path, text, sizeof text))
        return UINT64_MAX;
    return number_behind(text, "", 1);
}

/* What page cache the group holds can be had as well. */
static uint64_t of_group(memory_reader *read, const char *dir)
{
    char path[TEXT_BYTES + 64], text[TEXT_BYTES];
    uint64_t max = number_in(read, dir, "memory.max"), now = number_in(read, dir, "memory.current"),
             cache = 0;
    if (max == UINT64_MAX || now == UINT64_MAX)
        return UINT64_MAX;
    if (snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.stat", dir) < (int)sizeof path &&
        read(path, text, sizeof text))
        cache = number_behind(text, "\nfile ", 1);
    if (cache == UINT64_MAX || cache > now)
        cache = 0;
    now -= cache;
    return max > now ? max - now : 0;
}

/* The process's cgroup (version 2), and those above it. */
static uint64_t of_groups(memory_reader *read)
{
    char dir[TEXT_BYTES];
    uint64_t least = UINT64_MAX;
    if (!read("/proc/self/cgroup", dir, sizeof dir) || strncmp(dir, "0::/", 4) != 0)
        return UINT64_MAX;
    memmove(dir, dir + 3, strlen(dir + 3) + 1);
    dir[strcspn(dir, "\n")] = 0;
    for (;;) {
        uint64_t here = of_group(read, dir);
        least = here < least ? here : least;
        char *slash = strrchr(dir, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

/* A group of version 1, whose kernel tells the least limit of it and those above. */
static uint64_t of_old_group(memory_reader *read, const char *dir)
{
    char path[2 * TEXT_BYTES], text[TEXT_BYTES];
    uint64_t now = number_in(read, dir, "memory.usage_in_bytes");
    if (now == UINT64_MAX ||
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.stat", dir) >= (int)sizeof path ||
        !read(path, text, sizeof text))
        return UINT64_MAX;
    uint64_t max = number_behind(text, "\nhierarchical_memory_limit ", 1);
    uint64_t cache = number_behind(text, "\ntotal_cache ", 1);
    now -= cache < now ? cache : 0;
    return max > now ? max - now : 0;
}

/* The process's group of version 1; in a container that is what it finds mounted there. */
static uint64_t of_old_groups(memory_reader *read)
{
    char text[TEXT_BYTES], dir[TEXT_BYTES + 16];
    if (!read("/proc/self/cgroup", text, sizeof text))
        return UINT64_MAX;
    char *group = strstr(text, ":memory:");
    if (!group)
        return UINT64_MAX;
    group += strlen(":memory:");
    group[strcspn(group, "\n")] = 0;
    (void)snprintf(dir, sizeof dir, "/memory%s", group);
    uint64_t bytes = of_old_group(read, dir);
    return bytes != UINT64_MAX ? bytes : of_old_group(read, "/memory");
}

uint64_t memory_told(memory_reader *read)
{
    uint64_t least = of_system(read), group = of_groups(read), old_group = of_old_groups(read);
    least = group < least ? group : least;
    return old_group < least ? old_group : least;
}

uint64_t memory_available(void)
{
    return memory_told(io_read_text);
}
