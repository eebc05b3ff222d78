/* labels.c -- labels for rows that bring none, from a file of their own; see rows.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tools/cli.h"
#include "tools/npy.h"
#include "tools/rows.h"

struct list {
    uint64_t *label, n, room;
};

static int append(struct list *list, const char *path, uint64_t label)
{
    if (list->n == list->room) {
        uint64_t room = list->room ? 2 * list->room : 4096;
        uint64_t *more = realloc(list->label, room * sizeof *more);
        if (more == NULL)
            return cli_error("%s: out of memory", path);
        list->label = more;
        list->room = room;
    }
    list->label[list->n++] = label;
    return EXIT_SOUND;
}

/* An integer of any width, aligned to nothing; false when it is below 0. */
static bool integer(enum number type, const uint8_t *from, uint64_t *ret_number)
{
    const size_t bytes = number_bytes(type);
    uint64_t x = 0;
    memcpy(&x, from, bytes); /* little endian */
    *ret_number = x;
    return type >= U8 || (x >> (8 * bytes - 1)) == 0;
}

static int from_npy(const struct rows *file, struct list *list)
{
    struct npy npy;
    int code = npy_parse(file->path, file->bytes, file->n_bytes, &npy);
    if (code != EXIT_SOUND)
        return code;
    if (npy.type <= F64 || (npy.dimensions == 2 && npy.columns != 1))
        return cli_error("%s: labels: expected whole numbers in one column", file->path);
    for (uint64_t i = 0; i < npy.rows && code == EXIT_SOUND; i++) {
        uint64_t label;
        if (!integer(npy.type, file->bytes + npy.offset + i * number_bytes(npy.type), &label))
            return cli_error("%s: row %" PRIu64 ": a label is not negative", file->path, i);
        code = append(list, file->path, label);
    }
    return code;
}

static int from_text(const char *path, struct list *list)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    uint64_t label, number = 0;
    int code = EXIT_SOUND;
    if (file == NULL)
        return cli_error("%s: %s", path, strerror(errno));
    while (code == EXIT_SOUND && getline(&line, &room, file) >= 0) {
        line[strcspn(line, "\r\n")] = 0;
        number++;
        if (cli_parse_number(line, &label))
            code = append(list, path, label);
        else
            code = cli_error("%s: line %" PRIu64 ": expected a whole number, found '%.40s'", path,
                             number, line);
    }
    if (code == EXIT_SOUND && ferror(file))
        code = cli_error("%s: %s", path, strerror(errno));
    free(line);
    (void)fclose(file);
    return code;
}

static bool is_npy(const struct rows *file)
{
    return file->n_bytes >= 6 && memcmp(file->bytes, "\x93NUMPY", 6) == 0;
}

int labels_read(const char *path, uint64_t **ret_labels, uint64_t *ret_n)
{
    struct list list = {.label = NULL};
    struct rows file = {.path = path};
    int code = rows_map(&file);
    if (code == EXIT_SOUND)
        code = is_npy(&file) ? from_npy(&file, &list) : from_text(path, &list);
    rows_close(&file);
    if (code != EXIT_SOUND) {
        free(list.label);
        return code;
    }
    *ret_labels = list.label;
    *ret_n = list.n;
    return EXIT_SOUND;
}
