/* status.h -- the one list of outcomes that every layer, the C interface and Python share.
 *
 * Public: installed beside navmap.h.  The numbers are frozen; a new outcome takes the next one.
 * A function that returns navmap_status either succeeds (NAVMAP_OK) or has changed nothing that
 * its comment does not name, and has left a sentence for navmap_error_detail() in this thread.
 */
#ifndef NAVMAP_STORAGE_STATUS_H
#define NAVMAP_STORAGE_STATUS_H

#define NAVMAP_API __attribute__((visibility("default")))
#define NAVMAP_MUST_USE __attribute__((warn_unused_result))

typedef enum navmap_status {
    NAVMAP_OK = 0,
    NAVMAP_EINVAL = -1,     /* an argument is out of range, NaN, infinite, or of a wrong kind */
    NAVMAP_ENOMEM = -2,     /* an allocation failed; nothing was changed */
    NAVMAP_EIO = -3,        /* the system refused to read or write; detail carries errno's text */
    NAVMAP_ENOSPC = -4,     /* disk full or over quota; free space and repeat the call */
    NAVMAP_ELOCKED = -5,    /* another handle is the writer; detail names its pid */
    NAVMAP_EFULL = -6,      /* more labels than max_elements */
    NAVMAP_ENOTFOUND = -7,  /* the label is not in the index */
    NAVMAP_ECORRUPT = -8,   /* a checksum, bound or pairing check failed */
    NAVMAP_EVERSION = -9,   /* made by a newer format or with unknown features */
    NAVMAP_EREADONLY = -10, /* a mutating call on a read-only handle or file system */
    NAVMAP_ENEEDSRECOVERY = -11, /* the log must be replayed and this process may not write */
    NAVMAP_EPOISONED = -12,      /* a sync failed earlier; close and reopen to write again */
    NAVMAP_EFORKED = -13,        /* the handle was opened before fork(); open it again here */
    NAVMAP_ESTALE = -14,         /* the index was re-created under this handle; open it again */
    NAVMAP_EFSTYPE = -15,        /* network file systems are refused */
    NAVMAP_EEXIST = -16,         /* create: something is at that path already */
    NAVMAP_ENOINDEX = -17,       /* open: nothing there, or no navmap index */
    NAVMAP_EDELETED = -18,       /* delete: the label is marked deleted already */
    NAVMAP_ENOTDELETED = -19,    /* undelete: the label is not marked deleted */
    NAVMAP_EFEWER = -20,         /* search: fewer than k live, allowed items exist */
    NAVMAP_EINTERRUPTED = -21,   /* a progress or filter function asked to stop */
    NAVMAP_ECLOSED = -22,        /* the handle was closed */
    NAVMAP_EREPLACE = -23 /* add: replacing deleted items, or not, is against the index's rule */
} navmap_status;

#ifdef __cplusplus
extern "C" {
#endif

/* The name of a status, e.g. "NAVMAP_ELOCKED".  Never NULL; a static string. */
NAVMAP_API const char *navmap_strerror(int status);

/* What went wrong in the last failing call of this thread: what, where, expected, found.
 * Never NULL.  Valid until this thread's next failing call. */
NAVMAP_API const char *navmap_error_detail(void);

#ifdef __cplusplus
}
#endif
#endif
