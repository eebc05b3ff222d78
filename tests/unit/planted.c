/* planted.c -- builds the index that planted.h promises and keeps its bytes. */
#include "tests/unit/planted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/checksum.h"

#define DEFAULT_SEED 20261123u

uint64_t planted_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t planted_seed(void)
{
    const char *text = getenv("NAVMAP_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : DEFAULT_SEED;
    printf("NAVMAP_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* Building -------------------------------------------------------------------------------------*/

static void fill(float *vector, uint64_t *random)
{
    for (uint32_t i = 0; i < PLANTED_DIM; i++)
        vector[i] = (float)(planted_random(random) >> 40) / (float)(1 << 24) - 0.5f;
}

static uint64_t planted_label(uint32_t i)
{
    return 1000 + 13 * (uint64_t)i;
}

/* In the child: exit code 0 if all went well. */
static int build(const char *path)
{
    const struct navmap_options options = {.struct_size = sizeof(options),
                                           .dim = PLANTED_DIM,
                                           .space = NAVMAP_L2,
                                           .M = 4,
                                           .ef_construction = 40,
                                           .slot_shift = 4};
    float vector[PLANTED_DIM];
    uint64_t random = 7;
    navmap_index *index = NULL;
    if (navmap_create(path, &options, &index) != NAVMAP_OK)
        return 1;
    /* Updates until a sweep has run: dead slots begin it above 1024, and some come free.  One item
     * a call: a longer call commits by the clock, and the graph would differ from run to run. */
    for (uint32_t i = 0; i < PLANTED_ITEMS * 5 + PLANTED_ITEMS / 4; i++) {
        fill(vector, &random);
        const uint64_t label = planted_label(i % PLANTED_ITEMS);
        if (navmap_add(index, 1, vector, &label, NULL, NULL) != NAVMAP_OK)
            return 2;
    }
    for (uint32_t i = 0; i < PLANTED_ITEMS; i += 9)
        if (navmap_delete(index, planted_label(i)) != NAVMAP_OK)
            return 3;
    return navmap_close(index) == NAVMAP_OK ? 0 : 4;
}

static uint8_t *read_file(const char *path, size_t *ret_bytes)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *ret_bytes = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*ret_bytes);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *ret_bytes, file), *ret_bytes);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static uint8_t *copy_of(const uint8_t *bytes, size_t n)
{
    uint8_t *copy = malloc(n);
    assert_non_null(copy);
    return memcpy(copy, bytes, n);
}

void planted_make(struct planted *p)
{
    memset(p, 0, sizeof(*p));
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(p->dir, sizeof(p->dir), "%s/navmap-planted-XXXXXX", base);
    assert_non_null(mkdtemp(p->dir));
    (void)snprintf(p->path, sizeof(p->path), "%s/index", p->dir);
    (void)snprintf(p->data_path, sizeof(p->data_path), "%s/data-00000001.navmap", p->path);
    (void)snprintf(p->wal_path, sizeof(p->wal_path), "%s/wal.mdb", p->path);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(build(p->path));
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
    p->data_sound = read_file(p->data_path, &p->data_bytes);
    p->wal_sound = read_file(p->wal_path, &p->wal_bytes);
    p->data = copy_of(p->data_sound, p->data_bytes);
    p->wal = copy_of(p->wal_sound, p->wal_bytes);
    int read_only = 0;
    assert_int_equal(
        layout_read_header(p->data, p->data_bytes, p->data_path, &p->layout, &read_only),
        NAVMAP_OK);
}

void planted_free(struct planted *p)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", p->dir);
    assert_int_equal(system(command), 0);
    free(p->data);
    free(p->wal);
    free(p->data_sound);
    free(p->wal_sound);
}

void planted_write(const struct planted *p, size_t bytes)
{
    write_file(p->data_path, p->data, bytes);
}

void planted_write_wal(const struct planted *p)
{
    write_file(p->wal_path, p->wal, p->wal_bytes);
}

void planted_restore(struct planted *p)
{
    char lock_path[128];
    memcpy(p->data, p->data_sound, p->data_bytes);
    memcpy(p->wal, p->wal_sound, p->wal_bytes);
    planted_write(p, p->data_bytes);
    planted_write_wal(p);
    (void)snprintf(lock_path, sizeof(lock_path), "%s-lock", p->wal_path);
    (void)unlink(lock_path);
}

/* Into the image -------------------------------------------------------------------------------*/

static void *at(const struct planted *p, uint64_t offset)
{
    assert_true(offset < p->data_bytes);
    return p->data + offset;
}

struct disk_header *planted_header(const struct planted *p)
{
    return at(p, LAYOUT_HEADER_OFFSET);
}
struct disk_root *planted_root(const struct planted *p)
{
    return at(p, LAYOUT_ROOT_OFFSET);
}
struct disk_live *planted_live(const struct planted *p)
{
    return at(p, LAYOUT_LIVE_OFFSET);
}
uint32_t *planted_state(const struct planted *p, uint32_t slot)
{
    return at(p, layout_state_off(&p->layout, slot));
}
uint32_t *planted_row(const struct planted *p, uint32_t slot)
{
    return at(p, layout_row_off(&p->layout, slot));
}
struct disk_tag *planted_tag(const struct planted *p, uint32_t slot)
{
    return at(p, layout_tag_off(&p->layout, slot));
}
uint8_t *planted_vec(const struct planted *p, uint32_t slot)
{
    return at(p, layout_vec_off(&p->layout, slot));
}
uint32_t *planted_upper(const struct planted *p, uint32_t cell)
{
    return at(p, layout_upper_off(&p->layout, cell));
}
uint32_t planted_nslots(const struct planted *p)
{
    return extent_slots(planted_root(p)->extent);
}

void planted_sum_header(const struct planted *p)
{
    struct disk_header *h = planted_header(p);
    h->sum = checksum64(h, offsetof(struct disk_header, sum), 0);
}

void planted_sum_root(const struct planted *p)
{
    planted_root(p)->sum = layout_root_sum(planted_root(p), p->layout.uuid_low);
}

void planted_sum_payload(const struct planted *p, uint32_t slot)
{
    struct disk_tag *tag = planted_tag(p, slot);
    tag->vsum = layout_vsum(&p->layout, tag->label, slot, tag->gen, tag->up,
                            at(p, layout_code_off(&p->layout, slot)), planted_vec(p, slot));
}

uint32_t planted_find(const struct planted *p, enum slot_status status, uint32_t level, uint32_t n)
{
    for (uint32_t slot = 1; slot < planted_nslots(p); slot++) {
        uint32_t word = *planted_state(p, slot);
        bool published = word != STATE_WORD(0, SLOT_FREE);
        if (published && STATE_STATUS(word) == status &&
            TAG_LEVEL(planted_tag(p, slot)->up) >= level && n-- == 0)
            return slot;
    }
    fail_msg("no slot of status %d and level %u", (int)status, level);
    return 0;
}

uint32_t planted_links(const struct planted *p, uint32_t slot)
{
    uint32_t n = 0;
    while (n < p->layout.M0 && planted_row(p, slot)[n] != 0)
        n++;
    return n;
}

/* Verifying ------------------------------------------------------------------------------------*/

static void keep(void *ctx, const struct navmap_finding *f)
{
    struct planted_report *r = ctx;
    uint32_t n = r->n++;
    if (n < PLANTED_FINDINGS_MAX) {
        r->finding[n].warning = f->warning;
        r->finding[n].slot = f->slot;
        r->finding[n].offset = f->offset;
        (void)snprintf(r->finding[n].section, sizeof(r->finding[n].section), "%s", f->section);
        (void)snprintf(r->finding[n].message, sizeof(r->finding[n].message), "%s", f->message);
    }
    if (r->hook)
        r->hook(r->hook_ctx, r->n);
}

void planted_verify(const char *path, bool quick, struct planted_report *r)
{
    r->n = 0;
    memset(&r->result, 0, sizeof(r->result));
    r->status = navmap_verify(path, quick, keep, r, &r->result);
}

void planted_print(const struct planted_report *r)
{
    printf("status %s: %s; damaged %llu, warnings %llu\n", navmap_strerror(r->status),
           r->status == NAVMAP_OK ? "ran" : navmap_error_detail(),
           (unsigned long long)r->result.damaged, (unsigned long long)r->result.warnings);
    for (uint32_t i = 0; i < r->n && i < PLANTED_FINDINGS_MAX; i++)
        printf("  %s %s slot %u offset %lld: %s\n", r->finding[i].warning ? "warning" : "damage",
               r->finding[i].section, r->finding[i].slot, (long long)r->finding[i].offset,
               r->finding[i].message);
}

bool planted_has(const struct planted_report *r, const char *section, uint32_t slot,
                 uint64_t offset)
{
    for (uint32_t i = 0; i < r->n && i < PLANTED_FINDINGS_MAX; i++)
        if (!r->finding[i].warning && strcmp(r->finding[i].section, section) == 0 &&
            r->finding[i].slot == slot && r->finding[i].offset == offset)
            return true;
    return false;
}
