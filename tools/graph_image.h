/* graph_image.h -- an index of another library's as a file in hnswlib's format, which navmap_load()
 * takes: it checks every number, and keeps the graph.
 */
#ifndef NAVMAP_TOOLS_GRAPH_IMAGE_H
#define NAVMAP_TOOLS_GRAPH_IMAGE_H

#include "tools/rows.h"

/* The rows with r->links, into an unnamed file in `folder`, or in memory where it cannot have one.
 * `ef_construction` is what is to be used from now on; labels are the source's, or counted from 0.
 * *ret_fd is the caller's.  An exit code. */
int graph_image(struct rows *r, uint32_t ef_construction, const char *folder, int *ret_fd);

#endif
