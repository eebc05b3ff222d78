/* salvage_ground.h -- the bytes that salvage.c judges: mapped, header mended, log replayed. */
#ifndef NAVMAP_STORAGE_SALVAGE_GROUND_H
#define NAVMAP_STORAGE_SALVAGE_GROUND_H

#include "storage/labels.h"
#include "storage/lock.h"
#include "storage/salvage.h"
#include "storage/view.h"

struct salvage_ground {
    const char *path;
    struct salvage_how how;
    struct salvage_facts facts;
    struct lock lock; /* W and R, of a directory, as far as it has a LOCK file */
    struct layout layout;
    const uint8_t *base; /* `bytes` of them: the file, or what replay made of it */
    uint64_t bytes;
    void *mapped; /* own mapping of the file; NULL = none */
    uint64_t mapped_bytes;
    struct view *replayed; /* NULL = there was no log */
};

navmap_status salvage_ground_open(struct salvage_ground *g, const char *path,
                                  const struct salvage_how *how) NAVMAP_MUST_USE;
void salvage_ground_close(struct salvage_ground *g);
/* All sound entries of the label table, by rising label.  Does what it can: facts.table_read says
 * whether it came to the end. */
void salvage_walk_labels(struct salvage_ground *g, labels_visit *visit, void *ctx);
/* warning: mended or harmless; else it counts as left out. */
void salvage_tell(struct salvage_ground *g, bool warning, const char *section, uint32_t slot,
                  uint64_t offset, const char *format, ...) __attribute__((format(printf, 6, 7)));

#endif
