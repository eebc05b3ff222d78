/* target.c -- how a target says that something is wrong, and where it may keep files. */
#include "tests/fuzz/target.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/harness.h"

/* No file that a target makes is larger: who believes a mutated count shall not fill the disk. */
#define FILE_MOST (64u << 20)

void fuzz_check(bool ok, const char *format, ...)
{
    if (ok)
        return;
    va_list args;
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fprintf(stderr, "\nlast detail: %s\n", navmap_error_detail());
    abort();
}

void *fuzz_must(void *p)
{
    fuzz_check(p != NULL, "no memory for the harness");
    return p;
}

void fuzz_sound(navmap_status status)
{
    fuzz_check(status == NAVMAP_OK, "the harness failed: %s", navmap_strerror(status));
}

bool fuzz_ok(navmap_status status)
{
    if (status == NAVMAP_OK)
        return true;
    fuzz_check(navmap_error_detail()[0] != '\0', "%s without a sentence", navmap_strerror(status));
    return false;
}

struct fuzz_tally fuzz_tally;

bool fuzz_taken(navmap_status status)
{
    if (fuzz_ok(status))
        fuzz_tally.taken++;
    else
        fuzz_tally.refused++;
    return status == NAVMAP_OK;
}

/* The library's, in these programs: verify looks again and again before it blames a writer that may
 * be busy, and here there is none.  It was five sixths of the time. */
int nanosleep(const struct timespec *wish, struct timespec *ret_left)
{
    (void)wish;
    (void)ret_left;
    return 0;
}

static char directory[64];
static pid_t owner;

static void remove_directory(void)
{
    if (getpid() == owner)
        harness_remove(directory);
}

const char *fuzz_directory(void)
{
    if (directory[0] != '\0')
        return directory;
    const struct rlimit most = {FILE_MOST, FILE_MOST};
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)setrlimit(RLIMIT_FSIZE, &most);
    (void)snprintf(directory, sizeof directory, "%s/navmap-fuzz-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    fuzz_must(mkdtemp(directory));
    owner = getpid();
    (void)atexit(remove_directory);
    return directory;
}
