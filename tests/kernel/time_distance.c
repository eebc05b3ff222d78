/* time_distance.c -- kernel-distance --time: nanoseconds per distance of each level.
 *
 * "cached" is 32 vectors again and again, what the instructions cost; "memory" is vectors drawn at
 * random from 64 MB, what a search of a large graph sees.  `many` is given 16 at a time, half a row
 * of M = 16.  Vectors stand as in a file, one behind the other, so their lines are not aligned.
 * Halves stand in the first half of the room of floats.  The best of several rounds counts, since
 * others use the machine too; the levels take turns, so that a bad minute hits all.
 */
#include "tests/kernel/time_distance.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define POOL_BYTES (UINT64_C(64) << 20)
#define HOT 32u
#define BATCH 16u
#define PICKS 16384u
#define ROUNDS 9

static const uint32_t dims[] = {16, 100, 128, 384, 784, 960, 1536};

static volatile float sink;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* `picks` are pointers to vectors, each used once. */
static double time_single(distance_fn *fn, const float *q, const void *const *picks, uint32_t dim)
{
    double begin = now_ns();
    float sum = 0;
    for (uint32_t i = 0; i < PICKS; i++)
        sum += fn(q, picks[i], dim);
    sink = sum;
    return (now_ns() - begin) / PICKS;
}

static double time_many(distance_many_fn *many, const float *q, const void *const *picks,
                        uint32_t dim)
{
    double begin = now_ns();
    float ret[BATCH], sum = 0;
    for (uint32_t i = 0; i < PICKS; i += BATCH) {
        many(q, picks + i, BATCH, dim, ret);
        sum += ret[0];
    }
    sink = sum;
    return (now_ns() - begin) / PICKS;
}

static void keep_best(double *best, double ns)
{
    *best = *best == 0 || ns < *best ? ns : *best;
}

static void time_dim(const struct distance_kernels *const *levels, uint32_t n, const float *pool,
                     const void **hot, const void **cold, uint32_t dim)
{
    uint32_t count = (uint32_t)(POOL_BYTES / sizeof(float) / dim);
    uint64_t state = dim;
    for (uint32_t i = 0; i < PICKS; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        hot[i] = pool + (size_t)(state >> 40) % HOT * dim;
        cold[i] = pool + (size_t)(state >> 33) % count * dim;
    }
    double best[DISTANCE_LEVELS_MAX][4][4] = {0};
    for (int round = 0; round < ROUNDS; round++)
        for (uint32_t level = 0; level < n; level++)
            for (int kind = 0; kind < 4; kind++) {
                const struct distance_kernels *k = levels[level];
                distance_fn *const fns[] = {k->l2, k->ip, k->l2_half, k->ip_half};
                distance_many_fn *const manys[] = {k->l2_many, k->ip_many, k->l2_half_many,
                                                   k->ip_half_many};
                distance_fn *fn = fns[kind];
                distance_many_fn *many = manys[kind];
                double *b = best[level][kind];
                keep_best(&b[0], time_single(fn, pool, hot, dim));
                keep_best(&b[1], time_many(many, pool, hot, dim));
                keep_best(&b[2], time_single(fn, pool, cold, dim));
                keep_best(&b[3], time_many(many, pool, cold, dim));
            }
    for (uint32_t level = 0; level < n; level++)
        for (int kind = 0; kind < 4; kind++) {
            static const char *const names[] = {"l2", "ip", "l2 f16", "ip f16"};
            const double *b = best[level][kind];
            printf("%5u  %-10s  %-6s  %8.1f %8.1f %8.1f %8.1f\n", dim, levels[level]->name,
                   names[kind], b[0], b[1], b[2], b[3]);
        }
}

int time_levels(const struct distance_kernels *const *levels, uint32_t n)
{
    float *pool = malloc(POOL_BYTES);
    const void **hot = malloc(PICKS * sizeof *hot), **cold = malloc(PICKS * sizeof *cold);
    if (pool && hot && cold) {
        for (size_t i = 0; i < POOL_BYTES / sizeof *pool; i++)
            pool[i] = (float)(i % 1021) * 0x1p-10f;
        puts("ns per distance   cached: single     many  memory: single  many");
        for (uint32_t i = 0; i < sizeof dims / sizeof *dims; i++)
            time_dim(levels, n, pool, hot, cold, dims[i]);
    }
    int status = pool && hot && cold ? EXIT_SUCCESS : EXIT_FAILURE;
    free(pool);
    free(hot);
    free(cold);
    return status;
}
