/* verify_writer.c -- the writers of verify_writer.h: what they do, and how they end. */
#include "tests/unit/verify_writer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DIM PLANTED_DIM

char writer_path[80], writer_data_path[128], writer_wal_path[96];
struct planted_report writer_report;
static char writer_dir[64];

int writer_make_dir(void **state)
{
    (void)state;
    const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(writer_dir, sizeof(writer_dir), "%s/navmap-verify-XXXXXX", base);
    if (mkdtemp(writer_dir) == NULL)
        return -1;
    (void)snprintf(writer_path, sizeof(writer_path), "%s/index", writer_dir);
    (void)snprintf(writer_data_path, sizeof(writer_data_path), "%s/data-00000001.navmap",
                   writer_path);
    (void)snprintf(writer_wal_path, sizeof(writer_wal_path), "%s/wal.mdb", writer_path);
    memset(&writer_report, 0, sizeof(writer_report));
    return 0;
}

int writer_remove_dir(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", writer_dir);
    return system(command);
}

/* Work for a writer ----------------------------------------------------------------------------*/

navmap_index *writer_create(void)
{
    const struct navmap_options options = {.struct_size = sizeof(options),
                                           .dim = DIM,
                                           .space = NAVMAP_L2,
                                           .M = 4,
                                           .ef_construction = 24,
                                           .slot_shift = 4};
    navmap_index *index = NULL;
    return navmap_create(writer_path, &options, &index) == NAVMAP_OK ? index : NULL;
}

navmap_index *writer_open(void)
{
    navmap_index *index = NULL;
    return navmap_open(writer_path, NAVMAP_WRITE, NULL, &index) == NAVMAP_OK ? index : NULL;
}

/* Labels [from, from + n), new or updated, in one call. */
bool writer_add(navmap_index *index, uint64_t from, uint32_t n, uint64_t *random)
{
    float *vectors = malloc((size_t)n * DIM * sizeof(*vectors));
    uint64_t *labels = malloc(n * sizeof(*labels)), added = 0;
    for (uint32_t i = 0; i < n * DIM; i++)
        vectors[i] = (float)(planted_random(random) >> 40) / (float)(1 << 24);
    for (uint32_t i = 0; i < n; i++)
        labels[i] = from + i;
    navmap_status status = navmap_add(index, n, vectors, labels, NULL, &added);
    free(vectors);
    free(labels);
    return status == NAVMAP_OK;
}

/* One step of a mixed workload on labels 1000.. ; 0.. are left alone. */
bool writer_step(navmap_index *index, uint64_t *random)
{
    uint64_t label = 1000 + planted_random(random) % 400;
    switch (planted_random(random) % 4) {
    case 0:
        return writer_add(index, label, 1, random);
    case 1:
        return writer_add(index, label, 1 + (uint32_t)(planted_random(random) % 60), random);
    case 2: {
        navmap_status status = navmap_delete(index, label);
        return status == NAVMAP_OK || status == NAVMAP_ENOTFOUND || status == NAVMAP_EDELETED;
    }
    default: {
        navmap_status status = navmap_undelete(index, label);
        return status == NAVMAP_OK || status == NAVMAP_ENOTFOUND || status == NAVMAP_ENOTDELETED;
    }
    }
}

/* Runs in a child; `stop_at` < 0: goes on for ever. */
static int work(uint64_t seed, int stop_at)
{
    uint64_t random = seed;
    navmap_index *index = writer_create();
    if (index == NULL || !writer_add(index, 0, 60, &random) || navmap_flush(index) != NAVMAP_OK)
        return 1;
    for (int i = 0; i != stop_at; i++)
        if (!writer_step(index, &random))
            return 2;
    return 0; /* not closed: as after kill -9, but at a place that the test knows */
}

pid_t writer_spawn(uint64_t seed, int stop_at)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(work(seed, stop_at));
    assert_true(child > 0);
    return child;
}

int writer_wait(pid_t child)
{
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    return how;
}

void writer_leave_crashed(uint64_t seed)
{
    assert_int_equal(writer_wait(writer_spawn(seed, 40)), 0);
}

/* Until a full check gets to see some items. */
void writer_wait_growing(void)
{
    struct navmap_stats stats = {.struct_size = sizeof(stats)};
    for (int i = 0; i < 2000; i++) {
        if (navmap_inspect(writer_path, &stats) == NAVMAP_OK && stats.n_live > 80)
            return;
        usleep(5000);
    }
    fail_msg("the writer does not get going: %s", navmap_error_detail());
}

void writer_verify(void)
{
    planted_verify(writer_path, false, &writer_report);
    if (writer_report.status != NAVMAP_OK)
        planted_print(&writer_report);
    assert_int_equal(writer_report.status, NAVMAP_OK);
}

void writer_expect_damaged(uint64_t n)
{
    if (writer_report.result.damaged != n)
        planted_print(&writer_report);
    assert_int_equal(writer_report.result.damaged, n);
}

uint8_t *writer_read_file(const char *name, size_t *ret_bytes)
{
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *ret_bytes = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*ret_bytes + 1);
    assert_int_equal(fread(bytes, 1, *ret_bytes, file), *ret_bytes);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

void writer_poke(const char *name, uint64_t offset, const void *bytes, size_t n)
{
    FILE *file = fopen(name, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)offset, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static struct layout layout_of_file(void)
{
    size_t n = 0;
    uint8_t *bytes = writer_read_file(writer_data_path, &n);
    struct layout l;
    int read_only = 0;
    assert_int_equal(layout_read_header(bytes, n, writer_data_path, &l, &read_only), NAVMAP_OK);
    free(bytes);
    return l;
}

/* Damage the vector of slot 3, which holds label 2 and is never touched by writer_step(). */
uint64_t writer_damage_slot_3(void)
{
    struct layout l = layout_of_file();
    const uint8_t byte = 0xa5;
    writer_poke(writer_data_path, layout_vec_off(&l, 3) + 3, &byte, 1);
    return layout_tag_off(&l, 3);
}

/* Change a byte in the first cell of every record that wal.mdb holds. */
void writer_damage_log(void)
{
    size_t n = 0, hits = 0;
    uint8_t *wal = writer_read_file(writer_wal_path, &n), *from = wal;
    for (uint8_t *hit; (hit = memmem(from, n - (size_t)(from - wal), "NVW1", 4)) != NULL; hits++) {
        hit[60] ^= 1;
        from = hit + 4;
    }
    assert_true(hits > 0);
    writer_poke(writer_wal_path, 0, wal, n);
    free(wal);
}

static enum kill_point end_point;
static int end_signal;
static uint32_t hits_left;

static void end_here(void *ctx, enum kill_point point)
{
    (void)ctx;
    if (point != end_point || --hits_left != 0)
        return;
    if (end_signal != 0)
        raise(end_signal);
    else
        _exit(0);
}

pid_t writer_spawn_ending(enum kill_point point, uint32_t hit, int signal_number, uint64_t seed)
{
    static const struct io_hooks hooks = {.kill_point = end_here};
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        end_point = point;
        end_signal = signal_number;
        hits_left = hit;
        io_hooks = &hooks;
        _exit(work(seed, 60));
    }
    assert_true(child > 0);
    return child;
}
