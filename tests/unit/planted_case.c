/* planted_case.c -- see planted_case.h. */
#include "tests/unit/planted_case.h"

#include "storage/fail.h" /* before cmocka.h, which makes fail() a macro */

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct planted planted;
struct planted_report report;

int make_index(void **state)
{
    (void)state;
    planted_make(&planted);
    return 0;
}

int free_index(void **state)
{
    (void)state;
    planted_free(&planted);
    return 0;
}

int restore_index(void **state)
{
    (void)state;
    planted_restore(&planted);
    memset(&report, 0, sizeof(report));
    return 0;
}

void run(bool quick)
{
    planted_verify(planted.path, quick, &report);
    if (report.status != NAVMAP_OK)
        planted_print(&report);
    assert_int_equal(report.status, NAVMAP_OK);
}

void expect_here(const char *section, uint32_t slot, uint64_t offset, bool alone)
{
    if (!planted_has(&report, section, slot, offset) || (alone && report.result.damaged != 1)) {
        planted_print(&report);
        fail_msg("expected damage: %s, slot %u, offset %lld%s", section, slot, (long long)offset,
                 alone ? ", alone" : "");
    }
}
