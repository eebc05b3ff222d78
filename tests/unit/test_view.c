/* test_view.c -- the map grows in place, ends with the file, and cannot be written through. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/io.h"
#include "storage/view.h"

static char dir[256], path[300];

static struct layout small_layout(void)
{
    const struct layout_params p = {.dim = 4, .M = 4, .ef_construction = 1, .slot_shift = 4};
    struct layout l;
    assert_int_equal(layout_compute(&p, &l), NAVMAP_OK);
    assert_int_equal(l.chunk_bytes, 65536);
    return l;
}

/* A sparse file of so many chunks. */
static int make_file(uint32_t nchunks)
{
    struct layout l = small_layout();
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)layout_file_bytes(&l, nchunks)), 0);
    return fd;
}

static struct view *must_map(int fd, uint32_t nchunks, bool writable)
{
    struct layout l = small_layout();
    struct view *v = NULL;
    if (view_map(fd, path, &l, nchunks, writable, &v) != NAVMAP_OK)
        fail_msg("%s", navmap_error_detail());
    return v;
}

static void set_chunks(const struct view *v, uint32_t nchunks)
{
    assert_int_equal(ftruncate(v->fd, (off_t)layout_file_bytes(&v->layout, nchunks)), 0);
}

static bool must_extend(struct view *v, uint32_t nchunks)
{
    bool fits = false;
    if (view_extend(v, nchunks, &fits) != NAVMAP_OK)
        fail_msg("%s", navmap_error_detail());
    return fits;
}

static int setup(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%s/navmap-view-XXXXXX", tmp ? tmp : "/tmp");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/data", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path) == 0 && rmdir(dir) == 0 ? 0 : -1;
}

static int unhook(void **state)
{
    (void)state;
    io_hooks = NULL;
    return 0;
}

/* The signal that a child dies of when it does this. */
static int death_of(void (*act)(struct view *v, uint64_t at), struct view *v, uint64_t at)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would turn it into an exit */
        signal(SIGBUS, SIG_DFL);
        act(v, at);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

__attribute__((no_sanitize("address", "undefined"))) static void read_at(struct view *v,
                                                                         uint64_t at)
{
    (void)*(const volatile uint8_t *)(v->base + at);
}

__attribute__((no_sanitize("address", "undefined"))) static void write_at(struct view *v,
                                                                          uint64_t at)
{
    *(volatile uint8_t *)(uintptr_t)(v->base + at) = 1;
}

/* Ranges of this process that map the data file. */
static unsigned maps_of_file(void)
{
    char line[1024];
    unsigned n = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL)
        n += strstr(line, path) != NULL;
    fclose(f);
    return n;
}

static uint64_t mapped_end;

static int refuse_map_anew(void *ctx, const struct io_event *event)
{
    (void)ctx;
    return event->kind == IO_MMAP && event->off < mapped_end ? EINVAL : 0;
}

static const struct io_hooks no_map_anew = {.before = refuse_map_anew};

static void test_grows_in_place(void **state)
{
    (void)state;
    struct view *v = must_map(make_file(1), 1, false);
    const uint8_t *base = v->base;
    assert_null(v->wbase);
    assert_int_equal(v->reserved, 1u << 30);
    assert_int_equal(view_slots(v), 16);
    assert_int_equal(view_cells(v), 23);
    assert_int_equal((uintptr_t)base % 4096, 0);

    /* A hundredfold, past the size from which huge pages are mapped.  What is mapped stays mapped:
     * queries read it meanwhile. */
    assert_true(layout_file_bytes(&v->layout, 100) > VIEW_HUGE_FILE + VIEW_HUGE_PAGE);
    for (uint32_t n = 2; n <= 100; n += 7) {
        set_chunks(v, n);
        mapped_end = view_file_room(&v->layout, n == 2 ? 1 : n - 7);
        uint32_t last = n * 16 - 1;
        float value = (float)n;
        assert_int_equal(pwrite(v->fd, &value, 4, (off_t)layout_vec_off(&v->layout, last)), 4);
        io_hooks = &no_map_anew;
        assert_true(must_extend(v, n));
        io_hooks = NULL;
        assert_ptr_equal(v->base, base);
        assert_int_equal(view_slots(v), n * 16);
        assert_true(((const float *)view_vec(v, last))[0] == value);
        assert_true(((const float *)view_vec(v, last))[3] == 0);
    }
    assert_int_equal(death_of(read_at, v, layout_file_bytes(&v->layout, 100) - 1), 0);
    /* Asking for what is there is nothing; the file may be longer than the map. */
    assert_true(must_extend(v, 1));
    assert_int_equal(view_slots(v), 100 * 16);
    set_chunks(v, 200);
    assert_int_equal(death_of(read_at, v, view_file_room(&v->layout, 100)), SIGSEGV);
    view_unref(v);
}

static void test_accessors(void **state)
{
    (void)state;
    int fd = make_file(2);
    struct view *v = must_map(fd, 2, false);
    const struct layout *l = &v->layout;
    uint32_t slot = 17, word = STATE_WORD(3, SLOT_LIVE), id = 9, cell = 24, up = TAG_UP(24, 1);
    struct disk_tag tag = {.label = 77, .up = up, .gen = 3};
    struct disk_root root = {.extent = EXTENT(2, 18)};
    struct disk_live live = {.superseded = 1, .apply_end = 6};
    float x = 2.5f;
    assert_int_equal(pwrite(fd, &word, 4, (off_t)layout_state_off(l, slot)), 4);
    assert_int_equal(pwrite(fd, &id, 4, (off_t)layout_row_off(l, slot)), 4);
    assert_int_equal(pwrite(fd, &id, 4, (off_t)layout_upper_off(l, cell)), 4);
    assert_int_equal(pwrite(fd, &tag, 32, (off_t)layout_tag_off(l, slot)), 32);
    assert_int_equal(pwrite(fd, &x, 4, (off_t)layout_vec_off(l, slot)), 4);
    assert_int_equal(pwrite(fd, &root, sizeof(root), LAYOUT_ROOT_OFFSET), sizeof(root));
    assert_int_equal(pwrite(fd, &live, sizeof(live), LAYOUT_LIVE_OFFSET), sizeof(live));
    assert_int_equal(atomic_load(view_state(v, slot)), word);
    assert_int_equal(atomic_load(view_row(v, slot)), 9);
    assert_int_equal(atomic_load(view_upper(v, cell)), 9);
    assert_int_equal(view_tag_label(v, slot), 77);
    assert_int_equal(view_tag_up(v, slot), up);
    assert_int_equal(view_tag(v, slot)->gen, 3);
    assert_true(((const float *)view_vec(v, slot))[0] == 2.5f);
    assert_ptr_equal(view_code(v, slot), v->base + layout_code_off(l, slot));
    assert_int_equal(view_load64(&view_root(v)->extent, memory_order_acquire), root.extent);
    assert_int_equal(view_load32(&view_live(v)->superseded, memory_order_relaxed), 1);
    assert_int_equal(view_load64(&view_live(v)->apply_end, memory_order_acquire), 6);
    view_unref(v);
}

static void test_reservation_spent(void **state)
{
    (void)state;
    struct view *v = must_map(make_file(1), 1, true);
    /* 1 GiB holds the first 64 KiB and 16,383 chunks. */
    set_chunks(v, 16384);
    assert_true(must_extend(v, 16383));
    assert_false(must_extend(v, 16384));
    assert_int_equal(view_slots(v), 16383 * 16);
    assert_int_equal(atomic_load(view_state(v, 16383 * 16 - 1)), 0);

    /* A new view has eightfold room, while the old one is still good. */
    struct view *w = must_map(fcntl(v->fd, F_DUPFD_CLOEXEC, 0), 16384, true);
    assert_true(w->reserved == 8 * layout_file_bytes(&w->layout, 16384));
    assert_true(w->dev == v->dev && w->ino == v->ino);
    assert_int_equal(atomic_load(view_state(v, 5)), 0);
    view_unref(v);
    assert_int_equal(atomic_load(view_state(w, 16384 * 16 - 1)), 0);
    view_unref(w);
}

/* mmap's refusal of more than `most` bytes at once, as an address space limit would have it. */
static uint64_t most, refusals;

static int refuse_large(void *ctx, const struct io_event *event)
{
    (void)ctx;
    if (event->kind != IO_MMAP || event->fd >= 0 || event->len <= most)
        return 0;
    refusals++;
    return ENOMEM;
}

static const struct io_hooks small_space = {.before = refuse_large};

static void test_little_address_space(void **state)
{
    (void)state;
    int fd = make_file(100);
    struct layout l = small_layout();
    uint64_t size = layout_file_bytes(&l, 100);
    const uint64_t limits[] = {UINT64_C(1) << 29, (UINT64_C(1) << 24) + 5, size};
    io_hooks = &small_space;
    for (int i = 0; i < 3; i++) {
        most = limits[i];
        refusals = 0;
        struct view *v = must_map(fcntl(fd, F_DUPFD_CLOEXEC, 0), 100, true);
        assert_true(v->reserved <= most && v->reserved >= size);
        assert_true(v->reserved * 2 > most || v->reserved == size);
        assert_int_equal(v->reserved % 65536, 0);
        assert_true(refusals > 0);
        assert_int_equal(view_slots(v), 1600);
        if (v->reserved == size) {
            set_chunks(v, 101);
            assert_false(must_extend(v, 101));
        }
        view_unref(v);
    }
    most = size - 1; /* not even the file fits */
    struct view *v = NULL;
    assert_int_equal(view_map(fd, path, &l, 100, false, &v), NAVMAP_ENOMEM);
    assert_null(v);
    assert_int_equal(close(fd), 0); /* still the caller's */
}

static void test_short_file(void **state)
{
    (void)state;
    struct layout l = small_layout();
    int fd = make_file(3);
    struct view *v = NULL;
    uint64_t size = layout_file_bytes(&l, 3);
    const uint64_t sizes[] = {0, 1, 65536, size - 4096, size - 1};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char sentence[64];
        assert_int_equal(ftruncate(fd, (off_t)sizes[i]), 0);
        assert_int_equal(view_map(fd, path, &l, 3, false, &v), NAVMAP_ECORRUPT);
        assert_null(v);
        snprintf(sentence, sizeof(sentence), "at least 262144 bytes for 3 chunks, found %llu",
                 (unsigned long long)sizes[i]);
        assert_non_null(strstr(navmap_error_detail(), sentence));
        assert_non_null(strstr(navmap_error_detail(), path));
    }
    /* More chunks than slots or cells can be named. */
    assert_int_equal(view_map(fd, path, &l, layout_chunks_max(&l) + 1, false, &v), NAVMAP_ECORRUPT);
    assert_non_null(strstr(navmap_error_detail(), "number of chunks"));
    assert_int_equal(view_map(fd, path, &l, UINT32_MAX, false, &v), NAVMAP_ECORRUPT);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);

    v = must_map(fd, 3, false);
    bool fits = true;
    assert_int_equal(view_extend(v, 4, &fits), NAVMAP_ECORRUPT);
    assert_int_equal(ftruncate(fd, (off_t)size + 65535), 0);
    assert_int_equal(view_extend(v, 4, &fits), NAVMAP_ECORRUPT);
    assert_int_equal(view_extend(v, UINT32_MAX, &fits), NAVMAP_ECORRUPT);
    assert_int_equal(view_slots(v), 48);
    set_chunks(v, 4);
    assert_true(must_extend(v, 4));
    view_unref(v);
    assert_int_equal(view_map(-1, path, &l, 1, false, &v), NAVMAP_EIO);
}

static void test_alias(void **state)
{
    (void)state;
    struct view *v = must_map(make_file(1), 1, true);
    assert_non_null(v->wbase);
    set_chunks(v, 2);
    assert_true(must_extend(v, 2));
    for (uint32_t slot = 1; slot < 32; slot += 30) { /* in the first map and in the tail */
        uint64_t at = layout_state_off(&v->layout, slot);
        uint32_t read_back = 0;
        atomic_store((_Atomic uint32_t *)(void *)(v->wbase + at), STATE_WORD(slot, SLOT_LIVE));
        assert_int_equal(atomic_load(view_state(v, slot)), STATE_WORD(slot, SLOT_LIVE));
        assert_int_equal(pread(v->fd, &read_back, 4, (off_t)at), 4);
        assert_int_equal(read_back, STATE_WORD(slot, SLOT_LIVE));
        assert_int_equal(io_msync(v->fd, path, v->wbase + at, at, 4), NAVMAP_OK);
    }
    view_unref(v);
}

/* W1: a wild store faults, in a writer as in a reader, in the first map as in a tail. */
static void test_base_is_read_only(void **state)
{
    (void)state;
    for (int writable = 0; writable < 2; writable++) {
        struct view *v = must_map(make_file(1), 1, writable);
        set_chunks(v, 2);
        assert_true(must_extend(v, 2));
        const uint64_t spots[] = {0, LAYOUT_ROOT_OFFSET, LAYOUT_CHUNK0_OFFSET,
                                  layout_file_bytes(&v->layout, 1) + 8,
                                  layout_file_bytes(&v->layout, 2) - 1};
        for (size_t i = 0; i < sizeof(spots) / sizeof(spots[0]); i++) {
            assert_int_equal(death_of(read_at, v, spots[i]), 0);
            assert_int_equal(death_of(write_at, v, spots[i]), SIGSEGV);
        }
        assert_int_equal(death_of(read_at, v, layout_file_bytes(&v->layout, 2)), SIGSEGV);
        assert_int_equal(death_of(read_at, v, v->reserved - 1), SIGSEGV);
        view_unref(v);
    }
}

/* M3: the alias does not exist in a child, and what stands there instead is not unmapped. */
static int child_of_writer(struct view *v, unsigned parents_maps)
{
    if (maps_of_file() * 2 != parents_maps)
        return 1;
    uint8_t *mine = mmap(v->wbase, 65536, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (mine != MAP_FAILED) /* else a sanitizer's memory stands there, which will do as well */
        mine[0] = 42;
    bool fits = false;
    if (view_extend(v, 3, &fits) != NAVMAP_OK || !fits || view_slots(v) != 48)
        return 2;
    if (atomic_load(view_state(v, 47)) != 0)
        return 3;
    view_unref(v);
    if (maps_of_file() != 0)
        return 4;
    return mine == MAP_FAILED || mine[0] == 42 ? 0 : 5;
}

static void test_fork(void **state)
{
    (void)state;
    struct view *v = must_map(make_file(1), 1, true);
    set_chunks(v, 2);
    assert_true(must_extend(v, 2));
    unsigned mine = maps_of_file();
    assert_true(mine >= 2 && mine % 2 == 0);
    set_chunks(v, 3);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(child_of_writer(v, mine));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(maps_of_file(), mine); /* the parent's are as they were */
    v->wbase[LAYOUT_CHUNK0_OFFSET] = 5;
    assert_int_equal(v->base[LAYOUT_CHUNK0_OFFSET], 5);
    view_unref(v);
}

static void test_references(void **state)
{
    (void)state;
    int fd = make_file(1);
    assert_int_equal(maps_of_file(), 0);
    struct view *v = must_map(fd, 1, true);
    assert_int_equal(v->fd, fd);
    assert_int_equal(maps_of_file(), 2);
    view_ref(v);
    view_unref(v);
    assert_int_equal(maps_of_file(), 2);
    assert_true(fcntl(fd, F_GETFD) != -1);
    view_unref(v);
    assert_int_equal(maps_of_file(), 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    view_unref(NULL);
}

/* The n-th mmap fails: nothing is left behind, and the next try succeeds. */
static unsigned countdown;
static int countdown_error;

static int fail_nth_map(void *ctx, const struct io_event *event)
{
    (void)ctx;
    if (event->kind != IO_MMAP || countdown == 0)
        return 0;
    return --countdown == 0 ? countdown_error : 0;
}

static const struct io_hooks nth_map = {.before = fail_nth_map};

static void test_mmap_fails(void **state)
{
    (void)state;
    struct layout l = small_layout();
    io_hooks = &nth_map;
    const int errors[] = {EIO, ENOMEM};
    for (int e = 0; e < 2; e++) {
        countdown_error = errors[e];
        for (unsigned n = 1; n <= 4; n++) { /* two reservations, two maps of the file */
            int fd = make_file(1);
            struct view *v = NULL;
            countdown = n;
            navmap_status status = view_map(fd, path, &l, 1, true, &v);
            if (errors[e] == ENOMEM && n <= 2) { /* as large, but not aligned */
                assert_int_equal(status, NAVMAP_OK);
                assert_int_equal(v->reserved, 1u << 30);
                view_unref(v);
                continue;
            }
            assert_int_equal(status, errors[e] == EIO ? NAVMAP_EIO : NAVMAP_ENOMEM);
            assert_null(v);
            assert_int_equal(maps_of_file(), 0);
            assert_true(fcntl(fd, F_GETFD) != -1);
            v = must_map(fd, 1, true);
            set_chunks(v, 2);
            for (unsigned m = 1; m <= 2; m++) {
                bool fits = true;
                countdown = m;
                assert_int_equal(view_extend(v, 2, &fits),
                                 errors[e] == EIO ? NAVMAP_EIO : NAVMAP_ENOMEM);
                assert_int_equal(view_slots(v), 16);
                assert_int_equal(atomic_load(view_state(v, 15)), 0);
            }
            assert_true(must_extend(v, 2));
            v->wbase[layout_state_off(&l, 31)] = 7;
            assert_int_equal(atomic_load(view_state(v, 31)), 7);
            view_unref(v);
        }
    }
}

/* Every map of the file and every growth is an event. */
static struct io_event events[16];
static unsigned n_events;

static void note(void *ctx, const struct io_event *event, int error)
{
    (void)ctx;
    assert_int_equal(error, 0);
    if (n_events < 16)
        events[n_events] = *event;
    n_events++;
}

static const struct io_hooks recorder = {.after = note};

static void test_events(void **state)
{
    (void)state;
    int fd = make_file(1);
    io_hooks = &recorder;
    n_events = 0;
    struct view *v = must_map(fd, 1, false);
    assert_int_equal(n_events, 2);
    assert_int_equal(events[0].fd, -1); /* the reservation */
    assert_int_equal(events[1].kind, IO_MMAP);
    assert_int_equal(events[1].fd, fd);
    assert_int_equal(events[1].off, 0);
    assert_int_equal(events[1].len, 131072);
    set_chunks(v, 3);
    assert_true(must_extend(v, 3));
    assert_int_equal(n_events, 3);
    assert_int_equal(events[2].off, 131072);
    assert_int_equal(events[2].len, 131072);
    view_unref(v);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, unhook)
    const struct CMUnitTest tests[] = {
        TEST(test_grows_in_place),       TEST(test_accessors),  TEST(test_reservation_spent),
        TEST(test_little_address_space), TEST(test_short_file), TEST(test_alias),
        TEST(test_base_is_read_only),    TEST(test_fork),       TEST(test_references),
        TEST(test_mmap_fails),           TEST(test_events),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
