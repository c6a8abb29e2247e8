/* A message that needs more room than was lent stays, and comes first next time. */
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
    options.tag = 2;
    EQUAL(0, sendfd_send(getpid(), sig, &fd, 1, &options));

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

    message.max_fds = 3;
    message.max_data = 100;
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(1, message.tag);
    EQUAL(3, message.nfds);
    EQUAL(100, message.data_len);
    CHECK(memcmp(message.data, data, sizeof data) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(same_file(fd, message.fds[i]));
        close(message.fds[i]);
    }
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(2, message.tag);
    close(message.fds[0]);
    EQUAL(-EAGAIN, sendfd_receiver_recv(receiver, &message, 0));
    CHECK(!readable(sendfd_receiver_fd(receiver)));
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
