/* plan.c -- estimates; see plan.h for L1 and L2.  Where the constants come from: ALGORITHM.md. */
#include "engine/plan.h"

#include <math.h>

#define WALK_START 330.0  /* distances of a walk before its beam is full ... */
#define WALK_A_PLACE 14.7 /* ... and for each place in its beam */
#define TOO_NARROW 1.6    /* a beam that should have been wider by this is walked again */
#define HOPS_START 60.0   /* expansions before the beam is full */
#define HOPS_NODES 24.0   /* distances of an expansion */
#define HOPS_ROWS 12.0    /* rows of one where few pass */
#define HEAPS_FROM 2048u  /* pool.h: from there on a place costs more */
#define HEAPS_FACTOR 1.4

static double lines(const struct plan_case *c)
{
    return (double)c->code_stride / 64;
}

double plan_node_ns(const struct plan_case *c)
{
    return 30 + 6 * lines(c);
}

static double scan_ns(const struct plan_case *c)
{
    double look = c->filtered ? 0.02 : 0.6; /* at a mark, at a state */
    return look * (double)c->nslots + (8 + 6 * lines(c)) * (double)c->pass + 50 * (double)c->k;
}

static double walk_ns(const struct plan_case *c, uint32_t beam)
{
    double places = WALK_START + WALK_A_PLACE * beam;
    if (places > (double)c->nodes)
        places = (double)c->nodes;
    return places * plan_node_ns(c) * (beam > HEAPS_FROM ? HEAPS_FACTOR : 1);
}

static double share(const struct plan_case *c)
{
    return c->nodes > 0 && c->pass < c->nodes ? (double)c->pass / (double)c->nodes : 1;
}

/* Where hops are the way what passes mostly lies near what passes. */
static double hops_ns(const struct plan_case *c)
{
    double a_hop = HOPS_NODES * plan_node_ns(c) + HOPS_ROWS * PLAN_ROW_NS;
    return (HOPS_START + c->ef) * a_hop;
}

uint32_t plan_beam(const struct plan_case *c, double place)
{
    double beam = c->ef, k = (double)c->k;
    if (place > k) {
        /* Else it often is not in the beam at all: as in plan_place(). */
        double least = place * (1 + 1.5 * sqrt((1 - k / place) / k));
        beam += 0.1 * pow(beam * (place - k), 0.8);
        beam = beam < least ? least : beam;
    }
    return beam < (double)c->nslots ? (uint32_t)beam : (uint32_t)c->nslots;
}

/* The mean of a negative binomial distribution, and one and a half of its deviations. */
uint32_t plan_place(const struct plan_case *c)
{
    double p = share(c), k = (double)c->k;
    double place = ceil((k + 1.5 * sqrt(k * (1 - p))) / p);
    return place < UINT32_MAX ? (uint32_t)place : UINT32_MAX;
}

static struct plan by_scan(void)
{
    return (struct plan){.way = PLAN_SCAN};
}

struct plan plan_first(const struct plan_case *c)
{
    struct plan every = {.way = PLAN_EVERY, .beam = plan_beam(c, (double)c->k / share(c))};
    if (c->pass >= c->nodes && !c->asks)
        return every;
    const struct plan passing = {.way = PLAN_PASSING, .beam = c->ef};
    if (c->code_stride == 0 && !c->filtered)
        return passing; /* walk.h, K4 */
    double scan = scan_ns(c), walk = walk_ns(c, every.beam);
    bool can_scan = !c->filtered || c->marked;
    if (can_scan && (scan <= walk || c->pass <= c->k))
        return by_scan();
    return c->asks ? passing : every;
}

/* The walk over everything starves here. */
static struct plan elsewhere(const struct plan_case *c)
{
    double scan = scan_ns(c), hops = hops_ns(c);
    bool can_scan = !c->filtered || c->marked;
    if (c->code_stride == 0 || !can_scan)
        return (struct plan){.way = PLAN_PASSING, .beam = c->ef};
    if (hops < scan / 2)
        return (struct plan){.way = PLAN_HOPS, .beam = c->ef, .budget = scan / 2};
    return by_scan();
}

bool plan_again(const struct plan_case *c, struct plan *plan, uint64_t found, uint64_t place)
{
    if (plan->way == PLAN_HOPS && found < c->k) {
        *plan = by_scan();
        return true;
    }
    if (plan->way != PLAN_EVERY || c->pass >= c->nodes)
        return false;
    struct plan other = elsewhere(c);
    if (found >= c->k) {
        uint32_t beam = plan_beam(c, (double)place);
        if ((double)beam <= TOO_NARROW * plan->beam)
            return false;
        double wider = walk_ns(c, beam);
        if ((other.way == PLAN_PASSING || wider <= scan_ns(c)) &&
            (other.way != PLAN_HOPS || wider <= 1.5 * hops_ns(c))) {
            plan->beam = beam;
            return true;
        }
    }
    *plan = other;
    return true;
}
