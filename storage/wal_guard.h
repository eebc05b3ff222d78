/* wal_guard.h -- the guard around LMDB calls (A6), shared by wal.c and labels.c only. */
#ifndef NAVMAP_STORAGE_WAL_GUARD_H
#define NAVMAP_STORAGE_WAL_GUARD_H

#include <lmdb.h>
#include <setjmp.h>

#include "storage/fail.h"
#include "storage/wal.h"

/* gcc fears for variables that it inlined from `call` and that a longjmp may undo.  None of them is
 * read after the jump: the guard only looks at `w`, which nobody changes in between. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wclobbered"
#endif

struct wal_guard {
    jmp_buf jump;
    struct wal_guard *outer;
};
extern _Thread_local struct wal_guard *wal_guard_top;

/* The environment is unusable in this process from now on; says so. */
navmap_status wal_broken(struct wal *w);

/* Evaluate `call` (a navmap_status); an LMDB assertion inside it yields wal_broken(w). */
#define WAL_GUARDED(w, call)                                                                       \
    __extension__({                                                                                \
        struct wal_guard guard_;                                                                   \
        navmap_status guarded_;                                                                    \
        guard_.outer = wal_guard_top;                                                              \
        wal_guard_top = &guard_;                                                                   \
        if (setjmp(guard_.jump) == 0)                                                              \
            guarded_ = (call);                                                                     \
        else                                                                                       \
            guarded_ = wal_broken(w);                                                              \
        wal_guard_top = guard_.outer;                                                              \
        guarded_;                                                                                  \
    })

/* LMDB's code to ours, with "what FILE: text". Sets t->full (t may be NULL) on MDB_MAP_FULL. */
navmap_status wal_fail(struct wal *w, struct wal_txn *t, int rc, const char *what);

MDB_dbi wal_labels_dbi(const struct wal *w, uint64_t generation);
const char *wal_path(const struct wal *w);

#endif
