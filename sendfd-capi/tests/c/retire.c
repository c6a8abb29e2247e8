/* A receiver that retires takes no more and loses nothing; a message that will never fit is given
 * up. */
#include "test.h"

static int sig, fd;

static void retiring(void)
{
    sendfd_receiver *receiver, *next;
    sendfd_target *target;
    sendfd_sender sender = SENDFD_SENDER_INIT;
    sendfd_options options = SENDFD_OPTIONS_INIT;
    const int before = open_descriptors();

    EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
    EQUAL(0, sendfd_target_open(getpid(), sig, NULL, &target));
    for (options.tag = 1; options.tag <= 3; options.tag++)
        EQUAL(0, sendfd_target_send(target, &fd, 1, &options));
    EQUAL(0, sendfd_receiver_retire(receiver));
    EQUAL(0, sendfd_receiver_retire(receiver));
    EQUAL(-ECONNREFUSED, sendfd_target_send(target, &fd, 1, NULL));
    EQUAL(-ECONNREFUSED, sendfd_send(getpid(), sig, &fd, 1, NULL));

    /* The successor may be there before the last message is received. */
    EQUAL(0, sendfd_receiver_open(sig, NULL, &next));
    options.tag = 4;
    EQUAL(0, sendfd_target_send(target, &fd, 1, &options));
    for (uint64_t tag = 1; tag <= 3; tag++) {
        int got = sendfd_receiver_recv_fd(receiver, 0, &sender);
        CHECK(got >= 0 && same_file(fd, got));
        EQUAL(tag, sender.tag);
        close(got);
    }
    EQUAL(-ESHUTDOWN, sendfd_receiver_recv_fd(receiver, -1, NULL));
    EQUAL(-ESHUTDOWN, sendfd_receiver_recv_fd(receiver, 0, NULL));
    CHECK(readable(sendfd_receiver_fd(receiver)));
    sendfd_receiver_close(receiver);

    int got = sendfd_receiver_recv_fd(next, 0, &sender);
    CHECK(got >= 0);
    EQUAL(4, sender.tag);
    close(got);
    EQUAL(0, sendfd_receiver_retire(next));
    EQUAL(-ESHUTDOWN, sendfd_receiver_recv_fd(next, -1, NULL));
    sendfd_receiver_close(next);
    sendfd_target_close(target);
    /* The target that sendfd_send may have kept. */
    CHECK(open_descriptors() <= before + 1);
}

static void discarding(void)
{
    sendfd_receiver *receiver;
    const int two[2] = {fd, fd};

    EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
    EQUAL(0, sendfd_receiver_discard(receiver));
    EQUAL(0, sendfd_send(getpid(), sig, two, 2, NULL));
    EQUAL(0, sendfd_send(getpid(), sig, &fd, 1, NULL));
    EQUAL(-EMSGSIZE, sendfd_receiver_recv_fd(receiver, 0, NULL));
    const int before = open_descriptors();
    EQUAL(1, sendfd_receiver_discard(receiver));
    EQUAL(0, sendfd_receiver_discard(receiver));
    CHECK(open_descriptors() <= before);
    int got = sendfd_receiver_recv_fd(receiver, 0, NULL);
    CHECK(got >= 0);
    close(got);
    EQUAL(-EAGAIN, sendfd_receiver_recv_fd(receiver, 0, NULL));
    sendfd_receiver_close(receiver);
}

int main(void)
{
    sig = sendfd_port(6);
    fd = null_device();
    retiring();
    discarding();
    return 0;
}
