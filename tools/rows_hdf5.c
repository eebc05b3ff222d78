/* rows_hdf5.c -- a matrix in an HDF5 file, as ann-benchmarks keeps its data sets: "train", "test".
 *
 * By the HDF Group's library, where there is one when navmap is built: the format has a B-tree, a
 * heap, chunks and filters, and the library knows them all.
 */
#include "tools/cli.h"
#include "tools/rows.h"

#ifndef NAVMAP_HDF5

int rows_open_hdf5(struct rows *r, const struct rows_how *how)
{
    (void)how;
    return cli_error("%s: this navmap was built without HDF5 (Debian: libhdf5-dev); in Python, "
                     "h5py reads the file, and numpy.save() makes an .npy of it",
                     r->path);
}

#else

#include <hdf5.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct state {
    hid_t file, set, space;
};

static void close_hdf5(struct rows *r)
{
    struct state *s = r->state;
    if (s->space >= 0)
        (void)H5Sclose(s->space);
    if (s->set >= 0)
        (void)H5Dclose(s->set);
    if (s->file >= 0)
        (void)H5Fclose(s->file);
    free(s);
}

static int read_hdf5(struct rows *r, uint64_t first, uint64_t n, float *ret_vectors)
{
    const struct state *s = r->state;
    const hsize_t start[2] = {first, 0}, count[2] = {n, r->dim};
    hid_t memory = H5Screate_simple(2, count, NULL);
    bool sound = memory >= 0 &&
                 H5Sselect_hyperslab(s->space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                 H5Dread(s->set, H5T_NATIVE_FLOAT, memory, s->space, H5P_DEFAULT, ret_vectors) >= 0;
    if (memory >= 0)
        (void)H5Sclose(memory);
    return sound ? EXIT_SOUND
                 : cli_error("%s: rows %" PRIu64 "..%" PRIu64 " could not be read", r->path, first,
                             first + n - 1);
}

/* ann-benchmarks says in an attribute how the set is to be searched. */
static void read_distance(struct rows *r, hid_t file)
{
    static const struct {
        const char *name;
        uint32_t space;
    } known[] = {{"euclidean", NAVMAP_L2}, {"angular", NAVMAP_COSINE}, {"dot", NAVMAP_IP}};
    if (H5Aexists(file, "distance") <= 0)
        return;
    hid_t attribute = H5Aopen(file, "distance", H5P_DEFAULT), type = H5Aget_type(attribute);
    char *text = NULL, fixed[64] = "";
    if (H5Tis_variable_str(type) > 0) {
        hid_t memory = H5Tcopy(H5T_C_S1);
        (void)H5Tset_size(memory, H5T_VARIABLE);
        (void)H5Tset_cset(memory, H5Tget_cset(type));
        if (H5Aread(attribute, memory, &text) < 0)
            text = NULL;
        (void)H5Tclose(memory);
    } else if (H5Tget_class(type) == H5T_STRING && H5Tget_size(type) < sizeof fixed) {
        (void)H5Aread(attribute, type, fixed);
    }
    const char *name = text != NULL ? text : fixed;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i].name) == 0) {
            r->has_space = true;
            r->space = known[i].space;
        }
    if (text != NULL)
        (void)H5free_memory(text);
    (void)H5Tclose(type);
    (void)H5Aclose(attribute);
}

static int open_set(struct rows *r, struct state *s, const char *dataset)
{
    hsize_t shape[2] = {0, 0};
    s->file = H5Fopen(r->path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (s->file < 0)
        return cli_error("%s: no HDF5 file, or damaged", r->path);
    s->set = H5Dopen2(s->file, dataset, H5P_DEFAULT);
    if (s->set < 0)
        return cli_error("%s: no data set '%s' in it (--dataset names another)", r->path, dataset);
    s->space = H5Dget_space(s->set);
    hid_t type = H5Dget_type(s->set);
    H5T_class_t class = H5Tget_class(type);
    (void)H5Tclose(type);
    if (s->space < 0 || H5Sget_simple_extent_ndims(s->space) != 2 ||
        (class != H5T_FLOAT && class != H5T_INTEGER))
        return cli_error("%s: data set '%s': expected a matrix of numbers", r->path, dataset);
    (void)H5Sget_simple_extent_dims(s->space, shape, NULL);
    if (shape[1] > UINT32_MAX)
        return cli_error("%s: data set '%s': rows are too long", r->path, dataset);
    r->n = shape[0];
    r->dim = (uint32_t)shape[1];
    read_distance(r, s->file);
    return EXIT_SOUND;
}

int rows_open_hdf5(struct rows *r, const struct rows_how *how)
{
    struct state *s = malloc(sizeof *s);
    if (s == NULL)
        return cli_error("%s: out of memory", r->path);
    *s = (struct state){.file = -1, .set = -1, .space = -1};
    r->state = s;
    r->close = close_hdf5;
    r->read = read_hdf5;
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* our sentences, not its trace */
    return open_set(r, s, how->dataset != NULL ? how->dataset : how->fallback);
}

#endif
