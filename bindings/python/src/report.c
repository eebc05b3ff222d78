/* report.c -- findings one by one as the engine names them, counts at the end. */
#include "bindings/python/src/report.h"

#include "bindings/python/src/fields.h"
#include "bindings/python/src/gil.h"

#define FINDINGS_MAX 10000u /* that are handed to Python */

struct report {
    PyThreadState *thread; /* of the call; saved while the GIL is released */
    PyObject *findings;    /* a list */
};

/* The engine calls this on the thread that asked for the check. */
static void on_finding(void *ctx, const struct navmap_finding *finding)
{
    struct report *report = ctx;
    gil_restore(report->thread); /* Y3 */
    if (!PyErr_Occurred() && PyList_Size(report->findings) < (Py_ssize_t)FINDINGS_MAX) {
        PyObject *item = Py_BuildValue("(NsIKs)", PyBool_FromLong(finding->warning),
                                       finding->section, (unsigned int)finding->slot,
                                       (unsigned long long)finding->offset, finding->message);
        if (item != NULL) {
            PyList_Append(report->findings, item); /* a failure stays set and ends the listing */
            Py_DECREF(item);
        }
    }
    report->thread = PyEval_SaveThread();
}

/* The end of both: takes the list of findings over. */
static PyObject *report_end(const struct report *report, const struct raise_table *errors,
                            navmap_status status, const void *counts, const struct field *fields,
                            size_t n)
{
    PyObject *dict = NULL;
    if (status != NAVMAP_OK && !PyErr_Occurred())
        raise_status(errors, status);
    if (!PyErr_Occurred())
        dict = fields_dict(counts, fields, n);
    if (dict != NULL)
        return Py_BuildValue("(NN)", dict, report->findings);
    Py_DECREF(report->findings);
    return NULL;
}

static const struct field VERIFY_FIELDS[] = {
    FIELD(navmap_verify_result, slots),     FIELD(navmap_verify_result, rows),
    FIELD(navmap_verify_result, uppers),    FIELD(navmap_verify_result, payloads),
    FIELD(navmap_verify_result, labels),    FIELD(navmap_verify_result, log_records),
    FIELD(navmap_verify_result, reachable), FIELD(navmap_verify_result, damaged),
    FIELD(navmap_verify_result, warnings),
};

static const struct field CHECK_FIELDS[] = {
    FIELD(navmap_check_result, max_level),  FIELD(navmap_check_result, slots),
    FIELD(navmap_check_result, labels),     FIELD(navmap_check_result, live),
    FIELD(navmap_check_result, deleted),    FIELD(navmap_check_result, dead),
    FIELD(navmap_check_result, links),      FIELD(navmap_check_result, upper_links),
    FIELD(navmap_check_result, reachable),  FIELD(navmap_check_result, no_in_links),
    FIELD(navmap_check_result, dangling),   FIELD(navmap_check_result, dead_links),
    FIELD(navmap_check_result, damaged),    FIELD(navmap_check_result, warnings),
    FIELD(navmap_check_result, levels),     FIELD(navmap_check_result, degrees),
    FIELD(navmap_check_result, in_degrees),
};

PyObject *report_verify(const char *path, bool quick, const struct raise_table *errors)
{
    struct navmap_verify_result counts = {0};
    struct report report = {.findings = PyList_New(0)};
    if (report.findings == NULL)
        return NULL;
    report.thread = PyEval_SaveThread();
    navmap_status status = navmap_verify(path, quick, on_finding, &report, &counts);
    PyEval_RestoreThread(report.thread);
    return report_end(&report, errors, status, &counts, VERIFY_FIELDS, FIELDS_COUNT(VERIFY_FIELDS));
}

PyObject *report_check(navmap_index *index, const struct raise_table *errors)
{
    struct navmap_check_result counts = {.struct_size = sizeof counts};
    struct report report = {.findings = PyList_New(0)};
    if (report.findings == NULL)
        return NULL;
    report.thread = PyEval_SaveThread();
    navmap_status status = navmap_check(index, on_finding, &report, &counts);
    PyEval_RestoreThread(report.thread);
    return report_end(&report, errors, status, &counts, CHECK_FIELDS, FIELDS_COUNT(CHECK_FIELDS));
}
