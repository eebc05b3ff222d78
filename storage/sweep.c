/* sweep.c -- DEAD slots become FREE once nothing names them any more.
 *
 * D is fixed at a commit boundary.  From then on no row gains a link into D, because adders and
 * repairs never choose DEAD slots.  The engine's cursor removes the links that are left, over as
 * many commits as it likes; then STATE(FREE, gen+1) of all of D is staged, and after that commit
 * the slots may be handed out (I3, I5).  A slot at the last generation stays DEAD for good.
 */
#include <stdlib.h>

#include "storage/handle.h"

static void forget(struct sweep *w)
{
    free(w->member);
    w->member = NULL;
    w->slots = 0;
    w->running = false;
}

void store_sweep_close(struct store *s)
{
    forget(&s->sweep);
    free(s->sweep.freed);
    s->sweep.freed = NULL;
}

void store_sweep_forget(struct store *s)
{
    forget(&s->sweep);
    s->sweep.n_freed = 0;
}

navmap_status store_sweep_begin(struct store *s, bool even_if_none, uint64_t *ret_dead)
{
    struct sweep *w = &s->sweep;
    TRY(store_commit_locked(s));
    uint32_t nslots = extent_slots(s->stage.root.extent);
    uint64_t dead = 0;
    forget(w);
    w->member = calloc((nslots >> 6) + 1, sizeof *w->member);
    if (!w->member)
        return fail(NAVMAP_ENOMEM, "%s: no memory to sweep %u slots", s->path, nslots);
    for (uint32_t slot = 1; slot < nslots; slot++) {
        uint32_t state = atomic_load_explicit(view_state(s->view, slot), memory_order_relaxed);
        if (STATE_STATUS(state) == SLOT_DEAD && STATE_GEN(state) < STATE_GEN_MAX) {
            w->member[slot >> 6] |= 1ull << (slot & 63);
            dead++;
        }
    }
    w->slots = nslots;
    w->cursor = 1;
    w->running = dead > 0 || even_if_none;
    *ret_dead = dead;
    return NAVMAP_OK;
}

bool store_sweep_running(const struct store *s)
{
    return s->sweep.running;
}

bool store_sweep_member(const struct store *s, uint32_t slot)
{
    return slot < s->sweep.slots && (s->sweep.member[slot >> 6] >> (slot & 63) & 1);
}

const uint64_t *store_sweep_members(const struct store *s, uint32_t *ret_slots)
{
    *ret_slots = s->sweep.slots;
    return s->sweep.member;
}

uint32_t store_sweep_cursor(const struct store *s)
{
    return s->sweep.cursor;
}

void store_sweep_advance(struct store *s, uint32_t next_slot)
{
    s->sweep.cursor = next_slot;
}

navmap_status store_sweep_room(struct store *s, uint32_t rows)
{
    return s->in_memory || stage_room_rows(&s->stage, rows) ? NAVMAP_OK : store_commit_locked(s);
}

/* Noted, to be handed out once the commit has applied its FREE; in a private index that is now. */
static navmap_status free_one(struct store *s, uint32_t slot)
{
    struct sweep *w = &s->sweep;
    if (w->n_freed == w->cap_freed) {
        uint32_t cap = w->cap_freed ? w->cap_freed * 2 : 256;
        uint32_t *list = realloc(w->freed, cap * sizeof *list);
        if (!list)
            return fail(NAVMAP_ENOMEM, "%s: no memory to free %u slots", s->path, cap);
        w->freed = list;
        w->cap_freed = cap;
    }
    w->freed[w->n_freed++] = slot;
    w->member[slot >> 6] &= ~(1ull << (slot & 63));
    store_state_set(s, slot, STATE_GEN(edit_state(&s->stage, slot)) + 1, SLOT_FREE);
    s->stage.root.n_dead--;
    s->stage.root.n_free++;
    s->stage.root_changed = true;
    return NAVMAP_OK;
}

navmap_status store_sweep_end(struct store *s)
{
    struct sweep *w = &s->sweep;
    for (uint32_t slot = 1; slot < w->slots; slot++) {
        if (!store_sweep_member(s, slot))
            continue;
        TRY(store_sweep_room(s, 1));
        TRY(free_one(s, slot));
    }
    forget(w);
    store_root_show(s);
    if (s->in_memory)
        store_sweep_committed(s);
    return NAVMAP_OK;
}

/* C6: what the commit freed may be handed out. */
void store_sweep_committed(struct store *s)
{
    struct sweep *w = &s->sweep;
    for (uint32_t i = 0; i < w->n_freed; i++)
        if (s->free_scanned && store_free_add(s, w->freed[i]) != NAVMAP_OK) {
            s->free_scanned = false; /* the list is derived again when next needed */
            break;
        }
    w->n_freed = 0;
}
