/* images.h -- what a disk may hold after the power went at some point of a recorded trace.
 *
 * Assumption A1: sectors of 512 bytes are atomic, any subset of un-synced sectors may be missing,
 * nothing else changes.  Between syncs the kernel may write a page back at any moment, so that an
 * un-synced sector may hold *any* of the versions it had since it was last durable: the version
 * styles choose one for each sector or page on its own.  A file's un-synced size and un-synced
 * directory changes are lost or kept in the same way.
 */
#ifndef NAVMAP_TESTS_SUPPORT_IMAGES_H
#define NAVMAP_TESTS_SUPPORT_IMAGES_H

#include "tests/support/recorder.h"

enum style {
    STYLE_NONE,            /* only what was synced */
    STYLE_ALL,             /* everything: kill -9 */
    STYLE_ONE,             /* a single un-synced sector arrived */
    STYLE_ALL_BUT_ONE,     /* a single one did not */
    STYLE_SECTORS,         /* each sector of 512 bytes by a coin */
    STYLE_PAGES,           /* each page of 4 KiB by a coin */
    STYLE_SECTOR_VERSIONS, /* each sector at an age of its own */
    STYLE_PAGE_VERSIONS,   /* each page at an age of its own */
    STYLES
};
extern const char *const style_names[STYLES];

/* The state of the disk at a position of a trace. */
struct disk;
struct disk *disk_new(const struct trace *trace);
void disk_free(struct disk *d);
/* Forward to just before effect `position`. */
void disk_advance(struct disk *d, size_t position);
/* Is anything un-synced?  If not, all styles give the same image. */
bool disk_clean(const struct disk *d);
/* The step of the protocol to which the effect before the position belongs. */
enum kill_point disk_phase(const struct disk *d);

/* A directory that images are written into, one after the other, by patching what differs. */
struct images;
struct images *images_new(const char *root);
void images_free(struct images *images);
void images_write(struct images *images, const struct disk *d, enum style style, uint64_t seed);
/* R1: does STYLE_ALL at the end of the trace equal the files below `root`?  Describes the first
 * difference in `ret_why`. */
bool images_match(const struct trace *trace, const char *root, char *ret_why, size_t why_bytes);

#endif
