/* filter.h -- a Python callable as the engine's filter function, and what it raised.
 *
 * Y1  The engine asks from any thread, the calling one or one of its crew, and while it runs all of
 *     them have released the GIL: on_label() takes it and gives it back each time, whoever the
 *     thread is.  Nobody waits for an engine thread with the GIL held, so they cannot deadlock.
 * Y2  The first exception is kept, stops every thread of the call, and is raised by filter_finish()
 *     in the calling thread.  Later ones are dropped.
 */
#ifndef NAVMAP_BINDINGS_FILTER_H
#define NAVMAP_BINDINGS_FILTER_H

#include <Python.h>

#include <stdatomic.h>
#include <stdbool.h>

#include "bindings/python/src/raise.h"
#include "engine/navmap.h"

struct filter_call {
    const struct raise_table *errors;
    PyObject *callable;                 /* borrowed */
    PyObject *type, *value, *traceback; /* Y2, with the GIL */
    _Atomic bool stop;                  /* read without the GIL: a late look costs a call more */
};

/* Let `options` ask `callable` through `call`, which must outlive the searches. */
void filter_begin(struct filter_call *call, PyObject *callable, const struct raise_table *errors,
                  struct navmap_search_options *options);
/* 0, or -1 with the exception of Y2 set.  Call it once, with the GIL, when no search runs. */
int filter_finish(struct filter_call *call);

#endif
