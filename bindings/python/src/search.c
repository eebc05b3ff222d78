/* search.c -- chunks that last some ten milliseconds, whatever the size of the index: longer and
 * Ctrl-C would feel dead, shorter and threads would quarrel about the GIL. */
#include "bindings/python/src/search.h"

#include <string.h>
#include <time.h>

#define CHUNK_FIRST 16u /* queries in the first engine call ... */
#define CHUNK_MAX 256u  /* ... and at most in one */
#define SHORT 0.01      /* seconds: double the chunk below, */
#define LONG 0.05       /* halve it above */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int search_run(struct search_call *call)
{
    uint64_t found[CHUNK_MAX], chunk = CHUNK_FIRST, row = 0;

    call->status = NAVMAP_OK;
    while (row < call->rows && call->k > 0) {
        const uint64_t n = call->rows - row < chunk ? call->rows - row : chunk;
        memset(found, 0xff, sizeof found); /* UINT64_MAX: refused before that row was searched */
        PyThreadState *thread = PyEval_SaveThread();
        const double start = seconds_now();
        call->status =
            call->search(call->index, n, call->queries + row * call->dim, call->k, &call->options,
                         call->labels + row * call->k, call->distances + row * call->k, found);
        const double elapsed = seconds_now() - start;
        PyEval_RestoreThread(thread);
        if (call->status == NAVMAP_EFEWER) {
            uint64_t i = 0;
            while (i < n && found[i] >= call->k)
                i++;
            call->row = row + (i < n ? i : 0);
            call->found = i < n ? found[i] : UINT64_MAX;
        }
        if (call->status != NAVMAP_OK)
            return 0;
        row += n;
        if (row < call->rows && PyErr_CheckSignals() < 0)
            return -1;
        if (elapsed < SHORT && chunk < CHUNK_MAX)
            chunk *= 2;
        else if (elapsed > LONG && chunk > 1)
            chunk /= 2;
    }
    return 0;
}
