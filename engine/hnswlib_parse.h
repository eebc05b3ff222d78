/* hnswlib_parse.h -- what hnswlib's files say, checked: headers, and lists of links.
 *
 * With a graph (offset, field):
 *
 *     0 u64 offsetLevel0 (0)        24 u64 size_data_per_element   56 u64 maxM (M)
 *     8 u64 max_elements            32 u64 label_offset            64 u64 maxM0 (2 M)
 *    16 u64 cur_element_count       40 u64 offsetData              72 u64 M
 *    48 i32 maxlevel (-1: empty)    52 u32 enterpoint (its id)     80 f64 mult (1 / ln M)
 *    88 u64 ef_construction
 *    96 for each element: u16 links, u8 1 = deleted, u8 0, u32[2 M] ids, f32[dim], u64 label
 *       then for each:    u32 bytes that follow; for each level from 1 on: u16 links, u16 0, u32[M]
 *
 * Without: 0 u64 max_elements, 8 u64 bytes of a row, 16 u64 rows in use, 24 max_elements rows of
 * f32[dim], u64 label.
 *
 * H1  A number from the file is used only after it was compared with what it may be; what is
 *     allocated is in proportion to bytes that the file has been seen to have.
 * H2  hnswlib writes no link to the element itself, none twice, and none to an element that does
 *     not reach the level: in files of every kind (built by several threads, updated, replaced,
 *     resized) none was ever seen.  Such a link is damage.
 */
#ifndef NAVMAP_ENGINE_HNSWLIB_PARSE_H
#define NAVMAP_ENGINE_HNSWLIB_PARSE_H

#include <stdint.h>
#include <string.h>

#include "storage/layout.h"
#include "storage/status.h"

/* hnswlib's words for it, which its users may look for. */
#define HNSWLIB_REFUSED "Index seems to be corrupted or unsupported"

struct hnswlib_head {
    uint64_t capacity;
    uint32_t count; /* elements; ids are below it */
    uint32_t dim;
    uint64_t element_bytes; /* of an element on level 0, or of a row */
    /* with a graph: */
    uint32_t M, ef_construction;
    uint32_t top, entry;    /* the highest level and who has it; count > 0 */
    uint64_t list_bytes;    /* of an element on one of its levels above */
    uint64_t vector_offset; /* in an element */
};

/* `head` is the whole header.  NAVMAP_EVERSION, NAVMAP_ECORRUPT. */
navmap_status hnswlib_parse_graph(const uint8_t *head, uint64_t file_bytes, const char *path,
                                  struct hnswlib_head *ret_head) NAVMAP_MUST_USE;
navmap_status hnswlib_parse_flat(const uint8_t *head, uint64_t file_bytes, const char *path,
                                 struct hnswlib_head *ret_head) NAVMAP_MUST_USE;

/* Checks lists one after the other. */
struct hnswlib_lists {
    const char *path;
    const struct hnswlib_head *head;
    const uint8_t *levels;           /* of all elements */
    uint32_t mark;                   /* of the list in hand */
    uint64_t seen[4 * LAYOUT_M_MAX]; /* mark << 32 | id, by a hash of the id */
};
struct hnswlib_list {
    const uint8_t *ids;
    uint32_t n;
    uint32_t deleted; /* 0 or 1; on level 0 */
};
/* A list with the word of counts before it, as element `self` has it on a level (H2).
 * NAVMAP_ECORRUPT: element, level, expected, found. */
navmap_status hnswlib_check_list(struct hnswlib_lists *c, uint32_t self, uint32_t level,
                                 const uint8_t *list,
                                 struct hnswlib_list *ret_list) NAVMAP_MUST_USE;

static inline uint32_t hnswlib_u32(const uint8_t *bytes)
{
    uint32_t x;
    memcpy(&x, bytes, sizeof x); /* aligned to nothing */
    return x;
}
static inline uint64_t hnswlib_u64(const uint8_t *bytes)
{
    uint64_t x;
    memcpy(&x, bytes, sizeof x);
    return x;
}

#endif
