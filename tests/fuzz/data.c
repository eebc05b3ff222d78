/* data.c -- fuzz target: the data file of a directory, closed or left by a crash with a log, whose
 * header and ROOT carry right sums whatever they say.
 *
 * `how`: 1 = the sums are left as they are; the bits above it are enum fuzz_visit.
 */
#include <stdlib.h>

#include "tests/fuzz/home.h"

#define OPTIONS .struct_size = sizeof(struct navmap_options)
static const struct {
    const char *name;
    struct fuzz_plan plan;
    uint32_t logged;
} plans[] = {
    {"closed",
     {.options = {OPTIONS, .dim = 9, .M = 4, .slot_shift = 4, .ef_construction = 20},
      .items = 40,
      .updates = 10,
      .deleted = 9},
     0},
    {"logged",
     {.options = {OPTIONS, .dim = 5, .M = 4, .slot_shift = 4, .ef_construction = 20,
                  .vectors = NAVMAP_VECTORS_F16},
      .items = 20,
      .deleted = 7},
     4},
    {"levels",
     {.options = {OPTIONS, .dim = 6, .space = NAVMAP_COSINE, .M = 2, .slot_shift = 5,
                  .ef_construction = 10, .allow_replace_deleted = 1},
      .items = 60,
      .deleted = 5},
     0},
    {"empty", {.options = {OPTIONS, .dim = 3, .space = NAVMAP_IP, .M = 4, .slot_shift = 4}}, 0},
    {"swept", /* more than 1024 dead slots: some of them are FREE again */
     {.options = {OPTIONS, .dim = 2, .M = 2, .slot_shift = 11, .ef_construction = 6},
      .items = 30,
      .updates = 1250},
     0},
};
#define BASES (sizeof plans / sizeof *plans)

static struct {
    struct fuzz_image image;
    struct fuzz_home home;
} base[BASES];
static struct fuzz_image mine;
static const struct layout *layout_now;

static void begin(void)
{
    size_t most = 0;
    for (uint32_t i = 0; i < BASES; i++) {
        struct fuzz_home *h = &base[i].home;
        fuzz_home_make(h, plans[i].name, &plans[i].plan, plans[i].logged);
        fuzz_image_init(&base[i].image, h->data, h->data_bytes);
        fuzz_describe(&base[i].image, &h->layout);
        most = base[i].image.capacity > most ? base[i].image.capacity : most;
    }
    static uint8_t *bytes;
    mine.bytes = bytes = fuzz_must(malloc(most));
}

static void resum(struct fuzz_image *im, uint32_t slot)
{
    fuzz_sum_slot(im, layout_now, slot);
}

static void run(const uint8_t *bytes, size_t n)
{
    struct fuzz_script s;
    if (!mine.bytes)
        begin();
    fuzz_read_script(bytes, n, &s);
    const uint32_t b = s.base % BASES;
    layout_now = &base[b].home.layout;
    const bool resummed = fuzz_apply(&s, &base[b].image, &mine, resum);
    if (!(s.how & 1))
        fuzz_sum_head(&mine);
    fuzz_home_restore(&base[b].home, mine.bytes, mine.n);
    fuzz_home_visit(&base[b].home, resummed ? NULL : &base[b].home.truth, s.how >> 1);
}

const struct fuzz_target fuzz_data = {"data", run};
