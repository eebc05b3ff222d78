/* malloc_world.c -- small indexes with known items; see malloc_world.h. */
#include "tests/torture/malloc_world.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/hnswlib_image.h"

const char *const form_names[FORMS] = {"directory", "manual", "reader", "private",
                                       "mapped",    "flat",   "paths"};

void world_vector(uint64_t label, uint32_t version, float *ret_vector)
{
    for (uint32_t j = 0; j < WORLD_DIM; j++)
        ret_vector[j] = (float)(mix64(label << 20 | version << 4 | j) % 1000);
}

void world_model(struct model *ret_model)
{
    memset(ret_model, 0, sizeof *ret_model);
    for (uint32_t i = 0; i < WORLD_ITEMS; i++)
        ret_model->item[i] = (struct item){1, i == WORLD_MARKED ? MARKED : LIVE};
}

void world_renew(struct model *m, uint64_t label)
{
    m->item[label] = (struct item){m->item[label].version + 1, LIVE};
}

struct navmap_options world_options(enum form form)
{
    return (struct navmap_options){.struct_size = sizeof(struct navmap_options),
                                   .dim = WORLD_DIM,
                                   .M = 4,
                                   .ef_construction = 30,
                                   .durability = form == MANUAL ? NAVMAP_MANUAL : NAVMAP_FULL,
                                   .allow_replace_deleted = 1,
                                   .slot_shift = 4,
                                   .flat = form == FLAT};
}

struct navmap_open_options world_open_options(enum form form)
{
    return (struct navmap_open_options){.struct_size = sizeof(struct navmap_open_options),
                                        .durability = form == MANUAL ? NAVMAP_MANUAL : NAVMAP_FULL};
}

static bool ok(struct world *w, navmap_status status, const char *what)
{
    if (status == NAVMAP_OK)
        return true;
    return ward_says(w->ward, "%s: %s: %s", what, navmap_strerror(status), navmap_error_detail());
}

/* The items of world_model(). */
static bool fill(struct world *w, navmap_index *ix)
{
    float vectors[WORLD_ITEMS * WORLD_DIM];
    uint64_t labels[WORLD_ITEMS];
    for (uint32_t i = 0; i < WORLD_ITEMS; i++) {
        labels[i] = i;
        world_vector(i, 1, vectors + (size_t)i * WORLD_DIM);
    }
    return ok(w, navmap_add(ix, WORLD_ITEMS, vectors, labels, NULL, NULL), "filling") &&
           ok(w, navmap_delete(ix, WORLD_MARKED), "marking") && ok(w, navmap_flush(ix), "flushing");
}

static bool write_bin(const char *path)
{
    struct hnswlib_plan plan = {
        .seed = 7, .count = 40, .dim = WORLD_DIM, .M = 4, .capacity = 50, .top = 2, .deleted = 9};
    struct hnswlib_image image;
    hnswlib_image_make(&plan, &image);
    FILE *f = fopen(path, "wb");
    bool good = f && fwrite(image.bytes, 1, image.n, f) == image.n;
    if (f)
        (void)fclose(f);
    hnswlib_image_free(&image);
    return good;
}

static bool make(struct world *w)
{
    navmap_index *ix = NULL;
    struct navmap_options o = world_options(DIRECTORY);
    const char *clean = harness_path(w->templates, "clean");
    const char *crashed = harness_path(w->templates, "crashed");
    if (!ok(w, navmap_create(clean, &o, &ix), "create") || !fill(w, ix) ||
        !ok(w, navmap_save(ix, harness_path(w->templates, "sealed")), "save") ||
        !ok(w, navmap_close(ix), "close"))
        return false;
    o = world_options(FLAT);
    if (!ok(w, navmap_new(&o, &ix), "new") || !fill(w, ix) ||
        !ok(w, navmap_save(ix, harness_path(w->templates, "sealed-flat")), "save") ||
        !ok(w, navmap_close(ix), "close"))
        return false;
    if (!write_bin(harness_path(w->templates, "bin")))
        return ward_says(w->ward, "writing hnswlib's file");
    o = world_options(DIRECTORY);
    return ok(w, navmap_create(crashed, &o, &ix), "create") && fill(w, ix) &&
           /* What is left in the log: items 0 and 1 again, as they were. */
           ok(w, navmap_delete(ix, 0), "delete") && ok(w, navmap_undelete(ix, 0), "undelete") &&
           ok(w, navmap_delete(ix, 1), "delete") && ok(w, navmap_undelete(ix, 1), "undelete");
}

static void copy_file(const char *from, const char *to)
{
    static char bytes[1 << 20];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    size_t n = in ? fread(bytes, 1, sizeof bytes, in) : 0;
    if (!out || n == 0 || n == sizeof bytes || fwrite(bytes, 1, n, out) != n)
        (void)fprintf(stderr, "cannot copy %s\n", from);
    if (in)
        (void)fclose(in);
    if (out)
        (void)fclose(out);
}

bool world_templates(struct world *w)
{
    if (mkdir(w->templates, 0755) != 0 || mkdir(w->root, 0755) != 0)
        return ward_says(w->ward, "mkdir");
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0)
        _exit(make(w) ? 0 : 1); /* the crash */
    bool good = harness_wait(pid) == 0;
    /* And a new generation that was never finished: recovery has that to remove. */
    copy_file(harness_path(w->templates, "crashed/data-00000001.navmap"),
              harness_path(w->templates, "crashed/data-00000002.navmap"));
    return good;
}

/* harness_path() has few buffers, and copying uses them up. */
static void copy_index(const struct world *w, const char *from, const char *to)
{
    char source[320], target[320];
    (void)snprintf(source, sizeof source, "%s/%s", w->templates, from);
    (void)snprintf(target, sizeof target, "%s/%s", w->root, to);
    harness_copy_dir(source, target);
}

bool world_opens(struct world *w, enum form form)
{
    const struct navmap_open_options o = world_open_options(form);
    return ok(w, navmap_open(w->path, form == READER ? NAVMAP_READ : NAVMAP_WRITE, &o, &w->ix),
              "opening");
}

bool world_begin(struct world *w, enum form form)
{
    w->form = form;
    w->ix = NULL;
    (void)snprintf(w->path, sizeof w->path, "%s/index", w->root);
    (void)snprintf(w->file, sizeof w->file, "%s/sealed", w->root);
    harness_remove(w->root);
    if (mkdir(w->root, 0755) != 0)
        return ward_says(w->ward, "mkdir %s", w->root);
    world_model(&w->before);
    w->after = w->before;
    copy_file(harness_path(w->templates, form == FLAT ? "sealed-flat" : "sealed"), w->file);
    if (form == DIRECTORY || form == MANUAL || form == READER || form == PATHS)
        copy_index(w, "clean", "index");
    if (form == PATHS) {
        copy_index(w, "crashed", "crashed");
        copy_file(harness_path(w->templates, "bin"), harness_path(w->root, "bin"));
        return true;
    }
    if (form == MAPPED) {
        const struct navmap_load_options o = {.struct_size = sizeof o, .allow_replace_deleted = 1};
        return ok(w, navmap_load(w->file, &o, &w->ix), "loading");
    }
    if (form == PRIVATE || form == FLAT) {
        struct navmap_options o = world_options(form);
        return ok(w, navmap_new(&o, &w->ix), "new") && fill(w, w->ix);
    }
    return world_opens(w, form);
}

/* What holds --------------------------------------------------------------------------------------
 */

static bool is_item(struct world *w, uint64_t label, const struct item *item, const bool *listed,
                    const bool *live)
{
    float v[WORLD_DIM], expected[WORLD_DIM];
    if (listed[label] != (item->status != ABSENT) || live[label] != (item->status == LIVE))
        return false;
    if (item->status != LIVE)
        return true;
    world_vector(label, item->version, expected);
    return navmap_get(w->ix, 1, &label, v) == NAVMAP_OK && memcmp(v, expected, sizeof v) == 0;
}

static bool list(struct world *w, bool deleted_too, bool *ret_present)
{
    uint64_t labels[2 * WORLD_LABELS], n = 0;
    memset(ret_present, 0, WORLD_LABELS);
    if (!ok(w, navmap_labels(w->ix, deleted_too, 2 * WORLD_LABELS, labels, &n), "labels"))
        return false;
    for (uint64_t i = 0; i < n; i++) {
        if (labels[i] >= WORLD_LABELS || ret_present[labels[i]])
            return ward_says(w->ward, "label %llu is listed twice, or was never added",
                             (unsigned long long)labels[i]);
        ret_present[labels[i]] = true;
    }
    return true;
}

static bool items_hold(struct world *w, bool exact, uint64_t *ret_live)
{
    bool listed[WORLD_LABELS], live[WORLD_LABELS];
    if (!list(w, true, listed) || !list(w, false, live))
        return false;
    *ret_live = 0;
    for (uint64_t label = 0; label < WORLD_LABELS; label++) {
        const struct item *b = &w->before.item[label], *a = &w->after.item[label];
        bool contains = false;
        if (!is_item(w, label, a, listed, live) && (exact || !is_item(w, label, b, listed, live)))
            return ward_says(w->ward,
                             "label %llu is neither as before nor as after%s: listed %d, live %d; "
                             "before %d version %u, after %d version %u",
                             (unsigned long long)label, exact ? " (must be as after)" : "",
                             listed[label], live[label], b->status, b->version, a->status,
                             a->version);
        if (!ok(w, navmap_contains(w->ix, label, &contains), "contains"))
            return false;
        if (contains != live[label])
            return ward_says(w->ward, "label %llu: contains says %d", (unsigned long long)label,
                             contains);
        *ret_live += live[label];
    }
    return true;
}

static void on_finding(void *ctx, const struct navmap_finding *f)
{
    struct world *w = ctx;
    if (!f->warning && w->ward->why[0] == '\0')
        (void)ward_says(w->ward, "check: %s, slot %u: %s", f->section, f->slot, f->message);
}

bool world_holds(struct world *w, bool exact)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    const struct navmap_search_options o = {.struct_size = sizeof o, .ef = WORLD_LABELS};
    uint64_t live, labels[WORLD_LABELS];
    float v[WORLD_DIM], distances[WORLD_LABELS];
    if (!items_hold(w, exact, &live))
        return false;
    w->ward->why[0] = '\0';
    if (!ok(w, navmap_check(w->ix, on_finding, w, &r), "check") || r.damaged != 0)
        return false;
    world_vector(20, 1, v);
    return ok(w, navmap_search(w->ix, 1, v, live, &o, labels, distances, NULL), "search") &&
           ok(w, navmap_search_exact(w->ix, 1, v, live, &o, labels, distances, NULL), "exact");
}

bool world_reopens(struct world *w, bool exact)
{
    struct navmap_verify_result r = {0};
    w->ward->why[0] = '\0';
    if (!ok(w, navmap_verify(w->path, false, on_finding, w, &r), "verify") || r.damaged != 0)
        return false;
    if (!world_opens(w, READER))
        return false;
    bool good = world_holds(w, exact);
    navmap_index *ix = w->ix;
    w->ix = NULL;
    return ok(w, navmap_close(ix), "closing the reader") && good;
}

bool world_tidy(struct world *w, const char *names)
{
    DIR *dir = opendir(w->root);
    const struct dirent *e;
    bool good = dir != NULL;
    while (good && (e = readdir(dir)) != NULL) {
        char name[300];
        (void)snprintf(name, sizeof name, "%s ", e->d_name);
        if (e->d_name[0] != '.' && !strstr(names, name))
            good = ward_says(w->ward, "%s was left behind", e->d_name);
    }
    if (dir)
        (void)closedir(dir);
    return good;
}
