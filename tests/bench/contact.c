/* First contact with a target, and what targets and receivers cost.
 *
 * One sender to 900 targets and 900 senders to one receiver, under RLIMIT_NOFILE 1,024, by each path;
 * with the descriptors and the heap that they cost on each side. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { MANY = 900, CROWD = 10000, TRIES = 300 };

static int open_descriptors(void)
{
    int count = -1; /* the folder itself */
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder ? 0 : -1);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count - 2; /* . and .. */
}

static void limit(rlim_t descriptors)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = descriptors;
    if (limit.rlim_max < descriptors)
        limit.rlim_max = descriptors;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit));
}

static sendfd_target *reach(pid_t pid, int sig, uint32_t path)
{
    sendfd_options options = {.size = sizeof options, .paths = path, .timeout_ms = 10000};
    sendfd_target *target;
    CHECK(sendfd_target_open(pid, sig, &options, &target));
    return target;
}

static void receive(sendfd_receiver *receiver)
{
    int fd;
    sendfd_message message = {.size = sizeof message, .max_fds = 1, .fds = &fd};
    CHECK(sendfd_receiver_recv(receiver, &message, 10000));
    CHECK(close(fd));
}

/* A process that listens on `signals` signals after opening `crowd` descriptors, until killed. */
static pid_t listener(int signals, int crowd)
{
    int ready[2];
    CHECK(pipe2(ready, O_CLOEXEC));
    pid_t pid = fork();
    CHECK(pid);
    if (pid > 0) {
        char byte;
        close(ready[1]);
        CHECK(read(ready[0], &byte, 1) == 1 ? 0 : -1);
        close(ready[0]);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < crowd; i++)
        CHECK(open("/dev/null", O_RDONLY | O_CLOEXEC));
    sendfd_receiver *receivers[31];
    for (int i = 0; i < signals; i++)
        CHECK(sendfd_receiver_open(SIGRTMIN + i, NULL, &receivers[i]));
    CHECK(write(ready[1], "!", 1));
    for (;;)
        for (int i = 0; i < signals; i++) {
            int fd;
            sendfd_message message = {.size = sizeof message, .max_fds = 1, .fds = &fd};
            if (sendfd_receiver_recv(receivers[i], &message, signals > 1 ? 1 : 1000) == 0)
                close(fd);
        }
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void contact(const char *what, int crowd, uint32_t path)
{
    static double times[TRIES];
    pid_t pid = listener(1, crowd);
    for (int i = 0; i < TRIES; i++) {
        double start = now();
        sendfd_target_close(reach(pid, SIGRTMIN, path));
        times[i] = now() - start;
    }
    end(pid);
    qsort(times, TRIES, sizeof times[0], compare);
    printf("%-46s median %7.1f us, 95th %7.1f us\n", what, times[TRIES / 2], times[TRIES * 95 / 100]);
}

static void to_many(const char *name, uint32_t path)
{
    enum { SIGNALS = 30, PROCESSES = MANY / SIGNALS };
    pid_t pids[PROCESSES];
    static sendfd_target *targets[MANY];
    for (int i = 0; i < PROCESSES; i++)
        pids[i] = listener(SIGNALS, 0);
    int before = open_descriptors();
    for (int i = 0; i < MANY; i++)
        targets[i] = reach(pids[i / SIGNALS], SIGRTMIN + i % SIGNALS, path);
    int cost = open_descriptors() - before;
    int passenger = open("/dev/null", O_RDONLY | O_CLOEXEC);
    sendfd_options wait = {.size = sizeof wait, .timeout_ms = 10000};
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < MANY; i++)
            CHECK(sendfd_target_send(targets[i], &passenger, 1, &wait));
    printf("%-46s %d descriptors for %d targets\n", name, cost, MANY);
    for (int i = 0; i < MANY; i++)
        sendfd_target_close(targets[i]);
    for (int i = 0; i < PROCESSES; i++)
        end(pids[i]);
    close(passenger);
}

static void from_many(const char *name, uint32_t path)
{
    sendfd_receiver *receiver;
    int start = open_descriptors();
    CHECK(sendfd_receiver_open(SIGRTMIN, NULL, &receiver));
    int own = open_descriptors() - start;
    pid_t receiving = getpid();
    int go[2];
    CHECK(pipe2(go, O_CLOEXEC));
    /* Each sender is a process. */
    for (int i = 0; i < MANY; i++) {
        pid_t pid = fork();
        CHECK(pid);
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            char byte;
            sendfd_target *target = reach(receiving, SIGRTMIN, path);
            int passenger = open("/dev/null", O_RDONLY | O_CLOEXEC);
            sendfd_options wait = {.size = sizeof wait, .timeout_ms = 60000};
            for (int round = 0; round < 3; round++)
                CHECK(sendfd_target_send(target, &passenger, 1, &wait));
            /* Stays connected until all have sent. */
            close(go[1]);
            if (read(go[0], &byte, 1) < 0)
                _exit(1);
            _exit(0);
        }
    }
    close(go[0]);
    for (int i = 0; i < MANY * 3; i++)
        receive(receiver);
    int cost = open_descriptors() - start - own - 1;
    close(go[1]);
    for (int i = 0; i < MANY; i++) {
        int status;
        CHECK(waitpid(-1, &status, 0));
        if (status != 0) {
            fprintf(stderr, "a sender failed\n");
            exit(1);
        }
    }
    printf("%-46s %d descriptors, and %d for %d senders\n", name, own, cost, MANY);
    sendfd_receiver_close(receiver);
}

int main(void)
{
    struct rlimit hard;
    CHECK(getrlimit(RLIMIT_NOFILE, &hard));
    if (hard.rlim_max > CROWD + 100 || geteuid() == 0) {
        limit(CROWD + 100);
        contact("first contact, pidfd, 10,000 open, limit 10,100", CROWD, SENDFD_PATH_PIDFD);
        contact("first contact, name, 10,000 open, limit 10,100", CROWD, SENDFD_PATH_NAME);
        limit(20000 < hard.rlim_max ? 20000 : hard.rlim_max);
        contact("first contact, pidfd, the same, limit 20,000", CROWD, SENDFD_PATH_PIDFD);
    } else {
        printf("first contact with 10,000 descriptors open: RLIMIT_NOFILE is too low here\n");
    }
    limit(1024);
    contact("first contact, pidfd", 0, SENDFD_PATH_PIDFD);
    contact("first contact, name", 0, SENDFD_PATH_NAME);
    to_many("one sender, pidfd", SENDFD_PATH_PIDFD);
    to_many("one sender, name", SENDFD_PATH_NAME);
    from_many("one receiver, pidfd", SENDFD_PATH_PIDFD);
    from_many("one receiver, name", SENDFD_PATH_NAME);

    sendfd_receiver *receivers[30];
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < 30; i++) {
        CHECK(sendfd_receiver_open(SIGRTMIN + i, NULL, &receivers[i]));
        CHECK(sendfd(getpid(), SIGRTMIN + i, 0));
        receive(receivers[i]);
    }
    printf("%-46s %zu bytes each, of 30\n", "heap of a receiver that has received",
           (mallinfo2().uordblks - before) / 30);
    static sendfd_target *targets[MANY / 2];
    before = mallinfo2().uordblks;
    for (int i = 0; i < MANY / 2; i++)
        targets[i] = reach(getpid(), SIGRTMIN + i % 30, SENDFD_PATH_PIDFD);
    printf("%-46s %zu bytes each, of %d\n", "heap of a target",
           (mallinfo2().uordblks - before) / (MANY / 2), MANY / 2);
    return targets[0] ? 0 : 1;
}
