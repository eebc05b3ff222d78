/* verify_sealed.c -- every sum of a sealed file that has just been loaded, and every vector's.
 *
 * The sums of whole arrays tell that something is damaged and in which array; the sum that each
 * vector carries tells whose.  The graph and the labels are the engine's to check (structure.c).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "storage/checksum.h"
#include "storage/handle.h"
#include "storage/verify.h"

static const char *const section_names[LAYOUT_ARRAYS] = {"state", "row",  "upper",
                                                         "tag",   "code", "vector"};

struct check {
    const struct store *s;
    const struct store_verify_how *how;
    struct store_verify_counts *counts;
};

/* So many slots of two passes over `nslots` of them. */
static navmap_status step(const struct check *c, uint64_t done, uint64_t nslots)
{
    const struct store_verify_how *how = c->how;
    if (!how->progress || how->progress(how->progress_ctx, done, 2 * nslots) == 0)
        return NAVMAP_OK;
    return fail(NAVMAP_EINTERRUPTED, "%s: the check was called off", c->s->path);
}

static void emit(const struct check *c, const struct finding *f)
{
    const struct store_finding out = {false, f->section, f->slot, f->offset, f->message};
    c->counts->damaged++;
    if (c->how->report)
        c->how->report(c->how->ctx, &out);
}

/* One line of the table: the range that it has to name, and that range's sum. */
static void check_sum(const struct check *c, const struct disk_sum *found, const char *section,
                      uint64_t offset, uint64_t bytes, const void *at)
{
    struct finding f = {.moving = false};
    if (found->offset != offset || found->bytes != bytes) {
        (void)finding_bad(&f, "sums", 0, offset,
                          "the sum of %s: expected %" PRIu64 " bytes at %" PRIu64 ", found %" PRIu64
                          " at %" PRIu64,
                          section, bytes, offset, found->bytes, found->offset);
        emit(c, &f);
        return;
    }
    uint64_t sum = checksum64(at, bytes, 0);
    if (sum == found->sum)
        return;
    (void)finding_bad(&f, section, 0, offset,
                      "%" PRIu64 " bytes at %" PRIu64 ": checksum expected %016" PRIx64
                      ", found %016" PRIx64,
                      bytes, offset, found->sum, sum);
    emit(c, &f);
}

static navmap_status check_sums(const struct check *c, const struct disk_sum *sums,
                                uint32_t nchunks)
{
    const struct store *s = c->s;
    const struct layout *l = &s->layout;
    struct layout_array arrays[LAYOUT_ARRAYS];
    layout_arrays(l, arrays);
    for (uint32_t chunk = 0; chunk < nchunks; chunk++) {
        TRY(step(c, (uint64_t)chunk << l->slot_shift, (uint64_t)nchunks << l->slot_shift));
        for (uint32_t i = 0; i < LAYOUT_ARRAYS; i++) {
            uint64_t offset = layout_chunk_off(l, chunk) + arrays[i].offset;
            check_sum(c, &sums[(uint64_t)chunk * LAYOUT_ARRAYS + i], section_names[i], offset,
                      arrays[i].used, s->view->base + offset);
        }
    }
    check_sum(c, &sums[(uint64_t)nchunks * LAYOUT_ARRAYS], "labels", s->sealed_at.label_offset,
              s->sealed_at.label_count * sizeof(struct sealed_label), s->labels_at);
    return NAVMAP_OK;
}

static navmap_status check_payloads(const struct check *c, uint32_t nslots)
{
    const struct view *v = c->s->view;
    for (uint32_t slot = 1; slot < nslots; slot++) {
        if (slot % 256 == 0)
            TRY(step(c, (uint64_t)nslots + slot, nslots));
        const struct disk_tag *tag = view_tag(v, slot);
        uint64_t sum = layout_vsum(&v->layout, tag->label, slot, 0, tag->up, view_code(v, slot),
                                   view_vec(v, slot));
        if (sum == tag->vsum)
            continue;
        struct finding f = {.moving = false};
        (void)finding_bad(&f, "payload", slot, layout_tag_off(&v->layout, slot),
                          "label %" PRIu64 ": checksum expected %016" PRIx64 ", found %016" PRIx64,
                          tag->label, tag->vsum, sum);
        emit(c, &f);
    }
    return NAVMAP_OK;
}

static navmap_status check_table(const struct check *c, uint32_t nchunks)
{
    const struct store *s = c->s;
    const uint64_t n = (uint64_t)nchunks * LAYOUT_ARRAYS + 1, bytes = n * sizeof(struct disk_sum);
    const uint64_t at = s->sealed_at.sums_offset;
    struct finding f = {.moving = false};
    uint64_t expected;
    if (at + bytes + sizeof expected != s->sealed_at.file_bytes) {
        (void)finding_bad(&f, "sums", 0, at,
                          "the table of sums: expected %" PRIu64 " bytes up to the file's end at "
                          "%" PRIu64 ", found %" PRIu64,
                          bytes + sizeof expected, s->sealed_at.file_bytes,
                          s->sealed_at.file_bytes - at);
        emit(c, &f);
        return NAVMAP_OK;
    }
    struct disk_sum *sums = malloc(bytes);
    if (!sums)
        return fail(NAVMAP_ENOMEM, "%s: no memory to check it", s->path);
    navmap_status status = io_pread(s->ground_fd, s->path, sums, bytes, at);
    if (status == NAVMAP_OK)
        status = io_pread(s->ground_fd, s->path, &expected, sizeof expected, at + bytes);
    if (status == NAVMAP_OK && checksum64(sums, bytes, 0) == expected) {
        status = check_sums(c, sums, nchunks);
    } else if (status == NAVMAP_OK) {
        (void)finding_bad(&f, "sums", 0, at,
                          "the table of sums: checksum expected %016" PRIx64 ", found %016" PRIx64,
                          expected, checksum64(sums, bytes, 0));
        emit(c, &f);
    }
    free(sums);
    return status;
}

navmap_status store_verify_sealed(struct store *s, const struct store_verify_how *how,
                                  struct store_verify_counts *ret_counts)
{
    const uint64_t extent = view_load64(&view_root(s->view)->extent, memory_order_relaxed);
    struct store_verify_counts counts = {.slots = extent_slots(extent) - 1,
                                         .payloads = extent_slots(extent) - 1};
    const struct check c = {.s = s, .how = how, .counts = &counts};
    if (s->ground_fd < 0)
        return fail(NAVMAP_EINVAL, "%s: no index over a mapped file", s->path);
    if (s->sealed_at.sums_offset != 0)
        TRY(check_table(&c, extent_chunks(extent)));
    TRY(check_payloads(&c, extent_slots(extent)));
    *ret_counts = counts;
    return NAVMAP_OK;
}
