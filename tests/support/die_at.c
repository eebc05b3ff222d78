/* die_at.c -- for LD_PRELOAD: the process ends, as by kill -9, before its n-th effect on a file.
 *
 * NAVMAP_DIE_AT is n; 0, or none, counts only.  With NAVMAP_DIE_COUNT, a path, the number of
 * effects is written there when the program ends by itself.
 */
#undef _FILE_OFFSET_BITS /* it would make one name of pwrite and pwrite64: both are called */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic long effects;

static long wanted(void)
{
    const char *text = getenv("NAVMAP_DIE_AT");
    return text ? atol(text) : 0;
}

static void effect(void)
{
    static _Atomic long at = -1;
    if (at < 0)
        at = wanted();
    if (++effects == at)
        (void)kill(getpid(), SIGKILL);
}

/* Pipes and terminals are no files. */
static void effect_on(int fd)
{
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode))
        effect();
}

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("NAVMAP_DIE_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file == NULL)
        return;
    fprintf(file, "%ld\n", (long)effects);
    (void)fclose(file);
}

/* NAME(arguments) calls the real one after counting. */
#define STEP(result, name, on, types, values)                                                      \
    result name types;                                                                             \
    result name types                                                                              \
    {                                                                                              \
        static result(*real) types;                                                                \
        if (real == NULL)                                                                          \
            *(void **)&real = next(#name);                                                         \
        on;                                                                                        \
        return real values;                                                                        \
    }

STEP(ssize_t, write, effect_on(fd), (int fd, const void *bytes, size_t n), (fd, bytes, n))
STEP(ssize_t, pwrite64, effect_on(fd), (int fd, const void *bytes, size_t n, off64_t at),
     (fd, bytes, n, at))
STEP(ssize_t, pwrite, effect_on(fd), (int fd, const void *bytes, size_t n, off_t at),
     (fd, bytes, n, at))
STEP(ssize_t, writev, effect_on(fd), (int fd, const struct iovec *v, int n), (fd, v, n))
STEP(ssize_t, pwritev64, effect_on(fd), (int fd, const struct iovec *v, int n, off64_t at),
     (fd, v, n, at))
STEP(ssize_t, pwritev, effect_on(fd), (int fd, const struct iovec *v, int n, off_t at),
     (fd, v, n, at))
STEP(int, fsync, effect(), (int fd), (fd))
STEP(int, fdatasync, effect(), (int fd), (fd))
STEP(int, msync, effect(), (void *at, size_t n, int flags), (at, n, flags))
STEP(int, fallocate64, effect_on(fd), (int fd, int mode, off64_t at, off64_t n), (fd, mode, at, n))
STEP(int, fallocate, effect_on(fd), (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
STEP(int, ftruncate64, effect_on(fd), (int fd, off64_t n), (fd, n))
STEP(int, ftruncate, effect_on(fd), (int fd, off_t n), (fd, n))
STEP(int, rename, effect(), (const char *from, const char *to), (from, to))
STEP(int, renameat2, effect(), (int a, const char *from, int b, const char *to, unsigned flags),
     (a, from, b, to, flags))
STEP(int, mkdir, effect(), (const char *path, mode_t mode), (path, mode))
STEP(int, rmdir, effect(), (const char *path), (path))
STEP(int, unlink, effect(), (const char *path), (path))
STEP(int, unlinkat, effect(), (int dir, const char *path, int flags), (dir, path, flags))
