/* walk_levels.h -- the fast steps, by level; walk.c alone names them. */
#ifndef NAVMAP_ENGINE_WALK_LEVELS_H
#define NAVMAP_ENGINE_WALK_LEVELS_H

#include "engine/walk.h"

/* Defined only where the compiler's target can have them. */
bool walk_step_avx2(struct walk *w);
bool walk_step_avx512(struct walk *w);
bool walk_step_vnni(struct walk *w);
/* The same where the stage may have rows and codes. */
bool walk_staged_avx2(struct walk *w);
bool walk_staged_avx512(struct walk *w);
bool walk_staged_vnni(struct walk *w);

/* walk.c: offer a node of which more than its distance has to be asked. */
void walk_offer(struct walk *w, float d, uint32_t id);

#endif
