/* search.c -- chunks that last some ten milliseconds, whatever the size of the index: longer and
 * Ctrl-C would feel dead, shorter and threads would quarrel about the GIL.
 *
 * Two things ask for more.  A chunk for several threads must have more rows than the engine gives
 * to one thread alone, the last chunk too.  And a list of allowed labels is prepared anew in each
 * engine call, which may take as long as its queries do: such chunks are let last longer.
 */
#include "bindings/python/src/search.h"

#include <string.h>
#include <time.h>

#define CHUNK_FIRST 16u       /* queries in the first engine call, for each thread ... */
#define CHUNK_MAX 4096u       /* ... and at most in one */
#define ROWS_ALONE 4u         /* for each thread that the engine does not wake others for */
#define THREADS_MAX 256u      /* more are never awake at once */
#define SHORT 0.01            /* seconds: double the chunk below, */
#define LONG 0.05             /* halve it above */
#define SECONDS_LISTED 2e-7   /* added to both for each allowed label */
#define SECONDS_ANY_LIST 0.04 /* and for there being a list: it may cost a pass over the slots */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

struct chunk {
    uint64_t rows, least, most;
    double brief, lengthy; /* seconds */
};

static struct chunk chunk_first(const struct search_call *call)
{
    const uint64_t threads = call->options.num_threads > 1 ? call->options.num_threads : 1;
    const double list = call->options.allowed == NULL
                            ? 0
                            : SECONDS_ANY_LIST + SECONDS_LISTED * (double)call->options.n_allowed;
    const uint64_t first = CHUNK_FIRST * threads * (list > 0 ? 8 : 1);
    return (struct chunk){
        .rows = first < CHUNK_MAX ? first : CHUNK_MAX,
        .least = threads > 1 ? ROWS_ALONE * threads + 1 : 1,
        .most = CHUNK_MAX,
        .brief = SHORT + list,
        .lengthy = LONG + 2 * list,
    };
}

static uint64_t chunk_take(const struct chunk *chunk, uint64_t left)
{
    return left < chunk->rows + chunk->least ? left : chunk->rows;
}

static void chunk_adapt(struct chunk *chunk, double elapsed)
{
    if (elapsed < chunk->brief)
        chunk->rows *= 2;
    else if (elapsed > chunk->lengthy)
        chunk->rows /= 2;
    if (chunk->rows > chunk->most)
        chunk->rows = chunk->most;
    if (chunk->rows < chunk->least)
        chunk->rows = chunk->least;
}

static navmap_status search_rows(const struct search_call *call,
                                 const struct navmap_search_options *options, uint64_t row,
                                 uint64_t n, uint64_t *ret_found, double *ret_elapsed)
{
    struct navmap_search_options own = *options;
    PyThreadState *thread = PyEval_SaveThread();
    const double start = seconds_now();
    if (own.row_sets != NULL)
        own.row_sets += row;
    navmap_status status =
        call->search(call->index, n, call->queries + row * call->dim, call->k, &own,
                     call->labels + row * call->k, call->distances + row * call->k, ret_found);
    *ret_elapsed = seconds_now() - start;
    PyEval_RestoreThread(thread);
    return status;
}

/* NAVMAP_EFEWER: the first of `n` rows from `row` on that came short. */
static void note_fewer(struct search_call *call, uint64_t row, uint64_t n, uint64_t *found)
{
    uint64_t i = 0;
    double elapsed;
    while (i < n && found[i] >= call->k)
        i++;
    call->row = row + (i < n ? i : 0);
    call->found = i < n ? found[i] : UINT64_MAX;
    if (call->found != UINT64_MAX || (!call->options.filter && !call->options.allowed &&
                                      !call->options.set && !call->options.row_sets))
        return;
    /* Refused at once.  How many pass the filter only a search can tell. */
    struct navmap_search_options options = call->options;
    options.allow_fewer = 1;
    options.num_threads = 1;
    navmap_status status = search_rows(call, &options, call->row, 1, found, &elapsed);
    if (status == NAVMAP_OK)
        call->found = found[0];
    else
        call->status = status;
}

int search_run(struct search_call *call)
{
    if (call->options.num_threads > THREADS_MAX)
        call->options.num_threads = THREADS_MAX;
    if (call->rows <= (uint64_t)ROWS_ALONE * call->options.num_threads)
        call->options.num_threads = 1; /* as the engine would, but for chunks of this size */
    struct chunk chunk = chunk_first(call);
    uint64_t room = chunk.most + chunk.least, row = 0;
    room = call->rows < room ? call->rows : room;
    uint64_t *found = PyMem_Malloc((room + 1) * sizeof *found);
    if (found == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int result = 0;
    call->status = NAVMAP_OK;
    while (row < call->rows && call->k > 0) {
        const uint64_t n = chunk_take(&chunk, call->rows - row);
        double elapsed;
        memset(found, 0xff, n * sizeof *found); /* UINT64_MAX: refused before it was searched */
        call->status = search_rows(call, &call->options, row, n, found, &elapsed);
        if (call->status == NAVMAP_EFEWER)
            note_fewer(call, row, n, found);
        if (call->status != NAVMAP_OK)
            break;
        row += n;
        if (row < call->rows && PyErr_CheckSignals() < 0) {
            result = -1;
            break;
        }
        chunk_adapt(&chunk, elapsed);
    }
    PyMem_Free(found);
    return result;
}
