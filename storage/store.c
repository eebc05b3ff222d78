/* store.c -- the handle itself: born, asked, poisoned, closed. */
#include "storage/store.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "storage/files.h"
#include "storage/handle.h"
#include "storage/io.h"

#define LOCKS_BUSY UINT64_MAX

static void init_locks(struct store *s)
{
    (void)pthread_mutex_init(&s->view_lock, NULL);
    (void)pthread_mutex_init(&s->wal_lock, NULL);
    (void)pthread_mutex_init(&s->checkpoint_lock, NULL);
    (void)pthread_mutex_init(&s->entry_lock, NULL);
    (void)pthread_mutex_init(&s->item_lock, NULL);
    /* A commit must come to its turn although adders keep taking the lock shared. */
    pthread_rwlockattr_t attr;
    (void)pthread_rwlockattr_init(&attr);
    (void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    (void)pthread_rwlock_init(&s->write_lock, &attr);
    (void)pthread_rwlockattr_destroy(&attr);
    for (uint32_t i = 0; s->node_locks && i < NODE_LOCKS; i++)
        (void)pthread_mutex_init(&s->node_locks[i], NULL);
    for (uint32_t i = 0; s->label_locks && i < LABEL_LOCKS; i++)
        (void)pthread_mutex_init(&s->label_locks[i], NULL);
}

navmap_status store_locks_make(struct store *s)
{
    s->node_locks = malloc(NODE_LOCKS * sizeof *s->node_locks);
    s->label_locks = malloc(LABEL_LOCKS * sizeof *s->label_locks);
    if (!s->node_locks || !s->label_locks)
        return fail(NAVMAP_ENOMEM, "%s: no memory for locks", s->path);
    init_locks(s);
    return NAVMAP_OK;
}

struct store *store_new(const char *path, enum store_mode mode, const struct store_options *options)
{
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->path = strdup(path);
    if (!s->path) {
        free(s);
        return NULL;
    }
    s->mode = mode;
    s->options = *options;
    s->lock.fd = s->ground_fd = -1;
    s->epoch = fork_epoch();
    atomic_store(&s->lock_epoch, s->epoch);
    init_locks(s);
    return s;
}

void store_enter(struct store *s)
{
    uint64_t now = fork_epoch(), was = atomic_load_explicit(&s->lock_epoch, memory_order_acquire);
    if (__builtin_expect(was == now, 1))
        return;
    if (was != LOCKS_BUSY && atomic_compare_exchange_strong(&s->lock_epoch, &was, LOCKS_BUSY)) {
        init_locks(s);
        /* What another thread of the parent had in hand is nobody's here. */
        s->in_flight = NULL;
        s->n_in_flight = s->n_new_in_flight = 0;
        atomic_store(&s->lock_epoch, now);
    }
    while (atomic_load(&s->lock_epoch) != now)
        (void)sched_yield();
}

/* Releases everything, changes nothing.  In a forked child LMDB and the locks stay the parent's. */
void store_destroy(struct store *s)
{
    bool ours = s->epoch == fork_epoch();
    store_sweep_close(s);
    if (ours && !s->in_memory)
        stage_close(&s->stage);
    view_unref(s->view);
    if (ours && !s->in_memory) {
        wal_release(s->wal);
        lock_close(&s->lock);
    }
    if (s->labels_at)
        (void)munmap(s->labels_at, s->labels_bytes);
    io_close(s->ground_fd);
    table_free(&s->table);
    free(s->node_locks);
    free(s->label_locks);
    free(s->deleted_slots);
    free(s->free_slots);
    free(s->path);
    free(s);
}

navmap_status store_close(struct store *s)
{
    if (!s)
        return NAVMAP_OK;
    navmap_status status = NAVMAP_OK;
    if (s->mode == STORE_WRITE && !s->in_memory && s->epoch == fork_epoch())
        status = atomic_load(&s->poisoned) && stage_empty(&s->stage) ? NAVMAP_OK : store_flush(s);
    STORE_KILL_POINT(CLOSE);
    store_destroy(s);
    return status;
}

const struct layout *store_layout(const struct store *s)
{
    return &s->layout;
}

bool store_bounded(const struct store *s)
{
    return s->bounded || s->stage.root.max_elements > 0;
}

bool store_is_writer(const struct store *s)
{
    return s->mode == STORE_WRITE;
}

bool store_in_memory(const struct store *s)
{
    return s->in_memory;
}

const char *store_path(const struct store *s)
{
    return s->path;
}

const struct stage *store_edit(const struct store *s)
{
    return &s->stage;
}

uint64_t store_last_lsn(const struct store *s)
{
    return s->mode == STORE_WRITE && !s->in_memory
               ? atomic_load(&s->applied_lsn)
               : view_load64(&view_root(s->view)->lsn, memory_order_relaxed);
}

navmap_status store_check_process(const struct store *s)
{
    if (s->mode == STORE_WRITE && !s->in_memory && s->epoch != fork_epoch())
        return fail(NAVMAP_EFORKED, "%s: opened before fork(); reopen the index in the child",
                    s->path);
    return NAVMAP_OK;
}

/* Sticky: memory and disk may disagree, so nothing more is written through this handle. */
navmap_status store_poison(struct store *s, const char *reason)
{
    char text[sizeof s->poison_reason];
    (void)snprintf(text, sizeof text, "%s", reason); /* may be the buffer that fail() writes */
    (void)pthread_mutex_lock(&s->view_lock);         /* a commit and a checkpoint may both fail */
    if (!atomic_load(&s->poisoned)) {
        memcpy(s->poison_reason, text, sizeof text);
        atomic_store(&s->poisoned, true);
    }
    (void)pthread_mutex_unlock(&s->view_lock);
    wal_retire(s->wal);
    return store_check_writable(s);
}

navmap_status store_check_writable(const struct store *s)
{
    if (s->mode != STORE_WRITE)
        return fail(NAVMAP_EREADONLY, "%s: the index is open for reading only", s->path);
    TRY(store_check_process(s));
    TRY(store_check_aside(s));
    if (atomic_load(&s->poisoned))
        return fail(
            NAVMAP_EPOISONED,
            "%s: writing stopped after a failure; close the index and open it again to recover "
            "(%s)",
            s->path, s->poison_reason);
    return NAVMAP_OK;
}

navmap_status store_check_log(const struct store *s, struct wal_txn *t)
{
    struct wal_state found;
    TRY(wal_get_state(t, &found));
    if (found.generation != s->state.generation || found.ckpt_lsn != s->state.ckpt_lsn ||
        found.last_lsn != s->state.last_lsn)
        return fail(NAVMAP_EPOISONED,
                    "%s: the log moved under its writer: expected lsn %llu, found %llu", s->path,
                    (unsigned long long)s->state.last_lsn, (unsigned long long)found.last_lsn);
    return NAVMAP_OK;
}

bool store_lock_shared(struct store *s)
{
    return pthread_rwlock_rdlock(&s->write_lock) == 0; /* EDEADLK: it is ours */
}

void store_unlock_shared(struct store *s, bool locked)
{
    if (locked)
        (void)pthread_rwlock_unlock(&s->write_lock);
}

void store_follow_layout(struct layout *to, const struct layout *from)
{
    if (to->M != from->M || to->code_stride != from->code_stride) {
        *to = *from;
        return;
    }
    to->ef_construction = from->ef_construction;
    to->slot_shift = from->slot_shift;
    to->slots_per_chunk = from->slots_per_chunk;
    to->uppers_per_chunk = from->uppers_per_chunk;
    to->level_most = from->level_most;
    to->off_state = from->off_state;
    to->off_row = from->off_row;
    to->off_upper = from->off_upper;
    to->off_tag = from->off_tag;
    to->off_code = from->off_code;
    to->off_vec = from->off_vec;
    to->chunk_bytes = from->chunk_bytes;
    to->generation = from->generation;
    to->created_ns = from->created_ns;
}

static navmap_status relieve(struct store *s, uint64_t times)
{
    store_enter(s);
    TRY(store_check_writable(s));
    navmap_status status = store_checkpoint_if_long(s, times);
    return status == NAVMAP_ENOSPC || status == NAVMAP_ENOMEM ? NAVMAP_OK : status;
}

navmap_status store_relieve(struct store *s)
{
    return relieve(s, 1);
}

navmap_status store_write_begin(struct store *s, uint64_t batch_items)
{
    TRY(relieve(s, 2));
    (void)pthread_rwlock_wrlock(&s->write_lock);
    s->batch_items = batch_items;
    return NAVMAP_OK;
}

void store_write_end(struct store *s)
{
    (void)pthread_rwlock_unlock(&s->write_lock);
}

static void read_root_stats(const struct view *v, struct store_stats *st)
{
    const struct disk_root *root = view_root(v);
    uint64_t extent = view_load64(&root->extent, memory_order_acquire);
    uint64_t entry = view_load64(&root->entry, memory_order_acquire);
    st->generation = v->layout.generation;
    st->nslots = extent_slots(extent);
    st->nchunks = extent_chunks(extent);
    st->entry_slot = (uint32_t)entry;
    st->entry_level = (uint32_t)(entry >> 32);
    st->nuppers = view_load64(&root->nuppers, memory_order_relaxed);
    st->max_elements = view_load64(&root->max_elements, memory_order_relaxed);
    st->n_live = view_load64(&root->n_live, memory_order_relaxed);
    st->n_deleted = view_load64(&root->n_deleted, memory_order_relaxed);
    st->n_dead = view_load64(&root->n_dead, memory_order_relaxed);
    st->n_free = view_load64(&root->n_free, memory_order_relaxed);
    st->inserted = view_load64(&root->inserted, memory_order_relaxed);
    st->slots_per_chunk = v->layout.slots_per_chunk;
}

static void read_planes(const struct view *v, struct store_stats *st)
{
    const struct layout *l = &v->layout;
    uint64_t chunks = atomic_load_explicit(&v->nchunks, memory_order_acquire);
    uint64_t slots = chunks << l->slot_shift;
    st->state_bytes = slots * 4;
    st->row_bytes = slots * l->row_stride;
    st->upper_bytes = chunks * l->uppers_per_chunk * l->upper_stride;
    st->tag_bytes = slots * l->tag_stride;
    st->code_bytes = slots * l->code_stride;
    st->vec_bytes = slots * l->vec_stride;
}

static void read_sizes(const struct store *s, const struct view *v, struct store_stats *st)
{
    read_planes(v, st);
    if (io_file_size(v->fd, v->path, &st->data_file_bytes) != NAVMAP_OK)
        st->data_file_bytes = 0;
    st->data_allocated_bytes = io_allocated(v->fd);
    char *path = NULL;
    int fd = -1;
    if (s->wal && s->epoch == fork_epoch()) {
        st->lmdb_allocated_bytes = wal_allocated(s->wal);
    } else if (asprintf(&path, "%s/" WAL_FILE, s->path) >= 0) {
        /* Plain open and close of wal.mdb is harmless; of wal.mdb-lock it would not be. */
        if (io_open(path, O_RDONLY, 0, &fd) == NAVMAP_OK)
            st->lmdb_allocated_bytes = io_allocated(fd);
        io_close(fd);
        free(path);
    }
}

static void read_log_stats(struct store *s, const struct view *v, struct store_stats *st)
{
    struct wal_state state = {0};
    st->applied_lsn = view_load64(&view_live(v)->applied_lsn, memory_order_relaxed);
    if (s->mode == STORE_WRITE && s->epoch == fork_epoch()) {
        bool locked = store_lock_shared(s);
        (void)pthread_mutex_lock(&s->item_lock);
        st->pending = s->stage.items;
        (void)pthread_mutex_unlock(&s->item_lock);
        store_unlock_shared(s, locked);
        wal_lock(s->wal);
        state = s->state;
        wal_unlock(s->wal);
        st->applied_lsn = atomic_load(&s->applied_lsn);
    } else if (s->wal) {
        struct wal_txn t;
        if (wal_txn_read(s->wal, &t) == NAVMAP_OK) {
            if (wal_get_state(&t, &state) != NAVMAP_OK)
                state = (struct wal_state){0};
            wal_txn_abort(&t);
        }
    }
    st->last_lsn = state.last_lsn;
    st->ckpt_lsn = state.ckpt_lsn;
    st->wal_bytes = state.wal_bytes;
    st->ckpt_bytes = store_ckpt_bytes(s);
}

navmap_status store_stats_read(struct store *s, struct store_stats *ret_stats)
{
    struct view *v;
    struct store_stats st = {0};
    TRY(store_view_begin(s, &v));
    read_root_stats(v, &st);
    st.in_memory = s->in_memory;
    st.bounded = s->bounded || st.max_elements > 0;
    st.mapped = s->ground_fd >= 0 && !atomic_load(&s->ground_is_left);
    st.file_flags = s->file_flags;
    if (s->in_memory) {
        read_planes(v, &st);
        if (st.mapped) {
            st.data_file_bytes = s->sealed_at.file_bytes;
            st.data_allocated_bytes = io_allocated(s->ground_fd);
        }
        store_view_end(s, v);
        *ret_stats = st;
        return NAVMAP_OK;
    }
    read_sizes(s, v, &st);
    read_log_stats(s, v, &st);
    store_view_end(s, v);
    st.poisoned = atomic_load(&s->poisoned);
    if (s->epoch == fork_epoch()) {
        (void)pthread_mutex_lock(&s->wal_lock); /* a reader's LOCK may be opened anew (move.c) */
        navmap_status status = lock_writer_held(&s->lock, &st.writer_held);
        (void)pthread_mutex_unlock(&s->wal_lock);
        TRY(status);
    }
    if (s->mode == STORE_WRITE && s->epoch == fork_epoch())
        st.writer_held = true; /* F_OFD_GETLK does not see one's own lock */
    st.writer_pid = st.writer_held ? files_writer_pid(s->path) : 0;
    *ret_stats = st;
    return NAVMAP_OK;
}
