/* ward.h -- cases that may end in a signal or a hang, tried in a child that is watched.
 *
 * The child says which case it is at; if it dies, the parent knows of which, counts that case as
 * failed and lets another child go on behind it.
 */
#ifndef NAVMAP_TESTS_SUPPORT_WARD_H
#define NAVMAP_TESTS_SUPPORT_WARD_H

#include <stdatomic.h>

#include "tests/support/harness.h"

struct ward {
    _Atomic uint64_t at;       /* the case under way */
    _Atomic uint64_t passed;   /* cases so far */
    _Atomic uint64_t count[8]; /* for the test: what it saw */
    _Atomic bool done;
    char what[160]; /* what is being done to the case at the moment */
    char why[900];  /* why the case failed */
};

/* Cases `from` and later, until done (true) or one has failed (false, `ward->why`); it calls
 * ward_case() at each. */
typedef bool ward_body(void *ctx, struct ward *ward, uint64_t from);

/* A case begins: the clock starts again. */
void ward_case(struct ward *ward, uint64_t at);
/* Print a sentence to ward->why; false. */
bool ward_says(struct ward *ward, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Run `body` over cases first, first + 1, ... in children; `name` and the harness's
 * `round` are for messages.  Counts what passed and failed; some failures end it. */
void ward_run(struct harness *h, struct ward *ward, const char *name, uint64_t round,
              uint64_t first, ward_body *body, void *ctx);

#endif
