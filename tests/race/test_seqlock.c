/* test_seqlock.c -- a few slots reused as fast as commits allow, under eight reading threads (T16).
 *
 * The writer updates all labels in one commit and sweeps the dead slots in the next, so that each
 * slot is rewritten over and over while readers copy it.  Payloads are long and a function of
 * (label, version): a copy that mixes two lives, or a label that the filter did not see, is caught
 * by scan_query (V2, V5).  Versions must not run backwards for one reader (V4).
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"
#include "tests/support/harness.h"
#include "tests/support/oracle.h"
#include "tests/support/scan.h"

#define LABELS 8u
#define READERS 8u
#define DIM 256u
#define CODE_HEADER 8u

struct shared {
    _Atomic uint32_t acked[LABELS], begun[LABELS]; /* versions */
    _Atomic bool stop;
};

struct reader {
    struct shared *shared;
    struct store *store;
    uint64_t seed, queries, dropped, duplicates, hits;
    char why[600];
};

static bool odd(uint64_t label)
{
    return truth_number(label) % 2 == 1;
}

static bool check(struct reader *r, const struct scan *sc, const uint32_t *before)
{
    for (uint32_t i = 0; i < sc->n; i++) {
        const struct scan_hit *hit = &sc->hits[i];
        bool known = hit->number < LABELS;
        if (known && hit->version >= before[hit->number] &&
            hit->version <= atomic_load(&r->shared->begun[hit->number]))
            continue;
        (void)snprintf(r->why, sizeof r->why, "V4: label %u version %u, %u was acknowledged before",
                       hit->number, hit->version, known ? before[hit->number] : 0);
        return false;
    }
    r->hits += sc->n;
    return true;
}

static void *read_on(void *ctx)
{
    struct reader *r = ctx;
    struct scan sc;
    struct rng rng = {r->seed};
    bool ok = true;
    scan_begin(&sc, r->store);
    sc.dawdle = r->seed % 2 == 0;
    while (ok && !atomic_load(&r->shared->stop)) {
        uint32_t before[LABELS];
        for (uint32_t i = 0; i < LABELS; i++)
            before[i] = atomic_load(&r->shared->acked[i]);
        ok = scan_query(&sc, rng_one_in(&rng, 3) ? NULL : odd, &rng, r->why, sizeof r->why) &&
             check(r, &sc, before);
    }
    r->queries = sc.queries;
    r->dropped = sc.dropped;
    r->duplicates = sc.duplicates;
    scan_end(&sc);
    return ok ? NULL : r;
}

/* All labels get a new version, in one commit.  Nobody links: rows stay empty. */
static navmap_status update_all(struct store *s, struct shared *shared, uint32_t version,
                                bool direct)
{
    static float vector[DIM];
    static uint8_t code[2 * DIM];
    TRY(store_write_begin(s, direct ? 200 : LABELS));
    navmap_status status = NAVMAP_OK;
    for (uint32_t i = 0; i < LABELS && status == NAVMAP_OK; i++) {
        struct store_item item;
        status = store_item_begin(s, truth_label(i), 0, &item);
        if (status != NAVMAP_OK)
            break;
        atomic_store(&shared->begun[i], version);
        truth_vector(i, version, DIM, vector);
        truth_code(i, version, DIM + CODE_HEADER, code);
        store_item_payload(s, &item, code, vector);
        store_item_end(s, &item);
        store_entry_set(s, item.slot, item.level);
    }
    store_write_end(s);
    TRY(status);
    TRY(store_settle(s));
    for (uint32_t i = 0; i < LABELS; i++)
        atomic_store(&shared->acked[i], version);
    return NAVMAP_OK;
}

static navmap_status sweep(struct store *s, uint64_t *reused)
{
    uint64_t dead = 0;
    TRY(store_write_begin(s, 0));
    navmap_status status = store_sweep_begin(s, false, &dead);
    if (status == NAVMAP_OK && store_sweep_running(s)) {
        store_sweep_advance(s, extent_slots(store_edit(s)->root.extent));
        status = store_sweep_end(s);
    }
    store_write_end(s);
    TRY(status);
    *reused += dead;
    return store_settle(s);
}

static navmap_status churn(struct store *s, struct shared *shared, struct rng *rng, uint64_t reuses,
                           const struct reader *readers, uint64_t *ret_reused)
{
    bool fine = true;
    for (uint32_t version = 2; *ret_reused < reuses && fine; version++) {
        TRY(update_all(s, shared, version, rng_one_in(rng, 2)));
        TRY(sweep(s, ret_reused));
        for (uint32_t i = 0; i < READERS; i++)
            fine = fine && readers[i].why[0] == '\0';
    }
    return NAVMAP_OK;
}

int main(int argc, char **argv)
{
    static struct harness h;
    static struct shared shared;
    static struct reader readers[READERS];
    pthread_t threads[READERS];
    char path[320], why[600];
    harness_begin(&h, "seqlock", argc, argv);
    uint64_t reuses = harness_count(&h, 100000, 2000000, 1000000000), reused = 0;
    (void)snprintf(path, sizeof path, "%s/idx", h.dir);
    struct layout_params params = {.dim = DIM,
                                   .M = 4,
                                   .ef_construction = 16,
                                   .slot_shift = 4,
                                   .code_scheme = 1,
                                   .code_header = CODE_HEADER};
    struct store_options options = {STORE_FULL, 10.0, 1 << 20};
    struct store *s = NULL;
    struct rng rng = {h.seed};
    navmap_status status = store_create(path, &params, 0, &options, &s);
    if (status == NAVMAP_OK)
        status = update_all(s, &shared, 1, true);
    uint32_t n = 0;
    if (status == NAVMAP_OK) {
        for (; n < READERS; n++) {
            readers[n] =
                (struct reader){.shared = &shared, .store = s, .seed = harness_round_seed(&h, n)};
            if (pthread_create(&threads[n], NULL, read_on, &readers[n]) != 0)
                abort();
        }
        status = churn(s, &shared, &rng, reuses, readers, &reused);
        atomic_store(&shared.stop, true);
    }
    harness_case(&h, status == NAVMAP_OK, 0, "the writer: %s", navmap_error_detail());
    uint64_t queries = 0, dropped = 0, duplicates = 0, hits = 0;
    for (uint32_t i = 0; i < n; i++) {
        void *bad = NULL;
        (void)pthread_join(threads[i], &bad);
        harness_case(&h, !bad && readers[i].hits > 0, i, "reader %u: %s", i, readers[i].why);
        queries += readers[i].queries;
        dropped += readers[i].dropped;
        duplicates += readers[i].duplicates;
        hits += readers[i].hits;
    }
    printf("%" PRIu64 " slots reused; %" PRIu64 " queries, %" PRIu64 " hits, %" PRIu64
           " dropped by the re-check, %" PRIu64 " duplicates removed\n",
           reused, queries, hits, dropped, duplicates);
    harness_case(&h, dropped > 0, 0, "no reader ever met a reused slot");
    harness_case(&h, store_close(s) == NAVMAP_OK, 0, "close: %s", navmap_error_detail());
    bool sound = oracle_verify(path, why, sizeof why);
    harness_case(&h, sound, 0, "%s", why);
    return harness_end(&h);
}
