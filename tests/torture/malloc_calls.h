/* malloc_calls.h -- the calls that test_malloc_faults.c makes while memory runs out. */
#ifndef NAVMAP_TESTS_TORTURE_MALLOC_CALLS_H
#define NAVMAP_TESTS_TORTURE_MALLOC_CALLS_H

#include "tests/torture/malloc_world.h"

#define F(form) (1u << (form))   /* of op.forms */
#define WRONG ((navmap_status)1) /* the call succeeded, with a wrong answer */

struct op {
    const char *name;
    uint32_t forms; /* a bit each */
    navmap_status (*run)(struct world *w);
    void (*change)(struct model *m); /* NULL = nothing */
    navmap_status again; /* what the repeated call may say when the first had staged it all */
    bool opens;          /* it makes w->ix; else it uses w->ix, or needs none */
    bool writes;         /* a commit may fail: M1 */
};

extern const struct op ops[];
extern const uint32_t n_ops;

/* Those that the test itself makes, or asks for. */
navmap_status call_add_rows(struct world *w, uint32_t n, uint64_t first, uint32_t version,
                            uint32_t threads, bool replace);
void change_add(struct model *m); /* what one new row, label 70, does */
navmap_status call_load(struct world *w, const char *name, bool copy, bool verify);
navmap_status call_import(struct world *w);
navmap_status call_check(struct world *w);
navmap_status call_create(struct world *w);
navmap_status call_new(struct world *w);
navmap_status call_new_flat(struct world *w);
navmap_status call_close(struct world *w);
navmap_status call_flush(struct world *w);
navmap_status call_save(struct world *w);

#endif
