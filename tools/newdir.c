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
#include <unistd.h>

#include "engine/navmap.h"
#include "tools/cli.h"

static bool is_own_name(const char *name)
{
    static const char *const names[] = {".", "..", "LOCK", "wal.mdb", "wal.mdb-lock"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strncmp(name, "data-", 5) == 0 && cli_ends_with(name, ".navmap");
}

/* Each name in the directory: remove it, or only look whether it is an index's. */
static int each_name(const char *path, bool remove)
{
    DIR *dir = opendir(path);
    int code = EXIT_SOUND;
    if (dir == NULL)
        return cli_error("%s: %s", path, strerror(errno));
    for (struct dirent *e; code == EXIT_SOUND && (e = readdir(dir)) != NULL;) {
        if (!is_own_name(e->d_name))
            code = cli_error("%s holds '%s', which is no file of an index; move it away", path,
                             e->d_name);
        else if (remove && e->d_name[0] != '.' && unlinkat(dirfd(dir), e->d_name, 0) != 0)
            code = cli_error("%s/%s: %s", path, e->d_name, strerror(errno));
    }
    (void)closedir(dir);
    return code;
}

static int remove_index(const char *path)
{
    int code = each_name(path, false);
    if (code == EXIT_SOUND)
        code = each_name(path, true);
    if (code == EXIT_SOUND && rmdir(path) != 0)
        code = cli_error("%s: %s", path, strerror(errno));
    return code;
}

/* D2.  An index that is damaged or half made cannot be inspected, and nobody writes to it. */
static int clear_partial(const char *partial)
{
    struct navmap_stats stats = {.struct_size = sizeof stats};
    if (cli_kind_of(partial) == CLI_NOTHING)
        return EXIT_SOUND;
    if (navmap_inspect(partial, &stats) == NAVMAP_OK && stats.writer_held)
        return cli_error("%s is being filled by process %" PRIu32, partial, stats.writer_pid);
    return remove_index(partial);
}

int newdir_begin(struct newdir *d, const char *path)
{
    *d = (struct newdir){.path = strdup(path)};
    if (d->path == NULL)
        return cli_error("%s: out of memory", path);
    for (size_t n = strlen(d->path); n > 1 && d->path[n - 1] == '/'; n--)
        d->path[n - 1] = 0;
    char *copy = strdup(d->path);
    d->parent = copy != NULL ? strdup(dirname(copy)) : NULL;
    free(copy);
    if (d->parent == NULL || asprintf(&d->partial, "%s.partial", d->path) < 0) {
        d->partial = NULL;
        return cli_error("%s: out of memory", path);
    }
    if (cli_kind_of(d->path) != CLI_NOTHING)
        return cli_error("%s: something is there already; name another", d->path);
    return clear_partial(d->partial);
}

int newdir_finish(struct newdir *d)
{
    if (renameat2(AT_FDCWD, d->partial, AT_FDCWD, d->path, RENAME_NOREPLACE) != 0 &&
        (errno != EINVAL || rename(d->partial, d->path) != 0)) /* a file system without the flag */
        return cli_error("renaming %s to %s: %s", d->partial, d->path, strerror(errno));
    int fd = open(d->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = EXIT_SOUND;
    if (fd < 0 || fsync(fd) != 0)
        code = cli_error("syncing %s: %s", d->parent, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    free(d->partial);
    d->partial = NULL;
    return code;
}

void newdir_abandon(struct newdir *d)
{
    if (d->partial != NULL && cli_kind_of(d->partial) == CLI_DIRECTORY)
        (void)remove_index(d->partial);
    free(d->path);
    free(d->partial);
    free(d->parent);
    *d = (struct newdir){.path = NULL};
}
