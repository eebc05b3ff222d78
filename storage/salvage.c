/* salvage.c -- which slots are items that can be had, by payload sums and label table; salvage.h.
 *
 *     payloads   every slot: does its vsum hold?                           (S1)
 *     table      each entry whose slot holds what it says: taken           (S3)
 *     states     other slots whose state says LIVE or DELETED: taken, unless the table has their
 *                label elsewhere, or, without a table, another slot has it too   (S2)
 */
#include "storage/salvage.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"
#include "storage/half.h"
#include "storage/salvage_ground.h"

enum verdict { LEFT, TOLD /* left out, and said so */, TAKEN_LIVE, TAKEN_DELETED };

struct salvage {
    struct salvage_ground g;
    uint32_t nslots;            /* that the file has bytes for */
    uint8_t *verdict;           /* [nslots] */
    uint8_t *whole;             /* [nslots] the payload's sum holds */
    struct sealed_label *table; /* sound entries of the label table, by label */
    uint64_t n_table, room;
    bool no_memory;
    uint32_t next;
};

static uint32_t state_of(const struct salvage *s, uint32_t slot)
{
    uint32_t word;
    memcpy(&word, s->g.base + layout_state_off(&s->g.layout, slot), sizeof word);
    return word;
}

static const struct disk_tag *tag_of(const struct salvage *s, uint32_t slot)
{
    return (const void *)(s->g.base + layout_tag_off(&s->g.layout, slot));
}

static const void *vector_of(const struct salvage *s, uint32_t slot)
{
    return (const void *)(s->g.base + layout_vec_off(&s->g.layout, slot));
}

static bool owns(uint32_t word)
{
    return STATE_STATUS(word) == SLOT_LIVE || STATE_STATUS(word) == SLOT_DELETED;
}

/* Payloads -------------------------------------------------------------------------------------*/

/* S1.  A file that ends within a chunk has the first arrays of it only. */
static bool payload_holds(const struct salvage *s, uint32_t slot)
{
    const struct layout *l = &s->g.layout;
    if (layout_vec_off(l, slot) + l->vec_stride > s->g.bytes)
        return false;
    const struct disk_tag *tag = tag_of(s, slot);
    const void *vector = vector_of(s, slot);
    if (tag->vsum != layout_vsum(l, tag->label, slot, tag->gen, tag->up,
                                 s->g.base + layout_code_off(l, slot), vector))
        return false;
    for (uint32_t i = 0; i < l->dim; i++)
        if (!isfinite(l->scalar == LAYOUT_F16 ? half_to_float(((const uint16_t *)vector)[i])
                                              : ((const float *)vector)[i]))
            return false;
    return true;
}

static navmap_status look_at_slots(struct salvage *s)
{
    const struct layout *l = &s->g.layout;
    uint64_t chunks = 0;
    if (s->g.bytes > LAYOUT_CHUNK0_OFFSET) /* the last one may be a part */
        chunks = (s->g.bytes - LAYOUT_CHUNK0_OFFSET + l->chunk_bytes - 1) / l->chunk_bytes;
    if (chunks > layout_chunks_max(l))
        chunks = layout_chunks_max(l);
    s->nslots = (uint32_t)(chunks << l->slot_shift);
    while (s->nslots > 0 && layout_state_off(l, s->nslots - 1) + 4 > s->g.bytes)
        s->nslots--;
    s->verdict = calloc((size_t)s->nslots + 1, 1);
    s->whole = calloc((size_t)s->nslots + 1, 1);
    if (!s->verdict || !s->whole)
        return fail(NAVMAP_ENOMEM, "%s: no memory to look at %" PRIu32 " slots", s->g.path,
                    s->nslots);
    for (uint32_t slot = 1; slot < s->nslots; slot++) {
        s->g.facts.slots += state_of(s, slot) != STATE_WORD(0, SLOT_FREE);
        s->whole[slot] = payload_holds(s, slot);
    }
    return NAVMAP_OK;
}

/* Table ----------------------------------------------------------------------------------------*/

static int keep_entry(void *ctx, uint64_t label, struct label_entry entry, bool sound)
{
    struct salvage *s = ctx;
    if (!sound) {
        salvage_tell(&s->g, true, "labels", 0, UINT64_MAX,
                     "the entry of label %" PRIu64
                     " does not match its checksum; its slot is asked instead",
                     label);
        return 0;
    }
    if (s->n_table == s->room) {
        uint64_t room = s->room ? 2 * s->room : 4096;
        struct sealed_label *more = realloc(s->table, room * sizeof *more);
        s->no_memory = !more;
        if (!more)
            return 1;
        s->table = more;
        s->room = room;
    }
    s->table[s->n_table++] = (struct sealed_label){label, entry.slot, entry.gen};
    return 0;
}

/* Offset of what a finding is about: the tag, if the file has it. */
static uint64_t place(const struct salvage *s, uint32_t slot)
{
    uint64_t at = layout_tag_off(&s->g.layout, slot);
    return at < s->g.bytes ? at : UINT64_MAX;
}

static void take(struct salvage *s, uint32_t slot, bool deleted)
{
    s->verdict[slot] = deleted ? TAKEN_DELETED : TAKEN_LIVE;
    if (deleted)
        s->g.facts.deleted++;
    else
        s->g.facts.live++;
}

static void take_entry(struct salvage *s, const struct sealed_label *e)
{
    static const char *const names[] = {"FREE", "LIVE", "DELETED", "DEAD"};
    if (e->slot == 0 || e->slot >= s->nslots) {
        salvage_tell(&s->g, false, "labels", e->slot, UINT64_MAX,
                     "label %" PRIu64 ": its slot %" PRIu32
                     " is not in the file, which has %" PRIu32 "; left out",
                     e->label, e->slot, s->nslots);
        return;
    }
    const uint32_t word = state_of(s, e->slot);
    if (!s->whole[e->slot]) {
        salvage_tell(&s->g, false, "payload", e->slot, place(s, e->slot),
                     "label %" PRIu64 ": the vector does not match its checksum; left out",
                     e->label);
        s->verdict[e->slot] = TOLD;
        return;
    }
    const struct disk_tag *tag = tag_of(s, e->slot);
    if (tag->label != e->label || tag->gen != e->gen) {
        salvage_tell(&s->g, false, "labels", e->slot, place(s, e->slot),
                     "label %" PRIu64 ": its slot holds label %" PRIu64 " of generation %" PRIu32
                     ", expected %" PRIu32 "; left out",
                     e->label, tag->label, tag->gen, e->gen);
        return;
    }
    if (!owns(word) || STATE_GEN(word) != e->gen)
        salvage_tell(&s->g, true, "state", e->slot, layout_state_off(&s->g.layout, e->slot),
                     "label %" PRIu64 ": the state word says %s of generation %" PRIu32
                     ", expected LIVE or DELETED of %" PRIu32 "; taken as %s",
                     e->label, names[STATE_STATUS(word)], STATE_GEN(word), e->gen,
                     STATE_STATUS(word) == SLOT_DELETED ? "deleted" : "live");
    take(s, e->slot, STATE_STATUS(word) == SLOT_DELETED);
}

static int by_label(const void *a, const void *b)
{
    const struct sealed_label *x = a, *y = b;
    return x->label < y->label ? -1 : x->label > y->label;
}

/* The slot that the table has for a label; 0 = none. */
static uint32_t find(const struct salvage *s, uint64_t label)
{
    const struct sealed_label key = {.label = label};
    const struct sealed_label *e =
        s->n_table ? bsearch(&key, s->table, s->n_table, sizeof key, by_label) : NULL;
    return e ? e->slot : 0;
}

/* States ---------------------------------------------------------------------------------------*/

/* A slot that says it is an item, and of which the table says nothing. */
static void take_slot(struct salvage *s, uint32_t slot)
{
    const struct disk_tag *tag = tag_of(s, slot);
    const uint32_t word = state_of(s, slot);
    if (s->g.facts.table_read)
        salvage_tell(&s->g, true, "labels", slot, place(s, slot),
                     "label %" PRIu64 ": no entry in the label table; taken from its slot",
                     tag->label);
    else if (STATE_GEN(word) != tag->gen)
        salvage_tell(&s->g, true, "state", slot, layout_state_off(&s->g.layout, slot),
                     "label %" PRIu64 ": generation expected %" PRIu32 ", found %" PRIu32 "; taken",
                     tag->label, tag->gen, STATE_GEN(word));
    take(s, slot, STATE_STATUS(word) == SLOT_DELETED);
}

static void look_at_state(struct salvage *s, uint32_t slot)
{
    const uint32_t word = state_of(s, slot);
    if (s->verdict[slot] != LEFT || !owns(word))
        return;
    if (!s->whole[slot]) {
        salvage_tell(&s->g, false, "payload", slot, place(s, slot),
                     "label %" PRIu64
                     ", if that is right: the vector does not match its checksum; left out",
                     place(s, slot) == UINT64_MAX ? 0 : tag_of(s, slot)->label);
        return;
    }
    const uint32_t other = find(s, tag_of(s, slot)->label);
    if (other != 0) {
        if (other != slot)
            salvage_tell(&s->g, true, "state", slot, layout_state_off(&s->g.layout, slot),
                         "label %" PRIu64 " is in slot %" PRIu32
                         "; what this slot has of it is older, and not taken",
                         tag_of(s, slot)->label, other);
        return;
    }
    take_slot(s, slot);
}

static void give_back(struct salvage *s, uint32_t slot)
{
    if (s->verdict[slot] == TAKEN_DELETED)
        s->g.facts.deleted--;
    else
        s->g.facts.live--;
    s->verdict[slot] = TOLD;
}

static int by_label_then_slot(const void *a, const void *b)
{
    const struct sealed_label *x = a, *y = b;
    int c = by_label(a, b);
    return c != 0 ? c : x->slot < y->slot ? -1 : x->slot > y->slot;
}

/* S2.  Of two slots with one label, one was superseded and its state word is damaged.  Nothing
 * tells which: the live one is kept, of two the higher. */
static navmap_status settle_twins(struct salvage *s)
{
    uint64_t n = 0;
    struct sealed_label *all = malloc((s->g.facts.live + s->g.facts.deleted + 1) * sizeof *all);
    if (!all)
        return fail(NAVMAP_ENOMEM, "%s: no memory for its labels", s->g.path);
    for (uint32_t slot = 1; slot < s->nslots; slot++)
        if (s->verdict[slot] >= TAKEN_LIVE)
            all[n++] = (struct sealed_label){.label = tag_of(s, slot)->label, .slot = slot};
    qsort(all, n, sizeof *all, by_label_then_slot);
    for (uint64_t i = 1, kept = 0; i < n; i++) {
        if (all[i].label != all[kept].label) {
            kept = i;
            continue;
        }
        uint64_t loser =
            s->verdict[all[i].slot] == TAKEN_DELETED && s->verdict[all[kept].slot] == TAKEN_LIVE
                ? i
                : kept;
        uint64_t winner = loser == i ? kept : i;
        salvage_tell(&s->g, false, "state", all[loser].slot, place(s, all[loser].slot),
                     "label %" PRIu64 " is in slots %" PRIu32 " and %" PRIu32
                     ", and nothing tells which is newer; the latter is taken",
                     all[i].label, all[loser].slot, all[winner].slot);
        give_back(s, all[loser].slot);
        kept = winner;
    }
    free(all);
    return NAVMAP_OK;
}

/* The whole ------------------------------------------------------------------------------------*/

static navmap_status decide(struct salvage *s)
{
    TRY(look_at_slots(s));
    salvage_walk_labels(&s->g, keep_entry, s);
    if (s->no_memory)
        return fail(NAVMAP_ENOMEM, "%s: no memory for its labels", s->g.path);
    for (uint64_t i = 0; i < s->n_table; i++)
        take_entry(s, &s->table[i]);
    for (uint32_t slot = 1; slot < s->nslots; slot++)
        look_at_state(s, slot);
    return settle_twins(s);
}

navmap_status salvage_open(const char *path, const struct salvage_how *how,
                           struct salvage **ret_salvage)
{
    struct salvage *s = calloc(1, sizeof *s);
    if (!s)
        return fail(NAVMAP_ENOMEM, "%s: no memory to salvage it", path);
    navmap_status status = salvage_ground_open(&s->g, path, how);
    if (status == NAVMAP_OK)
        status = decide(s);
    if (status != NAVMAP_OK) {
        salvage_close(s);
        return status;
    }
    s->next = 1;
    *ret_salvage = s;
    return NAVMAP_OK;
}

void salvage_close(struct salvage *s)
{
    if (!s)
        return;
    salvage_ground_close(&s->g);
    free(s->verdict);
    free(s->whole);
    free(s->table);
    free(s);
}

const struct layout *salvage_layout(const struct salvage *s)
{
    return &s->g.layout;
}

void salvage_facts(const struct salvage *s, struct salvage_facts *ret_facts)
{
    *ret_facts = s->g.facts;
}

uint32_t salvage_next(struct salvage *s, uint32_t max, uint64_t *ret_labels, float *ret_vectors,
                      bool *ret_deleted)
{
    const struct layout *l = &s->g.layout;
    const size_t dim = l->dim;
    uint32_t n = 0;
    for (; s->next < s->nslots && n < max; s->next++) {
        if (s->verdict[s->next] < TAKEN_LIVE)
            continue;
        ret_labels[n] = tag_of(s, s->next)->label;
        ret_deleted[n] = s->verdict[s->next] == TAKEN_DELETED;
        if (l->scalar == LAYOUT_F16)
            half_widen(vector_of(s, s->next), dim, ret_vectors + n * dim);
        else
            memcpy(ret_vectors + n * dim, vector_of(s, s->next), l->vec_bytes);
        n++;
    }
    return n;
}
