/* Lets a program's machine fail while files of these names are there, in the folder FAILING_DISK:
 * "flush": fdatasync of the journal; "read": reads of segments; "full": no space is free; "clock": the
 * time of day is an hour ahead. Loaded by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int is_on(const char *flag)
{
    char path[4096];
    const char *folder = getenv("FAILING_DISK");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "", flag);
    return folder && access(path, F_OK) == 0;
}

static int fails(const char *flag, int file, const char *ending)
{
    char path[4096], link[64];
    if (!is_on(flag))
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

int statvfs(const char *path, struct statvfs *answer)
{
    static int (*real)(const char *, struct statvfs *);
    if (!real)
        real = (int (*)(const char *, struct statvfs *))dlsym(RTLD_NEXT, "statvfs");
    int code = real(path, answer);
    if (code == 0 && is_on("full"))
        answer->f_bavail = 0;
    return code;
}

int statvfs64(const char *path, struct statvfs64 *answer)
{
    static int (*real)(const char *, struct statvfs64 *);
    if (!real)
        real = (int (*)(const char *, struct statvfs64 *))dlsym(RTLD_NEXT, "statvfs64");
    int code = real(path, answer);
    if (code == 0 && is_on("full"))
        answer->f_bavail = 0;
    return code;
}

int clock_gettime(clockid_t clock, struct timespec *answer)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, answer);
    if (code == 0 && clock == CLOCK_REALTIME && is_on("clock"))
        answer->tv_sec += 3600;
    return code;
}
