/* variants.h -- the protocol, the eighteen ways it is broken on purpose, and what breaking shows.
 *
 * A model that finds no violation proves nothing until it has been seen to find some.  Each
 * variant removes one rule at the step that keeps it; a run in which any of them goes uncaught is
 * a failed run.
 */
#ifndef NAVMAP_TESTS_MODEL_VARIANTS_H
#define NAVMAP_TESTS_MODEL_VARIANTS_H

#include <stdint.h>

enum variant {
    PROTOCOL,
    READ_TXN_RECOVERY, /* recover.c */
    APPLY_NOT_DURABLE, /* commit.c */
    NO_ENV_SYNC,       /* recover.c */
    CUT_BEFORE_SYNC,   /* checkpoint.c, recover.c */
    LATE_SAMPLE,       /* checkpoint.c */
    OLDEST_FIRST,      /* recover.c */
    DIRECT_UNSYNCED,   /* commit.c */
    DIRECT_NO_IMAGE,   /* recover.c */
    VSUM_OF_FREE,      /* recover.c */
    REUSE_DEAD,        /* items.c */
    REUSE_SAME_COMMIT, /* items.c */
    FREE_SAME_GEN,     /* items.c */
    RERANK_RELOADS,    /* reader.c */
    RERANK_UNCHECKED,  /* reader.c */
    NO_DUP_REMOVAL,    /* reader.c */
    EARLY_COUNTERS,    /* recover.c */
    ROWS_FIRST,        /* apply.c */
    COPY_OUTSIDE_LOCK, /* commit.c */
    VARIANTS
};

enum symptom {
    NO_SYMPTOM,
    /* seen by recovery itself or by the writer */
    ACK_LOST,
    NEVER_APPLIED,
    FILE_OLDER_THAN_LOG,
    LOG_HOLE,
    DIRECT_LOST,
    SOUND_REFUSED,
    ROOT_WRONG,
    POISONED,
    /* seen by comparing the recovered state with the oracle's */
    STATE_DIFFERS,
    OLDER_PAYLOAD,
    PAYLOAD_CHANGED,
    LABELS_DIFFER,
    /* seen by a query */
    WRONG_PAIR,
    FILTER_BYPASSED,
    UNCOMMITTED_SEEN,
    STALE_PAIR,
    LABEL_TWICE,
    LABEL_MISSED,
    LINK_UNPUBLISHED,
    /* the schedule did not end */
    STUCK,
    SYMPTOMS
};

enum { KNOWN_SEEDS = 3 };

struct variant_info {
    const char *name;            /* for the command line */
    const char *title;           /* for people */
    const char *guards;          /* the rule it breaks */
    uint64_t known[KNOWN_SEEDS]; /* schedules that catch it; found by running, kept by failing */
};

extern const struct variant_info variant_table[VARIANTS];
extern const char *const symptom_text[SYMPTOMS];

/* The variant of that name, or VARIANTS. */
enum variant variant_find(const char *name);

#endif
