/* test_kill_engine.c -- kill -9 at random moments of the real index, through navmap.h (T1).
 *
 * A child adds, updates, marks and searches from eight threads until it is killed; two reader
 * processes live through all deaths of an index.  Whatever the child is about to do, has been told
 * is done, and the (lsn, state hash) of each commit before its commit point, it writes to memory
 * that the parent owns.  After each death:
 *   E1  the recovered lsn is at least the last acknowledged one (mode manual: the last flushed)
 *   E2  and no later than the last one begun      E3  its state hash is the one noted
 *   E4  each thread's labels are those of its changes up to one that is not older than its last
 *       acknowledged: vectors bit for bit, deletions, undeletions      E5  there are no others
 *   E6  navmap_verify finds no damage, and an exact search finds each vector asked for
 */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/index.h"
#include "engine/navmap.h"
#include "storage/fail.h"
#include "tests/support/aftermath.h"
#include "tests/support/harness.h"
#include "tests/support/oracle.h"
#include "tests/torture/kill_engine.h"

#define SURVIVORS 2u
#define ROUNDS_PER_INDEX 20u
#define PREFILL 220u /* of each writer's, and updated until a sweep is due */

uint32_t kill_engine_dim = DIM_SMALL;

static const char *const doing_names[DOINGS] = {"nothing", "add", "update", "mark", "flush"};

struct test {
    struct harness h;
    struct kill_engine k;
    struct survivor survivors[SURVIVORS];
    uint64_t deaths, after_first_ack, newer, queries, by_phase[KP_COUNT], by_doing[DOINGS];
    uint64_t slots_freed;
};

/* The check -------------------------------------------------------------------------------------*/

static bool no(char *why, size_t n, const char *format, ...) __attribute__((format(printf, 3, 4)));
static bool no(char *why, size_t n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, n, format, args);
    va_end(args);
    return false;
}

/* What the index holds of each label; false when a vector is not whole. */
static bool read_all(navmap_index *index, struct oracle_label *got, char *why, size_t n)
{
    for (uint32_t i = 0; i < LABELS; i++) {
        float found[DIM_MAX], want[DIM_MAX];
        uint64_t label = truth_label(i);
        enum slot_status status = SLOT_FREE;
        if (store_contains(index->store, label, &status) != NAVMAP_OK)
            return no(why, n, "contains(label %u): %s", i, navmap_error_detail());
        got[i] = (struct oracle_label){0, (uint32_t)status};
        if (status != SLOT_LIVE)
            continue;
        if (navmap_get(index, 1, &label, found) != NAVMAP_OK)
            return no(why, n, "E4: get(label %u): %s", i, navmap_error_detail());
        got[i].version = (uint32_t)found[1];
        truth_vector(i, got[i].version, DIM, want);
        if (memcmp(found, want, DIM * sizeof *want) != 0)
            return no(why, n, "E4: label %u: the vector of (%g, version %g)", i, (double)found[0],
                      (double)found[1]);
    }
    return true;
}

/* A deleted label's version cannot be asked for. */
static bool same(struct oracle_label a, struct oracle_label b)
{
    return a.status == b.status && (a.status != SLOT_LIVE || a.version == b.version);
}

/* E4 for one writer: some point between its last acknowledged change and its last begun one. */
static bool check_script(const struct shared *shared, uint32_t own, const struct oracle_label *got,
                         struct oracle_label *state, char *why, size_t n)
{
    const struct script *script = &shared->scripts[own];
    uint32_t acked = atomic_load(&script->acked), begun = atomic_load(&script->begun), wrong = 0;
    uint32_t first = 0;
    for (uint32_t i = 0; i < acked; i++)
        state[script->ops[i].number] =
            (struct oracle_label){script->ops[i].version, script->ops[i].status};
    for (uint32_t i = own; i < LABELS; i += WRITERS) {
        if (!same(state[i], got[i]) && wrong++ == 0)
            first = i;
    }
    struct oracle_label want = state[first];
    for (uint32_t i = acked; i < begun && wrong > 0; i++) {
        const struct op *op = &script->ops[i];
        wrong -= !same(state[op->number], got[op->number]);
        state[op->number] = (struct oracle_label){op->version, op->status};
        wrong += !same(state[op->number], got[op->number]);
    }
    return wrong == 0 ||
           no(why, n,
              "E4: writer %u: label %u is version %u status %u, after the %u acknowledged "
              "changes it was version %u status %u, and none of the %u later ones fits",
              own, first, got[first].version, got[first].status, acked, want.version, want.status,
              begun - acked);
}

static bool check_search(navmap_index *index, const struct oracle_label *got, struct rng *rng,
                         char *why, size_t n)
{
    struct navmap_search_options options = {
        .struct_size = sizeof options, .ef = 40, .allow_fewer = 1};
    for (int i = 0; i < 20; i++) {
        uint32_t number = (uint32_t)rng_below(rng, LABELS);
        float query[DIM_MAX], distance = 0;
        uint64_t label = 0, found = 0;
        if (got[number].status != SLOT_LIVE)
            continue;
        truth_vector(number, got[number].version, DIM, query);
        if (navmap_search_exact(index, 1, query, 1, &options, &label, &distance, &found) !=
                NAVMAP_OK ||
            found != 1)
            return no(why, n, "E6: exact search: %s", navmap_error_detail());
        /* Inner product may prefer a longer vector to oneself. */
        if (index->layout->space == NAVMAP_L2 && (label != truth_label(number) || distance > 0))
            return no(why, n, "E6: exact search for label %u finds label %u at %g", number,
                      truth_number(label), (double)distance);
        if (navmap_search(index, 1, query, 1, &options, &label, &distance, &found) != NAVMAP_OK ||
            found != 1)
            return no(why, n, "E6: search: %s", navmap_error_detail());
    }
    return true;
}

static bool check_index(struct test *t, navmap_index *index, struct rng *rng, char *why, size_t n)
{
    static struct oracle_label got[LABELS], state[LABELS];
    struct shared *shared = t->k.shared;
    uint64_t lsn = store_last_lsn(index->store), acked = atomic_load(&shared->acked_lsn);
    if (lsn < acked)
        return no(why, n, "E1: lsn %" PRIu64 " recovered, %" PRIu64 " acknowledged", lsn, acked);
    if (lsn > atomic_load(&shared->noted_lsn) || !shared->notes[lsn].noted)
        return no(why, n, "E2: lsn %" PRIu64 " recovered, %" PRIu64 " begun", lsn,
                  atomic_load(&shared->noted_lsn));
    uint64_t hash = store_state_hash(index->store, false);
    if (hash != shared->notes[lsn].hash)
        return no(why, n, "E3: lsn %" PRIu64 ": state hash %016" PRIx64 ", noted %016" PRIx64, lsn,
                  hash, shared->notes[lsn].hash);
    if (!read_all(index, got, why, n))
        return false;
    (void)memcpy(state, shared->base, sizeof state);
    uint64_t present = 0, found = 0;
    for (uint32_t own = 0; own < WRITERS; own++) {
        if (!check_script(shared, own, got, state, why, n))
            return false;
    }
    for (uint32_t i = 0; i < LABELS; i++)
        present += got[i].status != SLOT_FREE;
    if (navmap_labels(index, true, 0, NULL, &found) != NAVMAP_OK || found != present)
        return no(why, n, "E5: %" PRIu64 " labels, expected %" PRIu64, found, present);
    if (!check_search(index, got, rng, why, n))
        return false;
    /* The next round begins with what was recovered. */
    (void)memcpy(shared->base, state, sizeof state);
    t->newer += lsn > acked;
    atomic_store(&shared->acked_lsn, lsn);
    atomic_store(&shared->noted_lsn, lsn);
    for (uint32_t i = 0; i < WRITERS; i++) {
        atomic_store(&shared->scripts[i].begun, 0);
        atomic_store(&shared->scripts[i].returned, 0);
        atomic_store(&shared->scripts[i].acked, 0);
    }
    return true;
}

static void first_finding(void *ctx, const struct navmap_finding *finding)
{
    char *why = ctx;
    if (!finding->warning && why[0] == '\0')
        (void)snprintf(why, 400, "E6: verify: %s: slot %u: %s", finding->section, finding->slot,
                       finding->message);
}

static bool check(struct test *t, struct rng *rng, char *why, size_t n)
{
    enum navmap_mode mode = rng_one_in(rng, 4) ? NAVMAP_READ : NAVMAP_WRITE;
    struct navmap_verify_result verdict = {0};
    navmap_index *index = NULL;
    if (navmap_open(t->k.path, mode, NULL, &index) != NAVMAP_OK)
        return no(why, n, "open: %s", navmap_error_detail());
    bool ok = check_index(t, index, rng, why, n);
    struct navmap_stats stats = {.struct_size = sizeof stats};
    if (navmap_get_stats(index, &stats) == NAVMAP_OK)
        t->slots_freed += stats.n_free;
    if (navmap_close(index) != NAVMAP_OK && ok)
        ok = no(why, n, "close: %s", navmap_error_detail());
    if (ok && (navmap_verify(t->k.path, false, first_finding, why, &verdict) != NAVMAP_OK ||
               verdict.damaged > 0))
        ok = why[0] != '\0' ? false : no(why, n, "E6: verify: %s", navmap_error_detail());
    return ok;
}

/* Rounds ----------------------------------------------------------------------------------------*/

static void pause_us(uint64_t us)
{
    const struct timespec pause = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    (void)nanosleep(&pause, NULL);
}

/* Labels of every writer, updated until a sweep is due: the first rounds run beside one. */
static navmap_status prefill(struct test *t, navmap_index *index)
{
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < PREFILL * WRITERS; i++) {
            float vector[DIM_MAX];
            uint64_t label = truth_label(i);
            uint32_t version = atomic_fetch_add(&t->k.shared->version, 1);
            truth_vector(i, version, DIM, vector);
            TRY(navmap_add(index, 1, vector, &label, NULL, NULL));
            t->k.shared->base[i] = (struct oracle_label){version, SLOT_LIVE};
        }
    }
    return navmap_flush(index);
}

static bool new_index(struct test *t, uint64_t seed, char *why, size_t n)
{
    struct rng rng = {seed};
    struct shared *shared = t->k.shared;
    for (uint32_t i = 0; i < SURVIVORS; i++) {
        if (!survivor_stop(&t->survivors[i], &t->queries, why, n))
            return false;
    }
    harness_remove(t->k.path);
    (void)memset(shared->base, 0, sizeof shared->base);
    for (uint64_t i = 0; i <= atomic_load(&shared->noted_lsn); i++)
        shared->notes[i].noted = false;
    atomic_store(&shared->version, 1);
    kill_engine_dim = rng_one_in(&rng, 3) ? DIM_MAX : DIM_SMALL;
    t->k.checkpoint_bytes = (uint64_t)32768 << rng_below(&rng, 5);
    struct navmap_options options = {.struct_size = sizeof options,
                                     .dim = DIM,
                                     .space = rng_one_in(&rng, 3) ? NAVMAP_IP : NAVMAP_L2,
                                     .M = 4 + (uint32_t)rng_below(&rng, 5),
                                     .ef_construction = 30,
                                     .durability = NAVMAP_MANUAL,
                                     .slot_shift = 4 + (uint32_t)rng_below(&rng, 3)};
    navmap_index *index = NULL;
    navmap_status status = navmap_create(t->k.path, &options, &index);
    if (status == NAVMAP_OK)
        status = prefill(t, index);
    if (status != NAVMAP_OK)
        return no(why, n, "create: %s", navmap_error_detail());
    uint64_t lsn = store_last_lsn(index->store);
    shared->notes[lsn] = (struct note){store_state_hash(index->store, false), true};
    atomic_store(&shared->noted_lsn, lsn);
    atomic_store(&shared->acked_lsn, lsn);
    if (navmap_close(index) != NAVMAP_OK)
        return no(why, n, "close: %s", navmap_error_detail());
    for (uint32_t i = 0; i < SURVIVORS; i++) {
        if (!survivor_start(&t->survivors[i], t->k.path, seed + i))
            return no(why, n, "no reader could be started");
    }
    return true;
}

/* The oracle's hashing between C2 and C3, and the time between calls, take most of a life: wait
 * for the child to be elsewhere, so that not most of the deaths fall there. */
static void await_rarer_step(const struct test *t)
{
    double until = harness_now() + 0.03;
    for (;;) {
        uint32_t phase = atomic_load(&t->k.shared->phase);
        if ((phase != KP_C2 && phase != KP_C7 && phase != KP_C1_BEFORE) || harness_now() > until)
            return;
    }
}

static bool work_and_die(struct test *t, struct rng *rng, char *why, size_t n)
{
    bool early = rng_one_in(rng, 25);
    uint32_t before = atomic_load(&t->k.shared->acks);
    uint32_t full = t->k.durability == NAVMAP_FULL;
    uint32_t wanted = early ? 0 : 1 + (uint32_t)rng_below(rng, full ? 60 : 6);
    t->k.shared->error[0] = '\0';
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        kill_engine_child(&t->k, rng_next(rng));
    double until = harness_now() + 30.0;
    while (atomic_load(&t->k.shared->acks) - before < wanted && harness_now() < until &&
           t->k.shared->error[0] == '\0')
        pause_us(50);
    pause_us(rng_below(rng, 2500));
    if (!early && rng_below(rng, 5) < 3)
        await_rarer_step(t);
    t->after_first_ack += atomic_load(&t->k.shared->acks) != before;
    (void)kill(pid, SIGKILL);
    int how = harness_wait(pid);
    if (how != SIGKILL)
        return no(why, n, "the child ended with %d: %s", how, t->k.shared->error);
    if (atomic_load(&t->k.shared->acks) - before < wanted)
        return no(why, n, "no acknowledgement within 30 s");
    t->deaths++;
    t->by_phase[atomic_load(&t->k.shared->phase)]++;
    for (uint32_t i = 0; i < WRITERS; i++)
        t->by_doing[atomic_load(&t->k.shared->scripts[i].doing)]++;
    for (uint32_t i = 0; i < WRITERS; i++)
        atomic_store(&t->k.shared->scripts[i].doing, IDLE);
    return true;
}

static void one(struct test *t, uint64_t round)
{
    char why[700] = "";
    uint64_t seed = harness_round_seed(&t->h, round);
    struct rng rng = {seed};
    bool ok = round % ROUNDS_PER_INDEX > 0 || new_index(t, seed, why, sizeof why);
    t->k.durability = round % 2 ? NAVMAP_MANUAL : NAVMAP_FULL;
    ok = ok && work_and_die(t, &rng, why, sizeof why) && check(t, &rng, why, sizeof why);
    harness_case(&t->h, ok, round, "mode %s, killed behind %s: %s",
                 t->k.durability == NAVMAP_FULL ? "full" : "manual",
                 io_kill_point_names[atomic_load(&t->k.shared->phase)], why);
}

static void report(const struct test *t)
{
    printf("%" PRIu64
           " deaths, %.1f %% after the first acknowledgement of the round; recovered to a "
           "later commit than acknowledged %" PRIu64 "; readers beside asked %" PRIu64 " queries\n",
           t->deaths, 100.0 * (double)t->after_first_ack / (double)(t->deaths ? t->deaths : 1),
           t->newer, t->queries);
    printf("  calls under way, %u threads each time:", WRITERS);
    for (int i = 0; i < DOINGS; i++)
        printf(" %s %" PRIu64 "%s", doing_names[i], t->by_doing[i], i + 1 < DOINGS ? "," : "\n");
    for (int i = 0; i < KP_COUNT; i++) {
        if (t->by_phase[i] > 0)
            printf("  killed behind %s: %" PRIu64 "\n", io_kill_point_names[i], t->by_phase[i]);
    }
}

int main(int argc, char **argv)
{
    static struct test t;
    char why[700];
    harness_begin(&t.h, "kill_engine", argc, argv);
    uint64_t rounds = harness_count(&t.h, 20, 500, 10000);
    t.k.shared = harness_shared(sizeof *t.k.shared);
    (void)snprintf(t.k.path, sizeof t.k.path, "%s/idx", t.h.dir);
    for (uint64_t round = 0; round < rounds && t.h.failed == 0; round++) {
        /* A round stands on the earlier ones of its index: --only runs these, too. */
        if (t.h.only < 0 || (round / ROUNDS_PER_INDEX == (uint64_t)t.h.only / ROUNDS_PER_INDEX &&
                             round <= (uint64_t)t.h.only))
            one(&t, round);
    }
    for (uint32_t i = 0; i < SURVIVORS; i++) {
        bool reader = survivor_stop(&t.survivors[i], &t.queries, why, sizeof why);
        harness_case(&t.h, reader, rounds, "%s", why);
    }
    report(&t);
    harness_case(&t.h, t.after_first_ack * 10 >= t.deaths * 9 || t.deaths < 100, 0,
                 "only %" PRIu64 " of %" PRIu64 " deaths came after an acknowledgement",
                 t.after_first_ack, t.deaths);
    harness_case(&t.h, t.slots_freed > 0, 0, "no sweep ever ended");
    harness_unshare(t.k.shared, sizeof *t.k.shared);
    return harness_end(&t.h);
}
