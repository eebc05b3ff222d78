/* test_readers.c -- one writer, many reader processes and threads, growth from 1 to 200 chunks
 * (T13).  No graph: readers scan every slot (tests/support/scan.h), which finds all there is.
 *
 * Beside each label the writer keeps, in memory shared with the readers, what it is about to do and
 * what has returned.  A reader looks at it before and after its query and holds the query to it:
 *   V1/V2  what is found is a whole pair, of a version begun before the query ended
 *   V3     a label whose deletion returned before the query is not found
 *   V4     nor an older version than the one whose call returned before the query
 *   V5     no label twice, unless an apply ran beside the query
 *   V7     a label untouched throughout is found, with its version
 * The same for single look-ups (store_get).  Readers are stopped (SIGSTOP) for a while at random.
 */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "storage/fail.h"
#include "tests/race/readers.h"
#include "tests/support/harness.h"
#include "tests/support/oracle.h"
#include "tests/support/scan.h"

#define CHUNKS 200u

struct reader {
    struct shared *shared;
    struct counts *counts;
    struct store *store; /* a thread's: the writer's handle */
    const char *path;    /* a process's */
    uint64_t seed;
    uint64_t before[LABELS], after[LABELS];
    uint32_t begun[LABELS];
};

static bool no(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool no(struct reader *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(r->counts->why, sizeof r->counts->why, format, args);
    va_end(args);
    return false;
}

static void look(struct reader *r, uint64_t *words)
{
    for (uint32_t i = 0; i < LABELS; i++)
        words[i] = atomic_load(&r->shared->now[i]);
}

/* Was the label left alone, and finished with, from before to after? */
static bool untouched(uint64_t before, uint64_t after)
{
    return before == after && !WORD_BUSY(before);
}

/* May this version have been found between the two looks? */
static bool allowed(struct reader *r, uint32_t number, uint32_t version, uint64_t before,
                    uint64_t after, const char *what)
{
    uint32_t newest = atomic_load(&r->shared->begun[number]);
    if (before != 0 && version < WORD_VERSION(before))
        return no(r, "V4: %s: label %u version %u, but version %u had been acknowledged", what,
                  number, version, WORD_VERSION(before));
    if (version > newest || newest == 0)
        return no(r, "V1: %s: label %u version %u, but the newest begun is %u", what, number,
                  version, newest);
    if (untouched(before, after) && (before == 0 || WORD_DELETED(before)))
        return no(r, "V3: %s: label %u version %u, but it is %s", what, number, version,
                  before == 0 ? "absent" : "deleted");
    return true;
}

static bool check_query(struct reader *r, struct scan *sc)
{
    static _Thread_local uint8_t found[LABELS];
    (void)memset(found, 0, sizeof found);
    for (uint32_t i = 0; i < sc->n; i++) {
        const struct scan_hit *hit = &sc->hits[i];
        if (hit->number >= LABELS)
            return no(r, "V1: label %u was never added", hit->number);
        found[hit->number] = 1;
        if (!allowed(r, hit->number, hit->version, r->before[hit->number], r->after[hit->number],
                     "scan"))
            return false;
    }
    for (uint32_t i = 0; i < LABELS; i++) {
        if (!untouched(r->before[i], r->after[i]) || r->before[i] == 0 ||
            WORD_DELETED(r->before[i]))
            continue;
        r->counts->untouched++;
        if (!found[i])
            return no(r, "V7: label %u version %u, untouched, was not found", i,
                      WORD_VERSION(r->before[i]));
    }
    r->counts->hits += sc->n;
    return true;
}

static bool check_get(struct reader *r, struct store *s, struct rng *rng)
{
    uint32_t number = (uint32_t)rng_below(rng, LABELS);
    float vector[64], want[64];
    uint32_t dim = store_layout(s)->dim;
    uint64_t before = atomic_load(&r->shared->now[number]);
    navmap_status status = store_get(s, truth_label(number), vector);
    uint64_t after = atomic_load(&r->shared->now[number]);
    bool alone = untouched(before, after);
    r->counts->gets++;
    if (status == NAVMAP_ENOTFOUND)
        return !alone || before == 0 || WORD_DELETED(before) ||
               no(r, "V7: get(label %u): not found, but it is version %u and untouched", number,
                  WORD_VERSION(before));
    if (status != NAVMAP_OK)
        return no(r, "get(label %u): %s", number, navmap_error_detail());
    truth_vector(number, (uint32_t)vector[1], dim, want);
    if (memcmp(vector, want, 4ull * dim) != 0)
        return no(r, "V2: get(label %u): vector of (%g, version %g)", number, (double)vector[0],
                  (double)vector[1]);
    return allowed(r, number, (uint32_t)vector[1], before, after, "get");
}

static bool odd(uint64_t label)
{
    return truth_number(label) % 2 == 1;
}

static bool ask(struct reader *r, struct store *s, struct scan *sc, struct rng *rng)
{
    bool filtered = rng_one_in(rng, 4);
    look(r, r->before);
    bool ok = scan_query(sc, filtered ? odd : NULL, rng, r->counts->why, sizeof r->counts->why);
    look(r, r->after);
    for (uint32_t i = 0; filtered && i < LABELS; i += 2)
        r->before[i] = WORD(0, 0, 0, 1); /* says nothing about what the filter kept out */
    struct store_stats stats;
    ok = ok && check_query(r, sc);
    for (int i = 0; ok && i < 8; i++)
        ok = check_get(r, s, rng);
    if (ok && rng_one_in(rng, 16)) {
        if (store_stats_read(s, &stats) != NAVMAP_OK)
            return no(r, "stats: %s", navmap_error_detail());
        if (stats.nchunks > r->counts->chunks)
            r->counts->chunks = (uint32_t)stats.nchunks;
    }
    return ok;
}

static bool read_on(struct reader *r, struct store *s)
{
    struct scan sc;
    struct rng rng = {r->seed};
    bool ok = true;
    scan_begin(&sc, s);
    sc.dawdle = r->seed % 2 == 0;
    while (ok && !atomic_load(&r->shared->stop))
        ok = ask(r, s, &sc, &rng);
    if (ok)
        ok = ask(r, s, &sc, &rng); /* once more, when all is quiet */
    r->counts->queries = sc.queries;
    r->counts->dropped = sc.dropped;
    r->counts->duplicates = sc.duplicates;
    scan_end(&sc);
    return ok;
}

static int read_process(struct reader *r)
{
    struct store_options options = {STORE_FULL, 10.0, 0};
    struct store *s = NULL;
    if (store_open(r->path, STORE_READ, &options, &s) != NAVMAP_OK) {
        (void)no(r, "open: %s", navmap_error_detail());
        atomic_fetch_add(&r->shared->ready, 1);
        return 1;
    }
    atomic_fetch_add(&r->shared->ready, 1);
    bool ok = read_on(r, s);
    return store_close(s) == NAVMAP_OK && ok ? 0 : 1;
}

static void *read_thread(void *ctx)
{
    struct reader *r = ctx;
    return read_on(r, r->store) ? NULL : r;
}

struct race {
    struct harness h;
    struct shared *shared;
    struct writer writer;
    struct reader readers[MAX_READERS];
    pid_t pids[MAX_READERS];
    pthread_t threads[MAX_READERS];
    uint32_t processes, n_threads;
    char path[320];
};

static void start_processes(struct race *r)
{
    for (uint32_t i = 0; i < r->processes; i++) {
        r->readers[i] = (struct reader){.shared = r->shared,
                                        .counts = &r->shared->counts[i],
                                        .path = r->path,
                                        .seed = harness_round_seed(&r->h, i)};
        (void)fflush(stdout);
        r->pids[i] = fork();
        if (r->pids[i] == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            _exit(read_process(&r->readers[i]));
        }
    }
    while (atomic_load(&r->shared->ready) < r->processes)
        (void)usleep(1000);
}

static void start_threads(struct race *r)
{
    for (uint32_t i = r->processes; i < r->processes + r->n_threads; i++) {
        r->readers[i] = (struct reader){.shared = r->shared,
                                        .counts = &r->shared->counts[i],
                                        .store = r->writer.store,
                                        .seed = harness_round_seed(&r->h, i)};
        if (pthread_create(&r->threads[i], NULL, read_thread, &r->readers[i]) != 0)
            abort();
    }
}

static void stop_readers(struct race *r)
{
    struct counts total = {0};
    atomic_store(&r->shared->stop, 1);
    for (uint32_t i = 0; i < r->processes + r->n_threads; i++) {
        const struct counts *c = &r->shared->counts[i];
        void *bad = NULL;
        int how = 0;
        if (i < r->processes)
            how = harness_wait(r->pids[i]);
        else
            (void)pthread_join(r->threads[i], &bad);
        harness_case(&r->h, how == 0 && !bad, i, "reader %s %u (ended with %d): %s",
                     i < r->processes ? "process" : "thread", i, how, c->why);
        harness_case(&r->h, c->queries > 0 && c->untouched > 0, i, "reader %u saw nothing", i);
        total.queries += c->queries;
        total.gets += c->gets;
        total.hits += c->hits;
        total.dropped += c->dropped;
        total.duplicates += c->duplicates;
        total.untouched += c->untouched;
        total.chunks = c->chunks > total.chunks ? c->chunks : total.chunks;
    }
    printf("%" PRIu64 " scans, %" PRIu64 " look-ups, %" PRIu64 " hits; %" PRIu64
           " candidates dropped by the re-check, %" PRIu64 " duplicates removed; %u chunks seen\n",
           total.queries, total.gets, total.hits, total.dropped, total.duplicates, total.chunks);
}

int main(int argc, char **argv)
{
    static struct race r;
    harness_begin(&r.h, "readers", argc, argv);
    double seconds = (double)harness_count(&r.h, 5, 60, 3600);
    r.processes = r.h.tier == TIER_TEST ? 3 : 16;
    r.n_threads = r.h.tier == TIER_TEST ? 1 : 2;
    uint32_t chunks = r.h.shrink ? CHUNKS / 8 : CHUNKS;
    r.shared = harness_shared(sizeof *r.shared);
    (void)snprintf(r.path, sizeof r.path, "%s/idx", r.h.dir);
    struct layout_params params = {.dim = 16,
                                   .M = 4,
                                   .ef_construction = 16,
                                   .slot_shift = 4,
                                   .code_scheme = 1,
                                   .code_header = 8};
    struct store_options options = {STORE_FULL, 10.0, 1 << 20};
    struct store *s = NULL;
    navmap_status status = store_create(r.path, &params, 0, &options, &s);
    if (status == NAVMAP_OK)
        status = store_close(s);
    if (status == NAVMAP_OK) {
        start_processes(&r); /* before this process has a handle */
        status = store_open(r.path, STORE_WRITE, &options, &s);
    }
    if (status == NAVMAP_OK) {
        r.writer = (struct writer){.store = s, .shared = r.shared, .rng = {r.h.seed}};
        start_threads(&r);
        status = writer_work(&r.writer, seconds, r.pids, r.processes, r.processes + r.n_threads);
        if (status == NAVMAP_OK)
            status = writer_fill(&r.writer, chunks);
    }
    harness_case(&r.h, status == NAVMAP_OK, 0, "the writer: %s", navmap_error_detail());
    stop_readers(&r);
    harness_case(&r.h, store_close(s) == NAVMAP_OK, 0, "close: %s", navmap_error_detail());
    char why[600];
    bool sound = oracle_verify(r.path, why, sizeof why);
    harness_case(&r.h, sound, 0, "%s", why);
    printf("%" PRIu64 " calls and %" PRIu64 " sweeps by the writer\n", r.writer.calls,
           r.writer.sweeps);
    harness_unshare(r.shared, sizeof *r.shared);
    return harness_end(&r.h);
}
