/* bisect.c -- recursive bisection; see bisect.h. */
#include "engine/bisect.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"

#define PAGE 4096u
#define ROUNDS 20u   /* of swaps in one part */
#define ENOUGH 200u  /* a round that swaps less than one in so many is the last */
#define LEAST 4u     /* items that are not cut any more, however large they are */
#define WHOLE 8192u  /* a part of so many is one thread's, down to its pages */
#define LOGS 4096u   /* logarithms that are kept, ... */
#define LOG_BITS 12u /* ... with so many bits behind the point */
#define KEY_SHIFT 4u /* gains are sorted by what is left of them, 16 bits */
#define KEY_MOST 32767

/* A stretch of the order, and the sets that have two of its items or more. */
struct part {
    uint32_t lo, n, sets;
    uint64_t *start; /* [n + 1] */
    uint32_t *pins;  /* sets of item i: [start[i], start[i + 1]) */
};

struct move {
    int32_t gain;
    uint32_t at; /* in the part */
};

/* What it takes to cut a part. */
struct cutting {
    uint8_t *side;      /* [n] 0 or 1 */
    uint32_t *count[2]; /* [sets] of its items on each side */
    int32_t *gain[2];   /* [sets] what an item of that side gains when it goes to the other */
    struct move *moves; /* [n] side 0's, then side 1's, each with the greatest gain first */
    struct move *aside; /* [n] */
};

struct bisecting {
    const struct bisection *b;
    uint32_t *items;
    int32_t *log;
    struct part *parts, *next; /* of this depth, and of the one below */
    uint32_t n_parts;
    uint32_t depth; /* in which all is done, about */
    _Atomic uint32_t taken;
    _Atomic uint64_t moved; /* items, once for each cut that they had part in */
    uint32_t told;
    _Atomic bool stop;
    _Atomic bool no_memory;
    navmap_status status; /* of the tick: worker 0's */
};

/* Numbers ---------------------------------------------------------------------------------------*/

static int32_t *make_logs(void)
{
    int32_t *log = malloc(LOGS * sizeof *log);
    for (uint32_t x = 1; log && x < LOGS; x++) {
        uint32_t whole = 31u - (uint32_t)__builtin_clz(x);
        uint64_t m = (uint64_t)x << (31u - whole); /* 1 to 2, 31 bits behind the point */
        log[x] = (int32_t)whole;
        for (uint32_t bit = 0; bit < LOG_BITS; bit++) {
            m = m * m >> 31;
            log[x] = log[x] * 2 + (m >> 32 ? 1 : 0);
            m >>= m >> 32 ? 1 : 0;
        }
    }
    return log;
}

static inline int32_t log_of(const int32_t *log, uint32_t x)
{
    uint32_t shift = x < LOGS ? 0 : 20u - (uint32_t)__builtin_clz(x);
    return log[x >> shift] + (int32_t)(shift << LOG_BITS);
}

/* Where to cut a part: at the page that begins next to its middle; 0 = it stays whole. */
static uint32_t cut_at(const struct bisection *b, const struct part *p)
{
    const uint64_t begin = (uint64_t)b->first + p->lo;
    if (p->n <= LEAST)
        return 0;
    uint64_t page = ((begin + p->n / 2) * b->stride + PAGE / 2) / PAGE;
    uint64_t at = (page * PAGE + b->stride - 1) / b->stride;
    return at > begin && at < begin + p->n ? (uint32_t)(at - begin) : 0;
}

/* Swaps -----------------------------------------------------------------------------------------*/

/* Of sets that are nearly all there already the most is gained: the derivative of n log n. */
static void set_gains(const struct bisecting *w, const struct part *p, struct cutting *c)
{
    for (uint32_t s = 0; s < p->sets; s++) {
        uint32_t a = c->count[0][s], b = c->count[1][s];
        c->gain[0][s] = a ? log_of(w->log, b + 1) - log_of(w->log, a) : 0;
        c->gain[1][s] = b ? log_of(w->log, a + 1) - log_of(w->log, b) : 0;
    }
}

static inline uint32_t key_of(struct move m)
{
    int32_t g = m.gain >> KEY_SHIFT;
    g = g > KEY_MOST ? KEY_MOST : g < -KEY_MOST ? -KEY_MOST : g;
    return (uint32_t)(KEY_MOST - g); /* the greatest first */
}

/* By key, and those of one key in the order in which they are. */
static void sort_moves(struct move *moves, struct move *aside, uint32_t n)
{
    for (uint32_t shift = 0; shift < 16; shift += 8) {
        uint32_t at[256] = {0}, sum = 0;
        for (uint32_t i = 0; i < n; i++)
            at[key_of(moves[i]) >> shift & 255]++;
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t some = at[i];
            at[i] = sum;
            sum += some;
        }
        for (uint32_t i = 0; i < n; i++)
            aside[at[key_of(moves[i]) >> shift & 255]++] = moves[i];
        memcpy(moves, aside, n * sizeof *moves);
    }
}

static void list_moves(const struct part *p, struct cutting *c, uint32_t cut)
{
    uint32_t at[2] = {0, cut};
    for (uint32_t i = 0; i < p->n; i++) {
        const int32_t *gain = c->gain[c->side[i]];
        int64_t sum = 0;
        for (uint64_t k = p->start[i]; k < p->start[i + 1]; k++)
            sum += gain[p->pins[k]];
        sum = sum > INT32_MAX / 2 ? INT32_MAX / 2 : sum < INT32_MIN / 2 ? INT32_MIN / 2 : sum;
        c->moves[at[c->side[i]]++] = (struct move){(int32_t)sum, i};
    }
    sort_moves(c->moves, c->aside, cut);
    sort_moves(c->moves + cut, c->aside, p->n - cut);
}

static void change_side(const struct part *p, struct cutting *c, uint32_t at)
{
    uint32_t *from = c->count[c->side[at]], *to = c->count[c->side[at] ^ 1];
    for (uint64_t k = p->start[at]; k < p->start[at + 1]; k++) {
        from[p->pins[k]]--;
        to[p->pins[k]]++;
    }
    c->side[at] ^= 1;
}

/* Both sides keep their size.  How many pairs. */
static uint32_t swap_some(const struct part *p, struct cutting *c, uint32_t cut)
{
    const uint32_t most = cut < p->n - cut ? cut : p->n - cut;
    uint32_t n = 0;
    while (n < most && (int64_t)c->moves[n].gain + c->moves[cut + n].gain > 0) {
        change_side(p, c, c->moves[n].at);
        change_side(p, c, c->moves[cut + n].at);
        n++;
    }
    return n;
}

/* Progress --------------------------------------------------------------------------------------*/

static void tell(struct bisecting *w, uint32_t worker, uint32_t most)
{
    if (worker != 0 || !w->b->tick || w->status != NAVMAP_OK)
        return;
    uint64_t done = atomic_load(&w->moved) / w->depth;
    uint32_t now = done < most ? (uint32_t)done : most;
    uint32_t more = now > w->told ? now - w->told : 0;
    w->told += more;
    w->status = w->b->tick(w->b->ctx, more);
    if (w->status != NAVMAP_OK)
        atomic_store(&w->stop, true);
}

static void lack_memory(struct bisecting *w)
{
    atomic_store(&w->no_memory, true);
    atomic_store(&w->stop, true);
}

/* Parts -----------------------------------------------------------------------------------------*/

static void part_free(struct part *p)
{
    free(p->start);
    free(p->pins);
    *p = (struct part){.n = 0};
}

static void cutting_free(struct cutting *c)
{
    free(c->side);
    free(c->count[0]);
    free(c->gain[0]);
    free(c->moves);
}

static bool cutting_make(struct cutting *c, const struct part *p, uint32_t cut)
{
    const size_t sets = (size_t)p->sets + 1;
    *c = (struct cutting){.side = calloc(p->n, 1),
                          .count[0] = calloc(sets, 2 * sizeof *c->count[0]),
                          .gain[0] = malloc(sets * 2 * sizeof *c->gain[0]),
                          .moves = malloc((size_t)p->n * 2 * sizeof *c->moves)};
    if (!c->side || !c->count[0] || !c->gain[0] || !c->moves)
        return false;
    c->count[1] = c->count[0] + sets;
    c->gain[1] = c->gain[0] + sets;
    c->aside = c->moves + p->n;
    memset(c->side + cut, 1, p->n - cut);
    for (uint32_t i = 0; i < p->n; i++)
        for (uint64_t k = p->start[i]; k < p->start[i + 1]; k++)
            c->count[c->side[i]][p->pins[k]]++;
    return true;
}

/* The items of one side, and the sets that have two of them.  c->count becomes their numbers. */
static bool part_of_side(const struct part *p, struct cutting *c, uint8_t side, uint32_t lo,
                         struct part *ret)
{
    uint32_t *number = c->count[side];
    uint64_t pins = 0;
    *ret = (struct part){.lo = lo};
    for (uint32_t s = 0; s < p->sets; s++) {
        pins += number[s] > 1 ? number[s] : 0;
        number[s] = number[s] > 1 ? ++ret->sets : 0; /* and one */
    }
    ret->start = malloc(((size_t)p->n + 1) * sizeof *ret->start);
    ret->pins = malloc((pins + 1) * sizeof *ret->pins);
    if (!ret->start || !ret->pins)
        return false;
    uint64_t at = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (c->side[i] != side)
            continue;
        ret->start[ret->n++] = at;
        for (uint64_t k = p->start[i]; k < p->start[i + 1]; k++)
            if (number[p->pins[k]])
                ret->pins[at++] = number[p->pins[k]] - 1;
    }
    ret->start[ret->n] = at;
    return true;
}

/* Cut a part, which is no more afterwards. */
static bool cut_part(struct bisecting *w, uint32_t worker, struct part *p, uint32_t cut,
                     struct part ret[2])
{
    struct cutting c;
    uint32_t *items = w->items + p->lo;
    bool ok = cutting_make(&c, p, cut);
    for (uint32_t round = 0; ok && round < ROUNDS && !atomic_load(&w->stop); round++) {
        set_gains(w, p, &c);
        list_moves(p, &c, cut);
        if (swap_some(p, &c, cut) <= p->n / 2 / ENOUGH)
            break;
        if (p->n > WHOLE)
            tell(w, worker, w->b->n - 1);
    }
    if (ok) {
        uint32_t *aside = (uint32_t *)(void *)c.moves, at[2] = {0, cut};
        for (uint32_t i = 0; i < p->n; i++)
            aside[at[c.side[i]]++] = items[i];
        memcpy(items, aside, p->n * sizeof *items);
    }
    ok = ok && part_of_side(p, &c, 0, p->lo, &ret[0]);
    ok = ok && part_of_side(p, &c, 1, p->lo + cut, &ret[1]);
    cutting_free(&c);
    atomic_fetch_add(&w->moved, p->n);
    part_free(p);
    if (!ok) {
        part_free(&ret[0]);
        part_free(&ret[1]);
        lack_memory(w);
    }
    return ok;
}

/* Down to its pages, the one half after the other. */
static void cut_all(struct bisecting *w, uint32_t worker, struct part *p)
{
    struct part halves[2] = {{.n = 0}, {.n = 0}};
    uint32_t cut = cut_at(w->b, p);
    if (cut == 0 || atomic_load(&w->stop))
        part_free(p);
    else if (cut_part(w, worker, p, cut, halves)) {
        cut_all(w, worker, &halves[0]);
        cut_all(w, worker, &halves[1]);
    }
}

static void work(void *ctx, uint32_t worker)
{
    struct bisecting *w = ctx;
    for (;;) {
        uint32_t at = atomic_fetch_add(&w->taken, 1);
        if (at >= w->n_parts || atomic_load(&w->stop))
            return;
        struct part *p = &w->parts[at];
        uint32_t cut = cut_at(w->b, p);
        if (cut == 0 || p->n <= WHOLE)
            cut_all(w, worker, p);
        else
            (void)cut_part(w, worker, p, cut, &w->next[(size_t)at * 2]);
        tell(w, worker, w->b->n - 1);
    }
}

/* All parts of one depth; those of the next take their place. */
static bool go_deeper(struct bisecting *w)
{
    uint32_t n = 0;
    w->next = calloc((size_t)w->n_parts * 2, sizeof *w->next);
    if (!w->next) {
        lack_memory(w);
        return false;
    }
    w->taken = 0;
    if (w->b->crew)
        crew_run(w->b->crew, w->b->threads, work, w);
    else
        work(w, 0);
    for (uint32_t i = 0; i < w->n_parts; i++) /* where it was stopped */
        part_free(&w->parts[i]);
    free(w->parts);
    for (uint32_t i = 0; i < w->n_parts * 2; i++)
        if (w->next[i].n > 0)
            w->next[n++] = w->next[i];
    w->parts = w->next;
    w->n_parts = n;
    return n > 0 && !atomic_load(&w->stop);
}

/* Beginning -------------------------------------------------------------------------------------*/

static inline uint32_t item_of(const struct bisect_sets *s, uint64_t set, uint32_t i)
{
    uint32_t word = s->words[set * s->width + i];
    return s->number ? s->number[word] : word;
}

/* Each set's items of a part, where[] is their place in it + 1: counted, or (pins) put down. */
static uint64_t go_through(const struct bisection *b, const uint32_t *where, struct part *p)
{
    uint64_t pins = 0;
    uint32_t number = 0;
    for (uint32_t k = 0; k < b->n_sets; k++) {
        const struct bisect_sets *s = &b->sets[k];
        for (uint64_t set = 0; set < s->n; set++) {
            uint32_t found = s->own && where[set], only = s->own ? where[set] : 0, n = 0;
            for (; n < s->width && s->words[set * s->width + n] != 0; n++) {
                uint32_t at = where[item_of(s, set, n) - 1];
                only = at ? at : only;
                found += at != 0;
            }
            if (found < 2)
                continue;
            for (uint32_t i = 0; i < n + s->own; i++) {
                uint32_t at = where[i < n ? item_of(s, set, i) - 1 : (uint32_t)set];
                if (at && p->pins)
                    p->pins[p->start[at - 1]++] = number;
                else if (at)
                    p->start[at]++;
            }
            pins += found;
            number++;
        }
    }
    p->sets = number;
    return pins;
}

/* `where` is all zero, and is left so. */
static bool part_make(const struct bisecting *w, uint32_t lo, uint32_t n, uint32_t *where,
                      struct part *ret)
{
    *ret = (struct part){.lo = lo, .n = n, .start = calloc((size_t)n + 1, sizeof *ret->start)};
    for (uint32_t i = 0; i < n; i++)
        where[w->items[lo + i]] = i + 1;
    uint64_t pins = ret->start ? go_through(w->b, where, ret) : 0;
    for (uint32_t i = 0; ret->start && i < n; i++)
        ret->start[i + 1] += ret->start[i];
    ret->pins = malloc((pins + 1) * sizeof *ret->pins);
    const bool ok = ret->start && ret->pins;
    if (ok) {
        (void)go_through(w->b, where, ret); /* start[i] is then where its list ends */
        memmove(ret->start + 1, ret->start, (size_t)n * sizeof *ret->start);
        ret->start[0] = 0;
    }
    for (uint32_t i = 0; i < n; i++)
        where[w->items[lo + i]] = 0;
    return ok;
}

static bool begin(struct bisecting *w)
{
    uint32_t *where = calloc((size_t)w->b->n + 1, sizeof *where), lo = 0;
    w->log = make_logs();
    w->parts = calloc((size_t)w->b->n_parts + 1, sizeof *w->parts);
    w->n_parts = w->b->n_parts;
    bool ok = where && w->log && w->parts;
    for (uint32_t i = 0; i < w->b->n_parts && ok; i++) {
        ok = part_make(w, lo, w->b->parts[i], where, &w->parts[i]);
        lo += w->b->parts[i];
    }
    free(where);
    return ok;
}

navmap_status bisect(const struct bisection *b, uint32_t *items)
{
    struct bisecting w = {.b = b, .items = items, .depth = 1};
    while ((uint64_t)b->n * b->stride >> w.depth > PAGE)
        w.depth++;
    if (!begin(&w))
        lack_memory(&w);
    while (!atomic_load(&w.stop) && go_deeper(&w))
        ;
    for (uint32_t i = 0; w.parts && i < w.n_parts; i++)
        part_free(&w.parts[i]);
    free(w.parts);
    free(w.log);
    if (atomic_load(&w.no_memory))
        return fail(NAVMAP_ENOMEM, "no memory to order %u items", b->n);
    if (w.status == NAVMAP_OK) {
        atomic_store(&w.moved, UINT64_MAX);
        tell(&w, 0, b->n);
    }
    return w.status;
}
