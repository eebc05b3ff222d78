/* malloc_world.h -- the small indexes whose allocations fail, and what must hold in them.
 *
 * A world is one index of one form with known items; a model says which label has which version of
 * its vector.  Vectors are a function of (label, version), so that a mixture of two is seen.
 */
#ifndef NAVMAP_TESTS_TORTURE_MALLOC_WORLD_H
#define NAVMAP_TESTS_TORTURE_MALLOC_WORLD_H

#include "engine/navmap.h"
#include "tests/support/ward.h"

#define WORLD_DIM 4u
#define WORLD_LABELS 128u
#define WORLD_ITEMS 60u /* labels 0.. that are there at the beginning */
#define WORLD_MARKED 5u /* the one that is marked deleted */

/* What an index may be while a call is tried on it. */
enum form {
    DIRECTORY, /* a writer */
    MANUAL,    /* a writer that commits when told */
    READER,    /* of a directory */
    PRIVATE,   /* navmap_new */
    MAPPED,    /* navmap_load */
    FLAT,      /* navmap_new without a graph */
    PATHS,     /* none is open: files lie there */
    FORMS
};
extern const char *const form_names[FORMS];

struct item {
    uint32_t version;
    enum { ABSENT, LIVE, MARKED } status;
};
struct model {
    struct item item[WORLD_LABELS];
};

struct world {
    char templates[300]; /* made once: clean/, crashed/, sealed, sealed-flat, bin */
    char root[300];      /* emptied before each case */
    char path[320];      /* of a directory index */
    char file[320];      /* of a sealed file */
    enum form form;
    struct ward *ward;
    navmap_index *ix;
    struct model before, after; /* the call makes the one into the other */
};

void world_vector(uint64_t label, uint32_t version, float *ret_vector);
/* The items of the templates. */
void world_model(struct model *ret_model);
/* A label's next vector, live. */
void world_renew(struct model *m, uint64_t label);
struct navmap_options world_options(enum form form);
struct navmap_open_options world_open_options(enum form form);

/* Make the templates, in a process of their own; false with a sentence. */
bool world_templates(struct world *w);
/* A fresh world of `form`, opened. */
bool world_begin(struct world *w, enum form form);

/* Does w->ix hold what it must?  `exact`: w->after, else each label as in one of the two.  Searches
 * and checks besides. */
bool world_holds(struct world *w, bool exact);
/* The index at w->path, from outside and opened for reading. */
bool world_reopens(struct world *w, bool exact);
bool world_opens(struct world *w, enum form form);
/* Nothing but `names` (each followed by a blank) may lie in w->root. */
bool world_tidy(struct world *w, const char *names);

#endif
