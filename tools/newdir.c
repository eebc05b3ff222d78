/* newdir.c -- PATH.partial and its renaming; see newdir.h. */
#include "tools/newdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/navmap.h"
#include "tools/cli.h"

static bool is_file_name(const char *name)
{
    static const char *const names[] = {"LOCK", "wal.mdb", "wal.mdb-lock", "wal.mdb.new"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strncmp(name, "data-", 5) == 0 && cli_ends_with(name, ".navmap");
}

/* The index itself, or what a killed navmap_create() left of one. */
static bool is_index_name(const char *name)
{
    return strcmp(name, "index") == 0 || strncmp(name, "index.tmp-", 10) == 0;
}

static int failed(const char *path, const char *name)
{
    return cli_error("%s/%s: %s", path, name, strerror(errno));
}

static int remove_files(int dir, const char *path, bool remove);

/* One name in PATH.partial (`outer`) or in an index within it. */
static int handle(int dir, const char *path, const char *name, bool outer, bool remove)
{
    if (!(outer ? is_index_name(name) : is_file_name(name)))
        return cli_error("%s holds '%s', which is no file of an index; move it away", path, name);
    if (!outer)
        return remove && unlinkat(dir, name, 0) != 0 ? failed(path, name) : EXIT_SOUND;
    int inner = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (inner < 0)
        return failed(path, name);
    int code = remove_files(inner, path, remove); /* closes it */
    if (code == EXIT_SOUND && remove && unlinkat(dir, name, AT_REMOVEDIR) != 0)
        return failed(path, name);
    return code;
}

static int each_name(int dir, const char *path, bool outer, bool remove)
{
    DIR *list = fdopendir(dir);
    int code = EXIT_SOUND;
    if (list == NULL) {
        (void)close(dir);
        return failed(path, ".");
    }
    for (struct dirent *e; code == EXIT_SOUND && (e = readdir(list)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            code = handle(dir, path, e->d_name, outer, remove);
    (void)closedir(list);
    return code;
}

static int remove_files(int dir, const char *path, bool remove)
{
    return each_name(dir, path, false, remove);
}

/* All of PATH.partial: first look whether it is ours to remove. */
static int remove_partial(const char *path)
{
    int code = EXIT_SOUND;
    for (int remove = 0; remove < 2 && code == EXIT_SOUND; remove++) {
        int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        code = dir < 0 ? failed(path, ".") : each_name(dir, path, true, remove != 0);
    }
    if (code == EXIT_SOUND && rmdir(path) != 0)
        code = failed(path, ".");
    return code;
}

/* D2.  An index that is damaged or half made cannot be inspected, and nobody writes to it. */
static int clear_partial(const struct newdir *d)
{
    struct navmap_stats stats = {.struct_size = sizeof stats};
    if (cli_kind_of(d->around) == CLI_NOTHING)
        return EXIT_SOUND;
    if (navmap_inspect(d->index, &stats) == NAVMAP_OK && stats.writer_held)
        return cli_error("%s is being filled by process %" PRIu32, d->around, stats.writer_pid);
    return remove_partial(d->around);
}

static bool name_all(struct newdir *d, const char *path)
{
    d->path = strdup(path);
    if (d->path == NULL)
        return false;
    for (size_t n = strlen(d->path); n > 1 && d->path[n - 1] == '/'; n--)
        d->path[n - 1] = 0;
    char *copy = strdup(d->path);
    d->parent = copy != NULL ? strdup(dirname(copy)) : NULL;
    free(copy);
    if (asprintf(&d->around, "%s.partial", d->path) < 0)
        d->around = NULL;
    if (asprintf(&d->index, "%s.partial/index", d->path) < 0)
        d->index = NULL;
    return d->parent != NULL && d->around != NULL && d->index != NULL;
}

int newdir_begin(struct newdir *d, const char *path)
{
    *d = (struct newdir){.path = NULL};
    if (!name_all(d, path))
        return cli_error("%s: out of memory", path);
    if (cli_kind_of(d->path) != CLI_NOTHING)
        return cli_error("%s: something is there already; name another", d->path);
    int code = clear_partial(d);
    if (code == EXIT_SOUND && mkdir(d->around, 0777) != 0)
        code = cli_error("%s: %s", d->around, strerror(errno));
    d->made = code == EXIT_SOUND;
    return code;
}

int newdir_finish(struct newdir *d)
{
    if (renameat2(AT_FDCWD, d->index, AT_FDCWD, d->path, RENAME_NOREPLACE) != 0 &&
        (errno != EINVAL || rename(d->index, d->path) != 0)) /* a file system without the flag */
        return cli_error("renaming %s to %s: %s", d->index, d->path, strerror(errno));
    int fd = open(d->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = EXIT_SOUND;
    if (fd < 0 || fsync(fd) != 0)
        code = cli_error("syncing %s: %s", d->parent, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    return code;
}

void newdir_abandon(struct newdir *d)
{
    if (d->made)
        (void)remove_partial(d->around);
    free(d->path);
    free(d->parent);
    free(d->around);
    free(d->index);
    *d = (struct newdir){.path = NULL};
}
