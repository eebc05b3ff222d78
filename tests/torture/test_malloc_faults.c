/* test_malloc_faults.c -- the n-th allocation fails, once or from then on, for every n (T8).
 *
 * Every call of the interface, on every form of index, until it passes without reaching the n-th
 * allocation.  Those of LMDB and libc fail as well.  Required of each:
 *   M1  the call says NAVMAP_ENOMEM with a sentence, or succeeds in spite of it; a commit that LMDB
 *       could not make says that, or poisons the writer.  Never a signal or a hang
 *   M2  each label is as before the call or as after it, vectors bit for bit; the graph is sound
 *   M3  the same call succeeds as soon as there is memory (a poisoned writer: once reopened), and
 *       then everything is as after it: no lock was left taken
 *   M4  a directory verifies and opens; nothing is left behind; no descriptor is lost
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/fail.h"
#include "tests/support/scarce.h"
#include "tests/torture/malloc_world.h"

#define NEW_LABELS 40u
#define WRONG ((navmap_status)1) /* the call succeeded, with a wrong answer */

struct op {
    const char *name;
    uint32_t forms; /* a bit each */
    navmap_status (*run)(struct world *w);
    void (*change)(struct model *m); /* NULL = nothing */
    navmap_status again; /* what the repeated call may say when the first had staged it all */
    bool opens;          /* it makes w->ix; else it uses w->ix, or needs none */
    bool writes;         /* a commit may fail: M1 */
};

#define F(form) (1u << (form))
#define WRITERS (F(DIRECTORY) | F(MANUAL) | F(PRIVATE) | F(MAPPED) | F(FLAT))
#define LINKED (F(DIRECTORY) | F(MANUAL) | F(PRIVATE) | F(MAPPED))
#define ALL (WRITERS | F(READER))
#define FILES "index sealed crashed bin saved made "

/* Calls -----------------------------------------------------------------------------------------*/

static float rows[NEW_LABELS * WORLD_DIM];
static uint64_t row_labels[NEW_LABELS];

static navmap_status add(struct world *w, uint32_t n, uint64_t first, uint32_t version,
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
    return add(w, 1, 70, 1, 1, false);
}
static void change_add(struct model *m)
{
    world_renew(m, 70);
}
static navmap_status run_add_rows(struct world *w)
{
    return add(w, 12, 70, 1, 1, false);
}
static void change_add_rows(struct model *m)
{
    for (uint64_t i = 70; i < 82; i++)
        world_renew(m, i);
}
static navmap_status run_add_threads(struct world *w)
{
    return add(w, NEW_LABELS, 70, 1, 4, false);
}
static void change_add_threads(struct model *m)
{
    for (uint64_t i = 70; i < 70 + NEW_LABELS; i++)
        world_renew(m, i);
}
static navmap_status run_update(struct world *w)
{
    return add(w, 3, 20, 2, 1, false);
}
static void change_update(struct model *m)
{
    for (uint64_t i = 20; i < 23; i++)
        world_renew(m, i);
}
static navmap_status run_replace(struct world *w)
{
    return add(w, 1, 70, 1, 1, true);
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
static navmap_status run_flush(struct world *w)
{
    return navmap_flush(w->ix);
}
/* Staged without faults, committed and checkpointed with. */
static navmap_status run_commit(struct world *w)
{
    navmap_status status = add(w, 12, 70, 1, 1, false);
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
static navmap_status run_check(struct world *w)
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
static navmap_status run_save(struct world *w)
{
    return navmap_save(w->ix, harness_path(w->root, "saved"));
}
static navmap_status run_create(struct world *w)
{
    struct navmap_options o = world_options(DIRECTORY);
    return navmap_create(harness_path(w->root, "made"), &o, &w->ix);
}
static navmap_status run_new(struct world *w)
{
    struct navmap_options o = world_options(PRIVATE);
    return navmap_new(&o, &w->ix);
}
static navmap_status run_new_flat(struct world *w)
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
static navmap_status load(struct world *w, const char *name, bool copy, bool verify)
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
    return load(w, "sealed", false, false);
}
static navmap_status run_load_copied(struct world *w)
{
    return load(w, "sealed", true, true);
}
static navmap_status run_import(struct world *w)
{
    return load(w, "bin", false, false);
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
static navmap_status run_close(struct world *w)
{
    navmap_index *ix = w->ix;
    w->ix = NULL;
    return navmap_close(ix);
}

static const struct op ops[] = {
    {"add", WRITERS, run_add, change_add, NAVMAP_OK, false, true},
    {"add rows", WRITERS, run_add_rows, change_add_rows, NAVMAP_OK, false, true},
    {"add by threads", WRITERS, run_add_threads, change_add_threads, NAVMAP_OK, false, true},
    {"update", WRITERS, run_update, change_update, NAVMAP_OK, false, true},
    {"replace deleted", WRITERS, run_replace, change_replace, NAVMAP_OK, false, true},
    {"mark", WRITERS, run_mark, change_mark, NAVMAP_EDELETED, false, true},
    {"unmark", WRITERS, run_unmark, change_unmark, NAVMAP_ENOTDELETED, false, true},
    {"remove", F(FLAT), run_remove, change_remove, NAVMAP_ENOTFOUND, false, false},
    {"resize", WRITERS, run_resize, NULL, NAVMAP_OK, false, true},
    {"flush", WRITERS, run_flush, NULL, NAVMAP_OK, false, true},
    {"add and flush", F(MANUAL), run_commit, change_add_rows, NAVMAP_OK, false, true},
    {"search", ALL, run_search, NULL, NAVMAP_OK, false, false},
    {"search by threads", ALL, run_search_rows, NULL, NAVMAP_OK, false, false},
    {"exact search", ALL, run_exact, NULL, NAVMAP_OK, false, false},
    {"filter", ALL, run_filter, NULL, NAVMAP_OK, false, false},
    {"get", ALL, run_get, NULL, NAVMAP_OK, false, false},
    {"contains", ALL, run_contains, NULL, NAVMAP_OK, false, false},
    {"labels", ALL, run_labels, NULL, NAVMAP_OK, false, false},
    {"stats", ALL, run_stats, NULL, NAVMAP_OK, false, false},
    {"check", ALL, run_check, NULL, NAVMAP_OK, false, false},
    {"file bytes", ALL, run_file_bytes, NULL, NAVMAP_OK, false, true},
    {"save", ALL, run_save, NULL, NAVMAP_OK, false, true},
    {"close", ALL, run_close, NULL, NAVMAP_OK, false, true},
    {"create", F(PATHS), run_create, NULL, NAVMAP_OK, true, true},
    {"new", F(PATHS), run_new, NULL, NAVMAP_OK, true, false},
    {"new, flat", F(PATHS), run_new_flat, NULL, NAVMAP_OK, true, false},
    {"open", F(PATHS), run_open, NULL, NAVMAP_OK, true, false},
    {"open for reading", F(PATHS), run_open_reader, NULL, NAVMAP_OK, true, false},
    {"recover", F(PATHS), run_recover, NULL, NAVMAP_OK, true, true},
    {"recover for reading", F(PATHS), run_recover_reader, NULL, NAVMAP_OK, true, true},
    {"load", F(PATHS), run_load, NULL, NAVMAP_OK, true, false},
    {"load a copy", F(PATHS), run_load_copied, NULL, NAVMAP_OK, true, false},
    {"import", F(PATHS), run_import, NULL, NAVMAP_OK, true, false},
    {"verify", F(PATHS), run_verify, NULL, NAVMAP_OK, false, false},
    {"verify after a crash", F(PATHS), run_verify_crashed, NULL, NAVMAP_OK, false, false},
    {"verify a file", F(PATHS), run_verify_file, NULL, NAVMAP_OK, false, false},
    {"inspect", F(PATHS), run_inspect, NULL, NAVMAP_OK, false, false},
};
enum { OPS = sizeof ops / sizeof *ops };

/* A case --------------------------------------------------------------------------------------- */

enum { REFUSED, SAID, IN_SPITE, POISONED };

struct test {
    struct harness h;
    struct ward *ward;
    struct world world;
    const struct op *op;
    enum form form;
    bool ever;
    uint32_t step;
};

static uint32_t open_files(void)
{
    uint32_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        (void)closedir(dir);
    return n;
}

static bool on_disk(enum form form)
{
    return form == DIRECTORY || form == MANUAL || form == READER;
}

/* M1.  What `status` may be after `refused` allocations failed. */
static bool may_say(const struct test *t, navmap_status status, uint64_t refused)
{
    if (status == WRONG)
        return ward_says(t->ward, "a wrong answer");
    if (status != NAVMAP_OK && navmap_error_detail()[0] == '\0')
        return ward_says(t->ward, "%s without a sentence", navmap_strerror(status));
    if (status == NAVMAP_OK || (refused > 0 && status == NAVMAP_ENOMEM) ||
        (refused > 0 && status == NAVMAP_EPOISONED && t->op->writes && t->form != READER))
        return true;
    return ward_says(t->ward, "said %s: %s", navmap_strerror(status), navmap_error_detail());
}

/* M3: with memory again, by the same handle or by another. */
static bool repeat(struct test *t, navmap_status said)
{
    struct world *w = &t->world;
    if (said == NAVMAP_EPOISONED && !t->op->opens) {
        (void)!navmap_close(w->ix);
        w->ix = NULL;
        if (!world_opens(w, t->form) || !world_holds(w, false))
            return false;
    }
    navmap_status status = t->op->run(w);
    if (status == t->op->again)
        status = NAVMAP_OK;
    if (status == NAVMAP_OK && w->ix && t->form != READER && !t->op->opens)
        status = navmap_flush(w->ix);
    if (status == NAVMAP_OK)
        return true;
    return ward_says(t->ward, "after %s, with memory again: %s: %s", navmap_strerror(said),
                     navmap_strerror(status), navmap_error_detail());
}

/* The index that a call made: empty or as the templates, but for the imported one. */
static bool made_holds(struct test *t)
{
    struct world *w = &t->world;
    if (t->op->run == run_import)
        return run_check(w) == NAVMAP_OK || ward_says(t->ward, "check after the import");
    if (t->op->run == run_create || t->op->run == run_new || t->op->run == run_new_flat)
        return add(w, 1, 7, 1, 1, false) == NAVMAP_OK ||
               ward_says(t->ward, "adding to the new one");
    return world_holds(w, true);
}

static bool saved_holds(struct test *t, navmap_status said)
{
    struct world *w = &t->world;
    if (said != NAVMAP_OK)
        return access(harness_path(w->root, "saved"), F_OK) != 0 ||
               ward_says(t->ward, "a failed save left its file");
    navmap_index *mine = w->ix;
    bool ok = load(w, "saved", false, true) == NAVMAP_OK && world_holds(w, true);
    ok = w->ix != mine && navmap_close(w->ix) == NAVMAP_OK && ok;
    w->ix = mine;
    return ok || ward_says(t->ward, "the saved file: %s", navmap_error_detail());
}

/* One n.  *ret_refused: the n-th allocation came. */
static bool one(struct test *t, uint64_t n, uint64_t *ret_refused)
{
    struct world *w = &t->world;
    const struct op *op = t->op;
    uint32_t files = open_files();
    const bool closes = op->run == run_close;
    if (!world_begin(w, t->form))
        return false;
    w->after = w->before;
    if (op->run == run_flush && add(w, 1, 70, 1, 1, false) == NAVMAP_OK) {
        change_add(&w->after); /* something to commit or to checkpoint */
        if (t->form != MANUAL)
            w->before = w->after;
    }
    if (op->change)
        op->change(&w->after);
    (void)fail(NAVMAP_OK, "%s", "");
    scarce_begin(n, t->ever);
    navmap_status status = op->run(w);
    *ret_refused = scarce_end();
    (void)snprintf(t->ward->what, sizeof t->ward->what, "allocation %llu %s: %s",
                   (unsigned long long)n, t->ever ? "and on" : "once", navmap_strerror(status));
    if (!may_say(t, status, *ret_refused))
        return false;
    if (*ret_refused > 0) {
        atomic_fetch_add(&t->ward->count[REFUSED], 1);
        atomic_fetch_add(&t->ward->count[status == NAVMAP_OK          ? IN_SPITE
                                         : status == NAVMAP_EPOISONED ? POISONED
                                                                      : SAID],
                         1);
    }
    if (op->opens && status != NAVMAP_OK &&
        (w->ix || access(harness_path(w->root, "made"), F_OK) == 0))
        return ward_says(t->ward, "a failed call left an index");
    if (op->run == run_save && !saved_holds(t, status))
        return false;
    /* M2.  Staged changes are not seen yet, so only a success in mode full says which. */
    if (w->ix && !op->opens && !world_holds(w, status == NAVMAP_OK && t->form != MANUAL))
        return false;
    if (!closes && (status != NAVMAP_OK || (t->form == MANUAL && op->writes)) && !repeat(t, status))
        return false;
    if (w->ix && !(op->opens ? made_holds(t) : world_holds(w, true)))
        return false;
    if (w->ix && navmap_close(w->ix) != NAVMAP_OK)
        return ward_says(t->ward, "closing: %s", navmap_error_detail());
    if (!world_tidy(w, FILES) || (on_disk(t->form) && !world_reopens(w, true)))
        return false;
    if (open_files() != files)
        return ward_says(t->ward, "%u descriptors before, %u after", files, open_files());
    return true;
}

static bool sweep(void *ctx, struct ward *ward, uint64_t from)
{
    struct test *t = ctx;
    uint64_t refused = 1;
    for (uint64_t n = from; refused > 0; n += t->step) {
        ward_case(ward, n);
        if (!one(t, n, &refused))
            return false;
        atomic_fetch_add(&ward->passed, 1);
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct test t;
    harness_begin(&t.h, "malloc_faults", argc, argv);
    t.step = t.h.budget ? (uint32_t)t.h.budget : t.h.tier == TIER_TEST ? 7 : 1;
    if (t.h.shrink)
        t.step *= 5;
    t.ward = harness_shared(sizeof *t.ward);
    t.world.ward = t.ward;
    (void)snprintf(t.world.templates, sizeof t.world.templates, "%s/templates", t.h.dir);
    (void)snprintf(t.world.root, sizeof t.world.root, "%s/world", t.h.dir);
    harness_case(&t.h, scarce_works(), 0, "libc's allocations are not seen");
    harness_case(&t.h, world_templates(&t.world), 0, "templates: %s", t.ward->why);
    /* A round is a call on a form of index, in one of two ways of failing; its first n is drawn, so
     * that seeds see different ones. */
    uint64_t round = 1;
    for (uint32_t i = 0; i < OPS; i++)
        for (uint32_t form = 0; form < FORMS; form++)
            for (uint32_t ever = 0; ever < 2; ever++, round++) {
                char name[80];
                if (!SCARCE_THREADS && strstr(ops[i].name, "threads"))
                    continue;
                if (!(ops[i].forms & F(form)) || !harness_wants(&t.h, round) || t.h.failed >= 20)
                    continue;
                t.op = &ops[i];
                t.form = (enum form)form;
                t.ever = ever;
                (void)snprintf(name, sizeof name, "%s, %s", t.op->name, form_names[form]);
                uint64_t first = 1 + harness_round_seed(&t.h, round) % t.step, was = t.h.passed;
                ward_run(&t.h, t.ward, name, round, first, sweep, &t);
                if (t.h.verbose)
                    printf("  %s, %s: %llu cases\n", name, ever ? "and on" : "once",
                           (unsigned long long)(t.h.passed - was));
            }
    printf("%llu calls met a failing allocation: %llu said so, %llu went on, %llu poisoned\n",
           (unsigned long long)atomic_load(&t.ward->count[REFUSED]),
           (unsigned long long)atomic_load(&t.ward->count[SAID]),
           (unsigned long long)atomic_load(&t.ward->count[IN_SPITE]),
           (unsigned long long)atomic_load(&t.ward->count[POISONED]));
    harness_unshare(t.ward, sizeof *t.ward);
    return harness_end(&t.h);
}
