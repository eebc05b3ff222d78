/* report.h -- what the engine finds when it checks an index, for navmap/report.py. */
#ifndef NAVMAP_BINDINGS_REPORT_H
#define NAVMAP_BINDINGS_REPORT_H

#include <Python.h>

#include <stdbool.h>

#include "bindings/python/src/raise.h"
#include "engine/navmap.h"

/* ({count: int or list of ints}, [(warning, section, slot, offset, message)]), or NULL with an
 * exception set.  Called with the GIL, which is released while the engine works.  The list ends
 * after its first 10,000 findings; the counts are of all. */
PyObject *report_verify(const char *path, bool quick, const struct raise_table *errors);
PyObject *report_check(navmap_index *index, const struct raise_table *errors);

#endif
