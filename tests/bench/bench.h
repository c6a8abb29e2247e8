/* What the benchmarks share. */
#ifndef BENCH_H
#define BENCH_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <sendfd.h>

/* For what fails with -1 and errno, and for what returns a negative errno. */
#define CHECK(call)                                                                                \
    do {                                                                                           \
        long result_ = (call);                                                                     \
        if (result_ < 0) {                                                                         \
            fprintf(stderr, "%s: %s (%ld)\n", #call,                                               \
                    sendfd_strerror(result_ == -1 ? errno : (int)result_), result_);               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* In microseconds. */
static inline double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

#endif
