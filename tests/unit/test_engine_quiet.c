/* test_engine_quiet.c -- a search that has run once before asks nothing of anybody: no memory, no
 * lock but the view's, and no system call, but for one stat() a second in a reader.
 *
 * Memory and locks are counted by functions of this program that stand before libc's.  System calls
 * are caught by a seccomp filter in a child process, which lets it do nothing but exit.
 */
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/navmap_filter.h"
#include "tests/support/engine.h"

#define DIM 24u
#define N 2000u
#define ROWS 16u
#define K_MAX 600u
#define EXPORT __attribute__((visibility("default")))

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* What stands before libc -----------------------------------------------------------------------*/

/* volatile: a compiler knows that malloc() looks at nobody's variables. */
static volatile bool watching;
static volatile uint32_t n_memory, n_locks;
static void *volatile only_lock; /* that was taken; or "several" */
static char several;

#ifndef SANITIZED /* sanitizers stand there themselves */
static void note_lock(void *lock)
{
    if (!watching)
        return;
    n_locks++;
    only_lock = !only_lock || only_lock == lock ? lock : &several;
}

static uint8_t early[1 << 16]; /* while dlsym() looks for libc's functions */
static size_t early_used;

static void *early_memory(size_t bytes)
{
    size_t at = early_used;
    early_used += (bytes + 15) & ~(size_t)15;
    return early_used <= sizeof early ? early + at : NULL;
}
static void *next(const char *name)
{
    static bool looking;
    if (looking)
        return NULL;
    looking = true;
    void *f = dlsym(RTLD_NEXT, name);
    looking = false;
    return f;
}
/* The next function of this name; of its type. */
#define NEXT(name)                                                                                 \
    static __typeof__(&name) real_;                                                                \
    if (!real_) {                                                                                  \
        void *found_ = next(#name);                                                                \
        memcpy(&real_, &found_, sizeof real_);                                                     \
    }                                                                                              \
    n_memory += watching

EXPORT void *malloc(size_t bytes)
{
    NEXT(malloc);
    return real_ ? real_(bytes) : early_memory(bytes);
}
EXPORT void *calloc(size_t n, size_t bytes)
{
    NEXT(calloc);
    return real_ ? real_(n, bytes) : early_memory(n * bytes);
}
EXPORT void *realloc(void *p, size_t bytes)
{
    NEXT(realloc);
    return real_(p, bytes);
}
EXPORT int posix_memalign(void **ret_p, size_t alignment, size_t bytes)
{
    NEXT(posix_memalign);
    return real_(ret_p, alignment, bytes);
}
EXPORT void *aligned_alloc(size_t alignment, size_t bytes)
{
    NEXT(aligned_alloc);
    return real_(alignment, bytes);
}
EXPORT void free(void *p)
{
    if ((uint8_t *)p >= early && (uint8_t *)p < early + sizeof early)
        return;
    NEXT(free);
    real_(p);
}
#define COUNTED_LOCK(name, type)                                                                   \
    EXPORT int name(type *lock)                                                                    \
    {                                                                                              \
        static __typeof__(&name) real_;                                                            \
        if (!real_) {                                                                              \
            void *found_ = next(#name);                                                            \
            memcpy(&real_, &found_, sizeof real_);                                                 \
        }                                                                                          \
        note_lock(lock);                                                                           \
        return real_(lock);                                                                        \
    }
COUNTED_LOCK(pthread_mutex_lock, pthread_mutex_t)
COUNTED_LOCK(pthread_mutex_trylock, pthread_mutex_t)
COUNTED_LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
COUNTED_LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)
#endif

/* Indexes and searches --------------------------------------------------------------------------*/

static float *vectors, *queries;

static void fill(navmap_index *ix)
{
    add_range(ix, vectors, 0, N);
    for (uint64_t i = 0; i < N; i += 9)
        assert_ok(navmap_delete(ix, i));
}
static navmap_index *make_writer(void)
{
    navmap_index *ix = create_index(DIM, NAVMAP_COSINE, 8, NAVMAP_FULL);
    fill(ix);
    return ix;
}
static navmap_index *make_reader(void)
{
    assert_ok(navmap_close(make_writer()));
    return open_index(NAVMAP_READ);
}
static navmap_index *make_private(void)
{
    struct navmap_options o = {.struct_size = sizeof o, .dim = DIM, .space = NAVMAP_L2, .M = 8};
    navmap_index *ix = NULL;
    assert_ok(navmap_new(&o, &ix));
    fill(ix);
    return ix;
}

static const struct maker {
    const char *name;
    navmap_index *(*make)(void);
} makers[] = {
    {"writer", make_writer},
    {"reader", make_reader},
    {"private", make_private},
};

static int half(void *ctx, uint64_t label)
{
    (void)ctx;
    return label % 2 == 0;
}

static const struct way {
    const char *name;
    uint32_t rows, k;
    bool exact;
    struct navmap_search_options o;
    int prepared; /* a filter of sets[prepared - 1] */
} ways[] = {
    {"one row", 1, 10, false, {.ef = 50}, 0},
    {"no options to speak of", 1, 1, false, {.ef = 0}, 0},
    {"num_threads 1", ROWS, 10, false, {.ef = 50, .num_threads = 1}, 0},
    {"a batch too small to share out", ROWS, 10, false, {.ef = 50, .num_threads = 4}, 0},
    {"a beam of two heaps", 1, K_MAX, false, {.ef = K_MAX}, 0},
    {"a function that refuses half", 1, 10, false, {.ef = 20, .filter = half}, 0},
    {"exact", 1, 10, true, {.ef = 0}, 0},
    {"a filter that lets half pass", ROWS, 10, false, {.ef = 10}, 1},
    {"a filter that lets few pass", ROWS, 10, false, {.ef = 50}, 2},
    {"a filter that lets few pass, one row", 1, 10, false, {.ef = 50}, 2},
    {"a filter, exact", 1, 10, true, {.ef = 0}, 1},
};
static navmap_filter_set *sets[2];

static void make_sets(navmap_index *ix)
{
    static uint64_t labels[N];
    for (uint64_t i = 0; i < N; i++)
        labels[i] = 2 * i;
    assert_ok(navmap_filter_create(ix, N / 2, labels, NULL, &sets[0]));
    assert_ok(navmap_filter_create(ix, 50, labels, NULL, &sets[1]));
}
static void free_sets(void)
{
    navmap_filter_free(sets[0]);
    navmap_filter_free(sets[1]);
}

enum { WAYS = sizeof ways / sizeof *ways };

static navmap_status search(navmap_index *ix, const struct way *way, uint32_t number)
{
    static uint64_t labels[ROWS * K_MAX], found[ROWS];
    static float distances[ROWS * K_MAX];
    struct navmap_search_options o = way->o;
    o.struct_size = sizeof o;
    if (way->prepared)
        o.set = sets[way->prepared - 1];
    const float *q = queries + (size_t)(number % ROWS) * DIM;
    return (way->exact ? navmap_search_exact : navmap_search)(ix, way->rows, q, way->k, &o, labels,
                                                              distances, found);
}
static uint32_t times(const struct way *way)
{
    return (way->exact || way->k == K_MAX ? 100 : 1000) / way->rows;
}

static int make_vectors(void **state)
{
    struct rng r = test_rng();
    vectors = clustered_vectors(&r, N, DIM, 20);
    queries = clustered_vectors(&r, 2 * ROWS, DIM, 20);
    return make_dir(state);
}
static int free_vectors(void **state)
{
    free(vectors);
    free(queries);
    return remove_dir(state);
}

static void run_memory_and_locks(const struct maker *maker)
{
    navmap_index *ix = maker->make();
    make_sets(ix);
    for (uint32_t i = 0; i < WAYS; i++)
        assert_ok(search(ix, &ways[i], 0));
    void *view_lock = NULL;
    for (uint32_t i = 0; i < WAYS; i++) {
        const struct way *way = &ways[i];
        navmap_status status = NAVMAP_OK;
        n_memory = n_locks = 0;
        only_lock = view_lock;
        watching = true;
        for (uint32_t t = 0; t < times(way) && status == NAVMAP_OK; t++)
            status = search(ix, way, t);
        watching = false;
        assert_ok(status);
        if (n_memory != 0 || only_lock == &several ||
            n_locks > times(way) * (way->rows + 1 + (way->prepared != 0)))
            fail_msg("%s, %s: %u calls about memory, %u locks taken%s", maker->name, way->name,
                     n_memory, n_locks, only_lock == &several ? " of several" : "");
        assert_true(n_locks > 0); /* the view's: so locks are seen */
        view_lock = only_lock;
    }
    free_sets();
    assert_ok(navmap_close(ix));
}

static void test_memory_and_locks(void **state)
{
    (void)state;
#ifdef SANITIZED
    print_message("skipped: a sanitizer's own functions stand before libc's\n");
    skip();
#endif
    watching = true; /* a count that cannot rise would prove nothing */
    void *volatile p = malloc(100);
    watching = false;
    free(p);
    assert_int_equal(n_memory, 1);
    for (uint32_t i = 0; i < sizeof makers / sizeof *makers; i++) {
        run_memory_and_locks(&makers[i]);
        (void)remove_dir(state);
        assert_int_equal(make_dir(state), 0);
    }
}

/* System calls ----------------------------------------------------------------------------------*/

enum progress { STARTED, REFUSED, LOCKED, CAUGHT, DONE };
static struct report {
    enum progress progress;
    int syscall;
    uint32_t way;
    navmap_status status;
} * report; /* shared with the child */

static void caught(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    report->progress = CAUGHT;
    report->syscall = info->si_syscall;
    _exit(0);
}

/* From here on only exit_group; and stat(), which a reader calls once a second (move.c, V2). */
static bool lock_down(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_newfstatat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
    return sigaction(SIGSYS, &action, NULL) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void child(const struct maker *maker, bool cheat)
{
    navmap_index *ix = maker->make();
    make_sets(ix);
    for (uint32_t i = 0; i < WAYS; i++)
        report->status |= search(ix, &ways[i], 0);
    if (!lock_down()) {
        report->progress = REFUSED;
        _exit(0);
    }
    report->progress = LOCKED;
    for (uint32_t i = 0; i < WAYS; i++) {
        report->way = i;
        for (uint32_t t = 0; t < times(&ways[i]); t++)
            report->status |= search(ix, &ways[i], t);
    }
    if (cheat)
        (void)syscall(SYS_getppid);
    report->progress = DONE;
    _exit(0);
}

static void run_child(const struct maker *maker, bool cheat)
{
    int status;
    memset(report, 0, sizeof *report);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        child(maker, cheat);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(report->status, NAVMAP_OK);
}

static void test_system_calls(void **state)
{
    (void)state;
#ifdef SANITIZED
    print_message("skipped: a sanitizer makes system calls of its own\n");
    skip();
#endif
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(report != MAP_FAILED);
    for (uint32_t i = 0; i < sizeof makers / sizeof *makers; i++) {
        run_child(&makers[i], false);
        if (report->progress == REFUSED) {
            print_message("skipped: this process may not set a seccomp filter\n");
            skip();
        }
        if (report->progress != DONE)
            fail_msg("%s, %s: system call %d", makers[i].name, ways[report->way].name,
                     report->syscall);
        (void)remove_dir(state);
        assert_int_equal(make_dir(state), 0);
    }
    run_child(&makers[0], true);
    assert_int_equal(report->progress, CAUGHT);
    assert_int_equal(report->syscall, SYS_getppid);
    (void)munmap(report, sizeof *report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_memory_and_locks, make_vectors, free_vectors),
        cmocka_unit_test_setup_teardown(test_system_calls, make_vectors, free_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
