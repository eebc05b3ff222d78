/* verify_replay.c -- the state that recovery will make, in memory of our own.
 *
 * The data file is mapped privately (copy on write) and the log replayed into that mapping by the
 * very routine that recovery uses.  The file keeps its bytes; the cost is one page of memory for
 * each page that the replay touches.  Chunks that the file lost with a power cut, and that recovery
 * would allocate anew, are zeros here as there.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "storage/fail.h"
#include "storage/handle.h"
#include "storage/io.h"
#include "storage/replay.h"
#include "storage/verify.h"

/* Replace the shared mapping of a view of our own by a private one, with zeros up to `nchunks`. */
static navmap_status make_private(struct view *view, uint32_t nchunks)
{
    uint32_t have = atomic_load_explicit(&view->nchunks, memory_order_relaxed);
    uint64_t in_file = layout_file_bytes(&view->layout, have);
    uint64_t all = layout_file_bytes(&view->layout, nchunks > have ? nchunks : have);
    uint8_t *base = (uint8_t *)(uintptr_t)view->base;
    const int prot = PROT_READ | PROT_WRITE;
    const int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    void *at = NULL;
    if (all > view->reserved)
        return fail(NAVMAP_ENOMEM, "%s: no address space for %" PRIu64 " bytes", view->path, all);
    TRY(io_mmap(base, in_file, prot, flags, view->fd, 0, view->path, &at));
    if (all == in_file)
        return NAVMAP_OK;
    TRY(io_mmap(base + in_file, all - in_file, prot, flags | MAP_ANONYMOUS, -1, 0, view->path,
                &at));
    atomic_store_explicit(&view->nchunks, nchunks, memory_order_release);
    return NAVMAP_OK;
}

static navmap_status private_view(const struct view *file, uint32_t nchunks, struct view **ret_view)
{
    int fd = -1;
    struct view *view = NULL;
    TRY(io_open(file->path, O_RDONLY, 0, &fd));
    navmap_status status =
        view_map(fd, file->path, &file->layout,
                 atomic_load_explicit(&file->nchunks, memory_order_relaxed), false, &view);
    if (status != NAVMAP_OK) {
        io_close(fd);
        return status;
    }
    status = make_private(view, nchunks);
    if (status != NAVMAP_OK)
        view_unref(view);
    else
        *ret_view = view;
    return status;
}

/* apply_cells() stores through the alias; here that is the private mapping itself.  No descriptor
 * goes with these stores: they are no effect on any file. */
static void apply(struct view *view, struct replay *r)
{
    int fd = view->fd;
    view->fd = -1;
    view->wbase = (uint8_t *)(uintptr_t)view->base;
    apply_cells(view, &r->cells, r->root.lsn);
    view->wbase = NULL;
    view->fd = fd;
}

/* Recovery refuses a file that is older than its log, or shorter than its own root says; replaying
 * would make it look sound. */
static navmap_status check_file(const struct verify *v, const struct view *file)
{
    const struct disk_root *root = view_root(file);
    const uint32_t need = extent_chunks(root->extent);
    const uint32_t have = atomic_load_explicit(&file->nchunks, memory_order_relaxed);
    if (root->sum != layout_root_sum(root, file->layout.uuid_low))
        return NAVMAP_OK; /* the log has a newer one */
    if (root->lsn < v->state.ckpt_lsn)
        return fail(NAVMAP_ECORRUPT,
                    "%s: data file older than its log: root lsn %" PRIu64
                    ", checkpoint lsn %" PRIu64,
                    file->path, root->lsn, v->state.ckpt_lsn);
    if (have < need)
        return fail(NAVMAP_ECORRUPT,
                    "%s: file size: expected %" PRIu32 " chunks, found %" PRIu32
                    " whole ones: it was cut off",
                    file->path, need, have);
    return NAVMAP_OK;
}

navmap_status verify_replay(struct verify *v, struct view *file, struct view **ret_view)
{
    struct replay r = {.path = v->path, .layout = &file->layout};
    struct view *view = NULL;
    TRY(check_file(v, file));
    navmap_status status = replay_read(&r, &v->txn, &v->state);
    v->counts.log_records = r.n_records;
    if (status == NAVMAP_OK)
        status = private_view(file, extent_chunks(r.root.extent), &view);
    if (status == NAVMAP_OK)
        status = replay_check(&r, view);
    if (status == NAVMAP_OK) {
        apply(view, &r);
        *ret_view = view;
    } else {
        view_unref(view);
    }
    replay_free(&r);
    return status;
}
