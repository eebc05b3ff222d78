/* world.h -- the sound indexes that fuzz targets begin with, what is known of them, and the use
 * that is made of one after its bytes were changed. */
#ifndef NAVMAP_TESTS_FUZZ_WORLD_H
#define NAVMAP_TESTS_FUZZ_WORLD_H

#include "engine/navmap.h"
#include "storage/layout.h"
#include "tests/fuzz/script.h"
#include "tests/fuzz/target.h"

struct fuzz_plan {
    struct navmap_options options;
    uint32_t items;
    uint32_t updates; /* of some of them, afterwards */
    uint32_t deleted; /* one in so many; 0 = none */
};

/* Every vector that a label ever had, as navmap_get() gave it. */
struct fuzz_truth {
    uint32_t dim, n, cap;
    uint32_t kind; /* enum navmap_vectors */
    uint64_t *labels;
    float *vectors; /* n x dim */
};

/* Item i has label 3 i + 1.  `truth` is begun by the first call. */
void fuzz_fill(navmap_index *ix, const struct fuzz_plan *plan, struct fuzz_truth *truth);
/* Note what is stored under the label now. */
void fuzz_note(navmap_index *ix, uint64_t label, struct fuzz_truth *truth);
/* `dim` floats that are always the same for a number. */
const float *fuzz_vector(uint64_t number, uint32_t dim);

/* Use an index in every way that there is.  `truth` NULL: vectors may be anything.  `change`: call
 * what changes it, too. */
void fuzz_use(navmap_index *ix, const struct fuzz_truth *truth, bool change);

/* Verify and inspect it by its path: a directory, or a sealed file. */
void fuzz_look(const char *path);

/* The regions of a data or sealed file: header, ROOT, LIVE, each array of its first chunks, and
 * what is behind them; and the numbers in its head. */
void fuzz_describe(struct fuzz_image *im, const struct layout *layout);
/* Right sums for header and ROOT as they are now. */
void fuzz_sum_head(struct fuzz_image *im);
/* A right vsum for a slot, where the layout of the unchanged image has it. */
void fuzz_sum_slot(struct fuzz_image *im, const struct layout *layout, uint32_t slot);

#endif
