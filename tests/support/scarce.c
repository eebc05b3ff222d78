/* scarce.c -- counting allocations and refusing the chosen ones; see scarce.h.
 *
 * The functions stand in the program itself, so shared libraries bind to them.  Under a sanitizer
 * the next in line is the sanitizer's own family, and what it intercepts by itself (strdup) is not
 * seen.
 */
#include "tests/support/scarce.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

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

static bool refuse(void)
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

/* Memory for whoever looks for libc's functions while we do. */
static _Alignas(16) uint8_t early[1 << 16];
static size_t early_used;

static void *early_memory(size_t bytes)
{
    size_t at = early_used;
    early_used += (bytes + 15) & ~(size_t)15;
    return early_used <= sizeof early ? early + at : NULL;
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

static void find(const char *name, void *ret_function)
{
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(ret_function, &found, sizeof found);
}

/* False while it is under way.  The first call comes long before there is a second thread. */
static bool ready(void)
{
    static bool looking;
    if (next.free_)
        return true;
    if (looking)
        return false;
    looking = true;
    find("malloc", &next.malloc_);
    find("calloc", &next.calloc_);
    find("realloc", &next.realloc_);
    find("posix_memalign", &next.posix_memalign_);
    find("aligned_alloc", &next.aligned_alloc_);
    find("memalign", &next.memalign_);
    find("free", &next.free_);
    return true;
}

EXPORT void *malloc(size_t bytes)
{
    if (!ready())
        return early_memory(bytes);
    return refuse() ? NULL : next.malloc_(bytes);
}
EXPORT void *calloc(size_t n, size_t bytes)
{
    if (!ready())
        return early_memory(n * bytes);
    return refuse() ? NULL : next.calloc_(n, bytes);
}
EXPORT void *realloc(void *p, size_t bytes)
{
    if (!ready())
        return early_memory(bytes);
    return refuse() ? NULL : next.realloc_(p, bytes);
}
EXPORT int posix_memalign(void **ret_p, size_t alignment, size_t bytes)
{
    if (!ready() || refuse())
        return ENOMEM;
    return next.posix_memalign_(ret_p, alignment, bytes);
}
EXPORT void *aligned_alloc(size_t alignment, size_t bytes)
{
    return !ready() || refuse() ? NULL : next.aligned_alloc_(alignment, bytes);
}
EXPORT void *memalign(size_t alignment, size_t bytes)
{
    return !ready() || refuse() ? NULL : next.memalign_(alignment, bytes);
}
EXPORT void free(void *p)
{
    if ((uint8_t *)p >= early && (uint8_t *)p < early + sizeof early)
        return;
    if (ready())
        next.free_(p);
}
