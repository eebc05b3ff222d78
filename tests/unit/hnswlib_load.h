/* hnswlib_load.h -- what the tests of the importer share: an image made by hand, loaded.
 *
 * Include it last: cmocka makes fail() a macro.
 */
#ifndef NAVMAP_TESTS_UNIT_HNSWLIB_LOAD_H
#define NAVMAP_TESTS_UNIT_HNSWLIB_LOAD_H

#include "engine/hnswlib_file.h"
#include "engine/index.h"
#include "tests/support/hnswlib_image.h"

#include "tests/support/engine.h"

#define WORDS "Index seems to be corrupted or unsupported: image: "

static UNUSED const struct hnswlib_plan usual = {
    .count = 400, .dim = 11, .M = 5, .capacity = 500, .top = 4, .deleted = 7};

static UNUSED struct hnswlib_plan seeded(struct hnswlib_plan plan)
{
    struct rng r = test_rng();
    plan.seed = r.state;
    return plan;
}

static UNUSED struct navmap_load_options wish(enum navmap_space space)
{
    return (struct navmap_load_options){
        .struct_size = sizeof(struct navmap_load_options), .has_space = 1, .space = space};
}

static UNUSED navmap_status load_part(const struct hnswlib_image *im, uint64_t n,
                                      const struct navmap_load_options *o, navmap_index **ret_index)
{
    int fd = hnswlib_image_fd(im, n);
    navmap_status status = hnswlib_load(fd, "image", o, ret_index);
    close(fd);
    return status;
}

static UNUSED navmap_index *load(const struct hnswlib_image *im,
                                 const struct navmap_load_options *o)
{
    navmap_index *ix = NULL;
    assert_ok(load_part(im, im->n, o, &ix));
    return ix;
}

static UNUSED void assert_sound(navmap_index *ix)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    assert_ok(navmap_check(ix, NULL, NULL, &r));
    assert_int_equal(r.damaged, 0);
}

#endif
