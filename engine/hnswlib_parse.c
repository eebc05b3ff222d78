/* hnswlib_parse.c -- headers and lists of hnswlib's files, checked; see hnswlib_parse.h. */
#include "engine/hnswlib_parse.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>

#include "engine/hnswlib_file.h"
#include "storage/fail.h"

#define EF_CONSTRUCTION_MAX (1u << 20) /* of an index */
#define LABEL_BYTES 8u
#define NO_ENTRY UINT32_MAX

/* The fields of the header that follow from M and the dimension. */
struct fields {
    uint64_t offset_level0, capacity, count, element_bytes, label_offset, vector_offset;
    int32_t top;
    uint32_t entry;
    uint64_t maxM, maxM0, M;
    double mult;
    uint64_t ef_construction;
};

static void read_fields(const uint8_t *head, struct fields *ret)
{
    *ret = (struct fields){.offset_level0 = hnswlib_u64(head),
                           .capacity = hnswlib_u64(head + 8),
                           .count = hnswlib_u64(head + 16),
                           .element_bytes = hnswlib_u64(head + 24),
                           .label_offset = hnswlib_u64(head + 32),
                           .vector_offset = hnswlib_u64(head + 40),
                           .top = (int32_t)hnswlib_u32(head + 48),
                           .entry = hnswlib_u32(head + 52),
                           .maxM = hnswlib_u64(head + 56),
                           .maxM0 = hnswlib_u64(head + 64),
                           .M = hnswlib_u64(head + 72),
                           .ef_construction = hnswlib_u64(head + 88)};
    memcpy(&ret->mult, head + 80, sizeof ret->mult);
}

/* Ports of hnswlib may compute it in single precision. */
static bool is_mult(double mult, uint64_t M)
{
    return fabs(mult * log((double)M) - 1) < 1e-5; /* false for NaN */
}

bool hnswlib_looks_like(const void *head, uint64_t n_head, uint64_t file_bytes)
{
    struct fields f;
    if (n_head < HNSWLIB_HEAD_BYTES || file_bytes < HNSWLIB_HEAD_BYTES)
        return false;
    read_fields(head, &f);
    int agree = f.offset_level0 == 0;
    agree += f.label_offset != 0 && f.element_bytes - LABEL_BYTES == f.label_offset;
    agree +=
        f.maxM0 != 0 && f.vector_offset == 4 + 4 * f.maxM0; /* it may wrap: no more than wrong */
    agree += f.maxM0 != 0 && f.maxM0 == 2 * f.maxM;
    agree += f.M != 0 && f.M == f.maxM;
    agree += is_mult(f.mult, f.M);
    return agree >= 4; /* a damaged field breaks two at most */
}

bool hnswlib_looks_like_flat(const void *head, uint64_t n_head, uint64_t file_bytes)
{
    if (n_head < HNSWLIB_FLAT_BYTES || file_bytes < HNSWLIB_FLAT_BYTES)
        return false;
    const uint8_t *h = head;
    uint64_t capacity = hnswlib_u64(h), row = hnswlib_u64(h + 8), count = hnswlib_u64(h + 16);
    uint64_t rest = file_bytes - HNSWLIB_FLAT_BYTES;
    return row > LABEL_BYTES && row % 4 == 0 && row <= LABEL_BYTES + 4ull * LAYOUT_DIM_MAX &&
           count <= capacity && rest % row == 0 && rest / row == capacity;
}

static navmap_status bad_field(const char *path, const char *field, uint32_t at, uint64_t expected,
                               uint64_t found)
{
    return fail(NAVMAP_ECORRUPT,
                HNSWLIB_REFUSED ": %s: %s (byte %" PRIu32 "): expected %" PRIu64 ", found %" PRIu64,
                path, field, at, expected, found);
}

/* M and the dimension, and all sizes that follow from them. */
static navmap_status check_shape(const struct fields *f, const char *path,
                                 struct hnswlib_head *ret_head)
{
    if (f->offset_level0 != 0)
        return bad_field(path, "offsetLevel0", 0, 0, f->offset_level0);
    if (f->maxM != f->M)
        return bad_field(path, "maxM", 56, f->M, f->maxM);
    if (f->M < LAYOUT_M_MIN || f->M > LAYOUT_M_MAX)
        return fail(NAVMAP_EVERSION,
                    HNSWLIB_REFUSED ": %s: M is %" PRIu64 "; navmap has indexes of M %u to %u",
                    path, f->M, LAYOUT_M_MIN, LAYOUT_M_MAX);
    if (f->maxM0 != 2 * f->M)
        return bad_field(path, "maxM0", 64, 2 * f->M, f->maxM0);
    if (!is_mult(f->mult, f->M))
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: mult (byte 80): expected %.6g for M %" PRIu64
                                    ", found %.6g",
                    path, 1 / log((double)f->M), f->M, f->mult);
    uint64_t vector_offset = 4 + 8 * f->M, least = vector_offset + 4 + LABEL_BYTES;
    if (f->vector_offset != vector_offset)
        return bad_field(path, "offsetData", 40, vector_offset, f->vector_offset);
    if (f->element_bytes < least || (f->element_bytes - least) % 4 != 0)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: size_data_per_element (byte 24): expected %" PRIu64
                                    " and a multiple of 4 for more than one dimension, found "
                                    "%" PRIu64,
                    path, least, f->element_bytes);
    uint64_t dim = (f->element_bytes - LABEL_BYTES - vector_offset) / 4;
    if (dim > LAYOUT_DIM_MAX)
        return fail(NAVMAP_EVERSION,
                    HNSWLIB_REFUSED ": %s: vectors have %" PRIu64
                                    " dimensions; navmap has indexes of 1 to %u",
                    path, dim, LAYOUT_DIM_MAX);
    if (f->label_offset != f->element_bytes - LABEL_BYTES)
        return bad_field(path, "label_offset", 32, f->element_bytes - LABEL_BYTES, f->label_offset);
    if (f->ef_construction == 0)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: ef_construction (byte 88): expected at least M, %" PRIu64
                                    ", found 0",
                    path, f->M);
    if (f->ef_construction > EF_CONSTRUCTION_MAX)
        return fail(NAVMAP_EVERSION,
                    HNSWLIB_REFUSED ": %s: ef_construction is %" PRIu64
                                    "; navmap has indexes of at most %u",
                    path, f->ef_construction, EF_CONSTRUCTION_MAX);
    *ret_head = (struct hnswlib_head){.dim = (uint32_t)dim,
                                      .element_bytes = f->element_bytes,
                                      .M = (uint32_t)f->M,
                                      .ef_construction = (uint32_t)f->ef_construction,
                                      .list_bytes = 4 + 4 * f->M,
                                      .vector_offset = vector_offset};
    return NAVMAP_OK;
}

/* Ids are below NO_ENTRY, so are counts. */
static navmap_status check_count(const char *path, uint64_t count, uint64_t capacity)
{
    if (count > capacity)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: cur_element_count (byte 16): expected at most "
                                    "max_elements, %" PRIu64 ", found %" PRIu64,
                    path, capacity, count);
    if (count >= NO_ENTRY)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: cur_element_count (byte 16): expected below %u, found "
                                    "%" PRIu64,
                    path, NO_ENTRY, count);
    return NAVMAP_OK;
}

static navmap_status check_entry(const struct fields *f, const char *path)
{
    if (f->count == 0) {
        if (f->entry != NO_ENTRY || f->top != -1)
            return fail(NAVMAP_ECORRUPT,
                        HNSWLIB_REFUSED ": %s: enterpoint (byte 52): expected none, %u, and "
                                        "maxlevel -1 without elements, found %" PRIu32
                                        " and %" PRId32,
                        path, NO_ENTRY, f->entry, f->top);
        return NAVMAP_OK;
    }
    if (f->top < 0 || f->top > (int32_t)LAYOUT_LEVEL_MAX)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: maxlevel (byte 48): expected 0 to %u, found %" PRId32,
                    path, LAYOUT_LEVEL_MAX, f->top);
    if (f->entry >= f->count)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: enterpoint (byte 52): expected below %" PRIu64
                                    ", found %" PRIu32,
                    path, f->count, f->entry);
    return NAVMAP_OK;
}

navmap_status hnswlib_parse_graph(const uint8_t *head, uint64_t file_bytes, const char *path,
                                  struct hnswlib_head *ret_head)
{
    struct fields f;
    struct hnswlib_head h;
    read_fields(head, &f);
    TRY(check_shape(&f, path, &h));
    TRY(check_count(path, f.count, f.capacity));
    /* An element has its word on upper levels besides.  count < 2^32, so nothing overflows. */
    uint64_t least = HNSWLIB_HEAD_BYTES + f.count * (h.element_bytes + 4);
    if (file_bytes < least || (f.count == 0 && file_bytes != least))
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: size: expected %" PRIu64 " bytes%s for %" PRIu64
                                    " elements, found %" PRIu64,
                    path, least, f.count ? " or more" : "", f.count, file_bytes);
    TRY(check_entry(&f, path));
    h.capacity = f.capacity;
    h.count = (uint32_t)f.count;
    h.top = f.count ? (uint32_t)f.top : 0;
    h.entry = f.entry;
    *ret_head = h;
    return NAVMAP_OK;
}

navmap_status hnswlib_parse_flat(const uint8_t *head, uint64_t file_bytes, const char *path,
                                 struct hnswlib_head *ret_head)
{
    uint64_t capacity = hnswlib_u64(head), row = hnswlib_u64(head + 8);
    uint64_t count = hnswlib_u64(head + 16), rest = file_bytes - HNSWLIB_FLAT_BYTES;
    if (row <= LABEL_BYTES || row % 4 != 0)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED
                    ": %s: size_per_element (byte 8): expected 12 and a multiple of "
                    "4 for more than one dimension, found %" PRIu64,
                    path, row);
    if ((row - LABEL_BYTES) / 4 > LAYOUT_DIM_MAX)
        return fail(NAVMAP_EVERSION,
                    HNSWLIB_REFUSED ": %s: vectors have %" PRIu64
                                    " dimensions; navmap has indexes of 1 to %u",
                    path, (row - LABEL_BYTES) / 4, LAYOUT_DIM_MAX);
    TRY(check_count(path, count, capacity));
    if (rest / row != capacity || rest % row != 0)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: size: expected %u bytes and %" PRIu64 " rows of %" PRIu64
                                    ", found %" PRIu64,
                    path, HNSWLIB_FLAT_BYTES, capacity, row, file_bytes);
    *ret_head = (struct hnswlib_head){.capacity = capacity,
                                      .count = (uint32_t)count,
                                      .dim = (uint32_t)((row - LABEL_BYTES) / 4),
                                      .element_bytes = row};
    return NAVMAP_OK;
}

/* Lists ----------------------------------------------------------------------------------------*/

#define SEEN (4 * LAYOUT_M_MAX)
static_assert((SEEN & (SEEN - 1)) == 0, "a power of two");
static_assert(SEEN >= 2 * (2 * LAYOUT_M_MAX), "half of it stays empty");

static void next_mark(struct hnswlib_lists *c)
{
    if (++c->mark != 0)
        return;
    memset(c->seen, 0, sizeof c->seen);
    c->mark = 1;
}

/* Was the id in this list already?  It is now. */
static bool again(struct hnswlib_lists *c, uint32_t id)
{
    uint64_t entry = (uint64_t)c->mark << 32 | id;
    uint32_t i = (id * 0x9E3779B1u) >> 21; /* the upper 11 bits: SEEN is 2^11 */
    static_assert(SEEN == 1u << 11, "as many bits");
    while (c->seen[i] >> 32 == c->mark) {
        if (c->seen[i] == entry)
            return true;
        i = (i + 1) & (SEEN - 1);
    }
    c->seen[i] = entry;
    return false;
}

static navmap_status bad_link(const struct hnswlib_lists *c, uint32_t self, uint32_t level,
                              uint32_t i, uint32_t id)
{
    if (id >= c->head->count)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: element %" PRIu32 ", level %" PRIu32 ", link %" PRIu32
                                    ": expected an element below %" PRIu32 ", found %" PRIu32,
                    c->path, self, level, i, c->head->count, id);
    if (id == self)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: element %" PRIu32 ", level %" PRIu32 ", link %" PRIu32
                                    ": expected another element, found itself",
                    c->path, self, level, i);
    if (c->levels[id] < level)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: element %" PRIu32 ", level %" PRIu32 ", link %" PRIu32
                                    ": expected an element of that level, found %" PRIu32
                                    " of level %u",
                    c->path, self, level, i, id, c->levels[id]);
    return fail(NAVMAP_ECORRUPT,
                HNSWLIB_REFUSED ": %s: element %" PRIu32 ", level %" PRIu32 ", link %" PRIu32
                                ": expected each element once, found %" PRIu32 " again",
                c->path, self, level, i, id);
}

navmap_status hnswlib_check_list(struct hnswlib_lists *c, uint32_t self, uint32_t level,
                                 const uint8_t *list, struct hnswlib_list *ret_list)
{
    const struct hnswlib_head *h = c->head;
    uint32_t word = hnswlib_u32(list), n = word & 0xffffu, flags = word >> 16;
    uint32_t room = level == 0 ? 2 * h->M : h->M;
    const uint8_t *ids = list + 4;
    if (n > room)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: element %" PRIu32 ", level %" PRIu32
                                    ": expected at most %" PRIu32 " links, found %" PRIu32,
                    c->path, self, level, room, n);
    if (flags > (level == 0)) /* bit 0: deleted */
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: element %" PRIu32 ", level %" PRIu32
                                    ": flags: expected %s, found %" PRIu32,
                    c->path, self, level, level == 0 ? "0 or 1" : "0", flags);
    next_mark(c);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = hnswlib_u32(ids + 4 * (size_t)i);
        if (id >= h->count || id == self || (level > 0 && c->levels[id] < level) || again(c, id))
            return bad_link(c, self, level, i, id);
    }
    *ret_list = (struct hnswlib_list){.ids = ids, .n = n, .deleted = flags};
    return NAVMAP_OK;
}
