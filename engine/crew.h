/* crew.h -- the threads of a handle: kept from call to call, not made for each.
 *
 * The thread that calls is worker 0 and always takes part; others join it when they are idle.  A
 * task pulls its work from a shared counter until none is left, so it does not matter how many
 * workers take part, and a second call that finds the crew busy simply works alone: a callback may
 * therefore come back into the library, and two calls never wait for each other.
 *
 * C1  Threads are made when first needed and joined by crew_free(); none exists before that.
 * C2  They block all signals, so that the program's handlers run where the program expects.  Not
 *     those of a fault (SIGSEGV, SIGBUS ...): such a one is its own, and blocked it would kill the
 *     process without asking the program's handler.
 * C3  In a forked child they do not exist: crew_run() sees that by fork_epoch() and forgets them.
 */
#ifndef NAVMAP_ENGINE_CREW_H
#define NAVMAP_ENGINE_CREW_H

#include <stdint.h>

#define CREW_MAX 256u /* threads of one crew, the calling one included */

struct crew;

/* A share of a job, until the job has no more.  `worker` is below the number asked for, each at
 * most once per job; 0 is the calling thread. */
typedef void crew_task(void *ctx, uint32_t worker);

/* NULL when there is no memory.  Makes no thread. */
struct crew *crew_new(void);
/* Join and release.  No crew_run() may be under way.  NULL allowed. */
void crew_free(struct crew *crew);

/* task(ctx, 0) here, and task(ctx, w) on up to n - 1 others; returns when all have returned.  Fewer
 * take part when the crew is busy, a thread cannot be made, n exceeds CREW_MAX, or task(ctx, 0) has
 * returned before they woke: it must not return while there is work that nobody has taken.  What
 * the caller wrote before is seen by the workers, and what they wrote is seen after it.  Costs some
 * microseconds beyond the tasks; the first call makes the threads. */
void crew_run(struct crew *crew, uint32_t n, crew_task *task, void *ctx);

/* Processors that this process may use: affinity mask and cgroup (v1 and v2) quota, rounded up, at
 * least 1.  Reads files: not for hot paths. */
uint32_t crew_default_size(void);

#endif
