/* hnswlib_image.h -- files as hnswlib writes them, made by hand out of random graphs, for tests of
 * the importer.  The writer here knows nothing of the reader but the format (hnswlib_parse.h).
 */
#ifndef NAVMAP_TESTS_SUPPORT_HNSWLIB_IMAGE_H
#define NAVMAP_TESTS_SUPPORT_HNSWLIB_IMAGE_H

#include <stdint.h>

struct hnswlib_plan {
    uint64_t seed;
    uint32_t count, dim, M;
    uint64_t capacity; /* at least count */
    uint32_t top;      /* the highest level that is drawn */
    uint32_t every;    /* level of everybody at least */
    uint32_t deleted;  /* one in so many; 0 = nobody */
    uint32_t twins;    /* one in so many has the label of the element before; 0 = nobody */
};

/* Element i has label 3 i + 7 (but for twins), and on each of its levels a link to the next element
 * of that level, so that everybody can be reached, and others at random. */
struct hnswlib_image {
    struct hnswlib_plan plan;
    uint8_t *bytes;
    uint64_t n;
    uint64_t element_bytes, list_bytes;
    uint32_t *levels;    /* [count] */
    uint64_t *uppers_at; /* [count] where the word of its upper levels is */
    uint32_t entry;
};

void hnswlib_image_make(const struct hnswlib_plan *plan, struct hnswlib_image *ret_image);
/* BFIndex's format: no links, levels, marks and twins. */
void hnswlib_image_make_flat(const struct hnswlib_plan *plan, struct hnswlib_image *ret_image);
void hnswlib_image_free(struct hnswlib_image *im);

/* Where in the file. */
uint64_t hnswlib_image_element(const struct hnswlib_image *im, uint32_t id);
uint64_t hnswlib_image_list(const struct hnswlib_image *im, uint32_t id, uint32_t level);
uint64_t hnswlib_image_vector(const struct hnswlib_image *im, uint32_t id);
uint64_t hnswlib_image_label(const struct hnswlib_image *im, uint32_t id);

/* Little endian, `width` bytes. */
void hnswlib_image_put(struct hnswlib_image *im, uint64_t at, uint64_t value, uint32_t width);
uint64_t hnswlib_image_get(const struct hnswlib_image *im, uint64_t at, uint32_t width);

/* A file in memory with the first n bytes of the image, to be closed. */
int hnswlib_image_fd(const struct hnswlib_image *im, uint64_t n);

#endif
