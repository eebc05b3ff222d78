/* pool_line.h -- a node's way into the line, written once for every set of instructions.
 *
 * To be included after POOL_INLINE, what a function is to be declared with, and two primitives:
 *     uint32_t pool_count(const float *dists, uint32_t n, float d)    how many of n are <= d
 *     void pool_open(void *words, uint32_t lo, uint32_t n)            32-bit words [lo, n) one up
 */

/* It is near enough, and there is room for one more.  The place is the one after its equals: order
 * of arrival. */
POOL_INLINE void pool_line_put(struct pool *p, float dist, uint32_t id, uint32_t word)
{
    uint32_t lo = pool_count(p->dists, p->n, dist);
    pool_open(p->dists, lo, p->n);
    pool_open(p->ids, lo, p->n);
    p->dists[lo] = dist;
    p->ids[lo] = id;
    if (!p->plain) {
        pool_open(p->words, lo, p->n);
        p->words[lo] = word;
    }
    p->n++;
    if (lo < p->next)
        p->next = lo;
    p->n_results += word != 0;
    if (p->n_results < p->ef)
        return;
    if (p->n_results > p->ef) {
        p->n--; /* P2: the last one is a result, the ef+1st */
        p->n_results--;
    }
    while (!p->plain && p->words[p->n - 1] == 0)
        p->n--;
    p->bound = p->dists[p->n - 1];
}
