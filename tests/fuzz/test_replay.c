/* test_replay.c -- every fuzz target over its corpus and over random scripts, without a fuzzer.
 *
 *     fuzz-replay [--seed N] [--budget N] [--only N] [FILE TARGET]
 *
 * The budget is the number of random scripts for each target.  An input that kills the program is
 * named last.  With FILE and TARGET nothing but that input is run.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/script.h"
#include "tests/fuzz/target.h"

static const struct fuzz_target *const targets[] = {&fuzz_data, &fuzz_sealed, &fuzz_hnswlib,
                                                    &fuzz_record};
#define N_TARGETS (sizeof targets / sizeof *targets)
#define INPUT_SECONDS 60u /* one that takes longer hangs */
#define ENOUGH 50u        /* random scripts to say what most of them do */

static char current[600];

static void died(int signal)
{
    static const char text[] = "the input was: ";
    (void)!write(2, text, sizeof text - 1);
    (void)!write(2, current, strlen(current));
    (void)!write(2, "\n", 1);
    (void)raise(signal); /* by its default action: SA_RESETHAND */
}

static void watch(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM};
    const struct sigaction action = {.sa_handler = died, .sa_flags = SA_RESETHAND | SA_NODEFER};
    for (uint32_t i = 0; i < sizeof signals / sizeof *signals; i++)
        (void)sigaction(signals[i], &action, NULL);
}

static void run(const struct fuzz_target *t, const uint8_t *bytes, size_t n)
{
    (void)alarm(INPUT_SECONDS);
    t->run(bytes, n);
    (void)alarm(0);
}

static void run_file(const struct fuzz_target *t, const char *path)
{
    uint8_t bytes[2 * FUZZ_SCRIPT_BYTES];
    FILE *f = fopen(path, "rb");
    (void)snprintf(current, sizeof current, "%s", path);
    fuzz_check(f != NULL, "%s does not open", path);
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    (void)fclose(f);
    run(t, bytes, n);
}

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

/* 0 when there is none, which is a failure: the corpus is committed. */
static int run_corpus(const struct fuzz_target *t)
{
    const char *root = getenv("NAVMAP_SOURCE_ROOT");
    struct dirent **entries = NULL;
    char folder[400], path[500];
    (void)snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%s", root ? root : ".", t->name);
    const int n = scandir(folder, &entries, visible, alphasort);
    for (int i = 0; i < n; i++) {
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name) < sizeof path)
            run_file(t, path);
        free(entries[i]);
    }
    free(entries);
    return n > 0 ? n : 0;
}

/* Scripts that are all refused, or all taken, try nothing. */
static bool run_random(const struct harness *h, const struct fuzz_target *t, uint64_t count)
{
    uint8_t script[FUZZ_SCRIPT_BYTES];
    fuzz_tally = (struct fuzz_tally){0, 0};
    for (uint64_t i = 0; i < count; i++) {
        if (!harness_wants(h, i))
            continue;
        struct rng r = {harness_round_seed(h, i)};
        (void)snprintf(current, sizeof current, "%s, random script %llu of seed %llu", t->name,
                       (unsigned long long)i, (unsigned long long)h->seed);
        run(t, script, fuzz_random_script(&r, script));
    }
    return h->only >= 0 || count < ENOUGH ||
           (fuzz_tally.taken > count / 10 && fuzz_tally.refused > count / 16);
}

int main(int argc, char **argv)
{
    struct harness h;
    watch();
    for (uint32_t i = 0; i < N_TARGETS; i++)
        if (argc == 3 && argv[1][0] != '-' && strcmp(argv[2], targets[i]->name) == 0) {
            run_file(targets[i], argv[1]);
            return 0;
        }
    harness_begin(&h, "fuzz-replay", argc, argv);
    for (uint32_t i = 0; i < N_TARGETS; i++) {
        const double from = harness_now();
        const uint64_t count = harness_count(&h, 300, 3000, 30000);
        const int files = h.only < 0 ? run_corpus(targets[i]) : -1;
        const bool mixed = run_random(&h, targets[i], count);
        printf("%s: %d files, %llu random scripts (opened %llu times, refused %llu), %.1f s\n",
               targets[i]->name, files, (unsigned long long)count,
               (unsigned long long)fuzz_tally.taken, (unsigned long long)fuzz_tally.refused,
               harness_now() - from);
        harness_case(&h, mixed, 0, "%s: nearly all were taken, or refused", targets[i]->name);
        harness_case(&h, files != 0, 0, "%s has no corpus", targets[i]->name);
        h.passed += (files > 0 ? (uint64_t)files : 0) + count;
    }
    return harness_end(&h);
}
