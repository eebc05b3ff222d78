/* together.c -- items that are added together; see together.h.
 *
 * What a thread that adds by itself finds depends on how far the others are.  Here all of a troop
 * look at the graph as it was before the first of them, and the rows that get them are each written
 * by one thread that knows all who come; so nothing depends on who was faster.  (ParlayANN: M. D.
 * Manohar and others, Scalable and deterministic parallel graph-based ANN search, PPoPP 2024.)
 *
 *   enlist   slots, labels, payloads, one after the other; nothing names them yet
 *   seek     each finds its neighbours and fills its own rows              threads, by item
 *   gather   links back, by row and then by the order of the items
 *   weave    each row that gets some, as it shall be, beside what it is    threads, by row
 *   swap     what is and what shall be change places
 *   mourn    of what a row has lost, those that no neighbour names         threads, by row
 *   settle   these get back (insert.c, A9); copies (A6), who was taken by none (A5), entry (A4)
 *
 * T1  A troop is a 64th of what is there, and from 128 on a 512th: members do not find each other,
 *     and must be few among those that they could find instead.  (A sixteenth cost half a point of
 *     recall.)  It is one item as long as it would be none, and it ends with one that will be the
 *     entry.
 * T2  While threads work nobody changes what they read: the write lock is held exclusively from
 *     enlist to settle, and the members' own rows are named by nobody before swap.
 * T3  All that can fail comes before enlist.
 */
#include "engine/together.h"

#include <stdlib.h>
#include <string.h>

#include "engine/insert.h"
#include "engine/select.h"
#include "engine/ways.h"
#include "storage/fail.h"

#define SHARE 64u        /* T1: at first */
#define SHARE_LATER 512u /* T1: when that is more than */
#define MANY 128u
#define MOST 512u        /* T1; and not longer than some 50 ms without a sign of life */
#define BYTES (8u << 20) /* of new rows, as many as are likely */
#define LEVELS (LAYOUT_LEVEL_MAX + 1u)
#define AT_ONCE 8u /* rows that a thread takes */

struct link {
    uint32_t to, level, member; /* to 0 = none */
    float dist;
    bool taken;
};

struct member {
    uint32_t slot, level, first; /* number of its first link; M for each level */
    float zero;                  /* how far a copy is */
    bool reached;
};

struct row {
    uint32_t first, n; /* of the keys: who come */
    uint32_t width;    /* of what it shall be; 0 = a copy comes: left to settle */
    bool lost;         /* a way in */
};

struct troop {
    struct scratch *scratch[CREW_MAX]; /* by worker */
    struct graph g[CREW_MAX];
    uint32_t workers, most;
    struct member *members;
    struct link *links;
    uint64_t *keys; /* level, row, link */
    struct row *rows;
    _Atomic uint32_t *ids; /* M0 for each of rows: woven, then what was there, then what was lost */
    uint32_t n, n_links, n_keys, n_rows, cap_links;
    uint64_t entry;
    _Atomic uint32_t next;
};

/* Memory --------------------------------------------------------------------------------------*/

navmap_status together_begin(struct together *t)
{
    const struct layout *l = t->ix->layout;
    struct troop *p = t->troop = calloc(1, sizeof *p);
    if (!p)
        return fail(NAVMAP_ENOMEM, "navmap_add: no memory");
    const uint32_t most = BYTES / (2 * l->M * l->M0 * 4);
    p->most = most > MOST ? MOST : most > 1 ? most : 1;
    p->cap_links = (2 * p->most + LEVELS) * l->M;
    p->members = malloc(p->most * sizeof *p->members);
    p->links = malloc(p->cap_links * sizeof *p->links);
    p->keys = malloc(p->cap_links * sizeof *p->keys);
    p->rows = malloc(p->cap_links * sizeof *p->rows);
    p->ids = malloc((uint64_t)p->cap_links * l->M0 * sizeof *p->ids);
    if (!p->members || !p->links || !p->keys || !p->rows || !p->ids)
        return fail(NAVMAP_ENOMEM, "navmap_add: no memory to add %u items together", p->most);
    const uint32_t threads = t->threads < CREW_MAX ? t->threads : CREW_MAX;
    for (; p->workers < threads; p->workers++)
        TRY(scratch_take(&t->ix->shelf, l, &p->scratch[p->workers]));
    return NAVMAP_OK;
}

void together_end(struct together *t)
{
    struct troop *p = t->troop;
    if (!p)
        return;
    for (uint32_t i = 0; i < p->workers; i++)
        scratch_give(&t->ix->shelf, p->scratch[i]);
    free(p->members);
    free(p->links);
    free(p->keys);
    free(p->rows);
    free(p->ids);
    free(p);
    t->troop = NULL;
}

/* Enlist --------------------------------------------------------------------------------------*/

static navmap_status reserve(struct together *t, uint32_t items)
{
    struct troop *p = t->troop;
    TRY(store_write_room(t->ix->store, items));
    for (uint32_t i = 0; i < p->workers; i++)
        TRY(insert_graph(t->ix, p->scratch[i], t->ix->layout->M0 + p->most, &p->g[i]));
    return NAVMAP_OK;
}

/* The next one; *ret_last when no other may follow it (T1). */
static navmap_status enlist_one(struct together *t, uint64_t row, bool *ret_last)
{
    struct troop *p = t->troop;
    navmap_index *ix = t->ix;
    struct store_found found;
    struct store_item item;
    const uint64_t label = t->labels ? t->labels[row] : t->first_label + row;
    *ret_last = true;
    TRY(store_find(ix->store, label, &found));
    if (found.slot != 0)
        return NAVMAP_OK;
    const uint32_t level = insert_level(ix, store_root(ix->store).inserted);
    TRY(store_item_begin(ix->store, label, level, &item));
    insert_payload(ix, p->scratch[0], t->vectors + row * ix->layout->dim, &item);
    store_item_end(ix->store, &item);
    insert_keep_promise(ix, t->promised);
    p->members[p->n++] =
        (struct member){.slot = item.slot, .level = item.level, .first = p->n_links};
    p->n_links += (item.level + 1) * ix->layout->M;
    *ret_last = (uint32_t)p->entry == 0 || item.level > (uint32_t)(p->entry >> 32) ||
                p->n_links + LEVELS * ix->layout->M > p->cap_links;
    return NAVMAP_OK;
}

static navmap_status enlist(struct together *t, uint64_t row)
{
    struct troop *p = t->troop;
    const struct disk_root root = store_root(t->ix->store);
    const uint64_t there = root.n_live + root.n_deleted;
    uint64_t want = there / SHARE < MANY ? there / SHARE : MANY;
    want = there / SHARE_LATER > want ? there / SHARE_LATER : want;
    want = want < p->most ? want : p->most;
    want = want < t->n - row ? want : t->n - row;
    p->entry = root.entry;
    p->n = p->n_links = 0;
    TRY(reserve(t, want > 0 ? (uint32_t)want : 1)); /* T3 */
    for (bool last = false; !last && (p->n == 0 || p->n < want);) {
        uint32_t had = p->n;
        TRY(enlist_one(t, row + p->n, &last));
        if (p->n == had)
            break;
    }
    return NAVMAP_OK;
}

/* Seek ----------------------------------------------------------------------------------------*/

static void seek_one(struct together *t, struct scratch *s, struct graph *g, uint32_t i)
{
    struct troop *p = t->troop;
    struct member *m = &p->members[i];
    uint32_t n[LEVELS];
    g->self = m->slot;
    m->reached = insert_seek(t->ix, s, g, m->level, p->entry, n, &m->zero);
    struct link *link = p->links + m->first;
    for (uint32_t level = 0; level <= m->level; level++)
        for (uint32_t j = 0; j < g->M; j++, link++) {
            const struct near *near = &s->chosen[(size_t)level * g->M0 + j];
            *link = (struct link){.level = level, .member = i};
            if (j < n[level]) {
                link->to = near->id;
                link->dist = near->dist;
            }
        }
}

static void seek(void *ctx, uint32_t worker)
{
    struct together *t = ctx;
    struct troop *p = t->troop;
    for (;;) {
        uint32_t i = atomic_fetch_add(&p->next, 1);
        if (i >= p->n)
            return;
        seek_one(t, p->scratch[worker], &p->g[worker], i);
    }
}

/* Gather --------------------------------------------------------------------------------------*/

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

#define KEY_LINK(key) ((uint32_t)((key) & ((1u << 27) - 1)))

static void gather(struct troop *p)
{
    p->n_keys = p->n_rows = 0;
    for (uint32_t i = 0; i < p->n_links; i++)
        if (p->links[i].to != 0)
            p->keys[p->n_keys++] =
                (uint64_t)p->links[i].level << 59 | (uint64_t)p->links[i].to << 27 | i;
    qsort(p->keys, p->n_keys, sizeof *p->keys, by_number);
    for (uint32_t i = 0; i < p->n_keys; i++) {
        if (i == 0 || p->keys[i] >> 27 != p->keys[i - 1] >> 27)
            p->rows[p->n_rows++] = (struct row){.first = i};
        p->rows[p->n_rows - 1].n++;
    }
}

/* Weave ---------------------------------------------------------------------------------------*/

/* Who is in the row already, with distances, into s->near. */
static uint32_t present(const struct graph *g, struct scratch *s, uint32_t slot,
                        const _Atomic uint32_t *row, uint32_t width, uint32_t level)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < width; i++) {
        uint32_t id = row_get(row, i);
        if (id != 0 && id < g->nslots && id != slot && graph_linkable(g, id, level))
            s->ids[n++] = id;
    }
    return n;
}

/* Everybody together thinned by the heuristic: into s->row. */
static uint32_t thin(const struct graph *g, struct scratch *s, uint32_t slot, uint32_t width,
                     uint32_t n_old, uint32_t n)
{
    const struct target to = graph_target_node(g, slot, g->pair);
    graph_distances(g, s, &to, s->ids, n_old, s->dists);
    for (uint32_t i = 0; i < n_old; i++)
        s->near[i] = (struct near){s->dists[i], s->ids[i]};
    select_sort(s->near, n);
    n = select_diverse(g, slot, s->near, n, 0, width, s->aside, s->near);
    memcpy(s->row, s->near, n * sizeof *s->row);
    return n;
}

static void weave_one(struct together *t, struct scratch *s, struct graph *g, uint32_t number)
{
    struct troop *p = t->troop;
    struct row *r = &p->rows[number];
    const struct link *first = &p->links[KEY_LINK(p->keys[r->first])];
    const uint32_t slot = first->to, level = first->level, width = level == 0 ? g->M0 : g->M;
    const _Atomic uint32_t *row = graph_edit_row(g, slot, level);
    _Atomic uint32_t *ids = p->ids + (uint64_t)number * g->M0;
    g->self = 0;
    uint32_t n_old = present(g, s, slot, row, width, level), n = n_old;
    for (uint32_t i = 0; i < r->n; i++) {
        const struct link *link = &p->links[KEY_LINK(p->keys[r->first + i])];
        const struct member *m = &p->members[link->member];
        if (link->dist == m->zero)
            return; /* A6 */
        s->near[n++] = (struct near){link->dist, m->slot};
    }
    if (n <= width) {
        for (uint32_t i = 0; i < n; i++)
            row_put(ids, i, i < n_old ? s->ids[i] : s->near[i].id);
    } else {
        n = thin(g, s, slot, width, n_old, n);
        for (uint32_t i = 0; i < n; i++)
            row_put(ids, i, s->row[i].id);
    }
    r->width = n;
    for (uint32_t i = 0; i < r->n; i++) {
        struct link *link = &p->links[KEY_LINK(p->keys[r->first + i])];
        for (uint32_t j = 0; j < n && !link->taken; j++)
            link->taken = row_get(ids, j) == p->members[link->member].slot;
    }
}

/* Rows among threads. */
typedef void row_work(struct together *t, struct scratch *s, struct graph *g, uint32_t number);

static void each_row(struct together *t, uint32_t worker, row_work *work)
{
    struct troop *p = t->troop;
    for (;;) {
        uint32_t from = atomic_fetch_add(&p->next, AT_ONCE);
        if (from >= p->n_rows)
            return;
        for (uint32_t i = from; i < from + AT_ONCE && i < p->n_rows; i++)
            work(t, p->scratch[worker], &p->g[worker], i);
    }
}

static void weave(void *ctx, uint32_t worker)
{
    each_row(ctx, worker, weave_one);
}

/* Swap and mourn ------------------------------------------------------------------------------*/

static const struct link *link_of(const struct troop *p, uint32_t number)
{
    return &p->links[KEY_LINK(p->keys[p->rows[number].first])];
}

static void swap_rows(struct together *t)
{
    struct troop *p = t->troop;
    const struct graph *g = &p->g[0];
    for (uint32_t number = 0; number < p->n_rows; number++) {
        const struct link *link = link_of(p, number);
        const uint32_t width = link->level == 0 ? g->M0 : g->M, n = p->rows[number].width;
        _Atomic uint32_t *ids = p->ids + (uint64_t)number * g->M0;
        if (n == 0)
            continue;
        _Atomic uint32_t *row = store_row_edit(t->ix->store, link->to, link->level);
        for (uint32_t i = 0; i < width; i++) {
            uint32_t was = row_get(row, i);
            row_put(row, i, i < n ? row_get(ids, i) : 0);
            row_put(ids, i, was);
        }
    }
}

static bool has(const _Atomic uint32_t *row, uint32_t width, uint32_t id)
{
    for (uint32_t i = 0; i < width; i++)
        if (row_get(row, i) == id)
            return true;
    return false;
}

static void mourn_one(struct together *t, struct scratch *s, struct graph *g, uint32_t number)
{
    struct troop *p = t->troop;
    struct row *r = &p->rows[number];
    const struct link *link = link_of(p, number);
    const uint32_t slot = link->to, level = link->level, width = level == 0 ? g->M0 : g->M;
    const _Atomic uint32_t *row = graph_edit_row(g, slot, level);
    _Atomic uint32_t *ids = p->ids + (uint64_t)number * g->M0;
    g->self = 0;
    for (uint32_t i = 0; i < width && r->width > 0; i++) {
        uint32_t id = row_get(ids, i);
        if (id != 0 && id < g->nslots && id != slot && !has(row, width, id) &&
            graph_linkable(g, id, level) && !ways_named(g, s, id, slot, level))
            r->lost = true;
        else
            row_put(ids, i, 0);
    }
}

static void mourn(void *ctx, uint32_t worker)
{
    each_row(ctx, worker, mourn_one);
}

/* Settle --------------------------------------------------------------------------------------*/

/* In order, since who gets back may be another one's way in, and who makes room must not be. */
static void get_back(struct together *t)
{
    struct troop *p = t->troop;
    struct graph *g = &p->g[0];
    struct scratch *s = p->scratch[0];
    g->self = 0;
    for (uint32_t number = 0; number < p->n_rows; number++) {
        const struct link *link = link_of(p, number);
        const uint32_t width = link->level == 0 ? g->M0 : g->M;
        if (!p->rows[number].lost)
            continue;
        _Atomic uint32_t *row = store_row_edit(t->ix->store, link->to, link->level);
        uint32_t n = 0;
        for (uint32_t i = 0; i < width; i++)
            if (row_get(row, i) != 0)
                s->row[n++].id = row_get(row, i);
        n = ways_keep(g, s, link->to, p->ids + (uint64_t)number * g->M0, width, link->level, n);
        for (uint32_t i = 0; i < width; i++)
            row_put(row, i, i < n ? s->row[i].id : 0);
    }
}

static void link_copies(struct together *t)
{
    struct troop *p = t->troop;
    for (uint32_t number = 0; number < p->n_rows; number++) {
        const struct row *r = &p->rows[number];
        for (uint32_t i = 0; i < r->n && r->width == 0; i++) {
            struct link *link = &p->links[KEY_LINK(p->keys[r->first + i])];
            const struct member *m = &p->members[link->member];
            const struct near to = {link->dist, link->to};
            p->g[0].self = m->slot;
            link->taken =
                insert_link_back(t->ix, p->scratch[0], &p->g[0], to, link->level, m->zero);
        }
    }
}

static void force_links(struct together *t)
{
    struct troop *p = t->troop;
    struct graph *g = &p->g[0];
    for (uint32_t i = 0; i < p->n_links; i += g->M) {
        const struct link *link = p->links + i;
        bool taken = link->to == 0;
        for (uint32_t j = 0; j < g->M; j++)
            taken |= link[j].taken;
        g->self = p->members[link->member].slot;
        if (!taken)
            insert_force_back(t->ix, g, link->level, (struct near){link->dist, link->to});
    }
}

static void settle(struct together *t)
{
    struct troop *p = t->troop;
    const struct member *last = &p->members[p->n - 1];
    get_back(t);
    link_copies(t);
    force_links(t);
    for (uint32_t i = 0; i < p->n; i++)
        if (!p->members[i].reached) {
            store_entry_set(t->ix->store, p->members[i].slot, p->members[i].level);
            return;
        }
    if (last->level > (uint32_t)(p->entry >> 32)) /* T1 */
        store_entry_set(t->ix->store, last->slot, last->level);
}

navmap_status together_add(struct together *t, uint64_t row, uint64_t *ret_added)
{
    struct troop *p = t->troop;
    TRY(store_write_begin(t->ix->store, t->n));
    navmap_status status = enlist(t, row);
    if (p->n > 0) {
        atomic_store(&p->next, 0);
        crew_run(t->crew, p->workers, seek, t);
        gather(p);
        atomic_store(&p->next, 0);
        crew_run(t->crew, p->workers, weave, t);
        swap_rows(t);
        atomic_store(&p->next, 0);
        crew_run(t->crew, p->workers, mourn, t);
        settle(t);
    }
    *ret_added = p->n;
    store_write_end(t->ix->store);
    return status;
}
