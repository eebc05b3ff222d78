/* layout.c -- derives the whole geometry from a handful of choices, and trusts no header.
 *
 * One routine computes sizes and offsets for a new index and for a file that claims to be one; the
 * header's own figures are only ever compared with its result.  So an offset that the rest of the
 * library uses comes from arithmetic done here and never from the disk.
 *
 * Why the sums below cannot overflow 64 bits: a stride is below 2^19, a chunk has at most 2^16
 * slots and 1.25 * 2^16 + 17 upper cells, so an array is below 2^36 bytes and a chunk below 2^39.
 */
#include "storage/layout.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "storage/checksum.h"
#include "storage/fail.h"

#define BYTE_ORDER_MARK 0x01020304u
#define BYTE_ORDER_SWAPPED 0x04030201u
#define FLAGS_KNOWN (LAYOUT_FLAGS_CHOSEN | HEADER_SEALED | HEADER_SECTION_SUMS)
#define SPACE_MAX 2u
#define SCHEME_MAX 2u
#define CHUNK_BYTES_SMALL (UINT64_C(512) << 10)
#define CHUNK_BYTES_LARGE (UINT64_C(8) << 20)
#define CELLS_MAX (UINT64_C(1) << 27) /* tag.up has 27 bits for the cell */
#define LABEL_ENTRY_BYTES sizeof(struct sealed_label)

const uint8_t layout_magic[8] = {0x89, 0x4E, 0x56, 0x4D, 0x0D, 0x0A, 0x1A, 0x0A};

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* ceil(1.25 * slots / (M - 1)): the upper cells that levels drawn with factor 1/ln(M) need on
 * average are slots / (M - 1). */
static uint64_t upper_cells(uint64_t slots, uint32_t M)
{
    uint64_t quarters = 4 * (uint64_t)(M - 1);
    return (5 * slots + quarters - 1) / quarters;
}

/* Everything that depends on slot_shift.  False: an offset does not fit its 32-bit field. */
static bool place_arrays(struct layout *l, uint32_t slot_shift)
{
    uint64_t slots = UINT64_C(1) << slot_shift;
    uint64_t uppers = upper_cells(slots, l->M) + 16;
    uint64_t off[7];
    const uint64_t bytes[6] = {
        slots * 4,
        slots * l->row_stride,
        uppers * l->upper_stride,
        slots * l->tag_stride,
        slots * l->code_stride,
        slots * l->vec_stride,
    };
    off[0] = 0;
    for (int i = 0; i < 6; i++)
        off[i + 1] = off[i] + round_up(bytes[i], LAYOUT_PAGE);
    if (off[5] > UINT32_MAX)
        return false;

    l->slot_shift = slot_shift;
    l->slots_per_chunk = (uint32_t)slots;
    l->uppers_per_chunk = (uint32_t)uppers;
    l->off_state = (uint32_t)off[0];
    l->off_row = (uint32_t)off[1];
    l->off_upper = (uint32_t)off[2];
    l->off_tag = (uint32_t)off[3];
    l->off_code = (uint32_t)off[4];
    l->off_vec = (uint32_t)off[5];
    l->chunk_bytes = round_up(off[6], LAYOUT_CHUNK_ALIGN);
    return true;
}

/* Chunks of about a sixteenth of the expected size: small indexes stay small on disk, large ones
 * do not consist of thousands of chunks. */
static void choose_shift(struct layout *l, uint64_t expected_slots)
{
    uint64_t slots = expected_slots < UINT32_MAX ? expected_slots : UINT32_MAX;
    uint64_t per_slot =
        4 + (uint64_t)l->row_stride + l->tag_stride + l->code_stride + l->vec_stride;
    uint64_t limit = (slots * per_slot + upper_cells(slots, l->M) * l->upper_stride) / 16;
    if (limit < CHUNK_BYTES_SMALL)
        limit = CHUNK_BYTES_SMALL;
    if (limit > CHUNK_BYTES_LARGE)
        limit = CHUNK_BYTES_LARGE;
    for (uint32_t shift = LAYOUT_SHIFT_MAX; shift > LAYOUT_SHIFT_MIN; shift--) {
        if (place_arrays(l, shift) && l->chunk_bytes <= limit)
            return;
    }
    (void)place_arrays(l, LAYOUT_SHIFT_MIN); /* 16 rows of the largest strides do fit */
}

navmap_status layout_compute(const struct layout_params *params, struct layout *ret_layout)
{
    const struct layout_params *p = params;
    if (p->dim < 1 || p->dim > LAYOUT_DIM_MAX)
        return fail(NAVMAP_EINVAL, "dim: expected 1..%u, found %" PRIu32, LAYOUT_DIM_MAX, p->dim);
    if (p->M < LAYOUT_M_MIN || p->M > LAYOUT_M_MAX)
        return fail(NAVMAP_EINVAL, "M: expected %u..%u, found %" PRIu32, LAYOUT_M_MIN, LAYOUT_M_MAX,
                    p->M);
    if (p->space > SPACE_MAX)
        return fail(NAVMAP_EINVAL, "space: expected 0..%u, found %u", SPACE_MAX, p->space);
    if (p->scalar > LAYOUT_F16)
        return fail(NAVMAP_EINVAL, "scalar: expected 0..%u, found %u", LAYOUT_F16, p->scalar);
    if (p->code_scheme > SCHEME_MAX)
        return fail(NAVMAP_EINVAL, "code_scheme: expected 0..%u, found %u", SCHEME_MAX,
                    p->code_scheme);
    if (p->code_scheme == 0 && p->code_header != 0)
        return fail(NAVMAP_EINVAL, "code_header: expected 0 without codes, found %u",
                    p->code_header);
    if (p->ef_construction < 1)
        return fail(NAVMAP_EINVAL, "ef_construction: expected at least 1, found 0");
    if (p->flags & ~LAYOUT_FLAGS_CHOSEN)
        return fail(NAVMAP_EINVAL, "flags: expected bits of %" PRIu32 ", found %" PRIu32,
                    LAYOUT_FLAGS_CHOSEN, p->flags);
    if (p->slot_shift != 0 &&
        (p->slot_shift < LAYOUT_SHIFT_MIN || p->slot_shift > LAYOUT_SHIFT_MAX))
        return fail(NAVMAP_EINVAL, "slot_shift: expected %u..%u, found %" PRIu32, LAYOUT_SHIFT_MIN,
                    LAYOUT_SHIFT_MAX, p->slot_shift);

    struct layout l = {
        .dim = p->dim,
        .M = p->M,
        .M0 = 2 * p->M,
        .ef_construction = p->ef_construction,
        .flags = p->flags,
        .space = p->space,
        .scalar = p->scalar,
        .code_scheme = p->code_scheme,
        .code_header = p->code_header,
        .tag_stride = sizeof(struct disk_tag),
        .seed = p->seed,
    };
    for (uint64_t power = p->M; power <= UINT64_C(1) << LAYOUT_LEVEL_BITS; power *= p->M)
        if (l.level_most < LAYOUT_LEVEL_MAX)
            l.level_most++;
    l.vec_bytes = p->dim * layout_scalar_bytes(p->scalar);
    l.row_stride = (uint32_t)round_up((uint64_t)l.M0 * 4, 64);
    l.upper_stride = (uint32_t)round_up((uint64_t)l.M * 4, 64);
    l.vec_stride = (uint32_t)round_up(l.vec_bytes, l.vec_bytes < 64 ? 16 : 64);
    if (p->code_scheme != 0)
        l.code_stride = (uint32_t)round_up((uint64_t)p->dim + p->code_header, 64);

    if (p->slot_shift == 0)
        choose_shift(&l, p->expected_slots);
    else if (!place_arrays(&l, p->slot_shift))
        return fail(NAVMAP_EINVAL,
                    "slot_shift: chunks of 2^%" PRIu32 " slots of dim %" PRIu32
                    " exceed the 4 GiB that offsets within a chunk can name",
                    p->slot_shift, p->dim);
    *ret_layout = l;
    return NAVMAP_OK;
}

uint32_t layout_chunks_max(const struct layout *layout)
{
    uint64_t by_slots = UINT32_MAX >> layout->slot_shift;
    uint64_t by_cells = CELLS_MAX / layout->uppers_per_chunk;
    uint64_t by_bytes = ((uint64_t)INT64_MAX - LAYOUT_CHUNK0_OFFSET) / layout->chunk_bytes;
    uint64_t n = by_slots < by_cells ? by_slots : by_cells;
    return (uint32_t)(n < by_bytes ? n : by_bytes);
}

void layout_write_header(const struct layout *layout, struct disk_header *ret_header)
{
    const struct layout *l = layout;
    struct disk_header *h = ret_header;
    memset(h, 0, sizeof(*h));
    memcpy(h->magic, layout_magic, sizeof(h->magic));
    h->byte_order = BYTE_ORDER_MARK;
    h->major = LAYOUT_MAJOR;
    h->minor = LAYOUT_MINOR;
    h->header_bytes = LAYOUT_PAGE;
    memcpy(h->uuid, l->uuid, sizeof(h->uuid));
    h->generation = l->generation;
    h->dim = l->dim;
    h->space = l->space;
    h->scalar = l->scalar;
    h->M = l->M;
    h->M0 = l->M0;
    h->ef_construction = l->ef_construction;
    h->flags = l->flags;
    h->seed = l->seed;
    h->slot_shift = l->slot_shift;
    h->uppers_per_chunk = l->uppers_per_chunk;
    h->chunk_bytes = l->chunk_bytes;
    h->vec_stride = l->vec_stride;
    h->row_stride = l->row_stride;
    h->upper_stride = l->upper_stride;
    h->tag_stride = l->tag_stride;
    h->off_state = l->off_state;
    h->off_row = l->off_row;
    h->off_upper = l->off_upper;
    h->off_tag = l->off_tag;
    h->off_code = l->off_code;
    h->off_vec = l->off_vec;
    h->code_scheme = l->code_scheme;
    h->code_header = l->code_header;
    h->code_stride = l->code_stride;
    h->created_ns = l->created_ns;
    h->instance = l->instance;
    h->sum = checksum64(h, offsetof(struct disk_header, sum), 0);
}

void layout_write_sealed(const struct layout *layout, const struct layout_sealed *sealed,
                         struct disk_header *ret_header)
{
    struct disk_header *h = ret_header;
    layout_write_header(layout, h);
    h->flags |= HEADER_SEALED | HEADER_SECTION_SUMS;
    h->file_bytes = sealed->file_bytes;
    h->label_offset = sealed->label_offset;
    h->label_count = sealed->label_count;
    h->sums_offset = sealed->sums_offset;
    h->sum = checksum64(h, offsetof(struct disk_header, sum), 0);
}

void layout_read_sealed(const void *page, struct layout_sealed *ret_sealed)
{
    const struct disk_header *h = page;
    *ret_sealed = (struct layout_sealed){.label_offset = h->label_offset,
                                         .label_count = h->label_count,
                                         .sums_offset = h->sums_offset,
                                         .file_bytes = h->file_bytes};
}

void layout_arrays(const struct layout *layout, struct layout_array ret_arrays[LAYOUT_ARRAYS])
{
    const struct layout *l = layout;
    const uint64_t slots = l->slots_per_chunk;
    const struct layout_array arrays[LAYOUT_ARRAYS] = {
        {l->off_state, slots * 4},
        {l->off_row, slots * l->row_stride},
        {l->off_upper, (uint64_t)l->uppers_per_chunk * l->upper_stride},
        {l->off_tag, slots * l->tag_stride},
        {l->off_code, slots * l->code_stride},
        {l->off_vec, slots * l->vec_stride},
    };
    memcpy(ret_arrays, arrays, sizeof arrays);
}

static navmap_status bad_field(const char *path, const char *field, uint64_t expected,
                               uint64_t found)
{
    return fail(NAVMAP_ECORRUPT, "%s: header field %s: expected %" PRIu64 ", found %" PRIu64, path,
                field, expected, found);
}

/* Is this page ours, whole, and of a version that we understand? */
static navmap_status check_identity(const struct disk_header *h, const char *path)
{
    if (memcmp(h->magic, layout_magic, sizeof(h->magic)) != 0)
        return fail(NAVMAP_ENOINDEX, "%s: not a navmap data file (no magic at offset 0)", path);
    if (h->byte_order == BYTE_ORDER_SWAPPED)
        return fail(NAVMAP_EVERSION,
                    "%s: written in big-endian byte order, which this build cannot map", path);
    if (h->byte_order != BYTE_ORDER_MARK)
        return bad_field(path, "byte_order", BYTE_ORDER_MARK, h->byte_order);
    /* Before the sum: another major version may keep its sum elsewhere. */
    if (h->major != LAYOUT_MAJOR)
        return fail(NAVMAP_EVERSION, "%s: format version: expected %u.x, found %u.%u", path,
                    LAYOUT_MAJOR, h->major, h->minor);
    uint64_t sum = checksum64(h, offsetof(struct disk_header, sum), 0);
    if (sum != h->sum)
        return fail(NAVMAP_ECORRUPT,
                    "%s: header checksum: expected %016" PRIx64 ", found %016" PRIx64, path, sum,
                    h->sum);
    if (h->feat_incompat != 0)
        return fail(NAVMAP_EVERSION,
                    "%s: needs features that this version lacks (format %u.%u, bits %08" PRIx32 ")",
                    path, h->major, h->minor, h->feat_incompat);
    if (h->mu_offset != 0)
        return fail(NAVMAP_EVERSION,
                    "%s: codes are centred on a mean (mu_offset %" PRIu32
                    "), which this version cannot read",
                    path, h->mu_offset);
    if (h->scalar > LAYOUT_F16)
        return fail(NAVMAP_EVERSION, "%s: header field scalar: expected at most %u, found %u", path,
                    LAYOUT_F16, h->scalar);
    return NAVMAP_OK;
}

static navmap_status check_reserved(const struct disk_header *h, const char *path)
{
    /* A later minor version may have given these bytes a meaning that is safe to ignore: had it
     * not been, a feature bit would have said so. */
    if (h->minor > LAYOUT_MINOR)
        return NAVMAP_OK;
    if (h->reserved0 != 0)
        return bad_field(path, "reserved at offset 156", 0, h->reserved0);
    for (size_t i = 0; i < sizeof(h->reserved1); i++) {
        if (h->reserved1[i] != 0)
            return fail(NAVMAP_ECORRUPT,
                        "%s: header reserved byte at offset %zu: expected 0, "
                        "found %u",
                        path, offsetof(struct disk_header, reserved1) + i, h->reserved1[i]);
    }
    return NAVMAP_OK;
}

/* The figures that only sealed files have.  `room` is what lies beyond the fixed 64 KiB. */
static navmap_status check_sealed(const struct disk_header *h, uint64_t file_bytes,
                                  const char *path)
{
    if (!(h->flags & HEADER_SEALED)) {
        if (h->flags & (HEADER_SECTION_SUMS | HEADER_FLAT | HEADER_BOUNDED))
            return fail(NAVMAP_ECORRUPT,
                        "%s: header field flags: %08" PRIx32 " has bits of a sealed file", path,
                        h->flags);
        if (h->file_bytes != 0)
            return bad_field(path, "file_bytes", 0, h->file_bytes);
        if (h->label_offset != 0)
            return bad_field(path, "label_offset", 0, h->label_offset);
        if (h->label_count != 0)
            return bad_field(path, "label_count", 0, h->label_count);
        if (h->sums_offset != 0)
            return bad_field(path, "sums_offset", 0, h->sums_offset);
        return NAVMAP_OK;
    }
    if (h->file_bytes != file_bytes)
        return bad_field(path, "file_bytes", file_bytes, h->file_bytes);
    if (h->label_offset < LAYOUT_CHUNK0_OFFSET || h->label_offset > file_bytes ||
        (h->label_offset - LAYOUT_CHUNK0_OFFSET) % h->chunk_bytes != 0)
        return fail(NAVMAP_ECORRUPT,
                    "%s: header field label_offset: %" PRIu64
                    " is no chunk boundary inside the file",
                    path, h->label_offset);
    uint64_t room = (file_bytes - h->label_offset) / LABEL_ENTRY_BYTES;
    if (h->label_count > room)
        return fail(NAVMAP_ECORRUPT,
                    "%s: header field label_count: expected at most %" PRIu64 ", found %" PRIu64,
                    path, room, h->label_count);
    uint64_t labels_end = h->label_offset + h->label_count * LABEL_ENTRY_BYTES;
    if (!(h->flags & HEADER_SECTION_SUMS)) {
        if (h->sums_offset != 0)
            return bad_field(path, "sums_offset", 0, h->sums_offset);
    } else if (h->sums_offset < labels_end || h->sums_offset > file_bytes ||
               h->sums_offset % 8 != 0) {
        return fail(NAVMAP_ECORRUPT,
                    "%s: header field sums_offset: %" PRIu64
                    " is not between the labels and the end of the file",
                    path, h->sums_offset);
    }
    return NAVMAP_OK;
}

/* Recompute what the header derives, compare, and hand out the recomputed geometry. */
static navmap_status check_geometry(const struct disk_header *h, const char *path,
                                    struct layout *ret_layout)
{
    const struct layout_params params = {
        .dim = h->dim,
        .space = h->space,
        .scalar = h->scalar,
        .code_scheme = h->code_scheme,
        .code_header = h->code_header,
        .M = h->M,
        .ef_construction = h->ef_construction,
        .flags = h->flags & LAYOUT_FLAGS_CHOSEN,
        .seed = h->seed,
        .slot_shift = h->slot_shift,
    };
    if (h->flags & ~(uint32_t)FLAGS_KNOWN)
        return fail(NAVMAP_ECORRUPT, "%s: header field flags: unknown bits %08" PRIx32, path,
                    h->flags & ~(uint32_t)FLAGS_KNOWN);
    if (h->slot_shift == 0) /* which would ask layout_compute() to choose */
        return bad_field(path, "slot_shift", LAYOUT_SHIFT_MIN, 0);
    struct layout l;
    if (layout_compute(&params, &l) != NAVMAP_OK)
        return fail(NAVMAP_ECORRUPT, "%s: header field %s", path, navmap_error_detail());

    const struct {
        const char *field;
        uint64_t expected, found;
    } derived[] = {
        {"header_bytes", LAYOUT_PAGE, h->header_bytes},
        {"M0", l.M0, h->M0},
        {"uppers_per_chunk", l.uppers_per_chunk, h->uppers_per_chunk},
        {"chunk_bytes", l.chunk_bytes, h->chunk_bytes},
        {"vec_stride", l.vec_stride, h->vec_stride},
        {"row_stride", l.row_stride, h->row_stride},
        {"upper_stride", l.upper_stride, h->upper_stride},
        {"tag_stride", l.tag_stride, h->tag_stride},
        {"off_state", l.off_state, h->off_state},
        {"off_row", l.off_row, h->off_row},
        {"off_upper", l.off_upper, h->off_upper},
        {"off_tag", l.off_tag, h->off_tag},
        {"off_code", l.off_code, h->off_code},
        {"off_vec", l.off_vec, h->off_vec},
        {"code_stride", l.code_stride, h->code_stride},
    };
    for (size_t i = 0; i < sizeof(derived) / sizeof(derived[0]); i++) {
        if (derived[i].expected != derived[i].found)
            return bad_field(path, derived[i].field, derived[i].expected, derived[i].found);
    }
    l.flags = h->flags;
    *ret_layout = l;
    return NAVMAP_OK;
}

navmap_status layout_read_header(const void *page, uint64_t file_bytes, const char *path,
                                 struct layout *ret_layout, int *ret_read_only)
{
    struct disk_header h; /* a copy: the page may be mapped and change under the checks */
    memcpy(&h, page, sizeof(h));
    TRY(check_identity(&h, path));
    TRY(check_reserved(&h, path));
    struct layout l;
    TRY(check_geometry(&h, path, &l));
    if (file_bytes < LAYOUT_CHUNK0_OFFSET)
        return fail(NAVMAP_ECORRUPT, "%s: file size: expected at least %u bytes, found %" PRIu64,
                    path, LAYOUT_CHUNK0_OFFSET, file_bytes);
    TRY(check_sealed(&h, file_bytes, path));

    memcpy(l.uuid, h.uuid, sizeof(l.uuid));
    memcpy(&l.uuid_low, h.uuid, sizeof(l.uuid_low));
    l.generation = h.generation;
    l.instance = h.instance;
    l.created_ns = h.created_ns;
    *ret_layout = l;
    *ret_read_only = h.feat_ro_compat != 0;
    return NAVMAP_OK;
}

bool layout_curve_sound(const struct disk_root *root)
{
    for (uint32_t k = 0; k < LAYOUT_CURVES; k++) {
        const uint16_t *ef = root->curve_ef[k];
        if (root->curve_items == 0 && ef[0] != 0)
            return false;
        for (uint32_t i = 1; i < LAYOUT_CURVE_POINTS; i++)
            if (ef[i] != 0 && (ef[i - 1] == 0 || ef[i] < ef[i - 1]))
                return false;
    }
    return true;
}

uint64_t layout_root_sum(const struct disk_root *root, uint64_t uuid_low)
{
    return checksum64(root, offsetof(struct disk_root, sum), uuid_low);
}

uint64_t layout_vsum(const struct layout *layout, uint64_t label, uint32_t slot, uint32_t gen,
                     uint32_t up, const void *code_row, const void *vec_row)
{
    return layout_vsum_apart(layout, label, slot, gen, up, code_row, vec_row,
                             (const uint8_t *)vec_row + layout->vec_bytes);
}

uint64_t layout_vsum_apart(const struct layout *layout, uint64_t label, uint32_t slot, uint32_t gen,
                           uint32_t up, const void *code_row, const void *vector,
                           const void *padding)
{
    /* 20 bytes, without the padding that a struct would have. */
    uint8_t head[20];
    memcpy(head, &label, 8);
    memcpy(head + 8, &slot, 4);
    memcpy(head + 12, &gen, 4);
    memcpy(head + 16, &up, 4);
    struct checksum sum;
    checksum_begin(&sum, layout->uuid_low);
    checksum_add(&sum, head, sizeof(head));
    if (layout->code_stride != 0)
        checksum_add(&sum, code_row, layout->code_stride);
    checksum_add(&sum, vector, layout->vec_bytes);
    checksum_add(&sum, padding, layout->vec_stride - layout->vec_bytes);
    return checksum_end(&sum);
}
