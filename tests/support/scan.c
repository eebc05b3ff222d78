/* scan.c -- q1..q6 over all slots; see scan.h. */
#include "tests/support/scan.h"

#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"

#define MAX_BYTES 16384u

static bool no(char *why, size_t n, const char *format, ...) __attribute__((format(printf, 3, 4)));
static bool no(char *why, size_t n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, n, format, args);
    va_end(args);
    return false;
}

void scan_begin(struct scan *sc, struct store *store)
{
    *sc = (struct scan){.store = store};
}

void scan_end(struct scan *sc)
{
    free(sc->hits);
    free(sc->kept);
    *sc = (struct scan){0};
}

static bool reserve(struct scan *sc, uint32_t slots, char *why, size_t n)
{
    if (slots <= sc->cap)
        return true;
    sc->cap = slots;
    free(sc->hits);
    free(sc->kept);
    sc->hits = malloc(slots * sizeof *sc->hits);
    sc->kept = malloc(slots * sizeof *sc->kept);
    return (sc->hits && sc->kept) || no(why, n, "out of memory");
}

/* Shared bytes by relaxed loads of words, as 10.2 wants it; n is a multiple of 4. */
static void copy_shared(void *to, const void *from, uint32_t n)
{
    uint32_t *out = to;
    const _Atomic uint32_t *in = from;
    for (uint32_t i = 0; i < n / 4; i++)
        out[i] = atomic_load_explicit(&in[i], memory_order_relaxed);
}

static bool same_life(uint32_t kept, uint32_t now)
{
    return STATE_GEN(kept) == STATE_GEN(now) && STATE_STATUS(now) != SLOT_FREE;
}

/* I4: ids of a live slot's row name slots published before, or in chunks not mapped yet. */
static bool check_row(const struct view *v, uint32_t slot, uint32_t nmax, char *why, size_t n)
{
    uint32_t ids[2 * LAYOUT_M_MAX];
    const _Atomic uint32_t *row = view_row(v, slot);
    for (uint32_t i = 0; i < v->layout.M0; i++)
        ids[i] = atomic_load_explicit(&row[i], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    for (uint32_t i = 0; i < v->layout.M0; i++) {
        if (ids[i] == 0 || ids[i] >= nmax)
            continue;
        uint32_t state = atomic_load_explicit(view_state(v, ids[i]), memory_order_relaxed);
        if (state == STATE_WORD(0, SLOT_FREE))
            return no(why, n, "I4: row of slot %u names slot %u, which was never published", slot,
                      ids[i]);
    }
    return true;
}

/* q4 */
static bool collect(struct scan *sc, const struct view *v, uint32_t nmax,
                    bool (*filter)(uint64_t label), struct rng *rng, char *why, size_t n)
{
    uint32_t start = 1 + (uint32_t)rng_below(rng, nmax - 1);
    sc->n = 0;
    for (uint32_t i = 1; i < nmax; i++) {
        uint32_t slot = start + i - 1;
        if (slot >= nmax)
            slot -= nmax - 1;
        uint32_t state = atomic_load_explicit(view_state(v, slot), memory_order_acquire);
        if (STATE_STATUS(state) != SLOT_LIVE)
            continue;
        if (filter) {
            uint64_t label = view_tag_label(v, slot);
            atomic_thread_fence(memory_order_acquire);
            uint32_t again = atomic_load_explicit(view_state(v, slot), memory_order_relaxed);
            if (!same_life(state, again) || !filter(label))
                continue;
        }
        sc->kept[sc->n++] = (struct scan_kept){slot, state};
        if (rng_one_in(rng, 16) && !check_row(v, slot, nmax, why, n))
            return false;
        if (sc->dawdle && rng_one_in(rng, 64))
            (void)sched_yield();
    }
    return true;
}

/* The copied payload of a slot is what its label and version make it. */
static bool check_pair(const struct layout *l, struct scan_kept kept, const struct disk_tag *tag,
                       const uint8_t *code, const float *vec, struct scan_hit *ret_hit, char *why,
                       size_t n)
{
    static _Thread_local float want[MAX_BYTES / 4];
    static _Thread_local uint8_t want_code[MAX_BYTES];
    uint32_t number = truth_number(tag->label);
    uint32_t version = (uint32_t)vec[1];
    if (number >= ORACLE_LABELS_MAX)
        return no(why, n, "V2: slot %u: label %016" PRIx64 " was never added", kept.slot,
                  tag->label);
    truth_vector(number, version, l->dim, want);
    if (memcmp(want, vec, 4ull * l->dim) != 0)
        return no(why, n, "V2: slot %u: the vector beside label %u is of (%g, version %g)",
                  kept.slot, number, (double)vec[0], (double)vec[1]);
    if (l->code_scheme) {
        /* The engine makes codes of its own: there the payload's sum vouches for them. */
        static const uint8_t zeros[LAYOUT_VEC_PADDING];
        truth_code(number, version, l->dim + l->code_header, want_code);
        if (memcmp(want_code, code, l->dim + l->code_header) != 0 &&
            layout_vsum_apart(l, tag->label, kept.slot, tag->gen, tag->up, code, vec, zeros) !=
                tag->vsum)
            return no(why, n, "V2: slot %u: the code of label %u version %u is another's",
                      kept.slot, number, version);
    }
    if (tag->gen != STATE_GEN(kept.state))
        return no(why, n, "V2: slot %u: tag of generation %u under state of %u", kept.slot,
                  tag->gen, STATE_GEN(kept.state));
    *ret_hit = (struct scan_hit){number, version, kept.slot};
    return true;
}

/* q5 */
static bool rerank(struct scan *sc, const struct view *v, bool (*filter)(uint64_t label), char *why,
                   size_t n)
{
    static _Thread_local float vec[MAX_BYTES / 4];
    static _Thread_local uint32_t code[MAX_BYTES / 4];
    const struct layout *l = &v->layout;
    uint32_t valid = 0;
    for (uint32_t i = 0; i < sc->n; i++) {
        struct scan_kept kept = sc->kept[i];
        struct disk_tag tag = {0};
        copy_shared(&tag, view_tag(v, kept.slot), sizeof tag);
        copy_shared(vec, view_vec(v, kept.slot), 4 * l->dim);
        copy_shared(code, view_code(v, kept.slot), l->code_stride);
        atomic_thread_fence(memory_order_acquire);
        uint32_t now = atomic_load_explicit(view_state(v, kept.slot), memory_order_relaxed);
        if (!same_life(kept.state, now)) {
            sc->dropped++;
            continue;
        }
        if (filter && !filter(tag.label))
            return no(why, n, "V2: slot %u: label %016" PRIx64 " was not the one the filter saw",
                      kept.slot, tag.label);
        if (!check_pair(l, kept, &tag, (const uint8_t *)code, vec, &sc->hits[valid], why, n))
            return false;
        valid++;
    }
    sc->n = valid;
    return true;
}

static int by_number(const void *a, const void *b)
{
    const struct scan_hit *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

bool scan_query(struct scan *sc, bool (*filter)(uint64_t label), struct rng *rng, char *why,
                size_t n)
{
    struct view *v = NULL;
    if (store_view_begin(sc->store, &v) != NAVMAP_OK)
        return no(why, n, "view: %s", navmap_error_detail());
    uint64_t e0 = view_load64(&view_live(v)->apply_end, memory_order_acquire);
    uint32_t nmax = view_slots(v);
    bool ok = 4 * v->layout.dim <= MAX_BYTES && v->layout.code_stride <= MAX_BYTES &&
              reserve(sc, nmax, why, n) && collect(sc, v, nmax, filter, rng, why, n);
    if (ok && sc->dawdle && rng_one_in(rng, 4))
        (void)sched_yield();
    ok = ok && rerank(sc, v, filter, why, n);
    atomic_thread_fence(memory_order_acquire);
    bool stable = view_load64(&view_live(v)->apply_begin, memory_order_relaxed) == e0;
    store_view_end(sc->store, v);
    if (!ok)
        return false;
    sc->queries++;
    qsort(sc->hits, sc->n, sizeof *sc->hits, by_number);
    for (uint32_t i = 1; i < sc->n; i++) {
        if (sc->hits[i].number != sc->hits[i - 1].number)
            continue;
        sc->duplicates++;
        if (stable)
            return no(why, n,
                      "V5: label %u twice, in slots %u and %u, and no apply beside the query",
                      sc->hits[i].number, sc->hits[i - 1].slot, sc->hits[i].slot);
    }
    return true;
}
