/* layout.h -- every byte of the data file, transcribed from FORMAT.md.
 *
 * FORMAT.md is the specification: change the text first, then the struct here, then the golden
 * file.  All integers are little endian and fixed width; reserved bytes are written zero and
 * checked to be zero.  Every derived size is recomputed at open from (dim, scalar, code_scheme,
 * code_header, M, slot_shift) with checked arithmetic and must equal the file's, so a hostile
 * header cannot choose an offset.
 */
#ifndef NAVMAP_STORAGE_LAYOUT_H
#define NAVMAP_STORAGE_LAYOUT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/status.h"

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the navmap data file is mapped in place and needs a little-endian host"
#endif
static_assert(sizeof(void *) == 8, "navmap needs a 64-bit host");

#define LAYOUT_MAJOR 1u
#define LAYOUT_MINOR 0u
#define LAYOUT_PAGE 4096u
#define LAYOUT_HEADER_OFFSET 0u
#define LAYOUT_ROOT_OFFSET 4096u
#define LAYOUT_LIVE_OFFSET 8192u
#define LAYOUT_CHUNK0_OFFSET 65536u
#define LAYOUT_CHUNK_ALIGN 65536u
#define LAYOUT_DIM_MAX 65536u
#define LAYOUT_M_MIN 2u
#define LAYOUT_M_MAX 512u
#define LAYOUT_SHIFT_MIN 4u
#define LAYOUT_SHIFT_MAX 16u
#define LAYOUT_LEVEL_MAX 31u  /* tag.up keeps the level in 5 bits */
#define LAYOUT_LEVEL_BITS 53u /* no slot has a level L with M^L > 2^53: see layout_level_most() */

extern const uint8_t layout_magic[8]; /* 89 4E 56 4D 0D 0A 1A 0A */

/* state word: bits 0-1 status, bits 2-31 generation */
enum slot_status { SLOT_FREE = 0, SLOT_LIVE = 1, SLOT_DELETED = 2, SLOT_DEAD = 3 };
#define STATE_WORD(gen, status) (((uint32_t)(gen) << 2) | (uint32_t)(status))
#define STATE_STATUS(word) ((enum slot_status)((word)&3u))
#define STATE_GEN(word) ((word) >> 2)
#define STATE_GEN_MAX ((1u << 30) - 1)

enum layout_scalar { LAYOUT_F32 = 0, LAYOUT_F16 = 1 }; /* what a vector is stored as */
static inline uint32_t layout_scalar_bytes(uint32_t scalar)
{
    return scalar == LAYOUT_F16 ? 2 : 4;
}

enum header_flag {
    HEADER_ALLOW_REPLACE_DELETED = 1u,
    HEADER_SEALED = 2u,
    HEADER_SECTION_SUMS = 4u,
    HEADER_FLAT = 8u,    /* no graph */
    HEADER_BOUNDED = 16u /* max_elements is a limit also when it is 0 */
};

#define LAYOUT_FLAGS_CHOSEN                                                                        \
    ((uint32_t)HEADER_ALLOW_REPLACE_DELETED | (uint32_t)HEADER_FLAT | (uint32_t)HEADER_BOUNDED)

struct disk_header {
    uint8_t magic[8];          /*   0 */
    uint32_t byte_order;       /*   8: 0x01020304 */
    uint16_t major, minor;     /*  12, 14 */
    uint32_t feat_incompat;    /*  16: unknown bit = refuse */
    uint32_t feat_ro_compat;   /*  20: unknown bit = read-only */
    uint32_t feat_compat;      /*  24: unknown bit = ignore */
    uint32_t header_bytes;     /*  28: 4096 */
    uint8_t uuid[16];          /*  32: of the index; the same in LMDB */
    uint64_t generation;       /*  48 */
    uint32_t dim;              /*  56 */
    uint16_t space, scalar;    /*  60, 62: 0 l2, 1 ip, 2 cosine; enum layout_scalar */
    uint32_t M, M0;            /*  64, 68: M0 = 2M */
    uint32_t ef_construction;  /*  72 */
    uint32_t flags;            /*  76: enum header_flag */
    uint64_t seed;             /*  80 */
    uint32_t slot_shift;       /*  88 */
    uint32_t uppers_per_chunk; /*  92 */
    uint64_t chunk_bytes;      /*  96 */
    uint32_t vec_stride;       /* 104 */
    uint32_t row_stride;       /* 108 */
    uint32_t upper_stride;     /* 112 */
    uint32_t tag_stride;       /* 116: 32 */
    uint32_t off_state;        /* 120: offsets are within a chunk */
    uint32_t off_row;          /* 124 */
    uint32_t off_upper;        /* 128 */
    uint32_t off_tag;          /* 132 */
    uint32_t off_code;         /* 136 */
    uint32_t off_vec;          /* 140 */
    uint16_t code_scheme;      /* 144: 0 none, 1 and 2 i8 with a scale per vector */
    uint16_t code_header;      /* 146: bytes of scale, norm, ... in a code row */
    uint32_t code_stride;      /* 148 */
    uint32_t mu_offset;        /* 152: 0 = the mean is zero */
    uint32_t reserved0;        /* 156 */
    uint64_t created_ns;       /* 160 */
    uint64_t instance;         /* 168: random per directory */
    uint64_t file_bytes;       /* 176: sealed files only, as the next four */
    uint64_t label_offset;     /* 184 */
    uint64_t label_count;      /* 192 */
    uint64_t sums_offset;      /* 200 */
    uint8_t reserved1[3880];   /* 208 */
    uint64_t sum;              /* 4088: xxh3_64(bytes 0..4087) */
};
static_assert(sizeof(struct disk_header) == 4096, "disk_header is frozen");
static_assert(offsetof(struct disk_header, generation) == 48, "disk_header.generation");
static_assert(offsetof(struct disk_header, chunk_bytes) == 96, "disk_header.chunk_bytes");
static_assert(offsetof(struct disk_header, code_scheme) == 144, "disk_header.code_scheme");
static_assert(offsetof(struct disk_header, sum) == 4088, "disk_header.sum");

struct disk_root {
    uint64_t lsn;            /*   0: of the commit that wrote this image */
    uint64_t entry;          /*   8: level<<32 | slot; slot 0 = empty graph */
    uint64_t extent;         /*  16: nchunks<<32 | nslots (first never-used slot) */
    uint64_t nuppers;        /*  24: first never-used upper cell */
    uint64_t max_elements;   /*  32: labels allowed; 0 = grows by itself */
    uint64_t n_live;         /*  40 */
    uint64_t n_deleted;      /*  48 */
    uint64_t n_dead;         /*  56 */
    uint32_t n_free;         /*  64: FREE slots below nslots, without slot 0 */
    uint32_t n_apart;        /*  68: DELETED slots that are counted out of the graph; a hint */
    uint64_t inserted;       /*  72: publications so far */
    uint32_t curve_items;    /*  80: n_live when the curve was measured; 0 = none was */
    uint16_t curve_ef[3][6]; /*  84: ef by k (1, 10, 100), then by recall; 0 = not reached */
    uint64_t sum;            /* 120: xxh3_64(bytes 0..119, seed = low half of uuid) */
};
static_assert(sizeof(struct disk_root) == 128, "disk_root is frozen");
static_assert(offsetof(struct disk_root, n_apart) == 68, "disk_root.n_apart");
static_assert(offsetof(struct disk_root, inserted) == 72, "disk_root.inserted");
static_assert(offsetof(struct disk_root, curve_ef) == 84, "disk_root.curve_ef");
#define LAYOUT_CURVES 3u       /* of k = 1, 10, 100 */
#define LAYOUT_CURVE_POINTS 6u /* recall .80, .90, .95, .98, .99, .999 */

struct disk_live {
    uint32_t superseded;      /*  0: 1 = a newer generation was committed */
    uint32_t reserved0;       /*  4 */
    uint64_t apply_begin;     /*  8: applies begun */
    uint64_t apply_end;       /* 16: applies ended */
    uint64_t applied_lsn;     /* 24 */
    uint64_t boot_id_hash;    /* 32 */
    uint64_t writer_start_ns; /* 40 */
    uint32_t writer_pid;      /* 48 */
    uint32_t reserved1[3];    /* 52 */
};
static_assert(sizeof(struct disk_live) == 64, "disk_live is frozen");

struct disk_tag {
    uint64_t label;    /*  0 */
    uint64_t vsum;     /*  8: xxh3_64(label, slot, gen, up, code row, vector row) */
    uint32_t up;       /* 16: first upper cell<<5 | level */
    uint32_t gen;      /* 20 */
    uint64_t reserved; /* 24 */
};
static_assert(sizeof(struct disk_tag) == 32, "disk_tag is frozen");
#define TAG_UP(cell, level) (((uint32_t)(cell) << 5) | (uint32_t)(level))
#define TAG_LEVEL(up) ((up)&31u)
#define TAG_CELL(up) ((up) >> 5)

/* Sealed files only (FORMAT.md, section 9). */
struct sealed_label {
    uint64_t label; /*  0: rising from entry to entry */
    uint32_t slot;  /*  8 */
    uint32_t gen;   /* 12 */
};
static_assert(sizeof(struct sealed_label) == 16, "sealed_label is frozen");

struct disk_sum {
    uint64_t offset; /*  0: in the file */
    uint64_t bytes;  /*  8 */
    uint64_t sum;    /* 16: xxh3_64(those bytes) */
};
static_assert(sizeof(struct disk_sum) == 24, "disk_sum is frozen");
#define LAYOUT_ARRAYS 6u /* of a chunk: state, row, upper, tag, code, vec */

/* What a caller chooses. */
struct layout_params {
    uint32_t dim;             /* 1..65536 */
    uint16_t space;           /* opaque to storage; 0..2 */
    uint16_t scalar;          /* enum layout_scalar */
    uint16_t code_scheme;     /* 0, 1 or 2 */
    uint16_t code_header;     /* bytes; 0 when code_scheme is 0 */
    uint32_t M;               /* 2..512 */
    uint32_t ef_construction; /* >= 1 */
    uint32_t flags;           /* LAYOUT_FLAGS_CHOSEN at most */
    uint64_t seed;
    uint32_t slot_shift;     /* 4..16, or 0: chosen from expected_slots */
    uint64_t expected_slots; /* 0 = unknown: chunks of at most 512 KiB */
};

/* The whole geometry, in memory, derived and checked.  Copied to the heap once per open. */
struct layout {
    uint32_t dim, M, M0, ef_construction, flags;
    uint16_t space, scalar, code_scheme, code_header;
    uint32_t slot_shift, slots_per_chunk, uppers_per_chunk, level_most;
    uint32_t row_stride, upper_stride, tag_stride, code_stride, vec_stride;
    uint32_t vec_bytes; /* of a vector row, without its padding */
    uint32_t off_state, off_row, off_upper, off_tag, off_code, off_vec;
    uint64_t chunk_bytes, seed, generation, instance, created_ns;
    uint8_t uuid[16];
    uint64_t uuid_low; /* bytes 0..7 of uuid as a number: the seed of all sums */
};

/* Compute the geometry.  NAVMAP_EINVAL names the field out of range; no overflow is possible.
 * uuid, generation, instance and created_ns are left zero. */
navmap_status layout_compute(const struct layout_params *params,
                             struct layout *ret_layout) NAVMAP_MUST_USE;

/* Fill a header page from a layout whose uuid, generation, instance and created_ns are set. */
void layout_write_header(const struct layout *layout, struct disk_header *ret_header);

/* The figures that only sealed files have, in the order of the file. */
struct layout_sealed {
    uint64_t label_offset, label_count, sums_offset, file_bytes;
};
/* Fill the header page of a sealed file: the flags gain sealed and section sums. */
void layout_write_sealed(const struct layout *layout, const struct layout_sealed *sealed,
                         struct disk_header *ret_header);
/* Those of a header page that layout_read_header() has found sound. */
void layout_read_sealed(const void *page, struct layout_sealed *ret_sealed);

/* Check a header page against itself and against the file's size (magic, byte order, version,
 * features, sum, reserved bytes, limits, every derived field) and copy it out.  `path` is for the
 * message.  *ret_read_only is 1 when an unknown ro_compat feature forbids writing.
 * NAVMAP_ENOINDEX no magic, NAVMAP_EVERSION, NAVMAP_ECORRUPT names field, expected and found. */
navmap_status layout_read_header(const void *page, uint64_t file_bytes, const char *path,
                                 struct layout *ret_layout, int *ret_read_only) NAVMAP_MUST_USE;

/* Does the curve keep the rules of FORMAT.md, section 5? */
bool layout_curve_sound(const struct disk_root *root);
uint64_t layout_root_sum(const struct disk_root *root, uint64_t uuid_low);

/* vsum of a payload (FORMAT.md, "tag"): label, slot, gen, up, then code row and vector row with
 * their padding. */
uint64_t layout_vsum(const struct layout *layout, uint64_t label, uint32_t slot, uint32_t gen,
                     uint32_t up, const void *code_row, const void *vec_row);
/* The same of a vector row in two pieces: vec_bytes, and what follows them up to vec_stride, less
 * than LAYOUT_VEC_PADDING bytes. */
uint64_t layout_vsum_apart(const struct layout *layout, uint64_t label, uint32_t slot, uint32_t gen,
                           uint32_t up, const void *code_row, const void *vector,
                           const void *padding);
#define LAYOUT_VEC_PADDING 64u

/* The highest level a slot may have.  Levels are drawn with chance M^-L from 53 random bits, so a
 * higher one cannot come up; bounding it bounds what one item may change (stage.h, S2). */
static inline uint32_t layout_level_most(const struct layout *l)
{
    return l->level_most;
}

/* Largest chunk count whose slots and cells can be named in 32 and 27 bits. */
uint32_t layout_chunks_max(const struct layout *layout);

/* Where the arrays of a chunk begin, within it, and what they hold: `used` bytes, then zeros. */
struct layout_array {
    uint32_t offset;
    uint64_t used;
};
void layout_arrays(const struct layout *layout, struct layout_array ret_arrays[LAYOUT_ARRAYS]);

/* File offsets.  The slot or cell must be in bounds; no check here. */
static inline uint64_t layout_chunk_off(const struct layout *l, uint32_t chunk)
{
    return LAYOUT_CHUNK0_OFFSET + (uint64_t)chunk * l->chunk_bytes;
}
static inline uint64_t layout_slot_off(const struct layout *l, uint32_t slot, uint32_t array_off,
                                       uint32_t stride)
{
    return layout_chunk_off(l, slot >> l->slot_shift) + array_off +
           (uint64_t)(slot & (l->slots_per_chunk - 1)) * stride;
}
static inline uint64_t layout_state_off(const struct layout *l, uint32_t slot)
{
    return layout_slot_off(l, slot, l->off_state, 4);
}
static inline uint64_t layout_row_off(const struct layout *l, uint32_t slot)
{
    return layout_slot_off(l, slot, l->off_row, l->row_stride);
}
static inline uint64_t layout_tag_off(const struct layout *l, uint32_t slot)
{
    return layout_slot_off(l, slot, l->off_tag, l->tag_stride);
}
static inline uint64_t layout_code_off(const struct layout *l, uint32_t slot)
{
    return layout_slot_off(l, slot, l->off_code, l->code_stride);
}
static inline uint64_t layout_vec_off(const struct layout *l, uint32_t slot)
{
    return layout_slot_off(l, slot, l->off_vec, l->vec_stride);
}
static inline uint64_t layout_upper_off(const struct layout *l, uint32_t cell)
{
    return layout_chunk_off(l, cell / l->uppers_per_chunk) + l->off_upper +
           (uint64_t)(cell % l->uppers_per_chunk) * l->upper_stride;
}
static inline uint64_t layout_file_bytes(const struct layout *l, uint32_t nchunks)
{
    return layout_chunk_off(l, nchunks);
}
/* Bytes of a logged payload image: tag, code row, vector row, in this order. */
static inline uint32_t layout_payload_bytes(const struct layout *l)
{
    return l->tag_stride + l->code_stride + l->vec_stride;
}
static inline uint32_t extent_slots(uint64_t extent)
{
    return (uint32_t)extent;
}
static inline uint32_t extent_chunks(uint64_t extent)
{
    return (uint32_t)(extent >> 32);
}
#define EXTENT(nchunks, nslots) (((uint64_t)(nchunks) << 32) | (uint32_t)(nslots))
#define ENTRY(level, slot) (((uint64_t)(level) << 32) | (uint32_t)(slot))

#endif
