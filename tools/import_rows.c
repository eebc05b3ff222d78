/* import_rows.c -- `navmap import`: vectors of a file, added one after the other.
 *
 * A matrix of float32 is handed to navmap_add() where it is mapped, in one call; what has to be
 * converted goes through a buffer, as large as memory allows, since the library builds best what it
 * gets at once.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/import.h"

int import_interrupted(const struct import *m)
{
    if (m->is_new)
        return cli_error("called off; nothing was made at %s", m->target);
    char labels[64] = "";
    if (m->counted)
        (void)snprintf(labels, sizeof labels, " --count-from=%" PRIu64, m->count_from + m->added);
    return cli_error("called off; of %s the rows before %" PRIu64 " are in %s, and "
                     "--first=%" PRIu64 "%s goes on with the rest",
                     m->source, m->first + m->added, m->target, m->first + m->added, labels);
}

/* n rows. */
static int add(struct import *m, uint64_t n, const float *vectors, const uint64_t *labels)
{
    uint64_t done = 0;
    struct navmap_add_options o = {.struct_size = sizeof o,
                                   .num_threads = (uint32_t)m->threads,
                                   .progress = progress_step,
                                   .progress_ctx = &m->progress};
    navmap_status status = navmap_add(m->index, n, vectors, labels, &o, &done);
    m->added += done;
    m->progress.base = m->added;
    progress_end(&m->progress);
    if (status == NAVMAP_EINTERRUPTED)
        return import_interrupted(m);
    if (status == NAVMAP_OK)
        return EXIT_SOUND;
    if (done > 0 && !m->is_new)
        cli_say("the first %" PRIu64 " rows were added", m->added);
    return cli_library_error();
}

static int add_mapped(struct import *m)
{
    const float *vectors = m->rows.mapped + m->first * m->rows.dim;
    uint64_t *own = NULL;
    int code = EXIT_SOUND;
    if (m->labels == NULL) {
        own = malloc((m->count + 1) * sizeof *own);
        if (own == NULL)
            return cli_error("out of memory for %" PRIu64 " labels", m->count);
        code = rows_labels(&m->rows, m->first, m->count, own);
    }
    if (code == EXIT_SOUND)
        code = add(m, m->count, vectors, m->labels != NULL ? m->labels + m->first : own);
    free(own);
    return code;
}

/* Rows that fit into half of what memory is to spare, 64 MiB at least. */
static uint64_t batch_rows(const struct import *m)
{
    const uint64_t row = m->rows.dim * sizeof(float) + sizeof(uint64_t);
    uint64_t kib = 0, room = UINT64_C(64) << 20;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "r");
    while (file != NULL && kib == 0 && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) != 1)
            kib = 0;
    if (file != NULL)
        (void)fclose(file);
    if (kib * 512 > room)
        room = kib * 512;
    const uint64_t rows = room / row + 1;
    return rows < m->count ? rows : m->count;
}

struct batch {
    float *vectors;
    uint64_t *labels;
    uint64_t room, n;
};

static int batch_labels(struct import *m, uint64_t first, uint64_t n, struct batch *b)
{
    if (m->labels == NULL)
        return rows_labels(&m->rows, first, n, b->labels);
    memcpy(b->labels, m->labels + first, n * sizeof *b->labels);
    return EXIT_SOUND;
}

/* Close up where the source has rows that are none. */
static void leave_out_absent(const struct import *m, uint64_t first, uint64_t n, struct batch *b)
{
    const size_t dim = m->rows.dim;
    b->n = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (m->rows.absent != NULL && m->rows.absent(&m->rows, first + i))
            continue;
        if (b->n != i) {
            memcpy(b->vectors + b->n * dim, b->vectors + i * dim, dim * sizeof(float));
            b->labels[b->n] = b->labels[i];
        }
        b->n++;
    }
}

static int mark_deleted(struct import *m, uint64_t first, uint64_t n, const struct batch *b)
{
    for (uint64_t i = 0; i < n && m->rows.deleted != NULL; i++)
        if (m->rows.deleted(&m->rows, first + i)) {
            if (navmap_delete(m->index, b->labels[i]) != NAVMAP_OK)
                return cli_library_error();
            m->deleted++;
        }
    return EXIT_SOUND;
}

static int add_batches(struct import *m, struct batch *b)
{
    uint64_t done = 0;
    while (done < m->count) {
        const uint64_t first = m->first + done, left = m->count - done;
        const uint64_t n = left < b->room ? left : b->room;
        int code = rows_read(&m->rows, first, n, b->vectors);
        if (code == EXIT_SOUND)
            code = batch_labels(m, first, n, b);
        if (code != EXIT_SOUND)
            return code;
        leave_out_absent(m, first, n, b);
        if (progress_interrupted())
            return import_interrupted(m);
        code = add(m, b->n, b->vectors, b->labels);
        if (code == EXIT_SOUND)
            code = mark_deleted(m, first, n, b);
        if (code != EXIT_SOUND)
            return code;
        done += n;
    }
    return EXIT_SOUND;
}

static int add_converted(struct import *m)
{
    struct batch b = {.room = batch_rows(m)};
    b.vectors = malloc(b.room * m->rows.dim * sizeof *b.vectors + 1);
    b.labels = malloc(b.room * sizeof *b.labels + 1);
    int code = b.vectors != NULL && b.labels != NULL
                   ? add_batches(m, &b)
                   : cli_error("out of memory for %" PRIu64 " rows", b.room);
    free(b.vectors);
    free(b.labels);
    return code;
}

int import_rows(struct import *m)
{
    progress_begin(&m->progress, "adding", m->count);
    const bool as_it_lies = m->rows.mapped != NULL && m->rows.absent == NULL;
    int code = as_it_lies ? add_mapped(m) : add_converted(m);
    progress_end(&m->progress);
    return code;
}
