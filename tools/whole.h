/* whole.h -- a JSON report that is printed whole or not at all: a script never sees half of one. */
#ifndef NAVMAP_TOOLS_WHOLE_H
#define NAVMAP_TOOLS_WHOLE_H

#include <stddef.h>
#include <stdio.h>

#include "tools/json.h"

struct whole {
    FILE *memory;
    char *buffer;
    size_t size;
};

/* Begin a report in memory: `j` writes to it, and its outermost object is open.  An exit code. */
int whole_begin(struct whole *w, struct json *j);
/* End the object; print it unless `code` says that the command could not do its job. */
int whole_end(struct whole *w, struct json *j, int code);

#endif
