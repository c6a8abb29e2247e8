/* Data of every length up to SENDFD_MAX_DATA arrives as it was sent, beside as many descriptors as
 * there is room for. */
#include "test.h"

static char sent[SENDFD_MAX_DATA + 1], got[SENDFD_MAX_DATA];
static int sig, fd;
static sendfd_receiver *receiver;

static void arrives(size_t nfds, uint32_t len)
{
    static int fds[SENDFD_MAX_FDS];
    sendfd_options options = SENDFD_OPTIONS_INIT;
    sendfd_message message = roomy_message();
    const int before = open_descriptors();

    for (size_t i = 0; i < nfds; i++)
        fds[i] = fd;
    options.data = sent;
    options.data_len = len;
    EQUAL(0, sendfd_send(getpid(), sig, fds, nfds, &options));
    memset(got, 0, sizeof got);
    message.data = got;
    if (len > 0) {
        message.max_data = len - 1;
        EQUAL(-EMSGSIZE, sendfd_receiver_recv(receiver, &message, 0));
        EQUAL(nfds, message.nfds);
        EQUAL(len, message.data_len);
    }
    message.max_data = len;
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(nfds, message.nfds);
    EQUAL(len, message.data_len);
    CHECK(memcmp(sent, got, len) == 0);
    for (uint32_t i = 0; i < message.nfds; i++) {
        CHECK(same_file(fd, message.fds[i]));
        close(message.fds[i]);
    }
    EQUAL(before, open_descriptors());
}

int main(void)
{
    const uint32_t lengths[] = {0, 1, 4095, 4096, 4097, 65536, 1000003, SENDFD_MAX_DATA};
    sendfd_options options = SENDFD_OPTIONS_INIT;
    sendfd_message message = roomy_message();

    sig = sendfd_port(7);
    fd = null_device();
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (char)(i * 31 + i / 4099);
    EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
    /* The target that is kept, and its connection. */
    EQUAL(0, sendfd(getpid(), sig, fd));
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    close(message.fds[0]);

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        arrives(1, lengths[i]);
        arrives(SENDFD_MAX_FDS - 1, lengths[i]);
    }
    arrives(SENDFD_MAX_FDS, 4096);

    options.data = sent;
    options.data_len = SENDFD_MAX_DATA + 1;
    EQUAL(-EMSGSIZE, sendfd_send(getpid(), sig, &fd, 1, &options));
    EQUAL(-EAGAIN, sendfd_receiver_recv(receiver, &message, 0));
    sendfd_receiver_close(receiver);
    return 0;
}
