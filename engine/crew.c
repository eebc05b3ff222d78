/* crew.c -- the crew's one lock, and how its threads sleep between jobs.
 *
 * A job has seats.  Its owner sets them out, wakes as many threads, works, and then takes away the
 * seats on which nobody has sat down: it waits for those that work, not for those still waking, so
 * a job that is over quickly costs the wake-up and no more, however busy the machine is.
 *
 *      idle --own()--> owned --offer()--> seats --settle()--> owned --give_up()--> idle
 *
 *      In a forked child begin_anew() leads from anywhere to idle, called by its first own().
 *
 * S1  `busy` is set from own() to give_up(), by who owns the crew; nobody waits for it.  The list
 *     of threads is the owner's alone.
 * S2  The job's fields are touched under `lock` only, which is never held while a task runs.
 * S3  `epoch` is the process that the lock, the conditions and the threads belong to.  In another
 *     one they are not looked at, and what they held is forgotten: nothing of it lives there.
 */
#include "engine/crew.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "engine/navmap.h"
#include "storage/cpus.h"
#include "storage/epoch.h"

#define PATIENCE_NS 20000L

struct crew {
    _Atomic uint64_t epoch; /* S3; ~fork_epoch() while a child begins anew */
    _Atomic bool busy;      /* S1 */
    uint32_t n_threads;
    pthread_t threads[CREW_MAX - 1];

    pthread_mutex_t lock;
    pthread_cond_t wake; /* there are seats, or closing */
    pthread_cond_t done; /* nobody works any more */
    /* lock: */
    crew_task *task;
    void *ctx;
    uint32_t seats; /* of this job, the owner's not counted */
    uint32_t taken; /* of them */
    bool closing;
    _Atomic uint32_t working; /* of those who took a seat; the owner reads it without the lock */
};

static void begin_anew(struct crew *crew)
{
    (void)pthread_mutex_init(&crew->lock, NULL);
    (void)pthread_cond_init(&crew->wake, NULL);
    (void)pthread_cond_init(&crew->done, NULL);
    crew->n_threads = crew->seats = crew->taken = 0;
    atomic_store_explicit(&crew->working, 0, memory_order_relaxed);
    atomic_store_explicit(&crew->busy, false, memory_order_relaxed);
}

struct crew *crew_new(void)
{
    struct crew *crew = calloc(1, sizeof *crew);
    if (!crew)
        return NULL;
    begin_anew(crew);
    atomic_store(&crew->epoch, fork_epoch());
    return crew;
}

void crew_free(struct crew *crew)
{
    if (!crew)
        return;
    if (atomic_load(&crew->epoch) == fork_epoch()) { /* S3 */
        pthread_mutex_lock(&crew->lock);
        crew->closing = true;
        pthread_mutex_unlock(&crew->lock);
        pthread_cond_broadcast(&crew->wake);
        for (uint32_t i = 0; i < crew->n_threads; i++)
            (void)pthread_join(crew->threads[i], NULL);
        (void)pthread_cond_destroy(&crew->wake);
        (void)pthread_cond_destroy(&crew->done);
        (void)pthread_mutex_destroy(&crew->lock);
    }
    free(crew);
}

/* A thread of the crew --------------------------------------------------------------------------*/

static void *live(void *arg)
{
    struct crew *crew = arg;
    uint64_t epoch = fork_epoch();
    (void)pthread_setname_np(pthread_self(), "navmap-w");
    pthread_mutex_lock(&crew->lock);
    for (;;) {
        while (crew->taken == crew->seats && !crew->closing)
            pthread_cond_wait(&crew->wake, &crew->lock);
        if (crew->closing)
            break;
        uint32_t worker = ++crew->taken;
        atomic_fetch_add_explicit(&crew->working, 1, memory_order_relaxed);
        crew_task *task = crew->task;
        void *ctx = crew->ctx;
        pthread_mutex_unlock(&crew->lock);

        task(ctx, worker);
        if (fork_epoch() != epoch)
            return NULL; /* the task forked, and this is the child: there is no crew here (C3) */

        pthread_mutex_lock(&crew->lock);
        if (atomic_fetch_sub_explicit(&crew->working, 1, memory_order_release) == 1)
            pthread_cond_signal(&crew->done);
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

/* C1, C2.  At least `n` threads, or as many as can be had. */
static void hire(struct crew *crew, uint32_t n)
{
    if (crew->n_threads >= n)
        return;
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        sigdelset(&blocked, faults[i]);
    (void)pthread_sigmask(SIG_SETMASK, &blocked, &before); /* a thread inherits it */
    while (crew->n_threads < n &&
           pthread_create(&crew->threads[crew->n_threads], NULL, live, crew) == 0)
        crew->n_threads++;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* A job -----------------------------------------------------------------------------------------*/

/* S1, S3.  False: another call has it, or is just making it usable in this child. */
static bool own(struct crew *crew)
{
    uint64_t now = fork_epoch(), was = atomic_load_explicit(&crew->epoch, memory_order_acquire);
    if (__builtin_expect(was != now, 0)) {
        /* ~now, not a constant: a child forked during this must see that it is not its own. */
        if (was == ~now || !atomic_compare_exchange_strong(&crew->epoch, &was, ~now))
            return false;
        begin_anew(crew);
        atomic_store_explicit(&crew->epoch, now, memory_order_release);
    }
    return !atomic_exchange_explicit(&crew->busy, true, memory_order_acquire);
}

static void give_up(struct crew *crew)
{
    atomic_store_explicit(&crew->busy, false, memory_order_release);
}

static void offer(struct crew *crew, uint32_t seats, crew_task *task, void *ctx)
{
    pthread_mutex_lock(&crew->lock);
    crew->task = task;
    crew->ctx = ctx;
    crew->seats = seats;
    crew->taken = 0;
    pthread_mutex_unlock(&crew->lock);
    if (seats == crew->n_threads)
        pthread_cond_broadcast(&crew->wake);
    else
        for (uint32_t i = 0; i < seats; i++)
            pthread_cond_signal(&crew->wake);
}

/* Leave the core's other thread and the memory bus alone for an instant. */
static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool all_done(struct crew *crew)
{
    return atomic_load_explicit(&crew->working, memory_order_acquire) == 0;
}

/* Work is shared out in small pieces, so that the last ones end close together: to look for a while
 * costs less than the 20 us of falling asleep and being woken, and never much more. */
static bool done_soon(struct crew *crew)
{
    struct timespec begin, now;
    if (all_done(crew))
        return true;
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        for (int i = 0; i < 8; i++)
            relax();
        if (all_done(crew))
            return true;
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000000000L + now.tv_nsec - begin.tv_nsec < PATIENCE_NS);
    return false;
}

static void settle(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->seats = crew->taken; /* who has not sat down by now need not */
    pthread_mutex_unlock(&crew->lock);
    if (done_soon(crew))
        return;
    pthread_mutex_lock(&crew->lock);
    while (!all_done(crew))
        pthread_cond_wait(&crew->done, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
}

void crew_run(struct crew *crew, uint32_t n, crew_task *task, void *ctx)
{
    if (n < 2 || !own(crew)) {
        task(ctx, 0);
        return;
    }
    uint64_t epoch = fork_epoch();
    uint32_t others = (n < CREW_MAX ? n : CREW_MAX) - 1;
    hire(crew, others);
    offer(crew, others < crew->n_threads ? others : crew->n_threads, task, ctx);
    task(ctx, 0);
    if (fork_epoch() != epoch)
        return; /* the task forked, and this is the child: who works for us works in the parent */
    settle(crew);
    give_up(crew);
}

/* Size ------------------------------------------------------------------------------------------*/

uint32_t crew_default_size(void)
{
    uint32_t n = cpus_usable();
    return n < CREW_MAX ? n : CREW_MAX;
}

uint32_t navmap_default_threads(void)
{
    return crew_default_size();
}
