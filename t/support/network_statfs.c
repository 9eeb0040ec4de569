/* For LD_PRELOAD: every file system is of the type that PX_STATFS_TYPE names, in hexadecimal digits. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

int
statfs(const char *path, struct statfs *facts)
{
    const char *type = getenv("PX_STATFS_TYPE");

    (void) path;
    memset(facts, 0, sizeof(*facts));
    facts->f_type = type ? strtoul(type, NULL, 16) : 0;
    return 0;
}
