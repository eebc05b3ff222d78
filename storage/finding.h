/* finding.h -- what a check of an index has to say about one place of it.
 *
 * For the two that look at everything: verify.h, from outside, and engine/structure.h, through an
 * open handle.
 */
#ifndef NAVMAP_STORAGE_FINDING_H
#define NAVMAP_STORAGE_FINDING_H

#include <stdbool.h>
#include <stdint.h>

struct finding {
    const char *section;
    uint32_t slot;
    uint64_t offset;
    bool moving; /* log or label table and the file are at different commits: certain of nothing */
    char message[400];
};

/* Fill a finding; returns false, which is what a check that found something returns. */
bool finding_bad(struct finding *f, const char *section, uint32_t slot, uint64_t offset,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
