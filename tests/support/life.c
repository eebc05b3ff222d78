/* life.c -- recording a workload and asking what is left of it; see life.h. */
#include "tests/support/life.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "storage/fail.h"
#include "tests/support/aftermath.h"

static void on_event(void *ctx)
{
    struct life *l = ctx;
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 256;
        l->marks = realloc(l->marks, l->cap * sizeof l->marks[0]);
        if (!l->marks)
            abort();
    }
    l->marks[l->n++] =
        (struct life_mark){recorder_position(l->recorder), atomic_load(&l->oracle->acked_lsn),
                           atomic_load(&l->oracle->noted_lsn), l->created};
}

/* Between K1 and K3 a checkpoint holds no lock that a commit needs. */
static void at_kill_point(void *ctx, enum kill_point point)
{
    struct life *l = ctx;
    if (!l->commits_beside || l->inside || !l->workload.store ||
        (point != KP_K1 && point != KP_K2 && point != KP_K3_BEFORE) ||
        rng_one_in(&l->workload.rng, 3))
        return;
    l->inside = true;
    if (workload_beside(&l->workload) == NAVMAP_OK)
        l->beside++;
    l->inside = false;
}

void life_init(struct life *l, const char *root)
{
    (void)memset(l, 0, sizeof *l);
    l->oracle = oracle_new();
    (void)snprintf(l->root, sizeof l->root, "%s", root);
    (void)snprintf(l->path, sizeof l->path, "%s/idx", root);
}

void life_free(struct life *l)
{
    trace_free(&l->trace);
    free(l->marks);
    oracle_free(l->oracle);
}

void life_begin(struct life *l, const struct workload_options *options, uint64_t seed,
                const struct injector *injector)
{
    trace_free(&l->trace);
    harness_remove(l->root);
    (void)mkdir(l->root, 0755);
    oracle_reset(l->oracle);
    workload_init(&l->workload, l->path, options, seed, l->oracle);
    l->workload.on_event = on_event;
    l->workload.on_event_ctx = l;
    l->n = 0;
    l->created = false;
    l->recorder = recorder_start(l->root, injector, at_kill_point, l);
}

navmap_status life_create(struct life *l)
{
    TRY(workload_create(&l->workload));
    l->created = true;
    on_event(l);
    return NAVMAP_OK;
}

void life_end(struct life *l)
{
    l->workload.on_event = NULL;
    recorder_stop(l->recorder, &l->trace);
    l->recorder = NULL;
}

struct life_mark life_mark_at(const struct life *l, size_t position)
{
    size_t low = 0, high = l->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (l->marks[mid].position <= position)
            low = mid + 1;
        else
            high = mid;
    }
    return low == 0 ? (struct life_mark){0} : l->marks[low - 1];
}

/* After recovery the index must be usable: let another life begin where this one ended. */
static bool go_on(const struct life_check *c, const char *path, uint64_t lsn, char *why, size_t n)
{
    static struct workload w;
    struct oracle *o = c->second;
    oracle_reset(o);
    (void)memcpy(o->notes, c->oracle->notes, (lsn + 1) * sizeof o->notes[0]);
    (void)memcpy(o->ops, c->oracle->ops, c->oracle->notes[lsn].n_ops * sizeof o->ops[0]);
    oracle_rewind(o, lsn);
    workload_init(&w, path, c->options, c->seed, o);
    return aftermath_go_on(&w, c->go_on, why, n);
}

bool life_recover(const struct life_check *c, const char *root, uint64_t *ret_lsn, char *why,
                  size_t n)
{
    char path[320];
    struct store *s = NULL;
    struct store_options options = {STORE_FULL, 10.0, c->options->ckpt_bytes};
    (void)snprintf(path, sizeof path, "%s/idx", root);
    *ret_lsn = 0;
    navmap_status status = store_open(path, STORE_WRITE, &options, &s);
    if (status == NAVMAP_ENOINDEX && !c->mark.created)
        return true; /* the power went before the index was there */
    if (status != NAVMAP_OK) {
        (void)snprintf(why, n, "open: %s: %s", navmap_strerror(status), navmap_error_detail());
        return false;
    }
    uint64_t lsn = store_last_lsn(s);
    bool ok = oracle_check(c->oracle, s, lsn, c->mark.acked, why, n);
    if (ok && lsn > c->mark.begun) {
        (void)snprintf(why, n,
                       "E2: lsn %" PRIu64 " recovered, only %" PRIu64 " was begun at the cut", lsn,
                       c->mark.begun);
        ok = false;
    }
    status = store_close(s);
    if (ok && status != NAVMAP_OK) {
        (void)snprintf(why, n, "close: %s", navmap_error_detail());
        ok = false;
    }
    *ret_lsn = lsn;
    if (ok && c->verify)
        ok = oracle_verify(path, why, n);
    return ok && (c->go_on == 0 || go_on(c, path, lsn, why, n));
}
