/* stats.c -- a table of the fields of struct navmap_stats, so that adding one is adding a line. */
#include "bindings/python/src/stats.h"

#include "bindings/python/src/fields.h"

static const struct field FIELDS[] = {
    FIELD(navmap_stats, dim),
    FIELD(navmap_stats, space),
    FIELD(navmap_stats, M),
    FIELD(navmap_stats, ef_construction),
    FIELD(navmap_stats, mode),
    FIELD(navmap_stats, durability),
    FIELD(navmap_stats, allow_replace_deleted),
    FIELD(navmap_stats, format_major),
    FIELD(navmap_stats, format_minor),
    FIELD(navmap_stats, entry_slot),
    FIELD(navmap_stats, entry_level),
    FIELD(navmap_stats, writer_held),
    FIELD(navmap_stats, writer_pid),
    FIELD(navmap_stats, poisoned),
    FIELD(navmap_stats, slots_per_chunk),
    FIELD(navmap_stats, in_memory),
    FIELD(navmap_stats, bounded),
    FIELD(navmap_stats, flat),
    FIELD(navmap_stats, mapped),
    FIELD(navmap_stats, generation),
    FIELD(navmap_stats, random_seed),
    FIELD(navmap_stats, max_elements),
    FIELD(navmap_stats, inserted),
    FIELD(navmap_stats, last_lsn),
    FIELD(navmap_stats, checkpoint_lsn),
    FIELD(navmap_stats, applied_lsn),
    FIELD(navmap_stats, n_live),
    FIELD(navmap_stats, n_deleted),
    FIELD(navmap_stats, n_dead),
    FIELD(navmap_stats, n_free),
    FIELD(navmap_stats, nslots),
    FIELD(navmap_stats, nchunks),
    FIELD(navmap_stats, capacity),
    FIELD(navmap_stats, pending),
    FIELD(navmap_stats, wal_bytes),
    FIELD(navmap_stats, checkpoint_bytes),
    FIELD(navmap_stats, data_file_bytes),
    FIELD(navmap_stats, data_allocated_bytes),
    FIELD(navmap_stats, lmdb_allocated_bytes),
    FIELD(navmap_stats, state_bytes),
    FIELD(navmap_stats, row_bytes),
    FIELD(navmap_stats, upper_bytes),
    FIELD(navmap_stats, tag_bytes),
    FIELD(navmap_stats, code_bytes),
    FIELD(navmap_stats, vector_bytes),
    FIELD(navmap_stats, codes),
    FIELD(navmap_stats, vectors),
};

PyObject *stats_dict(const struct navmap_stats *stats)
{
    return fields_dict(stats, FIELDS, FIELDS_COUNT(FIELDS));
}
