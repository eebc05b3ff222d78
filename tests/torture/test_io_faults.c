/* test_io_faults.c -- the n-th call of each kind fails, once or for a while, for every n (T6).
 *
 * A small life, create included, in a child (a fault must never be a signal or a hang).  EIO,
 * ENOSPC, EINTR, EMFILE, ENOMEM and short writes, by navmap's calls and LMDB's alike.  Required:
 *   G1  a failing call says so; whole items are kept or lost, never parts
 *   G2  ENOSPC before the commit point keeps the stage: with space again the same call succeeds
 *   G3  EINTR and short writes on navmap's own files are not noticed
 *   G4  afterwards the index opens, is exactly a commit, verifies, and works
 *   G5  a create that failed leaves nothing, or an index that opens
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "storage/fail.h"
#include "tests/support/aftermath.h"
#include "tests/support/harness.h"
#include "tests/support/interpose.h"
#include "tests/support/oracle.h"
#include "tests/support/workload.h"

#define STEPS 16u
#define STORM 40u /* failures in a row of an "ever" fault before the trouble ends */
#define CHILD_SECONDS 20u

struct fault {
    int sys;   /* enum sys_kind, or -1: `io` counts */
    int io;    /* enum io_kind */
    int error; /* errno or INTERPOSE_SHORT */
    bool ever;
    bool silent; /* G3: nobody may notice */
    const char *name;
};

#define BOTH_(sys, io, error, silent, name)                                                        \
    {sys, io, error, false, silent, name},                                                         \
    {                                                                                              \
        sys, io, error, true, silent, name                                                         \
    }
#define BOTH(sys, io, error, name) BOTH_(sys, io, error, false, name)
#define SILENT(sys, io, error, name) BOTH_(sys, io, error, true, name)
static const struct fault faults[] = {
    BOTH(SYS_OPEN, -1, EIO, "open EIO"),
    BOTH(SYS_OPEN, -1, EMFILE, "open EMFILE"),
    BOTH(SYS_OPEN, -1, EINTR, "open EINTR"),
    BOTH(SYS_WRITE, -1, EIO, "write EIO"),
    BOTH(SYS_WRITE, -1, ENOSPC, "write ENOSPC"),
    BOTH(SYS_WRITE, -1, EDQUOT, "write EDQUOT"),
    SILENT(SYS_WRITE, -1, EINTR, "write EINTR"),
    BOTH(SYS_WRITE, -1, INTERPOSE_SHORT, "write short"),
    BOTH(SYS_FSYNC, -1, EIO, "fsync EIO"),
    BOTH(SYS_FSYNC, -1, ENOSPC, "fsync ENOSPC"),
    BOTH(SYS_FDATASYNC, -1, EIO, "fdatasync EIO"),
    BOTH(SYS_FDATASYNC, -1, EINTR, "fdatasync EINTR"),
    BOTH(SYS_FDATASYNC, -1, ENOSPC, "fdatasync ENOSPC"),
    BOTH(SYS_MSYNC, -1, EIO, "msync EIO"),
    BOTH(SYS_FTRUNCATE, -1, ENOSPC, "ftruncate ENOSPC"),
    BOTH(SYS_FALLOCATE, -1, EIO, "fallocate EIO"),
    BOTH(SYS_FALLOCATE, -1, ENOSPC, "fallocate ENOSPC"),
    SILENT(SYS_FALLOCATE, -1, EINTR, "fallocate EINTR"),
    SILENT(SYS_FALLOCATE, -1, EOPNOTSUPP, "fallocate EOPNOTSUPP"),
    BOTH(SYS_RENAME, -1, EIO, "rename EIO"),
    BOTH(SYS_RENAME, -1, ENOSPC, "rename ENOSPC"),
    BOTH(SYS_MKDIR, -1, EACCES, "mkdir EACCES"),
    BOTH(-1, IO_MMAP, ENOMEM, "mmap ENOMEM"),
    BOTH(-1, IO_PREAD, EIO, "pread EIO"),
    BOTH(-1, IO_FSTATFS, EIO, "fstatfs EIO"),
};
#define FAULTS (sizeof faults / sizeof faults[0])

/* Shared with the child. */
struct shared {
    _Atomic uint32_t seen, fired;
    _Atomic int stage_kept; /* G2 was exercised */
    char why[700];
};

struct test {
    struct harness h;
    struct oracle *oracle;
    struct shared *shared;
    struct workload workload;
    char path[320];
    const struct fault *fault;
    uint32_t nth;
    bool armed;
    uint64_t fired, unnoticed, kept, not_reached;
};

static int decide(struct test *t)
{
    struct shared *s = t->shared;
    if (!t->armed)
        return 0;
    uint32_t seen = atomic_fetch_add(&s->seen, 1) + 1;
    if (seen < t->nth || (seen > t->nth && !t->fault->ever))
        return 0;
    if (atomic_fetch_add(&s->fired, 1) + 1 >= STORM)
        t->armed = false;
    return t->fault->error;
}

static int before_call(void *ctx, const struct sys_event *e)
{
    struct test *t = ctx;
    return (int)e->kind == t->fault->sys ? decide(t) : 0;
}

static int before_io(void *ctx, const struct io_event *e)
{
    struct test *t = ctx;
    return (int)e->kind == t->fault->io ? decide(t) : 0;
}

static void install(struct test *t)
{
    static struct interpose_hooks calls;
    static struct io_hooks io;
    calls = (struct interpose_hooks){t, t->h.dir, before_call, NULL};
    io = (struct io_hooks){t, before_io, NULL, NULL};
    t->armed = true;
    interpose_set(&calls);
    io_hooks = &io;
}

/* The child -------------------------------------------------------------------------------------*/

static int give_up(struct test *t, const char *what)
{
    (void)snprintf(t->shared->why, sizeof t->shared->why, "%s: %s", what, navmap_error_detail());
    return 1;
}

/* G5, and then an index to go on with. */
static int create(struct test *t)
{
    navmap_status status = workload_create(&t->workload);
    if (status == NAVMAP_OK)
        return 0;
    t->armed = false;
    if (t->fault->silent)
        return give_up(t, "G3: noticed by create");
    if (access(t->path, F_OK) == 0) {
        if (workload_open(&t->workload, false) != NAVMAP_OK)
            return give_up(t, "G5: what a failed create left does not open");
        t->oracle->notes[0] =
            (struct oracle_note){store_state_hash(t->workload.store, false), 0, 1};
        return 0;
    }
    return workload_create(&t->workload) == NAVMAP_OK ? 0 : give_up(t, "G5: create again");
}

/* After a failing call: free space, repeat, or reopen.  G2. */
static int overcome(struct test *t, navmap_status said)
{
    struct workload *w = &t->workload;
    t->armed = false;
    if (t->fault->silent)
        return give_up(t, "G3: noticed");
    if (w->store && said == NAVMAP_ENOSPC) {
        navmap_status again = workload_flush(w);
        if (again == NAVMAP_OK) {
            atomic_store(&t->shared->stage_kept, 1);
            return 0;
        }
        if (again != NAVMAP_EPOISONED)
            return give_up(t, "G2: with space again, the flush says");
    }
    if (w->store && said == NAVMAP_ENOMEM)
        return workload_flush(w) == NAVMAP_OK ? 0 : give_up(t, "with memory again, the flush says");
    if (w->store)
        workload_drop(w);
    struct store_options options = {STORE_FULL, 10.0, 0};
    if (store_open(t->path, STORE_WRITE, &options, &w->store) != NAVMAP_OK)
        return give_up(t, "G4: reopening");
    uint64_t lsn = store_last_lsn(w->store);
    char why[600];
    if (!oracle_check(t->oracle, w->store, lsn, atomic_load(&t->oracle->acked_lsn), why,
                      sizeof why)) {
        (void)snprintf(t->shared->why, sizeof t->shared->why, "G4: %s", why);
        return 1;
    }
    workload_drop(w);
    oracle_rewind(t->oracle, lsn);
    return workload_open(w, false) == NAVMAP_OK ? 0 : give_up(t, "G4: reopening twice");
}

static int live(struct test *t)
{
    struct workload *w = &t->workload;
    install(t);
    int code = create(t);
    for (uint32_t i = 0; i < STEPS && code == 0; i++) {
        navmap_status status = workload_step(w);
        if (status != NAVMAP_OK)
            code = overcome(t, status);
    }
    if (code == 0 && w->store) {
        navmap_status status = workload_close(w);
        if (status != NAVMAP_OK)
            code = overcome(t, status);
    }
    if (w->store)
        workload_drop(w);
    return code;
}

/* The parent ------------------------------------------------------------------------------------*/

#define LIVES 3u

/* The life that the faults are put into: the same for every n. */
static struct workload_options life_options(uint64_t seed, uint32_t life)
{
    struct workload_options options = workload_draw(seed, life == 1 ? STORE_MANUAL : STORE_FULL);
    options.dim = life == 2 ? 512 : 4; /* direct payloads, and growth in one call */
    options.code_header = life == 2 ? 0 : 8;
    options.ckpt_bytes = 16384;
    return options;
}

/* False when the n-th call did not come. */
static bool one(struct test *t, const struct fault *fault, uint32_t life, uint32_t nth,
                uint64_t round)
{
    char why[800] = "";
    uint64_t seed = harness_round_seed(&t->h, 1000 + life), lsn;
    struct workload_options options = life_options(seed, life);
    harness_remove(t->path);
    oracle_reset(t->oracle);
    (void)memset(t->shared, 0, sizeof *t->shared);
    t->fault = fault;
    t->nth = nth;
    workload_init(&t->workload, t->path, &options, seed, t->oracle);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)alarm(CHILD_SECONDS);
        _exit(live(t));
    }
    int how = harness_wait(pid);
    bool ok = how == 0;
    if (how > 0)
        (void)snprintf(why, sizeof why, "signal %d%s", how, how == SIGALRM ? " (a hang)" : "");
    else if (!ok)
        (void)snprintf(why, sizeof why, "%s", t->shared->why);
    if (ok)
        ok = aftermath_check(t->oracle, t->path, seed + nth, &lsn, why, sizeof why);
    bool fired = atomic_load(&t->shared->fired) > 0;
    t->fired += fired;
    t->kept += (uint64_t)atomic_load(&t->shared->stage_kept);
    harness_case(&t->h, ok, round, "%s, call %u of life %u, %s: %s", fault->name, nth, life,
                 fault->ever ? "and on" : "once", why);
    return fired;
}

/* RLIMIT_FSIZE: what navmap itself writes fails with EFBIG, without a signal; raising the limit and
 * repeating the call goes on (T9). */
static int live_with_limit(struct test *t)
{
    struct workload *w = &t->workload;
    struct rlimit limit = {640 << 10, RLIM_INFINITY};
    w->options.never_flush = true;
    w->options.labels = 4000;
    if (workload_create(w) != NAVMAP_OK || setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return give_up(t, "create");
    for (int i = 0; i < 2000; i++) {
        navmap_status status = workload_step(w);
        if (status == NAVMAP_OK)
            continue;
        if (status != NAVMAP_ENOSPC)
            return give_up(t, "a file size limit is not a full disk");
        limit.rlim_cur = RLIM_INFINITY;
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || workload_flush(w) != NAVMAP_OK)
            return give_up(t, "G2: the limit was raised, the flush says");
        atomic_store(&t->shared->stage_kept, 1);
        return workload_close(w) == NAVMAP_OK ? 0 : give_up(t, "close");
    }
    (void)snprintf(t->shared->why, sizeof t->shared->why, "the limit was never met");
    return 1;
}

static void size_limit(struct test *t, uint64_t round)
{
    char why[800] = "";
    uint64_t seed = harness_round_seed(&t->h, round), lsn;
    struct workload_options options = workload_draw(seed, STORE_FULL);
    options.ckpt_bytes = 65536;
    harness_remove(t->path);
    oracle_reset(t->oracle);
    (void)memset(t->shared, 0, sizeof *t->shared);
    workload_init(&t->workload, t->path, &options, seed, t->oracle);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)alarm(CHILD_SECONDS);
        _exit(live_with_limit(t));
    }
    int how = harness_wait(pid);
    bool ok = how == 0 && aftermath_check(t->oracle, t->path, seed, &lsn, why, sizeof why);
    harness_case(&t->h, ok, round, "RLIMIT_FSIZE (%s %d): %s%s", how > 0 ? "signal" : "exit",
                 how > 0 ? how : -how, t->shared->why, why);
}

int main(int argc, char **argv)
{
    static struct test t;
    harness_begin(&t.h, "io_faults", argc, argv);
    uint32_t step = t.h.budget ? (uint32_t)t.h.budget : t.h.tier == TIER_TEST ? 7 : 1;
    uint32_t whole = t.h.shrink ? 2 : 8; /* calls that are each made to fail */
    if (t.h.shrink)
        step *= 5;
    t.oracle = oracle_new();
    t.shared = harness_shared(sizeof *t.shared);
    (void)snprintf(t.path, sizeof t.path, "%s/idx", t.h.dir);
    harness_case(&t.h, interpose_works(t.h.dir), 0, "LMDB's system calls are not seen");
    uint64_t round = 1;
    /* --only takes a whole sweep: a fault in a life. */
    for (uint32_t i = 0; i < FAULTS * LIVES && t.h.failed < 20; i++, round++) {
        const struct fault *fault = &faults[i % FAULTS];
        uint64_t fired = t.fired;
        bool more = harness_wants(&t.h, round);
        /* Rare calls are swept whole, frequent ones by steps. */
        for (uint32_t nth = 1; more && t.h.failed < 20; nth += nth < whole && i < FAULTS ? 1 : step)
            more = one(&t, fault, i / (uint32_t)FAULTS, nth, round);
        if (t.h.verbose)
            printf("  %s, %s, life %u: %" PRIu64 " failures\n", fault->name,
                   fault->ever ? "and on" : "once", i / (uint32_t)FAULTS, t.fired - fired);
    }
    for (int i = 0; i < 3 && t.h.only < 0; i++)
        size_limit(&t, round++);
    printf("%" PRIu64 " faults came; the stage was kept and committed later in %" PRIu64 "\n",
           t.fired, t.kept);
    harness_case(&t.h, t.kept > 0 || t.h.only >= 0, 0, "G2: no stage was ever kept");
    harness_unshare(t.shared, sizeof *t.shared);
    oracle_free(t.oracle);
    return harness_end(&t.h);
}
