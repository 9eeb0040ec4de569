/*
 * For LD_PRELOAD: while the file that PX_NO_DESCRIPTORS names is there, the process has no descriptor left
 * for files below the directory that it holds.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *list;

/* Workers do not keep what the environment says. */
__attribute__((constructor)) static void
start(void)
{
    const char *path = getenv("PX_NO_DESCRIPTORS");

    list = path == NULL ? NULL : strdup(path);
}

static int
is_refused(const char *path)
{
    char dir[4096];
    ssize_t length;
    int file;

    file = list == NULL ? -1 : (int) syscall(SYS_openat, AT_FDCWD, list, O_RDONLY);
    if (file < 0) {
        return 0;
    }
    length = read(file, dir, sizeof(dir));
    close(file);

    return length > 0 && strncmp(path, dir, length) == 0 && path[length] == '/';
}

int
open64(const char *path, int flags, ...)
{
    mode_t mode;
    va_list args;

    va_start(args, flags);
    mode = (flags & O_CREAT) ? va_arg(args, mode_t) : 0;
    va_end(args);

    if (is_refused(path)) {
        errno = EMFILE;
        return -1;
    }

    return (int) syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
