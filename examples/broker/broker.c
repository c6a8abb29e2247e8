/* A broker, in C: a process that has files hands them to those who ask for them.
 *
 *     broker serve SIG FILE...    hands out FILE number N, from 0, opened for reading
 *     broker ask PID SIG N        asks that process, and copies the file to standard output
 *
 * A request is a message with the tag N and one descriptor: an end of a socket pair. The answer goes back over
 * that pair. It is not sent to the pid that is in the request: that says who asked, but by the time of the
 * answer the pid may be another process's, which would then get the file. The pair leads to whoever holds its
 * other end, and sending over it fails when nobody does. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <sendfd.h>

enum { PATIENCE_MS = 10000 };

static int fail(const char *what, int err)
{
    fprintf(stderr, "broker: %s: %s\n", what, sendfd_strerror(err));
    return 1;
}

/* Room for one descriptor beside a byte, aligned as control messages must be. */
union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
};

/* Answers over `asker`: a byte and `fd`, or the byte alone where `fd` is -1. Does not wait: an answer fits into
 * the socket of who has had none yet. */
static int answer(int asker, int fd)
{
    char byte = fd < 0 ? '-' : '+';
    struct iovec bytes = {.iov_base = &byte, .iov_len = 1};
    union control control = {0};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};

    if (fd >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof control.room;
        control.header.cmsg_len = CMSG_LEN(sizeof fd);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    return sendmsg(asker, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The descriptor that is the answer; -1 if there is none. */
static int answer_from(int broker)
{
    char byte;
    int fd = -1;
    struct iovec bytes = {.iov_base = &byte, .iov_len = 1};
    union control control;
    struct msghdr message = {.msg_iov = &bytes,
                             .msg_iovlen = 1,
                             .msg_control = control.room,
                             .msg_controllen = sizeof control.room};
    struct pollfd answered = {.fd = broker, .events = POLLIN};

    if (poll(&answered, 1, PATIENCE_MS) != 1 || recvmsg(broker, &message, MSG_CMSG_CLOEXEC) != 1)
        return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

static int serve(int sig, char **files, uint64_t count)
{
    sendfd_receiver *receiver;
    int err = sendfd_receiver_open(sig, NULL, &receiver);

    while (err >= 0 || err == -EINTR) {
        sendfd_sender sender = SENDFD_SENDER_INIT;
        int asker = err = sendfd_receiver_recv_fd(receiver, -1, &sender);

        if (err == -EMSGSIZE) {
            sendfd_receiver_discard(receiver); /* more than a request has */
            err = 0;
        }
        if (asker < 0)
            continue;
        int file = sender.tag < count ? open(files[sender.tag], O_RDONLY | O_CLOEXEC) : -1;
        int unsent = answer(asker, file);
        if (unsent == -EPIPE)
            fprintf(stderr, "broker: process %d is gone, and gets no answer\n", (int)sender.pid);
        else if (unsent < 0)
            fprintf(stderr, "broker: process %d sent what is no request\n", (int)sender.pid);
        if (file >= 0)
            close(file);
        close(asker);
    }
    return fail("cannot receive", err);
}

static int ask(pid_t pid, int sig, uint64_t nth)
{
    sendfd_options options = SENDFD_OPTIONS_INIT;
    int pair[2], err, file;
    char block[4096];
    ssize_t got;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return fail("cannot make a pair of sockets", -errno);
    options.tag = nth;
    options.timeout_ms = PATIENCE_MS;
    err = sendfd_send(pid, sig, &pair[1], 1, &options);
    close(pair[1]); /* so that the broker's is the only one, and its exit is seen */
    if (err < 0)
        return fail("cannot ask", err);
    fprintf(stderr, "asked process %d\n", (int)pid);
    file = answer_from(pair[0]);
    if (file < 0)
        return fail("there is no such file to be had", -ENOENT);
    while ((got = read(file, block, sizeof block)) > 0)
        if (write(STDOUT_FILENO, block, (size_t)got) != got)
            return fail("cannot write", -errno);
    close(file);
    close(pair[0]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[1], "serve") == 0)
        return serve(atoi(argv[2]), argv + 3, (uint64_t)argc - 3);
    if (argc == 5 && strcmp(argv[1], "ask") == 0)
        return ask(atoi(argv[2]), atoi(argv[3]), strtoull(argv[4], NULL, 10));
    fprintf(stderr, "usage: broker serve SIG FILE... | broker ask PID SIG N\n");
    return 2;
}
