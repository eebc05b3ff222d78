/* findings.h -- what a check finds, one after the other, as text or as members of a JSON array. */
#ifndef NAVMAP_TOOLS_FINDINGS_H
#define NAVMAP_TOOLS_FINDINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/navmap.h"
#include "tools/json.h"
#include "tools/progress.h"

struct findings {
    const char *damage; /* what damage is called: "DAMAGE", "LEFT OUT" */
    bool as_json;
    uint64_t limit, seen; /* printed at most; all */
    struct json json;     /* as_json: in an open array */
    struct progress progress;
};

/* A navmap_report, with a struct findings as its context. */
void findings_take(void *ctx, const struct navmap_finding *finding);
/* Text: a line on those beyond the limit, and an empty one if there were any. */
void findings_close_text(const struct findings *f);
/* JSON: the member "findings_omitted". */
void findings_close_json(struct findings *f);

#endif
