/* sealed.c -- a private index over a sealed file: mapped, checked where it costs nothing, and
 * watched, because the bytes stay the file's until they are changed here.
 *
 * Opening reads the header, ROOT and nothing else.  All other numbers of the file are hostile until
 * used: slots and cells are bounded by the mapping (W2, W3), label entries are believed only if
 * their slot agrees (find.c).
 *
 * X1  The mapping is as long as the file was.  Who deletes the file, or renames another over it,
 *     takes nothing away.  Who cuts it short or writes over it changes what this index is made of:
 *     store_check_ground() compares size and time of change before each call.
 * X2  A time of change that moved means nothing by itself (touch does it): the header and ROOT are
 *     then read again and have to be what they were.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "storage/checksum.h"
#include "storage/handle.h"
#include "storage/io.h"

struct sealed_file {
    struct layout layout;
    struct layout_sealed at;
    struct disk_root root;
    uint64_t head_sum; /* of header and ROOT pages together */
    struct io_info info;
};

static navmap_status no_sealed_file(const char *path, const char *why)
{
    return fail(NAVMAP_ECORRUPT, "Index seems to be corrupted or unsupported: %s: %s", path, why);
}

static navmap_status head_sum(int fd, const char *path, void *ret_pages, uint64_t *ret_sum)
{
    const uint64_t n = LAYOUT_LIVE_OFFSET; /* header and ROOT */
    TRY(io_pread(fd, path, ret_pages, n, 0));
    *ret_sum = checksum64(ret_pages, n, 0);
    return NAVMAP_OK;
}

/* ROOT of a sealed file says more than that of a live one (FORMAT.md, section 9). */
static navmap_status check_root(const struct sealed_file *f, const char *path)
{
    const struct disk_root *r = &f->root;
    const struct layout *l = &f->layout;
    const uint64_t expected = layout_root_sum(r, l->uuid_low);
    const uint64_t nchunks = (f->at.label_offset - LAYOUT_CHUNK0_OFFSET) / l->chunk_bytes;
    const uint64_t nslots = extent_slots(r->extent), entry = (uint32_t)r->entry;
    if (r->sum != expected)
        return fail(NAVMAP_ECORRUPT,
                    "%s: root at offset %u: checksum expected %016" PRIx64 ", found %016" PRIx64,
                    path, LAYOUT_ROOT_OFFSET, expected, r->sum);
    if (!layout_curve_sound(r))
        return fail(NAVMAP_ECORRUPT,
                    "%s: root: recall curve of %" PRIu32 " items: its numbers do not rise", path,
                    r->curve_items);
    if (extent_chunks(r->extent) != nchunks || nchunks < 1 || nchunks > layout_chunks_max(l))
        return fail(NAVMAP_ECORRUPT,
                    "%s: root: chunks expected %" PRIu64 " (1 to %" PRIu32 "), found %" PRIu32,
                    path, nchunks, layout_chunks_max(l), extent_chunks(r->extent));
    if (nslots < 1 || nslots > nchunks << l->slot_shift)
        return fail(NAVMAP_ECORRUPT, "%s: root: %" PRIu64 " slots in use, room for %" PRIu64, path,
                    nslots, nchunks << l->slot_shift);
    if (r->n_live > nslots || r->n_deleted > nslots || r->n_live + r->n_deleted != nslots - 1 ||
        r->n_dead != 0 || r->n_free != 0 || f->at.label_count != nslots - 1)
        return fail(NAVMAP_ECORRUPT,
                    "%s: root: %" PRIu64 " slots in use, but %" PRIu64 " live, %" PRIu64
                    " deleted, %" PRIu64 " dead, %" PRIu32 " free and %" PRIu64 " labels",
                    path, nslots - 1, r->n_live, r->n_deleted, r->n_dead, r->n_free,
                    f->at.label_count);
    if (r->nuppers > nchunks * l->uppers_per_chunk)
        return fail(NAVMAP_ECORRUPT, "%s: root: %" PRIu64 " upper cells in use, room for %" PRIu64,
                    path, r->nuppers, nchunks * l->uppers_per_chunk);
    if (entry >= nslots || r->entry >> 32 > layout_level_most(l))
        return fail(NAVMAP_ECORRUPT,
                    "%s: root: entry point slot %" PRIu64 " level %" PRIu64 ", but %" PRIu64
                    " slots",
                    path, entry, r->entry >> 32, nslots);
    return NAVMAP_OK;
}

/* An offline file has no business with a newer reader's features; writing is to memory only. */
static navmap_status read_file(int fd, const char *path, struct sealed_file *f)
{
    uint8_t *pages = malloc(LAYOUT_LIVE_OFFSET);
    int read_only;
    if (!pages)
        return fail(NAVMAP_ENOMEM, "%s: no memory to open it", path);
    navmap_status status;
    TRY_GOTO(status, io_fstat(fd, path, &f->info), done);
    if (f->info.bytes < LAYOUT_CHUNK0_OFFSET) {
        status = no_sealed_file(path, "the file is too short for a header");
        goto done;
    }
    TRY_GOTO(status, head_sum(fd, path, pages, &f->head_sum), done);
    TRY_GOTO(status, layout_read_header(pages, f->info.bytes, path, &f->layout, &read_only), done);
    if (!(f->layout.flags & HEADER_SEALED)) {
        status = fail(NAVMAP_EINVAL,
                      "Index seems to be corrupted or unsupported: %s is the data file of an index "
                      "directory, which changes under its readers: open the directory with "
                      "navmap_open(), in Python navmap.open(), or save it to a file first",
                      path);
        goto done;
    }
    layout_read_sealed(pages, &f->at);
    memcpy(&f->root, pages + LAYOUT_ROOT_OFFSET, sizeof f->root);
    status = check_root(f, path);
done:
    free(pages);
    return status;
}

/* Labels --------------------------------------------------------------------------------------*/

static navmap_status map_labels(struct store *s, int fd, const struct sealed_file *f)
{
    /* A chunk boundary, so a page of any system; the last page may end behind the labels. */
    const uint64_t n = f->at.label_count, bytes = n * sizeof(struct table_entry);
    void *at = NULL;
    if (n == 0)
        return NAVMAP_OK;
    TRY(io_mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, f->at.label_offset, s->path, &at));
    (void)madvise(at, bytes, MADV_RANDOM);
    (void)madvise(at, bytes, MADV_DONTDUMP);
    s->labels_at = at;
    s->labels_bytes = bytes;
    table_over(&s->table, at, n);
    return NAVMAP_OK;
}

static navmap_status copy_labels(struct store *s, int fd, const struct sealed_file *f)
{
    const uint64_t n = f->at.label_count, bytes = n * sizeof(struct table_entry);
    void *at = NULL;
    if (n == 0)
        return NAVMAP_OK;
    TRY(io_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, s->path,
                &at));
    s->labels_at = at;
    s->labels_bytes = bytes;
    TRY(io_pread(fd, s->path, at, bytes, f->at.label_offset));
    table_over(&s->table, at, n);
    return NAVMAP_OK;
}

/* Opening -------------------------------------------------------------------------------------*/

static navmap_status copy_chunks(struct store *s, int fd, const struct sealed_file *f)
{
    const uint32_t nchunks = extent_chunks(f->root.extent);
    TRY(view_anonymous(&s->layout, nchunks, nchunks, &s->view));
    const uint64_t bytes = layout_file_bytes(&s->layout, nchunks) - LAYOUT_CHUNK0_OFFSET;
    return io_pread(fd, s->path, s->view->wbase + LAYOUT_CHUNK0_OFFSET, bytes,
                    LAYOUT_CHUNK0_OFFSET);
}

static navmap_status fill_store(struct store *s, int fd, const struct sealed_file *f,
                                const struct store_load *how)
{
    TRY(store_locks_make(s));
    if (how->copy) {
        TRY(copy_chunks(s, fd, f));
        TRY(copy_labels(s, fd, f));
    } else {
        TRY(view_sealed(fd, s->path, &s->layout, extent_chunks(f->root.extent), &s->view));
        TRY(map_labels(s, fd, f));
        TRY(io_dup(fd, s->path, &s->ground_fd));
        s->ground = f->info;
        s->ground_sum = f->head_sum;
        s->sealed_at = f->at;
    }
    stage_open_through(&s->stage, s->view);
    s->stage.root = f->root;
    return NAVMAP_OK;
}

/* The header's choices, and what the opener says instead. */
static struct layout layout_for(const struct layout *in_file, const struct store_load *how)
{
    struct layout l = *in_file;
    l.flags &= HEADER_FLAT;
    if (how->allow_replace_deleted)
        l.flags |= HEADER_ALLOW_REPLACE_DELETED;
    if (how->has_space)
        l.space = how->space;
    return l;
}

navmap_status store_load_sealed(int fd, const char *path, const struct store_load *how,
                                struct store **ret_store)
{
    static const struct store_options none = {.durability = STORE_FULL};
    struct sealed_file f;
    TRY(read_file(fd, path, &f));
    struct store *s = store_new(path, STORE_WRITE, &none);
    if (!s)
        return fail(NAVMAP_ENOMEM, "%s: no memory for an index", path);
    s->in_memory = true;
    s->layout = layout_for(&f.layout, how);
    s->uuid_low = s->layout.uuid_low;
    s->room_items = 16;
    navmap_status status = fill_store(s, fd, &f, how);
    if (status != NAVMAP_OK) {
        store_destroy(s);
        return status;
    }
    struct disk_root *root = &s->stage.root;
    root->lsn = root->sum = 0;
    s->file_flags = f.layout.flags;
    s->bounded = (f.layout.flags & HEADER_BOUNDED) != 0;
    if (how->max_elements >= root->n_live + root->n_deleted && how->max_elements > 0)
        root->max_elements = how->max_elements;
    store_root_show(s);
    *ret_store = s;
    return NAVMAP_OK;
}

/* Watching (X1, X2) ---------------------------------------------------------------------------*/

static bool same_moment(const struct io_info *a, const struct io_info *b)
{
    return a->modified_ns == b->modified_ns && a->bytes == b->bytes;
}

static navmap_status ground_lost(struct store *s, const char *what)
{
    atomic_store(&s->ground_is_lost, true);
    return fail(NAVMAP_ECORRUPT,
                "%s: the file was %s while an index lay over it: load it again, from an undamaged "
                "one (to replace such a file, rename another over it, or load it with copy)",
                s->path, what);
}

static navmap_status look_again(struct store *s, const struct io_info *now)
{
    uint8_t *pages = malloc(LAYOUT_LIVE_OFFSET);
    uint64_t sum = 0;
    if (!pages)
        return fail(NAVMAP_ENOMEM, "%s: no memory to look whether it was changed", s->path);
    navmap_status status = head_sum(s->ground_fd, s->path, pages, &sum);
    free(pages);
    if (status != NAVMAP_OK || sum != s->ground_sum)
        return ground_lost(s, "overwritten");
    (void)pthread_mutex_lock(&s->view_lock);
    s->ground = *now;
    (void)pthread_mutex_unlock(&s->view_lock);
    return NAVMAP_OK;
}

navmap_status store_check_ground(struct store *s)
{
    struct io_info now;
    if (s->ground_fd < 0 || atomic_load_explicit(&s->ground_is_left, memory_order_relaxed))
        return NAVMAP_OK;
    store_enter(s);
    if (atomic_load_explicit(&s->ground_is_lost, memory_order_relaxed))
        return ground_lost(s, "cut short or overwritten");
    TRY(io_fstat(s->ground_fd, s->path, &now));
    (void)pthread_mutex_lock(&s->view_lock);
    bool same = same_moment(&now, &s->ground);
    uint64_t bytes = s->ground.bytes;
    (void)pthread_mutex_unlock(&s->view_lock);
    if (same)
        return NAVMAP_OK;
    return now.bytes < bytes ? ground_lost(s, "cut short") : look_again(s, &now);
}
