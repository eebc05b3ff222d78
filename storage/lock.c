/* lock.c -- open file description locks on the LOCK file, and what fork() must not do to them.
 *
 * A forked child shares our open file descriptions, so a lock that we hold would live on in it
 * after our death.  Hence a fixed table of every LOCK descriptor in this process, which the child
 * handler of pthread_atfork() reads without a lock and closes.
 *
 * T1  A descriptor is in the table before it can hold a lock, and leaves it only unlocked.
 * T2  An entry's `fd_plus_one` is stored last when it is filled and cleared first when it is
 *     emptied; it alone is read without the mutex (by the child handler).
 * T3  A descriptor that a fork may have copied between open() and its entry in the table is given
 *     up before use: lock_open() compares the fork counters before and after, and opens again.
 */
#include "storage/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "storage/epoch.h"
#include "storage/fail.h"
#include "storage/io.h"

#define TABLE_ENTRIES 1024
#define BYTE_WRITER 0
#define BYTE_OPENING 1
#define POLL_FIRST_NS 2000000L
#define POLL_LAST_NS 20000000L
#define FORK_TRIES 100
#define PATH_BYTES 4096

static struct {
    _Atomic int fd_plus_one; /* 0 = empty */
    uint64_t dev, ino;
    bool writer;
} table[TABLE_ENTRIES];

static pthread_mutex_t table_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static _Atomic unsigned forks_begun, forks_ended;

/* Fork ------------------------------------------------------------------------------------------*/

/* Waits for nothing: the forking thread may hold any lock, such as Python's. */
static void fork_prepare(void)
{
    atomic_fetch_add(&forks_begun, 1);
}

static void fork_parent(void)
{
    atomic_fetch_add(&forks_ended, 1);
}

static void fork_child(void)
{
    for (int i = 0; i < TABLE_ENTRIES; i++) {
        int fd = atomic_load(&table[i].fd_plus_one) - 1;
        if (fd < 0)
            continue;
        (void)close(fd); /* L4: never F_UNLCK, which would release the parent's lock */
        atomic_store(&table[i].fd_plus_one, 0);
        table[i].writer = false;
    }
    atomic_store(&forks_ended, atomic_load(&forks_begun)); /* other threads' forks stayed behind */
    (void)pthread_mutex_init(&table_mutex, NULL); /* its owner, if any, is not in this process */
}

static void fork_setup(void)
{
    (void)pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/* Table -----------------------------------------------------------------------------------------*/

static bool table_add(int fd, uint64_t dev, uint64_t ino)
{
    bool added = false;
    pthread_mutex_lock(&table_mutex);
    for (int i = 0; i < TABLE_ENTRIES && !added; i++) {
        if (atomic_load(&table[i].fd_plus_one) != 0)
            continue;
        table[i].dev = dev;
        table[i].ino = ino;
        table[i].writer = false;
        atomic_store(&table[i].fd_plus_one, fd + 1);
        added = true;
    }
    pthread_mutex_unlock(&table_mutex);
    return added;
}

static void table_remove(int fd)
{
    pthread_mutex_lock(&table_mutex);
    for (int i = 0; i < TABLE_ENTRIES; i++) {
        if (atomic_load(&table[i].fd_plus_one) == fd + 1)
            atomic_store(&table[i].fd_plus_one, 0);
    }
    pthread_mutex_unlock(&table_mutex);
}

static void table_set_writer(int fd, bool writer)
{
    pthread_mutex_lock(&table_mutex);
    for (int i = 0; i < TABLE_ENTRIES; i++) {
        if (atomic_load(&table[i].fd_plus_one) == fd + 1)
            table[i].writer = writer;
    }
    pthread_mutex_unlock(&table_mutex);
}

bool lock_writer_here(uint64_t dev, uint64_t ino)
{
    bool here = false;
    pthread_mutex_lock(&table_mutex);
    for (int i = 0; i < TABLE_ENTRIES && !here; i++) {
        here = atomic_load(&table[i].fd_plus_one) != 0 && table[i].writer && table[i].dev == dev &&
               table[i].ino == ino;
    }
    pthread_mutex_unlock(&table_mutex);
    return here;
}

/* Open and close --------------------------------------------------------------------------------*/

static navmap_status open_file(const char *path, bool create, int *ret_fd)
{
    navmap_status status = io_open(path, O_RDWR | (create ? O_CREAT : 0), 0666, ret_fd);
    if (status == NAVMAP_EREADONLY && !create)
        status = io_open(path, O_RDONLY, 0, ret_fd);
    return status;
}

navmap_status lock_open(const char *dir, bool create, struct lock *ret_lock)
{
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof(path), "%s/LOCK", dir);
    if (n < 0 || (size_t)n >= sizeof(path))
        return fail(NAVMAP_EINVAL, "path too long: expected below %d bytes", PATH_BYTES - 6);

    (void)pthread_once(&fork_once, fork_setup);
    struct lock lock = {.fd = -1, .epoch = fork_epoch()};
    for (int tries = 0;; tries++) {
        unsigned ended = atomic_load(&forks_ended);
        unsigned begun = atomic_load(&forks_begun);
        TRY(open_file(path, create, &lock.fd));
        navmap_status status = io_file_id(lock.fd, path, &lock.dev, &lock.ino);
        if (status == NAVMAP_OK && !table_add(lock.fd, lock.dev, lock.ino))
            status = fail(NAVMAP_ENOMEM, "%s: this process has %d index handles open already", path,
                          TABLE_ENTRIES);
        if (status != NAVMAP_OK) {
            io_close(lock.fd);
            return status;
        }
        /* T3.  A fork that never seems to end is not waited for: what is at stake is only that a
         * child keeps W when we die first. */
        bool fork_running = (int)(begun - ended) > 0;
        if ((!fork_running && atomic_load(&forks_begun) == begun) || tries == FORK_TRIES)
            break;
        table_remove(lock.fd);
        io_close(lock.fd);
        const struct timespec pause = {0, POLL_FIRST_NS / 2};
        (void)nanosleep(&pause, NULL);
    }
    *ret_lock = lock;
    return NAVMAP_OK;
}

/* F_OFD_SETLK on one byte; 0 or an errno. */
static int set_lock(int fd, short type, off_t byte)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    while (fcntl(fd, F_OFD_SETLK, &range) != 0) {
        if (errno != EINTR)
            return errno;
    }
    return 0;
}

static bool is_ours(const struct lock *lock)
{
    return lock->fd >= 0 && lock->epoch == fork_epoch();
}

static navmap_status check_ours(const struct lock *lock)
{
    if (is_ours(lock))
        return NAVMAP_OK;
    if (lock->fd < 0)
        return fail(NAVMAP_ECLOSED, "the lock file of this handle is closed");
    return fail(NAVMAP_EFORKED, "the handle was opened before fork(); open the index again");
}

void lock_close(struct lock *lock)
{
    if (is_ours(lock)) {
        /* T1: a child forked from here on may keep the description, but nothing is locked. */
        (void)set_lock(lock->fd, F_UNLCK, BYTE_WRITER);
        (void)set_lock(lock->fd, F_UNLCK, BYTE_OPENING);
        table_remove(lock->fd);
        io_close(lock->fd);
    }
    lock->fd = -1;
    lock->writer = false;
}

/* R and W ---------------------------------------------------------------------------------------*/

static double seconds_since(const struct timespec *start)
{
    struct timespec now = *start;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) * 1e-9;
}

static navmap_status fail_lock(int err, const char *what)
{
    if (err == EBADF) /* an exclusive lock needs a descriptor that may write */
        return fail(NAVMAP_EREADONLY, "%s: no permission to write to the LOCK file", what);
    return fail_errno(err, 0, what, "LOCK");
}

/* There is no F_OFD_SETLKW with a timeout, hence polling; a release is noticed within 20 ms. */
static navmap_status lock_opening(struct lock *lock, short type, double timeout_s)
{
    TRY(check_ours(lock));
    struct timespec start = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    long pause_ns = POLL_FIRST_NS;
    for (;;) {
        int err = set_lock(lock->fd, type, BYTE_OPENING);
        if (err == 0)
            return NAVMAP_OK;
        if (err != EAGAIN && err != EACCES)
            return fail_lock(err, "lock for opening");
        double left = timeout_s - seconds_since(&start);
        if (!(timeout_s < 0) && !(left > 0))
            return fail(NAVMAP_ELOCKED,
                        "another handle is opening or recovering the index; waited %.3f s",
                        timeout_s > 0 ? timeout_s : 0.0);
        struct timespec pause = {0, pause_ns};
        if (timeout_s >= 0 && left * 1e9 < (double)pause_ns)
            pause.tv_nsec = (long)(left * 1e9) + 1;
        (void)nanosleep(&pause, NULL);
        pause_ns = pause_ns * 2 < POLL_LAST_NS ? pause_ns * 2 : POLL_LAST_NS;
    }
}

navmap_status lock_opening_shared(struct lock *lock, double timeout_s)
{
    return lock_opening(lock, F_RDLCK, timeout_s);
}

navmap_status lock_opening_exclusive(struct lock *lock, double timeout_s)
{
    return lock_opening(lock, F_WRLCK, timeout_s);
}

void lock_opening_release(struct lock *lock)
{
    if (is_ours(lock))
        (void)set_lock(lock->fd, F_UNLCK, BYTE_OPENING);
}

navmap_status lock_writer_try(struct lock *lock, bool *ret_got)
{
    TRY(check_ours(lock));
    int err = set_lock(lock->fd, F_WRLCK, BYTE_WRITER);
    if (err != 0 && err != EAGAIN && err != EACCES)
        return fail_lock(err, "lock for writing");
    if (err == 0) {
        lock->writer = true;
        table_set_writer(lock->fd, true);
    }
    *ret_got = err == 0;
    return NAVMAP_OK;
}

void lock_writer_release(struct lock *lock)
{
    if (is_ours(lock)) {
        table_set_writer(lock->fd, false);
        (void)set_lock(lock->fd, F_UNLCK, BYTE_WRITER);
    }
    lock->writer = false;
}

navmap_status lock_writer_held(const struct lock *lock, bool *ret_held)
{
    TRY(check_ours(lock));
    struct flock range = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = BYTE_WRITER, .l_len = 1};
    if (!lock->writer) {
        while (fcntl(lock->fd, F_OFD_GETLK, &range) != 0) {
            if (errno != EINTR)
                return fail_lock(errno, "look for a writer");
        }
    }
    *ret_held = lock->writer || range.l_type != F_UNLCK;
    return NAVMAP_OK;
}

bool lock_removed(const struct lock *lock)
{
    struct stat st;
    return is_ours(lock) && fstat(lock->fd, &st) == 0 && st.st_nlink == 0;
}
