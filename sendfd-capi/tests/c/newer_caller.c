/* A program that was built with a later header, whose structs are longer, runs with this library
 * as long as it asks for nothing that is new: what was added is zero. */
#include "test.h"

int main(void)
{
    const int sig = SIGRTMIN + 3;
    const int fd = null_device();
    struct {
        sendfd_options known;
        uint64_t added[4];
    } options = {.known = {.size = sizeof options, .tag = 7, .data = "abc", .data_len = 3}};
    struct {
        sendfd_receiver_options known;
        uint64_t added[4];
    } opening = {.known.size = sizeof opening};
    struct {
        sendfd_report known;
        uint64_t added[4];
    } report = {.known.size = sizeof report};
    struct {
        sendfd_message known;
        uint64_t added[4];
    } messages[5];
    int fds[5];
    char data[5][3];

    sendfd_receiver *receiver;
    EQUAL(0, sendfd_receiver_open(sig, &opening.known, &receiver));
    EQUAL(0, sendfd_probe(getpid(), sig, &report.known));
    CHECK(report.known.working & SENDFD_PATH_NAME);

    memset(messages, 0, sizeof messages);
    for (int i = 0; i < 5; i++)
        messages[i].known = (sendfd_message){.size = sizeof messages[i],
                                             .max_fds = 1,
                                             .fds = &fds[i],
                                             .max_data = 3,
                                             .data = data[i]};
    for (int i = 0; i < 3; i++) {
        options.known.tag = 7 + (uint64_t)i;
        EQUAL(0, sendfd_send(getpid(), sig, &fd, 1, &options.known));
    }
    /* The array is walked by the size of the caller's. Having one, nothing is waited for. */
    EQUAL(3, sendfd_receiver_recv_many(receiver, &messages[0].known, 5, -1));
    for (int i = 0; i < 3; i++) {
        EQUAL(7 + i, messages[i].known.tag);
        CHECK(memcmp(data[i], "abc", 3) == 0);
        CHECK(same_file(fd, fds[i]));
    }
    EQUAL(-EAGAIN, sendfd_receiver_recv_many(receiver, &messages[0].known, 5, 0));

    EQUAL(0, sendfd_send(getpid(), sig, &fd, 1, &options.known));
    EQUAL(0, sendfd_receiver_recv(receiver, &messages[4].known, 0));
    EQUAL(9, messages[4].known.tag);
    sendfd_receiver_close(receiver);
    return 0;
}
