/* scarce.h -- memory that runs out when a test says so: a malloc family before libc's.
 *
 * Every allocation of the process comes through here, LMDB's and libc's own (strdup, asprintf,
 * pthread_create) among them, from whatever thread.  Only in programs that ask for it
 * (scarce_sources): each has one malloc.
 */
#ifndef NAVMAP_TESTS_SUPPORT_SCARCE_H
#define NAVMAP_TESTS_SUPPORT_SCARCE_H

#include <stdbool.h>
#include <stdint.h>

/* A sanitizer cannot start a thread without memory: it ends the program. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SCARCE_THREADS false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SCARCE_THREADS false
#endif
#endif
#ifndef SCARCE_THREADS
#define SCARCE_THREADS true
#endif

/* From now on the n-th allocation (from 1) fails with ENOMEM; `ever`: each one behind it too. */
void scarce_begin(uint64_t n, bool ever);
/* Memory again; returns how many allocations were refused. */
uint64_t scarce_end(void);
/* Are allocations of shared libraries seen?  A test should know before it believes a sweep. */
bool scarce_works(void);

#endif
