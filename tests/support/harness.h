/* harness.h -- what every torture and race program needs before its first test: options, a seed
 * that is printed and can be given back, the tier, random numbers, a directory to work in, memory
 * that outlives a killed child, and a count of what passed.
 *
 *     test_x [--seed N] [--budget N] [--only N] [--dir PATH] [--verbose]
 *
 * --budget replaces the tier's count of rounds or images.  --only runs one round, the number that
 * a failure printed, with the seed that it printed.  The environment gives NAVMAP_SEED,
 * NAVMAP_TIER (test, ci, long), NAVMAP_SHORT=1 (shrink; sanitizer builds are slow) and NAVMAP_DIR
 * (where to work: default /dev/shm, else TMPDIR).
 */
#ifndef NAVMAP_TESTS_SUPPORT_HARNESS_H
#define NAVMAP_TESTS_SUPPORT_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum tier { TIER_TEST, TIER_CI, TIER_LONG };

struct harness {
    const char *name;
    uint64_t seed;
    uint64_t budget; /* 0 = the tier decides */
    int64_t only;    /* -1 = all rounds */
    enum tier tier;
    bool shrink;
    bool verbose;
    char dir[256]; /* fresh, removed by harness_end */
    uint64_t passed, failed;
    double started;
};

/* Parse, print name, tier and seed, make the directory.  Ends the program on a bad option. */
void harness_begin(struct harness *h, const char *name, int argc, char **argv);
/* Print "N passed, N failed", remove the directory; returns the program's exit code. */
int harness_end(struct harness *h);
/* The count for this run: --budget, else by tier; a quarter of it (at least 1) when shrunk. */
uint64_t harness_count(const struct harness *h, uint64_t test, uint64_t ci, uint64_t longer);
/* Is round `i` wanted (--only)? */
bool harness_wants(const struct harness *h, uint64_t i);
/* Count one case; prints the sentence and how to repeat it when it failed. */
void harness_case(struct harness *h, bool ok, uint64_t round, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The seed of round `i`. */
uint64_t harness_round_seed(const struct harness *h, uint64_t i);
double harness_now(void); /* seconds, monotonic */

/* Zeroed memory that a forked child shares with its parent and a kill does not take away. */
void *harness_shared(size_t bytes);
void harness_unshare(void *memory, size_t bytes);

/* rm -r of `path` with everything below; a path that does not exist is fine. */
void harness_remove(const char *path);
void harness_copy_dir(const char *from, const char *to); /* plain files, one level */

/* "%s/%s" in one of eight rotating buffers. */
const char *harness_path(const char *dir, const char *name);

/* waitpid until `pid` ended; the signal it died of, or -(exit code). */
int harness_wait(pid_t pid);

/* Numbers: splitmix64, so that any seed is as good as another. */
struct rng {
    uint64_t state;
};
static inline uint64_t mix64(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}
static inline uint64_t rng_next(struct rng *r)
{
    r->state += UINT64_C(0x9E3779B97F4A7C15);
    return mix64(r->state);
}
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return n == 0 ? 0 : rng_next(r) % n;
}
/* True once in `n` draws. */
static inline bool rng_one_in(struct rng *r, uint64_t n)
{
    return rng_below(r, n) == 0;
}

#endif
