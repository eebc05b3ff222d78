/* test_header.c -- a header page is believed only as far as it can be worked out anew. */

#include <inttypes.h>
#include <string.h>

#include "storage/checksum.h"
#include "storage/layout.h"
#include "tests/support/typical.h"

/* Headers ---------------------------------------------------------------------------------------*/

static struct disk_header good_header(void)
{
    struct layout_params p = typical();
    struct layout l = must_compute(&p);
    for (int i = 0; i < 16; i++)
        l.uuid[i] = (uint8_t)(i * 17 + 1);
    l.generation = 3;
    l.instance = 4;
    l.created_ns = 5;
    struct disk_header h;
    layout_write_header(&l, &h);
    return h;
}

static void fix_sum(struct disk_header *h)
{
    h->sum = checksum64(h, 4088, 0);
}

static navmap_status read_page(const void *page, uint64_t file_bytes)
{
    struct layout l;
    int read_only = 0;
    return layout_read_header(page, file_bytes, "f", &l, &read_only);
}

static void test_header_round_trip(void **state)
{
    (void)state;
    struct layout_params p = typical();
    struct layout l = must_compute(&p), back;
    struct disk_header h = good_header();
    int read_only = 7;
    assert_int_equal(layout_read_header(&h, 65536, "f", &back, &read_only), NAVMAP_OK);
    assert_int_equal(read_only, 0);
    assert_true(back.uuid_low == UINT64_C(0x7867564534231201));
    assert_int_equal(back.generation, 3);
    assert_int_equal(back.instance, 4);
    assert_int_equal(back.created_ns, 5);
    assert_memory_equal(back.uuid, h.uuid, 16);
    memcpy(l.uuid, h.uuid, 16);
    l.uuid_low = back.uuid_low;
    l.generation = 3;
    l.instance = 4;
    l.created_ns = 5;
    assert_memory_equal(&back, &l, sizeof(l));
}

static void test_every_bit_flip_is_refused(void **state)
{
    (void)state;
    struct disk_header h = good_header();
    uint8_t *bytes = (uint8_t *)&h;
    for (unsigned bit = 0; bit < sizeof(h) * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        navmap_status status = read_page(bytes, 65536);
        if (bit < 64)
            assert_int_equal(status, NAVMAP_ENOINDEX);
        else if (bit >= 96 && bit < 112)
            assert_int_equal(status, NAVMAP_EVERSION);
        else
            assert_int_equal(status, NAVMAP_ECORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(read_page(bytes, 65536), NAVMAP_OK);
}

/* A field overwritten by someone who can compute sums. */
static void lie(size_t offset, size_t width, uint64_t value, navmap_status expected,
                const char *word)
{
    struct disk_header h = good_header();
    memcpy((uint8_t *)&h + offset, &value, width);
    fix_sum(&h);
    struct layout l;
    int read_only = 9;
    navmap_status status = layout_read_header(&h, 65536, "f", &l, &read_only);
    if (status != expected || (word != NULL && strstr(navmap_error_detail(), word) == NULL))
        fail_msg("offset %zu = %" PRIu64 ": %s (%s)", offset, value, navmap_strerror(status),
                 navmap_error_detail());
    if (status != NAVMAP_OK)
        assert_int_equal(read_only, 9); /* written on success only */
}

#define LIE(field, value, expected)                                                                \
    lie(offsetof(struct disk_header, field), sizeof(((struct disk_header *)0)->field), value,      \
        expected, #field)

static void test_fields_that_lie(void **state)
{
    (void)state;
    static const uint64_t tries[] = {0,     1,         2,          63,        64,        4096,
                                     65536, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};
    /* Derived, so every value but one is a lie. */
    static const struct {
        const char *name;
        size_t offset, width;
    } derived[] = {
#define FIELD(f) {#f, offsetof(struct disk_header, f), sizeof(((struct disk_header *)0)->f)}
        FIELD(header_bytes), FIELD(M0),          FIELD(uppers_per_chunk), FIELD(chunk_bytes),
        FIELD(vec_stride),   FIELD(row_stride),  FIELD(upper_stride),     FIELD(tag_stride),
        FIELD(off_state),    FIELD(off_row),     FIELD(off_upper),        FIELD(off_tag),
        FIELD(off_code),     FIELD(off_vec),     FIELD(code_stride),      FIELD(file_bytes),
        FIELD(label_offset), FIELD(label_count), FIELD(sums_offset),
#undef FIELD
    };
    struct disk_header h = good_header();
    unsigned lies = 0;
    for (size_t f = 0; f < sizeof(derived) / sizeof(derived[0]); f++) {
        uint64_t truth = 0;
        memcpy(&truth, (uint8_t *)&h + derived[f].offset, derived[f].width);
        for (size_t t = 0; t < sizeof(tries) / sizeof(tries[0]); t++) {
            uint64_t value = tries[t];
            if (derived[f].width == 4)
                value = (uint32_t)value;
            if (value == truth)
                continue;
            lie(derived[f].offset, derived[f].width, value, NAVMAP_ECORRUPT, derived[f].name);
            lies++;
        }
        lie(derived[f].offset, derived[f].width, truth + 1, NAVMAP_ECORRUPT, derived[f].name);
    }
    assert_true(lies > 150);

    LIE(dim, 0, NAVMAP_ECORRUPT);
    LIE(dim, 65537, NAVMAP_ECORRUPT);
    lie(offsetof(struct disk_header, dim), 4, 99, NAVMAP_OK, NULL); /* same strides: consistent */
    lie(offsetof(struct disk_header, dim), 4, 113, NAVMAP_ECORRUPT, "chunk_bytes");
    LIE(space, 3, NAVMAP_ECORRUPT);
    LIE(scalar, 2, NAVMAP_EVERSION);
    LIE(M, 0, NAVMAP_ECORRUPT);
    LIE(M, 1, NAVMAP_ECORRUPT);
    LIE(M, 513, NAVMAP_ECORRUPT);
    LIE(ef_construction, 0, NAVMAP_ECORRUPT);
    LIE(flags, 32, NAVMAP_ECORRUPT);
    LIE(flags, UINT32_MAX, NAVMAP_ECORRUPT);
    LIE(flags, HEADER_SECTION_SUMS, NAVMAP_ECORRUPT);
    LIE(flags, HEADER_FLAT, NAVMAP_ECORRUPT);
    LIE(flags, HEADER_BOUNDED, NAVMAP_ECORRUPT);
    LIE(slot_shift, 0, NAVMAP_ECORRUPT); /* means "choose" to layout_compute(), but not here */
    LIE(slot_shift, 3, NAVMAP_ECORRUPT);
    LIE(slot_shift, 17, NAVMAP_ECORRUPT);
    lie(offsetof(struct disk_header, scalar), 2, 1, NAVMAP_ECORRUPT, "chunk_bytes");
    lie(offsetof(struct disk_header, slot_shift), 4, 11, NAVMAP_ECORRUPT, "uppers_per_chunk");
    LIE(code_scheme, 3, NAVMAP_ECORRUPT);
    lie(offsetof(struct disk_header, code_scheme), 2, 1, NAVMAP_ECORRUPT, NULL);
    LIE(code_header, 1, NAVMAP_ECORRUPT);
    LIE(mu_offset, 12288, NAVMAP_EVERSION);
    lie(156, 4, 1, NAVMAP_ECORRUPT, "reserved");
    lie(208, 1, 1, NAVMAP_ECORRUPT, "reserved");
    lie(4087, 1, 0x80, NAVMAP_ECORRUPT, "reserved");
}

static void test_versions(void **state)
{
    (void)state;
    lie(8, 4, 0x04030201, NAVMAP_EVERSION, "big-endian");
    lie(8, 4, 0, NAVMAP_ECORRUPT, "byte_order");
    lie(12, 2, 0, NAVMAP_EVERSION, "found 0.0");
    lie(12, 2, 2, NAVMAP_EVERSION, "found 2.0");
    lie(16, 4, 1, NAVMAP_EVERSION, "features");
    lie(24, 4, UINT32_MAX, NAVMAP_OK, NULL); /* feat_compat: ignored */
    lie(14, 2, 1, NAVMAP_OK, NULL);          /* a later minor by itself is fine */

    struct disk_header h = good_header();
    struct layout l;
    int read_only = 0;
    h.feat_ro_compat = 0x80000000u;
    fix_sum(&h);
    assert_int_equal(layout_read_header(&h, 65536, "f", &l, &read_only), NAVMAP_OK);
    assert_int_equal(read_only, 1);

    /* What 1.0 reserves, a later minor may use. */
    h = good_header();
    h.minor = 1;
    h.reserved0 = 1;
    h.reserved1[100] = 1;
    fix_sum(&h);
    assert_int_equal(read_page(&h, 65536), NAVMAP_OK);

    memcpy(h.magic, "PK\3\4zip!", 8);
    assert_int_equal(read_page(&h, 65536), NAVMAP_ENOINDEX);
    memset(&h, 0, sizeof(h));
    assert_int_equal(read_page(&h, 65536), NAVMAP_ENOINDEX);
}

static void test_file_size(void **state)
{
    (void)state;
    struct disk_header h = good_header();
    assert_int_equal(read_page(&h, 0), NAVMAP_ECORRUPT);
    assert_int_equal(read_page(&h, 65535), NAVMAP_ECORRUPT);
    assert_non_null(strstr(navmap_error_detail(), "expected at least 65536 bytes, found 65535"));
    assert_int_equal(read_page(&h, 65536), NAVMAP_OK);
    assert_int_equal(read_page(&h, UINT64_MAX), NAVMAP_OK); /* growth that no commit came to use */
}

static void test_sealed(void **state)
{
    (void)state;
    struct disk_header good = good_header();
    uint64_t labels = 65536 + 2 * good.chunk_bytes, size = labels + 65536;
    good.flags |= HEADER_SEALED | HEADER_SECTION_SUMS;
    good.file_bytes = size;
    good.label_offset = labels;
    good.label_count = 100;
    good.sums_offset = labels + 1600;
    fix_sum(&good);
    assert_int_equal(read_page(&good, size), NAVMAP_OK);
    assert_int_equal(read_page(&good, size - 1), NAVMAP_ECORRUPT);
    assert_int_equal(read_page(&good, size + 1), NAVMAP_ECORRUPT);
#define SEALED(member, value, expected)                                                            \
    do {                                                                                           \
        struct disk_header h = good;                                                               \
        h.member = (value);                                                                        \
        fix_sum(&h);                                                                               \
        assert_int_equal(read_page(&h, size), expected);                                           \
    } while (0)
    SEALED(label_offset, 0, NAVMAP_ECORRUPT);
    SEALED(label_offset, labels + 8, NAVMAP_ECORRUPT);
    SEALED(label_offset, labels + good.chunk_bytes, NAVMAP_ECORRUPT);
    SEALED(label_offset, UINT64_MAX, NAVMAP_ECORRUPT);
    SEALED(label_count, 65536 / 16 + 1, NAVMAP_ECORRUPT);
    SEALED(label_count, UINT64_MAX, NAVMAP_ECORRUPT);
    SEALED(label_count, UINT64_MAX / 16 + 2, NAVMAP_ECORRUPT); /* times 16 wraps to 16 */
    SEALED(label_count, 101, NAVMAP_ECORRUPT);                 /* runs into the sums */
    SEALED(sums_offset, 0, NAVMAP_ECORRUPT);
    SEALED(sums_offset, labels + 1601, NAVMAP_ECORRUPT);
    SEALED(sums_offset, size + 8, NAVMAP_ECORRUPT);
    SEALED(flags, HEADER_SEALED, NAVMAP_ECORRUPT); /* sums_offset without the flag */
    SEALED(flags, good.flags | HEADER_FLAT | HEADER_BOUNDED, NAVMAP_OK);
    SEALED(flags, good.flags | 32, NAVMAP_ECORRUPT);
    SEALED(flags, 0, NAVMAP_ECORRUPT); /* the four fields without the flag */
#undef SEALED
}

/* Sums: each field and each byte counts. */

static void test_root_sum(void **state)
{
    (void)state;
    struct disk_root r = {.lsn = 1, .entry = 2};
    uint64_t sum = layout_root_sum(&r, 9);
    assert_true(sum != layout_root_sum(&r, 10));
    for (unsigned i = 0; i < 128; i++) {
        ((uint8_t *)&r)[i] ^= 1;
        assert_true((layout_root_sum(&r, 9) != sum) == (i < 120)); /* all but the sum itself */
        ((uint8_t *)&r)[i] ^= 1;
    }
}

static void test_vsum(void **state)
{
    (void)state;
    struct layout_params p = typical();
    p.code_scheme = 1;
    p.code_header = 8;
    struct layout l = must_compute(&p);
    l.uuid_low = 77;
    uint8_t code[128] = {1, 2, 3}, vec[448] = {4, 5, 6};
    assert_int_equal(l.code_stride, sizeof(code));
    assert_int_equal(l.vec_stride, sizeof(vec));
    uint64_t sum = layout_vsum(&l, 1, 2, 3, 4, code, vec);
    assert_true(sum == layout_vsum(&l, 1, 2, 3, 4, code, vec));
    assert_true(sum != layout_vsum(&l, 0, 2, 3, 4, code, vec));
    assert_true(sum != layout_vsum(&l, 1, 0, 3, 4, code, vec));
    assert_true(sum != layout_vsum(&l, 1, 2, 0, 4, code, vec));
    assert_true(sum != layout_vsum(&l, 1, 2, 3, 0, code, vec));
    code[127] ^= 1; /* padding counts */
    assert_true(sum != layout_vsum(&l, 1, 2, 3, 4, code, vec));
    code[127] ^= 1;
    vec[447] ^= 1;
    assert_true(sum != layout_vsum(&l, 1, 2, 3, 4, code, vec));
    vec[447] ^= 1;
    l.uuid_low = 78;
    assert_true(sum != layout_vsum(&l, 1, 2, 3, 4, code, vec));

    /* The streamed sum is the sum over the concatenation. */
    uint8_t all[20 + 128 + 448] = {1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4};
    memcpy(all + 20, code, 128);
    memcpy(all + 148, vec, 448);
    assert_true(sum == checksum64(all, sizeof(all), 77));
    /* Without codes the code row is not looked at. */
    p.code_scheme = p.code_header = 0;
    l = must_compute(&p);
    (void)layout_vsum(&l, 1, 2, 3, 4, NULL, vec);
}

static void test_words(void **state)
{
    (void)state;
    assert_int_equal(STATE_WORD(5, SLOT_DELETED), 22);
    assert_int_equal(STATE_STATUS(22), SLOT_DELETED);
    assert_int_equal(STATE_GEN(STATE_WORD(STATE_GEN_MAX, SLOT_DEAD)), STATE_GEN_MAX);
    assert_int_equal(TAG_CELL(TAG_UP(134217727u, 31)), 134217727u);
    assert_int_equal(TAG_LEVEL(TAG_UP(134217727u, 31)), 31);
    assert_true(EXTENT(3, 0xFFFFFFFFu) == UINT64_C(0x3FFFFFFFF));
    assert_int_equal(extent_chunks(EXTENT(3, 7)), 3);
    assert_int_equal(extent_slots(EXTENT(3, 7)), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_round_trip),
        cmocka_unit_test(test_every_bit_flip_is_refused),
        cmocka_unit_test(test_fields_that_lie),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_file_size),
        cmocka_unit_test(test_sealed),
        cmocka_unit_test(test_root_sum),
        cmocka_unit_test(test_vsum),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
