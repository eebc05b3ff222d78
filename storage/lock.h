/* lock.h -- the LOCK file: who may write (W), who may open or recover (R), and fork safety.
 *
 * OFD byte-range locks (F_OFD_SETLK): byte 0 is W, byte 1 is R.  They conflict between two
 * descriptors of one process too, survive closing another descriptor of the file, and vanish with
 * the process, so nothing is ever repaired after kill -9.
 *
 * L1  W is held exactly as long as a writer handle is open.
 * L2  R is exclusive while recovering, creating or swapping, shared while opening.
 * L3  The writer takes R(ex) first, then tries W, recovers, then drops R: a reader that holds
 *     R(sh) and sees W held knows that recovery is over.
 * L4  In a forked child inherited LOCK descriptors are closed, never unlocked (an unlock would
 *     release the parent's lock); a pthread_atfork child handler does it from a fixed table.
 */
#ifndef NAVMAP_STORAGE_LOCK_H
#define NAVMAP_STORAGE_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/status.h"

struct lock {
    int fd; /* -1 = closed */
    uint64_t dev, ino;
    uint64_t epoch; /* fork_epoch() at open: in a forked child `fd` is no longer ours */
    bool writer;    /* holds W */
};

/* In a forked child every call on an inherited struct lock that can fail says NAVMAP_EFORKED, the
 * others do nothing. */

/* Open DIR/LOCK.  `create` makes it.  Opens O_RDWR where permitted, else O_RDONLY (readers need no
 * write permission).  NAVMAP_ENOINDEX when it does not exist.  Enters the fd in the fork table. */
navmap_status lock_open(const char *dir, bool create, struct lock *ret_lock) NAVMAP_MUST_USE;
void lock_close(struct lock *lock); /* releases what it holds; idempotent */

/* R, polling until `timeout_s` (seconds; 0 = at once, < 0 = for ever).  NAVMAP_ELOCKED when it
 * passes, NAVMAP_EREADONLY for the exclusive one without write permission. */
navmap_status lock_opening_shared(struct lock *lock, double timeout_s) NAVMAP_MUST_USE;
navmap_status lock_opening_exclusive(struct lock *lock, double timeout_s) NAVMAP_MUST_USE;
void lock_opening_release(struct lock *lock);

/* One try for W.  *ret_got = false when somebody else has it. */
navmap_status lock_writer_try(struct lock *lock, bool *ret_got) NAVMAP_MUST_USE;
void lock_writer_release(struct lock *lock);
/* Is W held by anybody (F_OFD_GETLK; does not take it)? */
navmap_status lock_writer_held(const struct lock *lock, bool *ret_held) NAVMAP_MUST_USE;
/* Does this very process hold W on that file through some handle? */
bool lock_writer_here(uint64_t dev, uint64_t ino);
/* Has the LOCK file been unlinked under us?  False in a forked child, which cannot know. */
bool lock_removed(const struct lock *lock);

#endif
