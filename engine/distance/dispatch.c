/* dispatch.c -- picks the kernels for this machine, once per handle.
 *
 * The table has one line as long as plain C is the only level; a level for an instruction set is
 * a file of kernels and a line here, asked for before the ones below it.
 */
#include "engine/distance/distance.h"

#include "engine/navmap.h"

static const struct distance_kernels *const levels[] = {&distance_scalar};

int distance_choose(uint32_t space, uint32_t dim, struct distance *ret_distance)
{
    const struct distance_kernels *k = levels[0];
    switch (space) {
    case NAVMAP_L2:
        *ret_distance = (struct distance){k->l2, dim, 0, k->name};
        return 0;
    case NAVMAP_IP:
        *ret_distance = (struct distance){k->ip, dim, 0, k->name};
        return 0;
    case NAVMAP_COSINE:
        *ret_distance = (struct distance){k->ip, dim, 1, k->name};
        return 0;
    default:
        return -1;
    }
}
