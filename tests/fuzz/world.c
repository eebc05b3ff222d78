/* world.c -- indexes and images for fuzz targets; see world.h. */
#include "tests/fuzz/world.h"

#include <stdlib.h>
#include <string.h>

#include "storage/checksum.h"

#define CHUNKS_DESCRIBED 12u

const float *fuzz_vector(uint64_t number, uint32_t dim)
{
    static float v[LAYOUT_DIM_MAX];
    for (uint32_t i = 0; i < dim; i++)
        v[i] = (float)(mix64(number * 1000003 + i) >> 40) / (float)(1 << 23) - 1.0f;
    return v;
}

void fuzz_note(navmap_index *ix, uint64_t label, struct fuzz_truth *t)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->labels = fuzz_must(realloc(t->labels, t->cap * sizeof *t->labels));
        t->vectors = fuzz_must(realloc(t->vectors, (size_t)t->cap * t->dim * sizeof *t->vectors));
    }
    t->labels[t->n] = label;
    fuzz_sound(navmap_get(ix, 1, &label, t->vectors + (size_t)t->n * t->dim));
    t->n++;
}

void fuzz_fill(navmap_index *ix, const struct fuzz_plan *p, struct fuzz_truth *t)
{
    const uint32_t dim = p->options.dim;
    t->dim = dim;
    t->kind = p->options.vectors;
    for (uint32_t i = 0; i < p->items + p->updates; i++) {
        const uint64_t label = 3 * (uint64_t)(i < p->items ? i : (i * 7) % p->items) + 1;
        fuzz_sound(navmap_add(ix, 1, fuzz_vector(i, dim), &label, NULL, NULL));
        fuzz_note(ix, label, t);
    }
    for (uint32_t i = 0; p->deleted != 0 && i < p->items; i += p->deleted)
        fuzz_sound(navmap_delete(ix, 3 * (uint64_t)i + 1));
}

/* Images ---------------------------------------------------------------------------------------*/

static void describe_chunk(struct fuzz_image *im, const struct layout *l, uint32_t chunk)
{
    struct layout_array a[LAYOUT_ARRAYS];
    const uint64_t at = layout_chunk_off(l, chunk);
    const uint32_t stride[LAYOUT_ARRAYS] = {4,  l->row_stride,  l->upper_stride,
                                            32, l->code_stride, l->vec_stride};
    const uint32_t words[LAYOUT_ARRAYS] = {1, l->M0, l->M, 8, 0, l->dim};
    if (at + l->chunk_bytes > im->n)
        return;
    layout_arrays(l, a);
    for (uint32_t i = 0; i < LAYOUT_ARRAYS; i++) {
        if (stride[i] == 0)
            continue;
        fuzz_add_region(im, at + a[i].offset, stride[i], a[i].used / stride[i], words[i], 4);
        im->region[im->n_regions - 1].payload = i == 3 || i == 5;
        im->region[im->n_regions - 1].first = chunk << l->slot_shift;
    }
}

void fuzz_describe(struct fuzz_image *im, const struct layout *l)
{
    struct disk_header h;
    struct disk_root root;
    memcpy(&h, im->bytes, sizeof h);
    memcpy(&root, im->bytes + LAYOUT_ROOT_OFFSET, sizeof root);
    fuzz_add_region(im, 0, 0, 1, 52, 4);   /* the header in words of three widths */
    fuzz_add_region(im, 48, 0, 1, 20, 8);  /*   */
    fuzz_add_region(im, 0, 0, 1, 4088, 1); /*   */
    fuzz_add_region(im, LAYOUT_ROOT_OFFSET, 0, 1, 15, 8);
    fuzz_add_region(im, LAYOUT_ROOT_OFFSET, 0, 1, 30, 4);
    fuzz_add_region(im, LAYOUT_LIVE_OFFSET, 0, 1, 16, 4);
    if (h.label_offset != 0 && h.label_count != 0) {
        fuzz_add_region(im, h.label_offset, 16, h.label_count, 4, 4);
        fuzz_add_region(im, h.label_offset, 16, h.label_count, 2, 8);
    }
    if (h.sums_offset != 0)
        fuzz_add_region(im, h.sums_offset, 8, (im->n - h.sums_offset) / 8, 1, 8);
    for (uint32_t i = 0; i < CHUNKS_DESCRIBED; i++)
        describe_chunk(im, l, i);
    fuzz_add_region(im, 0, 4, im->n / 4, 1, 4);
    const uint64_t numbers[] = {extent_slots(root.extent),
                                extent_chunks(root.extent),
                                root.nuppers,
                                root.n_live,
                                h.label_offset,
                                h.label_count,
                                h.sums_offset,
                                l->chunk_bytes,
                                l->slots_per_chunk,
                                l->uppers_per_chunk,
                                layout_chunks_max(l),
                                root.extent,
                                root.entry,
                                h.generation};
    for (uint32_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        fuzz_add_number(im, numbers[i]);
}

void fuzz_sum_head(struct fuzz_image *im)
{
    struct disk_header *h = (void *)im->bytes;
    struct disk_root *root = (void *)(im->bytes + LAYOUT_ROOT_OFFSET);
    uint64_t uuid_low;
    if (im->n < sizeof *h)
        return;
    h->sum = checksum64(h, offsetof(struct disk_header, sum), 0);
    memcpy(&uuid_low, h->uuid, sizeof uuid_low);
    if (im->n >= LAYOUT_ROOT_OFFSET + sizeof *root)
        root->sum = layout_root_sum(root, uuid_low);
}

void fuzz_sum_slot(struct fuzz_image *im, const struct layout *l, uint32_t slot)
{
    if (layout_vec_off(l, slot) + l->vec_stride > im->n)
        return;
    struct disk_tag *tag = (void *)(im->bytes + layout_tag_off(l, slot));
    tag->vsum =
        layout_vsum(l, tag->label, slot, tag->gen, tag->up, im->bytes + layout_code_off(l, slot),
                    im->bytes + layout_vec_off(l, slot));
}
