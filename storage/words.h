/* words.h -- stores to the shared mapping; included by apply.c and payload.c only (W1).
 *
 * Every word is stored by a relaxed atomic store of 8 or 4 bytes: a reader in any process sees a
 * whole word or none of it.  Stores are unconditional even when memory already holds the value:
 * each page must become dirty again, recovery after a failed sync depends on it.
 */
#ifndef NAVMAP_STORAGE_WORDS_H
#define NAVMAP_STORAGE_WORDS_H

#include <stdatomic.h>
#include <string.h>

#include "storage/io.h"
#include "storage/view.h"

static inline _Atomic uint32_t *words_at32(struct view *v, uint64_t off)
{
    return (_Atomic uint32_t *)(void *)(v->wbase + off);
}

static inline _Atomic uint64_t *words_at64(struct view *v, uint64_t off)
{
    return (_Atomic uint64_t *)(void *)(v->wbase + off);
}

/* n is a multiple of 4, off of 8. */
static inline void words_store(struct view *v, uint64_t off, const void *bytes, uint32_t n)
{
    const uint8_t *p = bytes;
    uint32_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, p + i, 8);
        atomic_store_explicit(words_at64(v, off + i), word, memory_order_relaxed);
    }
    if (i < n) {
        uint32_t word;
        memcpy(&word, p + i, 4);
        atomic_store_explicit(words_at32(v, off + i), word, memory_order_relaxed);
    }
    io_stored(v->fd, off, v->wbase + off, n);
}

static inline void words_store32(struct view *v, uint64_t off, uint32_t word, memory_order order)
{
    atomic_store_explicit(words_at32(v, off), word, order);
    io_stored(v->fd, off, v->wbase + off, 4);
}

static inline void words_store64(struct view *v, uint64_t off, uint64_t word, memory_order order)
{
    atomic_store_explicit(words_at64(v, off), word, order);
    io_stored(v->fd, off, v->wbase + off, 8);
}

#endif
