/* planted_case.h -- the index and the report of one test program that plants damage, set up once,
 * made good before every test.
 */
#ifndef NAVMAP_TESTS_UNIT_PLANTED_CASE_H
#define NAVMAP_TESTS_UNIT_PLANTED_CASE_H

#include "tests/unit/planted.h"

extern struct planted planted;
extern struct planted_report report;

/* cmocka fixtures: of the group, and of each test. */
int make_index(void **state);
int free_index(void **state);
int restore_index(void **state);

/* Verify into `report`; the check itself must run. */
void run(bool quick);
/* Damage is reported there; `alone`: and nowhere else. */
void expect_here(const char *section, uint32_t slot, uint64_t offset, bool alone);

#endif
