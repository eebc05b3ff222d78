/* stats.c -- the counters of engine and storage in one structure. */
#include "engine/index.h"
#include "storage/fail.h"
#include "storage/source.h"

static struct navmap_stats stats_of(const struct layout *l, const struct store_stats *s)
{
    return (struct navmap_stats){
        .struct_size = sizeof(struct navmap_stats),
        .dim = l->dim,
        .space = l->space,
        .M = l->M,
        .ef_construction = l->ef_construction,
        .allow_replace_deleted = (l->flags & HEADER_ALLOW_REPLACE_DELETED) != 0,
        .format_major = LAYOUT_MAJOR,
        .format_minor = LAYOUT_MINOR,
        .entry_slot = s->entry_slot,
        .entry_level = s->entry_level,
        .writer_held = s->writer_held,
        .writer_pid = s->writer_pid,
        .poisoned = s->poisoned,
        .in_memory = s->in_memory,
        .bounded = s->bounded || s->max_elements > 0,
        .flat = (l->flags & HEADER_FLAT) != 0,
        .mapped = s->mapped,
        .slots_per_chunk = s->slots_per_chunk,
        .generation = s->generation,
        .random_seed = l->seed,
        .max_elements = s->max_elements,
        .inserted = s->inserted,
        .last_lsn = s->last_lsn,
        .checkpoint_lsn = s->ckpt_lsn,
        .applied_lsn = s->applied_lsn,
        .n_live = s->n_live,
        .n_deleted = s->n_deleted,
        .n_dead = s->n_dead,
        .n_free = s->n_free,
        .nslots = s->nslots,
        .nchunks = s->nchunks,
        .capacity = s->nchunks * s->slots_per_chunk,
        .pending = s->pending,
        .wal_bytes = s->wal_bytes,
        .checkpoint_bytes = s->ckpt_bytes,
        .data_file_bytes = s->data_file_bytes,
        .data_allocated_bytes = s->data_allocated_bytes,
        .lmdb_allocated_bytes = s->lmdb_allocated_bytes,
        .state_bytes = s->state_bytes,
        .row_bytes = s->row_bytes,
        .upper_bytes = s->upper_bytes,
        .tag_bytes = s->tag_bytes,
        .code_bytes = s->code_bytes,
        .codes = l->code_scheme != 0 ? NAVMAP_CODES_I8 : NAVMAP_CODES_NONE,
        .vectors = l->scalar == LAYOUT_F16 ? NAVMAP_VECTORS_F16 : NAVMAP_VECTORS_F32,
        .vector_bytes = s->vec_bytes,
    };
}

static navmap_status check_size(const char *what, const struct navmap_stats *stats)
{
    if (stats && stats->struct_size >= sizeof *stats)
        return NAVMAP_OK;
    return fail(NAVMAP_EINVAL, "%s: struct_size is %u, expected %zu", what,
                stats ? stats->struct_size : 0, sizeof *stats);
}

navmap_status navmap_get_stats(navmap_index *index, struct navmap_stats *ret_stats)
{
    TRY(index_check(index, "navmap_get_stats"));
    TRY(check_size("navmap_get_stats", ret_stats));
    struct store_stats s;
    TRY(store_stats_read(index->store, &s));
    uint32_t struct_size = ret_stats->struct_size;
    *ret_stats = stats_of(index->layout, &s);
    ret_stats->struct_size = struct_size;
    ret_stats->mode = store_is_writer(index->store) ? NAVMAP_WRITE : NAVMAP_READ;
    ret_stats->durability = index->durability;
    return NAVMAP_OK;
}

/* A sealed file: opening it is instant, and changes nothing. */
static navmap_status inspect_file(const char *path, struct navmap_stats *ret_stats)
{
    navmap_index *ix;
    TRY(index_load_any(path, &ix));
    struct store_stats s = {0};
    navmap_status status = navmap_get_stats(ix, ret_stats);
    if (status == NAVMAP_OK)
        status = store_stats_read(ix->store, &s);
    navmap_status closed = navmap_close(ix);
    TRY(status);
    ret_stats->mode = ret_stats->durability = 0;
    ret_stats->allow_replace_deleted = (s.file_flags & HEADER_ALLOW_REPLACE_DELETED) != 0;
    return closed;
}

navmap_status navmap_inspect(const char *path, struct navmap_stats *ret_stats)
{
    TRY(check_size("navmap_inspect", ret_stats));
    if (!path)
        return fail(NAVMAP_EINVAL, "navmap_inspect: path must not be NULL");
    if (source_at(path))
        return inspect_file(path, ret_stats);
    struct layout l;
    struct store_stats s;
    TRY(store_inspect(path, &l, &s));
    uint32_t struct_size = ret_stats->struct_size;
    *ret_stats = stats_of(&l, &s);
    ret_stats->struct_size = struct_size;
    return NAVMAP_OK;
}
