/* fail.h -- how code inside navmap reports an error: one sentence, one code, one return.
 *
 *     return fail(NAVMAP_ECORRUPT, "%s: header checksum: expected %016lx, found %016lx", ...);
 *
 * The sentence goes to a per-thread buffer (512 bytes, cut there); nothing is allocated.
 */
#ifndef NAVMAP_STORAGE_FAIL_H
#define NAVMAP_STORAGE_FAIL_H

#include "storage/status.h"

/* Record the sentence, return `code`. */
navmap_status fail(navmap_status code, const char *format, ...)
    __attribute__((format(printf, 2, 3), cold));

/* "WHAT PATH: strerror(err)", with the code that fits err: ENOSPC, EDQUOT and EFBIG are
 * NAVMAP_ENOSPC, ENOMEM is NAVMAP_ENOMEM, EROFS and EACCES are NAVMAP_EREADONLY when `writing`,
 * all else NAVMAP_EIO. */
navmap_status fail_errno(int err, int writing, const char *what, const char *path)
    __attribute__((cold));

/* Pass a failure on, unchanged. */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        navmap_status try_status_ = (expr);                                                        \
        if (try_status_ != NAVMAP_OK)                                                              \
            return try_status_;                                                                    \
    } while (0)

/* The same inside a function that has something to release: jumps to `fail_label` with
 * `status` set. */
#define TRY_GOTO(status, expr, fail_label)                                                         \
    do {                                                                                           \
        (status) = (expr);                                                                         \
        if ((status) != NAVMAP_OK)                                                                 \
            goto fail_label;                                                                       \
    } while (0)

#endif
