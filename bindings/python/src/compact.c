/* compact.c -- navmap._core.Handle.compact: the GIL released, progress and Ctrl-C in between. */
#include "bindings/python/src/compact.h"

#include "bindings/python/src/buffers.h"
#include "bindings/python/src/fields.h"
#include "bindings/python/src/handle.h"
#include "bindings/python/src/progress.h"

static const struct field RESULT[] = {
    FIELD(navmap_compact_result, items),       FIELD(navmap_compact_result, forgotten),
    FIELD(navmap_compact_result, dropped),     FIELD(navmap_compact_result, bytes_before),
    FIELD(navmap_compact_result, bytes_after), FIELD(navmap_compact_result, log_erased),
};

PyObject *handle_compact(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    struct navmap_compact_options options = {.struct_size = sizeof options};
    struct navmap_compact_result ret = {.struct_size = sizeof ret};
    int keep_deleted, keep_order, refine, directory;
    PyObject *progress, *output;
    if (!PyArg_ParseTuple(args, "pppO&O&O&OpO&O:compact", &keep_deleted, &keep_order, &refine,
                          number_u32, &options.M, number_u32, &options.ef_construction, number_u32,
                          &options.codes, &output, &directory, number_u32, &options.num_threads,
                          &progress))
        return NULL;
    if (output != Py_None && (options.output = PyBytes_AsString(output)) == NULL)
        return NULL;
    const bool alone = output == Py_None && (options.M != 0 || options.codes != 0);
    navmap_index *index = alone ? handle_enter_alone(self) : handle_enter(self);
    if (index == NULL)
        return NULL;
    struct progress_context context;
    options.keep_deleted = (uint32_t)keep_deleted;
    options.keep_order = (uint32_t)keep_order;
    options.refine = (uint32_t)refine;
    options.output_directory = (uint32_t)directory;
    options.progress = progress_call;
    options.progress_ctx = &context;
    progress_begin(&context, progress);
    navmap_status status = navmap_compact(index, &options, &ret);
    if (progress_end(&context, self, status) < 0)
        return NULL;
    return fields_dict(&ret, RESULT, FIELDS_COUNT(RESULT));
}
