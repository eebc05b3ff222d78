/* seal.c -- writes a sealed file: the items of an index renumbered, its rows, labels and sums.
 *
 * Chunk by chunk, of each array only what is in use: the rest is zeros, as it is summed, and a hole
 * where it is long (blocks.h).
 */
#include "storage/seal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/blocks.h"
#include "storage/checksum.h"
#include "storage/handle.h"
#include "storage/io.h"
#include "storage/renumber.h"

/* A gap that is written is room on the disk: of small chunks, in files that no large page is for,
 * hardly any is; of large ones what a chunk ends with always is, so that all blocks are whole. */
#define SEAL_GAP_SHARE 64u
static_assert(VIEW_HUGE_FILE / SEAL_GAP_SHARE >= LAYOUT_CHUNK_ALIGN, "blocks of large chunks");

struct sealer {
    struct renumber p;
    struct layout_sealed at;
    struct renumbering c;
    uint8_t *bytes; /* chunk_bytes */
    struct disk_sum *sums;
    uint64_t n_sums;
    struct blocks out;
};

static navmap_status plan(struct sealer *f, struct store *s, const struct sealing *what)
{
    uint32_t flags = s->layout.flags & LAYOUT_FLAGS_CHOSEN;
    if (s->in_memory && s->bounded)
        flags |= HEADER_BOUNDED;
    TRY(renumber_make(&f->p, s, what, flags));
    uint8_t uuid[sizeof f->p.l.uuid];
    memcpy(uuid, f->p.l.uuid, sizeof uuid);
    TRY(store_name_layout(&f->p.l));        /* another instance ... */
    memcpy(f->p.l.uuid, uuid, sizeof uuid); /* ... of the same index */
    f->p.l.uuid_low = s->layout.uuid_low;
    const uint64_t sums = (uint64_t)f->p.nchunks * LAYOUT_ARRAYS + 1;
    f->at.label_offset = layout_chunk_off(&f->p.l, f->p.nchunks);
    f->at.label_count = what->n;
    f->at.sums_offset = f->at.label_offset + f->at.label_count * sizeof(struct sealed_label);
    f->at.file_bytes = f->at.sums_offset + sums * sizeof(struct disk_sum) + sizeof(uint64_t);
    return NAVMAP_OK;
}

static navmap_status write_chunk(struct sealer *f)
{
    const struct layout *l = &f->p.l;
    const uint64_t at = layout_chunk_off(l, f->c.number);
    struct layout_array arrays[LAYOUT_ARRAYS];
    memset(f->bytes, 0, l->chunk_bytes);
    TRY(renumbering_chunk(&f->c, f->bytes));
    layout_arrays(l, arrays);
    for (uint32_t i = 0; i < LAYOUT_ARRAYS; i++) {
        const uint8_t *bytes = f->bytes + arrays[i].offset;
        const uint64_t off = at + arrays[i].offset, n = arrays[i].used;
        f->sums[f->n_sums++] = (struct disk_sum){off, n, checksum64(bytes, n, 0)};
        TRY(blocks_put(&f->out, bytes, renumbering_used(bytes, n), off));
    }
    return NAVMAP_OK;
}

/* The rest of the file ------------------------------------------------------------------------*/

static navmap_status write_labels(struct sealer *f)
{
    const uint64_t bytes = f->at.label_count * sizeof *f->c.labels;
    TRY(renumbering_sort(&f->c));
    f->sums[f->n_sums++] =
        (struct disk_sum){f->at.label_offset, bytes, checksum64(f->c.labels, bytes, 0)};
    return blocks_put(&f->out, f->c.labels, bytes, f->at.label_offset);
}

static navmap_status write_sums(struct sealer *f)
{
    const uint64_t bytes = f->n_sums * sizeof *f->sums, sum = checksum64(f->sums, bytes, 0);
    TRY(blocks_put(&f->out, f->sums, bytes, f->at.sums_offset));
    TRY(blocks_put(&f->out, &sum, sizeof sum, f->at.sums_offset + bytes));
    return blocks_flush(&f->out);
}

static navmap_status write_head(const struct sealer *f)
{
    struct disk_header header;
    struct disk_root root = renumbering_root(&f->c);
    root.sum = layout_root_sum(&root, f->p.l.uuid_low);
    layout_write_sealed(&f->p.l, &f->at, &header);
    TRY(io_pwrite(f->out.fd, f->out.path, &root, sizeof root, LAYOUT_ROOT_OFFSET));
    return io_pwrite(f->out.fd, f->out.path, &header, sizeof header, LAYOUT_HEADER_OFFSET);
}

static navmap_status write_all(struct sealer *f, int fd, const char *path)
{
    const struct renumber *p = &f->p;
    TRY(blocks_begin(&f->out, fd, path, p->l.chunk_bytes / SEAL_GAP_SHARE));
    f->bytes = malloc(p->l.chunk_bytes);
    f->sums = malloc(((uint64_t)p->nchunks * LAYOUT_ARRAYS + 1) * sizeof *f->sums);
    if (!f->bytes || !f->sums)
        return fail(NAVMAP_ENOMEM, "%s: no memory for saving %u items", p->from->path, p->what->n);
    TRY(renumbering_begin(&f->c, p));
    for (uint32_t i = 0; i < p->nchunks; i++)
        TRY(write_chunk(f));
    TRY(write_labels(f));
    TRY(write_sums(f));
    return write_head(f);
}

navmap_status seal_settle(struct store *s)
{
    return s->in_memory ? NAVMAP_OK : store_commit_locked(s);
}

navmap_status seal_check(struct store *s, uint32_t slot)
{
    return renumber_check(s, slot);
}

navmap_status seal_write(struct store *s, const struct sealing *what, int fd, const char *path)
{
    struct sealer f = {.n_sums = 0};
    TRY(seal_settle(s));
    navmap_status status = plan(&f, s, what);
    if (status == NAVMAP_OK)
        status = write_all(&f, fd, path);
    renumbering_end(&f.c);
    renumber_free(&f.p);
    blocks_free(&f.out);
    free(f.bytes);
    free(f.sums);
    return status;
}

navmap_status seal_bytes(struct store *s, const struct sealing *what, uint64_t *ret_bytes)
{
    struct sealer f = {.n_sums = 0};
    navmap_status status = plan(&f, s, what);
    if (status == NAVMAP_OK)
        *ret_bytes = f.at.file_bytes;
    renumber_free(&f.p);
    return status;
}
