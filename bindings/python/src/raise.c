/* raise.c -- the table from status to exception class and leading sentence. */
#include "bindings/python/src/raise.h"

#include <string.h>

struct raise_entry {
    navmap_status status;
    const char *class_name; /* in navmap.errors */
    const char *sentence;   /* the message's first words; NULL = whatever the engine says */
};

static const struct raise_entry ENTRIES[] = {
    {NAVMAP_EINVAL, "InvalidInputError", NULL},
    {NAVMAP_ENOMEM, "OutOfMemoryError", NULL},
    {NAVMAP_EIO, "StorageError", NULL},
    {NAVMAP_ENOSPC, "NoSpaceError", NULL},
    {NAVMAP_ELOCKED, "LockedError", NULL},
    {NAVMAP_EFULL, "CapacityError", "The number of elements exceeds the specified limit"},
    {NAVMAP_ENOTFOUND, "LabelNotFoundError", "Label not found"},
    {NAVMAP_ECORRUPT, "CorruptIndexError", NULL},
    {NAVMAP_EVERSION, "VersionError", NULL},
    {NAVMAP_EREADONLY, "ReadOnlyError", NULL},
    {NAVMAP_ENEEDSRECOVERY, "NeedsRecoveryError", NULL},
    {NAVMAP_EPOISONED, "PoisonedError", NULL},
    {NAVMAP_EFORKED, "ForkedError", NULL},
    {NAVMAP_ESTALE, "StaleError", NULL},
    {NAVMAP_EFSTYPE, "StorageError", NULL},
    {NAVMAP_EEXIST, "ExistsError", NULL},
    {NAVMAP_ENOINDEX, "NoIndexError", NULL},
    {NAVMAP_EDELETED, "Error", "The requested to delete element is already deleted"},
    {NAVMAP_ENOTDELETED, "Error", "The requested to undelete element is not deleted"},
    {NAVMAP_EFEWER, "FewerResultsError", "Cannot return the results in a contiguous 2D array"},
    {NAVMAP_EINTERRUPTED, "Error", NULL},
    {NAVMAP_ECLOSED, "NotInitializedError", "index is closed"},
    {NAVMAP_EREPLACE, "ReplaceError", NULL}, /* the engine says it in hnswlib's words */
};
_Static_assert(sizeof(ENTRIES) / sizeof(ENTRIES[0]) == RAISE_CLASSES, "one class per entry");

int raise_load(struct raise_table *table)
{
    PyObject *errors = PyImport_ImportModule("navmap.errors");
    if (errors == NULL)
        return -1;
    for (size_t i = 0; i < RAISE_CLASSES; i++) {
        table->classes[i] = PyObject_GetAttrString(errors, ENTRIES[i].class_name);
        if (table->classes[i] == NULL) {
            Py_DECREF(errors);
            return -1; /* the module's clear function drops those already fetched */
        }
    }
    Py_DECREF(errors);
    return 0;
}

int raise_visit(struct raise_table *table, visitproc visit, void *arg)
{
    for (size_t i = 0; i < RAISE_CLASSES; i++)
        Py_VISIT(table->classes[i]);
    return 0;
}

void raise_clear(struct raise_table *table)
{
    for (size_t i = 0; i < RAISE_CLASSES; i++)
        Py_CLEAR(table->classes[i]);
}

/* The detail may hold a path that is not UTF-8, or end inside a character. */
static PyObject *text_of(const char *bytes)
{
    return PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)strlen(bytes), "backslashreplace");
}

static PyObject *message_of(const struct raise_entry *entry, const char *detail)
{
    const char *sentence = entry->sentence;
    if (sentence == NULL || strncmp(detail, sentence, strlen(sentence)) == 0)
        return text_of(detail[0] != '\0' ? detail : navmap_strerror(entry->status));
    if (detail[0] == '\0')
        return text_of(sentence);
    PyObject *text = text_of(detail);
    if (text == NULL)
        return NULL;
    PyObject *message = PyUnicode_FromFormat("%s: %U", sentence, text);
    Py_DECREF(text);
    return message;
}

/* RAISE_CLASSES for a status that is in no line. */
static size_t entry_of(navmap_status status)
{
    size_t i = 0;
    while (i < RAISE_CLASSES && ENTRIES[i].status != status)
        i++;
    return i;
}

static PyObject *raise_text(const struct raise_table *table, navmap_status status,
                            const char *detail)
{
    size_t i = entry_of(status);
    if (i == RAISE_CLASSES)
        return PyErr_Format(PyExc_SystemError, "navmap: status %d: %s", (int)status, detail);
    PyObject *message = message_of(&ENTRIES[i], detail);
    if (message != NULL) {
        PyErr_SetObject(table->classes[i], message);
        Py_DECREF(message);
    }
    return NULL;
}

PyObject *raise_status(const struct raise_table *table, navmap_status status)
{
    return raise_text(table, status, navmap_error_detail());
}

PyObject *raise_closed(const struct raise_table *table)
{
    return raise_text(table, NAVMAP_ECLOSED, "");
}

void raise_message(const struct raise_table *table, navmap_status status, PyObject *message)
{
    size_t i = entry_of(status);
    PyErr_SetObject(i < RAISE_CLASSES ? table->classes[i] : PyExc_SystemError, message);
}

void raise_note_added(uint64_t added)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *number = PyLong_FromUnsignedLongLong(added);
    if (number == NULL || value == NULL || PyObject_SetAttrString(value, "added", number) < 0)
        PyErr_Clear();
    Py_XDECREF(number);
    PyErr_Restore(type, value, traceback);
}
