/* stats.h -- struct navmap_stats as a dict. */
#ifndef NAVMAP_BINDINGS_STATS_H
#define NAVMAP_BINDINGS_STATS_H

#include <Python.h>

#include "engine/navmap.h"

/* Every field under its own name, as an int.  A new reference, or NULL with an exception set. */
PyObject *stats_dict(const struct navmap_stats *stats);

#endif
