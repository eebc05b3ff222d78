/* test_model.c -- runs schedules of the protocol, which must all be sound, and of each broken
 * variant, which must be caught.
 *
 *      test_model [--schedules N] [--each M] [--seed S] [--variant NAME|all|none]
 *      test_model --replay SEED [--variant NAME]
 *
 * NAVMAP_TIER=test (or nothing), ci or long sets N and M; NAVMAP_SEED sets S; options win.  The
 * schedules have the seeds S, S+1, ...: a long run is resumed by giving the S it printed last.
 * M = 0 runs each variant on the schedules that are known to catch it (variants.c).
 *
 * Exit code 0 iff the protocol had no violation and each variant asked for had one; 2 on a wrong
 * command line.
 */
#include "tests/model/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SEARCH = 6000,     /* schedules tried for a variant whose known seeds fail */
    NOT_VACUOUS = 500, /* from so many schedules on, each count must be above zero */
    PROGRESS = 250000, /* schedules between two lines of a long run */
    SHOWN = 5          /* failing seeds printed */
};

struct options {
    uint64_t schedules, each, seed, replay_seed;
    bool replay;
    bool wanted[VARIANTS];
};

static struct room room; /* some 100 KB, and each schedule begins by resetting it */

/* --- the protocol ------------------------------------------------------------------------- */

static void print_counts(const struct counts *c)
{
    struct {
        const char *text;
        uint64_t n;
    } line[] = {
        {"schedules", c->schedules},
        {"commits acknowledged", c->commits},
        {"slot reuses", c->reuses},
        {"direct payloads", c->direct},
        {"queries", c->queries},
        {"queries beside stores", c->queries_beside},
        {"checkpoints", c->checkpoints},
        {"checkpoints beside commits", c->checkpoints_beside},
        {"crashes while running", c->kills + c->power_cuts},
        {"    of these power cuts", c->power_cuts},
        {"crashes inside recovery", c->recovery_kills + c->recovery_power_cuts},
        {"    of these power cuts", c->recovery_power_cuts},
        {"recoveries checked", c->recoveries},
    };
    for (unsigned i = 0; i < sizeof line / sizeof line[0]; i++)
        printf("  %-28s %12" PRIu64 "\n", line[i].text, line[i].n);
}

/* A run in which something never happened has not tested it. */
static bool counts_cover(const struct counts *c)
{
    return c->commits && c->reuses && c->direct && c->queries_beside && c->checkpoints_beside &&
           c->kills && c->power_cuts && c->recovery_kills && c->recovery_power_cuts;
}

static bool run_protocol(const struct options *options)
{
    struct counts counts = {0};
    uint64_t violations = 0;
    for (uint64_t i = 0; i < options->schedules; i++) {
        uint64_t seed = options->seed + i;
        enum symptom symptom = schedule_run(&room, seed, PROTOCOL, &counts, false);
        if (symptom != NO_SYMPTOM && violations++ < SHOWN)
            printf("VIOLATION  seed %" PRIu64 ": %s (replay with: test_model --replay %" PRIu64
                   ")\n",
                   seed, symptom_text[symptom], seed);
        if ((i + 1) % PROGRESS == 0) {
            printf("%12" PRIu64 " schedules, %" PRIu64 " violations, resume with --seed %" PRIu64
                   "\n",
                   i + 1, violations, seed + 1);
            fflush(stdout);
        }
    }
    print_counts(&counts);
    bool covered = options->schedules < NOT_VACUOUS || counts_cover(&counts);
    if (!covered)
        printf("FAILED  some of these never happened: the run proves nothing\n");
    printf("%s  PROTOCOL: %" PRIu64 " violations in %" PRIu64 " schedules\n",
           violations == 0 && covered ? "ok    " : "FAILED", violations, options->schedules);
    return violations == 0 && covered;
}

/* --- the broken variants ------------------------------------------------------------------ */

struct caught {
    uint64_t runs, violations;
    uint64_t seed[SHOWN];          /* the first ones */
    uint64_t by_symptom[SYMPTOMS]; /* each schedule counts once, by its first */
};

static void run_once(struct caught *caught, enum variant variant, uint64_t seed)
{
    struct counts counts = {0};
    enum symptom symptom = schedule_run(&room, seed, variant, &counts, false);
    caught->runs++;
    if (symptom == NO_SYMPTOM)
        return;
    if (caught->violations < SHOWN)
        caught->seed[caught->violations] = seed;
    caught->violations++;
    caught->by_symptom[symptom]++;
}

static const char *commonest(const struct caught *caught)
{
    unsigned best = NO_SYMPTOM;
    for (unsigned s = NO_SYMPTOM + 1; s < SYMPTOMS; s++)
        if (caught->by_symptom[s] > caught->by_symptom[best])
            best = s;
    return symptom_text[best];
}

static void print_caught(const struct caught *caught, enum variant variant, bool ok)
{
    const struct variant_info *info = &variant_table[variant];
    printf("%s  %-15s %-36s %-7s %5" PRIu64 " / %-5" PRIu64 " %s\n", ok ? "ok    " : "FAILED",
           info->name, info->title, info->guards, caught->violations, caught->runs,
           commonest(caught));
}

static void print_details(const struct caught *caught)
{
    printf("            seeds");
    for (uint64_t i = 0; i < SHOWN && i < caught->violations; i++)
        printf(" %" PRIu64, caught->seed[i]);
    for (unsigned s = 0; s < SYMPTOMS; s++)
        if (caught->by_symptom[s] > 0)
            printf(", %s %" PRIu64, symptom_text[s], caught->by_symptom[s]);
    printf("\n");
}

static bool run_variant(const struct options *options, enum variant variant)
{
    struct caught caught = {0};
    for (uint64_t i = 0; i < options->each; i++)
        run_once(&caught, variant, options->seed + i);
    bool ok = caught.violations > 0;
    print_caught(&caught, variant, ok);
    if (ok)
        print_details(&caught);
    return ok;
}

/* All known seeds must catch the variant.  If one does not, say whether any seed does. */
static bool run_known(enum variant variant)
{
    struct caught caught = {0};
    for (unsigned i = 0; i < KNOWN_SEEDS; i++)
        run_once(&caught, variant, variant_table[variant].known[i]);
    bool ok = caught.violations == KNOWN_SEEDS;
    print_caught(&caught, variant, ok);
    if (ok)
        return true;

    struct caught search = {0};
    for (uint64_t seed = 1; seed <= SEARCH && search.violations < KNOWN_SEEDS; seed++)
        run_once(&search, variant, seed);
    if (search.violations == 0)
        printf("        no schedule of %d catches it any more: the model has gone blind\n", SEARCH);
    else
        printf("        known seeds are out of date (variants.c); these catch it now:\n");
    print_details(&search);
    return false;
}

/* --- command line ------------------------------------------------------------------------- */

static int usage(const char *problem, const char *word)
{
    fprintf(stderr,
            "test_model: %s%s\n"
            "usage: test_model [--schedules N] [--each M] [--seed S] [--variant NAME|all|none]\n"
            "       test_model --replay SEED [--variant NAME]\n"
            "variants:",
            problem, word);
    for (unsigned v = PROTOCOL + 1; v < VARIANTS; v++)
        fprintf(stderr, " %s", variant_table[v].name);
    fprintf(stderr, "\n");
    return 2;
}

static bool parse_number(const char *text, uint64_t *ret_number)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *ret_number = strtoull(text, &end, 10);
    return *end == '\0';
}

static bool parse_variant(const char *text, struct options *options)
{
    bool all = strcmp(text, "all") == 0;
    memset(options->wanted, 0, sizeof options->wanted);
    if (all || strcmp(text, "none") == 0) {
        for (unsigned v = PROTOCOL + 1; v < VARIANTS; v++)
            options->wanted[v] = all;
        return true;
    }
    enum variant variant = variant_find(text);
    if (variant == VARIANTS)
        return false;
    options->wanted[variant] = variant != PROTOCOL;
    return true;
}

static bool from_environment(struct options *options)
{
    const char *tier = getenv("NAVMAP_TIER");
    const char *seed = getenv("NAVMAP_SEED");
    options->schedules = 500;
    options->each = 0;
    options->seed = 1;
    parse_variant("all", options);
    if (tier != NULL && strcmp(tier, "ci") == 0) {
        options->schedules = 20000;
        options->each = 6000;
    } else if (tier != NULL && strcmp(tier, "long") == 0) {
        options->schedules = 10000000;
        options->each = 6000;
    } else if (tier != NULL && *tier != '\0' && strcmp(tier, "test") != 0) {
        return false;
    }
    return seed == NULL || *seed == '\0' || parse_number(seed, &options->seed);
}

static int replay(const struct options *options)
{
    enum variant variant = PROTOCOL;
    for (unsigned v = PROTOCOL + 1; v < VARIANTS; v++)
        if (options->wanted[v])
            variant = (enum variant)v;
    struct counts counts = {0};
    enum symptom symptom = schedule_run(&room, options->replay_seed, variant, &counts, true);
    print_counts(&counts);
    printf("seed %" PRIu64 ", %s: %s\n", options->replay_seed, variant_table[variant].title,
           symptom_text[symptom]);
    return (symptom != NO_SYMPTOM) != (variant != PROTOCOL);
}

int main(int argc, char **argv)
{
    struct options options = {0};
    bool chosen = false;
    if (!from_environment(&options))
        return usage("NAVMAP_TIER is test, ci or long, NAVMAP_SEED a number", "");
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        bool good;
        if (strcmp(name, "--schedules") == 0) {
            good = parse_number(value, &options.schedules);
        } else if (strcmp(name, "--each") == 0) {
            good = parse_number(value, &options.each);
        } else if (strcmp(name, "--seed") == 0) {
            good = parse_number(value, &options.seed);
        } else if (strcmp(name, "--replay") == 0) {
            good = options.replay = parse_number(value, &options.replay_seed);
        } else if (strcmp(name, "--variant") == 0) {
            good = chosen = parse_variant(value, &options);
        } else {
            return usage("unknown option ", name);
        }
        if (!good)
            return usage("a number or a variant is needed after ", name);
    }
    if (options.replay) {
        if (!chosen)
            parse_variant("none", &options);
        return replay(&options);
    }

    printf("protocol model, seed %" PRIu64 "\n", options.seed);
    unsigned passed = 0, failed = 0;
    *(run_protocol(&options) ? &passed : &failed) += 1;
    for (unsigned v = PROTOCOL + 1; v < VARIANTS; v++) {
        if (!options.wanted[v])
            continue;
        bool ok =
            options.each > 0 ? run_variant(&options, (enum variant)v) : run_known((enum variant)v);
        *(ok ? &passed : &failed) += 1;
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
