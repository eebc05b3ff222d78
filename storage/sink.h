/* sink.h -- a file that an index is written into from front to back, and that appears as a whole.
 *
 * The counterpart of source.h: what the engine may know of such a file without naming a system
 * call.
 */
#ifndef NAVMAP_STORAGE_SINK_H
#define NAVMAP_STORAGE_SINK_H

#include <stdint.h>

#include "storage/status.h"

struct sink;

/* The next n bytes.  Buffered: what fails may be told by a later call, or by sink_save(). */
navmap_status sink_put(struct sink *sink, const void *bytes, uint64_t n) NAVMAP_MUST_USE;

/* `fill` writes a file under a temporary name beside `path`; it is synced, renamed over `path`, and
 * the directory synced.  On failure nothing was left or changed at `path`, unless it was the very
 * last sync, of its directory, that failed: then the new file is there.  Owner and mode of a file
 * that was there are kept as far as allowed.
 * NAVMAP_EINVAL  a directory is there, or something that is no regular file
 * NAVMAP_ENOINDEX its directory is not there;  NAVMAP_ENOSPC, NAVMAP_EIO, NAVMAP_ENOMEM; what
 * `fill` returns. */
typedef navmap_status sink_fill(void *ctx, struct sink *sink);
navmap_status sink_save(const char *path, sink_fill *fill, void *ctx) NAVMAP_MUST_USE;

#endif
