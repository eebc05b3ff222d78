/* newdir.h -- an index that appears under its name when it is complete, and not before.
 *
 * It is filled within the directory PATH.partial.  D1: whoever looks at PATH finds nothing or the
 * whole index, also after kill -9.  D2: what a killed command left at PATH.partial is removed by
 * the next one, if nobody writes there and nothing but an index's own files is in it.
 */
#ifndef NAVMAP_TOOLS_NEWDIR_H
#define NAVMAP_TOOLS_NEWDIR_H

#include <stdbool.h>

struct newdir {
    char *path, *parent;
    char *around; /* PATH.partial */
    char *index;  /* where in it the index is to be created */
    bool made;    /* by us */
};

/* PATH must not exist, D2 is done, and d->index can be created.  Functions return exit codes. */
int newdir_begin(struct newdir *d, const char *path);
/* Closed indexes only: give it its name, durably. */
int newdir_finish(struct newdir *d);
/* Remove what is not finished; to be called in any case, allowed after any of them, and on a zeroed one. */
void newdir_abandon(struct newdir *d);

#endif
