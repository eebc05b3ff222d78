/* sealed.c -- fuzz target: sealed files, whose header and ROOT carry right sums whatever they say.
 *
 * `how`: 1 = the sums are left as they are; 2 = load a copy; 4 = load with verify; 8 = measure by
 * another space; 16 = only look.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/world.h"

#define OPTIONS .struct_size = sizeof(struct navmap_options)
static const struct fuzz_plan plans[] = {
    {.options = {OPTIONS, .dim = 9, .M = 4, .slot_shift = 4, .ef_construction = 20},
     .items = 60,
     .updates = 10,
     .deleted = 9},
    {.options = {OPTIONS, .dim = 5, .flat = 1, .slot_shift = 5, .vectors = NAVMAP_VECTORS_F16},
     .items = 40,
     .deleted = 6},
    {.options = {OPTIONS, .dim = 16, .space = NAVMAP_COSINE, .M = 8, .slot_shift = 6,
                 .ef_construction = 20, .max_elements = 60, .bounded = 1,
                 .allow_replace_deleted = 1},
     .items = 50,
     .deleted = 5},
    {.options = {OPTIONS, .dim = 2, .space = NAVMAP_IP, .M = 2, .slot_shift = 4,
                 .ef_construction = 10, .codes = NAVMAP_CODES_NONE, .vectors = NAVMAP_VECTORS_F16},
     .items = 45},
    {.options = {OPTIONS, .dim = 3, .M = 4}, .items = 0},
};
#define BASES (sizeof plans / sizeof *plans)

static struct {
    struct fuzz_image image;
    struct layout layout;
    struct fuzz_truth truth;
} base[BASES];
static struct fuzz_image mine;
static const struct layout *layout_now;

static void make(uint32_t i)
{
    navmap_index *ix = NULL;
    int fd = memfd_create("base", MFD_CLOEXEC), read_only;
    fuzz_sound(navmap_new(&plans[i].options, &ix));
    fuzz_fill(ix, &plans[i], &base[i].truth);
    fuzz_sound(navmap_save_fd(ix, fd));
    fuzz_sound(navmap_close(ix));
    const size_t n = (size_t)lseek(fd, 0, SEEK_END);
    void *bytes = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
    fuzz_check(bytes != MAP_FAILED, "no map of a base");
    fuzz_image_init(&base[i].image, bytes, n);
    (void)munmap(bytes, n);
    (void)close(fd);
    fuzz_sound(layout_read_header(base[i].image.bytes, n, "base", &base[i].layout, &read_only));
    fuzz_describe(&base[i].image, &base[i].layout);
}

static void resum(struct fuzz_image *im, uint32_t slot)
{
    fuzz_sum_slot(im, layout_now, slot);
}

static void begin(void)
{
    size_t most = 0;
    for (uint32_t i = 0; i < BASES; i++) {
        make(i);
        most = base[i].image.capacity > most ? base[i].image.capacity : most;
    }
    static uint8_t *bytes;
    mine.bytes = bytes = fuzz_must(malloc(most));
}

static void run(const uint8_t *bytes, size_t n)
{
    struct fuzz_script s;
    if (!mine.bytes)
        begin();
    fuzz_read_script(bytes, n, &s);
    const uint32_t b = s.base % BASES;
    layout_now = &base[b].layout;
    const bool resummed = fuzz_apply(&s, &base[b].image, &mine, resum);
    if (!(s.how & 1))
        fuzz_sum_head(&mine);
    int fd = memfd_create("sealed", MFD_CLOEXEC);
    fuzz_check(fd >= 0 && write(fd, mine.bytes, mine.n) == (ssize_t)mine.n, "no memfd");
    const struct navmap_load_options o = {.struct_size = sizeof o,
                                          .has_space = (s.how & 8) != 0,
                                          .space = s.how >> 5 & 1,
                                          .max_elements = s.how & 64 ? 70 : 0,
                                          .allow_replace_deleted = s.how >> 7,
                                          .flat = plans[b].options.flat,
                                          .copy = (s.how & 2) != 0,
                                          .verify = (s.how & 4) != 0};
    char path[40];
    navmap_index *ix = NULL;
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fuzz_look(path);
    if (fuzz_taken(navmap_load_fd(fd, "sealed", &o, &ix))) {
        fuzz_use(ix, resummed ? NULL : &base[b].truth, !(s.how & 16));
        (void)fuzz_ok(navmap_close(ix));
    }
    (void)close(fd);
}

const struct fuzz_target fuzz_sealed = {"sealed", run};
