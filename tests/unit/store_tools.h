/* store_tools.h -- an index over store.h in a fresh directory, and items without a graph; for
 * test_store.c, test_commit_checks.c and test_open_checks.c.
 */
#ifndef NAVMAP_TESTS_UNIT_STORE_TOOLS_H
#define NAVMAP_TESTS_UNIT_STORE_TOOLS_H

#include "storage/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/fail.h" /* before cmocka.h, which makes fail() a macro */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define DIM 4u

static char dir[64], path[96];
static const struct store_options full = {.durability = STORE_FULL};
static const struct store_options manual __attribute__((unused)) = {.durability = STORE_MANUAL};

static inline int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/navmap-store-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/index", dir);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static inline struct store *create(uint64_t max_elements, const struct store_options *options)
{
    const struct layout_params p = {.dim = DIM, .M = 4, .ef_construction = 8, .slot_shift = 4};
    struct store *s = NULL;
    assert_int_equal(store_create(path, &p, max_elements, options, &s), NAVMAP_OK);
    return s;
}

static inline struct store *open_as(enum store_mode mode, const struct store_options *options)
{
    struct store *s = NULL;
    navmap_status status = store_open(path, mode, options, &s);
    if (status != NAVMAP_OK)
        print_message("%s\n", navmap_error_detail());
    assert_int_equal(status, NAVMAP_OK);
    return s;
}

/* vector = f(label, version) */
static inline void vector_of(uint64_t label, uint32_t version, float v[DIM])
{
    for (uint32_t i = 0; i < DIM; i++)
        v[i] = (float)(label % 1000) * 16 + (float)version * 4 + (float)i;
}

/* Stage one item whose row names the entry point.  Write lock held. */
static inline navmap_status stage_item(struct store *s, uint64_t label, uint32_t version,
                                       uint32_t level)
{
    struct store_item item;
    float v[DIM];
    TRY(store_item_begin(s, label, level, &item));
    vector_of(label, version, v);
    store_item_payload(s, &item, NULL, v);
    uint32_t entry = (uint32_t)store_root(s).entry;
    if (entry != 0)
        store_row_edit(s, item.slot, 0)[0] = entry;
    else
        store_entry_set(s, item.slot, item.level);
    if (item.level > 0)
        store_row_edit(s, item.slot, item.level)[0] = 1;
    store_item_end(s, &item);
    return NAVMAP_OK;
}

static inline navmap_status add(struct store *s, uint64_t label, uint32_t version, uint64_t batch)
{
    TRY(store_write_begin(s, batch));
    navmap_status status = stage_item(s, label, version, label % 8 == 0);
    store_write_end(s);
    TRY(status);
    return store_settle(s);
}

static inline navmap_status mark(struct store *s, uint64_t label, bool deleted)
{
    TRY(store_write_begin(s, 1));
    navmap_status status = store_mark(s, label, deleted);
    store_write_end(s);
    TRY(status);
    return store_settle(s);
}

static inline void check_vector(struct store *s, uint64_t label, uint32_t version)
{
    float found[DIM], expected[DIM];
    vector_of(label, version, expected);
    assert_int_equal(store_get(s, label, found), NAVMAP_OK);
    assert_memory_equal(found, expected, sizeof expected);
}

static inline void check_absent(struct store *s, uint64_t label)
{
    float found[DIM];
    assert_int_equal(store_get(s, label, found), NAVMAP_ENOTFOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
