/* script.h -- the input of all fuzz targets: which sound image to take, and what to change in it.
 *
 * A file is mostly bytes that no code looks at twice, and sums that stop whoever guesses.  So an
 * input is no file but a short script:
 *
 *     u8 base   which of the target's images, modulo their number
 *     u8 how    bits with a meaning of the target's
 *     edits of 8 bytes each, in order: {u8 where, u8 what, u16 index, u32 value}
 *
 * `where` names a region of the image modulo their number, `index` a word of it modulo theirs, and
 * `what` holds an operation (low half) and how to read `value` (high half); see script.c.  Every
 * input means something, a shorter one less, and an edit can be moved, repeated or left out.
 */
#ifndef NAVMAP_TESTS_FUZZ_SCRIPT_H
#define NAVMAP_TESTS_FUZZ_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/support/harness.h"

#define FUZZ_REGIONS 256u
#define FUZZ_NUMBERS 16u
#define FUZZ_EDIT_BYTES 8u
#define FUZZ_EDITS 40u /* what comes behind is not read */
#define FUZZ_SCRIPT_BYTES (2 + FUZZ_EDIT_BYTES * FUZZ_EDITS)
#define FUZZ_GROWTH (128u << 10) /* an image may become so much longer */

/* `count` elements, `stride` bytes apart, of `words` words of `width` (1, 2, 4 or 8) bytes. */
struct fuzz_region {
    uint64_t offset, stride, count;
    uint32_t words, width;
    bool payload; /* an element belongs to slot `first` + its number: its vsum may be made right */
    uint32_t first;
};

struct fuzz_image {
    uint8_t *bytes;
    size_t n, capacity;
    uint32_t n_regions, n_numbers;
    struct fuzz_region region[FUZZ_REGIONS];
    uint64_t number[FUZZ_NUMBERS]; /* that mean something in this image: counts, offsets, sizes */
};

struct fuzz_script {
    uint8_t base, how;
    uint32_t n_edits;
    const uint8_t *edits;
};

/* The image's bytes are a copy of `n` with room to grow. */
void fuzz_image_init(struct fuzz_image *im, const void *bytes, size_t n);
void fuzz_image_free(struct fuzz_image *im);
void fuzz_add_region(struct fuzz_image *im, uint64_t offset, uint64_t stride, uint64_t count,
                     uint32_t words, uint32_t width);
void fuzz_add_number(struct fuzz_image *im, uint64_t number);

void fuzz_read_script(const uint8_t *bytes, size_t n, struct fuzz_script *ret_script);
/* Apply the edits to `to`, a copy of `from` (same capacity and regions, bytes of its own).  `resum`
 * is called for slots whose vsum shall be right, after all edits, and may be NULL. */
typedef void fuzz_resum(struct fuzz_image *im, uint32_t slot);
/* Returns whether resum was called. */
bool fuzz_apply(const struct fuzz_script *script, const struct fuzz_image *from,
                struct fuzz_image *to, fuzz_resum *resum);

/* A random script into FUZZ_SCRIPT_BYTES; returns its length. */
size_t fuzz_random_script(struct rng *r, uint8_t *ret_bytes);
/* Change a script in place: an edit more, less, moved, or altered.  Returns its new length. */
size_t fuzz_mutate_script(struct rng *r, uint8_t *bytes, size_t n, size_t room);

#endif
