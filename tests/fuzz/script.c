/* script.c -- reads, applies and makes the scripts that script.h describes. */
#include "tests/fuzz/script.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/target.h"

/* Low half of `what`.  Unlisted ones are SET. */
enum operation {
    SET = 0,       /* one word */
    SET_2 = 4,     /* so many words in a row */
    SET_8 = 5,     /*   */
    SET_64 = 6,    /*   */
    SET_REST = 7,  /* and all to the end of the region */
    COPY = 8,      /* element number `value` over this one */
    SWAP = 9,      /* both */
    RESIZE = 10,   /* of the image, to the word that SET would have stored */
    NOISE = 11,    /* as many words as the low byte of `value` says, of random bits */
    RESUM = 12,    /* what belongs to the slot gets a right sum in the end */
    SET_RESUM = 13 /* SET and RESUM */
};

/* High half of `what`: the word that is stored. */
enum reading {
    LITERAL = 0,
    SIGNED = 1, /* extended to 64 bits */
    BOUNDARY = 2,
    BOUNDARY_NEAR = 3, /* a little beside one */
    HIGH_HALF = 4,
    NOT_FINITE = 5,
    MORE = 6, /* than stands there */
    FLIP = 7, /* a bit of what stands there */
    NUMBER = 8,
    NUMBER_NEAR = 9,
    OTHER_WORD = 10, /* of the same region */
    TIMES = 11
};

static const uint64_t boundaries[] = {0,
                                      1,
                                      2,
                                      3,
                                      15,
                                      16,
                                      31,
                                      32,
                                      0xff,
                                      512,
                                      4096,
                                      0xffff,
                                      65536,
                                      0x07ffffff,
                                      0x3fffffff,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      UINT64_C(1) << 32,
                                      UINT64_C(1) << 53,
                                      UINT64_C(1) << 61,
                                      INT64_MAX,
                                      UINT64_C(1) << 63,
                                      UINT64_MAX};
#define N_BOUNDARIES (sizeof boundaries / sizeof *boundaries)

static const uint32_t not_finite[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffffffff,
                                      0x7f7fffff, 0x00000001, 0x80000000, 0x5f000000};

void fuzz_image_init(struct fuzz_image *im, const void *bytes, size_t n)
{
    memset(im, 0, sizeof *im);
    im->capacity = n + FUZZ_GROWTH;
    im->n = n;
    im->bytes = fuzz_must(calloc(1, im->capacity));
    memcpy(im->bytes, bytes, n);
    fuzz_add_number(im, n);
}

void fuzz_image_free(struct fuzz_image *im)
{
    free(im->bytes);
    memset(im, 0, sizeof *im);
}

void fuzz_add_region(struct fuzz_image *im, uint64_t offset, uint64_t stride, uint64_t count,
                     uint32_t words, uint32_t width)
{
    if (im->n_regions == FUZZ_REGIONS || count == 0 || words == 0)
        return;
    fuzz_check(offset + (count - 1) * stride + (uint64_t)words * width <= im->capacity,
               "a region beyond its image");
    im->region[im->n_regions++] = (struct fuzz_region){
        .offset = offset, .stride = stride, .count = count, .words = words, .width = width};
}

void fuzz_add_number(struct fuzz_image *im, uint64_t number)
{
    if (im->n_numbers < FUZZ_NUMBERS)
        im->number[im->n_numbers++] = number;
}

void fuzz_read_script(const uint8_t *bytes, size_t n, struct fuzz_script *ret_script)
{
    uint64_t edits = n < 2 ? 0 : (n - 2) / FUZZ_EDIT_BYTES;
    *ret_script = (struct fuzz_script){.base = n > 0 ? bytes[0] : 0,
                                       .how = n > 1 ? bytes[1] : 0,
                                       .n_edits = edits < FUZZ_EDITS ? (uint32_t)edits : FUZZ_EDITS,
                                       .edits = n < 2 ? bytes : bytes + 2};
}

/* Applying -------------------------------------------------------------------------------------*/

struct edit {
    uint8_t where, what;
    uint16_t index;
    uint32_t value;
};

static uint64_t word_at(const struct fuzz_region *r, uint64_t i)
{
    return r->offset + i / r->words * r->stride + i % r->words * r->width;
}

static uint64_t load(const struct fuzz_image *im, uint64_t at, uint32_t width)
{
    uint64_t value = 0;
    memcpy(&value, im->bytes + at, width);
    return value;
}

static uint64_t read_value(const struct fuzz_image *im, const struct fuzz_region *r,
                           const struct edit *e, uint64_t at)
{
    const uint32_t v = e->value;
    const uint64_t now = load(im, at, r->width), near = (uint64_t)(int64_t)(int8_t)(v >> 8);
    switch (e->what >> 4) {
    case SIGNED:
        return (uint64_t)(int64_t)(int32_t)v;
    case BOUNDARY:
        return boundaries[v % N_BOUNDARIES];
    case BOUNDARY_NEAR:
        return boundaries[(v & 0xff) % N_BOUNDARIES] + near;
    case HIGH_HALF:
        return (uint64_t)v << 32 | (uint32_t)now;
    case NOT_FINITE:
        return not_finite[v % 8];
    case MORE:
        return now + (uint64_t)(int64_t)(int32_t)v;
    case FLIP:
        return now ^ UINT64_C(1) << v % 64;
    case NUMBER:
        return im->number[v % im->n_numbers];
    case NUMBER_NEAR:
        return im->number[(v & 0xff) % im->n_numbers] + near;
    case OTHER_WORD:
        return load(im, word_at(r, v % (r->count * r->words)), r->width);
    case TIMES:
        return now * v;
    default:
        return v;
    }
}

static void resize(struct fuzz_image *im, uint64_t n)
{
    if (n > im->capacity)
        n %= im->capacity;
    im->n = n;
}

static void copy_element(struct fuzz_image *im, const struct fuzz_region *r, uint64_t i, uint64_t j,
                         bool swap)
{
    uint8_t *a = im->bytes + r->offset + i * r->stride, *b = im->bytes + r->offset + j * r->stride;
    for (uint64_t k = 0; k < (uint64_t)r->words * r->width; k++) {
        uint8_t was = a[k];
        a[k] = b[k];
        if (swap)
            b[k] = was;
    }
}

static void store_run(struct fuzz_image *im, const struct fuzz_region *r, const struct edit *e,
                      uint64_t i, uint64_t run)
{
    const uint64_t words = r->count * r->words;
    uint64_t value = read_value(im, r, e, word_at(r, i));
    for (uint64_t k = 0; k < run && i + k < words; k++) {
        if ((e->what & 15) == NOISE)
            value = mix64(e->value + k);
        memcpy(im->bytes + word_at(r, i + k), &value, r->width);
    }
}

static void apply_edit(struct fuzz_image *im, const struct edit *e)
{
    const struct fuzz_region *r = &im->region[e->where % im->n_regions];
    const uint64_t i = e->index % (r->count * r->words);
    switch (e->what & 15) {
    case SET_2:
        store_run(im, r, e, i, 2);
        break;
    case SET_8:
        store_run(im, r, e, i, 8);
        break;
    case SET_64:
        store_run(im, r, e, i, 64);
        break;
    case SET_REST:
        store_run(im, r, e, i, UINT64_MAX);
        break;
    case NOISE:
        store_run(im, r, e, i, e->value & 0xff);
        break;
    case COPY:
    case SWAP:
        copy_element(im, r, i / r->words, e->value % r->count, (e->what & 15) == SWAP);
        break;
    case RESIZE:
        resize(im, read_value(im, r, e, word_at(r, i)));
        break;
    case RESUM:
        break;
    default:
        store_run(im, r, e, i, 1);
    }
}

static struct edit edit_at(const struct fuzz_script *s, uint32_t i)
{
    struct edit e;
    const uint8_t *p = s->edits + (size_t)FUZZ_EDIT_BYTES * i;
    e.where = p[0];
    e.what = p[1];
    memcpy(&e.index, p + 2, sizeof e.index);
    memcpy(&e.value, p + 4, sizeof e.value);
    return e;
}

bool fuzz_apply(const struct fuzz_script *s, const struct fuzz_image *from, struct fuzz_image *to,
                fuzz_resum *resum)
{
    uint8_t *mine = to->bytes;
    bool resummed = false;
    memcpy(to, from, sizeof *to);
    to->bytes = mine;
    memcpy(to->bytes, from->bytes, from->capacity);
    for (uint32_t i = 0; i < s->n_edits; i++) {
        const struct edit e = edit_at(s, i);
        apply_edit(to, &e);
    }
    for (uint32_t i = 0; resum && i < s->n_edits; i++) {
        const struct edit e = edit_at(s, i);
        const struct fuzz_region *r = &to->region[e.where % to->n_regions];
        if (((e.what & 15) != RESUM && (e.what & 15) != SET_RESUM) || !r->payload)
            continue;
        resum(to, r->first + (uint32_t)(e.index % (r->count * r->words) / r->words));
        resummed = true;
    }
    return resummed;
}

/* Making ---------------------------------------------------------------------------------------*/

static void random_edit(struct rng *r, uint8_t *p)
{
    static const uint8_t common[] = {SET, SET, SET, SET_RESUM, SET_8, COPY, SWAP, NOISE};
    uint64_t noise = rng_next(r);
    memcpy(p, &noise, FUZZ_EDIT_BYTES);
    if (!rng_one_in(r, 3)) /* the head is small and matters most */
        p[0] = (uint8_t)rng_below(r, rng_one_in(r, 2) ? 12 : 64);
    if (!rng_one_in(r, 4))
        p[1] = (uint8_t)(common[rng_below(r, sizeof common)] | rng_below(r, 12) << 4);
    if (rng_one_in(r, 2))
        p[3] = 0;
    if (rng_one_in(r, 2))
        memset(p + 5, 0, 3);
}

size_t fuzz_random_script(struct rng *r, uint8_t *ret_bytes)
{
    const uint64_t n = rng_below(r, rng_one_in(r, 4) ? FUZZ_EDITS : 5);
    ret_bytes[0] = (uint8_t)rng_next(r);
    ret_bytes[1] = (uint8_t)rng_next(r);
    for (uint64_t i = 0; i < n; i++)
        random_edit(r, ret_bytes + 2 + i * FUZZ_EDIT_BYTES);
    return 2 + n * FUZZ_EDIT_BYTES;
}

size_t fuzz_mutate_script(struct rng *r, uint8_t *bytes, size_t n, size_t room)
{
    if (room > FUZZ_SCRIPT_BYTES)
        room = FUZZ_SCRIPT_BYTES;
    if (room < 2 + FUZZ_EDIT_BYTES)
        return n;
    if (n < 2) {
        bytes[0] = bytes[1] = 0;
        n = 2;
    }
    uint64_t edits = (n - 2) / FUZZ_EDIT_BYTES;
    const uint64_t most = (room - 2) / FUZZ_EDIT_BYTES;
    uint8_t *e = bytes + 2;
    if (edits > most)
        edits = most;
    const uint64_t i = rng_below(r, edits);
    switch (rng_below(r, 8)) {
    case 0: /* the head */
        bytes[rng_below(r, 2)] = (uint8_t)rng_next(r);
        break;
    case 1: /* one less */
        if (edits > 0) {
            edits--;
            memmove(e + i * FUZZ_EDIT_BYTES, e + (i + 1) * FUZZ_EDIT_BYTES,
                    (edits - i) * FUZZ_EDIT_BYTES);
        }
        break;
    case 2: /* one again, somewhere near */
        if (edits > 0 && edits < most) {
            memcpy(e + edits * FUZZ_EDIT_BYTES, e + i * FUZZ_EDIT_BYTES, FUZZ_EDIT_BYTES);
            e[edits * FUZZ_EDIT_BYTES + 2] ^= (uint8_t)rng_below(r, 16);
            edits++;
        }
        break;
    case 3: /* a byte of one */
    case 4:
        if (edits > 0)
            e[i * FUZZ_EDIT_BYTES + rng_below(r, FUZZ_EDIT_BYTES)] = (uint8_t)rng_next(r);
        break;
    default: /* one more */
        if (edits < most)
            edits++;
        random_edit(r, e + (edits - 1) * FUZZ_EDIT_BYTES);
    }
    return 2 + edits * FUZZ_EDIT_BYTES;
}
