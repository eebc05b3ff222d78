/* walk_fast.h -- the step of a walk by codes over mapped rows of level 0, where nearly all walks
 * spend nearly all their time; written once for every set of instructions.
 *
 * It does what the general step of walk.c does, with the same results.  What it adds: rows of the
 * next hop are asked for four at a time, each time four of this one were measured.  All at once
 * they are more than a core keeps on the way, and it would wait instead of measuring.
 *
 * To be included after WALK_STEP (the name), WALK_TARGET (the attribute), WALK_FOUR (a kernel for
 * four rows), WALK_NEAR (of four distances, which are below a bound, as bits) and pool_line.h.
 */

WALK_INLINE WALK_TARGET const uint8_t *fast_at(const struct walk *w, const uint8_t *plane,
                                               uint32_t stride, uint32_t slot)
{
    const struct walk_place *p = &w->place;
    return plane + (slot >> p->shift) * p->chunk_bytes + (uint64_t)(slot & p->mask) * stride;
}

/* The ids of a row that were not met before, and where their codes are. */
WALK_INLINE WALK_TARGET uint32_t fast_unmet(const struct walk *w, uint32_t node, struct hop *hop)
{
    const struct walk_place *p = &w->place;
    const _Atomic uint32_t *row =
        (const _Atomic uint32_t *)(const void *)fast_at(w, p->rows, p->row_stride, node);
    struct visited *v = &w->s->visited;
    const uint32_t nslots = w->g->nslots, width = w->g->M0;
    uint32_t *ids = hop->ids, n = 0;
    visited_note(v, width);
    uint64_t *words = v->words;
    uint32_t *touched = v->touched, n_touched = v->n_touched;
    for (uint32_t i = 0; i < width; i++) {
        uint32_t id = row_get(row, i);
        if (id == 0)
            break; /* rows are packed; behind a gap, which another's change may leave, is a link less */
        id = id < nslots ? id : 0; /* G1 */
        uint64_t word = words[id >> 6], met = word >> (id & 63) & 1;
        touched[n_touched] = id >> 6;
        n_touched += word == 0;
        words[id >> 6] = word | UINT64_C(1) << (id & 63);
        ids[n] = id;
        n += (uint32_t)(met ^ 1);
    }
    v->n_touched = n_touched;
    fence_acquire(); /* pairing "row", with P2: what the ids name is whole */
    for (uint32_t i = 0; i < n; i++)
        hop->codes[i] = fast_at(w, p->codes, p->code_stride, ids[i]);
    hop->n = n;
    w->s->tally.measured += n;
    w->s->tally.expanded++;
    return n;
}

WALK_INLINE WALK_TARGET void fast_ask(const struct walk *w, const struct hop *hop, uint32_t from,
                                      uint32_t to)
{
    for (uint32_t i = from; i < to && i < hop->n; i++)
        walk_prefetch(hop->codes[i], w->place.code_stride);
}

/* Four of a hop, the first of them the i-th, of which `n` count. */
WALK_INLINE WALK_TARGET void fast_four(struct walk *w, const struct hop *hop, uint32_t i,
                                       uint32_t n)
{
    struct pool *pool = &w->s->pool;
    const uint8_t *rows[4];
    float dists[4];
    for (uint32_t j = 0; j < 4; j++)
        rows[j] = hop->codes[i + (j < n ? j : 0)];
    WALK_FOUR(w->to.code, rows, dists);
    uint32_t near = WALK_NEAR(dists, pool->bound) & ((1u << n) - 1);
    for (; near != 0; near &= near - 1) {
        uint32_t j = (uint32_t)__builtin_ctz(near);
        if (!(dists[j] < pool->bound))
            continue;
        if (pool->heaps || !pool->plain)
            walk_offer(w, dists[j], hop->ids[i + j]);
        else
            fast_put(pool, dists[j] < FLT_MAX ? dists[j] : FLT_MAX, hop->ids[i + j]);
    }
}

/* A plain pool in a line (pool.h). */
WALK_INLINE WALK_TARGET bool fast_gather(const struct walk *w, struct hop *hop)
{
    uint32_t node;
    hop->n = 0;
    if (!pool_next(&w->s->pool, &node))
        return false;
    fast_unmet(w, node, hop);
    return true;
}

WALK_TARGET bool WALK_STEP(struct walk *w)
{
    struct hop *hop = &w->s->hops[w->turn], *other = &w->s->hops[w->turn ^ 1];
    uint32_t next;
    if (!w->more)
        return false;
    w->more = fast_gather(w, other); /* K1 */
    for (uint32_t i = 0; i < hop->n; i += 4) {
        fast_ask(w, other, i, i + 4);
        fast_four(w, hop, i, hop->n - i < 4 ? hop->n - i : 4);
    }
    if (!w->more) {
        w->more = fast_gather(w, other);
        fast_ask(w, other, 0, other->n);
    } else {
        fast_ask(w, other, (hop->n + 3) & ~3u, other->n);
    }
    for (uint32_t ahead = 0; ahead < 2; ahead++)
        if (pool_peek(&w->s->pool, ahead, &next))
            walk_prefetch(fast_at(w, w->place.rows, w->place.row_stride, next),
                          w->place.row_stride);
    w->turn ^= 1;
    return w->more;
}
