/* recorder.c -- turns calls and stores into a trace; see recorder.h for R1..R3. */
#include "tests/support/recorder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FD 1024
#define NO_NODE UINT32_MAX

struct recorder {
    char root[512];
    struct trace trace;
    struct trace_names now;
    uint64_t *sizes; /* current, per node */
    uint32_t sizes_cap;
    uint32_t fd_node[MAX_FD];
    enum kill_point phase;
    const struct injector *injector;
    void (*kill_point)(void *ctx, enum kill_point point);
    void *ctx;
    struct interpose_hooks calls;
    struct io_hooks io;
    pthread_mutex_t lock;
};

static void *grow(void *memory, size_t bytes)
{
    memory = realloc(memory, bytes);
    if (!memory) {
        fprintf(stderr, "recorder: out of memory\n");
        abort();
    }
    return memory;
}

/* Names ----------------------------------------------------------------------------------------*/

static struct trace_name *find_name(const struct trace_names *t, uint32_t dir, const char *name)
{
    for (uint32_t i = 0; i < t->n; i++) {
        if (t->at[i].dir == dir && strcmp(t->at[i].name, name) == 0)
            return &t->at[i];
    }
    return NULL;
}

const struct trace_name *names_find(const struct trace_names *t, uint32_t dir, const char *name)
{
    return find_name(t, dir, name);
}

void names_link(struct trace_names *t, uint32_t dir, const char *name, uint32_t node)
{
    names_unlink(t, dir, name);
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 16;
        t->at = grow(t->at, t->cap * sizeof t->at[0]);
    }
    struct trace_name *e = &t->at[t->n++];
    e->dir = dir;
    e->node = node;
    (void)snprintf(e->name, sizeof e->name, "%s", name);
}

void names_unlink(struct trace_names *t, uint32_t dir, const char *name)
{
    struct trace_name *e = find_name(t, dir, name);
    if (e)
        *e = t->at[--t->n];
}

void names_copy(struct trace_names *to, const struct trace_names *from)
{
    if (to->cap < from->n) {
        to->cap = from->n + 16;
        to->at = grow(to->at, to->cap * sizeof to->at[0]);
    }
    to->n = from->n;
    if (from->n)
        (void)memcpy(to->at, from->at, from->n * sizeof to->at[0]);
}

void names_apply(struct trace_names *t, const struct effect *e)
{
    const struct trace_name *from = names_find(t, e->dir, e->name);
    if (e->kind == EFFECT_LINK) {
        names_link(t, e->dir, e->name, e->node);
    } else if (e->kind == EFFECT_UNLINK) {
        names_unlink(t, e->dir, e->name);
    } else if (e->kind == EFFECT_RENAME && from) {
        uint32_t node = from->node;
        names_unlink(t, e->dir, e->name);
        names_link(t, e->dir2, e->name2, node);
    }
}

/* Nodes and effects ----------------------------------------------------------------------------*/

static uint32_t add_node(struct recorder *r, bool is_dir, uint64_t size)
{
    struct trace *t = &r->trace;
    if (t->n_nodes == t->cap_nodes) {
        t->cap_nodes = t->cap_nodes ? 2 * t->cap_nodes : 16;
        t->nodes = grow(t->nodes, t->cap_nodes * sizeof t->nodes[0]);
        r->sizes = grow(r->sizes, t->cap_nodes * sizeof r->sizes[0]);
    }
    t->nodes[t->n_nodes] = (struct trace_node){.is_dir = is_dir};
    r->sizes[t->n_nodes] = size;
    return t->n_nodes++;
}

static struct effect *add_effect(struct recorder *r, enum effect_kind kind, uint32_t node)
{
    struct trace *t = &r->trace;
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 4096;
        t->effects = grow(t->effects, t->cap * sizeof t->effects[0]);
    }
    struct effect *e = &t->effects[t->n++];
    (void)memset(e, 0, sizeof *e);
    e->kind = kind;
    e->phase = r->phase;
    e->node = node;
    return e;
}

static void add_write(struct recorder *r, uint32_t node, uint64_t off, const void *bytes, size_t n)
{
    struct trace *t = &r->trace;
    if (n == 0)
        return;
    if (t->arena_n + n > t->arena_cap) {
        t->arena_cap = 2 * (t->arena_n + n);
        t->arena = grow(t->arena, t->arena_cap);
    }
    (void)memcpy(t->arena + t->arena_n, bytes, n);
    if (off + n > r->sizes[node]) {
        r->sizes[node] = off + n;
        add_effect(r, EFFECT_SIZE, node)->off = off + n;
    }
    struct effect *e = add_effect(r, EFFECT_WRITE, node);
    e->off = off;
    e->len = n;
    e->bytes = t->arena_n;
    t->arena_n += n;
}

/* Split `path` (below root) into its directory's node and its last name; false when it is the root
 * itself, outside, below something unknown, or LMDB's lock file. */
static bool resolve(const struct recorder *r, const char *path, uint32_t *ret_dir,
                    char name[NAME_BYTES])
{
    size_t n = strlen(r->root);
    if (strncmp(path, r->root, n) != 0 || path[n] != '/')
        return false;
    uint32_t dir = 0;
    path += n + 1;
    for (const char *slash; (slash = strchr(path, '/')) != NULL; path = slash + 1) {
        char part[NAME_BYTES];
        (void)snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        const struct trace_name *e = names_find(&r->now, dir, part);
        if (!e)
            return false;
        dir = e->node;
    }
    size_t len = strlen(path);
    if (len == 0 || len >= NAME_BYTES || (len > 5 && strcmp(path + len - 5, "-lock") == 0))
        return false;
    (void)memcpy(name, path, len + 1);
    *ret_dir = dir;
    return true;
}

static void add_name_effect(struct recorder *r, enum effect_kind kind, const char *path,
                            const char *path2, uint32_t node)
{
    struct effect e = {.kind = kind, .node = node, .phase = r->phase};
    if (!resolve(r, path, &e.dir, e.name) || (path2 && !resolve(r, path2, &e.dir2, e.name2)))
        return;
    *add_effect(r, kind, node) = e;
    names_apply(&r->now, &e);
}

/* Calls ----------------------------------------------------------------------------------------*/

static void on_open(struct recorder *r, const struct sys_event *e, int fd)
{
    uint32_t dir;
    char name[NAME_BYTES];
    if (fd < 0 || fd >= MAX_FD)
        return;
    r->fd_node[fd] = NO_NODE;
    if (strcmp(e->path, r->root) == 0) {
        r->fd_node[fd] = 0;
        return;
    }
    if (!resolve(r, e->path, &dir, name))
        return;
    const struct trace_name *found = names_find(&r->now, dir, name);
    if (found) {
        r->fd_node[fd] = found->node;
    } else {
        uint32_t node = add_node(r, false, 0);
        r->fd_node[fd] = node;
        add_name_effect(r, EFFECT_LINK, e->path, NULL, node);
    }
    if (e->flags & O_TRUNC) {
        r->sizes[r->fd_node[fd]] = 0;
        add_effect(r, EFFECT_SIZE, r->fd_node[fd])->off = 0;
    }
}

static void on_write(struct recorder *r, const struct sys_event *e, uint32_t node, int64_t result)
{
    uint64_t off = e->off, left = (uint64_t)result;
    for (int i = 0; i < e->iovcnt && left > 0; i++) {
        size_t n = e->iov[i].iov_len < left ? e->iov[i].iov_len : (size_t)left;
        add_write(r, node, off, e->iov[i].iov_base, n);
        off += n;
        left -= n;
    }
}

static void on_resize(struct recorder *r, uint32_t node, uint64_t size)
{
    if (size != r->sizes[node])
        add_effect(r, EFFECT_SIZE, node)->off = size;
    r->sizes[node] = size;
}

/* What one call did; `failed`: its sync part did not succeed. */
static void on_call(struct recorder *r, const struct sys_event *e, int64_t result, bool failed)
{
    uint32_t node = e->fd >= 0 && e->fd < MAX_FD ? r->fd_node[e->fd] : NO_NODE;
    switch (e->kind) {
    case SYS_OPEN:
        on_open(r, e, (int)result);
        return;
    case SYS_CLOSE:
        if (e->fd >= 0 && e->fd < MAX_FD)
            r->fd_node[e->fd] = NO_NODE;
        return;
    case SYS_MKDIR:
        if (result >= 0)
            add_name_effect(r, EFFECT_LINK, e->path, NULL, add_node(r, true, 0));
        return;
    case SYS_RENAME:
        if (result >= 0)
            add_name_effect(r, EFFECT_RENAME, e->path, e->path2, 0);
        return;
    case SYS_UNLINK:
        if (result >= 0)
            add_name_effect(r, EFFECT_UNLINK, e->path, NULL, 0);
        return;
    default:
        break;
    }
    if (node == NO_NODE)
        return;
    if (e->kind == SYS_WRITE && result >= 0) {
        on_write(r, e, node, result);
        if (e->flags & (O_DSYNC | O_SYNC)) {
            struct effect *sync =
                add_effect(r, failed ? EFFECT_DROP_RANGE : EFFECT_SYNC_RANGE, node);
            sync->off = e->off;
            sync->len = (uint64_t)result;
        }
    } else if (e->kind == SYS_FSYNC || e->kind == SYS_FDATASYNC) {
        if (!r->trace.nodes[node].is_dir)
            (void)add_effect(r, failed ? EFFECT_DROP : EFFECT_SYNC, node);
        else if (!failed)
            add_effect(r, EFFECT_SYNC_DIR, node)->dir = node;
    } else if (e->kind == SYS_FTRUNCATE && result >= 0) {
        on_resize(r, node, e->len);
    } else if (e->kind == SYS_FALLOCATE && result >= 0 && e->off + e->len > r->sizes[node]) {
        on_resize(r, node, e->off + e->len);
    }
}

static int before_call(void *ctx, const struct sys_event *e)
{
    struct recorder *r = ctx;
    int veto = r->injector && r->injector->before ? r->injector->before(r->injector->ctx, e) : 0;
    /* A sync that was refused has failed (R3) even though the kernel never heard of it. */
    if (veto > 0 && (e->kind == SYS_FSYNC || e->kind == SYS_FDATASYNC)) {
        (void)pthread_mutex_lock(&r->lock);
        on_call(r, e, -veto, true);
        (void)pthread_mutex_unlock(&r->lock);
    }
    return veto;
}

static int after_call(void *ctx, const struct sys_event *e, int64_t result)
{
    struct recorder *r = ctx;
    int error = r->injector && r->injector->after && result >= 0
                    ? r->injector->after(r->injector->ctx, e, result)
                    : 0;
    (void)pthread_mutex_lock(&r->lock);
    on_call(r, e, result, error > 0 || result < 0);
    (void)pthread_mutex_unlock(&r->lock);
    return error;
}

/* Stores and msync -----------------------------------------------------------------------------*/

static void after_io(void *ctx, const struct io_event *e, int error)
{
    struct recorder *r = ctx;
    uint32_t node = e->fd >= 0 && e->fd < MAX_FD ? r->fd_node[e->fd] : NO_NODE;
    if (node == NO_NODE || (e->kind != IO_STORE && e->kind != IO_MSYNC))
        return;
    (void)pthread_mutex_lock(&r->lock);
    if (e->kind == IO_STORE) {
        add_write(r, node, e->off, e->bytes, (size_t)e->len);
    } else {
        struct effect *sync = add_effect(r, error ? EFFECT_DROP_RANGE : EFFECT_SYNC_RANGE, node);
        sync->off = e->off;
        sync->len = e->len;
    }
    (void)pthread_mutex_unlock(&r->lock);
}

static void at_kill_point(void *ctx, enum kill_point point)
{
    struct recorder *r = ctx;
    r->phase = point;
    if (r->kill_point)
        r->kill_point(r->ctx, point);
}

/* Start and stop -------------------------------------------------------------------------------*/

static void read_file(struct recorder *r, uint32_t node, const char *path)
{
    struct trace_node *n = &r->trace.nodes[node];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    n->bytes = grow(NULL, n->size + 1);
    uint64_t done = 0;
    ssize_t got = 1;
    while (fd >= 0 && done < n->size && got > 0) {
        got = pread(fd, n->bytes + done, n->size - done, (off_t)done);
        done += got > 0 ? (uint64_t)got : 0;
    }
    (void)close(fd);
    if (done != n->size)
        (void)memset(n->bytes + done, 0, n->size - done);
}

static void snapshot(struct recorder *r, const char *path, uint32_t dir)
{
    DIR *d = opendir(path);
    const struct dirent *entry;
    while (d && (entry = readdir(d)) != NULL) {
        char below[768];
        struct stat st;
        uint32_t parent;
        char name[NAME_BYTES];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        (void)snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        if (stat(below, &st) != 0 || !resolve(r, below, &parent, name))
            continue;
        uint32_t node = add_node(r, S_ISDIR(st.st_mode), (uint64_t)st.st_size);
        names_link(&r->now, dir, name, node);
        if (S_ISDIR(st.st_mode)) {
            snapshot(r, below, node);
        } else {
            r->trace.nodes[node].size = (uint64_t)st.st_size;
            read_file(r, node, below);
        }
    }
    if (d)
        (void)closedir(d);
}

static struct recorder *new_recorder(const char *root)
{
    struct recorder *r = grow(NULL, sizeof *r);
    (void)memset(r, 0, sizeof *r);
    (void)snprintf(r->root, sizeof r->root, "%s", root);
    (void)pthread_mutex_init(&r->lock, NULL);
    for (int i = 0; i < MAX_FD; i++)
        r->fd_node[i] = NO_NODE;
    return r;
}

static void install(struct recorder *r)
{
    r->calls = (struct interpose_hooks){r, r->root, before_call, after_call};
    r->io = (struct io_hooks){r, NULL, after_io, at_kill_point};
    interpose_set(&r->calls);
    io_hooks = &r->io;
}

struct recorder *recorder_start(const char *root, const struct injector *injector,
                                void (*kill_point)(void *ctx, enum kill_point point), void *ctx)
{
    struct recorder *r = new_recorder(root);
    r->injector = injector;
    r->kill_point = kill_point;
    r->ctx = ctx;
    (void)add_node(r, true, 0);
    snapshot(r, root, 0);
    names_copy(&r->trace.start, &r->now);
    install(r);
    return r;
}

static void take_over(struct recorder *r, const struct trace *before, size_t position)
{
    struct trace *t = &r->trace;
    for (uint32_t i = 0; i < before->n_nodes; i++) {
        const struct trace_node *old = &before->nodes[i];
        uint32_t node = add_node(r, old->is_dir, old->size);
        t->nodes[node].size = old->size;
        if (old->bytes) {
            t->nodes[node].bytes = grow(NULL, old->size + 1);
            (void)memcpy(t->nodes[node].bytes, old->bytes, old->size);
        }
    }
    names_copy(&t->start, &before->start);
    names_copy(&r->now, &before->start);
    t->n = t->cap = position;
    t->effects = grow(NULL, (position + 1) * sizeof t->effects[0]);
    (void)memcpy(t->effects, before->effects, position * sizeof t->effects[0]);
    t->arena_n = t->arena_cap = before->arena_n;
    t->arena = grow(NULL, before->arena_n + 1);
    (void)memcpy(t->arena, before->arena, before->arena_n);
    for (size_t i = 0; i < position; i++) {
        const struct effect *e = &t->effects[i];
        if (e->kind == EFFECT_SIZE)
            r->sizes[e->node] = e->off;
        else if (e->kind == EFFECT_LINK || e->kind == EFFECT_RENAME || e->kind == EFFECT_UNLINK)
            names_apply(&r->now, e);
    }
}

struct recorder *recorder_continue(const char *root, const struct trace *before, size_t position)
{
    struct recorder *r = new_recorder(root);
    take_over(r, before, position);
    install(r);
    return r;
}

size_t recorder_position(const struct recorder *r)
{
    return r->trace.n;
}

void recorder_stop(struct recorder *r, struct trace *ret_trace)
{
    io_hooks = NULL;
    interpose_set(NULL);
    *ret_trace = r->trace;
    free(r->now.at);
    free(r->sizes);
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}

void trace_free(struct trace *t)
{
    for (uint32_t i = 0; i < t->n_nodes; i++)
        free(t->nodes[i].bytes);
    free(t->nodes);
    free(t->start.at);
    free(t->effects);
    free(t->arena);
    *t = (struct trace){0};
}
