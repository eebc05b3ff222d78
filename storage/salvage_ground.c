/* salvage_ground.c -- opening what is damaged; see salvage.h and salvage_ground.h.
 *
 * A header of which one bit is wrong is mended: its sum tells when the right bit has been turned
 * back.  A log that a crash left is replayed into private memory, as verify does, if it is whole.
 */
#include "storage/salvage_ground.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "storage/checksum.h"
#include "storage/fail.h"
#include "storage/files.h"
#include "storage/io.h"
#include "storage/source.h"
#include "storage/verify.h"
#include "storage/wal.h"

#define OPENING_TIMEOUT_S 30.0

void salvage_tell(struct salvage_ground *g, bool warning, const char *section, uint32_t slot,
                  uint64_t offset, const char *format, ...)
{
    char message[400];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (warning)
        g->facts.warnings++;
    else
        g->facts.left_out++;
    const struct store_finding f = {warning, section, slot, offset, message};
    if (g->how.report)
        g->how.report(g->how.ctx, &f);
}

/* Header ---------------------------------------------------------------------------------------*/

/* Turn each bit over, until the sum holds. */
static bool mend(struct disk_header *page)
{
    uint8_t *bytes = (uint8_t *)page;
    for (uint32_t bit = 0; bit < 8 * sizeof *page; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (checksum64(page, offsetof(struct disk_header, sum), 0) == page->sum)
            return true;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return false;
}

bool salvage_one_bit_off(const struct source *from)
{
    struct disk_header page;
    if (from->bytes < sizeof page || source_read(from, 0, &page, sizeof page) != NAVMAP_OK)
        return false;
    return checksum64(&page, offsetof(struct disk_header, sum), 0) != page.sum && mend(&page);
}

/* A file that was cut short is read as far as it goes, so its length is not held against it. */
static navmap_status read_header(struct salvage_ground *g, const char *path, const uint8_t *bytes)
{
    struct disk_header page;
    int read_only;
    if (g->mapped_bytes < sizeof page)
        return fail(NAVMAP_ECORRUPT, "%s: %" PRIu64 " bytes; not even its header is left", path,
                    g->mapped_bytes);
    memcpy(&page, bytes, sizeof page);
    if (checksum64(&page, offsetof(struct disk_header, sum), 0) != page.sum) {
        struct disk_header zeroed = page;
        memset(zeroed.reserved1, 0, sizeof zeroed.reserved1);
        if (checksum64(&zeroed, offsetof(struct disk_header, sum), 0) == zeroed.sum)
            page = zeroed;
        else if (!mend(&page))
            return fail(NAVMAP_ECORRUPT,
                        "%s: the header is damaged in more than one bit; without it no byte of the "
                        "file has a meaning",
                        path);
        salvage_tell(g, true, "header", 0, 0, "damaged, and mended by its checksum");
    }
    uint64_t size = page.flags & HEADER_SEALED ? page.file_bytes : UINT64_MAX / 2;
    TRY(layout_read_header(&page, size, path, &g->layout, &read_only));
    if ((page.flags & HEADER_SEALED) && page.label_offset < g->bytes)
        g->bytes = page.label_offset; /* behind the chunks */
    return NAVMAP_OK;
}

static navmap_status map_file(struct salvage_ground *g, const char *path)
{
    int fd = -1;
    void *at = NULL;
    uint64_t bytes = 0;
    TRY(io_open(path, O_RDONLY, 0, &fd));
    navmap_status status = io_file_size(fd, path, &bytes);
    if (status == NAVMAP_OK && bytes == 0)
        status = fail(NAVMAP_ECORRUPT, "%s: the file is empty", path);
    if (status == NAVMAP_OK)
        status = io_mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0, path, &at);
    io_close(fd);
    TRY(status);
    g->mapped = at;
    g->base = at;
    g->mapped_bytes = g->bytes = bytes;
    return read_header(g, path, at);
}

/* LMDB -----------------------------------------------------------------------------------------*/

/* R and W are held: nobody else is in it. */
static navmap_status peek(struct salvage_ground *g, struct verify *v)
{
    TRY(wal_peek_open(g->path, &v->wal));
    TRY(wal_txn_read(v->wal, &v->txn));
    v->txn_open = true;
    TRY(wal_get_id(&v->txn, &v->id));
    return wal_get_state(&v->txn, &v->state);
}

static void unpeek(struct verify *v)
{
    if (v->txn_open)
        wal_txn_abort(&v->txn);
    wal_peek_close(v->wal);
    v->txn_open = false;
    v->wal = NULL;
}

static navmap_status view_of_file(const struct salvage_ground *g, const char *path,
                                  struct view **ret_view)
{
    int fd = -1;
    uint64_t chunks = g->bytes < LAYOUT_CHUNK0_OFFSET
                          ? 0
                          : (g->bytes - LAYOUT_CHUNK0_OFFSET) / g->layout.chunk_bytes;
    if (chunks == 0)
        return fail(NAVMAP_ECORRUPT, "%s: not one whole chunk is left", path);
    TRY(io_open(path, O_RDONLY, 0, &fd));
    navmap_status status = view_map(fd, path, &g->layout, (uint32_t)chunks, false, ret_view);
    if (status != NAVMAP_OK)
        io_close(fd);
    return status;
}

static navmap_status replay(struct salvage_ground *g, const char *path, struct verify *v)
{
    struct view *file = NULL;
    TRY(view_of_file(g, path, &file));
    navmap_status status = verify_replay(v, file, &g->replayed);
    view_unref(file);
    TRY(status);
    g->base = g->replayed->base;
    g->bytes = layout_file_bytes(&g->layout,
                                 atomic_load_explicit(&g->replayed->nchunks, memory_order_relaxed));
    return NAVMAP_OK;
}

static void take_log(struct salvage_ground *g, const char *path, struct verify *v)
{
    const struct layout *l = &g->layout;
    if (memcmp(v->id.uuid, l->uuid, sizeof l->uuid) != 0 || v->id.instance != l->instance ||
        v->state.generation != l->generation) {
        salvage_tell(g, true, "log", 0, UINT64_MAX,
                     "it belongs to another data file; neither log nor labels of it are used");
        g->how.without_log = true;
        return;
    }
    if (v->state.last_lsn == v->state.ckpt_lsn || replay(g, path, v) == NAVMAP_OK)
        g->facts.log_read = true;
    else
        salvage_tell(g, true, "log", 0, UINT64_MAX,
                     "commits %" PRIu64 "..%" PRIu64
                     " could not be replayed, what of them had not reached the data file is lost: "
                     "%s",
                     v->state.ckpt_lsn + 1, v->state.last_lsn, navmap_error_detail());
}

static navmap_status open_directory(struct salvage_ground *g)
{
    struct verify v = {.path = g->path, .lock.fd = -1};
    bool know = !g->how.without_log && peek(g, &v) == NAVMAP_OK;
    if (!know) {
        salvage_tell(g, true, "log", 0, UINT64_MAX, "log and label table are not used: %s",
                     g->how.without_log ? "as asked for" : navmap_error_detail());
        g->how.without_log = true;
    }
    uint64_t generation = v.state.generation;
    navmap_status status = know ? NAVMAP_OK : files_current(g->path, &generation);
    char *path = status == NAVMAP_OK ? files_data_path(g->path, generation) : NULL;
    if (status == NAVMAP_OK && !path)
        status = fail(NAVMAP_ENOMEM, "%s: out of memory", g->path);
    if (status == NAVMAP_OK)
        status = map_file(g, path);
    if (status == NAVMAP_OK && know)
        take_log(g, path, &v);
    unpeek(&v);
    free(path);
    return status;
}

/* Nobody writes, and nobody begins to.  A directory without LOCK is nobody's. */
static navmap_status take_lock(struct salvage_ground *g)
{
    bool got = false;
    navmap_status status = lock_open(g->path, false, &g->lock);
    if (status == NAVMAP_ENOINDEX) {
        g->lock.fd = -1;
        salvage_tell(g, true, "lock", 0, UINT64_MAX, "the LOCK file is missing");
        return NAVMAP_OK;
    }
    TRY(status);
    status = lock_opening_exclusive(&g->lock, OPENING_TIMEOUT_S);
    if (status == NAVMAP_EREADONLY) { /* nobody who cannot write either begins to */
        TRY(lock_opening_shared(&g->lock, OPENING_TIMEOUT_S));
        TRY(lock_writer_held(&g->lock, &got));
        got = !got;
    } else {
        TRY(status);
        TRY(lock_writer_try(&g->lock, &got));
    }
    if (got)
        return NAVMAP_OK;
    return fail(NAVMAP_ELOCKED, "%s: process %" PRIu32 " is writing to it", g->path,
                files_writer_pid(g->path));
}

void salvage_walk_labels(struct salvage_ground *g, labels_visit *visit, void *ctx)
{
    struct verify v = {.path = g->path, .lock.fd = -1};
    if (g->how.without_log || (g->layout.flags & HEADER_SEALED))
        return;
    navmap_status status = peek(g, &v);
    if (status == NAVMAP_OK)
        status = labels_walk(&v.txn, v.state.generation, g->layout.uuid_low, 0, visit, ctx);
    g->facts.table_read = status == NAVMAP_OK;
    if (status != NAVMAP_OK)
        salvage_tell(g, true, "labels", 0, UINT64_MAX,
                     "the label table could not be read to its end; what is missing of it is taken "
                     "from the slots: %s",
                     navmap_error_detail());
    unpeek(&v);
}

navmap_status salvage_ground_open(struct salvage_ground *g, const char *path,
                                  const struct salvage_how *how)
{
    struct io_info info;
    *g = (struct salvage_ground){.path = path, .how = *how, .lock.fd = -1};
    TRY(io_stat(path, &info));
    if (info.directory) {
        TRY(take_lock(g));
        TRY(open_directory(g));
    } else {
        TRY(map_file(g, path));
        g->facts.log_read = true; /* a saved file has none */
    }
    const struct disk_root *root = (const void *)(g->base + LAYOUT_ROOT_OFFSET);
    if (g->bytes >= LAYOUT_ROOT_OFFSET + sizeof *root &&
        layout_root_sum(root, g->layout.uuid_low) == root->sum)
        g->facts.max_elements = root->max_elements;
    else
        salvage_tell(g, true, "root", 0, LAYOUT_ROOT_OFFSET,
                     "the root is damaged: every slot is looked at, max_elements is not kept");
    return NAVMAP_OK;
}

void salvage_ground_close(struct salvage_ground *g)
{
    view_unref(g->replayed);
    if (g->mapped)
        (void)munmap(g->mapped, g->mapped_bytes);
    lock_close(&g->lock);
}
