/* remake.c -- the items of an index in fresh memory, and a private index that goes on there.
 *
 * A private index is compacted by being made anew beside itself: its searches finish on the view
 * that they have, the next ones take the new one.  A bulk load of a directory begins in such a copy
 * too (engine/bulk.c).
 */
#include <stdlib.h>
#include <string.h>

#include "storage/handle.h"
#include "storage/renumber.h"

static navmap_status name_layout(const struct store *s, struct layout *l)
{
    struct layout fresh = *l;
    TRY(store_name_layout(&fresh));
    l->created_ns = fresh.created_ns;
    l->instance = s->layout.instance;
    l->generation = s->view->layout.generation + 1;
    memcpy(l->uuid, s->layout.uuid, sizeof l->uuid);
    l->uuid_low = s->layout.uuid_low;
    return NAVMAP_OK;
}

static navmap_status fill_chunks(struct view *v, struct renumbering *c)
{
    for (uint32_t i = 0; i < c->p->nchunks; i++)
        TRY(renumbering_chunk(c, v->wbase + layout_chunk_off(&v->layout, i)));
    return renumbering_sort(c);
}

static navmap_status fill_table(struct table *t, const struct renumbering *c)
{
    const uint64_t n = c->p->what->n;
    TRY(table_reserve(t, n + 1));
    for (uint64_t i = 0; i < n; i++)
        table_put(t, c->labels[i].label, c->labels[i].slot, c->labels[i].gen);
    return NAVMAP_OK;
}

/* LIVE.apply_end goes on from where the old one is (generation.c, G9). */
static void count_applies(struct view *v, const struct view *old)
{
    struct disk_live live = {.superseded = 0};
    live.apply_begin = live.apply_end =
        view_load64(&view_live(old)->apply_end, memory_order_relaxed) + 1;
    memcpy(v->wbase + LAYOUT_LIVE_OFFSET, &live, sizeof live); /* nobody sees it yet */
}

static uint32_t chunks_expected(const struct renumber *p)
{
    uint64_t chunks = p->what->expected / p->l.slots_per_chunk + 1;
    uint32_t most = layout_chunks_max(&p->l);
    return chunks > most ? most : chunks < p->nchunks ? p->nchunks : (uint32_t)chunks;
}

static navmap_status fill_store(struct store *made, const struct store *s, const struct renumber *p)
{
    struct renumbering c;
    TRY(store_locks_make(made));
    TRY(view_anonymous(&p->l, p->nchunks, chunks_expected(p), &made->view));
    TRY(renumbering_begin(&c, p));
    navmap_status status = fill_chunks(made->view, &c);
    if (status == NAVMAP_OK)
        status = fill_table(&made->table, &c);
    if (status == NAVMAP_OK) {
        count_applies(made->view, s->view);
        stage_open_through(&made->stage, made->view);
        made->stage.root = renumbering_root(&c);
        store_root_show(made);
    }
    renumbering_end(&c);
    return status;
}

static navmap_status make(struct store *s, const struct renumber *p, struct store **ret_private)
{
    static const struct store_options none = {.durability = STORE_FULL};
    struct store *made = store_new("(in memory)", STORE_WRITE, &none);
    if (!made)
        return fail(NAVMAP_ENOMEM, "no memory for an index");
    made->in_memory = true;
    made->bounded = s->bounded;
    made->layout = p->l;
    made->uuid_low = p->l.uuid_low;
    made->room_items = 16;
    navmap_status status = fill_store(made, s, p);
    if (status == NAVMAP_OK)
        *ret_private = made;
    else
        store_destroy(made);
    return status;
}

navmap_status store_remake(struct store *s, struct store *from, const struct sealing *what,
                           struct store **ret_private)
{
    struct renumber p;
    navmap_status status = renumber_make(&p, from, what, s->layout.flags & LAYOUT_FLAGS_CHOSEN);
    if (status == NAVMAP_OK)
        status = name_layout(s, &p.l);
    if (status == NAVMAP_OK)
        status = make(s, &p, ret_private);
    renumber_free(&p);
    return status;
}

/* Look-ups take the table under item_lock, and hold what it says against the view that they have:
 * the new table beside an old view sends them to the slots themselves. */
void store_adopt(struct store *s, struct store *other)
{
    (void)pthread_mutex_lock(&s->item_lock);
    struct table old = s->table;
    s->table = other->table;
    other->table = old;
    stage_open_through(&s->stage, other->view);
    s->stage.root = other->stage.root;
    (void)pthread_mutex_unlock(&s->item_lock);
    store_forget_slots(s);
    store_publish(s, other->view);
    other->view = NULL;
    atomic_store(&s->ground_is_left, true); /* nothing of the file is needed any more */
    store_destroy(other);
}
