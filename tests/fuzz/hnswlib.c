/* hnswlib.c -- fuzz target: hnswlib's own files, with and without a graph, for the importer.
 *
 * `how`: 1 = only look; 2 and 4 = the space; 8 = load a copy; 16 = verify; the three bits
 * above = as the other kind of file than it is.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/world.h"
#include "tests/support/hnswlib_image.h"

#define HEAD 96u
#define FLAT_HEAD 24u

static const struct {
    struct hnswlib_plan plan;
    bool flat;
} plans[] = {
    {{.seed = 1, .count = 40, .dim = 4, .M = 4, .capacity = 50, .top = 4, .deleted = 7}, false},
    {{.seed = 2, .count = 12, .dim = 3, .M = 2, .capacity = 12, .top = 6, .every = 1}, false},
    {{.seed = 3, .count = 30, .dim = 17, .M = 6, .capacity = 30, .top = 2, .twins = 5}, false},
    {{.seed = 4, .count = 0, .dim = 4, .M = 4, .capacity = 10}, false},
    {{.seed = 5, .count = 1, .dim = 4, .M = 4, .capacity = 1, .top = 2}, false},
    {{.seed = 6, .count = 20, .dim = 5, .M = 2, .capacity = 25}, true},
    {{.seed = 7, .count = 0, .dim = 2, .M = 2, .capacity = 3}, true},
};
#define BASES (sizeof plans / sizeof *plans)

static struct fuzz_image base[BASES], mine;

/* The words of the head, the parts of each element, the lists above, and everything as words. */
static void describe(struct fuzz_image *im, const struct hnswlib_image *from, bool flat)
{
    const struct hnswlib_plan *p = &from->plan;
    const uint64_t at = flat ? FLAT_HEAD : HEAD, element = from->element_bytes;
    fuzz_add_region(im, 0, 8, flat ? 3 : 12, 1, 8);
    fuzz_add_region(im, 0, 4, at / 4, 1, 4);
    fuzz_add_region(im, 0, 1, at, 1, 1);
    if (p->count > 0 && !flat) {
        const uint64_t uppers = HEAD + p->count * element;
        fuzz_add_region(im, at, element, p->count, 2, 2);
        fuzz_add_region(im, at + 4, element, p->count, 2 * p->M, 4);
        fuzz_add_region(im, at + 4 + 8ull * p->M, element, p->count, p->dim, 4);
        fuzz_add_region(im, uppers, 4, (from->n - uppers) / 4, 1, 4);
        fuzz_add_region(im, uppers, 2, (from->n - uppers) / 2, 1, 2);
    } else if (flat) {
        fuzz_add_region(im, at, element, p->capacity, p->dim, 4);
    }
    if (p->count > 0)
        fuzz_add_region(im, at + element - 8, element, p->count, 2, 4);
    fuzz_add_region(im, 0, 4, from->n / 4, 1, 4);
    const uint64_t numbers[] = {p->count,    p->capacity,      element,
                                element - 8, from->list_bytes, 4 + 8ull * p->M,
                                p->M,        2ull * p->M,      UINT64_MAX / (element + 4),
                                p->dim,      p->top,           from->entry};
    for (uint32_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        fuzz_add_number(im, numbers[i]);
}

static void begin(void)
{
    size_t most = 0;
    for (uint32_t i = 0; i < BASES; i++) {
        struct hnswlib_image from;
        if (plans[i].flat)
            hnswlib_image_make_flat(&plans[i].plan, &from);
        else
            hnswlib_image_make(&plans[i].plan, &from);
        fuzz_image_init(&base[i], from.bytes, from.n);
        describe(&base[i], &from, plans[i].flat);
        hnswlib_image_free(&from);
        most = base[i].capacity > most ? base[i].capacity : most;
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
    (void)fuzz_apply(&s, &base[b], &mine, NULL);
    int fd = memfd_create("hnswlib", MFD_CLOEXEC);
    fuzz_check(fd >= 0 && write(fd, mine.bytes, mine.n) == (ssize_t)mine.n, "no memfd");
    const struct navmap_load_options o = {.struct_size = sizeof o,
                                          .has_space = 1,
                                          .space = (s.how >> 1 & 3) % 3,
                                          .flat = plans[b].flat != ((s.how >> 5 == 7)),
                                          .copy = (s.how & 8) != 0,
                                          .verify = (s.how & 16) != 0};
    navmap_index *ix = NULL;
    if (fuzz_taken(navmap_load_fd(fd, "hnswlib", &o, &ix))) {
        struct navmap_check_result r = {.struct_size = sizeof r};
        fuzz_sound(navmap_check(ix, NULL, NULL, &r));
        fuzz_check(r.damaged == 0, "a file was taken that makes a damaged index");
        fuzz_use(ix, NULL, !(s.how & 1));
        fuzz_sound(navmap_close(ix));
    }
    (void)close(fd);
}

const struct fuzz_target fuzz_hnswlib = {"hnswlib", run};
