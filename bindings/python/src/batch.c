/* batch.c -- navmap._core.Handle.add and search: arrays in, arrays out, and Python's functions
 * called back in between. */
#include "bindings/python/src/batch.h"

#include "bindings/python/src/buffers.h"
#include "bindings/python/src/filter.h"
#include "bindings/python/src/filter_set.h"
#include "bindings/python/src/handle.h"
#include "bindings/python/src/progress.h"
#include "bindings/python/src/search.h"

/* Adding --------------------------------------------------------------------------------------*/

PyObject *handle_add(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    PyObject *vectors_arg, *labels_arg, *progress_arg, *result = NULL;
    Py_buffer vectors = {0}, labels = {0};
    uint32_t num_threads;
    int replace_deleted, reproducible;
    uint64_t added = 0;

    if (!PyArg_ParseTuple(args, "OOO&pOp:add", &vectors_arg, &labels_arg, number_u32, &num_threads,
                          &replace_deleted, &progress_arg, &reproducible))
        return NULL;
    if (buffer_get(vectors_arg, "vectors", BUFFER_FLOAT32, 2, 0, &vectors) < 0)
        goto release;
    if (labels_arg != Py_None && buffer_get(labels_arg, "labels", BUFFER_UINT64, 1, 0, &labels) < 0)
        goto release;
    if (vectors.shape[1] != (Py_ssize_t)self->dim ||
        (labels_arg != Py_None && labels.shape[0] != vectors.shape[0])) {
        PyErr_SetString(PyExc_ValueError, "vectors must be n x dim and labels n");
        goto release;
    }

    navmap_index *index = handle_enter(self);
    if (index == NULL)
        goto release;
    struct progress_context context = {
        .callable = progress_arg != Py_None ? progress_arg : NULL,
    };
    const struct navmap_add_options options = {
        .struct_size = sizeof options,
        .num_threads = num_threads,
        .replace_deleted = (uint32_t)replace_deleted,
        .reproducible = (uint32_t)reproducible,
        .progress = progress_call,
        .progress_ctx = &context,
    };
    context.thread = PyEval_SaveThread();
    navmap_status status = navmap_add(index, (uint64_t)vectors.shape[0], vectors.buf,
                                      labels_arg != Py_None ? labels.buf : NULL, &options, &added);
    PyEval_RestoreThread(context.thread);
    if (status != NAVMAP_OK && !PyErr_Occurred())
        raise_status(&handle_state(self)->errors, status);
    if (PyErr_Occurred())
        raise_note_added(added);
    else
        result = PyLong_FromUnsignedLongLong(added);
    handle_leave(self);
release:
    PyBuffer_Release(&labels);
    PyBuffer_Release(&vectors);
    return result;
}

/* Searching -----------------------------------------------------------------------------------*/

PyObject *handle_search(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    PyObject *queries_arg, *filter_arg, *labels_arg, *distances_arg, *counts_arg = Py_None;
    PyObject *result = NULL;
    Py_buffer queries = {0}, allowed = {0}, labels = {0}, distances = {0}, counts = {0};
    struct filter_rows row_sets = {0};
    struct navmap_search_options options = {.struct_size = sizeof options};
    uint32_t ef, num_threads;
    int exact, allow_fewer;
    double stop = 0;

    if (!PyArg_ParseTuple(args, "pOO&O&OpOO|Od:search", &exact, &queries_arg, number_u32, &ef,
                          number_u32, &num_threads, &filter_arg, &allow_fewer, &labels_arg,
                          &distances_arg, &counts_arg, &stop))
        return NULL;
    if (buffer_get(queries_arg, "queries", BUFFER_FLOAT32, 2, 0, &queries) < 0 ||
        buffer_get(labels_arg, "labels", BUFFER_UINT64, 2, 1, &labels) < 0 ||
        buffer_get(distances_arg, "distances", BUFFER_FLOAT32, 2, 1, &distances) < 0)
        goto release;
    if (queries.shape[1] != (Py_ssize_t)self->dim || labels.shape[0] != queries.shape[0] ||
        distances.shape[0] != queries.shape[0] || distances.shape[1] != labels.shape[1]) {
        PyErr_SetString(PyExc_ValueError, "queries must be n x dim, labels and distances n x k");
        goto release;
    }

    if (counts_arg != Py_None) {
        if (buffer_get(counts_arg, "counts", BUFFER_UINT64, 1, 1, &counts) < 0)
            goto release;
        if ((size_t)counts.len < sizeof(struct navmap_search_counts)) {
            PyErr_SetString(PyExc_ValueError, "counts is too short");
            goto release;
        }
        options.ret_counts = counts.buf;
    }
    int prepared = filter_set_option(handle_state(self)->filter_set_type, filter_arg,
                                     (uint64_t)queries.shape[0], &options, &row_sets);
    if (prepared < 0)
        goto release;
    if (prepared == 0 && filter_arg != Py_None && !PyCallable_Check(filter_arg) &&
        buffer_get(filter_arg, "filter", BUFFER_UINT64, 1, 0, &allowed) < 0)
        goto release;

    navmap_index *index = handle_enter(self);
    if (index == NULL)
        goto release;
    options.ef = ef;
    options.allow_fewer = (uint32_t)allow_fewer;
    options.num_threads = num_threads;
    options.stop = stop;
    struct search_call call = {
        .index = index,
        .search = exact ? navmap_search_exact : navmap_search,
        .options = options,
        .queries = queries.buf,
        .rows = (uint64_t)queries.shape[0],
        .dim = self->dim,
        .k = (uint64_t)labels.shape[1],
        .labels = labels.buf,
        .distances = distances.buf,
    };
    struct filter_call filter = {0};
    const uint64_t none = 0;
    if (allowed.obj != NULL) {
        call.options.allowed = allowed.buf != NULL ? allowed.buf : &none; /* NULL would be all */
        call.options.n_allowed = (uint64_t)allowed.shape[0];
    } else if (prepared == 0 && filter_arg != Py_None) {
        filter_begin(&filter, filter_arg, &handle_state(self)->errors, &call.options);
    }
    int ran = search_run(&call);
    if (filter_finish(&filter) < 0 || ran < 0)
        handle_leave(self);
    else if (call.status != NAVMAP_EFEWER)
        result = handle_done(self, call.status);
    else {
        handle_leave(self);
        result = Py_BuildValue("KK", (unsigned long long)call.row, (unsigned long long)call.found);
    }
release:
    filter_rows_free(&row_sets);
    PyBuffer_Release(&counts);
    PyBuffer_Release(&distances);
    PyBuffer_Release(&labels);
    PyBuffer_Release(&allowed);
    PyBuffer_Release(&queries);
    return result;
}
