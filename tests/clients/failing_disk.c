/* Lets a program's disk fail while files of these names are there, in the folder FAILING_DISK:
 * "flush": fdatasync of the journal; "read": reads of segments. Loaded by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int fails(const char *flag, int file, const char *ending)
{
    char path[4096], link[64];
    const char *folder = getenv("FAILING_DISK");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "", flag);
    if (!folder || access(path, F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    size_t end = strlen(ending);
    if ((size_t)length < end || strcmp(path + length - end, ending) != 0)
        return 0;
    errno = EIO;
    return 1;
}

int fdatasync(int file)
{
    static int (*real)(int);
    if (!real)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return fails("flush", file, ".part") ? -1 : real(file);
}

ssize_t pread64(int file, void *to, size_t bytes, off64_t at)
{
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real)
        real = (ssize_t(*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    return fails("read", file, ".log") ? -1 : real(file, to, bytes, at);
}

ssize_t preadv2(int file, const struct iovec *to, int count, off_t at, int flags)
{
    static ssize_t (*real)(int, const struct iovec *, int, off_t, int);
    if (!real)
        real = (ssize_t(*)(int, const struct iovec *, int, off_t, int))dlsym(RTLD_NEXT, "preadv2");
    return fails("read", file, ".log") ? -1 : real(file, to, count, at, flags);
}
