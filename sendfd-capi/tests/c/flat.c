/* The calls that take no structs with pointers: sendfd_port, sendfd_detect, sendfd_receiver_recv_fd. */
#include "test.h"

#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static void ports(void)
{
    EQUAL(64, sendfd_port(0));
    EQUAL(SIGRTMAX - 29, sendfd_port(29));
    EQUAL(-EINVAL, sendfd_port(30));
    EQUAL(-EINVAL, sendfd_port(-1));
    EQUAL(-EINVAL, sendfd_port(INT_MIN));
    for (int n = 0; n < 30; n++)
        CHECK(sendfd_port(n) >= SIGRTMIN && sendfd_port(n) <= SIGRTMAX);
}

static void is(uint32_t expected, int fd)
{
    sendfd_kind kind = SENDFD_KIND_INIT;
    CHECK(fd >= 0);
    EQUAL(expected, sendfd_detect(fd, NULL));
    EQUAL(expected, sendfd_detect(fd, &kind));
    EQUAL(expected, kind.kind);
    CHECK(kind.family == 0 && kind.socket_type == 0 && kind.protocol == 0 && !kind.listening);
    close(fd);
}

static void kinds(void)
{
    int ends[2];
    sendfd_kind kind = SENDFD_KIND_INIT;

    is(SENDFD_KIND_FILE, open("/proc/self/exe", O_RDONLY));
    is(SENDFD_KIND_DIRECTORY, open("/", O_RDONLY | O_DIRECTORY));
    is(SENDFD_KIND_CHARACTER_DEVICE, null_device());
    is(SENDFD_KIND_ANONYMOUS, eventfd(0, 0));
    CHECK(pipe(ends) == 0);
    is(SENDFD_KIND_PIPE, ends[0]);
    is(SENDFD_KIND_PIPE, ends[1]);

    const int tcp = socket(AF_INET, SOCK_STREAM, 0);
    EQUAL(SENDFD_KIND_SOCKET, sendfd_detect(tcp, &kind));
    CHECK(kind.family == AF_INET && kind.socket_type == SOCK_STREAM);
    CHECK(kind.protocol == IPPROTO_TCP && !kind.listening);
    CHECK(listen(tcp, 1) == 0);
    EQUAL(SENDFD_KIND_SOCKET, sendfd_detect(tcp, &kind));
    CHECK(kind.listening);
    close(tcp);
    EQUAL(-EBADF, sendfd_detect(tcp, &kind));
    EQUAL(-EBADF, sendfd_detect(-1, NULL));
}

static void one_descriptor(void)
{
    const int sig = sendfd_port(5), fd = null_device(), two[2] = {fd, fd};
    sendfd_options options = SENDFD_OPTIONS_INIT;
    sendfd_sender sender = SENDFD_SENDER_INIT;
    sendfd_receiver *receiver;
    int got, before;

    EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
    EQUAL(-EAGAIN, sendfd_receiver_recv_fd(receiver, 0, NULL));
    EQUAL(-ETIMEDOUT, sendfd_receiver_recv_fd(receiver, 1, &sender));
    EQUAL(-EINVAL, sendfd_receiver_recv_fd(receiver, -2, NULL));
    EQUAL(-EINVAL, sendfd_receiver_recv_fd(NULL, 0, NULL));

    options.tag = UINT64_MAX;
    EQUAL(0, sendfd_send(getpid(), sig, &fd, 1, &options));
    CHECK((got = sendfd_receiver_recv_fd(receiver, -1, &sender)) >= 0);
    CHECK(same_file(fd, got) && (fcntl(got, F_GETFD) & FD_CLOEXEC));
    CHECK(sender.tag == UINT64_MAX && sender.pid == getpid());
    CHECK(sender.uid == getuid() && sender.gid == getgid() && sender.path != 0);
    close(got);
    EQUAL(0, sendfd_send(getpid(), sig, &fd, 1, NULL));
    CHECK((got = sendfd_receiver_recv_fd(receiver, 0, NULL)) >= 0);
    close(got);
    before = open_descriptors();

    /* Several, or data: it stays, for who lends room for them. */
    sendfd_message message = roomy_message();
    EQUAL(0, sendfd_send(getpid(), sig, two, 2, NULL));
    EQUAL(-EMSGSIZE, sendfd_receiver_recv_fd(receiver, 0, &sender));
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(2, message.nfds);
    close(message.fds[0]);
    close(message.fds[1]);
    options.data = "x";
    options.data_len = 1;
    EQUAL(0, sendfd_send(getpid(), sig, &fd, 1, &options));
    EQUAL(-EMSGSIZE, sendfd_receiver_recv_fd(receiver, 0, &sender));
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(1, message.data_len);
    close(message.fds[0]);
    EQUAL(before, open_descriptors());
    sendfd_receiver_close(receiver);
}

int main(void)
{
    ports();
    kinds();
    one_descriptor();
    return 0;
}
