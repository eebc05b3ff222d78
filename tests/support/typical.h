/* typical.h -- the layout that a plain index of 100-dimensional vectors has. */
#ifndef NAVMAP_TESTS_SUPPORT_TYPICAL_H
#define NAVMAP_TESTS_SUPPORT_TYPICAL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "storage/layout.h"

static inline struct layout_params typical(void)
{
    return (struct layout_params){.dim = 100,
                                  .space = 2,
                                  .M = 16,
                                  .ef_construction = 200,
                                  .flags = HEADER_ALLOW_REPLACE_DELETED,
                                  .seed = 100,
                                  .slot_shift = 10};
}

static inline struct layout must_compute(const struct layout_params *params)
{
    struct layout l;
    navmap_status status = layout_compute(params, &l);
    if (status != NAVMAP_OK)
        fail_msg("%s", navmap_error_detail());
    return l;
}

#endif
