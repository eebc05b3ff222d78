/* hnswlib_image.c -- the writer of hnswlib's files; see hnswlib_image.h. */
#include "tests/support/hnswlib_image.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAD 96u
#define FLAT_HEAD 24u

static uint64_t next(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static void *must(void *p)
{
    if (!p) {
        perror("hnswlib_image");
        exit(2);
    }
    return p;
}

void hnswlib_image_put(struct hnswlib_image *im, uint64_t at, uint64_t value, uint32_t width)
{
    for (uint32_t i = 0; i < width; i++)
        im->bytes[at + i] = (uint8_t)(value >> 8 * i);
}

uint64_t hnswlib_image_get(const struct hnswlib_image *im, uint64_t at, uint32_t width)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < width; i++)
        value |= (uint64_t)im->bytes[at + i] << 8 * i;
    return value;
}

uint64_t hnswlib_image_element(const struct hnswlib_image *im, uint32_t id)
{
    return (im->levels ? HEAD : FLAT_HEAD) + id * im->element_bytes;
}

uint64_t hnswlib_image_list(const struct hnswlib_image *im, uint32_t id, uint32_t level)
{
    return level == 0 ? hnswlib_image_element(im, id)
                      : im->uppers_at[id] + 4 + (level - 1) * im->list_bytes;
}

uint64_t hnswlib_image_vector(const struct hnswlib_image *im, uint32_t id)
{
    return hnswlib_image_element(im, id) + (im->levels ? 4 + 8ull * im->plan.M : 0);
}

uint64_t hnswlib_image_label(const struct hnswlib_image *im, uint32_t id)
{
    return hnswlib_image_element(im, id) + im->element_bytes - 8;
}

static void put_head(struct hnswlib_image *im)
{
    const struct hnswlib_plan *p = &im->plan;
    const uint64_t words[] = {0,
                              p->capacity,
                              p->count,
                              im->element_bytes,
                              im->element_bytes - 8,
                              4 + 8ull * p->M,
                              UINT64_MAX, /* level -1, element UINT32_MAX */
                              p->M,
                              2ull * p->M,
                              p->M,
                              0,
                              p->M > 40 ? p->M : 40};
    for (uint32_t i = 0; i < 12; i++)
        hnswlib_image_put(im, 8ull * i, words[i], 8);
    double mult = 1 / log((double)p->M);
    memcpy(im->bytes + 80, &mult, sizeof mult);
    if (p->count == 0)
        return;
    hnswlib_image_put(im, 48, im->levels[im->entry], 4);
    hnswlib_image_put(im, 52, im->entry, 4);
}

/* One list: the next element of the level, and others until there are enough. */
static void put_list(struct hnswlib_image *im, uint32_t id, uint32_t level, uint64_t *state)
{
    uint32_t room = level == 0 ? 2 * im->plan.M : im->plan.M, count = im->plan.count, n = 0;
    uint32_t to = (id + 1) % count, tries = (uint32_t)(next(state) % (2ull * room));
    uint64_t at = hnswlib_image_list(im, id, level);
    while (im->levels[to] < level)
        to = (to + 1) % count;
    while (n < room) {
        bool fits = to != id && im->levels[to] >= level;
        for (uint32_t i = 0; i < n && fits; i++)
            fits = hnswlib_image_get(im, at + 4 + 4ull * i, 4) != to;
        if (fits)
            hnswlib_image_put(im, at + 4 + 4ull * n++, to, 4);
        if (tries-- == 0)
            break;
        to = (uint32_t)(next(state) % count);
    }
    hnswlib_image_put(im, at, n, 2);
}

static void put_vector(struct hnswlib_image *im, uint32_t id, uint64_t *state)
{
    for (uint32_t i = 0; i < im->plan.dim; i++) {
        float x = (float)((int64_t)(next(state) >> 40) - (1 << 23)) * 0x1p-22f;
        memcpy(im->bytes + hnswlib_image_vector(im, id) + 4ull * i, &x, sizeof x);
    }
    hnswlib_image_put(im, hnswlib_image_label(im, id), 3ull * id + 7, 8);
}

static void draw_levels(struct hnswlib_image *im, uint64_t *state)
{
    const struct hnswlib_plan *p = &im->plan;
    uint64_t at = HEAD + p->count * im->element_bytes;
    im->levels = must(calloc(p->count + 1, sizeof *im->levels));
    im->uppers_at = must(calloc(p->count + 1, sizeof *im->uppers_at));
    for (uint32_t id = 0; id < p->count; id++) {
        uint32_t level = p->every;
        while (level < p->top && next(state) % p->M == 0) /* as hnswlib draws them */
            level++;
        im->levels[id] = level;
        im->uppers_at[id] = at;
        at += 4 + level * im->list_bytes;
        if (level > im->levels[im->entry])
            im->entry = id;
    }
    im->n = at;
}

void hnswlib_image_make(const struct hnswlib_plan *plan, struct hnswlib_image *ret_image)
{
    uint64_t state = plan->seed;
    struct hnswlib_image im = {.plan = *plan,
                               .element_bytes = 4 + 8ull * plan->M + 4ull * plan->dim + 8,
                               .list_bytes = 4 + 4ull * plan->M};
    draw_levels(&im, &state);
    im.bytes = must(calloc(1, im.n));
    put_head(&im);
    for (uint32_t id = 0; id < plan->count; id++) {
        put_vector(&im, id, &state);
        hnswlib_image_put(&im, im.uppers_at[id], im.levels[id] * im.list_bytes, 4);
        for (uint32_t level = 0; level <= im.levels[id]; level++)
            put_list(&im, id, level, &state);
        if (plan->deleted != 0 && next(&state) % plan->deleted == 0)
            im.bytes[hnswlib_image_element(&im, id) + 2] = 1;
        if (plan->twins != 0 && id > 0 && next(&state) % plan->twins == 0)
            memcpy(im.bytes + hnswlib_image_label(&im, id),
                   im.bytes + hnswlib_image_label(&im, id - 1), 8);
    }
    *ret_image = im;
}

void hnswlib_image_make_flat(const struct hnswlib_plan *plan, struct hnswlib_image *ret_image)
{
    uint64_t state = plan->seed;
    struct hnswlib_image im = {.plan = *plan, .element_bytes = 4ull * plan->dim + 8};
    im.n = FLAT_HEAD + plan->capacity * im.element_bytes;
    im.bytes = must(malloc(im.n));
    memset(im.bytes, 0xff, im.n); /* rows not in use are whatever was in memory: NaN, for one */
    hnswlib_image_put(&im, 0, plan->capacity, 8);
    hnswlib_image_put(&im, 8, im.element_bytes, 8);
    hnswlib_image_put(&im, 16, plan->count, 8);
    for (uint32_t id = 0; id < plan->count; id++)
        put_vector(&im, id, &state);
    *ret_image = im;
}

void hnswlib_image_free(struct hnswlib_image *im)
{
    free(im->bytes);
    free(im->levels);
    free(im->uppers_at);
    memset(im, 0, sizeof *im);
}

int hnswlib_image_fd(const struct hnswlib_image *im, uint64_t n)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    if (fd < 0 || (n > 0 && write(fd, im->bytes, n) != (ssize_t)n))
        must(NULL);
    return fd;
}
