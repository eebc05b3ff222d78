/* stats.c -- a table of the fields of struct navmap_stats, so that adding one is adding a line. */
#include "bindings/python/src/stats.h"

#include <stddef.h>
#include <stdint.h>

#define FIELD(name)                                                                                \
#name, offsetof(struct navmap_stats, name), sizeof(((struct navmap_stats *)0)->name)

static const struct {
    const char *name;
    size_t offset, size;
} FIELDS[] = {
    {FIELD(dim)},
    {FIELD(space)},
    {FIELD(M)},
    {FIELD(ef_construction)},
    {FIELD(mode)},
    {FIELD(durability)},
    {FIELD(allow_replace_deleted)},
    {FIELD(format_major)},
    {FIELD(format_minor)},
    {FIELD(entry_slot)},
    {FIELD(entry_level)},
    {FIELD(writer_held)},
    {FIELD(writer_pid)},
    {FIELD(poisoned)},
    {FIELD(slots_per_chunk)},
    {FIELD(generation)},
    {FIELD(random_seed)},
    {FIELD(max_elements)},
    {FIELD(inserted)},
    {FIELD(last_lsn)},
    {FIELD(checkpoint_lsn)},
    {FIELD(applied_lsn)},
    {FIELD(n_live)},
    {FIELD(n_deleted)},
    {FIELD(n_dead)},
    {FIELD(n_free)},
    {FIELD(nslots)},
    {FIELD(nchunks)},
    {FIELD(capacity)},
    {FIELD(pending)},
    {FIELD(wal_bytes)},
    {FIELD(checkpoint_bytes)},
    {FIELD(data_file_bytes)},
    {FIELD(data_allocated_bytes)},
    {FIELD(lmdb_allocated_bytes)},
    {FIELD(state_bytes)},
    {FIELD(row_bytes)},
    {FIELD(upper_bytes)},
    {FIELD(tag_bytes)},
    {FIELD(code_bytes)},
    {FIELD(vector_bytes)},
};

PyObject *stats_dict(const struct navmap_stats *stats)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict != NULL && i < sizeof(FIELDS) / sizeof(FIELDS[0]); i++) {
        const char *at = (const char *)stats + FIELDS[i].offset;
        uint64_t number = FIELDS[i].size == sizeof(uint32_t) ? *(const uint32_t *)(const void *)at
                                                             : *(const uint64_t *)(const void *)at;
        PyObject *value = PyLong_FromUnsignedLongLong(number);
        if (value == NULL || PyDict_SetItemString(dict, FIELDS[i].name, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}
