/* order.c -- a greedy order after Gorder (H. Wei, J. X. Yu, C. Lu, X. Lin, SIGMOD 2016): the next
 * node is the one with the most links to, and neighbours in common with, the last WINDOW nodes.
 * Then the few nodes of the high levels, which every walk passes, are brought to the front.
 *
 * Breadth first from the entry and reverse Cuthill-McKee were measured beside it (ALGORITHM.md):
 * they are quicker to make and gain less.  Recursive bisection gains more, for many times the work.
 */
#include "engine/order.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"

#define WINDOW 16u
#define HUB 64u /* a node that so many name says little about any two of them */
#define FEW 64u /* a level is high if at most one node of so many reaches it */
#define LEVELS 256u
#define TICK 16384u

static const uint32_t *row_of(const struct order_graph *g, uint32_t node)
{
    return g->rows + (uint64_t)node * g->width;
}

/* Nodes by score, in doubly linked lists; scores change by one. */
struct heap {
    uint32_t *score, *prev, *next; /* [n]; node + 1, 0 = none */
    uint32_t *head;                /* [cap] */
    uint32_t cap, top;
    uint8_t *placed;
};

static void unlink_node(struct heap *h, uint32_t node)
{
    uint32_t p = h->prev[node], q = h->next[node];
    if (p)
        h->next[p - 1] = q;
    else
        h->head[h->score[node]] = q;
    if (q)
        h->prev[q - 1] = p;
}

static void link_node(struct heap *h, uint32_t node)
{
    uint32_t s = h->score[node], q = h->head[s];
    h->prev[node] = 0;
    h->next[node] = q;
    if (q)
        h->prev[q - 1] = node + 1;
    h->head[s] = node + 1;
    if (s > h->top)
        h->top = s;
}

static void bump(struct heap *h, uint32_t node, bool up)
{
    if (h->placed[node] || (up && h->score[node] + 1 == h->cap))
        return;
    if (!up && h->score[node] == 0)
        return;
    unlink_node(h, node);
    h->score[node] += up ? 1 : UINT32_MAX;
    link_node(h, node);
}

struct incoming {
    uint64_t *start; /* [n + 1] */
    uint32_t *from;
};

static navmap_status find_incoming(const struct order_graph *g, struct incoming *in)
{
    uint64_t links = 0;
    in->start = calloc((size_t)g->n + 2, sizeof *in->start);
    if (!in->start)
        return fail(NAVMAP_ENOMEM, "no memory to order %u items", g->n);
    for (uint64_t i = 0; i < (uint64_t)g->n * g->width; i++)
        if (g->rows[i] != 0) {
            in->start[g->rows[i] + 1]++;
            links++;
        }
    in->from = malloc((links + 1) * sizeof *in->from);
    if (!in->from)
        return fail(NAVMAP_ENOMEM, "no memory to order %u items", g->n);
    for (uint32_t i = 1; i <= g->n + 1; i++)
        in->start[i] += in->start[i - 1];
    for (uint32_t node = 0; node < g->n; node++) {
        const uint32_t *row = row_of(g, node);
        for (uint32_t i = 0; i < g->width && row[i] != 0; i++)
            in->from[in->start[row[i]]++] = node;
    }
    return NAVMAP_OK; /* start[node] is now where its list begins, start[node + 1] where it ends */
}

/* `node` enters the window, or leaves it. */
static void touch(const struct order_graph *g, const struct incoming *in, struct heap *h,
                  uint32_t node, bool up)
{
    const uint32_t *row = row_of(g, node);
    for (uint32_t i = 0; i < g->width && row[i] != 0; i++)
        bump(h, row[i] - 1, up);
    uint64_t n = in->start[node + 1] - in->start[node];
    if (n > HUB)
        return;
    for (uint64_t i = in->start[node]; i < in->start[node + 1]; i++) {
        const uint32_t *other = row_of(g, in->from[i]);
        bump(h, in->from[i], up);
        for (uint32_t j = 0; j < g->width && other[j] != 0; j++)
            bump(h, other[j] - 1, up);
    }
}

static navmap_status place_all(const struct order_graph *g, const struct incoming *in,
                               struct heap *h, uint32_t *order)
{
    for (uint32_t node = g->n; node-- > 0;)
        link_node(h, node);
    h->top = 0;
    for (uint32_t at = 0; at < g->n; at++) {
        while (h->top > 0 && h->head[h->top] == 0)
            h->top--;
        uint32_t node = at == 0 ? g->entry : h->head[h->top] - 1;
        unlink_node(h, node);
        h->placed[node] = 1;
        order[at] = node;
        touch(g, in, h, node, true);
        if (at >= WINDOW)
            touch(g, in, h, order[at - WINDOW], false);
        if (g->tick && (at % TICK == TICK - 1 || at == g->n - 1))
            TRY(g->tick(g->ctx, at % TICK + 1));
    }
    return NAVMAP_OK;
}

/* High levels first, each by itself; within one, and of all others, the order stays.  `to` is
 * scratch for all nodes. */
static void bring_forward(const struct order_graph *g, uint32_t *order, uint32_t *to)
{
    uint32_t begin[LEVELS] = {0}, reach = 0, at = 0;
    for (uint32_t i = 0; i < g->n; i++)
        begin[g->levels[i]]++;
    for (uint32_t level = LEVELS; level-- > 0;) { /* from how many there are to where they go */
        reach += begin[level];
        const bool high = level > 0 && reach <= g->n / FEW;
        begin[level] = high ? at : UINT32_MAX;
        at = high ? reach : at;
    }
    for (uint32_t i = 0; i < g->n; i++) {
        uint32_t *next = &begin[g->levels[order[i]]];
        to[*next == UINT32_MAX ? at++ : (*next)++] = order[i];
    }
    memcpy(order, to, g->n * sizeof *to);
}

navmap_status order_nodes(const struct order_graph *g, uint32_t *ret_nodes)
{
    struct incoming in = {NULL, NULL};
    if (g->n == 0)
        return NAVMAP_OK;
    struct heap h = {.cap = WINDOW * (g->width + 2) * 8};
    h.score = calloc(g->n, sizeof *h.score);
    h.prev = calloc(g->n, sizeof *h.prev);
    h.next = calloc(g->n, sizeof *h.next);
    h.head = calloc(h.cap, sizeof *h.head);
    h.placed = calloc(g->n, 1);
    navmap_status status = find_incoming(g, &in);
    if (status == NAVMAP_OK && (!h.score || !h.prev || !h.next || !h.head || !h.placed))
        status = fail(NAVMAP_ENOMEM, "no memory to order %u items", g->n);
    if (status == NAVMAP_OK)
        status = place_all(g, &in, &h, ret_nodes);
    if (status == NAVMAP_OK && g->levels)
        bring_forward(g, ret_nodes, h.score);
    free(in.start);
    free(in.from);
    free(h.score);
    free(h.prev);
    free(h.next);
    free(h.head);
    free(h.placed);
    return status;
}
