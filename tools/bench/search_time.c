/* search_time.c -- how long navmap_search takes, called from C: one query a call, and in batches.
 *
 *     search_time INDEX --queries FILE.npy [options]          --help lists them
 *
 * INDEX is a directory, opened for reading, or a saved file, which is mapped.  For each ef the
 * queries go round until --seconds are over, and whole rounds are counted: queries a second by the
 * clock and by processor time, and, where a call has one query, the median and the 99th percentile
 * of its latency (the clock itself costs some 25 ns of each); and how many distances and rows of
 * neighbours a query took.  One warm round goes before.
 *
 * --serve is for compare.py, which has several programs measured in turns: a line on standard input
 * is "EF K THREADS single|batch SECONDS STOP", the line of JSON that answers it has those
 * figures. */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "engine/navmap.h"
#include "tools/bench/npy.h"

static const char usage[] =
    "usage: search_time INDEX --queries FILE.npy [--k N] [--ef N,N,...] [--threads N]\n"
    "                   [--stop S] [--seconds S] [--rounds N] [--max-queries N] [--serve]\n"
    "\n"
    "  INDEX          a directory, or a file that save_index wrote\n"
    "  --queries      float32, as NumPy writes it\n"
    "  --k N          neighbours of each, 10 unless told\n"
    "  --ef N,...     beam widths, 10,20,40,80,160,320 unless told\n"
    "  --stop S       searches end early (navmap_search_options.stop), not unless told\n"
    "  --threads N    that share a batch, 1 unless told\n"
    "  --seconds S    that one point takes, 0.5 unless told\n"
    "  --rounds N     of the whole table, the best of which counts; 3 unless told\n"
    "  --max-queries  only the first N\n"
    "  --serve        answer lines of \"EF K THREADS single|batch SECONDS STOP\"\n";

enum { EFS_MAX = 64 };

static struct {
    const char *index, *queries;
    uint64_t max_queries;
    uint32_t k, threads, rounds, ef[EFS_MAX], nef;
    double seconds, stop;
    bool serve;
} args = {.max_queries = UINT64_MAX,
          .k = 10,
          .threads = 1,
          .rounds = 3,
          .ef = {10, 20, 40, 80, 160, 320},
          .nef = 6,
          .seconds = 0.5};

static navmap_index *opened;
static float *queries, *distances;
static uint64_t *labels, nq, dim;
static double *waits;

struct point {
    double qps, qps_cpu, p50_us, p99_us; /* latencies only of single calls */
    double measured, expanded, exact;    /* a query, as struct navmap_search_counts has them */
};

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool failed(navmap_status status, const char *what)
{
    if (status != NAVMAP_OK)
        fprintf(stderr, "%s: %s\n", what, navmap_error_detail());
    return status != NAVMAP_OK;
}

static bool open_index(void)
{
    struct stat st;
    if (stat(args.index, &st) != 0) {
        fprintf(stderr, "%s: not there\n", args.index);
        return false;
    }
    if (S_ISDIR(st.st_mode))
        return !failed(navmap_open(args.index, NAVMAP_READ, NULL, &opened), args.index);
    struct navmap_load_options options = {.struct_size = sizeof options};
    return !failed(navmap_load(args.index, &options, &opened), args.index);
}

static bool open_queries(void)
{
    char folder[4096] = ".";
    const char *slash = strrchr(args.queries, '/');
    if (slash)
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(slash - args.queries), args.queries);
    queries =
        npy_read_floats(folder, slash ? slash + 1 : args.queries, args.max_queries, &nq, &dim);
    struct navmap_stats stats = {.struct_size = sizeof stats};
    if (!queries || failed(navmap_get_stats(opened, &stats), args.index))
        return false;
    if (stats.dim != dim) {
        fprintf(stderr, "queries of %" PRIu64 " dimensions, an index of %u\n", dim, stats.dim);
        return false;
    }
    waits = malloc(nq * sizeof *waits);
    return waits != NULL;
}

static bool make_room(uint64_t k)
{
    free(labels);
    free(distances);
    labels = malloc((nq * k + 1) * sizeof *labels);
    distances = malloc((nq * k + 1) * sizeof *distances);
    return labels != NULL && distances != NULL;
}

/* All queries once. */
static bool pass(const struct navmap_search_options *options, uint64_t k, bool single)
{
    if (!single)
        return !failed(navmap_search(opened, nq, queries, k, options, labels, distances, NULL),
                       "search");
    double before = now(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < nq; i++) {
        navmap_status status = navmap_search(opened, 1, queries + i * dim, k, options,
                                             labels + i * k, distances + i * k, NULL);
        if (failed(status, "search"))
            return false;
        const double after = now(CLOCK_MONOTONIC);
        waits[i] = after - before;
        before = after;
    }
    return true;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool measure(uint32_t ef, double stop, uint64_t k, uint32_t threads, bool single,
                    double seconds, struct point *ret_point)
{
    struct navmap_search_counts counts = {0};
    const struct navmap_search_options options = {.struct_size = sizeof options,
                                                  .ef = ef,
                                                  .num_threads = threads,
                                                  .allow_fewer = 1,
                                                  .stop = stop,
                                                  .ret_counts = &counts};
    double passes = 0, taken;
    const double start = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
    do {
        if (!pass(&options, k, single))
            return false;
        passes++;
        taken = now(CLOCK_MONOTONIC) - start;
    } while (taken * (1 + 0.5 / passes) < seconds);
    const double asked = passes * (double)nq;
    *ret_point = (struct point){
        .qps = asked / taken,
        .qps_cpu = asked * (single ? 1 : threads) / (now(CLOCK_PROCESS_CPUTIME_ID) - used),
        .measured = (double)counts.measured / asked,
        .expanded = (double)counts.expanded / asked,
        .exact = (double)counts.exact / asked,
    };
    if (single) {
        qsort(waits, nq, sizeof *waits, by_size);
        ret_point->p50_us = 1e6 * waits[nq / 2];
        ret_point->p99_us = 1e6 * waits[nq * 99 / 100];
    }
    return true;
}

static int serve(void)
{
    char line[128], mode[16];
    while (fgets(line, sizeof line, stdin)) {
        uint32_t ef, threads;
        uint64_t k;
        double seconds, stop;
        struct point at;
        if (sscanf(line, "%" SCNu32 " %" SCNu64 " %" SCNu32 " %15s %lf %lf", &ef, &k, &threads,
                   mode, &seconds, &stop) != 6 ||
            k == 0 || k > 65536)
            printf("{\"error\": \"not EF K THREADS MODE SECONDS STOP\"}\n");
        else if (!make_room(k) ||
                 !measure(ef, stop, k, threads, !strcmp(mode, "single"), seconds, &at))
            printf("{\"error\": \"a search failed: see standard error\"}\n");
        else
            printf("{\"qps\": %.1f, \"qps_cpu\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
                   "\"distances\": %.2f, \"rows\": %.2f, \"exact\": %.2f}\n",
                   at.qps, at.qps_cpu, at.p50_us, at.p99_us, at.measured, at.expanded, at.exact);
        (void)fflush(stdout);
    }
    return 0;
}

static int print_table(void)
{
    struct point best[EFS_MAX][2] = {0}, at;
    if (!make_room(args.k))
        return 2;
    for (uint32_t round = 0; round <= args.rounds; round++) /* the first warms up */
        for (uint32_t i = 0; i < args.nef; i++)
            for (int single = 0; single < 2; single++) {
                if (!measure(args.ef[i], args.stop, args.k, args.threads, single,
                             round ? args.seconds : 0, &at))
                    return 2;
                if (round && at.qps > best[i][single].qps)
                    best[i][single] = at;
            }
    printf("%" PRIu64 " queries, k=%u, best of %u rounds\n", nq, args.k, args.rounds);
    printf("%6s  %12s  %12s  %9s  %9s  %9s  %6s\n", "ef", "batch q/s", "single q/s", "p50 us",
           "p99 us", "measured", "rows");
    for (uint32_t i = 0; i < args.nef; i++)
        printf("%6u  %12.0f  %12.0f  %9.1f  %9.1f  %9.0f  %6.0f\n", args.ef[i], best[i][0].qps,
               best[i][1].qps, best[i][1].p50_us, best[i][1].p99_us, best[i][1].measured,
               best[i][1].expanded);
    return 0;
}

/* The command line --------------------------------------------------------------------------- */

static bool number(const char *text, uint64_t most, uint64_t *ret_number)
{
    char *end;
    const unsigned long long value = strtoull(text, &end, 10);
    *ret_number = value;
    return *text != '\0' && *end == '\0' && value > 0 && value <= most;
}

static bool number32(const char *text, uint32_t *ret_number)
{
    uint64_t value;
    if (!number(text, UINT32_MAX, &value))
        return false;
    *ret_number = (uint32_t)value;
    return true;
}

static bool efs(char *text)
{
    args.nef = 0;
    for (char *rest, *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
        if (args.nef == EFS_MAX || !number32(word, &args.ef[args.nef++]))
            return false;
    return args.nef > 0;
}

static int parse(int argc, char **argv)
{
    static const struct option options[] = {
        {"queries", required_argument, NULL, 'q'},
        {"k", required_argument, NULL, 'k'},
        {"ef", required_argument, NULL, 'e'},
        {"threads", required_argument, NULL, 't'},
        {"seconds", required_argument, NULL, 's'},
        {"rounds", required_argument, NULL, 'r'},
        {"serve", no_argument, NULL, 'S'},
        {"max-queries", required_argument, NULL, 'm'},
        {"stop", required_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    bool fine = true;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'q')
            args.queries = optarg;
        else if (c == 'k')
            fine &= number32(optarg, &args.k) && args.k <= 65536;
        else if (c == 'e')
            fine &= efs(optarg);
        else if (c == 't')
            fine &= number32(optarg, &args.threads);
        else if (c == 'r')
            fine &= number32(optarg, &args.rounds);
        else if (c == 'm')
            fine &= number(optarg, UINT64_MAX, &args.max_queries);
        else if (c == 's')
            fine &= sscanf(optarg, "%lf", &args.seconds) == 1;
        else if (c == 'p')
            fine &= sscanf(optarg, "%lf", &args.stop) == 1;
        else if (c == 'S')
            args.serve = true;
        else if (c == 'h')
            return fputs(usage, stdout) < 0 ? 2 : 1;
        else
            fine = false;
    }
    if (!fine || optind != argc - 1 || !args.queries) {
        (void)fputs(usage, stderr);
        return 2;
    }
    args.index = argv[optind];
    return 0;
}

int main(int argc, char **argv)
{
    const int told = parse(argc, argv);
    if (told != 0)
        return told == 1 ? 0 : told;
    int status = 2;
    if (open_index() && open_queries())
        status = args.serve ? serve() : print_table();
    free(queries);
    free(labels);
    free(distances);
    free(waits);
    if (failed(navmap_close(opened), "close"))
        status = 2;
    return status;
}
