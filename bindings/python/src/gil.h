/* gil.h -- taking the GIL on a thread that has frames of the engine below it.
 *
 * Y3  Once the interpreter is being finalised, CPython before 3.14 ends a thread that asks for the
 *     GIL by pthread_exit().  Threads of a crew would go on with what lay on its stack, and locks
 *     of the engine would stay held.  Such a thread waits here for the end of the process instead,
 *     as CPython 3.14 lets it.
 */
#ifndef NAVMAP_BINDINGS_GIL_H
#define NAVMAP_BINDINGS_GIL_H

#include <Python.h>

/* As PyGILState_Ensure() and PyEval_RestoreThread(), by Y3. */
PyGILState_STATE gil_ensure(void);
void gil_restore(PyThreadState *thread);

#endif
