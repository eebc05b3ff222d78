/* test_power_cut_save.c -- the power goes while an index is saved over an older file (T3).
 *
 * The save is recorded, and cut behind each of its effects, with the un-synced rest missing in
 * every style.  Required:
 *   S1  until the save has returned the path holds the old file or the new one, whole; then the
 *       new one, whatever was not synced
 *   S2  what loads is checked in full (sums, vectors bit for bit)
 *   S3  a first save leaves nothing, or the whole file
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/navmap.h"
#include "storage/fail.h"
#include "tests/support/harness.h"
#include "tests/support/images.h"
#include "tests/support/recorder.h"

#define DIM 6u
#define OLD_ITEMS 20u

struct test {
    struct harness h;
    struct images *images;
    char root[300], image[300];
    uint64_t by_style[STYLES], old, new_, none;
};

static void vector_of(uint64_t label, float v[DIM])
{
    for (uint32_t i = 0; i < DIM; i++)
        v[i] = (float)(label * 7 + i * i);
}

static navmap_status fill(navmap_index *ix, uint64_t from, uint64_t to)
{
    for (uint64_t label = from; label < to; label++) {
        float v[DIM];
        vector_of(label, v);
        TRY(navmap_add(ix, 1, v, &label, NULL, NULL));
    }
    return NAVMAP_OK;
}

/* S2.  *ret_n: how many items the file has. */
static navmap_status look(const char *path, uint64_t *ret_n)
{
    const struct navmap_load_options o = {.struct_size = sizeof o, .verify = 1};
    struct navmap_stats s = {.struct_size = sizeof s};
    navmap_index *ix = NULL;
    TRY(navmap_load(path, &o, &ix));
    navmap_status status = navmap_get_stats(ix, &s);
    for (uint64_t label = 0; label < s.n_live && status == NAVMAP_OK; label++) {
        float found[DIM], expected[DIM];
        vector_of(label, expected);
        status = navmap_get(ix, 1, &label, found);
        if (status == NAVMAP_OK && memcmp(found, expected, sizeof found) != 0)
            status = fail(NAVMAP_ECORRUPT, "label %" PRIu64 ": another vector", label);
    }
    *ret_n = s.n_live;
    navmap_status closed = navmap_close(ix);
    return status == NAVMAP_OK ? closed : status;
}

/* The old file (if `over`), then the recorded save of a larger index. */
static navmap_status record(struct test *t, bool over, uint64_t items, struct trace *ret_trace)
{
    const struct navmap_options o = {
        .struct_size = sizeof o, .dim = DIM, .M = 4, .ef_construction = 20};
    navmap_index *ix = NULL;
    const char *path = harness_path(t->root, "saved");
    harness_remove(t->root);
    (void)mkdir(t->root, 0755);
    TRY(navmap_new(&o, &ix));
    navmap_status status = fill(ix, 0, OLD_ITEMS);
    if (status == NAVMAP_OK && over)
        status = navmap_save(ix, path);
    if (status == NAVMAP_OK)
        status = fill(ix, OLD_ITEMS, items);
    struct recorder *r = recorder_start(t->root, NULL, NULL, NULL);
    if (status == NAVMAP_OK)
        status = navmap_save(ix, harness_path(t->root, "saved"));
    recorder_stop(r, ret_trace);
    navmap_status closed = navmap_close(ix);
    return status == NAVMAP_OK ? closed : status;
}

static void check(struct test *t, struct disk *d, const struct trace *trace, size_t at,
                  enum style style, bool over, uint64_t items, uint64_t round, uint64_t seed)
{
    uint64_t n = 0;
    char path[320];
    (void)snprintf(path, sizeof path, "%s/saved", t->image);
    images_write(t->images, d, style, seed);
    t->by_style[style]++;
    navmap_status status = look(path, &n);
    bool there = access(path, F_OK) == 0, done = at == trace->n;
    bool ok = status == NAVMAP_OK && (n == items || (n == OLD_ITEMS && over && !done));
    if (!there && !over && !done)
        ok = true; /* S3 */
    t->none += !there;
    t->old += there && n == OLD_ITEMS;
    t->new_ += there && n == items;
    harness_case(&t->h, ok, round,
                 "cut before effect %zu of %zu, un-synced %s: %s, %" PRIu64 " items (%s)", at,
                 trace->n, style_names[style], navmap_strerror(status), n,
                 status == NAVMAP_OK ? "whole" : navmap_error_detail());
}

int main(int argc, char **argv)
{
    static struct test t;
    char why[600];
    harness_begin(&t.h, "power_cut_save", argc, argv);
    uint64_t rounds = harness_count(&t.h, 4, 40, 4000);
    (void)snprintf(t.root, sizeof t.root, "%s/files", t.h.dir);
    (void)snprintf(t.image, sizeof t.image, "%s/image", t.h.dir);
    t.images = images_new(t.image);
    harness_case(&t.h, interpose_works(t.h.dir), 0, "system calls are not seen");
    for (uint64_t round = 0; round < rounds && t.h.failed < 10; round++) {
        struct rng rng = {harness_round_seed(&t.h, round)};
        struct trace trace = {0};
        bool over = round % 4 != 3;
        uint64_t items = OLD_ITEMS + 1 + rng_below(&rng, 60);
        if (!harness_wants(&t.h, round))
            continue;
        navmap_status status = record(&t, over, items, &trace);
        harness_case(&t.h, status == NAVMAP_OK, round, "the save: %s", navmap_error_detail());
        harness_case(&t.h, images_match(&trace, t.root, why, sizeof why), round, "R1: %s", why);
        struct disk *d = disk_new(&trace);
        for (size_t at = 0; at <= trace.n && t.h.failed < 10; at++) {
            disk_advance(d, at);
            for (int style = 0; style < STYLES; style++)
                check(&t, d, &trace, at, (enum style)style, over, items, round, rng_next(&rng));
        }
        disk_free(d);
        trace_free(&trace);
    }
    printf("%" PRIu64 " images hold the old file, %" PRIu64 " the new one, %" PRIu64 " none\n",
           t.old, t.new_, t.none);
    harness_case(&t.h, (t.old > 0 && t.new_ > 0 && t.none > 0) || t.h.only >= 0 || t.h.shrink, 0,
                 "one of them never came");
    images_free(t.images);
    return harness_end(&t.h);
}
