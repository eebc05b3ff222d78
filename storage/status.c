/* status.c -- names of the outcomes, and the sentence that each thread keeps of its last failure.
 *
 * The sentence lives in a fixed buffer per thread: reporting that memory ran out must not need
 * memory, and two failing threads must not mix their words.
 */
#include "storage/fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DETAIL_BYTES 512

static _Thread_local char detail[DETAIL_BYTES];

const char *navmap_strerror(int status)
{
    switch (status) {
#define NAME(code)                                                                                 \
    case code:                                                                                     \
        return #code
        NAME(NAVMAP_OK);
        NAME(NAVMAP_EINVAL);
        NAME(NAVMAP_ENOMEM);
        NAME(NAVMAP_EIO);
        NAME(NAVMAP_ENOSPC);
        NAME(NAVMAP_ELOCKED);
        NAME(NAVMAP_EFULL);
        NAME(NAVMAP_ENOTFOUND);
        NAME(NAVMAP_ECORRUPT);
        NAME(NAVMAP_EVERSION);
        NAME(NAVMAP_EREADONLY);
        NAME(NAVMAP_ENEEDSRECOVERY);
        NAME(NAVMAP_EPOISONED);
        NAME(NAVMAP_EFORKED);
        NAME(NAVMAP_ESTALE);
        NAME(NAVMAP_EFSTYPE);
        NAME(NAVMAP_EEXIST);
        NAME(NAVMAP_ENOINDEX);
        NAME(NAVMAP_EDELETED);
        NAME(NAVMAP_ENOTDELETED);
        NAME(NAVMAP_EFEWER);
        NAME(NAVMAP_EINTERRUPTED);
        NAME(NAVMAP_ECLOSED);
        NAME(NAVMAP_EREPLACE);
#undef NAME
    }
    return "unknown navmap status";
}

const char *navmap_error_detail(void)
{
    return detail;
}

navmap_status fail(navmap_status code, const char *format, ...)
{
    /* Written aside first: a caller may quote navmap_error_detail() inside its own sentence. */
    char text[DETAIL_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0)
        text[0] = '\0';
    memcpy(detail, text, strlen(text) + 1);
    return code;
}

navmap_status fail_errno(int err, int writing, const char *what, const char *path)
{
    navmap_status code = NAVMAP_EIO;
    switch (err) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        code = NAVMAP_ENOSPC;
        break;
    case ENOMEM:
        code = NAVMAP_ENOMEM;
        break;
    case EROFS:
    case EACCES:
        if (writing)
            code = NAVMAP_EREADONLY;
        break;
    default:
        break;
    }
    char text[128];
    return fail(code, "%s %s: %s", what, path, strerror_r(err, text, sizeof(text)));
}
