/* scarce.c -- counting allocations and refusing the chosen ones; see scarce.h.
 *
 * The functions stand in the program itself, so shared libraries bind to them.  Under a sanitizer
 * the next in line is the sanitizer's own family, and what it intercepts by itself (strdup) is not
 * seen.  Its family is of no use before it has set itself up, and nothing here may be instrumented
 * (BARE): the loader calls us first.
 */
#include "tests/support/scarce.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define BARE __attribute__((no_sanitize("address", "undefined", "thread")))
#define EXPORT __attribute__((visibility("default"))) BARE

static _Atomic bool armed, for_ever;
static _Atomic uint64_t seen, refused, wanted;

void scarce_begin(uint64_t n, bool ever)
{
    atomic_store(&seen, 0);
    atomic_store(&refused, 0);
    atomic_store(&wanted, n);
    atomic_store(&for_ever, ever);
    atomic_store(&armed, true);
}

uint64_t scarce_end(void)
{
    atomic_store(&armed, false);
    return atomic_load(&refused);
}

bool scarce_works(void)
{
    char *volatile text = NULL;
    scarce_begin(1, true);
    int n = asprintf((char **)(uintptr_t)&text, "%d", 1); /* libc allocates, not we */
    bool libc_is_seen = n < 0 && atomic_load(&refused) > 0;
    void *volatile p = malloc(1);
    bool works = libc_is_seen && !p;
    (void)scarce_end();
    free(p);
    if (n >= 0)
        free(text);
    return works;
}

BARE static bool refuse(void)
{
    if (!atomic_load_explicit(&armed, memory_order_relaxed))
        return false;
    uint64_t n = atomic_fetch_add(&seen, 1) + 1;
    if (n != atomic_load(&wanted) && (n < atomic_load(&wanted) || !atomic_load(&for_ever)))
        return false;
    atomic_fetch_add(&refused, 1);
    errno = ENOMEM;
    return true;
}

/* Memory for whoever comes before the next family is there; it stays. */
static _Alignas(16) uint8_t early[1 << 20];
static size_t early_used;

BARE static void *early_memory(size_t bytes)
{
    size_t at = early_used;
    if (bytes > sizeof early - at - 16)
        return NULL;
    early_used += (bytes + 15) & ~(size_t)15;
    return early + at;
}

BARE static bool is_early(const void *p)
{
    return (const uint8_t *)p >= early && (const uint8_t *)p < early + sizeof early;
}

static struct {
    void *(*malloc_)(size_t);
    void *(*calloc_)(size_t, size_t);
    void *(*realloc_)(void *, size_t);
    int (*posix_memalign_)(void **, size_t, size_t);
    void *(*aligned_alloc_)(size_t, size_t);
    void *(*memalign_)(size_t, size_t);
    void (*free_)(void *);
} next;
static bool set_up;

BARE static void *find(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* After a sanitizer's own constructor, before main(). */
BARE __attribute__((constructor)) static void look(void)
{
    next.malloc_ = (void *(*)(size_t))(uintptr_t)find("malloc");
    next.calloc_ = (void *(*)(size_t, size_t))(uintptr_t)find("calloc");
    next.realloc_ = (void *(*)(void *, size_t))(uintptr_t)find("realloc");
    next.posix_memalign_ = (int (*)(void **, size_t, size_t))(uintptr_t)find("posix_memalign");
    next.aligned_alloc_ = (void *(*)(size_t, size_t))(uintptr_t)find("aligned_alloc");
    next.memalign_ = (void *(*)(size_t, size_t))(uintptr_t)find("memalign");
    next.free_ = (void (*)(void *))(uintptr_t)find("free");
    set_up = true;
}

EXPORT void *malloc(size_t bytes)
{
    if (!set_up)
        return early_memory(bytes);
    return refuse() ? NULL : next.malloc_(bytes);
}
EXPORT void *calloc(size_t n, size_t bytes)
{
    if (!set_up)
        return early_memory(n * bytes);
    return refuse() ? NULL : next.calloc_(n, bytes);
}
EXPORT void *realloc(void *p, size_t bytes)
{
    if (!set_up || is_early(p)) {
        uint8_t *to = set_up ? next.malloc_(bytes) : early_memory(bytes);
        const uint8_t *from = p;
        /* How long it was is not kept: at most to the end of what is handed out. */
        for (size_t i = 0; to && from && i < bytes && from + i < early + early_used; i++)
            to[i] = from[i];
        return to;
    }
    return refuse() ? NULL : next.realloc_(p, bytes);
}
EXPORT int posix_memalign(void **ret_p, size_t alignment, size_t bytes)
{
    if (!set_up || refuse())
        return ENOMEM;
    return next.posix_memalign_(ret_p, alignment, bytes);
}
EXPORT void *aligned_alloc(size_t alignment, size_t bytes)
{
    return !set_up || refuse() ? NULL : next.aligned_alloc_(alignment, bytes);
}
EXPORT void *memalign(size_t alignment, size_t bytes)
{
    return !set_up || refuse() ? NULL : next.memalign_(alignment, bytes);
}
EXPORT void free(void *p)
{
    if (set_up && !is_early(p))
        next.free_(p);
}
