/* aftermath.c -- after the crash; see aftermath.h. */
#include "tests/support/aftermath.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "storage/fail.h"
#include "tests/support/scan.h"

bool aftermath_check(struct oracle *o, const char *path, uint64_t seed, uint64_t *ret_lsn,
                     char *why, size_t n)
{
    struct store_options options = {STORE_FULL, 20.0, 0};
    struct store *s = NULL;
    enum store_mode mode = seed % 4 == 0 ? STORE_READ : STORE_WRITE;
    navmap_status status = store_open(path, mode, &options, &s);
    if (status != NAVMAP_OK) {
        (void)snprintf(why, n, "open: %s: %s", navmap_strerror(status), navmap_error_detail());
        return false;
    }
    uint64_t lsn = store_last_lsn(s);
    bool ok = oracle_check(o, s, lsn, atomic_load(&o->acked_lsn), why, n);
    status = store_close(s);
    if (ok && status != NAVMAP_OK) {
        (void)snprintf(why, n, "close: %s", navmap_error_detail());
        ok = false;
    }
    if (!ok || !oracle_verify(path, why, n))
        return false;
    oracle_rewind(o, lsn);
    *ret_lsn = lsn;
    return true;
}

bool aftermath_go_on(struct workload *w, uint32_t steps, char *why, size_t n)
{
    struct store_options options = {STORE_FULL, 20.0, 0};
    struct store *s = NULL;
    navmap_status status = workload_open(w, false);
    for (uint32_t i = 0; i < steps && status == NAVMAP_OK; i++)
        status = workload_step(w);
    if (status == NAVMAP_OK)
        status = workload_close(w);
    if (status == NAVMAP_OK)
        status = store_open(w->path, STORE_READ, &options, &s);
    if (status != NAVMAP_OK) {
        (void)snprintf(why, n, "going on: %s: %s", navmap_strerror(status), navmap_error_detail());
        workload_drop(w);
        return false;
    }
    uint64_t last = atomic_load(&w->oracle->noted_lsn);
    bool ok = oracle_check(w->oracle, s, last, last, why, n);
    if (store_close(s) != NAVMAP_OK && ok) {
        (void)snprintf(why, n, "closing a reader: %s", navmap_error_detail());
        ok = false;
    }
    return ok;
}

/* Survivor -------------------------------------------------------------------------------------*/

struct survivor_shared {
    _Atomic int ready, stop;
    _Atomic uint64_t queries;
    char why[600];
};

static int survive(struct survivor_shared *shared, const char *path, uint64_t seed)
{
    struct store_options options = {STORE_FULL, 20.0, 0};
    struct store *s = NULL;
    struct scan scan;
    struct rng rng = {seed};
    enum slot_status ignored;
    if (store_open(path, STORE_READ, &options, &s) != NAVMAP_OK ||
        store_contains(s, 1, &ignored) != NAVMAP_OK) {
        (void)snprintf(shared->why, sizeof shared->why, "survivor: %s", navmap_error_detail());
        atomic_store(&shared->ready, 1);
        return 1;
    }
    scan_begin(&scan, s);
    scan.dawdle = true;
    atomic_store(&shared->ready, 1);
    int code = 0;
    while (!atomic_load(&shared->stop) && code == 0) {
        const struct timespec pause = {0, 200000};
        if (!scan_query(&scan, NULL, &rng, shared->why, sizeof shared->why) ||
            store_contains(s, rng_next(&rng), &ignored) != NAVMAP_OK)
            code = 1;
        (void)nanosleep(&pause, NULL);
    }
    if (code == 1 && shared->why[0] == '\0')
        (void)snprintf(shared->why, sizeof shared->why, "contains: %s", navmap_error_detail());
    atomic_store(&shared->queries, scan.queries);
    scan_end(&scan);
    if (store_close(s) != NAVMAP_OK)
        code = 1;
    return code;
}

bool survivor_start(struct survivor *ret, const char *path, uint64_t seed)
{
    ret->shared = harness_shared(sizeof *ret->shared);
    (void)fflush(stdout);
    ret->pid = fork();
    if (ret->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(survive(ret->shared, path, seed));
    }
    while (ret->pid > 0 && !atomic_load(&ret->shared->ready)) {
        const struct timespec pause = {0, 100000};
        if (kill(ret->pid, 0) != 0)
            break;
        (void)nanosleep(&pause, NULL);
    }
    return ret->pid > 0;
}

bool survivor_stop(struct survivor *s, uint64_t *queries, char *why, size_t n)
{
    if (s->pid <= 0)
        return true;
    atomic_store(&s->shared->stop, 1);
    int code = harness_wait(s->pid);
    bool ok = code == 0;
    if (!ok)
        (void)snprintf(why, n, "survivor (%s %d): %s", code > 0 ? "signal" : "exit",
                       code > 0 ? code : -code, s->shared->why);
    *queries += atomic_load(&s->shared->queries);
    harness_unshare(s->shared, sizeof *s->shared);
    *s = (struct survivor){0, NULL};
    return ok;
}
