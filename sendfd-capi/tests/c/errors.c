/* The errors that say something about the target or this moment, as C sees them. After each, this
 * process has as many descriptors as before. */
#include "test.h"

#include <sys/resource.h>

static int sig, fd, before;

static void failed(int line, int expected, int result)
{
    if (result != expected) {
        fprintf(stderr, "line %d: %d (%s), not %d\n", line, result, sendfd_strerror(result),
                expected);
        exit(1);
    }
    EQUAL(before, open_descriptors());
}
#define FAILED(expected, call) failed(__LINE__, expected, call)

static void nobody_listens(void)
{
    sendfd_options options = {.size = sizeof options, .timeout_ms = 5};
    sendfd_target *target;

    before = open_descriptors();
    FAILED(-ECONNREFUSED, sendfd(getpid(), sig, fd));
    FAILED(-ECONNREFUSED, sendfd_send(getpid(), sig, &fd, 1, NULL));
    FAILED(-ECONNREFUSED, sendfd_target_open(getpid(), sig, NULL, &target));
    FAILED(-ETIMEDOUT, sendfd_send(getpid(), sig, &fd, 1, &options));
    FAILED(-ETIMEDOUT, sendfd_target_open(getpid(), sig, &options, &target));

    /* Who waits for room only is told at once. */
    options.timeout_ms = -1;
    options.flags = SENDFD_WAIT_ROOM;
    FAILED(-ECONNREFUSED, sendfd_send(getpid(), sig, &fd, 1, &options));
    FAILED(-ECONNREFUSED, sendfd_target_open(getpid(), sig, &options, &target));
}

static void path_not_offered(void)
{
    sendfd_options options = {.size = sizeof options, .paths = SENDFD_PATH_SYSCALL};
    sendfd_target *target;

    if (access("/proc/sys/kernel/pidfd_sendfd_nr", F_OK) == 0)
        return;
    FAILED(-EOPNOTSUPP, sendfd_target_open(getpid(), sig, &options, &target));
    FAILED(-EOPNOTSUPP, sendfd_send(getpid(), sig, &fd, 1, &options));
}

static void full_queue(sendfd_receiver *receiver)
{
    sendfd_target *target;
    sendfd_message message = roomy_message();
    sendfd_options options = {.size = sizeof options, .timeout_ms = 5};
    int sent = 0, result;

    EQUAL(0, sendfd_target_open(getpid(), sig, NULL, &target));
    EQUAL(0, sendfd_target_queued(target));
    while ((result = sendfd_target_send(target, &fd, 1, NULL)) == 0)
        sent++;
    before = open_descriptors();
    FAILED(-EAGAIN, result);
    FAILED(-EAGAIN, sendfd_target_send(target, &fd, 1, NULL));
    FAILED(-ETIMEDOUT, sendfd_target_send(target, &fd, 1, &options));
    options.flags = SENDFD_WAIT_ROOM;
    FAILED(-ETIMEDOUT, sendfd_target_send(target, &fd, 1, &options));
    CHECK(sendfd_target_queued(target) >= sent);
    for (; sent > 0; sent--) {
        EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
        close(message.fds[0]);
    }
    EQUAL(0, sendfd_target_queued(target));
    before = open_descriptors();
    FAILED(-EAGAIN, sendfd_receiver_recv(receiver, &message, 0));
    FAILED(-ETIMEDOUT, sendfd_receiver_recv(receiver, &message, 5));
    sendfd_target_close(target);
}

static void full_table(void)
{
    sendfd_message message = roomy_message();
    sendfd_receiver *receiver;
    struct rlimit limit, low;
    int filling[128], filled = 0;

    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    low = limit;
    low.rlim_cur = sizeof filling / sizeof *filling;
    CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
    EQUAL(0, sendfd_receiver_open(sig + 1, NULL, &receiver));
    EQUAL(0, sendfd(getpid(), sig + 1, fd));
    while ((filling[filled] = dup(fd)) >= 0)
        filled++;
    EQUAL(-EMFILE, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(-EMFILE, sendfd_receiver_recv_many(receiver, &message, 1, -1));
    /* By the name path, the connection needs room, too. */
    for (int spare = 0; spare < 2; spare++)
        close(filling[--filled]);
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(1, message.nfds);
    close(message.fds[0]);
    while (filled > 0)
        close(filling[--filled]);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    sendfd_receiver_close(receiver);
}

/* A child's copy of a receiver is not its own. */
static void inherited(sendfd_receiver *receiver)
{
    sendfd_message message = roomy_message();
    int status;
    pid_t child = fork();
    if (child == 0) {
        EQUAL(-EBADF, sendfd_receiver_recv(receiver, &message, 0));
        EQUAL(-EBADF, sendfd_receiver_recv(receiver, &message, -1));
        sendfd_receiver_close(receiver);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    EQUAL(0, status);
    EQUAL(0, sendfd(getpid(), sig, fd));
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    close(message.fds[0]);
}

static void on_alarm(int alarm_sig)
{
    (void)alarm_sig;
}

static void interrupted(sendfd_receiver *receiver)
{
    sendfd_message message = roomy_message();
    struct sigaction action = {.sa_handler = on_alarm};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    pid_t own = getpid(), child = fork();
    if (child == 0) {
        /* Until it is killed: one signal could come before the wait. */
        for (;;) {
            usleep(1000);
            kill(own, SIGALRM);
        }
    }
    before = open_descriptors();
    FAILED(-EINTR, sendfd_receiver_recv(receiver, &message, -1));
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0)
        CHECK(errno == EINTR);
    signal(SIGALRM, SIG_IGN);
}

int main(void)
{
    sendfd_receiver *receiver;

    sig = SIGRTMIN + 5;
    fd = null_device();
    nobody_listens();
    path_not_offered();
    EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
    full_queue(receiver);
    full_table();
    inherited(receiver);
    interrupted(receiver);
    sendfd_receiver_close(receiver);
    return 0;
}
