/* kill_engine_child.c -- eight threads at work on one index until kill -9; see test_kill_engine.c.
 *
 * Each writer has labels of its own, so that what may be found of them after a crash is a point in
 * one sequence of changes.
 */
#include "tests/torture/kill_engine.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/index.h"
#include "storage/fail.h"
#include "tests/support/harness.h"

struct worker {
    struct kill_engine *test;
    navmap_index *index;
    uint32_t own; /* which writer */
    struct rng rng;
    struct oracle_label label[OWN];
};

static void __attribute__((noreturn))
die(struct kill_engine *k, const char *what, navmap_status status)
{
    (void)snprintf(k->shared->error, sizeof k->shared->error, "%s: %s: %s", what,
                   navmap_strerror(status), navmap_error_detail());
    _exit(1);
}

static void observe(void *ctx, struct store *s, uint64_t lsn)
{
    struct shared *shared = ctx;
    if (lsn >= NOTES_MAX)
        _exit(3);
    shared->notes[lsn] = (struct note){store_state_hash(s, true), true};
    atomic_store(&shared->noted_lsn, lsn);
}

static struct shared *phase_shared;
static void on_kill_point(void *ctx, enum kill_point point)
{
    (void)ctx;
    atomic_store_explicit(&phase_shared->phase, (uint32_t)point, memory_order_relaxed);
}
static const struct io_hooks phase_hooks = {NULL, NULL, NULL, on_kill_point};

static void raise_to(_Atomic uint64_t *word, uint64_t value)
{
    uint64_t now = atomic_load(word);
    while (now < value && !atomic_compare_exchange_weak(word, &now, value))
        continue;
}

/* A mutating call has returned: in mode full everything up to now is durable. */
static void returned(struct worker *w)
{
    struct script *script = &w->test->shared->scripts[w->own];
    uint32_t n = atomic_load(&script->begun);
    atomic_store(&script->returned, n);
    if (w->test->durability == NAVMAP_FULL) {
        raise_to(&w->test->shared->acked_lsn, store_last_lsn(w->index->store));
        atomic_store(&script->acked, n);
        atomic_fetch_add(&w->test->shared->acks, 1);
    }
    atomic_store(&script->doing, IDLE);
}

static void begin(struct worker *w, uint32_t place, uint32_t version, uint32_t status)
{
    struct script *script = &w->test->shared->scripts[w->own];
    uint32_t n = atomic_load(&script->begun);
    if (n >= OPS_MAX)
        _exit(3);
    script->ops[n] = (struct op){place * WRITERS + w->own, version, status};
    w->label[place] = (struct oracle_label){version, status};
    atomic_store(&script->begun, n + 1);
}

/* Different labels, absent or present as `update` says, as far as there are any. */
static void add_some(struct worker *w, bool update)
{
    float vectors[BATCH * DIM_MAX];
    uint64_t labels[BATCH];
    uint32_t want = rng_one_in(&w->rng, 2) ? 1 : 1 + (uint32_t)rng_below(&w->rng, BATCH), n = 0;
    uint32_t place = (uint32_t)rng_below(&w->rng, OWN);
    atomic_store(&w->test->shared->scripts[w->own].doing, update ? UPDATING : ADDING);
    for (uint32_t i = 0; i < OWN && n < want; i++) {
        uint32_t p = (place + 7 * i) % OWN;
        if ((w->label[p].status != SLOT_FREE) != update)
            continue;
        uint32_t version = atomic_fetch_add(&w->test->shared->version, 1);
        begin(w, p, version, SLOT_LIVE);
        labels[n] = truth_label(p * WRITERS + w->own);
        truth_vector(p * WRITERS + w->own, version, DIM, vectors + (size_t)n * DIM);
        n++;
    }
    uint64_t added = 0;
    navmap_status status = navmap_add(w->index, n, vectors, labels, NULL, &added);
    if (status != NAVMAP_OK || added != n)
        die(w->test, "navmap_add", status);
    returned(w);
}

static void mark_one(struct worker *w)
{
    for (int i = 0; i < 20; i++) {
        uint32_t p = (uint32_t)rng_below(&w->rng, OWN);
        if (w->label[p].status == SLOT_FREE)
            continue;
        bool deleted = w->label[p].status == SLOT_LIVE;
        uint64_t label = truth_label(p * WRITERS + w->own);
        atomic_store(&w->test->shared->scripts[w->own].doing, MARKING);
        begin(w, p, w->label[p].version, deleted ? SLOT_DELETED : SLOT_LIVE);
        navmap_status status =
            deleted ? navmap_delete(w->index, label) : navmap_undelete(w->index, label);
        if (status != NAVMAP_OK)
            die(w->test, "mark", status);
        returned(w);
        return;
    }
}

/* In mode manual an acknowledgement is a flush, of what had returned before it. */
static void flush(struct worker *w)
{
    struct shared *shared = w->test->shared;
    uint32_t n[WRITERS];
    for (uint32_t i = 0; i < WRITERS; i++)
        n[i] = atomic_load(&shared->scripts[i].returned);
    atomic_store(&shared->scripts[w->own].doing, FLUSHING);
    navmap_status status = navmap_flush(w->index);
    if (status != NAVMAP_OK)
        die(w->test, "navmap_flush", status);
    raise_to(&shared->acked_lsn, store_last_lsn(w->index->store));
    for (uint32_t i = 0; i < WRITERS; i++) {
        uint32_t old = atomic_load(&shared->scripts[i].acked);
        while (old < n[i] && !atomic_compare_exchange_weak(&shared->scripts[i].acked, &old, n[i]))
            continue;
    }
    atomic_fetch_add(&shared->acks, 1);
    atomic_store(&shared->scripts[w->own].doing, IDLE);
}

/* Writers 0..3 mostly add, 4 mostly marks, 5 mostly updates. */
static void *write_on(void *ctx)
{
    struct worker *w = ctx;
    uint32_t adds = w->own < 4 ? 60 : 25, updates = w->own < 4 ? 25 : w->own == 4 ? 15 : 60;
    for (;;) {
        uint32_t draw = (uint32_t)rng_below(&w->rng, 100);
        if (rng_one_in(&w->rng, 25))
            flush(w);
        else if (draw < adds)
            add_some(w, false);
        else if (draw < adds + updates)
            add_some(w, true);
        else
            mark_one(w);
    }
    return NULL;
}

static void *search_on(void *ctx)
{
    struct worker *w = ctx;
    struct navmap_search_options options = {
        .struct_size = sizeof options, .ef = 20, .allow_fewer = 1};
    for (;;) {
        float query[DIM_MAX], distances[5];
        uint64_t labels[5], found = 0;
        truth_vector((uint32_t)rng_below(&w->rng, LABELS), 1, DIM, query);
        navmap_status status =
            navmap_search(w->index, 1, query, 5, &options, labels, distances, &found);
        if (status != NAVMAP_OK)
            die(w->test, "navmap_search", status);
        for (uint64_t i = 0; i < found; i++) {
            if (truth_number(labels[i]) >= LABELS || (i > 0 && distances[i] < distances[i - 1]))
                die(w->test, "navmap_search: a label that nobody added, or not in order", status);
        }
    }
    return NULL;
}

void kill_engine_child(struct kill_engine *k, uint64_t seed)
{
    static struct worker workers[WRITERS + SEARCHERS];
    struct navmap_open_options options = {sizeof options, k->durability, 20.0, k->checkpoint_bytes};
    navmap_index *index = NULL;
    pthread_t thread;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    phase_shared = k->shared;
    io_hooks = &phase_hooks;
    navmap_status status = navmap_open(k->path, NAVMAP_WRITE, &options, &index);
    if (status != NAVMAP_OK)
        die(k, "navmap_open", status);
    store_observe_commits(index->store, observe, k->shared);
    for (uint32_t i = 0; i < WRITERS + SEARCHERS; i++) {
        struct worker *w = &workers[i];
        w->test = k;
        w->index = index;
        w->own = i;
        w->rng.state = mix64(seed + i);
        for (uint32_t p = 0; p < OWN && i < WRITERS; p++)
            w->label[p] = k->shared->base[p * WRITERS + i];
        if (pthread_create(&thread, NULL, i < WRITERS ? write_on : search_on, w) != 0)
            die(k, "pthread_create", NAVMAP_ENOMEM);
    }
    for (;;)
        (void)pause();
}
