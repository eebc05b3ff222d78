/* progress.c -- the bar, drawn over itself, and the flag behind Ctrl-C; see progress.h. */
#include "tools/progress.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/cli.h"

#define FIRST_S 1.0  /* shorter work shows nothing */
#define REDRAW_S 0.1 /* faster than that nobody reads */
#define BAR_MOST 40  /* cells */
#define BAR_LEAST 8  /* below that the figures alone */
#define LINE_BYTES 512

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

void progress_catch(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    /* The next one kills.  SA_RESTART: no call of the library's is cut short by the signal. */
    action.sa_flags = (int)(SA_RESETHAND | SA_RESTART);
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool progress_interrupted(void)
{
    return interrupted != 0;
}

static double seconds_since(const struct timespec *then, struct timespec *ret_now)
{
    (void)clock_gettime(CLOCK_MONOTONIC, ret_now);
    return (double)(ret_now->tv_sec - then->tv_sec) +
           1e-9 * (double)(ret_now->tv_nsec - then->tv_nsec);
}

void progress_begin(struct progress *p, const char *what, uint64_t total)
{
    *p = (struct progress){.what = what, .total = total, .terminal = isatty(STDERR_FILENO) == 1};
    (void)clock_gettime(CLOCK_MONOTONIC, &p->begun);
    p->drawn = p->begun;
}

static int columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

/* "45 s", "3 min 20 s", "2 h 5 min" */
static void put_seconds(double s, char text[CLI_NUMBER_BYTES])
{
    uint64_t n = s < 1e9 ? (uint64_t)(s + 0.5) : 1000000000;
    if (n < 60)
        (void)snprintf(text, CLI_NUMBER_BYTES, "%" PRIu64 " s", n);
    else if (n < 3600)
        (void)snprintf(text, CLI_NUMBER_BYTES, "%" PRIu64 " min %" PRIu64 " s", n / 60, n % 60);
    else
        (void)snprintf(text, CLI_NUMBER_BYTES, "%" PRIu64 " h %" PRIu64 " min", n / 3600,
                       n / 60 % 60);
}

static void draw(struct progress *p, uint64_t done, double elapsed)
{
    char count[CLI_NUMBER_BYTES], of[CLI_NUMBER_BYTES], rate[CLI_NUMBER_BYTES];
    char left[CLI_NUMBER_BYTES] = "", figures[LINE_BYTES], bar[BAR_MOST + 1];
    const double share = p->total > 0 ? (double)done / (double)p->total : 0;
    const double per_second = (double)done / elapsed;
    if (per_second > 0)
        put_seconds((double)(p->total - done) / per_second, left);
    int n = snprintf(figures, sizeof figures, "%3.0f %%  %s of %s  %s/s%s%s", 100 * share,
                     cli_count(done, count), cli_count(p->total, of),
                     cli_count((uint64_t)per_second, rate), left[0] ? "  left: " : "", left);
    int width = columns() - 1, room = width - n - (int)strlen(p->what) - 5;
    int cells = room > BAR_MOST ? BAR_MOST : room, full = (int)(share * cells);
    if (cells >= BAR_LEAST) {
        memset(bar, '.', (size_t)cells);
        memset(bar, '#', (size_t)full);
        fprintf(stderr, "\r%s [%.*s] %s\033[K", p->what, cells, bar, figures);
    } else {
        fprintf(stderr, "\r%.*s\033[K", width, figures);
    }
    fflush(stderr);
    p->shown = true;
}

int progress_step(void *ctx, uint64_t done, uint64_t total)
{
    struct progress *p = ctx;
    struct timespec now;
    if (p->total == 0)
        p->total = total;
    done += p->base;
    if (p->terminal && done <= p->total) {
        double elapsed = seconds_since(&p->begun, &now);
        if (elapsed >= FIRST_S && seconds_since(&p->drawn, &now) >= REDRAW_S) {
            draw(p, done, elapsed);
            p->drawn = now;
        }
    }
    return interrupted;
}

void progress_end(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}
