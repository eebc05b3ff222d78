/* use.c -- every call there is, on an index whose bytes somebody chose: any answer will do, but no
 * signal, no endless walk, and no vector that was never stored. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/world.h"

#define K 6u
#define LABELS 512u
#define FRESH UINT64_C(1000000) /* labels that no image has, unless it was put there */

static struct navmap_stats stats_of(navmap_index *ix)
{
    struct navmap_stats s = {.struct_size = sizeof s};
    fuzz_sound(navmap_get_stats(ix, &s));
    return s;
}

static int odd_labels(void *ctx, uint64_t label)
{
    (void)ctx;
    return (int)(label & 1);
}

static void check_rows(uint64_t nq, uint64_t k, const uint64_t *labels, const uint64_t *found)
{
    for (uint64_t q = 0; q < nq; q++) {
        fuzz_check(found[q] <= k, "%llu of %llu found", (unsigned long long)found[q],
                   (unsigned long long)k);
        for (uint64_t i = found[q]; i < k; i++)
            fuzz_check(labels[q * k + i] == UINT64_MAX, "a label behind the last");
    }
}

static void use_search(navmap_index *ix, uint32_t dim)
{
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 24, .allow_fewer = 1};
    const uint64_t allowed[] = {1, 4, 7, 31, FRESH, UINT64_MAX, 0};
    uint64_t labels[2 * K], found[2];
    float distances[2 * K], *q = fuzz_must(malloc(2 * (size_t)dim * sizeof *q));
    memcpy(q, fuzz_vector(3, dim), dim * sizeof *q);
    memcpy(q + dim, fuzz_vector(77, dim), dim * sizeof *q);
    if (fuzz_ok(navmap_search(ix, 2, q, K, &o, labels, distances, found)))
        check_rows(2, K, labels, found);
    if (fuzz_ok(navmap_search_exact(ix, 1, q, K, &o, labels, distances, found)))
        check_rows(1, K, labels, found);
    o.filter = odd_labels;
    if (fuzz_ok(navmap_search(ix, 1, q, K, &o, labels, distances, found)))
        check_rows(1, K, labels, found);
    o.allowed = allowed;
    o.n_allowed = sizeof allowed / sizeof *allowed;
    if (fuzz_ok(navmap_search(ix, 1, q, K, &o, labels, distances, found)))
        check_rows(1, K, labels, found);
    o = (struct navmap_search_options){.struct_size = sizeof o, .ef = 500};
    (void)fuzz_ok(navmap_search(ix, 1, q, K, &o, labels, distances, found));
    free(q);
}

/* A vector of another width is compared as far as both go; a hostile header may say so. */
static bool was_stored(const struct fuzz_truth *t, uint64_t label, const float *v, uint32_t dim)
{
    const uint32_t n = dim < t->dim ? dim : t->dim;
    for (uint32_t i = 0; i < t->n; i++)
        if (t->labels[i] == label && memcmp(t->vectors + (size_t)i * t->dim, v, n * sizeof *v) == 0)
            return true;
    return false;
}

static void use_get(navmap_index *ix, uint32_t dim, const struct fuzz_truth *truth)
{
    uint64_t labels[LABELS], n = 0;
    float *v = fuzz_must(malloc((size_t)dim * sizeof *v));
    bool is;
    if (!fuzz_ok(navmap_labels(ix, true, LABELS, labels, &n)))
        n = 0;
    for (uint64_t i = 0; i < n && i < LABELS; i++)
        if (fuzz_ok(navmap_get(ix, 1, &labels[i], v)) && truth)
            fuzz_check(was_stored(truth, labels[i], v, dim), "label %llu: a wrong vector",
                       (unsigned long long)labels[i]);
    for (uint64_t label = 1; label < 50; label += 3) {
        (void)fuzz_ok(navmap_contains(ix, label, &is));
        if (fuzz_ok(navmap_get(ix, 1, &label, v)) && truth)
            fuzz_check(was_stored(truth, label, v, dim), "label %llu: a wrong vector",
                       (unsigned long long)label);
    }
    (void)fuzz_ok(navmap_labels(ix, false, 3, labels, &n));
    free(v);
}

/* Whoever reports has to have something to say. */
static void on_finding(void *ctx, const struct navmap_finding *f)
{
    (void)ctx;
    fuzz_check(f->section[0] != '\0' && f->message[0] != '\0', "a finding without a sentence");
}

void fuzz_look(const char *path)
{
    struct navmap_verify_result r = {0};
    struct navmap_stats s = {.struct_size = sizeof s};
    (void)fuzz_ok(navmap_inspect(path, &s));
    (void)fuzz_ok(navmap_verify(path, true, NULL, NULL, &r));
    (void)fuzz_ok(navmap_verify(path, false, on_finding, NULL, &r));
}

static void use_check(navmap_index *ix)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    (void)fuzz_ok(navmap_check(ix, on_finding, NULL, &r));
}

/* What was stored a moment ago is there, whatever is wrong elsewhere; unless it is not
 * committed yet, or was normalised, or rounded. */
static void add_one(navmap_index *ix, uint64_t label, const struct navmap_stats *s,
                    const struct navmap_add_options *o)
{
    const float *v = fuzz_vector(label + 11, s->dim);
    uint64_t added = 0;
    if (!fuzz_ok(navmap_add(ix, 1, v, &label, o, &added)))
        return;
    float *back = fuzz_must(malloc(s->dim * sizeof *back));
    fuzz_check(added == 1, "a row was added and %llu counted", (unsigned long long)added);
    if (s->durability == NAVMAP_FULL && s->space != NAVMAP_COSINE &&
        s->vectors == NAVMAP_VECTORS_F32 && fuzz_ok(navmap_get(ix, 1, &label, back)))
        fuzz_check(memcmp(v, back, s->dim * sizeof *v) == 0, "label %llu: not what was just added",
                   (unsigned long long)label);
    free(back);
}

static void use_change(navmap_index *ix, const struct navmap_stats *s)
{
    const struct navmap_add_options replace = {.struct_size = sizeof replace, .replace_deleted = 1};
    const uint64_t most = s->n_live + s->n_deleted;
    (void)fuzz_ok(navmap_resize(ix, most < UINT64_MAX - 100 ? most + 100 : most));
    for (uint64_t label = 1; label < 25; label += 6) {
        (void)fuzz_ok(navmap_delete(ix, label));
        (void)fuzz_ok(navmap_undelete(ix, label + 3));
        add_one(ix, label + 9, s, NULL);
        add_one(ix, label, s, NULL);
    }
    for (uint64_t i = 0; i < 20; i++)
        add_one(ix, FRESH + i, s, i % 4 == 3 ? &replace : NULL);
    if (s->dim <= 64) {
        float many[3 * 64];
        for (uint32_t i = 0; i < 3; i++)
            memcpy(many + (size_t)i * s->dim, fuzz_vector(500 + i, s->dim), s->dim * sizeof *many);
        (void)fuzz_ok(navmap_add(ix, 3, many, NULL, NULL, NULL));
    }
    for (uint64_t i = 0; i < 20; i += 3)
        (void)fuzz_ok(navmap_delete(ix, FRESH + i));
    (void)fuzz_ok(navmap_remove(ix, 4));
    (void)fuzz_ok(navmap_remove(ix, FRESH + 1));
    (void)fuzz_ok(navmap_flush(ix));
}

/* What can be saved can be loaded again; links that were wrong may be wrong in it, too. */
static void use_save(navmap_index *ix)
{
    uint64_t bytes = 0;
    navmap_index *again = NULL;
    if (!fuzz_ok(navmap_file_bytes(ix, &bytes)) || bytes > (16u << 20))
        return;
    int fd = memfd_create("saved", MFD_CLOEXEC);
    fuzz_check(fd >= 0, "no memfd");
    if (fuzz_ok(navmap_save_fd(ix, fd))) {
        const struct navmap_load_options o = {.struct_size = sizeof o, .flat = stats_of(ix).flat};
        fuzz_check(navmap_load_fd(fd, "saved", &o, &again) == NAVMAP_OK,
                   "saved, and does not load");
        fuzz_sound(navmap_close(again));
    }
    (void)close(fd);
}

void fuzz_use(navmap_index *ix, const struct fuzz_truth *truth, bool change)
{
    const struct navmap_stats s = stats_of(ix);
    use_search(ix, s.dim);
    /* A hostile header may also say that numbers are of another kind; then they are others. */
    use_get(ix, s.dim, truth && truth->kind == s.vectors ? truth : NULL);
    use_check(ix);
    use_save(ix);
    if (!change)
        return;
    use_change(ix, &s);
    use_search(ix, s.dim);
    use_check(ix);
    use_save(ix);
}
