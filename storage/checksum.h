/* checksum.h -- the only place that says XXH3: every sum on disk is made here. */
#ifndef NAVMAP_STORAGE_CHECKSUM_H
#define NAVMAP_STORAGE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline uint64_t checksum64(const void *bytes, size_t n, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, n, seed);
}

/* A sum over several ranges, in order; the same value as over their concatenation. */
struct checksum {
    XXH3_state_t state;
};

static inline void checksum_begin(struct checksum *c, uint64_t seed)
{
    XXH3_INITSTATE(&c->state);
    (void)XXH3_64bits_reset_withSeed(&c->state, seed);
}

static inline void checksum_add(struct checksum *c, const void *bytes, size_t n)
{
    (void)XXH3_64bits_update(&c->state, bytes, n);
}

static inline uint64_t checksum_end(const struct checksum *c)
{
    return XXH3_64bits_digest(&c->state);
}

#endif
