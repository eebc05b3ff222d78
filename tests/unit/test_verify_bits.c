/* test_verify_bits.c -- 1,000 single bits, anywhere that a checksum covers: verify finds each, and
 * names the place.
 *
 * Of a closed directory: header, ROOT, payloads, and LMDB's values: meta records, label entries; of
 * one that a crash left: the frames of the log; of a sealed file: header, ROOT, arrays, labels,
 * sums.  The place is the section, the slot of a payload, the offset of what is summed, and of what
 * LMDB holds, which has no offset of ours, the label, the lsn, or the record's name.
 */
#include "tests/unit/planted_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/wal.h"
#include "storage/wal_env.h"
#include "tests/support/mapped.h"

#define NOWHERE UINT64_MAX
#define SPANS_MAX 8192u

/* Bytes of a file, and how a finding about them looks. */
struct span {
    uint64_t at, bytes;
    const char *section[2]; /* either */
    uint32_t slot;
    uint64_t from, to; /* the finding's offset is in [from, to); NOWHERE = it has none */
    char words[40];    /* in its message */
};

struct region {
    const char *name;
    uint8_t *image;
    const char *path; /* of the file to write, and of what verify is asked about */
    const char *index;
    size_t bytes;
    struct span *span;
    uint32_t n;
};

static struct span spans[SPANS_MAX];

static struct region region_of(const char *name, uint8_t *image, size_t bytes, const char *path,
                               const char *index)
{
    return (struct region){name, image, path, index, bytes, spans, 0};
}

static void add(struct region *r, struct span span)
{
    assert_true(r->n < SPANS_MAX);
    if (span.bytes == 0)
        return;
    assert_true(span.at + span.bytes <= r->bytes);
    r->span[r->n++] = span;
}

static uint8_t *read_file(const char *path, size_t *ret_n)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *ret_n = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*ret_n + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *ret_n, file), *ret_n);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

static bool names_it(const struct span *s)
{
    for (uint32_t i = 0; i < report.n && i < PLANTED_FINDINGS_MAX; i++) {
        const char *section = report.finding[i].section;
        const uint64_t offset = report.finding[i].offset;
        bool there = s->from == NOWHERE ? offset == NOWHERE || offset >= LAYOUT_CHUNK0_OFFSET
                                        : offset >= s->from && offset < s->to;
        bool named = strcmp(section, s->section[0]) == 0 ||
                     (s->section[1] && strcmp(section, s->section[1]) == 0);
        if (!report.finding[i].warning && there && named &&
            (s->slot == 0 || report.finding[i].slot == s->slot) &&
            strstr(report.finding[i].message, s->words))
            return true;
    }
    return false;
}

/* One bit of a span at random, verified, and put back. */
static void flip(const struct region *r, uint64_t *random)
{
    const struct span *s = &r->span[planted_random(random) % r->n];
    const uint64_t bit = planted_random(random) % (8 * s->bytes), at = s->at + bit / 8;
    FILE *file = fopen(r->path, "r+b");
    assert_non_null(file);
    for (int i = 0; i < 2; i++) {
        r->image[at] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
        assert_int_equal(fputc(r->image[at], file), r->image[at]);
        assert_int_equal(fflush(file), 0);
        if (i == 0)
            planted_verify(r->index, false, &report);
    }
    assert_int_equal(fclose(file), 0);
    if (report.status == NAVMAP_OK && report.result.damaged > 0 && names_it(s))
        return;
    planted_print(&report);
    fail_msg("%s: byte %llu, bit %u (%s, slot %u): not named", r->name, (unsigned long long)at,
             (unsigned)(bit % 8), s->section[0], s->slot);
}

static void flip_some(const struct region *r, uint32_t n)
{
    uint64_t random = planted_seed() + r->n;
    assert_true(r->n > 0);
    planted_verify(r->index, false, &report);
    assert_int_equal(report.result.damaged, 0);
    for (uint32_t i = 0; i < n; i++)
        flip(r, &random);
    planted_verify(r->index, false, &report);
    assert_int_equal(report.result.damaged, 0);
    printf("%s: %u bits of %u ranges, each found and named\n", r->name, n, r->n);
}

/* The data file --------------------------------------------------------------------------------*/

static struct region of_data(const char *name)
{
    return region_of(name, planted.data, planted.data_bytes, planted.data_path, planted.path);
}

static void test_header(void **state)
{
    (void)state;
    struct region r = of_data("header");
    add(&r, (struct span){.bytes = LAYOUT_PAGE, .section = {"header"}, .to = LAYOUT_PAGE});
    flip_some(&r, 120);
}

static void test_root(void **state)
{
    (void)state;
    struct region r = of_data("root");
    const uint64_t at = LAYOUT_ROOT_OFFSET, n = sizeof(struct disk_root);
    add(&r, (struct span){at, n, {"root"}, 0, at, at + n, ""});
    flip_some(&r, 80);
}

static void test_payloads(void **state)
{
    (void)state;
    const struct layout *l = &planted.layout;
    struct region r = of_data("payloads");
    for (uint32_t slot = 1; slot < planted_nslots(&planted); slot++) {
        const uint64_t tag = layout_tag_off(l, slot), code = layout_code_off(l, slot);
        const uint64_t vec = layout_vec_off(l, slot);
        if (STATE_STATUS(*planted_state(&planted, slot)) == SLOT_FREE)
            continue; /* not published: nobody's */
        struct span s = {tag, l->tag_stride, {"payload", "tag"}, slot, tag, tag + l->tag_stride,
                         ""};
        add(&r, s);
        s.at = code;
        s.bytes = l->code_stride;
        add(&r, s);
        s.at = vec;
        s.bytes = 4 * (uint64_t)l->dim;
        add(&r, s);
    }
    flip_some(&r, 250);
}

/* LMDB -----------------------------------------------------------------------------------------*/

enum table { META, LABELS, LOG };

static void value_span(struct region *r, enum table table, const MDB_val *key, const MDB_val *value)
{
    struct span s = {.bytes = value->mv_size, .from = NOWHERE};
    uint64_t number = 0;
    s.at = mapped_offset(r->path, value->mv_data);
    assert_true(s.at > 0);
    if (table == META) {
        s.section[0] = "meta";
        (void)snprintf(s.words, sizeof s.words, "meta.%.*s", (int)key->mv_size,
                       (const char *)key->mv_data);
    } else if (table == LABELS) {
        memcpy(&number, key->mv_data, sizeof number);
        s.section[0] = "labels";
        (void)snprintf(s.words, sizeof s.words, "label %llu", (unsigned long long)number);
    } else {
        memcpy(&number, key->mv_data, sizeof number);
        s.section[0] = "log";
        (void)snprintf(s.words, sizeof s.words, "record %llu",
                       (unsigned long long)__builtin_bswap64(number));
    }
    add(r, s);
}

static void lmdb_spans(struct region *r, enum table table)
{
    struct wal *w = NULL;
    struct wal_txn t;
    struct wal_state state;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    assert_int_equal(wal_peek_open(r->index, &w), NAVMAP_OK);
    assert_int_equal(wal_txn_read(w, &t), NAVMAP_OK);
    assert_int_equal(wal_get_state(&t, &state), NAVMAP_OK);
    MDB_dbi dbi = table == META ? w->meta : table == LOG ? w->log : w->labels[state.generation & 1];
    assert_int_equal(mdb_cursor_open(t.txn, dbi, &cursor), 0);
    for (MDB_cursor_op op = MDB_FIRST; mdb_cursor_get(cursor, &key, &value, op) == 0; op = MDB_NEXT)
        value_span(r, table, &key, &value);
    mdb_cursor_close(cursor);
    wal_txn_abort(&t);
    wal_peek_close(w);
}

static void test_lmdb(void **state)
{
    (void)state;
    struct region r =
        region_of("meta records", planted.wal, planted.wal_bytes, planted.wal_path, planted.path);
    lmdb_spans(&r, META);
    assert_int_equal(r.n, 2);
    flip_some(&r, 60);
    r.name = "label entries";
    r.n = 0;
    lmdb_spans(&r, LABELS);
    assert_int_equal(r.n, PLANTED_ITEMS);
    flip_some(&r, 120);
}

/* In a child, which ends as by a crash: its log was not checkpointed. */
static int crash(const char *path)
{
    const struct navmap_options o = {.struct_size = sizeof o, .dim = 5, .M = 4, .random_seed = 3};
    navmap_index *ix;
    uint64_t random = 11;
    float v[5];
    if (navmap_create(path, &o, &ix) != NAVMAP_OK)
        return 1;
    for (uint64_t i = 0; i < 40; i++) {
        for (uint32_t j = 0; j < 5; j++)
            v[j] = (float)(planted_random(&random) >> 40);
        if (navmap_add(ix, 1, v, &i, NULL, NULL) != NAVMAP_OK)
            return 2;
    }
    return 0;
}

static void test_log(void **state)
{
    (void)state;
    char path[96], wal_path[128];
    (void)snprintf(path, sizeof path, "%s/crashed", planted.dir);
    (void)snprintf(wal_path, sizeof wal_path, "%s/" WAL_FILE, path);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(crash(path));
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
    size_t n;
    uint8_t *image = read_file(wal_path, &n);
    struct region r = region_of("log", image, n, wal_path, path);
    lmdb_spans(&r, LOG);
    assert_true(r.n >= 40);
    flip_some(&r, 120);
    free(image);
}

/* Sealed file ----------------------------------------------------------------------------------*/

static void array_spans(struct region *r, const struct layout *l, uint32_t nchunks)
{
    static const char *const names[LAYOUT_ARRAYS] = {"state", "row",  "upper",
                                                     "tag",   "code", "vector"};
    struct layout_array arrays[LAYOUT_ARRAYS];
    layout_arrays(l, arrays);
    for (uint32_t c = 0; c < nchunks; c++)
        for (uint32_t i = 0; i < LAYOUT_ARRAYS; i++) {
            const uint64_t at = layout_chunk_off(l, c) + arrays[i].offset;
            add(r, (struct span){at, arrays[i].used, {names[i]}, 0, at, at + 1, ""});
        }
}

/* Those of single vectors name the slot besides. */
static void slot_spans(struct region *r, const struct layout *l, uint32_t nslots)
{
    for (uint32_t slot = 1; slot < nslots; slot++) {
        const uint64_t tag = layout_tag_off(l, slot), vec = layout_vec_off(l, slot);
        add(r, (struct span){vec, 4 * (uint64_t)l->dim, {"payload"}, slot, tag, tag + 1, ""});
    }
}

static void test_sealed(void **state)
{
    (void)state;
    char path[96];
    navmap_index *ix;
    struct layout l;
    struct layout_sealed at;
    struct disk_root root;
    int read_only;
    (void)snprintf(path, sizeof path, "%s/sealed", planted.dir);
    assert_int_equal(navmap_open(planted.path, NAVMAP_READ, NULL, &ix), NAVMAP_OK);
    assert_int_equal(navmap_save(ix, path), NAVMAP_OK);
    assert_int_equal(navmap_close(ix), NAVMAP_OK);
    size_t n;
    uint8_t *image = read_file(path, &n);
    assert_int_equal(layout_read_header(image, n, path, &l, &read_only), NAVMAP_OK);
    layout_read_sealed(image, &at);
    memcpy(&root, image + LAYOUT_ROOT_OFFSET, sizeof root);

    struct region r = region_of("sealed header and root", image, n, path, path);
    add(&r, (struct span){.bytes = LAYOUT_PAGE, .section = {"header"}, .to = LAYOUT_PAGE});
    add(&r, (struct span){LAYOUT_ROOT_OFFSET,
                          sizeof root,
                          {"root"},
                          0,
                          LAYOUT_ROOT_OFFSET,
                          LAYOUT_ROOT_OFFSET + sizeof root,
                          ""});
    flip_some(&r, 80);
    r.name = "sealed arrays";
    r.n = 0;
    array_spans(&r, &l, extent_chunks(root.extent));
    flip_some(&r, 80);
    r.name = "sealed vectors";
    r.n = 0;
    slot_spans(&r, &l, extent_slots(root.extent));
    flip_some(&r, 50);
    r.name = "sealed labels and sums";
    r.n = 0;
    add(&r, (struct span){at.label_offset,
                          16 * at.label_count,
                          {"labels"},
                          0,
                          at.label_offset,
                          at.label_offset + 1,
                          ""});
    add(&r, (struct span){at.sums_offset,
                          n - at.sums_offset,
                          {"sums"},
                          0,
                          at.sums_offset,
                          at.sums_offset + 1,
                          ""});
    flip_some(&r, 40);
    free(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_header, restore_index),
        cmocka_unit_test_setup(test_root, restore_index),
        cmocka_unit_test_setup(test_payloads, restore_index),
        cmocka_unit_test_setup(test_lmdb, restore_index),
        cmocka_unit_test_setup(test_log, restore_index),
        cmocka_unit_test_setup(test_sealed, restore_index),
    };
    return cmocka_run_group_tests(tests, make_index, free_index);
}
