/* finding.c -- see finding.h. */
#include "storage/finding.h"

#include <stdarg.h>
#include <stdio.h>

bool finding_bad(struct finding *f, const char *section, uint32_t slot, uint64_t offset,
                 const char *format, ...)
{
    f->section = section;
    f->slot = slot;
    f->offset = offset;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(f->message, sizeof(f->message), format, args);
    va_end(args);
    return false;
}
