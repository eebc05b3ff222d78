/* insert.h -- the pieces of an insertion, for who adds many items together (together.c).
 *
 * The write lock is held exclusively in all but the first.  A1..A11 are insert.c's.
 */
#ifndef NAVMAP_ENGINE_INSERT_H
#define NAVMAP_ENGINE_INSERT_H

#include "engine/index.h"

/* Of the insertion with this number: floor(-ln(U) / ln(M)). */
uint32_t insert_level(const navmap_index *ix, uint64_t number);
/* The writer's graph as it is now, and s with room for a search in it and for choosing among
 * `candidates` at least. */
navmap_status insert_graph(navmap_index *ix, struct scratch *s, uint32_t candidates,
                           struct graph *ret_graph) NAVMAP_MUST_USE;
/* The payload of an item that was begun, from the caller's vector. */
void insert_payload(navmap_index *ix, struct scratch *s, const float *vector,
                    struct store_item *item);
/* Neighbours for g->self, whose payload is there and which nobody names yet, on every level up to
 * `level`: into its own rows, and into s->chosen, M0 apart; their numbers into ret_n.  Returns
 * whether the entry led to any on level 0 (A4), and how far a copy of it is. */
bool insert_seek(navmap_index *ix, struct scratch *s, const struct graph *g, uint32_t level,
                 uint64_t entry, uint32_t *ret_n, float *ret_zero);
/* What insert_seek() found gets g->self into its row; false if it did not take it. */
bool insert_link_back(navmap_index *ix, struct scratch *s, const struct graph *g, struct near to,
                      uint32_t level, float zero);
/* A5: nobody did. */
void insert_force_back(navmap_index *ix, const struct graph *g, uint32_t level, struct near to);
/* A label of those that were promised room is in. */
void insert_keep_promise(navmap_index *ix, _Atomic uint64_t *promised);

#endif
