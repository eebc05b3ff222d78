/* target.h -- what a fuzz target is: a function that has to survive every script. */
#ifndef NAVMAP_TESTS_FUZZ_TARGET_H
#define NAVMAP_TESTS_FUZZ_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/navmap.h"

struct fuzz_target {
    const char *name; /* and that of its folder in corpus/ */
    /* Makes its images at the first call and keeps them for the process. */
    void (*run)(const uint8_t *script, size_t n);
};

extern const struct fuzz_target fuzz_data, fuzz_sealed, fuzz_hnswlib, fuzz_record;

/* A sentence and abort(), which both the fuzzer and the replay notice. */
void fuzz_check(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *fuzz_must(void *p);              /* not NULL, or abort() */
void fuzz_sound(navmap_status status); /* the harness's own calls do not fail */
/* Pass a status on; a failure must have come with a sentence. */
bool fuzz_ok(navmap_status status);
/* Was what the script made of an image opened (or loaded)?  Counted, so that a run can tell whether
 * its scripts got past the door. */
bool fuzz_taken(navmap_status status);
extern struct fuzz_tally {
    uint64_t taken, refused;
} fuzz_tally;
/* A fresh directory for this process, in memory where there is such a place; removed at exit. */
const char *fuzz_directory(void);

#endif
