/* plan.h -- which way a query goes when not every node may be a result, by estimated cost.
 *
 * What may be a result, "passes": it is live, and the filter lets it.  There are four ways:
 *
 *   every    a walk in which every node counts, as fast as if all passed; results are looked at at
 *            its end, in a beam that is wider for it
 *   passing  a walk whose beam holds what passes only, so that it widens by itself
 *   hops     a walk over what passes alone, through one node between where need be (hops.h)
 *   scan     the codes of all that pass (code_scan.h)
 *
 * L1  A beam of E that has its k-th passing node at place r finds what a beam of ef finds among all
 *     when E = ef + (ef (r - k))^0.8 / 10.  Measured on glove-100 for k from 1 to 20, ef from 40 to
 *     480 and r up to 400: ALGORITHM.md.  By chance r is k / share; where it turns out to be much
 *     larger the walk is repeated, in a wider beam or in another way.
 * L2  Costs are estimates in nanoseconds of one machine; only their ratios matter.
 */
#ifndef NAVMAP_ENGINE_PLAN_H
#define NAVMAP_ENGINE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

enum plan_way { PLAN_NONE, PLAN_EVERY, PLAN_PASSING, PLAN_HOPS, PLAN_SCAN };

/* What is known beforehand. */
struct plan_case {
    uint64_t k;
    uint32_t ef;
    uint64_t nslots;
    uint64_t nodes;       /* that rows may name */
    uint64_t pass;        /* of them, as far as is known */
    uint32_t code_stride; /* 0 = no codes */
    bool filtered;        /* more is asked than whether they are live */
    bool marked;          /* and marks by slot tell */
    bool asks;            /* a function has to be asked */
};

struct plan {
    enum plan_way way;
    uint32_t beam;
    double budget; /* hops: what they may cost */
};

/* L1, at most nslots. */
uint32_t plan_beam(const struct plan_case *c, double place);
/* Where the k-th that passes is among all, by chance; in 14 of 15 cases nearer than that. */
uint32_t plan_place(const struct plan_case *c);
struct plan plan_first(const struct plan_case *c);
/* A walk has ended with `found` that pass in its beam, the k-th of them at `place` (from 1).
 * False: that will do.  True: *plan is what to do instead. */
bool plan_again(const struct plan_case *c, struct plan *plan, uint64_t found, uint64_t place);

/* Parts of estimates, for hops.c: a distance on the way, and a row of links read for its own
 * sake. */
double plan_node_ns(const struct plan_case *c);
#define PLAN_ROW_NS 30.0

#endif
