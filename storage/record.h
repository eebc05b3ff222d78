/* record.h -- a commit record: after-images of cells, as bytes for the log and back.
 *
 * FORMAT.md, "commit record".  A cell's bytes are absolute: storing an image twice, or storing it
 * over anything, gives the same file.
 */
#ifndef NAVMAP_STORAGE_RECORD_H
#define NAVMAP_STORAGE_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "storage/layout.h"
#include "storage/stage.h"

enum cell_kind {
    CELL_ROOT = 1,    /* 128 B */
    CELL_PAYLOAD = 2, /* index = slot: tag, code row, vector row */
    CELL_STATE = 3,   /* slot: 4 B */
    CELL_ROW = 4,     /* slot: 4*M0 B */
    CELL_UPPER = 5,   /* upper cell: 4*M B */
    CELL_DIRECT = 6,  /* slot: {u32 gen, u32 0, u64 vsum}; is the image of its PAYLOAD */
    CELL_KINDS = 7
};

struct cell {
    uint32_t kind;
    uint32_t index;
    const void *bytes;
};

struct disk_direct {
    uint32_t gen, reserved;
    uint64_t vsum;
};
static_assert(sizeof(struct disk_direct) == 16, "disk_direct is frozen");

/* A set of images, sorted by (kind, index), each cell once. */
struct cells {
    struct cell *cell;
    uint32_t n, cap;
    uint32_t start[CELL_KINDS + 1]; /* of each kind, after cells_sort */
    struct disk_direct *direct;     /* bytes of the CELL_DIRECT of a stage */
    uint8_t *done;                  /* apply's marks, one per cell */
};

#define RECORD_HEADER_BYTES 48u
/* More than any stage can write. */
#define RECORD_BYTES_MAX ((size_t)STAGE_CELL_BYTES_MAX + (1u << 20))

uint32_t cell_bytes(const struct layout *layout, enum cell_kind kind);

/* All images of a stage, whose root is complete.  Pointers lead into the stage. */
navmap_status cells_from_stage(const struct stage *stage, struct cells *ret_cells) NAVMAP_MUST_USE;
navmap_status cells_add(struct cells *cells, uint32_t kind, uint32_t index,
                        const void *bytes) NAVMAP_MUST_USE;
/* Sort, find the kinds' starts, make room for marks. */
navmap_status cells_sort(struct cells *cells) NAVMAP_MUST_USE;
const struct cell *cells_find(const struct cells *cells, enum cell_kind kind, uint32_t index);
void cells_free(struct cells *cells);

/* The record's bytes, malloc'd. */
navmap_status record_write(const struct layout *layout, const struct cells *cells, uint64_t lsn,
                           uint8_t **ret_bytes, size_t *ret_nbytes) NAVMAP_MUST_USE;
/* Check a record as a whole (magic, length, lsn, generation, sum), then visit its cells, each
 * checked for kind, length and index < its bound.  `path` is for the message. */
struct record_bounds {
    uint64_t lsn;
    uint32_t slots, cells; /* first index out of range; 0 = take the layout's limits */
    const char *path;
};
typedef navmap_status record_visit(void *ctx, const struct cell *cell);
navmap_status record_read(const struct layout *layout, const uint8_t *bytes, size_t nbytes,
                          const struct record_bounds *bounds, record_visit *visit,
                          void *ctx) NAVMAP_MUST_USE;

#endif
