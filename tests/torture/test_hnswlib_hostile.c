/* test_hnswlib_hostile.c -- hnswlib's files damaged and made on purpose, given to the importer.
 *
 * Each image is a sound one with something done to it.  Required:
 *   X1  it is refused (NAVMAP_ECORRUPT, NAVMAP_EVERSION, NAVMAP_EINVAL, NAVMAP_ENOMEM) with a
 *       sentence, or becomes an index that is sound (navmap_check), answers a search, and takes
 *       new items; what was done decides which, where it decides anything
 *   X2  no signal, no hang, and nothing that a sanitizer finds: images are tried in a child
 *   X3  memory in proportion to the file: a header alone must not be worth gigabytes
 */
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/hnswlib_file.h"
#include "tests/support/harness.h"
#include "tests/support/hnswlib_image.h"

#define BATCH 100u /* images for one child */
#define BATCH_SECONDS 60u
#define RESIDENT_MOST (UINT64_C(96) << 20) /* beyond what the child had; huge pages come by twos */

enum verdict { ANY, REFUSED, LOADED };

/* Shared with the child. */
struct shared {
    _Atomic uint64_t round; /* in hand */
    _Atomic uint64_t refused, loaded;
    _Atomic bool bad; /* what is wrong is in: */
    char text[600];
};

static struct shared *shared;

static uint64_t any_of(struct rng *r, const uint64_t *values, size_t n)
{
    return values[rng_below(r, n)];
}

/* A number next to where something ends or overflows; `now` is what stands there. */
static uint64_t boundary(struct rng *r, const struct hnswlib_image *im, uint64_t now)
{
    const uint64_t at[] = {0,
                           1,
                           2,
                           8,
                           255,
                           512,
                           0xffff,
                           0x10000,
                           0x7fffffff,
                           0x80000000,
                           0xffffffff,
                           UINT64_C(1) << 32,
                           UINT64_C(1) << 61,
                           UINT64_C(1) << 62,
                           INT64_MAX,
                           UINT64_C(1) << 63,
                           UINT64_MAX - 96,
                           UINT64_MAX,
                           im->n,
                           im->plan.count,
                           im->plan.capacity,
                           im->element_bytes,
                           UINT64_MAX / (im->element_bytes + 4),
                           now,
                           now * 2,
                           now * 256};
    return any_of(r, at, sizeof at / sizeof *at) + rng_below(r, 5) - 2;
}

static uint32_t any_element(struct rng *r, const struct hnswlib_image *im)
{
    return (uint32_t)rng_below(r, im->plan.count);
}

/* Where some list begins, and how many ids it has room for. */
static uint64_t any_list(struct rng *r, const struct hnswlib_image *im, uint32_t *ret_room)
{
    uint32_t id = any_element(r, im);
    uint32_t level = (uint32_t)rng_below(r, im->levels[id] + 1);
    *ret_room = level ? im->plan.M : 2 * im->plan.M;
    return hnswlib_image_list(im, id, level);
}

static void put_float(struct hnswlib_image *im, uint64_t at, float x)
{
    memcpy(im->bytes + at, &x, sizeof x);
}

/* What can be done.  Each says what has to come of it. -----------------------------------------*/

static enum verdict nothing(struct rng *r, struct hnswlib_image *im)
{
    (void)r;
    (void)im;
    return LOADED;
}

static enum verdict flip_bits(struct rng *r, struct hnswlib_image *im)
{
    for (uint64_t n = 1 + rng_below(r, 8); n > 0; n--)
        im->bytes[rng_below(r, im->n)] ^= (uint8_t)(1u << rng_below(r, 8));
    return ANY;
}

static enum verdict fill_noise(struct rng *r, struct hnswlib_image *im)
{
    uint64_t at = rng_below(r, im->n), n = 1 + rng_below(r, 64);
    for (uint64_t i = at; i < im->n && i < at + n; i++)
        im->bytes[i] = (uint8_t)rng_next(r);
    return ANY;
}

static enum verdict head_field(struct rng *r, struct hnswlib_image *im)
{
    uint32_t n_fields = im->levels ? 13 : 3, field = (uint32_t)rng_below(r, n_fields);
    uint32_t at = 8 * field, width = 8;
    if (im->levels && field >= 6) { /* two of four bytes at 48 */
        at = field == 12   ? 88
             : field == 11 ? 72
             : field >= 8  ? 56 + 8 * (field - 8)
                           : 48 + 4 * (field - 6);
        width = field < 8 ? 4 : 8;
    }
    uint64_t now = hnswlib_image_get(im, at, width);
    hnswlib_image_put(im, at, boundary(r, im, now), width);
    return ANY;
}

/* All fields agree with each other, and none with the rest of the file. */
static enum verdict head_made_up(struct rng *r, struct hnswlib_image *im)
{
    static const uint64_t Ms[] = {1, 2, 16, 512, 513, 10000, UINT64_C(1) << 29, UINT64_C(1) << 61};
    static const uint64_t dims[] = {0, 1, 65536, 65537, UINT64_C(1) << 30, UINT64_C(1) << 62};
    uint64_t M = any_of(r, Ms, 8), dim = any_of(r, dims, 6),
             count = boundary(r, im, im->plan.count);
    double mult = 1 / log((double)M);
    if (!im->levels)
        return head_field(r, im);
    if (rng_one_in(r, 3)) { /* nothing but a header */
        count = 0;
        im->n = HNSWLIB_HEAD_BYTES;
        hnswlib_image_put(im, 48, UINT64_MAX, 8);
    }
    hnswlib_image_put(im, 8, rng_one_in(r, 2) ? count : boundary(r, im, count), 8);
    hnswlib_image_put(im, 16, count, 8);
    hnswlib_image_put(im, 24, 4 + 8 * M + 4 * dim + 8, 8);
    hnswlib_image_put(im, 32, 4 + 8 * M + 4 * dim, 8);
    hnswlib_image_put(im, 40, 4 + 8 * M, 8);
    hnswlib_image_put(im, 56, M, 8);
    hnswlib_image_put(im, 64, 2 * M, 8);
    hnswlib_image_put(im, 72, M, 8);
    memcpy(im->bytes + 80, &mult, sizeof mult);
    return ANY;
}

static enum verdict cut(struct rng *r, struct hnswlib_image *im)
{
    im->n = rng_one_in(r, 2) ? rng_below(r, im->n) : im->n - 1 - rng_below(r, 4);
    return REFUSED;
}

static enum verdict lengthen(struct rng *r, struct hnswlib_image *im)
{
    im->n += 1 + rng_below(r, 8);
    return REFUSED;
}

static enum verdict link_count(struct rng *r, struct hnswlib_image *im)
{
    uint32_t room;
    uint64_t at = any_list(r, im, &room);
    hnswlib_image_put(im, at, room + 1 + rng_below(r, 0xffff - room), 2);
    return REFUSED;
}

static enum verdict link_flags(struct rng *r, struct hnswlib_image *im)
{
    uint32_t room;
    uint64_t at = any_list(r, im, &room);
    hnswlib_image_put(im, at + 2, 2 + rng_below(r, 0xfffe), 2);
    return REFUSED;
}

static enum verdict link_id(struct rng *r, struct hnswlib_image *im)
{
    uint32_t room;
    uint64_t at = any_list(r, im, &room), n = hnswlib_image_get(im, at, 2);
    uint64_t id = rng_one_in(r, 2) ? any_element(r, im) : im->plan.count + rng_below(r, 1u << 31);
    if (rng_one_in(r, 4))
        id = boundary(r, im, id);
    if (n == 0)
        return LOADED;
    hnswlib_image_put(im, at + 4 + 4 * rng_below(r, n), id, 4);
    return (uint32_t)id >= im->plan.count ? REFUSED : ANY;
}

/* What stands behind the last link means nothing. */
static enum verdict link_rest(struct rng *r, struct hnswlib_image *im)
{
    uint32_t room;
    uint64_t at = any_list(r, im, &room), n = hnswlib_image_get(im, at, 2);
    for (uint64_t i = n; i < room; i++)
        hnswlib_image_put(im, at + 4 + 4 * i, rng_next(r), 4);
    return LOADED;
}

static enum verdict link_twice(struct rng *r, struct hnswlib_image *im)
{
    uint32_t room;
    uint64_t at = any_list(r, im, &room), n = hnswlib_image_get(im, at, 2);
    if (n < 2)
        return LOADED;
    uint64_t i = rng_below(r, n), j = (i + 1 + rng_below(r, n - 1)) % n;
    memcpy(im->bytes + at + 4 + 4 * i, im->bytes + at + 4 + 4 * j, 4);
    return REFUSED;
}

static enum verdict upper_bytes(struct rng *r, struct hnswlib_image *im)
{
    uint64_t at = im->uppers_at[any_element(r, im)], now = hnswlib_image_get(im, at, 4), to;
    static const uint64_t times[] = {0, 1, 2, 3, 31, 32, 255, 256, 257, 1000000};
    to = rng_one_in(r, 2) ? boundary(r, im, now) : im->list_bytes * any_of(r, times, 10);
    hnswlib_image_put(im, at, to, 4);
    return (uint32_t)to == now ? LOADED : REFUSED;
}

static enum verdict entry(struct rng *r, struct hnswlib_image *im)
{
    uint32_t id = any_element(r, im);
    hnswlib_image_put(im, 52, id, 4);
    return im->levels[id] == im->levels[im->entry] ? LOADED : REFUSED;
}

static enum verdict labels(struct rng *r, struct hnswlib_image *im)
{
    for (uint64_t n = 1 + rng_below(r, im->plan.count); n > 0; n--)
        hnswlib_image_put(im, hnswlib_image_label(im, any_element(r, im)),
                          rng_one_in(r, 2) ? rng_below(r, 9) : boundary(r, im, 0), 8);
    return LOADED;
}

static enum verdict unfinite(struct rng *r, struct hnswlib_image *im)
{
    static const float values[] = {NAN, INFINITY, -INFINITY};
    uint64_t at = hnswlib_image_vector(im, any_element(r, im)) + 4 * rng_below(r, im->plan.dim);
    put_float(im, at, values[rng_below(r, 3)]);
    return REFUSED;
}

static enum verdict extreme(struct rng *r, struct hnswlib_image *im)
{
    static const float values[] = {3.4e38f, -3.4e38f, 1e-45f, -0.0f, 1e19f};
    for (uint32_t n = 0; n < 5; n++)
        put_float(im, hnswlib_image_vector(im, any_element(r, im)) + 4 * rng_below(r, im->plan.dim),
                  values[rng_below(r, 5)]);
    return LOADED;
}

static enum verdict marks(struct rng *r, struct hnswlib_image *im)
{
    bool all = rng_one_in(r, 2);
    for (uint32_t id = 0; id < im->plan.count; id++)
        im->bytes[hnswlib_image_element(im, id) + 2] = all || rng_one_in(r, 2);
    return LOADED;
}

static enum verdict swap_pieces(struct rng *r, struct hnswlib_image *im)
{
    uint64_t n = 1 + rng_below(r, im->n / 4), a = rng_below(r, im->n - n),
             b = rng_below(r, im->n - n);
    memmove(im->bytes + a, im->bytes + b, n);
    return ANY;
}

typedef enum verdict damage(struct rng *r, struct hnswlib_image *im);
static const struct {
    const char *name;
    damage *what;
    bool flat; /* to files without a graph as well */
} damages[] = {
    {"nothing", nothing, true},
    {"flip_bits", flip_bits, true},
    {"fill_noise", fill_noise, true},
    {"head_field", head_field, true},
    {"head_made_up", head_made_up, true},
    {"cut", cut, true},
    {"lengthen", lengthen, true},
    {"link_count", link_count, false},
    {"link_flags", link_flags, false},
    {"link_id", link_id, false},
    {"link_rest", link_rest, false},
    {"link_twice", link_twice, false},
    {"upper_bytes", upper_bytes, false},
    {"entry", entry, false},
    {"labels", labels, true},
    {"unfinite", unfinite, true},
    {"extreme", extreme, true},
    {"marks", marks, false},
    {"swap_pieces", swap_pieces, true},
};
#define DAMAGES (sizeof damages / sizeof *damages)

/* Trying one ------------------------------------------------------------------------------------*/

static void say(const char *what)
{
    if (!atomic_load(&shared->bad))
        (void)snprintf(shared->text, sizeof shared->text, "%s; last sentence: %s", what,
                       navmap_error_detail());
    atomic_store(&shared->bad, true);
}

static uint64_t resident(void)
{
    unsigned long long all = 0, in = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f || fscanf(f, "%llu %llu", &all, &in) != 2)
        in = 0;
    if (f)
        (void)fclose(f);
    return in * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* X1: what was loaded is an index like any other. */
static void use(navmap_index *ix, bool graph, struct rng *r)
{
    struct navmap_stats s = {.struct_size = sizeof s};
    struct navmap_check_result c = {.struct_size = sizeof c};
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 20, .allow_fewer = 1};
    uint64_t labels[8], found = 0, label = rng_next(r);
    float d[8];
    if (navmap_get_stats(ix, &s) != NAVMAP_OK || navmap_check(ix, NULL, NULL, &c) != NAVMAP_OK)
        say("stats or check failed");
    /* Live items without an entry are sound where no entry is wanted. */
    if (c.damaged != 0 && (graph || s.flat))
        say("loaded, but the index is damaged");
    float *v = calloc(s.dim, sizeof *v);
    for (uint32_t i = 0; v && i < s.dim; i++)
        v[i] = (float)rng_below(r, 100) * 0.01f;
    if (!v || navmap_search(ix, 1, v, 8, &o, labels, d, &found) != NAVMAP_OK)
        say("loaded, but a search fails");
    if (found != (s.n_live < 8 ? s.n_live : 8))
        say("loaded, but a search finds too few");
    if (navmap_resize(ix, s.n_live + s.n_deleted + 1) != NAVMAP_OK ||
        navmap_add(ix, 1, v, &label, NULL, NULL) != NAVMAP_OK ||
        navmap_delete(ix, label) != NAVMAP_OK ||
        navmap_search_exact(ix, 1, v, 8, &o, labels, d, &found) != NAVMAP_OK)
        say("loaded, but does not take an item");
    free(v);
}

static void try_image(struct rng *r, const struct hnswlib_image *im, enum verdict verdict,
                      uint64_t before)
{
    struct navmap_load_options o = {.struct_size = sizeof o,
                                    .has_space = 1,
                                    .space = (uint32_t)rng_below(r, 3),
                                    .max_elements = rng_one_in(r, 2) ? 0 : rng_below(r, 200),
                                    .flat = im->levels == NULL};
    navmap_index *ix = NULL;
    int fd = hnswlib_image_fd(im, im->n);
    (void)hnswlib_looks_like(im->bytes, im->n < 96 ? im->n : 96, im->n);
    navmap_status status = hnswlib_load(fd, "image", &o, &ix);
    close(fd);
    if (resident() > before + RESIDENT_MOST + 8 * im->n)
        say("more memory than the file is worth"); /* X3 */
    if (status == NAVMAP_OK) {
        atomic_fetch_add(&shared->loaded, 1);
        if (verdict == REFUSED)
            say("loaded, and should have been refused");
        use(ix, im->levels != NULL, r);
        if (navmap_close(ix) != NAVMAP_OK)
            say("not closed");
        return;
    }
    atomic_fetch_add(&shared->refused, 1);
    if (verdict == LOADED)
        say("refused, and should have been loaded");
    if (status != NAVMAP_ECORRUPT && status != NAVMAP_EVERSION && status != NAVMAP_EINVAL &&
        status != NAVMAP_ENOMEM)
        say("refused with another status");
    if (status == NAVMAP_ECORRUPT &&
        strncmp(navmap_error_detail(), "Index seems to be corrupted or unsupported: image: ", 50) !=
            0)
        say("refused in other words");
}

/* The image of a round and what was done to it, which the parent can say too. */
static enum verdict make(const struct harness *h, uint64_t round, struct rng *r,
                         struct hnswlib_image *ret_image, const char **ret_name)
{
    r->state = harness_round_seed(h, round);
    struct hnswlib_plan plan = {.seed = rng_next(r),
                                .count = 2 + (uint32_t)rng_below(r, 60),
                                .dim = 1 + (uint32_t)rng_below(r, 20),
                                .M = 2 + (uint32_t)rng_below(r, 8),
                                .top = (uint32_t)rng_below(r, 5),
                                .every = rng_one_in(r, 4) ? (uint32_t)rng_below(r, 3) : 0,
                                .deleted = (uint32_t)rng_below(r, 4),
                                .twins = rng_one_in(r, 4) ? 3 : 0};
    bool flat = rng_one_in(r, 6);
    plan.capacity = plan.count + rng_below(r, 50);
    if (flat)
        hnswlib_image_make_flat(&plan, ret_image);
    else
        hnswlib_image_make(&plan, ret_image);
    ret_image->bytes = realloc(ret_image->bytes, ret_image->n + 16); /* for lengthen() */
    if (!ret_image->bytes)
        exit(2);
    memset(ret_image->bytes + ret_image->n, 0, 16);
    size_t i;
    do
        i = rng_below(r, DAMAGES);
    while (flat && !damages[i].flat);
    *ret_name = damages[i].name;
    enum verdict verdict = damages[i].what(r, ret_image);
    if (rng_one_in(r, 5)) { /* and something else, which may undo it */
        (void)flip_bits(r, ret_image);
        verdict = ANY;
    }
    return verdict;
}

static void try_batch(const struct harness *h, uint64_t from, uint64_t to)
{
    uint64_t before = resident();
    (void)alarm(BATCH_SECONDS); /* X2: a hang is a signal */
    for (uint64_t round = from; round < to && !atomic_load(&shared->bad); round++) {
        struct rng r;
        struct hnswlib_image im;
        const char *name;
        if (!harness_wants(h, round))
            continue;
        atomic_store(&shared->round, round);
        enum verdict verdict = make(h, round, &r, &im, &name);
        try_image(&r, &im, verdict, before);
        hnswlib_image_free(&im);
    }
}

/* Tries from `from` on; how many were tried until the batch or the child's life ended. */
static uint64_t run_batch(struct harness *h, uint64_t from, uint64_t to)
{
    atomic_store(&shared->bad, false);
    atomic_store(&shared->round, from);
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        exit(2);
    if (pid == 0) {
        try_batch(h, from, to);
        _exit(0);
    }
    int end = harness_wait(pid);
    uint64_t round = atomic_load(&shared->round);
    bool bad = end != 0 || atomic_load(&shared->bad);
    for (uint64_t i = from; i < (bad ? round : to); i++)
        if (harness_wants(h, i))
            harness_case(h, true, i, "%s", "");
    if (!bad)
        return to - from;
    struct rng r;
    struct hnswlib_image im;
    const char *name;
    (void)make(h, round, &r, &im, &name);
    if (end != 0)
        harness_case(h, false, round, "%s: the child died: %s %d", name,
                     end > 0 ? "signal" : "exit code", end > 0 ? end : -end);
    else
        harness_case(h, false, round, "%s: %s", name, shared->text);
    hnswlib_image_free(&im);
    return round + 1 - from;
}

int main(int argc, char **argv)
{
    struct harness h;
    harness_begin(&h, "hnswlib_hostile", argc, argv);
    shared = harness_shared(sizeof *shared);
    uint64_t n = harness_count(&h, 1500, 10000, 300000);
    for (uint64_t i = 0; i < n;)
        i += run_batch(&h, i, i + BATCH < n ? i + BATCH : n);
    uint64_t refused = atomic_load(&shared->refused), loaded = atomic_load(&shared->loaded);
    printf("%" PRIu64 " refused, %" PRIu64 " loaded\n", refused, loaded);
    if (h.only < 0)
        harness_case(&h, refused > n / 3 && loaded > n / 6, n, "too few of one kind");
    harness_unshare(shared, sizeof *shared);
    return harness_end(&h);
}
