/* cpus.h -- how many processors this process may keep busy, as the kernel and its cgroup say.
 *
 * A machine of 64 gives a container two, and a pool of 64 threads in it is throttled for most of
 * each period.  What is not known does not limit.
 */
#ifndef NAVMAP_STORAGE_CPUS_H
#define NAVMAP_STORAGE_CPUS_H

#include <stdbool.h>
#include <stdint.h>

/* The calling thread's affinity mask, cut by the quotas of the process's cgroup and of those above
 * it, rounded up; at least 1.  The quotas are those of the current second: reading them is a dozen
 * small files, half the cost of making a small index. */
uint32_t cpus_usable(void);

/* The quota alone, from whatever stands in for the file system (tests): UINT32_MAX when there is
 * none.  A reader fills `room` bytes, the last one 0, or returns false. */
typedef bool cpus_reader(const char *path, char *ret_text, uint64_t room);
uint32_t cpus_quota(cpus_reader *reader);
/* The same, but what was found is kept while `second` stays what it is. */
uint32_t cpus_quota_kept(cpus_reader *reader, uint32_t second);

#endif
