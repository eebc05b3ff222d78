/* vacuum.c -- navmap._core.Handle.vacuum: the GIL released, progress and Ctrl-C in between. */
#include "bindings/python/src/vacuum.h"

#include "bindings/python/src/buffers.h"
#include "bindings/python/src/fields.h"
#include "bindings/python/src/handle.h"
#include "bindings/python/src/progress.h"
#include "engine/navmap_vacuum.h"

static const struct field RESULT[] = {
    FIELD(navmap_vacuum_result, slots_freed),
    FIELD(navmap_vacuum_result, rows_repaired),
    FIELD(navmap_vacuum_result, ways_given),
    FIELD(navmap_vacuum_result, linked_anew),
};

PyObject *handle_vacuum(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    struct navmap_vacuum_options options = {.struct_size = sizeof options};
    struct navmap_vacuum_result ret = {.struct_size = sizeof ret};
    PyObject *progress;
    if (!PyArg_ParseTuple(args, "O&O:vacuum", number_u32, &options.num_threads, &progress))
        return NULL;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    struct progress_context context;
    options.progress = progress_call;
    options.progress_ctx = &context;
    progress_begin(&context, progress);
    navmap_status status = navmap_vacuum(index, &options, &ret);
    if (progress_end(&context, self, status) < 0)
        return NULL;
    return fields_dict(&ret, RESULT, FIELDS_COUNT(RESULT));
}
