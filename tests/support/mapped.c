/* mapped.c -- addresses to offsets, by what the system says of this process; see mapped.h. */
#include "tests/support/mapped.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

uint64_t mapped_offset(const char *path, const void *address)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024];
    uint64_t found = 0;
    while (maps && found == 0 && fgets(line, sizeof line, maps)) {
        uint64_t from, to, offset;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &from, &to, &offset) == 3 &&
            (uint64_t)(uintptr_t)address >= from && (uint64_t)(uintptr_t)address < to &&
            strstr(line, path))
            found = (uint64_t)(uintptr_t)address - from + offset;
    }
    if (maps)
        (void)fclose(maps);
    return found;
}
