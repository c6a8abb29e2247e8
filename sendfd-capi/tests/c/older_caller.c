/* A program that was built with the first release's header, whose structs are shorter, runs with
 * this library. Each struct lies at the very end of a page, and the page after it is not there. */
#include "test.h"

#include <stddef.h>
#include <sys/mman.h>

/* Where a field ends: as long as its struct was when it was the last. */
#define END(type, field) (offsetof(type, field) + sizeof((type *)0)->field)

static const size_t options_size = END(sendfd_options, tag);
static const size_t opening_size = END(sendfd_receiver_options, uids);
static const size_t message_size = END(sendfd_message, gid);
static const size_t sender_size = END(sendfd_sender, reserved);
static const size_t report_size = END(sendfd_report, paths);
static const size_t kind_size = END(sendfd_kind, listening);

/* count structs of size bytes each, up to the end of a page. */
static void *at_the_end(size_t size, size_t count)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED && mprotect(pages + page, page, PROT_NONE) == 0);
    char *first = pages + page - size * count;
    for (size_t i = 0; i < count; i++)
        memcpy(first + i * size, &(uint32_t){(uint32_t)size}, sizeof(uint32_t));
    return first;
}

static void shorter_still(sendfd_receiver *receiver, int sig, int fd)
{
    const pid_t own = getpid();
    sendfd_receiver *other;
    EQUAL(-EINVAL, sendfd_send(own, sig, &fd, 1, at_the_end(options_size - 8, 1)));
    EQUAL(-EINVAL, sendfd_receiver_open(sig + 1, at_the_end(opening_size - 8, 1), &other));
    EQUAL(-EINVAL, sendfd_receiver_recv(receiver, at_the_end(message_size - 8, 1), 0));
    EQUAL(-EINVAL, sendfd_receiver_recv_fd(receiver, 0, at_the_end(sender_size - 8, 1)));
    EQUAL(-EINVAL, sendfd_probe(own, sig, at_the_end(report_size - 8, 1)));
    EQUAL(-EINVAL, sendfd_detect(fd, at_the_end(kind_size - 8, 1)));
}

int main(void)
{
    const int sig = sendfd_port(3), fd = null_device();
    const pid_t own = getpid();
    sendfd_receiver *receiver;
    int fds[3], got = 0;

    EQUAL(0, sendfd_receiver_open(sig, at_the_end(opening_size, 1), &receiver));
    sendfd_options *options = at_the_end(options_size, 1);
    options->tag = 7;
    for (int i = 0; i < 4; i++)
        EQUAL(0, sendfd_send(own, sig, &fd, 1, options));

    char *array = at_the_end(message_size, 3);
    for (int i = 0; i < 3; i++) {
        sendfd_message *message = (sendfd_message *)(array + (size_t)i * message_size);
        message->fds = &fds[i];
        message->max_fds = 1;
    }
    CHECK((got = sendfd_receiver_recv_many(receiver, (sendfd_message *)array, 3, -1)) >= 1);
    for (int i = 0; i < got; i++) {
        sendfd_message *message = (sendfd_message *)(array + (size_t)i * message_size);
        CHECK(message->tag == 7 && message->uid == getuid() && message->gid == getgid());
        CHECK(same_file(fd, fds[i]));
    }

    sendfd_sender *sender = at_the_end(sender_size, 1);
    for (; got < 4; got++)
        CHECK(sendfd_receiver_recv_fd(receiver, 0, sender) >= 0);
    sendfd_report *report = at_the_end(report_size, 1);
    EQUAL(0, sendfd_probe(own, sig, report));
    CHECK(report->working & SENDFD_PATH_NAME);
    sendfd_kind *kind = at_the_end(kind_size, 1);
    EQUAL(SENDFD_KIND_CHARACTER_DEVICE, sendfd_detect(fd, kind));
    EQUAL(SENDFD_KIND_CHARACTER_DEVICE, kind->kind);

    /* What needs more room is told within the shorter struct, too. */
    EQUAL(0, sendfd_send(own, sig, (int[]){fd, fd}, 2, options));
    EQUAL(-EMSGSIZE, sendfd_receiver_recv(receiver, (sendfd_message *)array, 0));
    EQUAL(2, ((sendfd_message *)array)->nfds);

    shorter_still(receiver, sig, fd);
    sendfd_receiver_close(receiver);
    return 0;
}
