/* epoch.c -- a word that every forked child finds zeroed, and the number drawn when it is.
 *
 * Its own room because storage and engine both keep things that a child must not touch: locks,
 * descriptors and LMDB's environment there, threads here.  A pid would not do, since a child of a
 * child may get its grandparent's, and getpid() is a system call.
 */
#include "storage/epoch.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static _Atomic uint64_t epoch_fallback; /* where no page can be had: the child handler clears it */
static _Atomic(_Atomic uint64_t *) epoch_word;

static void fork_child(void)
{
    atomic_store(atomic_load(&epoch_word), 0);
}

static void fork_setup(void)
{
    _Atomic uint64_t *word = &epoch_fallback;
    size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED) {
        /* Catches children that come about without handlers.  Refused by kernels before 4.14;
         * the child handler does the same. */
        (void)madvise(page, bytes, MADV_WIPEONFORK);
        word = page;
    }
    atomic_store(&epoch_word, word);
    (void)pthread_atfork(NULL, NULL, fork_child);
}

static uint64_t scramble(uint64_t x)
{
    /* A bijection of 64 bits: nearby times and pids give unrelated numbers. */
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

uint64_t fork_epoch(void)
{
    _Atomic uint64_t *word = atomic_load_explicit(&epoch_word, memory_order_acquire);
    if (word == NULL) {
        (void)pthread_once(&fork_once, fork_setup);
        word = atomic_load(&epoch_word);
    }
    uint64_t epoch = atomic_load_explicit(word, memory_order_relaxed);
    if (__builtin_expect(epoch != 0, 1))
        return epoch;

    /* First call in this process.  Threads may race; all take the winner's number. */
    struct timespec now = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
    uint64_t fresh = scramble(ns + scramble((uint64_t)getpid()));
    if (fresh == 0)
        fresh = 1;
    return atomic_compare_exchange_strong(word, &epoch, fresh) ? fresh : epoch;
}
