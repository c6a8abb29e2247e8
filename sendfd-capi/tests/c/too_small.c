/* A message that needs more room than was lent stays, and comes first when there is enough. Those behind
 * it go on meanwhile, and where there are none, it is told of again. */
#include "test.h"

int main(void)
{
    const int sig = SIGRTMIN + 2;
    const int fd = null_device();
    const int three[3] = {fd, fd, fd};
    char data[100];
    const int at_first = open_descriptors();
    sendfd_receiver *receiver;
    sendfd_options options = {.size = sizeof options, .data = data, .data_len = sizeof data};

    memset(data, 'x', sizeof data);
    EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
    EQUAL(0, sendfd(getpid(), sig, fd));
    sendfd_message message = roomy_message();
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    close(message.fds[0]);
    const int before = open_descriptors();

    options.tag = 1;
    EQUAL(0, sendfd_send(getpid(), sig, three, 3, &options));

    /* Too few descriptors, too little data, no room at all; one and many. */
    const uint32_t rooms[][2] = {{2, 100}, {3, 99}, {0, 0}};
    for (int i = 0; i < 3; i++) {
        sendfd_message tight = roomy_message();
        tight.max_fds = rooms[i][0];
        tight.max_data = rooms[i][1];
        if (tight.max_fds == 0) {
            tight.fds = NULL;
            tight.data = NULL;
        }
        EQUAL(-EMSGSIZE, sendfd_receiver_recv(receiver, &tight, 0));
        EQUAL(3, tight.nfds);
        EQUAL(100, tight.data_len);
        tight.nfds = tight.data_len = 0;
        EQUAL(-EMSGSIZE, sendfd_receiver_recv_many(receiver, &tight, 1, -1));
        EQUAL(3, tight.nfds);
        EQUAL(100, tight.data_len);
        CHECK(readable(sendfd_receiver_fd(receiver)));
    }

    /* With one that fits behind it, and two that do not: told of once each, then of the first again. */
    options.tag = 2;
    EQUAL(0, sendfd_send(getpid(), sig, &fd, 1, &options));
    options.tag = 3;
    EQUAL(0, sendfd_send(getpid(), sig, three, 2, &options));
    options.tag = 4;
    EQUAL(0, sendfd_send(getpid(), sig, &fd, 1, &options));
    message.max_fds = 1;
    message.max_data = 100;
    EQUAL(0, sendfd_receiver_recv(receiver, &message, -1));
    EQUAL(2, message.tag);
    close(message.fds[0]);
    EQUAL(-EMSGSIZE, sendfd_receiver_recv(receiver, &message, -1));
    EQUAL(2, message.nfds);
    EQUAL(0, sendfd_receiver_recv(receiver, &message, -1));
    EQUAL(4, message.tag);
    close(message.fds[0]);
    EQUAL(-EMSGSIZE, sendfd_receiver_recv(receiver, &message, -1));
    EQUAL(3, message.nfds);
    CHECK(readable(sendfd_receiver_fd(receiver)));

    /* The first that fits. */
    message.max_fds = 2;
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(3, message.tag);
    close(message.fds[0]);
    close(message.fds[1]);
    message.max_fds = 3;
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(1, message.tag);
    EQUAL(3, message.nfds);
    EQUAL(100, message.data_len);
    CHECK(memcmp(message.data, data, sizeof data) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(same_file(fd, message.fds[i]));
        close(message.fds[i]);
    }
    EQUAL(-EAGAIN, sendfd_receiver_recv(receiver, &message, 0));
    CHECK(!readable(sendfd_receiver_fd(receiver)));
    EQUAL(before, open_descriptors());

    /* Among many, the one that does not fit is told of by the next call. */
    sendfd_message many[3] = {roomy_message(), roomy_message(), roomy_message()};
    int second, third;
    many[1].fds = &second;
    many[2].fds = &third;
    many[0].max_fds = many[1].max_fds = many[2].max_fds = 1;
    for (int i = 1; i <= 3; i++) {
        options.tag = (uint64_t)i;
        EQUAL(0, sendfd_send(getpid(), sig, three, i == 2 ? 2 : 1, &options));
    }
    int got = sendfd_receiver_recv_many(receiver, many, 3, -1);
    EQUAL(1, got);
    EQUAL(1, many[0].tag);
    close(many[0].fds[0]);
    EQUAL(-EMSGSIZE, sendfd_receiver_recv_many(receiver, many, 3, -1));
    EQUAL(2, many[0].nfds);
    EQUAL(1, sendfd_receiver_recv_many(receiver, many, 3, -1));
    EQUAL(3, many[0].tag);
    close(many[0].fds[0]);
    EQUAL(-EMSGSIZE, sendfd_receiver_recv_many(receiver, many, 3, 0));
    EQUAL(1, sendfd_receiver_discard(receiver));
    EQUAL(-EAGAIN, sendfd_receiver_recv_many(receiver, many, 3, 0));
    CHECK(!readable(sendfd_receiver_fd(receiver)));
    EQUAL(before, open_descriptors());

    /* A worker that has room for one and never looks at errors: each is told of, and the honest ones all
     * come through, more than are kept aside. */
    for (int i = 0; i < 12; i++) {
        EQUAL(0, sendfd_send(getpid(), sig, three, 2, NULL));
        EQUAL(0, sendfd_send(getpid(), sig, &fd, 1, NULL));
    }
    int honest = 0, told = 0;
    while (honest < 12) {
        int number = sendfd_receiver_recv_fd(receiver, -1, NULL);
        if (number >= 0) {
            close(number);
            honest++;
        } else {
            EQUAL(-EMSGSIZE, number);
            EQUAL(1, sendfd_receiver_discard(receiver));
            told++;
        }
    }
    EQUAL(12, told);
    EQUAL(before, open_descriptors());

    /* One that nobody makes room for is closed with the receiver. */
    EQUAL(0, sendfd_send(getpid(), sig, three, 3, &options));
    message.max_fds = 1;
    EQUAL(-EMSGSIZE, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(before + 3, open_descriptors());
    sendfd_receiver_close(receiver);
    EQUAL(at_first + 1, open_descriptors()); /* the cached target */
    return 0;
}
