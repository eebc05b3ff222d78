/* add_while_search.c -- one thread adds, another searches: are the answers right, and how late?
 *
 *     add_while_search --data FOLDER [options]          --help lists them
 *
 * The first half of the vectors in FOLDER/base.npy, the settled ones, is in the index before
 * anything is measured; a vector's label is its row.  Then one thread sends FOLDER/queries.npy, one
 * query a call and without a pause, in three phases: before, during and after another thread adds
 * the second half.  Each thread keeps to a processor of its own.
 *
 * Every pair that comes back is checked, outside the time that is taken: the label's row had been
 * handed to the index by then, the distance is that of the row's vector, computed here in double
 * precision, the pairs are in order and no label comes twice.  One wrong pair, and the exit status
 * is 1.
 *
 * Recall is that of the settled part, whose exact neighbours are computed here before.  After each
 * search whose time is taken the same query is sent once more, with a filter that allows settled
 * labels only: "recall" is of these.  "mixed" is of the others, from which what is not settled is
 * dropped, and then as many neighbours fewer are asked for: with 4 new vectors among 10 results the
 * other 6 ought to be the 6 nearest settled ones.  It rises as the index fills, since the nearest
 * are the easiest to find, so `during` has to be held against both its neighbours.
 *
 * Latency is that of the call without filter: median, 99 %, 99.9 % and the worst, in microseconds.
 * --alone adds the second half with nobody searching, for the adder's own speed. */
#include <errno.h>
#include <float.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/navmap.h"
#include "tools/bench/npy.h"

enum { K = 10 };

static const char usage[] =
    "usage: add_while_search --data FOLDER [--items N] [--queries N] [--ef N] [--batch N]\n"
    "                        [--seconds S] [--index DIR] [--no-filter] [--alone] [--json]\n"
    "\n"
    "  --data FOLDER  of base.npy and queries.npy, float32; else what NAVMAP_GLOVE names\n"
    "  --items N      the first N vectors only; half of them are settled\n"
    "  --queries N    the first N queries only, 1000 unless told\n"
    "  --ef N         beam width of the searches, 80 unless told\n"
    "  --batch N      rows that one call adds, 1000 unless told\n"
    "  --seconds S    that the phases without an adder last, 10 unless told\n"
    "  --index DIR    make a durable index there, which must not exist; else one in memory\n"
    "  --no-filter    do not send each query once more with a filter\n"
    "  --alone        nobody searches while the second half is added\n"
    "  --json         one JSON object instead of the table\n";

static struct {
    const char *data, *index;
    uint64_t items, queries, batch;
    uint32_t ef;
    double seconds;
    bool no_filter, alone, json;
} args = {.items = UINT64_MAX, .queries = 1000, .batch = 1000, .ef = 80, .seconds = 10};

static float *base, *queries; /* as they are in the files: n x dim, nq x dim */
static double *base_norm, *query_norm;
static uint64_t n, nq, dim, settled;
static uint64_t *truth; /* nq x K settled labels, nearest first */
static navmap_index *ix;
static _Atomic uint64_t handed; /* rows of which the index may know */
static atomic_bool adder_done;

struct phase {
    const char *name;
    float *us; /* the latency of each query */
    uint64_t n, room, pairs, wrong;
    uint64_t hits[2], asked[2]; /* without the filter, and with it */
    double worst_error;         /* of a distance, relative */
};

static void die(const char *what)
{
    fprintf(stderr, "add_while_search: %s: %s\n", what, navmap_error_detail());
    exit(2);
}

static void check(navmap_status status, const char *what)
{
    if (status != NAVMAP_OK)
        die(what);
}

static void *allocate(uint64_t count, size_t size)
{
    void *made = calloc(count, size);
    if (!made) {
        fprintf(stderr, "add_while_search: out of memory\n");
        exit(2);
    }
    return made;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- exact -------------------------------------------------------------------------------------*/

static double dot(const float *a, const float *b)
{
    double sum = 0;
    for (uint64_t i = 0; i < dim; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* 1 - cosine; a zero vector has distance 1. */
static double exact_distance(uint64_t query, uint64_t row)
{
    const double norms = query_norm[query] * base_norm[row];
    return norms > 0 ? 1 - dot(queries + query * dim, base + row * dim) / norms : 1;
}

static void find_truth(void)
{
    base_norm = allocate(n, sizeof *base_norm);
    query_norm = allocate(nq, sizeof *query_norm);
    truth = allocate(nq * K, sizeof *truth);
    for (uint64_t i = 0; i < n; i++)
        base_norm[i] = sqrt(dot(base + i * dim, base + i * dim));
    for (uint64_t q = 0; q < nq; q++) {
        double best[K + 1];
        uint64_t labels[K + 1], found = 0;
        query_norm[q] = sqrt(dot(queries + q * dim, queries + q * dim));
        for (uint64_t i = 0; i < settled; i++) {
            const double d = exact_distance(q, i);
            if (found == K && d >= best[K - 1])
                continue;
            uint64_t at = found < K ? found++ : K - 1;
            for (; at > 0 && best[at - 1] > d; at--) {
                best[at] = best[at - 1];
                labels[at] = labels[at - 1];
            }
            best[at] = d;
            labels[at] = i;
        }
        memcpy(truth + q * K, labels, K * sizeof *truth);
    }
}

/* --- threads -----------------------------------------------------------------------------------*/

/* Keep the calling thread to the number-th processor that the process may use. */
static void keep_to_processor(int number)
{
    static cpu_set_t all;
    static bool known;
    if (!known) {
        known = true;
        if (sched_getaffinity(0, sizeof all, &all) != 0)
            CPU_ZERO(&all);
    }
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all) && number-- == 0) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void)sched_setaffinity(0, sizeof one, &one); /* a busier machine, no wrong answer */
            return;
        }
    }
}

static void add_rows(uint64_t from, uint64_t to, uint32_t threads)
{
    const struct navmap_add_options options = {.struct_size = sizeof options,
                                               .num_threads = threads};
    uint64_t *labels = allocate(args.batch, sizeof *labels);
    for (uint64_t at = from; at < to; at += args.batch) {
        const uint64_t count = to - at < args.batch ? to - at : args.batch;
        for (uint64_t i = 0; i < count; i++)
            labels[i] = at + i;
        atomic_store(&handed, at + count);
        check(navmap_add(ix, count, base + at * dim, labels, &options, NULL), "adding");
    }
    free(labels);
}

static void *adder(void *seconds)
{
    keep_to_processor(1);
    const double started = now();
    add_rows(settled, n, 1);
    *(double *)seconds = now() - started;
    atomic_store(&adder_done, true);
    return NULL;
}

static int is_settled(void *ctx, uint64_t label)
{
    (void)ctx;
    return label < settled;
}

/* --- searching ---------------------------------------------------------------------------------*/

/* A distance is right within 1e-5 of itself, and within what 1 - x cancels of a float's digits. */
static bool is_right(struct phase *p, double found, double exact)
{
    const double error = fabs(found - exact);
    if (exact > 0.01 && error / exact > p->worst_error)
        p->worst_error = error / exact;
    return error <= 1e-5 * fabs(exact) + 4 * (double)FLT_EPSILON;
}

static void judge(struct phase *p, uint64_t q, bool filtered, const uint64_t *labels,
                  const float *distances, uint64_t found)
{
    const uint64_t known = atomic_load(&handed);
    uint64_t kept = 0, hits = 0;
    for (uint64_t i = 0; i < found; i++) {
        bool right = labels[i] < known && (!filtered || labels[i] < settled) &&
                     is_right(p, (double)distances[i], exact_distance(q, labels[i]));
        if (i > 0 && distances[i] < distances[i - 1])
            right = false;
        for (uint64_t j = 0; j < i; j++)
            if (labels[j] == labels[i])
                right = false;
        if (!right && p->wrong++ < 10)
            fprintf(stderr,
                    "%s: query %" PRIu64 ", result %" PRIu64 ": label %" PRIu64 " at %.8f, %" PRIu64
                    " rows are known\n",
                    p->name, q, i, labels[i], (double)distances[i], known);
        kept += labels[i] < settled;
    }
    const uint64_t asked = K - (found - kept);
    for (uint64_t i = 0; i < found; i++)
        for (uint64_t t = 0; t < asked; t++)
            hits += truth[q * K + t] == labels[i];
    p->pairs += found;
    p->asked[filtered] += asked;
    p->hits[filtered] += hits;
}

static void record(struct phase *p, double seconds)
{
    if (p->n == p->room) {
        p->room = p->room ? 2 * p->room : 1 << 20;
        p->us = realloc(p->us, p->room * sizeof *p->us);
        if (!p->us)
            die("out of memory");
    }
    p->us[p->n++] = (float)(1e6 * seconds);
}

/* Search until the time is over, or, with 0 seconds, until the adder is done. */
static void search(struct phase *p, double seconds)
{
    const struct navmap_search_options plain = {
        .struct_size = sizeof plain, .ef = args.ef, .allow_fewer = 1};
    struct navmap_search_options filtered = plain;
    filtered.filter = is_settled;
    uint64_t labels[K], found;
    float distances[K];
    const double started = now();
    for (uint64_t q = 0;; q = (q + 1) % nq) {
        const float *query = queries + q * dim;
        const double before = now();
        if (seconds > 0 ? before - started >= seconds : atomic_load(&adder_done))
            break;
        check(navmap_search(ix, 1, query, K, &plain, labels, distances, &found), "searching");
        record(p, now() - before);
        judge(p, q, false, labels, distances, found);
        if (args.no_filter)
            continue;
        check(navmap_search(ix, 1, query, K, &filtered, labels, distances, &found), "filtering");
        judge(p, q, true, labels, distances, found);
    }
}

/* --- report ------------------------------------------------------------------------------------*/

static int compare_floats(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double percentile(const struct phase *p, double part)
{
    return p->n > 0 ? (double)p->us[(uint64_t)(part * (double)(p->n - 1))] : 0;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

static void report_phase(struct phase *p)
{
    double busy = 0;
    char recall[16];
    if (p->asked[1] > 0)
        snprintf(recall, sizeof recall, "%.5f", share(p->hits[1], p->asked[1]));
    else
        snprintf(recall, sizeof recall, "%s", args.json ? "null" : "-");
    for (uint64_t i = 0; i < p->n; i++)
        busy += 1e-6 * (double)p->us[i];
    qsort(p->us, p->n, sizeof *p->us, compare_floats);
    printf(args.json
               ? ",\n \"%s\": {\"queries\": %" PRIu64 ", \"qps_while_in_calls\": %.0f, "
                 "\"recall\": %s, \"recall_mixed\": %.5f, "
                 "\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, "
                 "\"pairs\": %" PRIu64 ", \"wrong\": %" PRIu64 ", \"worst_relative_error\": %.2e}"
               : "%-7s %9" PRIu64 " %8.0f %7s %7.5f %8.1f %8.1f %8.1f %9.1f %10" PRIu64 " %6" PRIu64
                 " %9.1e\n",
           p->name, p->n, busy > 0 ? (double)p->n / busy : 0, recall,
           share(p->hits[0], p->asked[0]), percentile(p, 0.5), percentile(p, 0.99),
           percentile(p, 0.999), percentile(p, 1), p->pairs, p->wrong, p->worst_error);
}

static void report(struct phase *phases, int count, double add_seconds)
{
    const uint64_t added = n - settled;
    const double added_per_s = (double)added / add_seconds;
    if (args.json) {
        printf("{\"simd\": \"%s\", \"durable\": %s, \"settled\": %" PRIu64 ", \"added\": %" PRIu64
               ", \"ef\": %" PRIu32 ", \"batch\": %" PRIu64
               ",\n \"add_seconds\": %.3f, \"added_per_s\": %.1f",
               navmap_simd(), args.index ? "true" : "false", settled, added, args.ef, args.batch,
               add_seconds, added_per_s);
    } else {
        printf("%s, %s, ef %" PRIu32 ": %" PRIu64 " settled, %" PRIu64 " added by %" PRIu64
               " in %.2f s, %.0f/s%s\n",
               navmap_simd(), args.index ? "a directory" : "in memory", args.ef, settled, added,
               args.batch, add_seconds, added_per_s, args.alone ? ", nobody searching" : "");
        printf("%-7s %9s %8s %7s %7s %8s %8s %8s %9s %10s %6s %9s\n", "phase", "queries", "q/s",
               "recall", "mixed", "p50 us", "p99 us", "p99.9 us", "max us", "pairs", "wrong",
               "worst err");
    }
    for (int i = 0; i < count; i++)
        if (phases[i].n > 0)
            report_phase(&phases[i]);
    if (args.json)
        printf("}\n");
}

/* --- main --------------------------------------------------------------------------------------*/

static bool number(const char *text, uint64_t *ret)
{
    char *end;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *ret > 0;
}

static int parse(int argc, char **argv)
{
    static const struct option options[] = {
        {"data", required_argument, NULL, 'd'},    {"items", required_argument, NULL, 'n'},
        {"queries", required_argument, NULL, 'q'}, {"ef", required_argument, NULL, 'e'},
        {"batch", required_argument, NULL, 'b'},   {"seconds", required_argument, NULL, 's'},
        {"index", required_argument, NULL, 'i'},   {"no-filter", no_argument, NULL, 'f'},
        {"alone", no_argument, NULL, 'a'},         {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    uint64_t ef = args.ef;
    bool fine = true;
    int c;
    args.data = getenv("NAVMAP_GLOVE");
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'd':
            args.data = optarg;
            break;
        case 'n':
            fine &= number(optarg, &args.items);
            break;
        case 'q':
            fine &= number(optarg, &args.queries);
            break;
        case 'e':
            fine &= number(optarg, &ef);
            break;
        case 'b':
            fine &= number(optarg, &args.batch);
            break;
        case 's':
            args.seconds = strtod(optarg, NULL);
            break;
        case 'i':
            args.index = optarg;
            break;
        case 'f':
            args.no_filter = true;
            break;
        case 'a':
            args.alone = true;
            break;
        case 'j':
            args.json = true;
            break;
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            fine = false;
        }
    }
    args.ef = (uint32_t)ef;
    if (!fine || optind != argc || !args.data || !(args.seconds > 0) || ef > UINT32_MAX) {
        fputs(usage, stderr);
        return 2;
    }
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t query_dim;
    if (parse(argc, argv) != 0)
        return 2;
    base = npy_read_floats(args.data, "base.npy", args.items, &n, &dim);
    queries = npy_read_floats(args.data, "queries.npy", args.queries, &nq, &query_dim);
    if (!base || !queries)
        return 2;
    settled = n / 2;
    if (dim != query_dim || settled < K) {
        fprintf(stderr, "add_while_search: base and queries differ in width, or too few items\n");
        return 2;
    }
    find_truth();

    const struct navmap_options options = {
        .struct_size = sizeof options, .dim = (uint32_t)dim, .space = NAVMAP_COSINE};
    check(args.index ? navmap_create(args.index, &options, &ix) : navmap_new(&options, &ix),
          "making the index");
    add_rows(0, settled, navmap_default_threads());

    struct phase warm_up = {.name = "warm-up"};
    struct phase phases[] = {{.name = "before"}, {.name = "during"}, {.name = "after"}};
    double add_seconds = 0;
    keep_to_processor(0);
    search(&warm_up, 0.1 * args.seconds);
    search(&phases[0], args.seconds);
    pthread_t thread;
    if (pthread_create(&thread, NULL, adder, &add_seconds) != 0) {
        fprintf(stderr, "add_while_search: no thread\n");
        return 2;
    }
    if (!args.alone)
        search(&phases[1], 0);
    (void)pthread_join(thread, NULL);
    search(&phases[2], args.seconds);

    report(phases, 3, add_seconds);
    uint64_t wrong = warm_up.wrong;
    free(warm_up.us);
    for (int i = 0; i < 3; i++) {
        wrong += phases[i].wrong;
        free(phases[i].us);
    }
    check(navmap_close(ix), "closing");
    free(base);
    free(queries);
    free(base_norm);
    free(query_norm);
    free(truth);
    return wrong > 0;
}
