/* Many messages with one call, in order.
 *
 *     recv_many pidfd | name */
#include "test.h"

enum { SENT = 100, ROOM = 16 };

int main(int argc, char **argv)
{
    const int sig = SIGRTMIN + 2;
    const uint32_t path = argc == 2 && strcmp(argv[1], "pidfd") == 0 ? SENDFD_PATH_PIDFD
                                                                     : SENDFD_PATH_NAME;
    sendfd_message messages[ROOM];
    int fds[ROOM][2];
    char data[ROOM][8];
    sendfd_receiver *receiver;
    sendfd_report report = {.size = sizeof report};

    EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
    EQUAL(0, sendfd_probe(getpid(), sig, &report));
    const int fd = null_device(), before = open_descriptors();
    for (int i = 0; i < ROOM; i++)
        messages[i] = (sendfd_message){.size = sizeof messages[i],
                                       .max_fds = 2,
                                       .fds = fds[i],
                                       .max_data = 8,
                                       .data = data[i]};

    if (!(report.working & path))
        skip("pidfd: this machine does not offer it");

    sendfd_target *target;
    sendfd_options options = {.size = sizeof options, .paths = path};
    EQUAL(0, sendfd_target_open(getpid(), sig, &options, &target));
    uint64_t next = 0;
    for (uint64_t tag = 0; tag < SENT; tag++) {
        const int pair[2] = {fd, fd};
        options.tag = tag;
        options.data = &options.tag;
        options.data_len = sizeof options.tag;
        EQUAL(0, sendfd_target_send(target, pair, 1 + tag % 2, &options));
    }
    while (next < SENT) {
        int got = sendfd_receiver_recv_many(receiver, messages, ROOM, 0);
        CHECK(got >= 1 && got <= ROOM);
        for (int i = 0; i < got; i++, next++) {
            EQUAL(next, messages[i].tag);
            EQUAL(8, messages[i].data_len);
            CHECK(memcmp(data[i], &next, sizeof next) == 0);
            EQUAL(path, messages[i].path);
            EQUAL(getpid(), messages[i].pid);
            EQUAL(1 + next % 2, messages[i].nfds);
            for (unsigned f = 0; f < messages[i].nfds; f++) {
                CHECK(same_file(fd, fds[i][f]));
                EQUAL(FD_CLOEXEC, fcntl(fds[i][f], F_GETFD));
                close(fds[i][f]);
            }
        }
    }
    EQUAL(-EAGAIN, sendfd_receiver_recv_many(receiver, messages, ROOM, 0));
    EQUAL(-ETIMEDOUT, sendfd_receiver_recv_many(receiver, messages, ROOM, 1));
    sendfd_target_close(target);
    /* Lets go of what connected. */
    EQUAL(-EAGAIN, sendfd_receiver_recv_many(receiver, messages, ROOM, 0));
    EQUAL(before, open_descriptors());
    sendfd_receiver_close(receiver);
    return 0;
}
