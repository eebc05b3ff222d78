/* example.c -- navmap from C, start to end: create, add, search, delete, get, close, open, search.
 *
 *     cc -I SOURCE_ROOT example.c -lnavmap -o example && ./example [PATH]
 *
 * PATH is where the index shall be made; nothing may be there yet, and the index is left there.
 * Without it a temporary directory is used and removed.  The exit status is 0 only if every call
 * succeeded and the answers are the expected ones.
 */
#define _XOPEN_SOURCE 700
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/navmap.h"

#define DIM 8
#define ITEMS 1000
#define K 3

/* Every call returns a status.  The sentence that says what went wrong is kept per thread. */
#define CHECK(call)                                                                                \
    do {                                                                                           \
        navmap_status status_ = (call);                                                            \
        if (status_ != NAVMAP_OK) {                                                                \
            fprintf(stderr, "%s: %s\n", navmap_strerror(status_), navmap_error_detail());          \
            return -1;                                                                             \
        }                                                                                          \
    } while (0)

/* Item i lies at (i, 0, 0, ...): its neighbours are the numbers around it. */
static void fill(float *vectors)
{
    for (int i = 0; i < ITEMS * DIM; i++)
        vectors[i] = i % DIM == 0 ? (float)(i / DIM) : 0.0f;
}

static int search(navmap_index *index, uint64_t expected)
{
    const struct navmap_search_options options = {.struct_size = sizeof options, .ef = 50};
    const float query[DIM] = {500.2f};
    uint64_t labels[K];
    float distances[K];
    CHECK(navmap_search(index, 1, query, K, &options, labels, distances, NULL));
    for (int i = 0; i < K; i++)
        printf("  label %" PRIu64 " at squared distance %.2f\n", labels[i], (double)distances[i]);
    if (labels[0] == expected)
        return 0;
    fprintf(stderr, "expected label %" PRIu64 " first\n", expected);
    return -1;
}

static int change(navmap_index *index)
{
    static float vectors[ITEMS * DIM];
    float back[DIM];
    uint64_t added;
    const uint64_t label = 499;
    fill(vectors);
    CHECK(navmap_add(index, ITEMS, vectors, NULL, NULL, &added)); /* labels 0, 1, 2, ... */
    printf("added %" PRIu64 " items; nearest to 500.2:\n", added);
    if (search(index, 500) != 0)
        return -1;
    CHECK(navmap_delete(index, 500));
    printf("without label 500:\n");
    if (search(index, 501) != 0)
        return -1;
    CHECK(navmap_get(index, 1, &label, back));
    printf("label %" PRIu64 " starts with %.0f\n", label, (double)back[0]);
    /* A failure that is expected: its code can be told from others. */
    return back[0] == 499.0f && navmap_delete(index, 500) == NAVMAP_EDELETED ? 0 : -1;
}

static int write_index(const char *path)
{
    const struct navmap_options options = {
        .struct_size = sizeof options, .dim = DIM, .space = NAVMAP_L2};
    navmap_index *index;
    CHECK(navmap_create(path, &options, &index));
    int result = change(index);
    CHECK(navmap_close(index)); /* may fail, too: what was not acknowledged may be lost */
    return result;
}

static int read_index(const char *path)
{
    navmap_index *index;
    CHECK(navmap_open(path, NAVMAP_READ, NULL, &index)); /* beside a writer as well */
    printf("opened again, read-only:\n");
    int result = search(index, 501);
    if (navmap_delete(index, 1) != NAVMAP_EREADONLY)
        result = -1;
    CHECK(navmap_close(index));
    return result;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

int main(int argc, char **argv)
{
    char directory[] = "/tmp/navmap-example-XXXXXX", path[sizeof directory + 8];
    if (argc < 2 && mkdtemp(directory) == NULL) {
        perror("mkdtemp");
        return EXIT_FAILURE;
    }
    (void)snprintf(path, sizeof path, "%s/index", directory);
    const char *where = argc < 2 ? path : argv[1];
    int result = write_index(where);
    if (result == 0)
        result = read_index(where);
    if (argc < 2 && nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0)
        result = -1;
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
