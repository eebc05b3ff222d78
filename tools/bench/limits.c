/* limits.c -- what this machine's memory allows a search, whatever its program.
 *
 *     limits [--count N] [--bytes N,...] [--threads N] [--seconds S] [--cpu] [--json]
 *
 * A graph search reads rows (codes, vectors) at places that nothing tells beforehand but the ids in
 * a row of neighbours.  Here COUNT rows of a size, each beginning at a cache line where the size is
 * a multiple of one, are read in random order.  A row's lines are asked for (prefetched) so many
 * rows ahead and a word of each line is read: nothing is computed, no set of visited rows kept, no
 * candidate sorted.  The best over 4 to 32 rows ahead, asked for into the first level of the cache
 * or into the second, which may keep more on the way, is the machine's limit, and rows scored a
 * second over it the share of it that a search reaches.  With small pages and with huge ones, where
 * the kernel gives them, and by one thread and several, each on a processor of its own: what more
 * threads bring here is the most that they can bring a search.
 *
 * --cpu takes the threads' processor time for the clock, for a machine that is not idle.
 * The order comes from a generator, not from a list, which would take room in the caches.  How well
 * COUNT rows fit the caches matters as much as the size: take that of the data. */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { LINE = 64, AHEAD_MAX = 64, SIZES_MAX = 16, THREADS_MAX = 256 };
static const uint32_t aheads[] = {4, 8, 16, 32};
enum { NAHEADS = sizeof aheads / sizeof *aheads };

static struct {
    uint64_t count;
    uint32_t bytes[SIZES_MAX], nbytes, threads;
    double seconds;
    bool json, cpu;
} args = {.count = 1000000,
          .bytes = {64, 128, 192, 256, 400, 512},
          .nbytes = 6,
          .threads = 1,
          .seconds = 0.2};

struct reader {
    const unsigned char *rows;
    uint64_t count, seed, done;
    double taken, seconds;
    uint32_t bytes, ahead, into; /* a level of the cache: 1 or 2 */
    int processor;               /* -1 = any */
};

static atomic_uint_fast64_t sink; /* so that reads are not for nothing */

static double now(void)
{
    struct timespec t;
    clock_gettime(args.cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t next(uint64_t *state) /* splitmix64, Steele, Lea and Flood 2014 */
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static const unsigned char *draw(const struct reader *r, uint64_t *state)
{
    const uint64_t row = (uint64_t)(((unsigned __int128)next(state) * r->count) >> 64);
    return r->rows + row * r->bytes;
}

static void ask_for(const unsigned char *row, uint32_t bytes, uint32_t into)
{
    for (uint32_t at = 0; at < bytes; at += LINE) {
        if (into == 1)
            __builtin_prefetch(row + at, 0, 3);
        else
            __builtin_prefetch(row + at, 0, 2);
        atomic_signal_fence(memory_order_seq_cst); /* gcc 12 drops all but the first without it */
    }
}

static void *read_rows(void *of)
{
    struct reader *r = of;
    const unsigned char *ring[AHEAD_MAX];
    uint64_t state = r->seed, sum = 0;
    if (r->processor >= 0) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(r->processor, &one);
        (void)pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    }
    for (uint32_t i = 0; i < r->ahead; i++)
        ask_for(ring[i] = draw(r, &state), r->bytes, r->into);
    const double start = now();
    do {
        for (uint32_t turn = 0; turn < 512; turn++)
            for (uint32_t i = 0; i < r->ahead; i++) {
                const unsigned char *row = ring[i];
                uint64_t word;
                for (uint32_t at = 0; at < r->bytes; at += LINE) {
                    memcpy(&word, row + at, sizeof word);
                    sum += word;
                }
                ask_for(ring[i] = draw(r, &state), r->bytes, r->into);
            }
        r->done += (uint64_t)512 * r->ahead;
        r->taken = now() - start;
    } while (r->taken < r->seconds);
    atomic_fetch_add(&sink, sum);
    return NULL;
}

/* Rows a second by `threads` threads; 0 when one cannot be started. */
static double rows_per_second(const unsigned char *rows, uint32_t bytes, uint32_t ahead,
                              uint32_t into, uint32_t threads)
{
    struct reader readers[THREADS_MAX] = {0};
    pthread_t ids[THREADS_MAX];
    cpu_set_t allowed;
    double sum = 0;
    uint32_t started = 0;
    int processor = -1;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        CPU_ZERO(&allowed);
    for (; started < threads; started++) {
        int at = processor + 1;
        while (at < CPU_SETSIZE && !CPU_ISSET(at, &allowed))
            at++;
        processor = at < CPU_SETSIZE ? at : -1;
        readers[started] = (struct reader){.rows = rows,
                                           .count = args.count,
                                           .seed = started + 1,
                                           .seconds = args.seconds,
                                           .bytes = bytes,
                                           .ahead = ahead,
                                           .into = into,
                                           .processor = processor};
        if (pthread_create(&ids[started], NULL, read_rows, &readers[started]) != 0)
            break;
    }
    for (uint32_t i = 0; i < started; i++) {
        (void)pthread_join(ids[i], NULL);
        sum += (double)readers[i].done / readers[i].taken;
    }
    return started == threads ? sum : 0;
}

static double sequential(const unsigned char *rows, uint64_t bytes)
{
    uint64_t sum = 0, passes = 0;
    const double start = now();
    double taken;
    do {
        for (uint64_t at = 0; at + LINE <= bytes; at += LINE) {
            uint64_t word;
            memcpy(&word, rows + at, sizeof word);
            sum += word;
        }
        passes++;
        taken = now() - start;
    } while (taken < args.seconds);
    atomic_fetch_add(&sink, sum);
    return (double)(passes * bytes) / taken;
}

/* Memory for the largest rows, on huge pages if asked for and to be had; every page is there. */
static unsigned char *room(uint64_t bytes, bool huge)
{
    unsigned char *at =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    (void)madvise(at, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    memset(at, 1, bytes);
    return at;
}

/* How much of this process lies on huge pages. */
static uint64_t huge_bytes(void)
{
    char line[256];
    unsigned long long kib, sum = 0;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "AnonHugePages: %llu kB", &kib) == 1)
            sum += kib;
    if (f)
        (void)fclose(f);
    return (uint64_t)sum * 1024;
}

static void print_row(uint32_t bytes, bool huge, uint32_t threads, uint32_t ahead, uint32_t into,
                      double rate, bool first)
{
    if (args.json)
        printf("%s\n  {\"bytes\": %u, \"huge\": %s, \"threads\": %u, \"ahead\": %u, "
               "\"into\": %u, \"rows_per_second\": %.0f}",
               first ? "" : ",", bytes, huge ? "true" : "false", threads, ahead, into, rate);
    else
        printf("%6u  %5s  %7u  %5u  %4u  %10.1f  %8.2f\n", bytes, huge ? "huge" : "4K", threads,
               ahead, into, rate / 1e6, rate * bytes / 1e9);
    (void)fflush(stdout);
}

static int run(void)
{
    uint32_t largest = 0;
    double in_order = 0;
    uint64_t got = 0;
    bool first = true;
    for (uint32_t i = 0; i < args.nbytes; i++)
        largest = args.bytes[i] > largest ? args.bytes[i] : largest;
    const uint64_t bytes = args.count * largest;
    if (args.json)
        printf("{\"count\": %" PRIu64 ", \"rows\": [", args.count);
    else
        printf("%" PRIu64 " rows\n%6s  %5s  %7s  %5s  %4s  %10s  %8s\n", args.count, "bytes",
               "pages", "threads", "ahead", "into", "Mrows/s", "GB/s");
    for (int huge = 0; huge < 2; huge++) {
        unsigned char *rows = room(bytes, huge);
        if (!rows) {
            fprintf(stderr, "no memory for %" PRIu64 " bytes\n", bytes);
            return 2;
        }
        got = huge_bytes();
        for (uint32_t i = 0; i < args.nbytes; i++)
            for (uint32_t threads = 1; threads <= args.threads; threads *= 2) {
                double best = 0;
                uint32_t best_ahead = 0, best_into = 0;
                for (uint32_t a = 0; a < 2 * NAHEADS; a++) {
                    const uint32_t ahead = aheads[a / 2], into = 1 + a % 2;
                    const double rate = rows_per_second(rows, args.bytes[i], ahead, into, threads);
                    if (rate > best) {
                        best = rate;
                        best_ahead = ahead;
                        best_into = into;
                    }
                }
                print_row(args.bytes[i], huge, threads, best_ahead, best_into, best, first);
                first = false;
            }
        in_order = sequential(rows, bytes);
        (void)munmap(rows, bytes);
    }
    printf(args.json ? "],\n \"sequential_bytes_per_second\": %.0f, \"huge_bytes\": %" PRIu64 "}\n"
                     : "in order: %.3g bytes/s; on huge pages, when asked for: %" PRIu64 " bytes\n",
           in_order, got);
    return 0;
}

static bool sizes(char *text)
{
    args.nbytes = 0;
    for (char *rest, *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        const unsigned long bytes = strtoul(word, NULL, 10);
        if (args.nbytes == SIZES_MAX || bytes < 8 || bytes > 65536)
            return false;
        args.bytes[args.nbytes++] = (uint32_t)bytes;
    }
    return args.nbytes > 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"count", required_argument, NULL, 'c'},
        {"bytes", required_argument, NULL, 'b'},
        {"threads", required_argument, NULL, 't'},
        {"seconds", required_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},
        {"cpu", no_argument, NULL, 'p'},
        {NULL, 0, NULL, 0},
    };
    bool fine = true;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'c')
            args.count = strtoull(optarg, NULL, 10);
        else if (c == 'b')
            fine &= sizes(optarg);
        else if (c == 't')
            args.threads = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 's')
            args.seconds = strtod(optarg, NULL);
        else if (c == 'j')
            args.json = true;
        else if (c == 'p')
            args.cpu = true;
        else
            fine = false;
    }
    fine &= args.count > 0 && args.count <= UINT32_MAX && args.threads > 0;
    if (!fine || args.threads > THREADS_MAX || optind != argc) {
        fprintf(stderr, "usage: limits [--count N] [--bytes N,...] [--threads N] [--seconds S] "
                        "[--cpu] [--json]\n");
        return 2;
    }
    return run();
}
