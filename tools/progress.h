/* progress.h -- what a person sees of long work, and how it is called off.
 *
 * A bar with rate and time left on standard error, if that is a terminal and the work takes longer
 * than a second; nothing else is ever written.  Ctrl-C (SIGINT, SIGTERM) raises a flag that the
 * library is told of between two items, so that work stops after a whole one; a second Ctrl-C ends
 * the process at once, which every command survives as well.
 */
#ifndef NAVMAP_TOOLS_PROGRESS_H
#define NAVMAP_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct progress {
    const char *what;     /* "adding" */
    uint64_t base, total; /* of work in several calls: done before this one, and all */
    bool terminal, shown;
    struct timespec begun, drawn;
};

/* From now on Ctrl-C is a flag.  For commands that have something to finish. */
void progress_catch(void);
bool progress_interrupted(void);

void progress_begin(struct progress *p, const char *what, uint64_t total);
/* A navmap_progress, with a struct progress as its context: draws if it is time to, and is nonzero
 * after Ctrl-C.  `done` is counted from p->base; p->total is taken from the call when it is 0. */
int progress_step(void *ctx, uint64_t done, uint64_t total);
/* Wipe the bar: what is printed next begins a line. */
void progress_end(struct progress *p);

#endif
