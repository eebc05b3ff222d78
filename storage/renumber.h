/* renumber.h -- the items of a store under new numbers: the plan, and the bytes of each chunk.
 *
 * One routine writes whole indexes: a sealed file (seal.c), the next generation of a directory
 * (generation.c), memory (remake.c).  They differ in what stands around the chunks and in where the
 * bytes go.
 *
 * Z1  All numbers of what is written are fixed in a plan before its first byte: the slot of each
 *     item, and the cells of its upper levels.
 * Z2  A vector leaves only after it was found to match its checksum.
 * Z3  All slots get generation 0, and nothing that was dead, free or never used is written.
 */
#ifndef NAVMAP_STORAGE_RENUMBER_H
#define NAVMAP_STORAGE_RENUMBER_H

#include "storage/rewriting.h"

struct renumber {
    struct store *from;
    const struct sealing *what;
    struct layout l; /* of what is written */
    uint32_t nslots, nchunks;
    uint64_t nuppers;
    uint32_t *up;    /* [nslots] tag.up of each new slot (Z1) */
    uint32_t *owner; /* [nuppers] the new slot that owns a cell; 0 = nobody */
    uint32_t *to;    /* [slots of the store] the new slot of each old one; 0 = it is left out */
    uint32_t old_slots;
};

/* The geometry is chosen anew for what is there; dim, M, space, seed and `flags` stay, codes if it
 * is not said otherwise, and so does the uuid; the other names (generation, instance, time) are
 * left to the caller.  Filled in so far as it succeeded: to be freed in any case.  The write lock
 * is held exclusively until then. */
navmap_status renumber_make(struct renumber *p, struct store *from, const struct sealing *what,
                            uint32_t flags) NAVMAP_MUST_USE;
void renumber_free(struct renumber *p);
/* Z2: the payload of a LIVE or DELETED slot against its checksum.  NAVMAP_ECORRUPT. */
navmap_status renumber_check(struct store *s, uint32_t slot) NAVMAP_MUST_USE;
/* The slot, as it is now, of a new one. */
static inline uint32_t renumber_old(const struct renumber *p, uint32_t slot)
{
    return p->what->slots[slot - 1];
}

/* The writing, chunk by chunk. */
struct renumbering {
    const struct renumber *p;
    uint32_t number;             /* of the chunk */
    struct sealed_label *labels; /* [n] filled as slots are written */
    uint32_t *ids;               /* M0, for a row */
    float *wide;                 /* dim, for a vector of halves that gets other codes */
    uint64_t n_live;
};
navmap_status renumbering_begin(struct renumbering *c, const struct renumber *p) NAVMAP_MUST_USE;
void renumbering_end(struct renumbering *c);
/* The bytes of the next chunk into `bytes`, which are zero.  NAVMAP_EINTERRUPTED when the sealing's
 * tick says so. */
navmap_status renumbering_chunk(struct renumbering *c, uint8_t *bytes) NAVMAP_MUST_USE;
/* After the last chunk: by rising label.  NAVMAP_ECORRUPT: one label in two slots. */
navmap_status renumbering_sort(struct renumbering *c) NAVMAP_MUST_USE;
/* ROOT as it belongs to it; lsn 0, the sum not yet made. */
struct disk_root renumbering_root(const struct renumbering *c);
/* How many bytes of an array are worth writing: what follows is zeros. */
uint64_t renumbering_used(const uint8_t *bytes, uint64_t n);

#endif
