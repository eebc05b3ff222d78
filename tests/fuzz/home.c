/* home.c -- makes the directories of home.h and visits them.
 *
 * LMDB trusts its file and is no target (storage/wal.h); so wal.mdb is what it was, byte for byte,
 * whenever a data file is tried.
 */
#include "tests/fuzz/home.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/files.h"
#include "storage/wal.h"

static void write_file(const char *path, const uint8_t *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    fuzz_check(fd >= 0, "%s does not open", path);
    fuzz_check(ftruncate(fd, (off_t)n) == 0 && pwrite(fd, bytes, n, 0) == (ssize_t)n,
               "%s cannot be written", path);
    (void)close(fd);
}

static uint8_t *read_file(const char *path, size_t *ret_n)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    fuzz_check(fd >= 0 && fstat(fd, &st) == 0, "%s does not open", path);
    uint8_t *bytes = fuzz_must(malloc((size_t)st.st_size));
    fuzz_check(read(fd, bytes, (size_t)st.st_size) == st.st_size, "%s cannot be read", path);
    (void)close(fd);
    *ret_n = (size_t)st.st_size;
    return bytes;
}

static void add_to_log(navmap_index *ix, struct fuzz_truth *t, uint32_t logged)
{
    for (uint32_t i = 0; i < logged; i++) {
        const uint64_t fresh = 3 * (uint64_t)(900 + i) + 1, old = 3 * (uint64_t)(2 * i + 1) + 1;
        fuzz_sound(navmap_add(ix, 1, fuzz_vector(2000 + i, t->dim), &fresh, NULL, NULL));
        fuzz_note(ix, fresh, t);
        fuzz_sound(navmap_add(ix, 1, fuzz_vector(3000 + i, t->dim), &old, NULL, NULL));
        fuzz_note(ix, old, t);
        fuzz_sound(navmap_delete(ix, old));
    }
}

void fuzz_home_make(struct fuzz_home *h, const char *name, const struct fuzz_plan *plan,
                    uint32_t logged)
{
    navmap_index *ix = NULL;
    char at[120];
    int fd, read_only;
    (void)snprintf(h->dir, sizeof h->dir, "%s/%s", fuzz_directory(), name);
    (void)snprintf(at, sizeof at, "%s%s", h->dir, logged ? ".alive" : "");
    fuzz_sound(navmap_create(at, &plan->options, &ix));
    fuzz_fill(ix, plan, &h->truth);
    fuzz_sound(navmap_flush(ix));
    if (logged) {
        add_to_log(ix, &h->truth, logged);
        harness_copy_dir(at, h->dir);
        (void)unlink(harness_path(h->dir, WAL_FILE "-lock"));
    }
    fuzz_sound(navmap_close(ix));
    if (logged)
        harness_remove(at);
    char *path = NULL;
    fuzz_sound(files_open_data(h->dir, 1, O_RDONLY, &fd, &path, &h->layout, &read_only));
    (void)close(fd);
    (void)snprintf(h->data_path, sizeof h->data_path, "%s", path);
    free(path);
    (void)snprintf(h->wal_path, sizeof h->wal_path, "%s/" WAL_FILE, h->dir);
    h->data = read_file(h->data_path, &h->data_bytes);
    h->wal = read_file(h->wal_path, &h->wal_bytes);
}

void fuzz_home_restore(struct fuzz_home *h, const uint8_t *data, size_t n)
{
    write_file(h->data_path, data, n);
    if (h->wal_spoilt)
        write_file(h->wal_path, h->wal, h->wal_bytes);
    h->wal_spoilt = false;
}

void fuzz_home_visit(struct fuzz_home *h, const struct fuzz_truth *truth, uint32_t visit)
{
    const struct navmap_open_options o = {
        .struct_size = sizeof o, .durability = visit & FUZZ_MANUAL ? NAVMAP_MANUAL : NAVMAP_FULL};
    navmap_index *ix = NULL;
    h->wal_spoilt = true; /* a reader replays the log, too */
    if (!(visit & FUZZ_NO_VERIFY))
        fuzz_look(h->dir);
    if (!(visit & FUZZ_NO_READER) && fuzz_taken(navmap_open(h->dir, NAVMAP_READ, NULL, &ix))) {
        fuzz_use(ix, truth, false);
        (void)fuzz_ok(navmap_close(ix));
    }
    if (!(visit & FUZZ_NO_WRITER) && fuzz_taken(navmap_open(h->dir, NAVMAP_WRITE, &o, &ix))) {
        fuzz_use(ix, truth, !(visit & FUZZ_LOOK));
        (void)fuzz_ok(navmap_close(ix));
    }
}
