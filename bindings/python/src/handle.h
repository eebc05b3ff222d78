/* handle.h -- the one type of the extension: an open index that may be closed under its users.
 *
 * H1  A call into the engine runs between handle_enter() and handle_leave(), which are made with
 *     the GIL held, and releases the GIL in between.
 * H2  close() forbids new calls; the engine's handle is released when nobody is inside, by
 *     whoever leaves last.  Nobody waits, so nothing can deadlock with the GIL.
 * H3  In a forked child the engine knows that the handle is the parent's: releasing it there
 *     flushes and unlocks nothing.  If a thread of the parent was inside at the fork, the child
 *     never releases the handle at all.
 * H4  A call that must not run beside others enters alone: it is refused while somebody is inside,
 *     and while it is, so are others.
 */
#ifndef NAVMAP_BINDINGS_HANDLE_H
#define NAVMAP_BINDINGS_HANDLE_H

#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#include "bindings/python/src/raise.h"
#include "engine/navmap.h"

struct core_state {
    PyTypeObject *handle_type;
    PyTypeObject *filter_set_type;
    struct raise_table errors;
};

struct handle {
    PyObject ob_base;    /* PyObject_HEAD, spelt out for clang-format */
    navmap_index *index; /* NULL once released */
    uint64_t uses;       /* calls inside the engine; changed with the GIL held (H1) */
    bool closed, alone;  /* H4 */
    uint32_t dim;
};

/* H1.  NULL with an exception set when the handle is closed. */
navmap_index *handle_enter(struct handle *self);
navmap_index *handle_enter_alone(struct handle *self); /* H4 */
void handle_leave(struct handle *self);
/* The end of most methods: leave, then None or the exception for `status`. */
PyObject *handle_done(struct handle *self, navmap_status status);
struct core_state *handle_state(struct handle *self);

/* Make the type; the module owns it. */
PyTypeObject *handle_type_make(PyObject *module);
/* Wrap an open index.  Takes it over: on failure it is closed, NULL returned, exception set. */
PyObject *handle_wrap(struct core_state *state, navmap_index *index);

#endif
