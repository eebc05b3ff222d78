/* scan.h -- the reader protocol q1..q6 without a graph: every slot is looked at.
 *
 * A scan is the strictest reader there is: whatever is committed and live must be found (V7), and
 * whatever is found must be a whole pair (V2).  Payloads are compared with truth_vector() and
 * truth_code(), so that any mixture of two is seen.
 */
#ifndef NAVMAP_TESTS_SUPPORT_SCAN_H
#define NAVMAP_TESTS_SUPPORT_SCAN_H

#include "tests/support/harness.h"
#include "tests/support/oracle.h"

struct scan_hit {
    uint32_t number, version; /* of the label found, of its vector */
    uint32_t slot;
};

struct scan {
    struct store *store;
    struct scan_hit *hits; /* of the last query, by number; a number twice = removed by q6 */
    struct scan_kept {
        uint32_t slot, state;
    } * kept;
    uint32_t n, cap;
    uint64_t queries, dropped, duplicates; /* in all */
    bool dawdle; /* give the processor away now and then: be slower than the writer */
};

void scan_begin(struct scan *sc, struct store *store);
void scan_end(struct scan *sc);
/* One query.  `filter` may be NULL.  False: the protocol was violated, `ret_why` says how. */
bool scan_query(struct scan *sc, bool (*filter)(uint64_t label), struct rng *rng, char *ret_why,
                size_t why_bytes);

#endif
