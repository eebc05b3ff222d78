/* ward.c -- watched children; see ward.h. */
#include "tests/support/ward.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define CASE_SECONDS 20u
#define FAILURES_MOST 5u

void ward_case(struct ward *ward, uint64_t at)
{
    atomic_store(&ward->at, at);
    (void)alarm(CASE_SECONDS);
}

bool ward_says(struct ward *ward, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(ward->why, sizeof ward->why, format, args);
    va_end(args);
    return false;
}

static int child(struct ward *ward, ward_body *body, void *ctx, uint64_t from)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    ward_case(ward, from);
    if (!body(ctx, ward, from))
        return 1;
    atomic_store(&ward->done, true);
    return 0;
}

void ward_run(struct harness *h, struct ward *ward, const char *name, uint64_t round,
              uint64_t first, ward_body *body, void *ctx)
{
    atomic_store(&ward->done, false);
    for (uint32_t failures = 0; failures < FAILURES_MOST && !atomic_load(&ward->done);) {
        atomic_store(&ward->passed, 0);
        ward->why[0] = ward->what[0] = '\0';
        (void)fflush(stdout);
        pid_t pid = fork();
        if (pid == 0)
            exit(child(ward, body, ctx, first)); /* not _exit: a leak checker looks then */
        int how = harness_wait(pid);
        h->passed += atomic_load(&ward->passed);
        if (how == 0)
            continue;
        if (how > 0)
            (void)ward_says(ward, "signal %d%s", how, how == SIGALRM ? " (a hang)" : "");
        else if (ward->why[0] == '\0')
            (void)ward_says(ward, "exit code %d", -how);
        uint64_t at = atomic_load(&ward->at);
        harness_case(h, false, round, "%s, case %llu (%s): %s", name, (unsigned long long)at,
                     ward->what, ward->why);
        if (atomic_load(&ward->done))
            break; /* it failed behind its last case */
        failures++;
        first = at + 1;
    }
}
