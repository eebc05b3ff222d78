/* view.c -- reserves address space once and maps the data file into it, chunk by chunk.
 *
 * The reservation is why a pointer into the map stays good while the file grows a hundredfold:
 * growth replaces a piece of reserved, inaccessible space by the new tail of the file.
 *
 * M1  [base, base + layout_file_bytes(nchunks)) is the file; from there to base + reserved
 *     nothing is accessible.  The bound is raised only after the tail is mapped, so what a failed
 *     view_extend() leaves mapped is beyond it, and is mapped again by the next try.
 * M2  No byte is mapped that fstat() did not say exists: touching one would be a SIGBUS.
 * M3  In a forked child the alias is not there (MADV_DONTFORK), and other memory may stand at its
 *     address: only the process that mapped it extends or unmaps it.
 */
#include "storage/view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "storage/epoch.h"
#include "storage/fail.h"
#include "storage/io.h"
#include "storage/memory.h"

#define RESERVE_FACTOR 8u
#define RESERVE_LEAST (UINT64_C(1) << 30)
#define RESERVE_MOST (UINT64_C(256) << 30)
#define HUGE_CHUNK (UINT64_C(4) << 20) /* memory in chunks from here on asks for huge pages */

static uint64_t wanted_reserve(uint64_t size)
{
    uint64_t want = size < RESERVE_MOST / RESERVE_FACTOR ? size * RESERVE_FACTOR : RESERVE_MOST;
    if (want < RESERVE_LEAST)
        want = RESERVE_LEAST;
    return want > size ? want : size;
}

/* `bytes` of address space, if it can be had at a multiple of a huge page: huge pages of the file
 * can then be mapped whole. */
static navmap_status reserve(uint64_t bytes, const char *path, uint8_t **ret_base)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *start = NULL;
    navmap_status status =
        io_mmap(NULL, bytes + VIEW_HUGE_PAGE, PROT_NONE, flags, -1, 0, path, &start);
    if (status == NAVMAP_ENOMEM) {
        TRY(io_mmap(NULL, bytes, PROT_NONE, flags, -1, 0, path, &start));
        *ret_base = start;
        return NAVMAP_OK;
    }
    TRY(status);
    uint8_t *base = start;
    uint64_t before = VIEW_HUGE_PAGE - (uintptr_t)start % VIEW_HUGE_PAGE;
    (void)munmap(base, before);
    if (before < VIEW_HUGE_PAGE)
        (void)munmap(base + before + bytes, VIEW_HUGE_PAGE - before);
    *ret_base = base + before;
    return NAVMAP_OK;
}

static void unreserve(const uint8_t *base, uint64_t bytes)
{
    if (base != NULL)
        (void)munmap((void *)(uintptr_t)base, bytes);
}

/* Reserve for the map and, if asked, for its alias; eight times `wish`, or as much as the address
 * space limit allows, but at least `size`. */
static navmap_status reserve_pair(struct view *v, uint64_t wish, uint64_t size, bool writable)
{
    uint64_t bytes = wanted_reserve(wish);
    for (;;) {
        uint8_t *base = NULL, *wbase = NULL;
        navmap_status status = reserve(bytes, v->path, &base);
        if (status == NAVMAP_OK && writable)
            status = reserve(bytes, v->path, &wbase);
        if (status == NAVMAP_OK) {
            v->base = base;
            v->wbase = wbase;
            v->reserved = bytes;
            return NAVMAP_OK;
        }
        unreserve(base, bytes);
        if (status != NAVMAP_ENOMEM || bytes == size)
            return status;
        bytes = bytes / 2 / LAYOUT_CHUNK_ALIGN * LAYOUT_CHUNK_ALIGN;
        if (bytes < size)
            bytes = size;
    }
}

static bool has_alias_here(const struct view *v)
{
    return v->wbase != NULL && v->fd >= 0 && v->epoch == fork_epoch(); /* M3 */
}

/* [from, to) of an anonymous view: zeros.  A large index is read all over the place, so large pages
 * save it most of its misses in the page table. */
static navmap_status map_zeros(struct view *v, uint64_t from, uint64_t to)
{
    void *at = v->wbase + from;
    TRY(io_mmap(at, to - from, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0, v->path, &at));
    if (v->layout.chunk_bytes >= HUGE_CHUNK)
        (void)madvise(at, to - from, MADV_HUGEPAGE); /* a hint */
    return NAVMAP_OK;
}

/* Hints.  A search jumps about: read-ahead would fetch what nobody asked for.  A core dump need not
 * contain a file.  And a walk over a large index misses in the page table more often than in the
 * cache: where the system has huge pages for files (Linux 6.16 on for ext4), searches are a fifth
 * faster.  Their price is that a changed row makes its huge page dirty, which the next checkpoint
 * writes; by the time the log is long most pages are dirty anyway.  A file that memory may not have
 * room for is left alone: each miss would read a huge page of it, and push out another. */
static void advise(void *at, uint64_t from, uint64_t len)
{
    (void)madvise(at, len, MADV_RANDOM);
    (void)madvise(at, len, MADV_DONTDUMP);
    if (from + len > VIEW_HUGE_FILE && from + len < memory_available() / 2)
        (void)madvise(at, len, MADV_HUGEPAGE);
}

/* Map file bytes [from, to) into the reservation.  Both are multiples of 64 KiB, so of any page
 * size. */
static navmap_status map_range(struct view *v, uint64_t from, uint64_t to)
{
    void *at = (void *)(uintptr_t)(v->base + from);
    uint64_t len = to - from;
    if (v->fd < 0)
        return map_zeros(v, from, to);
    TRY(io_mmap(at, len, PROT_READ, MAP_SHARED | MAP_FIXED, v->fd, from, v->path, &at));
    advise(at, from, len);
    if (!has_alias_here(v))
        return NAVMAP_OK;
    at = v->wbase + from;
    TRY(io_mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, v->fd, from, v->path,
                &at));
    advise(at, from, len);
    if (madvise(at, len, MADV_DONTFORK) != 0) /* not a hint: W1 in children depends on it */
        return fail_errno(errno, 0, "madvise MADV_DONTFORK", v->path);
    return NAVMAP_OK;
}

uint64_t view_file_room(const struct layout *l, uint32_t nchunks)
{
    uint64_t bytes = layout_file_bytes(l, nchunks);
    if (bytes > VIEW_HUGE_FILE)
        bytes = (bytes + VIEW_HUGE_PAGE - 1) / VIEW_HUGE_PAGE * VIEW_HUGE_PAGE;
    return bytes;
}

/* How much of the reservation is mapped.  Not exactly what the chunks take: the last huge page
 * could then be mapped in part only, and to map it anew when the file grows would take it away
 * under the eyes of queries.  Nobody looks beyond the chunks: it may lie beyond the file's end. */
static uint64_t mapped_bytes(const struct view *v, uint32_t nchunks)
{
    if (v->fd < 0)
        return layout_file_bytes(&v->layout, nchunks);
    uint64_t room = view_file_room(&v->layout, nchunks);
    return room < v->reserved ? room : v->reserved;
}

/* Does the file hold `nchunks` whole chunks, and can their slots be named? */
static navmap_status check_extent(const struct view *v, uint32_t nchunks)
{
    uint32_t most = layout_chunks_max(&v->layout);
    if (nchunks > most)
        return fail(NAVMAP_ECORRUPT,
                    "%s: number of chunks: expected at most %" PRIu32 ", found %" PRIu32, v->path,
                    most, nchunks);
    if (v->fd < 0)
        return NAVMAP_OK;
    uint64_t need = layout_file_bytes(&v->layout, nchunks);
    uint64_t have = 0;
    TRY(io_file_size(v->fd, v->path, &have));
    if (have < need)
        return fail(NAVMAP_ECORRUPT,
                    "%s: file size: expected at least %" PRIu64 " bytes for %" PRIu32
                    " chunks, found %" PRIu64,
                    v->path, need, nchunks, have);
    return NAVMAP_OK;
}

static void destroy(struct view *v)
{
    unreserve(v->base, v->reserved);
    if (has_alias_here(v))
        unreserve(v->wbase, v->reserved);
    free(v->path);
    free(v);
}

static navmap_status new_view(int fd, const char *path, const struct layout *layout,
                              struct view **ret_view)
{
    static _Atomic uint64_t serials;
    struct view *v = calloc(1, sizeof(*v));
    char *name = strdup(path);
    if (v == NULL || name == NULL) {
        free(v);
        free(name);
        return fail(NAVMAP_ENOMEM, "%s: no memory for a view", path);
    }
    v->path = name;
    v->fd = fd;
    v->layout = *layout;
    v->serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed) + 1;
    v->epoch = fork_epoch();
    atomic_init(&v->refs, 1);
    *ret_view = v;
    return NAVMAP_OK;
}

navmap_status view_map(int fd, const char *path, const struct layout *layout, uint32_t nchunks,
                       bool writable, struct view **ret_view)
{
    struct view *v = NULL;
    TRY(new_view(fd, path, layout, &v));
    navmap_status status;
    TRY_GOTO(status, check_extent(v, nchunks), fail);
    TRY_GOTO(status, io_file_id(fd, path, &v->dev, &v->ino), fail);
    uint64_t size = layout_file_bytes(layout, nchunks);
    TRY_GOTO(status, reserve_pair(v, size, size, writable), fail);
    TRY_GOTO(status, map_range(v, 0, mapped_bytes(v, nchunks)), fail);
    atomic_init(&v->nchunks, nchunks);
    *ret_view = v;
    return NAVMAP_OK;
fail:
    destroy(v);
    return status;
}

navmap_status view_sealed(int fd, const char *path, const struct layout *layout, uint32_t nchunks,
                          struct view **ret_view)
{
    struct view *v = NULL;
    TRY(new_view(-1, path, layout, &v));
    navmap_status status;
    uint64_t size = layout_file_bytes(layout, nchunks);
    TRY_GOTO(status, check_extent(v, nchunks), fail);
    TRY_GOTO(status, reserve_pair(v, size, size, false), fail);
    v->wbase = (uint8_t *)(uintptr_t)v->base;
    void *at = v->wbase;
    /* NORESERVE: a file larger than memory would be refused for what is never written. */
    TRY_GOTO(status,
             io_mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd,
                     0, path, &at),
             fail);
    advise(at, 0, size);
    atomic_init(&v->nchunks, nchunks);
    *ret_view = v;
    return NAVMAP_OK;
fail:
    destroy(v);
    return status;
}

navmap_status view_anonymous(const struct layout *layout, uint32_t nchunks, uint32_t expected,
                             struct view **ret_view)
{
    struct view *v = NULL;
    TRY(new_view(-1, "(in memory)", layout, &v));
    v->reserved = layout_file_bytes(layout, nchunks);

    navmap_status status;
    uint64_t size = layout_file_bytes(layout, nchunks > expected ? nchunks : expected);
    TRY_GOTO(status, reserve_pair(v, size, v->reserved, false), fail);
    v->wbase = (uint8_t *)(uintptr_t)v->base;
    TRY_GOTO(status, map_zeros(v, 0, layout_file_bytes(layout, nchunks)), fail);
    atomic_init(&v->nchunks, nchunks);
    *ret_view = v;
    return NAVMAP_OK;
fail:
    destroy(v);
    return status;
}

navmap_status view_extend(struct view *v, uint32_t nchunks, bool *ret_fits)
{
    uint32_t have = atomic_load_explicit(&v->nchunks, memory_order_relaxed);
    if (nchunks <= have) {
        *ret_fits = true;
        return NAVMAP_OK;
    }
    TRY(check_extent(v, nchunks));
    if (layout_file_bytes(&v->layout, nchunks) > v->reserved) {
        *ret_fits = false;
        return NAVMAP_OK;
    }
    uint64_t from = mapped_bytes(v, have), to = mapped_bytes(v, nchunks);
    if (from < to)
        TRY(map_range(v, from, to));
    atomic_store_explicit(&v->nchunks, nchunks, memory_order_release);
    *ret_fits = true;
    return NAVMAP_OK;
}

void view_ref(struct view *v)
{
    atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
}

void view_unref(struct view *v)
{
    if (v == NULL || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
        return;
    io_close(v->fd);
    destroy(v);
}
