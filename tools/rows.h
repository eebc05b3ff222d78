/* rows.h -- a file of vectors, whatever its format: how many, how long, and a stretch of them.
 *
 * Formats: rows_npy.c (NumPy), rows_vecs.c (.fvecs, .bvecs, .ivecs), rows_hdf5.c (ann-benchmarks),
 * rows_index.c (indexes of navmap's and hnswlib's), rows_faiss.c, rows_usearch.c (theirs).
 *
 * V1  Sizes and counts from a file are compared with its length before they are used: a file that
 *     was cut short is refused with a sentence, never read beyond its end.
 * V2  Files are mapped, so that a matrix of float32 is used where it lies (`mapped`).  That one
 *     is cut short meanwhile is main's SIGBUS guard.
 *
 * Functions that can fail return an exit code and have said why.
 */
#ifndef NAVMAP_TOOLS_ROWS_H
#define NAVMAP_TOOLS_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/navmap.h"

struct rows {
    const char *path;   /* the caller's */
    const char *format; /* "npy", "fvecs", ... */
    uint64_t n;
    uint32_t dim;
    const float *mapped; /* all n x dim of them; NULL: use rows_read() */
    /* What the file says of how it wants to be indexed; 0 = nothing. */
    bool has_space;
    uint32_t space, M, ef_construction, codes, vectors;
    bool has_labels;     /* rows_labels() */
    navmap_index *graph; /* a file that is an index, loaded as it is, until the first rows_read() */
    const struct rows_links *links; /* another library's graph over the rows; NULL = it has none */

    const uint8_t *bytes; /* the mapped file; NULL when the format does not map it */
    size_t n_bytes;
    void *state; /* the format's own */
    int (*read)(struct rows *r, uint64_t first, uint64_t n, float *ret_vectors);
    int (*labels)(struct rows *r, uint64_t first, uint64_t n, uint64_t *ret_labels);
    /* Is row `i` one that is marked as deleted?  NULL: none is. */
    bool (*deleted)(const struct rows *r, uint64_t i);
    /* Is row `i` none at all: removed where it comes from?  NULL: none is. */
    bool (*absent)(const struct rows *r, uint64_t i);
    void (*close)(struct rows *r);
};

struct rows_links {
    uint32_t M, top, entry; /* 2 M links on level 0; the highest level, and a row that is there */
    uint32_t (*level)(const struct rows *r, uint64_t i); /* the highest of row i */
    /* Links of row i on one of its levels, at most as many as there is room for. */
    uint32_t (*row)(const struct rows *r, uint64_t i, uint32_t level, uint32_t *ret_rows);
};

struct rows_how {
    const char *format;  /* NULL = by name and content */
    const char *dataset; /* .hdf5: which; NULL = `fallback` */
    const char *fallback;
    bool has_space; /* hnswlib's files do not say which */
    uint32_t space;
    bool replace_deleted; /* of a file that is loaded */
};

/* Names of all formats, for a usage text. */
#define ROWS_FORMATS "npy, fvecs, bvecs, ivecs, hdf5, hnswlib, navmap, faiss, usearch"

/* Release with rows_close(), which is allowed on a zeroed one. */
int rows_open(const char *path, const struct rows_how *how, struct rows *ret_rows);
void rows_close(struct rows *r);
/* Rows [first, first + n), n x dim floats; in bounds. */
int rows_read(struct rows *r, uint64_t first, uint64_t n, float *ret_vectors);
int rows_labels(struct rows *r, uint64_t first, uint64_t n, uint64_t *ret_labels);

/* For the formats: map the whole file; refuse a shape: 1..65536 columns, at least one row. */
int rows_map(struct rows *r);
int rows_check_shape(const struct rows *r);
int rows_open_npy(struct rows *r);
int rows_open_vecs(struct rows *r);
int rows_open_hdf5(struct rows *r, const struct rows_how *how);
int rows_open_index(struct rows *r, const struct rows_how *how);
int rows_open_faiss(struct rows *r);
int rows_open_usearch(struct rows *r);

/* Numbers of another type than float32 in a row of columns. */
enum number { F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64 };
size_t number_bytes(enum number type);
/* `n` of them, aligned to nothing, as float32. */
void numbers_as_floats(enum number type, const uint8_t *from, uint64_t n, float *ret_floats);

/* Labels, one for each row, from a file: .npy of integers, or else text, one number a line.
 * *ret_labels is malloc'd, *ret_n numbers. */
int labels_read(const char *path, uint64_t **ret_labels, uint64_t *ret_n);

#endif
