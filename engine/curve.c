/* curve.c -- from recall to ef; see curve.h. */
#include "engine/curve.h"

#include <math.h>

const double curve_recalls[LAYOUT_CURVE_POINTS] = {0.80, 0.90, 0.95, 0.98, 0.99, 0.999};
const uint32_t curve_ks[LAYOUT_CURVES] = {1, 10, 100};

/* y at x on the line through two points, all of them logarithms. */
static double between(double x0, double y0, double x1, double y1, double x)
{
    return x1 == x0 ? y1 : y0 + (y1 - y0) * (x - x0) / (x1 - x0);
}

bool curve_climb(struct curve_climb *c, double ef, double missed,
                 uint16_t ret_ef[LAYOUT_CURVE_POINTS])
{
    if (c->ef > 0 && missed > c->missed)
        missed = c->missed;
    for (; c->reached < LAYOUT_CURVE_POINTS; c->reached++) {
        const double allowed = 1 - curve_recalls[c->reached];
        if (missed > allowed * (1 + 1e-9))
            break;
        double at = ef;
        if (c->ef > 0)
            at = exp(between(log(c->missed), log(c->ef), log(missed), log(ef), log(allowed)));
        ret_ef[c->reached] = (uint16_t)fmin(ceil(at - 1e-6), UINT16_MAX);
    }
    c->ef = ef;
    c->missed = missed;
    return c->reached < LAYOUT_CURVE_POINTS;
}

/* For one of curve_ks. */
static double ef_of(const uint16_t *ef, double recall)
{
    uint32_t i = 0;
    while (i + 1 < LAYOUT_CURVE_POINTS && curve_recalls[i] < recall)
        i++;
    if (i == 0 || ef[i] == 0 || ef[i - 1] == 0)
        return ef[i];
    return exp(between(log(1 - curve_recalls[i - 1]), log(ef[i - 1]), log(1 - curve_recalls[i]),
                       log(ef[i]), log(1 - recall)));
}

uint32_t curve_ef(const struct disk_root *curve, uint64_t k, double recall)
{
    uint32_t i = 0;
    while (i + 1 < LAYOUT_CURVES && curve_ks[i] < k)
        i++;
    double ef = ef_of(curve->curve_ef[i], recall);
    if (k > curve_ks[i]) { /* beyond the last */
        ef *= (double)k / curve_ks[i];
    } else if (k < curve_ks[i]) {
        const double below = ef_of(curve->curve_ef[i - 1], recall);
        if (below == 0 || ef == 0)
            return 0;
        ef = exp(
            between(log(curve_ks[i - 1]), log(below), log(curve_ks[i]), log(ef), log((double)k)));
    }
    return (uint32_t)fmin(ceil(ef - 1e-6), UINT32_MAX); /* R1 */
}
