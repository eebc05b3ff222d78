/* malloc_calls.c -- every call of the interface once, with what it does to a world's items, and on
 * which forms of index it can be made; see malloc_calls.h.
 */
#include "tests/torture/malloc_calls.h"

#include <string.h>

#define NEW_LABELS 40u

#define WRITERS (F(DIRECTORY) | F(MANUAL) | F(PRIVATE) | F(MAPPED) | F(FLAT))
#define ALL (WRITERS | F(READER))

static float rows[NEW_LABELS * WORLD_DIM];
static uint64_t row_labels[NEW_LABELS];

navmap_status call_add_rows(struct world *w, uint32_t n, uint64_t first, uint32_t version,
                            uint32_t threads, bool replace)
{
    const struct navmap_add_options o = {
        .struct_size = sizeof o, .num_threads = threads, .replace_deleted = replace};
    for (uint32_t i = 0; i < n; i++) {
        row_labels[i] = first + i;
        world_vector(first + i, version, rows + (size_t)i * WORLD_DIM);
    }
    return navmap_add(w->ix, n, rows, row_labels, &o, NULL);
}

static navmap_status run_add(struct world *w)
{
    return call_add_rows(w, 1, 70, 1, 1, false);
}
void change_add(struct model *m)
{
    world_renew(m, 70);
}
static navmap_status run_add_rows(struct world *w)
{
    return call_add_rows(w, 12, 70, 1, 1, false);
}
static void change_add_rows(struct model *m)
{
    for (uint64_t i = 70; i < 82; i++)
        world_renew(m, i);
}
static navmap_status run_add_threads(struct world *w)
{
    return call_add_rows(w, NEW_LABELS, 70, 1, 4, false);
}
static void change_add_threads(struct model *m)
{
    for (uint64_t i = 70; i < 70 + NEW_LABELS; i++)
        world_renew(m, i);
}
static navmap_status run_update(struct world *w)
{
    return call_add_rows(w, 3, 20, 2, 1, false);
}
static void change_update(struct model *m)
{
    for (uint64_t i = 20; i < 23; i++)
        world_renew(m, i);
}
static navmap_status run_replace(struct world *w)
{
    return call_add_rows(w, 1, 70, 1, 1, true);
}
static void change_replace(struct model *m)
{
    world_renew(m, 70);
    m->item[WORLD_MARKED].status = ABSENT;
}
static navmap_status run_mark(struct world *w)
{
    return navmap_delete(w->ix, 30);
}
static void change_mark(struct model *m)
{
    m->item[30].status = MARKED;
}
static navmap_status run_unmark(struct world *w)
{
    return navmap_undelete(w->ix, WORLD_MARKED);
}
static void change_unmark(struct model *m)
{
    m->item[WORLD_MARKED].status = LIVE;
}
static navmap_status run_remove(struct world *w)
{
    return navmap_remove(w->ix, 30);
}
static void change_remove(struct model *m)
{
    m->item[30].status = ABSENT;
}
static navmap_status run_resize(struct world *w)
{
    return navmap_resize(w->ix, 1000);
}
navmap_status call_flush(struct world *w)
{
    return navmap_flush(w->ix);
}
/* Staged without faults, committed and checkpointed with. */
static navmap_status run_commit(struct world *w)
{
    navmap_status status = call_add_rows(w, 12, 70, 1, 1, false);
    return status == NAVMAP_OK ? navmap_flush(w->ix) : status;
}

static int odd(void *ctx, uint64_t label)
{
    (void)ctx;
    return label % 2 == 1;
}

static uint64_t found[NEW_LABELS * 10];
static float distances[NEW_LABELS * 10];

static navmap_status search(struct world *w, bool exact, uint32_t nq, uint32_t threads, bool filter)
{
    static uint64_t allowed[WORLD_ITEMS];
    struct navmap_search_options o = {
        .struct_size = sizeof o, .ef = WORLD_LABELS, .num_threads = threads};
    for (uint32_t i = 0; i < nq; i++)
        world_vector(7 + i, 1, rows + (size_t)i * WORLD_DIM);
    for (uint64_t i = 0; i < WORLD_ITEMS; i++)
        allowed[i] = i;
    if (filter) {
        o.filter = odd;
        o.allowed = allowed;
        o.n_allowed = WORLD_ITEMS;
    }
    navmap_status status = (exact ? navmap_search_exact : navmap_search)(w->ix, nq, rows, 10, &o,
                                                                         found, distances, NULL);
    for (uint32_t i = 0; i < nq && status == NAVMAP_OK && !filter; i++)
        if (found[(size_t)i * 10] != 7 + i || distances[(size_t)i * 10] != 0)
            return WRONG;
    return status == NAVMAP_OK && filter && found[0] != 7 ? WRONG : status;
}
static navmap_status run_search(struct world *w)
{
    return search(w, false, 1, 1, false);
}
static navmap_status run_search_rows(struct world *w)
{
    return search(w, false, NEW_LABELS, 4, false);
}
static navmap_status run_exact(struct world *w)
{
    return search(w, true, 3, 1, false);
}
static navmap_status run_filter(struct world *w)
{
    return search(w, false, 3, 1, true);
}
static navmap_status run_get(struct world *w)
{
    const uint64_t labels[2] = {8, 9};
    float v[2 * WORLD_DIM], expected[WORLD_DIM];
    navmap_status status = navmap_get(w->ix, 2, labels, v);
    world_vector(9, 1, expected);
    return status == NAVMAP_OK && memcmp(v + WORLD_DIM, expected, sizeof expected) != 0 ? WRONG
                                                                                        : status;
}
static navmap_status run_contains(struct world *w)
{
    bool yes = false;
    navmap_status status = navmap_contains(w->ix, 8, &yes);
    return status == NAVMAP_OK && !yes ? WRONG : status;
}
static navmap_status run_labels(struct world *w)
{
    uint64_t n = 0;
    navmap_status status = navmap_labels(w->ix, true, NEW_LABELS, found, &n);
    return status == NAVMAP_OK && n != WORLD_ITEMS ? WRONG : status;
}
static navmap_status run_stats(struct world *w)
{
    struct navmap_stats s = {.struct_size = sizeof s};
    navmap_status status = navmap_get_stats(w->ix, &s);
    return status == NAVMAP_OK && s.n_live != WORLD_ITEMS - 1 ? WRONG : status;
}
navmap_status call_check(struct world *w)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    navmap_status status = navmap_check(w->ix, NULL, NULL, &r);
    return status == NAVMAP_OK && r.damaged != 0 ? WRONG : status;
}
static navmap_status run_file_bytes(struct world *w)
{
    uint64_t n;
    return navmap_file_bytes(w->ix, &n);
}
navmap_status call_save(struct world *w)
{
    return navmap_save(w->ix, harness_path(w->root, "saved"));
}
navmap_status call_create(struct world *w)
{
    struct navmap_options o = world_options(DIRECTORY);
    return navmap_create(harness_path(w->root, "made"), &o, &w->ix);
}
navmap_status call_new(struct world *w)
{
    struct navmap_options o = world_options(PRIVATE);
    return navmap_new(&o, &w->ix);
}
navmap_status call_new_flat(struct world *w)
{
    struct navmap_options o = world_options(FLAT);
    return navmap_new(&o, &w->ix);
}
static navmap_status open_it(struct world *w, const char *name, enum form form)
{
    const struct navmap_open_options o = world_open_options(form);
    return navmap_open(harness_path(w->root, name), form == READER ? NAVMAP_READ : NAVMAP_WRITE, &o,
                       &w->ix);
}
static navmap_status run_open(struct world *w)
{
    return open_it(w, "index", DIRECTORY);
}
static navmap_status run_open_reader(struct world *w)
{
    return open_it(w, "index", READER);
}
static navmap_status run_recover(struct world *w)
{
    return open_it(w, "crashed", DIRECTORY);
}
static navmap_status run_recover_reader(struct world *w)
{
    return open_it(w, "crashed", READER);
}
navmap_status call_load(struct world *w, const char *name, bool copy, bool verify)
{
    const struct navmap_load_options o = {.struct_size = sizeof o,
                                          .has_space = 1,
                                          .space = NAVMAP_L2,
                                          .allow_replace_deleted = 1,
                                          .flat = w->form == FLAT,
                                          .copy = copy,
                                          .verify = verify};
    return navmap_load(harness_path(w->root, name), &o, &w->ix);
}
static navmap_status run_load(struct world *w)
{
    return call_load(w, "sealed", false, false);
}
static navmap_status run_load_copied(struct world *w)
{
    return call_load(w, "sealed", true, true);
}
navmap_status call_import(struct world *w)
{
    return call_load(w, "bin", false, false);
}
static navmap_status verify(struct world *w, const char *name)
{
    struct navmap_verify_result r = {0};
    navmap_status status = navmap_verify(harness_path(w->root, name), false, NULL, NULL, &r);
    return status == NAVMAP_OK && r.damaged != 0 ? WRONG : status;
}
static navmap_status run_verify(struct world *w)
{
    return verify(w, "index");
}
static navmap_status run_verify_crashed(struct world *w)
{
    return verify(w, "crashed");
}
static navmap_status run_verify_file(struct world *w)
{
    return verify(w, "sealed");
}
static navmap_status run_inspect(struct world *w)
{
    struct navmap_stats s = {.struct_size = sizeof s};
    return navmap_inspect(harness_path(w->root, "crashed"), &s);
}
navmap_status call_close(struct world *w)
{
    navmap_index *ix = w->ix;
    w->ix = NULL;
    return navmap_close(ix);
}

const struct op ops[] = {
    {"add", WRITERS, run_add, change_add, NAVMAP_OK, false, true},
    {"add rows", WRITERS, run_add_rows, change_add_rows, NAVMAP_OK, false, true},
    {"add by threads", WRITERS, run_add_threads, change_add_threads, NAVMAP_OK, false, true},
    {"update", WRITERS, run_update, change_update, NAVMAP_OK, false, true},
    {"replace deleted", WRITERS, run_replace, change_replace, NAVMAP_OK, false, true},
    {"mark", WRITERS, run_mark, change_mark, NAVMAP_EDELETED, false, true},
    {"unmark", WRITERS, run_unmark, change_unmark, NAVMAP_ENOTDELETED, false, true},
    {"remove", F(FLAT), run_remove, change_remove, NAVMAP_ENOTFOUND, false, false},
    {"resize", WRITERS, run_resize, NULL, NAVMAP_OK, false, true},
    {"flush", WRITERS, call_flush, NULL, NAVMAP_OK, false, true},
    {"add and flush", F(MANUAL), run_commit, change_add_rows, NAVMAP_OK, false, true},
    {"search", ALL, run_search, NULL, NAVMAP_OK, false, false},
    {"search by threads", ALL, run_search_rows, NULL, NAVMAP_OK, false, false},
    {"exact search", ALL, run_exact, NULL, NAVMAP_OK, false, false},
    {"filter", ALL, run_filter, NULL, NAVMAP_OK, false, false},
    {"get", ALL, run_get, NULL, NAVMAP_OK, false, false},
    {"contains", ALL, run_contains, NULL, NAVMAP_OK, false, false},
    {"labels", ALL, run_labels, NULL, NAVMAP_OK, false, false},
    {"stats", ALL, run_stats, NULL, NAVMAP_OK, false, false},
    {"check", ALL, call_check, NULL, NAVMAP_OK, false, false},
    {"file bytes", ALL, run_file_bytes, NULL, NAVMAP_OK, false, true},
    {"save", ALL, call_save, NULL, NAVMAP_OK, false, true},
    {"close", ALL, call_close, NULL, NAVMAP_OK, false, true},
    {"create", F(PATHS), call_create, NULL, NAVMAP_OK, true, true},
    {"new", F(PATHS), call_new, NULL, NAVMAP_OK, true, false},
    {"new, flat", F(PATHS), call_new_flat, NULL, NAVMAP_OK, true, false},
    {"open", F(PATHS), run_open, NULL, NAVMAP_OK, true, false},
    {"open for reading", F(PATHS), run_open_reader, NULL, NAVMAP_OK, true, false},
    {"recover", F(PATHS), run_recover, NULL, NAVMAP_OK, true, true},
    {"recover for reading", F(PATHS), run_recover_reader, NULL, NAVMAP_OK, true, true},
    {"load", F(PATHS), run_load, NULL, NAVMAP_OK, true, false},
    {"load a copy", F(PATHS), run_load_copied, NULL, NAVMAP_OK, true, false},
    {"import", F(PATHS), call_import, NULL, NAVMAP_OK, true, false},
    {"verify", F(PATHS), run_verify, NULL, NAVMAP_OK, false, false},
    {"verify after a crash", F(PATHS), run_verify_crashed, NULL, NAVMAP_OK, false, false},
    {"verify a file", F(PATHS), run_verify_file, NULL, NAVMAP_OK, false, false},
    {"inspect", F(PATHS), run_inspect, NULL, NAVMAP_OK, false, false},
};
const uint32_t n_ops = sizeof ops / sizeof *ops;
