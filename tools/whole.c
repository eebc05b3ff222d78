/* whole.c -- a report collected in memory; see whole.h. */
#include "tools/whole.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"

int whole_begin(struct whole *w, struct json *j)
{
    *w = (struct whole){.memory = NULL};
    w->memory = open_memstream(&w->buffer, &w->size);
    if (w->memory == NULL)
        return cli_error("building the report: %s", strerror(errno));
    json_begin(j, w->memory);
    json_object(j, NULL);
    return EXIT_SOUND;
}

int whole_end(struct whole *w, struct json *j, int code)
{
    json_object_end(j);
    json_end(j);
    if (fclose(w->memory) != 0)
        code = cli_error("building the report: %s", strerror(errno));
    if (code != EXIT_UNABLE)
        fputs(w->buffer, stdout);
    free(w->buffer);
    return code;
}
