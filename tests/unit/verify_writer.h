/* verify_writer.h -- an index in a fresh directory and processes that write to it: for tests that
 * check it after crashes and beside live writers.
 */
#ifndef NAVMAP_TESTS_UNIT_VERIFY_WRITER_H
#define NAVMAP_TESTS_UNIT_VERIFY_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/navmap.h"
#include "storage/io.h"
#include "tests/unit/planted.h"

extern char writer_path[80], writer_data_path[128], writer_wal_path[96];
extern struct planted_report writer_report;

/* Setup and teardown of a test. */
int writer_make_dir(void **state);
int writer_remove_dir(void **state);

/* NULL on failure. */
navmap_index *writer_create(void);
navmap_index *writer_open(void);
/* Labels [from, from + n), new or updated, in one call. */
bool writer_add(navmap_index *index, uint64_t from, uint32_t n, uint64_t *random);
/* One step of a mixed workload on labels 1000..; labels 0..59 are left alone. */
bool writer_step(navmap_index *index, uint64_t *random);

/* A child that creates the index with labels 0..59, flushes, and makes steps until it ends without
 * closing: after `stop_at` of them (< 0: never), or at the n-th hit of a kill point, by a signal
 * (0: exit code 0). */
pid_t writer_spawn(uint64_t seed, int stop_at);
pid_t writer_spawn_ending(enum kill_point point, uint32_t hit, int signal_number, uint64_t seed);
int writer_wait(pid_t child); /* how it ended */
void writer_leave_crashed(uint64_t seed);
/* Until a check from outside gets to see some items of a spawned writer. */
void writer_wait_growing(void);

/* Verify in full into writer_report; the test fails if the check cannot run. */
void writer_verify(void);
void writer_expect_damaged(uint64_t n);

uint8_t *writer_read_file(const char *name, size_t *ret_bytes); /* malloc'd */
void writer_poke(const char *name, uint64_t offset, const void *bytes, size_t n);
/* Damage the vector of slot 3 (label 2); returns the offset of its tag. */
uint64_t writer_damage_slot_3(void);
/* Change a byte in the first cell of every record in wal.mdb; the second time changes it back. */
void writer_damage_log(void);

#endif
