/* Lets the disk of Kafka nodes be full while the file FULL_DISK is there: writes to segments whose path
 * holds the text of that file fail. Loaded by LD_PRELOAD. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* A segment of a log is named by the 20 digits of its first offset. */
static int is_segment(const char *path)
{
    size_t end = strlen(path);
    return end > 25 && strcmp(path + end - 4, ".log") == 0 && path[end - 25] == '/'
        && strspn(path + end - 24, "0123456789") == 20;
}

static int is_full(int file)
{
    char path[4096], link[64], where[256];
    const char *flag = getenv("FULL_DISK");
    int saved = errno, at = flag ? open(flag, O_RDONLY) : -1;
    errno = saved;
    if (at < 0)
        return 0;
    ssize_t length = read(at, where, sizeof where - 1);
    close(at);
    if (length < 0)
        return 0;
    where[length] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0)
        return 0;
    path[length] = 0;
    if (!is_segment(path) || !strstr(path, where))
        return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t write(int file, const void *from, size_t bytes)
{
    return is_full(file) ? -1 : syscall(SYS_write, file, from, bytes);
}

ssize_t pwrite64(int file, const void *from, size_t bytes, off64_t at)
{
    return is_full(file) ? -1 : syscall(SYS_pwrite64, file, from, bytes, at);
}

ssize_t writev(int file, const struct iovec *from, int count)
{
    return is_full(file) ? -1 : syscall(SYS_writev, file, from, count);
}
