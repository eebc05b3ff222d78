/* recover.c -- O2..O8: from whatever a crash left to exactly the last durable commit.
 *
 *   O2  make LMDB's newest meta durable         O3  one LMDB WRITE transaction for all that follows
 *   O4  leftovers of generations                O5  sizes; is the data file older than its log?
 *   O6  newest image of every logged cell, checked as a whole, then applied
 *   O7  the root                                O8  checkpoint inside the same transaction
 *
 * O3 must write: after kill -9 a read transaction may still see the commit before the last, whose
 * successor is durable and would never be applied.  Images are absolute and the newest of each
 * cell is stored once, so no cell moves backwards under readers that are attached, and a torn,
 * stale or lost page is repaired whatever it holds.  A crash in here is the same crash again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/files.h"
#include "storage/handle.h"
#include "storage/io.h"
#include "storage/replay.h"

/* O7, also what every open checks of a root: `sum` only where no writer may be storing it. */
navmap_status store_check_root(const struct store *s, const struct view *v, bool sum)
{
    struct disk_root root;
    memcpy(&root, view_root(v), sizeof root);
    uint64_t expected = layout_root_sum(&root, s->uuid_low);
    if (sum && root.sum != expected)
        return fail(NAVMAP_ECORRUPT,
                    "%s: root at offset %u: checksum expected %016llx, found %016llx", v->path,
                    LAYOUT_ROOT_OFFSET, (unsigned long long)expected, (unsigned long long)root.sum);
    if (sum && !layout_curve_sound(&root))
        return fail(NAVMAP_ECORRUPT, "%s: root: recall curve of %u items: its numbers do not rise",
                    v->path, root.curve_items);
    uint64_t extent = view_load64(&view_root(v)->extent, memory_order_acquire);
    uint64_t entry = view_load64(&view_root(v)->entry, memory_order_acquire);
    uint64_t slots = (uint64_t)extent_chunks(extent) << v->layout.slot_shift;
    if (extent_slots(extent) == 0 || extent_slots(extent) > slots)
        return fail(NAVMAP_ECORRUPT, "%s: root: %u slots in use, room for %llu", v->path,
                    extent_slots(extent), (unsigned long long)slots);
    if ((uint32_t)entry >= slots || entry >> 32 > LAYOUT_LEVEL_MAX)
        return fail(NAVMAP_ECORRUPT, "%s: root: entry point slot %u level %u, but %u slots",
                    v->path, (uint32_t)entry, (uint32_t)(entry >> 32), extent_slots(extent));
    return NAVMAP_OK;
}

navmap_status store_check_identity(const struct store *s, const struct wal_id *id,
                                   const struct layout *l, const char *path)
{
    if (memcmp(id->uuid, l->uuid, sizeof id->uuid) != 0 || id->instance != l->instance)
        return fail(NAVMAP_ECORRUPT, "%s: it belongs to another index than the log in %s", path,
                    s->path);
    if (id->format_major != LAYOUT_MAJOR)
        return fail(NAVMAP_EVERSION, "%s: log format: expected %u, found %u", s->path, LAYOUT_MAJOR,
                    id->format_major);
    return NAVMAP_OK;
}

/* O4: older files are superseded, newer ones an unfinished build.  Neither is named by LMDB. */
static navmap_status remove_leftovers(const struct store *s, uint64_t generation)
{
    uint64_t *list = NULL;
    uint32_t n = 0;
    navmap_status status = files_generations(s->path, &list, &n);
    for (uint32_t i = 0; status == NAVMAP_OK && i < n; i++) {
        if (list[i] == generation)
            continue;
        char *path = files_data_path(s->path, list[i]);
        int fd = -1;
        const uint32_t superseded = 1;
        status = path ? io_open(path, O_RDWR, 0, &fd)
                      : fail(NAVMAP_ENOMEM, "%s: out of memory", s->path);
        if (status == NAVMAP_OK && list[i] < generation)
            status = io_pwrite(fd, path, &superseded, sizeof superseded,
                               LAYOUT_LIVE_OFFSET + offsetof(struct disk_live, superseded));
        io_close(fd);
        if (status == NAVMAP_OK)
            status = io_unlink(path);
        free(path);
    }
    free(list);
    return status;
}

/* A copy of the log's file that was to take its place (wal_shrink.c, H1). */
static navmap_status remove_copy(const struct store *s)
{
    struct io_info info;
    char *path = NULL;
    if (asprintf(&path, "%s/" WAL_FILE WAL_COPY_TAIL, s->path) < 0)
        return fail(NAVMAP_ENOMEM, "%s: out of memory", s->path);
    navmap_status status = io_stat(path, &info) == NAVMAP_OK ? io_unlink(path) : NAVMAP_OK;
    free(path);
    return status;
}

/* The file's own root, before anything is stored. */
static navmap_status read_file_root(const struct store *s, int fd, const char *path,
                                    const struct layout *l, const struct wal_state *state,
                                    struct disk_root *ret_root)
{
    uint64_t size, need;
    TRY(io_pread(fd, path, ret_root, sizeof *ret_root, LAYOUT_ROOT_OFFSET));
    TRY(io_file_size(fd, path, &size));
    bool sound = ret_root->sum == layout_root_sum(ret_root, s->uuid_low);
    need = layout_file_bytes(l, extent_chunks(ret_root->extent));
    /* No root is stored before the size that it counts on is durable.  The log has what changed
     * since the checkpoint only: a replay over what is left would be an index full of holes. */
    if (sound && size < need)
        return fail(NAVMAP_ECORRUPT,
                    "%s: file size: expected at least %llu bytes, found %llu: it was cut off", path,
                    (unsigned long long)need, (unsigned long long)size);
    if (sound && ret_root->lsn < state->ckpt_lsn)
        return fail(
            NAVMAP_ECORRUPT,
            "%s: data file older than its log: root lsn %llu, checkpoint lsn %llu (a restored "
            "backup, or a disk that lied about a sync)",
            path, (unsigned long long)ret_root->lsn, (unsigned long long)state->ckpt_lsn);
    bool log_empty = state->ckpt_lsn == state->last_lsn;
    if (log_empty && !sound)
        return fail(NAVMAP_ECORRUPT, "%s: root at offset %u: checksum does not hold", path,
                    LAYOUT_ROOT_OFFSET);
    if (log_empty && ret_root->lsn != state->last_lsn)
        return fail(NAVMAP_ECORRUPT, "%s: root lsn: expected %llu, found %llu", path,
                    (unsigned long long)state->last_lsn, (unsigned long long)ret_root->lsn);
    return NAVMAP_OK;
}

/* O5, second half: the file must hold all chunks. */
static navmap_status map_data(struct store *s, int fd, const char *path, const struct layout *l,
                              uint32_t nchunks, bool log_empty)
{
    uint64_t size, need = layout_file_bytes(l, nchunks);
    TRY(io_file_size(fd, path, &size));
    if (size < need && log_empty)
        return fail(NAVMAP_ECORRUPT, "%s: file size: expected at least %llu bytes, found %llu",
                    path, (unsigned long long)need, (unsigned long long)size);
    if (size < need) {
        TRY(io_grow(fd, path, size, need));
        TRY(io_fsync(fd, path));
    }
    STORE_KILL_POINT(O5);
    return view_map(fd, path, l, nchunks, true, &s->view);
}

/* O6 */
static navmap_status replay_log(struct store *s, struct replay *r)
{
    TRY(replay_check(r, s->view));
    STORE_KILL_POINT(O6_CHECKED);
    apply_cells(s->view, &r->cells, r->root.lsn); /* nothing was stored before */
    STORE_KILL_POINT(O6);
    return NAVMAP_OK;
}

/* O8 */
static navmap_status finish(struct store *s, struct wal_txn *t, struct wal_state *state)
{
    TRY(io_fdatasync(s->view->fd, s->view->path));
    STORE_KILL_POINT(O8_SYNCED);
    bool more;
    state->ckpt_lsn = state->last_lsn;
    state->wal_bytes = 0;
    TRY(wal_put_state(t, state));
    TRY(wal_delete_upto(t, state->last_lsn, WAL_SLICE_FRAMES, &more));
    TRY(wal_txn_commit(t));
    STORE_KILL_POINT(O8);
    return NAVMAP_OK;
}

static navmap_status with_data(struct store *s, struct wal_txn *t, struct wal_state *state, int *fd,
                               const char *path, const struct layout *l)
{
    bool log_empty = state->ckpt_lsn == state->last_lsn;
    struct disk_root root;
    TRY(remove_leftovers(s, state->generation));
    TRY(remove_copy(s));
    STORE_KILL_POINT(O4);
    TRY(read_file_root(s, *fd, path, l, state, &root));
    struct replay r = {.path = s->path, .layout = l};
    navmap_status status = NAVMAP_OK;
    if (!log_empty)
        TRY_GOTO(status, replay_read(&r, t, state), done);
    if (!log_empty)
        root = r.root;
    TRY_GOTO(status, map_data(s, *fd, path, l, extent_chunks(root.extent), log_empty), done);
    *fd = -1; /* the view's now */
    if (log_empty)
        apply_live_reset(s->view);
    else
        TRY_GOTO(status, replay_log(s, &r), done);
    TRY_GOTO(status, store_check_root(s, s->view, true), done);
    STORE_KILL_POINT(O7);
    if (!log_empty)
        TRY_GOTO(status, finish(s, t, state), done);
    apply_live_writer(s->view);
done:
    replay_free(&r);
    return status;
}

static navmap_status in_txn(struct store *s, struct wal_txn *t, struct wal_state *ret_state)
{
    struct wal_id id;
    struct layout l;
    int read_only = 0, fd = -1;
    char *path = NULL;
    TRY(wal_get_id(t, &id));
    TRY(wal_get_state(t, ret_state));
    STORE_KILL_POINT(O3);
    TRY(files_open_data(s->path, ret_state->generation, O_RDWR, &fd, &path, &l, &read_only));
    navmap_status status = store_check_identity(s, &id, &l, path);
    if (status == NAVMAP_OK && read_only)
        status = fail(NAVMAP_EREADONLY, "%s: it uses features this version can read but not write",
                      path);
    s->uuid_low = l.uuid_low;
    if (status == NAVMAP_OK)
        status = with_data(s, t, ret_state, &fd, path, &l);
    io_close(fd);
    free(path);
    return status;
}

navmap_status store_recover(struct store *s)
{
    struct wal_txn t;
    struct wal_state state = {0};
    TRY(wal_acquire(s->path, true, &s->wal));
    TRY(wal_reader_check(s->wal));
    TRY(wal_sync(s->wal));
    STORE_KILL_POINT(O2);
    wal_lock(s->wal);
    /* On a full disk recovery goes on without: it deletes from the log, it adds nothing. */
    navmap_status status = wal_make_room(s->wal, WAL_SLACK_PAGES);
    if (status == NAVMAP_OK || status == NAVMAP_ENOSPC)
        status = wal_txn_write(s->wal, &t);
    if (status == NAVMAP_OK) {
        status = in_txn(s, &t, &state);
        wal_txn_abort(&t); /* does nothing after O8's commit */
        s->state = state;
        atomic_store(&s->applied_lsn, state.last_lsn);
    }
    wal_unlock(s->wal);
    return status;
}
