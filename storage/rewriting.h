/* rewriting.h -- a whole index written anew: what the writer is told, and where it may write to.
 *
 * Into one file (seal.h; FORMAT.md, section 9), as the next generation of a directory
 * (generation.c; section 12), or into memory (remake.c).  The engine decides which slots go in, in
 * which order, and what their rows shall be; storage knows the bytes.
 */
#ifndef NAVMAP_STORAGE_REWRITING_H
#define NAVMAP_STORAGE_REWRITING_H

#include "storage/store.h"

/* What the row of `slot` at `level` shall be: ids of slots as they are now, 0 = none, M0 or M of
 * them into ret_ids.  Ids that are not in the file, or do not reach the level, are left out. */
typedef navmap_status seal_row(void *ctx, uint32_t slot, uint32_t level, uint32_t *ret_ids);

/* Called between two pieces of work; what it returns, if not NAVMAP_OK, ends the writing. */
typedef navmap_status seal_tick(void *ctx, uint64_t done, uint64_t total);

/* Other codes than there are: what a code row shall be, a function of the vector. */
struct recoding {
    uint16_t scheme, header; /* as in struct layout_params; scheme 0 = no codes */
    void (*encode)(const float *vector, uint32_t dim, uint32_t stride, uint8_t *ret_row);
};

struct sealing {
    uint32_t n;            /* items */
    const uint32_t *slots; /* [n] LIVE or DELETED ones, in the order that they get in the file */
    uint64_t expected;     /* items that it is to grow to; 0 = those */
    uint32_t entry;        /* the entry point, one of them; 0 = none */
    seal_row *row;         /* NULL = no rows: a flat index */
    seal_tick *tick;       /* NULL = none */
    void *ctx;             /* of both */
    const struct recoding *recode; /* NULL = codes stay as they are */
    bool relinked; /* every row was chosen anew: like other codes, it ends the recall curve */
};

/* A new generation ------------------------------------------------------------------------------
 *
 *   store_rebuild_begin()   nobody changes anything any more; what was staged is committed
 *   store_generation_put()  data-<g+1> is written, synced, and becomes the index at one instant
 *   store_rebuild_end()
 *   store_generation_clear()   what is left of the old one in the log's file is removed
 *
 * Searches go on throughout, here and in other processes, and move by themselves.
 */
/* Like store_write_begin(), and no checkpoint runs either: a long time, so user code that is called
 * meanwhile is called between store_aside_begin() and store_aside_end(), where a change of the
 * same index is NAVMAP_EINVAL and not a thread that waits for itself. */
navmap_status store_rebuild_begin(struct store *s) NAVMAP_MUST_USE;
void store_rebuild_end(struct store *s);
void store_aside_begin(const struct store *s);
void store_aside_end(void);
/* `from`: the store whose items they are, `s` itself or a private one with the same dim and space.
 * If M or codes are to be others than `s` has, no other thread may use the handle (store_adopt).
 * On failure the old generation stays, and nothing is left of the new one; but NAVMAP_EPOISONED:
 * which of the two it is will be found by the next open. */
navmap_status store_generation_put(struct store *s, struct store *from,
                                   const struct sealing *what) NAVMAP_MUST_USE;
/* The old label table and log in slices; with `shrink` the log's file is replaced by a small copy
 * of itself, if no other process or handle has it open (*ret_shrunk), so that nothing of the old
 * bytes is left there.  No lock of ours is held. */
navmap_status store_generation_clear(struct store *s, bool shrink,
                                     bool *ret_shrunk) NAVMAP_MUST_USE;

/* overwrite.c: store_create() where an index is already, whose items are gone then. */
navmap_status store_overwrite(const char *path, const struct layout_params *params,
                              uint64_t max_elements, const struct store_options *options,
                              struct store **ret_store) NAVMAP_MUST_USE;

/* create.c: for who makes a directory under a temporary name.  NAVMAP_EEXIST when something is at
 * `path` already. */
navmap_status store_check_new(const char *path) NAVMAP_MUST_USE;
/* "PATH.tmp-" and a random number, to be freed. */
navmap_status store_name_temporary(const char *path, char **ret_name) NAVMAP_MUST_USE;
/* A closed index gets its name, synced: as a whole or not at all. */
navmap_status store_rename(const char *temporary, const char *path) NAVMAP_MUST_USE;
/* Remove what was made so far, if anything; gives back `status`, with the sentence that it has. */
navmap_status store_discard(const char *temporary, navmap_status status);

/* remake.c: a private index with name and flags of `s`, of the items of `from`, which is `s` itself
 * or a private one with the same dim and space.  The write lock of `s` is held exclusively. */
navmap_status store_remake(struct store *s, struct store *from, const struct sealing *what,
                           struct store **ret_private) NAVMAP_MUST_USE;
/* A private index takes over what another has, which is gone then.  Between store_rebuild_begin()
 * and store_rebuild_end().  Searches may go on meanwhile, unless M or codes are others: what every
 * call takes for granted changes then. */
void store_adopt(struct store *s, struct store *other);

#endif
