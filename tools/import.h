/* import.h -- what the rooms of `navmap import` share: options and files (cmd_import.c), adding
 * rows (import_rows.c), taking over a graph (import_graph.c).  Functions return exit codes.
 */
#ifndef NAVMAP_TOOLS_IMPORT_H
#define NAVMAP_TOOLS_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/navmap.h"
#include "tools/newdir.h"
#include "tools/progress.h"
#include "tools/rows.h"

struct import {
    const char *source, *target, *labels_file;
    struct rows_how how;
    struct navmap_options options; /* of a new index */
    uint64_t first, count, threads, count_from;
    bool as_json, has_count_from, has_dtype, rebuild;
    bool sealed; /* the target is one file */

    struct rows rows;
    uint64_t *labels; /* from labels_file, or counted, one a row; NULL: the source has them */
    bool counted;
    struct newdir fresh;
    bool is_new;
    navmap_index *index;
    struct progress progress;
    uint64_t added, deleted; /* so far; of them marked */
    bool kept;               /* the source's graph was taken over */
};

/* What is to be said after Ctrl-C. */
int import_interrupted(const struct import *m);
/* All rows into m->index. */
int import_rows(struct import *m);

/* May the source's graph be taken over: is there one, and is nothing asked for that it is not? */
bool import_keeps(const struct import *m);
/* The source with its graph, written to the target. */
int import_graph(struct import *m);

#endif
