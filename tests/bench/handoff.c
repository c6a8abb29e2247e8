/* How long handing a descriptor over takes, against what one would write by hand.
 *
 *     handoff [ROUNDS [MESSAGES]]
 *
 * The other way is the shortest loop there is: sendmsg and recvmsg with SCM_RIGHTS over a socket
 * pair, one byte of data, no credentials, no identity, no framing. Each round runs every way once,
 * so that a machine that is busy is busy for all of them; the figure to look at is the ratio within
 * a round, of which the median over all rounds is printed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { BATCH = 32, MAX_ROUNDS = 100 };

static int messages = 100000;
static int passenger;
static int sig;

static pid_t child(void (*run)(const void *), const void *argument)
{
    pid_t pid = fork();
    CHECK(pid);
    if (pid == 0) {
        run(argument);
        _exit(0);
    }
    return pid;
}

static void reap(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0));
    if (status != 0) {
        fprintf(stderr, "a sender failed\n");
        exit(1);
    }
}

/* ---- by hand ---- */

static void bare_send(int socket)
{
    char byte = 0;
    struct iovec part = {&byte, 1};
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = &control, .msg_controllen = sizeof control.space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &passenger, sizeof(int));
    CHECK(sendmsg(socket, &message, MSG_NOSIGNAL));
}

static void bare_receive(int socket)
{
    char byte;
    int fd;
    struct iovec part = {&byte, 1};
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = &control, .msg_controllen = sizeof control.space};
    CHECK(recvmsg(socket, &message, MSG_CMSG_CLOEXEC));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    CHECK(close(fd));
}

static void bare_sender(const void *argument)
{
    for (int i = 0; i < messages; i++)
        bare_send(*(const int *)argument);
}

static void bare_stream(void)
{
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    pid_t pid = child(bare_sender, &pair[0]);
    for (int i = 0; i < messages; i++)
        bare_receive(pair[1]);
    reap(pid);
    close(pair[0]);
    close(pair[1]);
}

static int epoll_of(int socket)
{
    struct epoll_event event = {.events = EPOLLIN};
    int set = epoll_create1(EPOLL_CLOEXEC);
    CHECK(set);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, socket, &event));
    return set;
}

static void bare_wait(int set)
{
    struct epoll_event event;
    CHECK(epoll_wait(set, &event, 1, -1));
}

static void bare_echo(const void *argument)
{
    const int *sockets = argument;
    int set = epoll_of(sockets[0]);
    for (int i = 0; i < messages; i++) {
        bare_wait(set);
        bare_receive(sockets[0]);
        bare_send(sockets[1]);
    }
}

static void bare_ping(void)
{
    int there[2], back[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, there));
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, back));
    int of_child[2] = {there[1], back[0]};
    pid_t pid = child(bare_echo, of_child);
    int set = epoll_of(back[1]);
    for (int i = 0; i < messages; i++) {
        bare_send(there[0]);
        bare_wait(set);
        bare_receive(back[1]);
    }
    reap(pid);
    close(set);
    for (int i = 0; i < 2; i++) {
        close(there[i]);
        close(back[i]);
    }
}

/* ---- by libsendfd ---- */

struct peer {
    pid_t pid;
    uint32_t path;
};

static sendfd_target *open_target(pid_t pid, uint32_t path)
{
    sendfd_options options = {.size = sizeof options, .paths = path, .timeout_ms = 10000};
    sendfd_target *target;
    CHECK(sendfd_target_open(pid, sig, &options, &target));
    return target;
}

static sendfd_receiver *open_receiver(void)
{
    sendfd_receiver *receiver;
    CHECK(sendfd_receiver_open(sig, NULL, &receiver));
    return receiver;
}

static void send_one(sendfd_target *target)
{
    static const sendfd_options wait = {.size = sizeof wait, .timeout_ms = -1};
    CHECK(sendfd_target_send(target, &passenger, 1, &wait));
}

static void receive_one(sendfd_receiver *receiver)
{
    int fd;
    sendfd_message message = {.size = sizeof message, .max_fds = 1, .fds = &fd};
    CHECK(sendfd_receiver_recv(receiver, &message, -1));
    CHECK(close(fd));
}

static void sender(const void *argument)
{
    const struct peer *peer = argument;
    sendfd_target *target = open_target(peer->pid, peer->path);
    for (int i = 0; i < messages; i++)
        send_one(target);
}

static void stream(uint32_t path)
{
    sendfd_receiver *receiver = open_receiver();
    struct peer self = {getpid(), path};
    pid_t pid = child(sender, &self);
    for (int i = 0; i < messages; i++)
        receive_one(receiver);
    reap(pid);
    sendfd_receiver_close(receiver);
}

static void stream_many(uint32_t path)
{
    sendfd_receiver *receiver = open_receiver();
    struct peer self = {getpid(), path};
    pid_t pid = child(sender, &self);
    static sendfd_message batch[BATCH];
    static int fds[BATCH];
    for (int i = 0; i < BATCH; i++)
        batch[i] = (sendfd_message){.size = sizeof batch[i], .max_fds = 1, .fds = &fds[i]};
    for (int received = 0; received < messages;) {
        int count = sendfd_receiver_recv_many(receiver, batch, BATCH, -1);
        CHECK(count);
        for (int i = 0; i < count; i++)
            CHECK(close(fds[i]));
        received += count;
    }
    reap(pid);
    sendfd_receiver_close(receiver);
}

static void echo(const void *argument)
{
    const struct peer *peer = argument;
    sendfd_receiver *receiver = open_receiver();
    sendfd_target *target = open_target(peer->pid, peer->path);
    for (int i = 0; i < messages; i++) {
        receive_one(receiver);
        send_one(target);
    }
}

static void ping(uint32_t path)
{
    sendfd_receiver *receiver = open_receiver();
    struct peer self = {getpid(), path};
    pid_t pid = child(echo, &self);
    sendfd_target *target = open_target(pid, path);
    for (int i = 0; i < messages; i++) {
        send_one(target);
        receive_one(receiver);
    }
    reap(pid);
    sendfd_target_close(target);
    sendfd_receiver_close(receiver);
}

static void pidfd_stream(void) { stream(SENDFD_PATH_PIDFD); }
static void name_stream(void) { stream(SENDFD_PATH_NAME); }
static void pidfd_many(void) { stream_many(SENDFD_PATH_PIDFD); }
static void name_many(void) { stream_many(SENDFD_PATH_NAME); }
static void pidfd_ping(void) { ping(SENDFD_PATH_PIDFD); }
static void name_ping(void) { ping(SENDFD_PATH_NAME); }

/* ---- the table ---- */

static const struct way {
    const char *name;
    void (*run)(void);
    int base;                   /* what it is compared with */
    int part;                   /* of the messages: waking a process can take 50 times a hand-off */
} ways[] = {
    {"stream, bare SCM_RIGHTS", bare_stream, 0, 1},
    {"stream, pidfd", pidfd_stream, 0, 1},
    {"stream, name", name_stream, 0, 1},
    {"stream, pidfd, recv_many", pidfd_many, 0, 1},
    {"stream, name, recv_many", name_many, 0, 1},
    {"ping-pong, bare with epoll", bare_ping, 5, 10},
    {"ping-pong, pidfd", pidfd_ping, 5, 10},
    {"ping-pong, name", name_ping, 5, 10},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *values, int count, double share)
{
    double sorted[MAX_ROUNDS];
    memcpy(sorted, values, sizeof(double) * (size_t)count);
    qsort(sorted, (size_t)count, sizeof(double), compare);
    return sorted[(int)(share * (count - 1) + 0.5)];
}

int main(int argc, char **argv)
{
    static double times[WAYS][MAX_ROUNDS], ratios[WAYS][MAX_ROUNDS];
    int rounds = argc > 1 ? atoi(argv[1]) : 15;
    if (argc > 2)
        messages = atoi(argv[2]);
    const int all = messages;
    if (rounds < 1 || rounds > MAX_ROUNDS || all < 10) {
        fprintf(stderr, "usage: handoff [ROUNDS, at most %d [MESSAGES, at least 10]]\n", MAX_ROUNDS);
        return 2;
    }
    sig = SIGRTMIN;
    passenger = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(passenger);

    for (int round = 0; round < rounds; round++) {
        for (int way = 0; way < WAYS; way++) {
            messages = all / ways[way].part;
            double start = now();
            ways[way].run();
            times[way][round] = (now() - start) / messages;
            ratios[way][round] = times[way][round] / times[ways[way].base][round];
        }
        fprintf(stderr, "\rround %d of %d", round + 1, rounds);
    }
    fprintf(stderr, "\r");
    printf("%-28s %10s %8s %18s\n", "one descriptor a message", "median us", "ratio", "5th to 95th");
    for (int way = 0; way < WAYS; way++)
        printf("%-28s %10.2f %8.3f     %6.3f to %6.3f\n", ways[way].name,
               quantile(times[way], rounds, 0.5), quantile(ratios[way], rounds, 0.5),
               quantile(ratios[way], rounds, 0.05), quantile(ratios[way], rounds, 0.95));
    return 0;
}
