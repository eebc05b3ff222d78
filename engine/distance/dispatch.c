/* dispatch.c -- picks the kernels for this machine, once per process.
 *
 * A level for an instruction set is a file of kernels and an entry in the table below.  Which one
 * is used is settled when the first handle is made and then holds: all handles of a process compute
 * alike, and search never asks.  Levels give the same bits, so the choice is one of speed only;
 * NAVMAP_SIMD is there to measure, and to rule a level out when a processor is suspected.
 *
 *     unsettled --distance_settle, NAVMAP_SIMD unset or a level of this machine--> settled
 *     unsettled --distance_settle, NAVMAP_SIMD anything else: NAVMAP_EINVAL-----> unsettled
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "engine/distance/distance.h"
#include "engine/navmap.h"
#include "storage/fail.h"
#include "storage/layout.h"

struct level {
    const struct distance_kernels *kernels;
    bool (*is_here)(void);
};

static bool always(void)
{
    return true;
}

/* The compiler's probe asks the processor and, by XGETBV, whether the system saves the registers.
 * It is initialised by a constructor, which may run after one of our caller's. */
#if defined(__x86_64__) && !defined(DISTANCE_TSAN_BUILD)
static bool has_avx512(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}
static bool has_vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
/* Compilers know no word for it.  Its registers are AVX's. */
static bool has_f16c(void)
{
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
static bool has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && has_f16c();
}
#elif defined(__aarch64__) && !defined(DISTANCE_TSAN_BUILD)
static bool has_dot(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
#endif

/* Best first. */
static const struct level levels[] = {
#ifndef DISTANCE_TSAN_BUILD /* D1 */
#if defined(__x86_64__)
    {&distance_vnni, has_vnni},
    {&distance_avx512, has_avx512},
    {&distance_avx2, has_avx2},
#elif defined(__aarch64__)
    {&distance_dot, has_dot},
    {&distance_neon, always},
#endif
#endif
    {&distance_scalar, always},
};
_Static_assert(sizeof levels / sizeof *levels <= DISTANCE_LEVELS_MAX, "callers' arrays are short");

/* Threads that settle at once settle alike, unless the environment changes meanwhile; then one of
 * its states wins for all. */
static _Atomic(const struct distance_kernels *) settled;

uint32_t distance_levels(const struct distance_kernels *ret_levels[DISTANCE_LEVELS_MAX])
{
    uint32_t n = 0;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (levels[i].is_here())
            ret_levels[n++] = levels[i].kernels;
    return n;
}

/* What the environment asks for, of those that are here; NULL when it is not among them. */
static const struct distance_kernels *wanted_of(const struct distance_kernels **here, uint32_t n)
{
    const char *name = getenv("NAVMAP_SIMD");
    if (!name || *name == '\0')
        return here[0];
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(name, here[i]->name) == 0)
            return here[i];
    return NULL;
}

static navmap_status refuse(const struct distance_kernels **here, uint32_t n)
{
    char names[DISTANCE_LEVELS_MAX * 16] = "";
    for (uint32_t i = 0; i < n; i++) {
        const char *between = i == 0 ? "" : i + 1 < n ? ", " : " or ";
        size_t used = strlen(names);
        (void)snprintf(names + used, sizeof names - used, "%s%s", between, here[i]->name);
    }
    const char *name = getenv("NAVMAP_SIMD");
    return fail(NAVMAP_EINVAL, "NAVMAP_SIMD is \"%.40s\", must be %s on this machine",
                name ? name : "", names);
}

navmap_status distance_settle(void)
{
    if (atomic_load_explicit(&settled, memory_order_relaxed))
        return NAVMAP_OK;
    const struct distance_kernels *here[DISTANCE_LEVELS_MAX], *none = NULL;
    uint32_t n = distance_levels(here);
    const struct distance_kernels *wanted = wanted_of(here, n);
    if (!wanted)
        return refuse(here, n);
    atomic_compare_exchange_strong(&settled, &none, wanted);
    return NAVMAP_OK;
}

/* Settled or not.  A NAVMAP_SIMD that is wrong lets no handle come to be, so what stands here for
 * it computes nothing. */
static const struct distance_kernels *current(void)
{
    const struct distance_kernels *here[DISTANCE_LEVELS_MAX];
    const struct distance_kernels *k = atomic_load_explicit(&settled, memory_order_relaxed);
    if (!k)
        k = wanted_of(here, distance_levels(here));
    return k ? k : &distance_scalar;
}

const char *navmap_simd(void)
{
    return current()->name;
}

int distance_choose(uint32_t space, uint32_t scalar, uint32_t dim, struct distance *ret_distance)
{
    const struct distance_kernels *k = current();
    const bool half = scalar == LAYOUT_F16, ip = space != NAVMAP_L2;
    if (space != NAVMAP_L2 && space != NAVMAP_IP && space != NAVMAP_COSINE)
        return -1;
    *ret_distance = (struct distance){.fn = ip ? k->ip : k->l2,
                                      .many = ip ? k->ip_many : k->l2_many,
                                      .codes = k->codes,
                                      .dim = dim,
                                      .bytes = dim * layout_scalar_bytes(scalar),
                                      .space = space,
                                      .normalise = space == NAVMAP_COSINE,
                                      .name = k->name};
    if (half) {
        ret_distance->fn = ip ? k->ip_half : k->l2_half;
        ret_distance->many = ip ? k->ip_half_many : k->l2_half_many;
    }
    return 0;
}
