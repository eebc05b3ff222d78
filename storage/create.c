/* create.c -- a new index directory: filled under a temporary name, synced, renamed.
 *
 * Whoever opens PATH finds nothing or a whole, empty index.  The creator holds W from before the
 * rename, so nobody else becomes the writer in between.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "storage/files.h"
#include "storage/handle.h"
#include "storage/io.h"
#include "storage/rewriting.h"

static navmap_status random_bytes(void *ret_bytes, size_t n)
{
    if (getrandom(ret_bytes, n, 0) != (ssize_t)n)
        return fail(NAVMAP_EIO, "getrandom: %s", strerror(errno));
    return NAVMAP_OK;
}

navmap_status store_name_layout(struct layout *l)
{
    struct timespec now = {0, 0};
    TRY(random_bytes(l->uuid, sizeof l->uuid));
    TRY(random_bytes(&l->instance, sizeof l->instance));
    memcpy(&l->uuid_low, l->uuid, sizeof l->uuid_low);
    l->generation = 1;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    l->created_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return NAVMAP_OK;
}

static navmap_status fill_data(int fd, const char *path, const struct layout *l,
                               uint64_t max_elements)
{
    struct disk_header header;
    struct disk_root root = {.extent = EXTENT(1, 1), .max_elements = max_elements};
    layout_write_header(l, &header);
    root.sum = layout_root_sum(&root, l->uuid_low);
    TRY(io_grow(fd, path, 0, layout_file_bytes(l, 1)));
    TRY(io_pwrite(fd, path, &header, sizeof header, LAYOUT_HEADER_OFFSET));
    TRY(io_pwrite(fd, path, &root, sizeof root, LAYOUT_ROOT_OFFSET));
    return io_fsync(fd, path);
}

static navmap_status create_data(const char *dir, const struct layout *l, uint64_t max_elements)
{
    int fd = -1;
    char *path = files_data_path(dir, l->generation);
    if (!path)
        return fail(NAVMAP_ENOMEM, "creating %s: out of memory", dir);
    navmap_status status = io_open(path, O_RDWR | O_CREAT | O_EXCL, 0644, &fd);
    if (status == NAVMAP_OK)
        status = fill_data(fd, path, l, max_elements);
    io_close(fd);
    free(path);
    return status;
}

static navmap_status fill_dir(const char *dir, const struct layout *l, uint64_t max_elements,
                              struct lock *lock)
{
    struct wal_id id = {
        .instance = l->instance, .format_major = LAYOUT_MAJOR, .format_minor = LAYOUT_MINOR};
    const struct wal_state state = {.generation = l->generation};
    bool got = false;
    memcpy(id.uuid, l->uuid, sizeof id.uuid);
    TRY(create_data(dir, l, max_elements));
    STORE_KILL_POINT(CREATE_DATA);
    TRY(wal_create(dir, &id, &state));
    STORE_KILL_POINT(CREATE_LMDB);
    TRY(lock_open(dir, true, lock));
    TRY(lock_opening_exclusive(lock, 0));
    TRY(lock_writer_try(lock, &got));
    if (!got)
        return fail(NAVMAP_ELOCKED, "%s: its new LOCK file is locked by somebody else", dir);
    TRY(io_fsync_dir(dir));
    STORE_KILL_POINT(CREATE_SYNCED);
    return NAVMAP_OK;
}

static void ignore(navmap_status status)
{
    (void)status;
}

static void remove_if_there(const char *path)
{
    struct io_info info;
    if (path && io_stat(path, &info) == NAVMAP_OK)
        ignore(io_unlink(path));
}

static void remove_data(const char *dir)
{
    uint64_t *generations = NULL;
    uint32_t n = 0;
    if (files_generations(dir, &generations, &n) != NAVMAP_OK)
        return;
    for (uint32_t i = 0; i < n; i++) {
        char *path = files_data_path(dir, generations[i]);
        remove_if_there(path);
        free(path);
    }
    free(generations);
}

/* Best effort: what a failed create, or an output, leaves under its temporary name. */
static void remove_dir(const char *dir)
{
    /* The first by name: without memory for a list nothing else of them would go. */
    static const char *const names[] = {"LOCK", WAL_FILE, WAL_FILE "-lock", WAL_FILE WAL_COPY_TAIL,
                                        "data-00000001.navmap"};
    char path[4096];
    remove_data(dir);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (snprintf(path, sizeof path, "%s/%s", dir, names[i]) < (int)sizeof path)
            remove_if_there(path);
    ignore(io_rmdir(dir));
}

char *store_parent_of(const char *path)
{
    char *parent = strdup(path);
    if (!parent)
        return NULL;
    size_t n = strlen(parent);
    while (n > 1 && parent[n - 1] == '/')
        parent[--n] = 0;
    char *slash = strrchr(parent, '/');
    if (!slash) {
        free(parent);
        return strdup(".");
    }
    slash[slash == parent ? 1 : 0] = 0;
    return parent;
}

navmap_status store_check_new(const char *path)
{
    if (access(path, F_OK) == 0)
        return fail(NAVMAP_EEXIST, "%s exists already; open it instead, or choose another path",
                    path);
    return NAVMAP_OK;
}

static navmap_status create_and_rename(const char *path, const char *parent, const char *temporary,
                                       const struct layout *l, uint64_t max_elements,
                                       struct lock *lock)
{
    TRY(io_check_fs(parent));
    TRY(store_check_new(path));
    TRY(io_mkdir(temporary));
    STORE_KILL_POINT(CREATE_DIR);
    navmap_status status = fill_dir(temporary, l, max_elements, lock);
    if (status == NAVMAP_OK)
        status = io_rename(temporary, path, 1);
    if (status == NAVMAP_OK) {
        STORE_KILL_POINT(CREATE_RENAMED);
        return io_fsync_dir(parent);
    }
    char why[512]; /* cleaning up must not replace the reason */
    (void)snprintf(why, sizeof why, "%s", navmap_error_detail());
    lock_close(lock);
    remove_dir(temporary);
    return fail(status, "%s", why);
}

char *store_temporary_name(const char *path)
{
    uint64_t tail = 0;
    char *name = NULL;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (random_bytes(&tail, sizeof tail) != NAVMAP_OK ||
        asprintf(&name, "%.*s.tmp-%016llx", (int)n, path, (unsigned long long)tail) < 0)
        return NULL;
    return name;
}

/* It is made, but could not be opened (for lack of memory, say): as if it had never been.  R and W
 * are held, so nobody else is in it. */
static navmap_status take_back(const char *path, const char *temporary, navmap_status status)
{
    char why[512];
    (void)snprintf(why, sizeof why, "%s", navmap_error_detail());
    if (io_rename(path, temporary, 1) == NAVMAP_OK)
        remove_dir(temporary);
    return fail(status, "%s", why);
}

navmap_status store_create(const char *path, const struct layout_params *params,
                           uint64_t max_elements, const struct store_options *options,
                           struct store **ret_store)
{
    struct layout l;
    struct lock lock = {.fd = -1};
    TRY(layout_compute(params, &l));
    TRY(store_name_layout(&l));
    char *parent = store_parent_of(path), *temporary = store_temporary_name(path);
    navmap_status status = parent && temporary
                               ? create_and_rename(path, parent, temporary, &l, max_elements, &lock)
                               : fail(NAVMAP_ENOMEM, "creating %s: out of memory", path);
    if (status == NAVMAP_OK) {
        status = store_open_locked(path, &lock, options, ret_store);
        if (status != NAVMAP_OK)
            status = take_back(path, temporary, status);
    }
    if (status != NAVMAP_OK)
        lock_close(&lock);
    free(parent);
    free(temporary);
    return status;
}

/* Directories that others make ----------------------------------------------------------------*/

navmap_status store_name_temporary(const char *path, char **ret_name)
{
    *ret_name = store_temporary_name(path);
    return *ret_name ? NAVMAP_OK : fail(NAVMAP_ENOMEM, "%s: out of memory", path);
}

navmap_status store_rename(const char *temporary, const char *path)
{
    char *parent = store_parent_of(path);
    if (!parent)
        return fail(NAVMAP_ENOMEM, "%s: out of memory", path);
    navmap_status status = io_rename(temporary, path, 1);
    if (status == NAVMAP_OK) {
        STORE_KILL_POINT(CREATE_RENAMED);
        status = io_fsync_dir(parent);
    }
    free(parent);
    return status;
}

navmap_status store_discard(const char *temporary, navmap_status status)
{
    char why[512]; /* cleaning up must not replace the reason */
    struct io_info info;
    (void)snprintf(why, sizeof why, "%s", navmap_error_detail());
    if (io_stat(temporary, &info) == NAVMAP_OK)
        remove_dir(temporary);
    return fail(status, "%s", why);
}
