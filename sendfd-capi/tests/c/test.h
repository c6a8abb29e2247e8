/* What the test programs share. A program that cannot run says why and exits with SKIPPED. */
#ifndef TEST_H
#define TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sendfd.h>

enum { SKIPPED = 77 };

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

/* Both are numbers; what differs from the expected is shown. */
#define EQUAL(expected, actual) \
    do { \
        long long expected_ = (long long)(expected), actual_ = (long long)(actual); \
        if (expected_ != actual_) { \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #actual, \
                    actual_, expected_); \
            exit(1); \
        } \
    } while (0)

/* A wait that never ends is a failure, too. */
__attribute__((constructor)) static void limit_time(void)
{
    alarm(120);
}

/* The first word of the reason is the name that SENDFD_TEST_REQUIRE knows it by. */
static inline void skip(const char *reason)
{
    printf("%s\n", reason);
    exit(SKIPPED);
}

static inline int open_descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static inline int null_device(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

/* A number that is no open descriptor, and high enough not to become one soon. */
static inline int closed_descriptor(void)
{
    int low = null_device(), fd = fcntl(low, F_DUPFD_CLOEXEC, 800);
    CHECK(fd >= 0);
    close(low);
    close(fd);
    return fd;
}

/* A pid that was a process's until just now. */
static inline pid_t dead_process(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    CHECK(waitpid(pid, NULL, 0) == pid);
    return pid;
}

static inline int same_file(int a, int b)
{
    struct stat at_a, at_b;
    CHECK(fstat(a, &at_a) == 0 && fstat(b, &at_b) == 0);
    return at_a.st_dev == at_b.st_dev && at_a.st_ino == at_b.st_ino;
}

static inline int readable(int fd)
{
    struct pollfd look = {fd, POLLIN, 0};
    return poll(&look, 1, 0) == 1 && (look.revents & POLLIN);
}

/* A message with room for the largest. One at a time: the room is shared. */
static inline sendfd_message roomy_message(void)
{
    static int fds[SENDFD_MAX_FDS];
    static char data[SENDFD_MAX_DATA];
    sendfd_message message;
    memset(&message, 0, sizeof message);
    message.size = sizeof message;
    message.max_fds = SENDFD_MAX_FDS;
    message.fds = fds;
    message.max_data = SENDFD_MAX_DATA;
    message.data = data;
    return message;
}

#endif
