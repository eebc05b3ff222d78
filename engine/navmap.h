/* navmap.h -- a navigable small-world graph in a memory map: a persistent HNSW vector index.
 *
 * Two forms of one index: shared, a directory (navmap_create, navmap_open), durable, one writer and
 * many readers; and private (navmap_new, navmap_load), in this process's memory only.  navmap_save
 * writes either form as one sealed file, which navmap_load maps.
 *
 * Caveats first.
 *  - Processes: one writer and any number of readers per directory, on one host.  Readers see
 *    commits of the writer without reopening.  Network file systems are refused.
 *  - Threads: on one handle any number of threads may search, get, add, delete and update at once.
 *    navmap_close() must not run beside another call on the same handle.
 *  - fork(): a writer handle is dead in the child (NAVMAP_EFORKED); a reader handle goes on, and so
 *    does a private index, as a copy of its own.
 *  - A failed sync poisons the writer: searches go on, mutations say NAVMAP_EPOISONED until the
 *    handle is closed and the index opened again, which recovers.
 *
 * Units: dimensions and counts are elements, sizes are bytes, times are seconds.  A distance is
 * smaller when nearer: l2 is the SQUARED Euclidean distance, ip is 1 - dot product, cosine is
 * 1 - cosine (vectors are normalised when added, as hnswlib does; a zero vector has distance 1).
 * Vectors are row-major float32; NaN and infinity are refused.  Labels are any 64-bit number.
 *
 * Errors: every fallible call returns NAVMAP_OK or a negative status and then has changed nothing
 * that its comment does not name; ret_ parameters are written on success only.  The sentence is
 * in navmap_error_detail().  The library never prints, exits or aborts.
 */
#ifndef NAVMAP_ENGINE_NAVMAP_H
#define NAVMAP_ENGINE_NAVMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct navmap_index navmap_index; /* an open index; opaque; shared among threads */

enum navmap_space { NAVMAP_L2 = 0, NAVMAP_IP = 1, NAVMAP_COSINE = 2 }; /* on disk: frozen */
enum navmap_mode { NAVMAP_READ = 0, NAVMAP_WRITE = 1 };
enum navmap_durability {
    NAVMAP_FULL = 0, /* a mutating call that returned is durable and visible everywhere */
    NAVMAP_MANUAL =
        1 /* durable and visible after navmap_flush(), navmap_close(), or a full stage */
};

enum navmap_codes { /* what searches measure with on their way; what they return is exact */
                    NAVMAP_CODES_DEFAULT = 0, /* NAVMAP_CODES_I8 */
                    NAVMAP_CODES_I8 =
                        1, /* eight bits a dimension, beside the vectors: faster, dim + 8 bytes an
                                 item more, in whole lines of 64 */
                    NAVMAP_CODES_NONE = 2 /* the vectors themselves */
};
enum navmap_vectors { /* what vectors are kept as; chosen once, when an index is made */
                      NAVMAP_VECTORS_F32 = 0, /* as they are given */
                      NAVMAP_VECTORS_F16 =
                          1 /* rounded to halves, 2 bytes a dimension: IEEE binary16, 11 bits of
                               precision, numbers up to 65504.  Calls take and give floats; what a
                               search returns is exact for the rounded vectors */
};

/* Zero means the default everywhere except dim. */
struct navmap_options {
    uint32_t struct_size; /* sizeof(struct navmap_options): fields may be added */
    uint32_t dim;         /* 1..65536 */
    uint32_t space;       /* enum navmap_space */
    uint32_t M;           /* links per node and upper level, 2..512; default 16; level 0 has 2M */
    uint32_t ef_construction; /* beam width while adding; default 200; at least M is used */
    uint32_t durability;      /* enum navmap_durability */
    uint64_t random_seed;     /* of the level draw; default 100 */
    uint64_t max_elements;    /* labels allowed; 0 = the index grows by itself, but see below */
    uint32_t allow_replace_deleted; /* 0 or 1; kept in the file */
    uint32_t slot_shift; /* slots per chunk as a power of two, 4..16; default chosen by size */
    uint32_t bounded;    /* navmap_new only: 1 = max_elements is a limit also when it is 0 */
    uint32_t flat;  /* navmap_new only: 1 = no graph; every search is exact (navmap_search_exact);
                      M, ef_construction, random_seed and codes are not used */
    uint32_t codes; /* enum navmap_codes */
    uint32_t overwrite; /* navmap_create only: 1 = an index that is at the path is emptied, and
                           gets these parameters: its readers go on in the empty one, or, if dim,
                           space, M, codes or vectors is another one, get NAVMAP_ESTALE */
    uint32_t vectors;   /* enum navmap_vectors */
};

struct navmap_open_options {
    uint32_t struct_size; /* sizeof(struct navmap_open_options) */
    uint32_t durability;  /* enum navmap_durability; for NAVMAP_WRITE */
    double timeout;       /* seconds to wait for the writer lock; 0 = not at all; < 0 = for ever */
    uint64_t checkpoint_bytes; /* log size that triggers one, where everybody would have to wait for
                                  it twice that; 0 = clamp(data/4, 1 MiB, 128 MiB) */
};

/* Create a durable index, a directory, at `path`, and hold it as its writer.
 *   NAVMAP_EEXIST   something is at `path` (with `overwrite`: that is no index)
 *   NAVMAP_ELOCKED  with `overwrite`: it has another writer
 *   NAVMAP_EINVAL   an option is out of range
 *   NAVMAP_EFSTYPE  network file system;     NAVMAP_ENOSPC, NAVMAP_EIO, NAVMAP_ENOMEM
 * On failure nothing is left at `path`, unless it was the very last sync, of the parent directory,
 * that failed: then a whole, empty index may be there.  Cost: a few syncs.  Release with
 * navmap_close(). */
NAVMAP_API navmap_status navmap_create(const char *path, const struct navmap_options *options,
                                       navmap_index **ret_index) NAVMAP_MUST_USE;

/* Make a private index: in memory, growing up to max_elements labels, gone with navmap_close().
 * Every change is visible to every search that begins after the call returned.  `durability` is
 * not used.  Memory is taken as items come, not for max_elements.
 *   NAVMAP_EINVAL  an option is out of range;  NAVMAP_ENOMEM
 * Release with navmap_close(). */
NAVMAP_API navmap_status navmap_new(const struct navmap_options *options,
                                    navmap_index **ret_index) NAVMAP_MUST_USE;

/* Open an index.  `options` may be NULL.  NAVMAP_WRITE: as the one writer.  After a crash the
 * opener replays the log first (bounded: under a second); a reader does so too if it may write
 * and nobody else is the writer.  Cost otherwise: O(1), well under 5 ms.
 *   NAVMAP_ENOINDEX  nothing there, or no navmap index;  NAVMAP_EVERSION  newer format
 *   NAVMAP_ELOCKED   another writer, pid in the detail;  NAVMAP_ECORRUPT  what, where
 *   NAVMAP_EREADONLY NAVMAP_WRITE without permission;    NAVMAP_ENEEDSRECOVERY  see above */
NAVMAP_API navmap_status navmap_open(const char *path, enum navmap_mode mode,
                                     const struct navmap_open_options *options,
                                     navmap_index **ret_index) NAVMAP_MUST_USE;

/* Write the index as one regular file, the sealed form: items that are live or deleted, their rows
 * and labels, with checksums; what was replaced or removed is left out, and links through it are
 * mended.  Under a temporary name in the same directory, synced, renamed over `path`, the directory
 * synced: at `path` there is the old file or the whole new one.  Owner and mode of a file that was
 * there are kept as far as allowed.
 * Takes the write lock for its whole length: changes wait, searches go on.  A directory is saved as
 * it was last committed, the stage committed first; a handle open for reading saves only while
 * nobody writes (it becomes the writer meanwhile).
 *   NAVMAP_EINVAL   `path` is a directory, or something else that is no regular file
 *   NAVMAP_ENOINDEX its directory is not there;  NAVMAP_ELOCKED  see above
 *   NAVMAP_ESTALE   open for reading, and another index is at the handle's path by now
 *   NAVMAP_ECORRUPT an item does not match its checksum: slot and label in the detail
 *   NAVMAP_ENOSPC, NAVMAP_EIO, NAVMAP_ENOMEM: nothing was left or changed at `path`, unless it was
 *                   the very last sync, of its directory, that failed: then the new file is there
 * Cost: one pass over the index, one chunk of memory (at most 8 MiB, or 16 items), 8 bytes an item,
 * and 16 a label. */
NAVMAP_API navmap_status navmap_save(navmap_index *index, const char *path) NAVMAP_MUST_USE;

/* Called between items of a long call; a nonzero return stops it after whole items with
 * NAVMAP_EINTERRUPTED.  No lock is held, unless the comment of the call says so. */
typedef int navmap_progress(void *ctx, uint64_t done, uint64_t total);

struct navmap_save_options {
    uint32_t struct_size; /* sizeof(struct navmap_save_options) */
    uint32_t directory;   /* 1 = `path` is to be a new index directory, not one file */
    navmap_progress
        *progress; /* NULL = none; every 256 items, on the calling thread, with the write
                                  lock held: it must not change the index */
    void *progress_ctx;
    uint32_t codes; /* enum navmap_codes: what is written has them, or not; 0 = as the index */
    uint32_t reserved;
};
/* The same, telling how far it is; NAVMAP_EINTERRUPTED leaves `path` as it was.  `options` may be
 * NULL.  (A flat index is written without a call of the progress function.)  A directory gets the
 * same items, links and max_elements, and appears as a whole or not at all; NAVMAP_EEXIST when
 * something is at `path`, NAVMAP_EINVAL for a flat index. */
NAVMAP_API navmap_status navmap_save_with(navmap_index *index, const char *path,
                                          const struct navmap_save_options *options)
    NAVMAP_MUST_USE;
/* Write the index as hnswlib 0.8 does: a file that its load_index() takes, with the same labels,
 * vectors, links and marks of deletion; of a flat index, one of its BFIndex.  A search there walks
 * the same graph to the same distances.  Without codes it is the walk that navmap makes; with codes
 * a candidate at the edge of a beam may fare differently here, being compared by estimates.
 * Which items and rows go in, what may be locked meanwhile, and how the file appears at `path`: as
 * with navmap_save().  hnswlib's file does not keep the space (the reader has to know it), seed,
 * codes, and whether deleted items may be replaced.
 *   errors as of navmap_save(), NAVMAP_EINTERRUPTED; NAVMAP_EINVAL with directory or codes
 * Cost: one pass over the index, 512 KiB of memory and 8 bytes a slot. */
NAVMAP_API navmap_status navmap_export_hnswlib(navmap_index *index, const char *path,
                                               const struct navmap_save_options *options)
    NAVMAP_MUST_USE;
/* The same as navmap_save() into an open file that is empty and can be written anywhere (a memfd,
 * say); not synced.  On failure what was written is of no use. */
NAVMAP_API navmap_status navmap_save_fd(navmap_index *index, int fd) NAVMAP_MUST_USE;
/* Bring an index into memory that is mapped from files, as far as it is mapped now: call it again
 * when it has grown.  Without NAVMAP_WARM_VECTORS that is what searches walk through, rows and
 * codes, and not the vectors, which they look at for their answers only.
 *   NAVMAP_EINVAL  an unknown flag
 *   NAVMAP_ENOMEM  RLIMIT_MEMLOCK does not allow as much to be locked; some of it may be
 * Cost: reads what is not in memory yet, some seconds a GB from a disk. */
enum navmap_warm_flag {
    NAVMAP_WARM_VECTORS = 1, /* vectors and labels as well */
    NAVMAP_WARM_LOCK = 2,    /* what is brought in stays in, until the index is closed */
    /* For an index larger than memory: from now on a search tells the system which vectors it will
     * look at before it looks at the first, and they are read side by side.  Costs some 10 us a
     * query where all is in memory; a call without this flag ends it. */
    NAVMAP_WARM_ASK = 4
};
NAVMAP_API navmap_status navmap_warm(navmap_index *index, uint32_t flags) NAVMAP_MUST_USE;

/* The size in bytes of the file that navmap_save would write now. */
NAVMAP_API navmap_status navmap_file_bytes(navmap_index *index,
                                           uint64_t *ret_bytes) NAVMAP_MUST_USE;

struct navmap_load_options {
    uint32_t struct_size;  /* sizeof(struct navmap_load_options) */
    uint32_t dim;          /* what the file must have; 0 = whatever it has */
    uint32_t has_space;    /* 1 = measure by `space`, whatever the file was made for */
    uint32_t space;        /* enum navmap_space; required for hnswlib's files, which do not say */
    uint64_t max_elements; /* labels allowed from now on; below the number in the file: as stored */
    uint32_t allow_replace_deleted; /* 0 or 1, whatever the file says */
    uint32_t flat; /* what the file must be: 0 = with a graph, 1 = without (navmap_options.flat) */
    uint32_t copy; /* 1 = read it all into memory: then the file may be changed in place */
    uint32_t verify; /* 1 = check every checksum and link first, as navmap_verify does */
    uint32_t reserved[2];
};
/* Make a private index out of a file.
 * A sealed file is mapped, not read: in O(1), sharing page cache with every other process that maps
 * it.  What is changed stays in this process, as long as the file's bytes do: deleting it, or
 * renaming another over it, does no harm.  If it is cut short or overwritten in place, the next
 * call on the handle says NAVMAP_ECORRUPT (it looks at size and time of change); only a cut during
 * a call is SIGBUS.  `copy` avoids that.
 * hnswlib's own file is recognised by its header and converted, every number checked: O(n).  The
 * vectors stay as they are when `space` is another one than they were added with.
 *   NAVMAP_ENOINDEX nothing there;  NAVMAP_EVERSION  newer format, or M beyond 2..512
 *   NAVMAP_ECORRUPT neither of the two, or damaged: what, where, expected, found
 *   NAVMAP_EINVAL   a directory, or a data file in one: navmap_open is for those; another dim than
 *                   asked for; with or without a graph, other than asked for; no space given
 *   NAVMAP_EIO, NAVMAP_ENOMEM
 * Release with navmap_close(). */
NAVMAP_API navmap_status navmap_load(const char *path, const struct navmap_load_options *options,
                                     navmap_index **ret_index) NAVMAP_MUST_USE;
/* The same from an open file, which stays the caller's; `name` is for messages. */
NAVMAP_API navmap_status navmap_load_fd(int fd, const char *name,
                                        const struct navmap_load_options *options,
                                        navmap_index **ret_index) NAVMAP_MUST_USE;

/* Commit, checkpoint, release.  The handle is gone whatever is returned; a failure says that
 * changes not acknowledged before may be lost.  navmap_close(NULL) does nothing. */
NAVMAP_API navmap_status navmap_close(navmap_index *index);

struct navmap_add_options {
    uint32_t struct_size;
    uint32_t num_threads; /* 0 or 1 = the calling one; more: from the handle's crew */
    uint32_t
        replace_deleted;   /* 1 = new labels take the place of deleted items while there are any */
    uint32_t reproducible; /* 1 = the graph is the same whatever num_threads is; see below */
    navmap_progress
        *progress; /* NULL = none; on the calling thread, some 20 ms apart, at the end */
    void *progress_ctx;
};

/* Add `n` vectors (n x dim) under `labels`, or, with labels NULL, under the numbers that follow
 * the largest label present (from 0 in an empty index).  A label that is present gets the new
 * vector (a new slot; the old one is dead at once); a deleted one is undeleted and updated.  A
 * label that occurs twice in the batch keeps the later row.
 * With replace_deleted a label that is not present takes the place of some deleted item, whose own
 * label is forgotten, as long as there is one; it then needs no room under max_elements.  In an
 * index with allow_replace_deleted a deleted label is updated by such a call only.
 * Up to 4 rows a thread are added by the calling thread alone; so is a batch in which a label
 * occurs twice.
 * With `reproducible` the graph depends on the index, the seed, the rows and their order only, if
 * nobody else changes the index meanwhile: rows are added some hundreds at a time, which are linked
 * to what was there before them.  Threads share that work in a private index and in a bulk load of
 * a directory; one adds alone where rows give labels new vectors, with replace_deleted, and when a
 * directory is added to by and by.
 * A large batch of new labels, 1 MiB of codes and more, into memory or as a bulk load, is sorted
 * by what is near first (a hundredth of the time, 13 bytes a row): its rows lie by that, and are
 * linked in their own order as ever.  The progress function may be told of 0 rows meanwhile.  When
 * the call ends early, places that no row came for are free for later ones.
 * The batch is validated as a whole first: NAVMAP_EINVAL (a NaN or infinity, or, for halves, a
 * number beyond 65504: row and column in the detail; no number left for implicit labels),
 * NAVMAP_EREPLACE (the two rules above, in hnswlib's words) and NAVMAP_EFULL change nothing.  Later
 * failures (NAVMAP_ENOSPC, NAVMAP_EPOISONED, NAVMAP_ENOMEM, NAVMAP_EINTERRUPTED) leave the first
 * *ret_added rows in the index, whole; with several threads some of the rows behind may be in as
 * well.  *ret_added is written always (it may be NULL).  Algorithm: HNSW insertion, Malkov and
 * Yashunin 2018, algorithms 1, 2, 4 and 5. */
NAVMAP_API navmap_status navmap_add(navmap_index *index, uint64_t n, const float *vectors,
                                    const uint64_t *labels,
                                    const struct navmap_add_options *options,
                                    uint64_t *ret_added) NAVMAP_MUST_USE;

/* May the label be returned?  Positive = yes, 0 = no, negative = stop: the whole call ends with
 * NAVMAP_EINTERRUPTED, some of its rows written.  Asked about live items only, from any of the
 * searching threads, with no lock held: it may call anything on the same handle but navmap_close().
 * At most once per item and query, unless so few pass that an exact scan asks again. */
typedef int navmap_filter(void *ctx, uint64_t label);

/* What a call's searches did, and which ways its rows went; one that came to too little goes a
 * second way. */
struct navmap_search_counts {
    uint64_t measured; /* distances on the way, from the entry point on: of codes, or of vectors */
    uint64_t expanded; /* rows of level 0 read: nodes whose neighbours were looked at */
    uint64_t exact;    /* vectors read at the end, for the distances that are returned */
    uint64_t scanned;  /* codes, or vectors without codes, that scans compared */
    uint64_t walks;    /* through the graph, every node on the way a step */
    uint64_t hops;     /* through what passes the filter, with others as bridges only */
    uint64_t scans;    /* of all that passes */
};

typedef struct navmap_filter_set navmap_filter_set; /* see navmap_filter.h */

struct navmap_search_options {
    uint32_t struct_size;
    uint32_t ef;           /* beam width; 0 = 10; at least k is used */
    uint32_t allow_fewer;  /* 1 = a row with fewer than k results is not an error */
    uint32_t num_threads;  /* 0 or 1 = the calling one; more: rows are shared out */
    navmap_filter *filter; /* NULL = every label may be returned */
    void *filter_ctx;
    const uint64_t *allowed; /* NULL = every label; else only these, n_allowed of them, may be */
    uint64_t n_allowed;      /* in any order; unknown and repeated ones do no harm; 0 = none may */
    struct navmap_search_counts *ret_counts; /* NULL, or added to when the call ends */
    navmap_filter_set *set; /* NULL, or labels prepared for this index, in place of a list */
    navmap_filter_set *const *row_sets; /* NULL, or one for each of the nq queries, NULL among them
                                           for those that have none, in place of both */
    double target_recall; /* 0 = not used; else in the place of ef (which is 0): the one that
                             navmap_calibrate() found to reach it (navmap_recall.h) */
    double stop; /* 0 = not used; else walks end early: "Ending early" in navmap_recall.h */
};

/* The k nearest of each of nq queries (nq x dim), nearest first, ties by label: labels and
 * distances are nq x k.  ret_found (nq numbers, may be NULL) gets how many are valid; the rest of
 * a row is label UINT64_MAX and distance +inf.  `options` may be NULL.
 * With both a function and a list a label has to pass both.  When few items are listed all of them
 * are looked at, and the answer is exact.  Preparing the list is the price of each call (0.25 us a
 * label, at most some 10 ns a slot of the index), so rows that share one belong into one call.
 * Up to 4 rows a thread are answered by the calling thread alone; the answer is always the same.
 * NAVMAP_EFEWER when allow_fewer is 0 and fewer than k live items exist that are listed: at once,
 * with nothing written, when the index says so; for a row that comes short although an exact scan
 * was tried (items deleted meanwhile, or refused by the function) with all rows written; the detail
 * names the lowest such row.
 * NAVMAP_EINVAL for NaN or infinity.  Every returned pair was committed at some instant during
 * the query.  Allocates nothing after a thread's first call at this size, but for `allowed`.
 * Algorithm: HNSW search, Malkov and Yashunin 2018, algorithm 5. */
NAVMAP_API navmap_status navmap_search(navmap_index *index, uint64_t nq, const float *queries,
                                       uint64_t k, const struct navmap_search_options *options,
                                       uint64_t *ret_labels, float *ret_distances,
                                       uint64_t *ret_found) NAVMAP_MUST_USE;

/* The same by scanning every live vector, of a list every listed one: exact, O(nq * n * dim). */
NAVMAP_API navmap_status navmap_search_exact(navmap_index *index, uint64_t nq, const float *queries,
                                             uint64_t k,
                                             const struct navmap_search_options *options,
                                             uint64_t *ret_labels, float *ret_distances,
                                             uint64_t *ret_found) NAVMAP_MUST_USE;

/* Mark deleted: kept, never returned; its neighbours are linked with each other, so that few walks
 * come to it.  Cost: a fifth of an insertion.  NAVMAP_ENOTFOUND, NAVMAP_EDELETED. */
NAVMAP_API navmap_status navmap_delete(navmap_index *index, uint64_t label) NAVMAP_MUST_USE;
/* Take the mark away; it is linked as a new item is, and costs as much.  NAVMAP_ENOTFOUND,
 * NAVMAP_ENOTDELETED. */
NAVMAP_API navmap_status navmap_undelete(navmap_index *index, uint64_t label) NAVMAP_MUST_USE;

/* Forget a live label and its vector: its room under max_elements is free at once.  For flat
 * indexes, where nothing links to it (others: NAVMAP_EINVAL).  A label that goes while a
 * navmap_add() is about to update it comes back as a new one, for which there may be no room any
 * more: then NAVMAP_EFULL comes in the middle of that batch.
 * NAVMAP_ENOTFOUND for unknown and for deleted labels; NAVMAP_ENOMEM.  Cost: O(1). */
NAVMAP_API navmap_status navmap_remove(navmap_index *index, uint64_t label) NAVMAP_MUST_USE;

/* Set max_elements, up or down.  NAVMAP_EINVAL when more labels than that are present (deleted ones
 * count).  0 on a directory index lets it grow by itself.  Memory and files keep their size. */
NAVMAP_API navmap_status navmap_resize(navmap_index *index, uint64_t max_elements) NAVMAP_MUST_USE;

/* Committed vectors of n live labels, n x dim, as stored (cosine: normalised), checksums checked.
 * NAVMAP_ENOTFOUND names the first unknown or deleted label; then nothing is written. */
NAVMAP_API navmap_status navmap_get(navmap_index *index, uint64_t n, const uint64_t *labels,
                                    float *ret_vectors) NAVMAP_MUST_USE;
/* Is the label committed and live? */
NAVMAP_API navmap_status navmap_contains(navmap_index *index, uint64_t label,
                                         bool *ret_contains) NAVMAP_MUST_USE;
/* Committed labels, at most `capacity`; *ret_n is how many there are (call again if larger). */
NAVMAP_API navmap_status navmap_labels(navmap_index *index, bool include_deleted, uint64_t capacity,
                                       uint64_t *ret_labels, uint64_t *ret_n) NAVMAP_MUST_USE;

/* Commit what is staged and checkpoint: the log is empty when it returns. */
NAVMAP_API navmap_status navmap_flush(navmap_index *index) NAVMAP_MUST_USE;

struct navmap_compact_options {
    uint32_t struct_size;
    uint32_t num_threads;  /* 0 or 1 = the calling one; more: from the handle's crew */
    uint32_t keep_deleted; /* 1 = items that are marked deleted stay, marked; else they are gone */
    uint32_t keep_order;   /* 1 = items stay in the order of their slots */
    uint32_t M; /* 0 = as it is; else the graph is built anew with this one, which takes as
                              long as adding all items */
    uint32_t ef_construction;  /* with M; 0 = as it is */
    const char *output;        /* NULL = in place; else a path, and the index stays as it is */
    uint32_t output_directory; /* 1 = output is to be a new index directory; 0 = one file, as
                                  navmap_save writes it */
    uint32_t refine; /* 1 = a second pass: each item chooses its neighbours once more among all
                        others; takes about as long as adding them did */
    navmap_progress *progress; /* NULL = none; on the calling thread, some 20 ms apart.  It must not
                                  change the index (NAVMAP_EINVAL); searches are welcome */
    void *progress_ctx;
    uint32_t
        codes; /* enum navmap_codes; 0 = as they are; else the index gets them, or loses them */
    uint32_t reserved;
};
struct navmap_compact_result {
    uint32_t struct_size;               /* set by the caller */
    uint32_t log_erased;                /* 1 = the log's file was replaced too: see below */
    uint64_t items;                     /* that the index has now, deleted ones included */
    uint64_t forgotten;                 /* were marked deleted, and are gone */
    uint64_t dropped;                   /* slots that held nothing: replaced, updated, freed */
    uint64_t bytes_before, bytes_after; /* allocated, log included; 0 in memory */
};
/* Write the index anew, without what is not needed: slots of items that were replaced or updated,
 * and, unless told otherwise, ALL ITEMS THAT ARE MARKED DELETED: their labels and vectors are
 * forgotten, navmap_undelete() does not find them.  Links through them are mended, and items are
 * renumbered so that what a search looks at together lies together.
 * In place, a directory gets a new data file that takes over at one instant: a crash, a full disk
 * or a progress function that stops the call leave the index as it was.  Searches go on meanwhile,
 * in other processes too, which move to the new file by themselves; changes wait.  It needs room
 * for a second data file until the old one is let go by its last query.  A private index is written
 * into fresh memory.
 * In place, nothing of what was dropped is left in the index's files: not in the data file, which
 * is another, and not in the log, if no other handle has it open (every reader that looked a label
 * up does); else log_erased is 0, and calling again later makes up for it.
 * With `output` the index stays as it is.
 * With another M or other codes in place, the call must not run beside another one on the same
 * handle, like navmap_close(); other handles of a directory get NAVMAP_ESTALE, and are to be opened
 * again, since what they know of the index is of the past.
 * `ret_result` may be NULL.  Errors: as navmap_add, NAVMAP_EINTERRUPTED, NAVMAP_ECORRUPT for a
 * vector that does not match its checksum, NAVMAP_EEXIST when a directory is there already.
 * NAVMAP_EPOISONED: one of the two is in force, the next open will say which. */
NAVMAP_API navmap_status navmap_compact(navmap_index *index,
                                        const struct navmap_compact_options *options,
                                        struct navmap_compact_result *ret_result) NAVMAP_MUST_USE;

struct navmap_stats {
    uint32_t struct_size; /* set by the caller */
    uint32_t dim, space, M, ef_construction;
    uint32_t mode, durability, allow_replace_deleted;
    uint32_t format_major, format_minor;
    uint32_t entry_slot, entry_level;
    uint32_t writer_held, writer_pid; /* pid 0 = unknown */
    uint32_t poisoned, slots_per_chunk;
    uint32_t in_memory; /* 1 = a private index, for which also: */
    uint32_t bounded;   /* max_elements is a limit; else the index grows by itself */
    uint32_t flat;      /* it has no graph */
    uint32_t mapped;    /* it lies over a sealed file */
    uint64_t generation, random_seed, max_elements, inserted;
    uint64_t last_lsn, checkpoint_lsn, applied_lsn;
    uint64_t n_live, n_deleted, n_dead, n_free;
    uint64_t nslots, nchunks, capacity; /* capacity: slots the file has room for */
    uint64_t pending;                   /* staged, not yet committed items */
    uint64_t wal_bytes, checkpoint_bytes;
    uint64_t data_file_bytes, data_allocated_bytes, lmdb_allocated_bytes;
    uint64_t state_bytes, row_bytes, upper_bytes, tag_bytes, code_bytes, vector_bytes;
    uint32_t codes;   /* NAVMAP_CODES_I8 or NAVMAP_CODES_NONE */
    uint32_t vectors; /* enum navmap_vectors */
};
/* Instant: reads counters, visits no slot. */
NAVMAP_API navmap_status navmap_get_stats(navmap_index *index,
                                          struct navmap_stats *ret_stats) NAVMAP_MUST_USE;
/* The same about the index at `path`, from outside: nothing is recovered or written, a writer not
 * disturbed.  mode, durability, pending and poisoned are 0.  With nobody writing and last_lsn above
 * checkpoint_lsn a crash left a log; the counts are those after its replay.  Cost: O(1) + O(log).
 *   NAVMAP_ENOINDEX, NAVMAP_EVERSION, NAVMAP_ECORRUPT (navmap_verify tells more), NAVMAP_EIO */
NAVMAP_API navmap_status navmap_inspect(const char *path,
                                        struct navmap_stats *ret_stats) NAVMAP_MUST_USE;

struct navmap_finding {
    bool warning;        /* false = damage */
    const char *section; /* "header", "root", "state", "row", "upper", "payload", "labels", ... */
    uint32_t slot;       /* 0 = not of one slot */
    uint64_t offset;     /* in the data file; UINT64_MAX = none */
    const char *message; /* expected and found; valid during the call */
};
typedef void navmap_report(void *ctx, const struct navmap_finding *finding);
struct navmap_verify_result {
    uint64_t slots, rows, uppers, payloads, labels, log_records; /* looked at */
    uint64_t reachable; /* live slots found from the entry */
    uint64_t damaged, warnings;
    /* By the walk; all 0 after a quick check, as are the following. */
    uint64_t live, no_in_links, dead_links; /* as in struct navmap_check_result */
    uint64_t in_degrees[65];
};
/* Check the index at `path` from outside, also beside a live writer; writes nothing.  quick: what
 * every open checks; else every checksum, bound, link, level, label both ways, and reachability.
 * If a crash left a log, the index is checked as the replay will leave it, and a warning says so;
 * bytes that the replay overwrites are not judged.  `report` may be NULL.
 * NAVMAP_OK when the check ran: ret->damaged says the verdict.  Else why it could not run. */
NAVMAP_API navmap_status navmap_verify(const char *path, bool quick, navmap_report *report,
                                       void *ctx,
                                       struct navmap_verify_result *ret_result) NAVMAP_MUST_USE;

struct navmap_verify_options {
    uint32_t struct_size;      /* sizeof(struct navmap_verify_options) */
    uint32_t quick;            /* 1 = what every open checks */
    navmap_progress *progress; /* NULL = none; every 256 slots, rows or labels, on this thread */
    void *progress_ctx;
};
/* The same, telling how far it is; NAVMAP_EINTERRUPTED has no result.  `options` may be NULL. */
NAVMAP_API navmap_status navmap_verify_with(
    const char *path, const struct navmap_verify_options *options, navmap_report *report, void *ctx,
    struct navmap_verify_result *ret_result) NAVMAP_MUST_USE;

struct navmap_salvage_options {
    uint32_t struct_size; /* sizeof(struct navmap_salvage_options) */
    uint32_t num_threads; /* 0 or 1 = the calling one; more: they build the new graph */
    uint32_t without_log; /* 1 = leave LMDB's file alone: reading a damaged one may end the process
                             (storage/FORMAT.md, section 10) */
    uint32_t reserved;
    navmap_progress *progress; /* NULL = none; as of navmap_add(), over all items */
    void *progress_ctx;
};
struct navmap_salvage_result {
    uint32_t struct_size; /* set by the caller */
    uint32_t log_read;    /* 1 = the log was whole: no commit is missing */
    uint32_t labels_read; /* 1 = so was the label table; 0 = labels are those of the slots */
    uint32_t reserved;
    uint64_t slots;         /* published ones that were looked at */
    uint64_t live, deleted; /* items that were saved */
    uint64_t left_out;      /* that could not be */
    uint64_t warnings;
};
/* Make a new index, the directory `out`, of all that is sound in the damaged one at `path`, a
 * directory or a sealed file, which is not changed.  Nobody may be writing to it.  Taken is each
 * vector whose checksum holds, under its label, live or deleted as it was; the graph is built anew
 * from the vectors, since links carry no checksums.  If the label table is lost, labels come from
 * the slots; if the log is, so may be commits that had not reached the data file.  What is left out
 * (a finding that is no warning) and what was mended (a warning) is told to `report`, which may be
 * NULL.  With `out` NULL nothing is made, only looked and told.
 *   NAVMAP_ENOINDEX nothing is there;  NAVMAP_ELOCKED  somebody writes to it
 *   NAVMAP_EVERSION, NAVMAP_EEXIST (`out`), NAVMAP_ENOSPC, NAVMAP_EIO, NAVMAP_ENOMEM
 *   NAVMAP_ECORRUPT more than one bit of the header is wrong: no byte of the file has a meaning
 *   NAVMAP_EINTERRUPTED, and any failure after `out` was created: it holds some of the items,
 *                   whole; remove it
 * Cost: as of adding them all to a new index. */
NAVMAP_API navmap_status navmap_salvage(const char *path, const char *out,
                                        const struct navmap_salvage_options *options,
                                        navmap_report *report, void *ctx,
                                        struct navmap_salvage_result *ret_result) NAVMAP_MUST_USE;

/* What a walk over the whole graph of an open index finds. */
struct navmap_check_result {
    uint32_t struct_size; /* set by the caller */
    uint32_t max_level;
    uint64_t slots, labels;       /* looked at */
    uint64_t live, deleted, dead; /* slots in use, by status */
    uint64_t links, upper_links;  /* on level 0, and above */
    uint64_t reachable;           /* live slots that a search can come to; in a flat index all */
    uint64_t no_in_links;         /* live slots that no row of level 0 names */
    uint64_t dangling;            /* links to FREE slots or to slots below the link's level */
    uint64_t dead_links;          /* links to DEAD slots: legal until the sweep */
    uint64_t damaged, warnings;   /* findings */
    uint64_t levels[32];          /* slots in use, by their highest level */
    uint64_t degrees[65];    /* slots in use, by number of links on level 0; last: 64 and more */
    uint64_t in_degrees[65]; /* live slots, by the rows of level 0 that name them; last: as above */
};
/* Check the graph and the labels behind `index`, also beside adders: levels, degrees, links (in
 * range, not to itself, not twice, not dangling), entry point, reachability from it, counters, each
 * label's slot and each slot's label.  What changes during the check is not held against the
 * index.  Committed state only.  `report` may be NULL.  Cost: O(slots * M), some 100 ns a link.
 * NAVMAP_OK when the check ran: ret->damaged says the verdict. */
NAVMAP_API navmap_status navmap_check(navmap_index *index, navmap_report *report, void *ctx,
                                      struct navmap_check_result *ret_result) NAVMAP_MUST_USE;

/* Threads that this process can keep busy: affinity mask and cgroup quota, at least 1. */
NAVMAP_API uint32_t navmap_default_threads(void);

/* Instruction set of the distance kernels: "scalar", "avx2", "avx512" or "neon".  The best that
 * the processor has, or the one that the environment variable NAVMAP_SIMD named when the first
 * index was opened. */
NAVMAP_API const char *navmap_simd(void);

/* "0.1.0.dev0" */
NAVMAP_API const char *navmap_version(void);

#ifdef __cplusplus
}
#endif
#endif
