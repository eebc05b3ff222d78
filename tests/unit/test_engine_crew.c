/* test_engine_crew.c -- the threads of a handle: who takes part, who waits for whom, what fork,
 * signals and a refused thread do to them. */
#include "engine/crew.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/support/engine.h"

static void pause_us(long us)
{
    const struct timespec t = {us / 1000000, us % 1000000 * 1000};
    (void)nanosleep(&t, NULL);
}

/* Wait for others to get somewhere; false after 20 s, which no healthy run takes. */
static bool reaches(const _Atomic uint32_t *n, uint32_t wanted)
{
    for (int i = 0; i < 200000; i++) {
        if (atomic_load(n) >= wanted)
            return true;
        pause_us(100);
    }
    return false;
}

/* Who came ------------------------------------------------------------------------------------ */

struct roll {
    uint32_t wait_for; /* nobody leaves before so many have come */
    _Atomic uint32_t came, late;
    _Atomic uint32_t times[CREW_MAX + 1]; /* last: numbers that are too large */
    pthread_t caller;
    _Atomic uint32_t strangers; /* worker 0 on another thread, or the caller as another worker */
};

static void call_roll(void *ctx, uint32_t worker)
{
    struct roll *r = ctx;
    bool is_caller = pthread_equal(pthread_self(), r->caller) != 0;
    atomic_fetch_add(&r->strangers, is_caller != (worker == 0));
    atomic_fetch_add(&r->times[worker < CREW_MAX ? worker : CREW_MAX], 1);
    atomic_fetch_add(&r->came, 1);
    if (!reaches(&r->came, r->wait_for))
        atomic_fetch_add(&r->late, 1);
}

/* Run with n; how many took part, each once and with a number below n. */
static uint32_t roll(struct crew *crew, uint32_t n, uint32_t wait_for)
{
    struct roll r = {.wait_for = wait_for, .caller = pthread_self()};
    crew_run(crew, n, call_roll, &r);
    assert_int_equal(r.late, 0);
    assert_int_equal(r.strangers, 0);
    assert_int_equal(r.times[0], 1);
    for (uint32_t w = 0; w <= CREW_MAX; w++)
        assert_true(r.times[w] <= (w == 0 || (w < n && w < CREW_MAX)));
    return r.came;
}

static void test_each_once(void **state)
{
    (void)state;
    struct rng rng = test_rng();
    struct crew *crew = crew_new();
    assert_non_null(crew);
    assert_int_equal(roll(crew, 0, 1), 1);
    assert_int_equal(roll(crew, 1, 1), 1);
    for (int i = 0; i < 500; i++)
        (void)roll(crew, rng_below(&rng, 9), 0);
    for (uint32_t n = 1; n < 9; n++)
        assert_int_equal(roll(crew, n, n), n); /* all are there when there is enough to do */
    assert_int_equal(roll(crew, 3, 3), 3);     /* and no more than were asked for */
    crew_free(crew);
    crew_free(NULL);
}

static void test_more_than_there_can_be(void **state)
{
    (void)state;
    struct crew *crew = crew_new();
    for (uint32_t n = CREW_MAX - 1; n < CREW_MAX + 2; n++)
        assert_in_range(roll(crew, n, 2), 2, CREW_MAX);
    assert_in_range(roll(crew, UINT32_MAX, 2), 2, CREW_MAX);
    crew_free(crew);
}

/* Threads of this process, as the kernel counts them. */
static uint32_t threads_now(void)
{
    uint32_t n = 0;
    DIR *folder = opendir("/proc/self/task");
    assert_non_null(folder);
    for (struct dirent *e; (e = readdir(folder)) != NULL;)
        n += e->d_name[0] != '.';
    closedir(folder);
    return n;
}

static void test_threads_come_and_go(void **state)
{
    (void)state;
    uint32_t before = threads_now();
    struct crew *crew = crew_new();
    assert_int_equal(threads_now(), before);
    assert_int_equal(roll(crew, 1, 1), 1);
    assert_int_equal(threads_now(), before);
    assert_int_equal(roll(crew, 4, 4), 4);
    assert_int_equal(threads_now(), before + 3);
    assert_int_equal(roll(crew, 2, 2), 2);
    assert_int_equal(threads_now(), before + 3);
    crew_free(crew);
    for (int i = 0; threads_now() != before; i++) { /* a joined thread is listed a moment longer */
        assert_true(i < 1000);
        pause_us(1000);
    }
}

/* A default stack that no address space has room for: pthread_create() fails. */
static void test_refused_threads(void **state)
{
    (void)state;
    pthread_attr_t old, huge;
    assert_int_equal(pthread_getattr_default_np(&old), 0);
    assert_int_equal(pthread_attr_init(&huge), 0);
    assert_int_equal(pthread_attr_setstacksize(&huge, (size_t)1 << 47), 0);
    struct crew *none = crew_new(), *some = crew_new();
    assert_int_equal(roll(some, 2, 2), 2);
    assert_int_equal(pthread_setattr_default_np(&huge), 0);
    uint32_t alone = roll(none, 4, 1), as_before = roll(some, 4, 2);
    assert_int_equal(pthread_setattr_default_np(&old), 0);
    assert_int_equal(alone, 1);
    assert_int_equal(as_before, 2);
    assert_int_equal(roll(none, 4, 4), 4);
    crew_free(none);
    crew_free(some);
    pthread_attr_destroy(&huge);
    pthread_attr_destroy(&old);
}

/* Work ------------------------------------------------------------------------------------------*/

enum { ITEMS = 5 };
struct sum {
    uint32_t input[ITEMS]; /* plain: written before the run, read by the workers */
    uint32_t output[ITEMS];
    _Atomic uint32_t next;
};

static void add_items(void *ctx, uint32_t worker)
{
    struct sum *s = ctx;
    (void)worker;
    for (uint32_t i; (i = atomic_fetch_add_explicit(&s->next, 1, memory_order_relaxed)) < ITEMS;)
        s->output[i] = 2 * s->input[i];
}

struct many {
    struct crew *crew;
    uint32_t jobs, n;
    uint64_t wrong;
};

static void *many_jobs(void *arg)
{
    struct many *m = arg;
    struct sum s; /* of one round is that of the next: who came late would spoil it */
    for (uint32_t job = 0; job < m->jobs; job++) {
        for (uint32_t i = 0; i < ITEMS; i++) {
            s.input[i] = job + i;
            s.output[i] = 0;
        }
        atomic_init(&s.next, 0);
        crew_run(m->crew, m->n, add_items, &s);
        for (uint32_t i = 0; i < ITEMS; i++)
            m->wrong += s.output[i] != 2 * (job + i);
    }
    return NULL;
}

static uint32_t jobs(uint32_t n)
{
    return getenv("NAVMAP_SHORT") ? n / 10 : n;
}

static void test_sums(void **state)
{
    (void)state;
    struct many two = {crew_new(), jobs(80000), 2, 0}, five = {crew_new(), jobs(20000), 5, 0};
    many_jobs(&two);
    many_jobs(&five);
    assert_int_equal(two.wrong + five.wrong, 0);
    crew_free(two.crew);
    crew_free(five.crew);
}

static void test_two_callers(void **state)
{
    (void)state;
    struct crew *crew = crew_new();
    struct many many[3] = {
        {crew, jobs(20000), 2, 0}, {crew, jobs(20000), 3, 0}, {crew, jobs(20000), 4, 0}};
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, many_jobs, &many[i]), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_int_equal(many[i].wrong, 0);
    }
    crew_free(crew);
}

struct nest {
    struct crew *crew;
    _Atomic uint32_t came, failures;
};

static void nest(void *ctx, uint32_t worker)
{
    struct nest *outer = ctx;
    (void)worker;
    atomic_fetch_add(&outer->came, 1);
    bool together = reaches(&outer->came, 2);
    struct roll inner = {.wait_for = 1, .caller = pthread_self()};
    crew_run(outer->crew, 4, call_roll, &inner);
    atomic_fetch_add(&outer->failures,
                     !together || inner.came != 1 || inner.times[0] != 1 || inner.strangers != 0);
}

static void test_nested_is_alone(void **state)
{
    (void)state;
    struct nest outer = {.crew = crew_new()};
    for (int i = 0; i < 20; i++) {
        atomic_store(&outer.came, 0);
        crew_run(outer.crew, 2, nest, &outer);
        assert_int_equal(outer.came, 2);
        assert_int_equal(outer.failures, 0);
    }
    assert_int_equal(roll(outer.crew, 2, 2), 2); /* not left busy */
    crew_free(outer.crew);
}

/* The process around it -------------------------------------------------------------------------*/

static bool is_fault(int sig)
{
    return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP ||
           sig == SIGSYS;
}

static uint32_t wrong_signals(bool blocked)
{
    uint32_t wrong = 0;
    sigset_t mask;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (int sig = 1; sig <= SIGRTMAX; sig++)
        if (sig != SIGKILL && sig != SIGSTOP && (sig < 32 || sig >= SIGRTMIN))
            wrong += sigismember(&mask, sig) != (blocked && !is_fault(sig));
    return wrong;
}

static void look_around(void *ctx, uint32_t worker)
{
    struct nest *n = ctx;
    char name[16] = "";
    atomic_fetch_add(&n->came, 1);
    bool together = reaches(&n->came, 2);
    (void)pthread_getname_np(pthread_self(), name, sizeof name);
    atomic_fetch_add(&n->failures, !together || wrong_signals(worker != 0) != 0 ||
                                       (strcmp(name, "navmap-w") == 0) != (worker != 0));
}

static void test_signals_and_name(void **state)
{
    (void)state;
    struct nest n = {.crew = crew_new()};
    crew_run(n.crew, 2, look_around, &n);
    assert_int_equal(n.came, 2);
    assert_int_equal(n.failures, 0);
    assert_int_equal(wrong_signals(false), 0);
    crew_free(n.crew);
}

/* The thread sanitizer gives up in a child that makes a thread where the parent had one, and in one
 * that ends with a thread other than main's. */
#if defined(__SANITIZE_THREAD__)
#define NO_THREADS_AFTER_FORK
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NO_THREADS_AFTER_FORK
#endif
#endif

static int exit_code(pid_t child)
{
    int how;
    assert_true(child > 0);
    assert_true(waitpid(child, &how, 0) == child);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -1;
}

/* In a child: nobody of the crew is here, and it can be used again. */
static void child_uses(struct crew *crew)
{
    alarm(20);
#ifdef NO_THREADS_AFTER_FORK
    crew_free(crew);
    _exit(0);
#endif
    struct roll r = {.wait_for = 3, .caller = pthread_self()};
    if (threads_now() > 1 && !getenv("NAVMAP_SHORT")) /* a sanitizer has a thread of its own */
        _exit(2);
    crew_run(crew, 3, call_roll, &r);
    if (r.came != 3 || r.late || r.strangers)
        _exit(3);
    struct many m = {crew, 100, 3, 0};
    many_jobs(&m);
    crew_free(crew);
    _exit(m.wrong ? 4 : 0);
}

static void test_fork(void **state)
{
    (void)state;
    struct crew *crew = crew_new();
    pid_t child = fork(); /* before it has threads */
    if (child == 0)
        child_uses(crew);
    assert_int_equal(exit_code(child), 0);
    assert_int_equal(roll(crew, 3, 3), 3);
    child = fork(); /* while they sleep */
    if (child == 0)
        child_uses(crew);
    assert_int_equal(exit_code(child), 0);
    child = fork(); /* the child only lets go of it */
    if (child == 0) {
        crew_free(crew);
        _exit(0);
    }
    assert_int_equal(exit_code(child), 0);
    assert_int_equal(roll(crew, 3, 3), 3);
    crew_free(crew);
}

/* Another thread is anywhere in crew_run(), locks held or not. */
static _Atomic bool stop;

static void *jobs_until_told(void *arg)
{
    struct many m = {arg, 100, 3, 0};
    while (!atomic_load(&stop))
        many_jobs(&m);
    return m.wrong ? arg : NULL;
}

static void test_fork_during_jobs(void **state)
{
    (void)state;
    struct crew *crew = crew_new();
    pthread_t thread;
    void *failed;
    int failures = 0;
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&thread, NULL, jobs_until_told, crew), 0);
    for (uint32_t i = 0; i < jobs(300); i++) {
        pid_t child = fork();
        if (child == 0)
            child_uses(crew);
        failures += exit_code(child) != 0;
    }
    atomic_store(&stop, true);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    assert_int_equal(failures, 0);
    crew_free(crew);
}

/* Worker `forker` forks inside its task, and the child returns from there. */
struct fork_inside {
    uint32_t forker;
    _Atomic uint32_t came, forked, is_child;
    pid_t child;
};

/* Before stdio and the leak sanitizer, which would find the other threads' stacks gone. */
static void leave(void)
{
    _exit(0);
}

static void fork_inside(void *ctx, uint32_t worker)
{
    struct fork_inside *f = ctx;
    atomic_fetch_add(&f->came, 1);
    if (!reaches(&f->came, 2))
        return;
    if (worker != f->forker) {
        (void)reaches(&f->forked, 1); /* still at work when it happens */
        return;
    }
    f->child = fork();
    atomic_store(&f->forked, 1);
    if (f->child == 0) {
        sigset_t none; /* a thread of the crew would not hear the alarm */
        sigemptyset(&none);
        (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
        alarm(20);
        (void)atexit(leave);
        atomic_store(&f->is_child, 1);
    }
}

static void test_fork_inside_a_task(void **state)
{
    (void)state;
    struct crew *crew = crew_new();
#ifdef NO_THREADS_AFTER_FORK
    const uint32_t forkers = 1;
#else
    const uint32_t forkers = 2;
#endif
    for (uint32_t forker = 0; forker < forkers; forker++) {
        struct fork_inside f = {.forker = forker};
        crew_run(crew, 2, fork_inside, &f);
        if (atomic_load(&f.is_child))
            child_uses(crew);
        /* Where worker 1 forked, its thread is all the child has, and ends with it. */
        assert_int_equal(exit_code(f.child), 0);
        assert_int_equal(roll(crew, 2, 2), 2);
    }
    crew_free(crew);
}

static void test_default_size(void **state)
{
    (void)state;
    cpu_set_t old, one;
    uint32_t n = crew_default_size();
    assert_in_range(n, 1, CREW_MAX);
    assert_int_equal(sched_getaffinity(0, sizeof old, &old), 0);
    assert_true(n <= (uint32_t)CPU_COUNT(&old));
    assert_int_equal(navmap_default_threads(), n);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &old))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
        n = crew_default_size();
        assert_int_equal(sched_setaffinity(0, sizeof old, &old), 0);
        assert_int_equal(n, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_once),
        cmocka_unit_test(test_more_than_there_can_be),
        cmocka_unit_test(test_threads_come_and_go),
        cmocka_unit_test(test_refused_threads),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_two_callers),
        cmocka_unit_test(test_nested_is_alone),
        cmocka_unit_test(test_signals_and_name),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_fork_during_jobs),
        cmocka_unit_test(test_fork_inside_a_task),
        cmocka_unit_test(test_default_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
