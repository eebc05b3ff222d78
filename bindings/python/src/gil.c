/* gil.c -- a thread that is not given the GIL any more stays, with its stack. */
#include "bindings/python/src/gil.h"

#include <pthread.h>
#include <unistd.h>

static void stay(void *unused)
{
    (void)unused;
    for (;;)
        (void)pause();
}

PyGILState_STATE gil_ensure(void)
{
    PyGILState_STATE state;
    pthread_cleanup_push(stay, NULL);
    state = PyGILState_Ensure();
    pthread_cleanup_pop(0);
    return state;
}

void gil_restore(PyThreadState *thread)
{
    pthread_cleanup_push(stay, NULL);
    PyEval_RestoreThread(thread);
    pthread_cleanup_pop(0);
}
