/* test_crash_synthetic.c -- kill -9 at random moments of a random life, round after round over the
 * same index (T1 without the graph).
 *
 * A child works until it is killed; the parent, which no kill touches, holds the oracle.  Some of
 * the deaths come while the child is still recovering from the one before, or are repeated there.
 * A reader process stays attached over all the rounds of an index.  Where the deaths fell is
 * reported by the last step passed.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "storage/fail.h"
#include "tests/support/aftermath.h"
#include "tests/support/harness.h"
#include "tests/support/oracle.h"
#include "tests/support/workload.h"

#define ROUNDS_PER_INDEX 10u

struct test {
    struct harness h;
    struct oracle *oracle;
    struct workload workload;
    struct workload_options options;
    struct survivor survivor;
    char path[320];
    uint64_t by_phase[KP_COUNT], after_first_ack, deaths, in_recovery, queries, newer;
};

static struct oracle *phase_oracle;

static void on_kill_point(void *ctx, enum kill_point point)
{
    (void)ctx;
    atomic_store_explicit(&phase_oracle->phase, (uint32_t)point, memory_order_relaxed);
}

static const struct io_hooks phase_hooks = {NULL, NULL, NULL, on_kill_point};

/* Works until it is killed. */
static void child(struct test *t, uint64_t seed)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    phase_oracle = t->oracle;
    io_hooks = &phase_hooks;
    workload_init(&t->workload, t->path, &t->options, seed, t->oracle);
    navmap_status status = workload_open(&t->workload, true);
    while (status == NAVMAP_OK)
        status = workload_step(&t->workload);
    (void)snprintf(t->oracle->error, sizeof t->oracle->error, "%s: %s", navmap_strerror(status),
                   navmap_error_detail());
    _exit(1);
}

static void pause_us(uint64_t us)
{
    const struct timespec pause = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    (void)nanosleep(&pause, NULL);
}

/* The oracle's hashing between C2 and C3, and the time between calls, take most of a life: wait
 * for the child to be elsewhere, so that not most of the deaths fall there. */
static void await_rarer_step(const struct test *t)
{
    double until = harness_now() + 0.03;
    for (;;) {
        uint32_t phase = atomic_load(&t->oracle->phase);
        if ((phase != KP_C2 && phase != KP_C7 && phase != KP_C1_BEFORE) || harness_now() > until)
            return;
    }
}

/* Let a child work, kill it, see that it died of that. */
static bool work_and_die(struct test *t, struct rng *rng, char *why, size_t n)
{
    bool early = rng_one_in(rng, 20); /* perhaps still recovering */
    uint32_t acks = atomic_load(&t->oracle->acks);
    uint32_t wanted = early ? 0 : 1 + (uint32_t)rng_below(rng, 30);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        child(t, rng_next(rng));
    double until = harness_now() + 20.0;
    while (atomic_load(&t->oracle->acks) - acks < wanted && harness_now() < until &&
           t->oracle->error[0] == '\0')
        pause_us(50);
    pause_us(rng_below(rng, early ? 1200 : 1500));
    if (!early && rng_one_in(rng, 2))
        await_rarer_step(t);
    t->after_first_ack += atomic_load(&t->oracle->acks) != acks;
    (void)kill(pid, SIGKILL);
    int how = harness_wait(pid);
    if (how != SIGKILL) {
        (void)snprintf(why, n, "the child ended with %d: %s", how, t->oracle->error);
        return false;
    }
    uint32_t phase = atomic_load(&t->oracle->phase);
    t->deaths++;
    t->by_phase[phase]++;
    t->in_recovery += phase >= KP_O1 && phase <= KP_O8;
    return true;
}

/* Recover in a child that is killed, too, if it is slow enough. */
static void die_recovering(struct test *t, struct rng *rng)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct store_options options = {STORE_FULL, 20.0, 0};
        struct store *s;
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        phase_oracle = t->oracle;
        io_hooks = &phase_hooks;
        _exit(store_open(t->path, STORE_WRITE, &options, &s) == NAVMAP_OK ? 0 : 1);
    }
    pause_us(rng_below(rng, 700));
    (void)kill(pid, SIGKILL);
    (void)harness_wait(pid);
}

static bool new_index(struct test *t, uint64_t round, uint64_t seed, char *why, size_t n)
{
    if (!survivor_stop(&t->survivor, &t->queries, why, n))
        return false;
    harness_remove(t->path);
    oracle_reset(t->oracle);
    t->options = workload_draw(seed, round / ROUNDS_PER_INDEX % 2 ? STORE_MANUAL : STORE_FULL);
    workload_init(&t->workload, t->path, &t->options, seed, t->oracle);
    navmap_status status = workload_create(&t->workload);
    if (status == NAVMAP_OK)
        status = workload_close(&t->workload);
    if (status != NAVMAP_OK) {
        (void)snprintf(why, n, "create: %s", navmap_error_detail());
        return false;
    }
    return survivor_start(&t->survivor, t->path, seed);
}

static void one(struct test *t, uint64_t round, bool fresh)
{
    char why[700] = "";
    uint64_t seed = harness_round_seed(&t->h, round), lsn = 0;
    struct rng rng = {seed};
    bool ok = !fresh || new_index(t, round, seed, why, sizeof why);
    uint64_t acked = 0;
    if (ok)
        ok = work_and_die(t, &rng, why, sizeof why);
    if (ok) {
        acked = atomic_load(&t->oracle->acked_lsn);
        for (uint64_t again = rng_below(&rng, 3); again > 0; again--)
            die_recovering(t, &rng);
        ok = aftermath_check(t->oracle, t->path, rng_next(&rng), &lsn, why, sizeof why);
    }
    t->newer += lsn > acked;
    harness_case(&t->h, ok, round, "mode %s, killed behind %s: %s",
                 t->options.durability == STORE_FULL ? "full" : "manual",
                 io_kill_point_names[atomic_load(&t->oracle->phase)], why);
}

static void report(const struct test *t)
{
    printf("%" PRIu64 " deaths, %.1f %% after the first acknowledgement, %" PRIu64
           " inside recovery; recovered to a later commit than acknowledged %" PRIu64
           "; the reader asked %" PRIu64 " queries\n",
           t->deaths, 100.0 * (double)t->after_first_ack / (double)(t->deaths ? t->deaths : 1),
           t->in_recovery, t->newer, t->queries);
    for (int i = 0; i < KP_COUNT; i++) {
        if (t->by_phase[i] > 0)
            printf("  killed behind %s: %" PRIu64 "\n", io_kill_point_names[i], t->by_phase[i]);
    }
}

int main(int argc, char **argv)
{
    static struct test t;
    char why[700];
    harness_begin(&t.h, "crash_synthetic", argc, argv);
    uint64_t rounds = harness_count(&t.h, 20, 500, 10000);
    t.oracle = oracle_new();
    (void)snprintf(t.path, sizeof t.path, "%s/idx", t.h.dir);
    for (uint64_t round = 0; round < rounds && t.h.failed == 0; round++) {
        /* A round stands on the earlier ones of its index: --only runs these, too. */
        if (t.h.only < 0 || (round / ROUNDS_PER_INDEX == (uint64_t)t.h.only / ROUNDS_PER_INDEX &&
                             round <= (uint64_t)t.h.only))
            one(&t, round, round % ROUNDS_PER_INDEX == 0);
    }
    bool reader = survivor_stop(&t.survivor, &t.queries, why, sizeof why);
    harness_case(&t.h, reader, rounds, "%s", why);
    report(&t);
    harness_case(&t.h, t.after_first_ack * 10 >= t.deaths * 9 || t.deaths < 100, 0,
                 "only %" PRIu64 " of %" PRIu64 " deaths came after an acknowledgement",
                 t.after_first_ack, t.deaths);
    oracle_free(t.oracle);
    return harness_end(&t.h);
}
