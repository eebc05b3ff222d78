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
#include "tests/torture/malloc_calls.h"

#define FILES "index sealed crashed bin saved made "

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
    if (t->op->run == call_import)
        return call_check(w) == NAVMAP_OK || ward_says(t->ward, "check after the import");
    if (t->op->run == call_create || t->op->run == call_new || t->op->run == call_new_flat)
        return call_add_rows(w, 1, 7, 1, 1, false) == NAVMAP_OK ||
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
    bool ok = call_load(w, "saved", false, true) == NAVMAP_OK && world_holds(w, true);
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
    const bool closes = op->run == call_close;
    if (!world_begin(w, t->form))
        return false;
    w->after = w->before;
    if (op->run == call_flush && call_add_rows(w, 1, 70, 1, 1, false) == NAVMAP_OK) {
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
    if (op->run == call_save && !saved_holds(t, status))
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
    for (uint32_t i = 0; i < n_ops; i++)
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
