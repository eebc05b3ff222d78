/* recorder.h -- one ordered trace of everything that happened to the files below a directory.
 *
 * System calls come from interpose.h (so LMDB's are among them), stores through the shared mapping
 * and msync ranges from io_hooks.  Each effect is on its own: the trace can be cut between any
 * two, and images.h says what a disk may hold then.
 *
 * R1  The trace is whole: replayed over the snapshot it gives the files byte for byte
 *     (images_match checks it).  A store that nobody reported would break R1.
 * R2  A write with O_DSYNC is a write and then a range sync, so that the cut between exists.
 * R3  A sync that fails makes what was not durable *clean*: no later sync writes it (the kernel
 *     tells once, then forgets).  It is durable only when it is written again.
 * LMDB's lock file is not recorded: its content is worthless after a cut.
 */
#ifndef NAVMAP_TESTS_SUPPORT_RECORDER_H
#define NAVMAP_TESTS_SUPPORT_RECORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/io.h"
#include "tests/support/interpose.h"

enum effect_kind {
    EFFECT_WRITE,      /* node, off, bytes */
    EFFECT_SIZE,       /* node, off = the new size */
    EFFECT_SYNC,       /* node: bytes and size */
    EFFECT_SYNC_RANGE, /* node, off, len */
    EFFECT_DROP,       /* node: a sync failed, R3 */
    EFFECT_DROP_RANGE,
    EFFECT_LINK,     /* dir, name -> node */
    EFFECT_RENAME,   /* dir, name -> dir2, name2 */
    EFFECT_UNLINK,   /* dir, name */
    EFFECT_SYNC_DIR, /* dir */
};

#define NAME_BYTES 48

struct effect {
    enum effect_kind kind;
    enum kill_point phase; /* the last kill point passed: which step this belongs to */
    uint32_t node, dir, dir2;
    uint64_t off, len;
    uint64_t bytes; /* offset in trace.arena */
    char name[NAME_BYTES], name2[NAME_BYTES];
};

struct trace_node {
    bool is_dir;
    uint8_t *bytes; /* as found at the start */
    uint64_t size;
};

struct trace_name {
    uint32_t dir, node;
    char name[NAME_BYTES];
};
struct trace_names {
    struct trace_name *at;
    uint32_t n, cap;
};
/* Namespace operations, used by the recorder for "now" and by images for "durable". */
const struct trace_name *names_find(const struct trace_names *t, uint32_t dir, const char *name);
void names_link(struct trace_names *t, uint32_t dir, const char *name, uint32_t node);
void names_unlink(struct trace_names *t, uint32_t dir, const char *name);
void names_copy(struct trace_names *to, const struct trace_names *from);
/* Apply a LINK, RENAME or UNLINK; one that no longer fits does nothing. */
void names_apply(struct trace_names *t, const struct effect *e);

struct trace {
    struct trace_node *nodes; /* 0 is the root directory */
    uint32_t n_nodes, cap_nodes;
    struct trace_names start;
    struct effect *effects;
    size_t n, cap;
    uint8_t *arena;
    size_t arena_n, arena_cap;
};
void trace_free(struct trace *t);

/* Makes chosen calls fail.  See interpose.h for the values. */
struct injector {
    void *ctx;
    int (*before)(void *ctx, const struct sys_event *event);
    int (*after)(void *ctx, const struct sys_event *event, int64_t result);
};

/* Snapshot the tree below `root` (taken as durable) and record from now on, as the only user of
 * io_hooks and of the interposer.  `kill_point` and `injector` may be NULL. */
struct recorder;
struct recorder *recorder_start(const char *root, const struct injector *injector,
                                void (*kill_point)(void *ctx, enum kill_point point), void *ctx);
/* The machine goes on after kill -9: `root` holds what the page cache had at `position` of an
 * earlier trace (STYLE_ALL), and not all of it is durable.  The new trace begins with the old
 * effects, so that a later power cut may still lose them. */
struct recorder *recorder_continue(const char *root, const struct trace *before, size_t position);
/* Effects so far: the position of a cut that comes now. */
size_t recorder_position(const struct recorder *r);
/* End recording; the trace is the caller's. */
void recorder_stop(struct recorder *r, struct trace *ret_trace);

#endif
