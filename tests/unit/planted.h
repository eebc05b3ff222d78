/* planted.h -- a closed index whose bytes a test may change at will, and what verify says then. */
#ifndef NAVMAP_TESTS_UNIT_PLANTED_H
#define NAVMAP_TESTS_UNIT_PLANTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/navmap.h"
#include "storage/layout.h"

#define PLANTED_DIM 7u /* leaves four bytes of padding behind a vector */
#define PLANTED_ITEMS 320u
#define PLANTED_FINDINGS_MAX 64u

struct planted {
    char dir[64], path[80], data_path[128], wal_path[96];
    uint8_t *data, *wal; /* images: `data` is changed by tests, and written by planted_write */
    uint8_t *data_sound, *wal_sound;
    size_t data_bytes, wal_bytes;
    struct layout layout;
};

/* An index in a fresh directory: all four states, several levels and chunks.  Written by another
 * process, so that nothing of it is open here. */
void planted_make(struct planted *p);
void planted_free(struct planted *p);
/* Both images and both files as they were made. */
void planted_restore(struct planted *p);
/* A whole file, malloc'd. */
uint8_t *planted_read(const char *path, size_t *ret_bytes);
/* The data image into the file (in place: same inode), `bytes` long. */
void planted_write(const struct planted *p, size_t bytes);
void planted_write_wal(const struct planted *p);

/* Into the data image. */
struct disk_header *planted_header(const struct planted *p);
struct disk_root *planted_root(const struct planted *p);
struct disk_live *planted_live(const struct planted *p);
uint32_t *planted_state(const struct planted *p, uint32_t slot);
uint32_t *planted_row(const struct planted *p, uint32_t slot);
struct disk_tag *planted_tag(const struct planted *p, uint32_t slot);
uint8_t *planted_vec(const struct planted *p, uint32_t slot);
uint32_t *planted_upper(const struct planted *p, uint32_t cell);
uint32_t planted_nslots(const struct planted *p);
/* Sums as a writer would make them, so that only the check behind them can tell. */
void planted_sum_header(const struct planted *p);
void planted_sum_root(const struct planted *p);
void planted_sum_payload(const struct planted *p, uint32_t slot);

/* The n-th slot (from 0) of a status, of at least that level; the test fails if there is none. */
uint32_t planted_find(const struct planted *p, enum slot_status status, uint32_t level, uint32_t n);
/* How many places of the row are taken. */
uint32_t planted_links(const struct planted *p, uint32_t slot);

struct planted_report {
    navmap_status status;
    struct navmap_verify_result result;
    uint32_t n; /* all that were reported; the first of them are kept */
    struct {
        bool warning;
        char section[16];
        uint32_t slot;
        uint64_t offset;
        char message[400];
    } finding[PLANTED_FINDINGS_MAX];
    void (*hook)(void *ctx, uint32_t n); /* called within the n-th report, from 1; NULL allowed */
    void *hook_ctx;
};

/* navmap_verify of `path`; r->hook and r->hook_ctx are the caller's. */
void planted_verify(const char *path, bool quick, struct planted_report *r);
/* Prints all findings, for a test that is about to fail. */
void planted_print(const struct planted_report *r);
/* Is there damage in that section, of that slot, at that offset? */
bool planted_has(const struct planted_report *r, const char *section, uint32_t slot,
                 uint64_t offset);

uint64_t planted_seed(void); /* NAVMAP_SEED or the default; printed */
uint64_t planted_random(uint64_t *state);

#endif
