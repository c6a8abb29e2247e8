/* What sending and receiving cost once both are warm: no allocation; and sendfd_target_send, which
 * may be called in a signal handler, is one system call.
 *
 *     cost allocations | calls */
#include "test.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>

enum { ROUNDS = 1000, MARK = SYS_getppid };

/* The library's allocations come through here, too. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
static volatile int allocations;

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    allocations++;
    return __libc_realloc(old, size);
}

static int sig, fd;
static sendfd_receiver *receiver;
static sendfd_target *target;

static void exchange(void)
{
    static const char data[] = "some bytes";
    static const sendfd_options options = {
        .size = sizeof options, .tag = 1, .data = data, .data_len = sizeof data};
    sendfd_message message = roomy_message();

    EQUAL(0, sendfd_target_send(target, &fd, 1, &options));
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    close(message.fds[0]);
    EQUAL(0, sendfd(getpid(), sig, fd));
    EQUAL(0, sendfd_send(getpid(), sig, &fd, 1, &options));
    for (int left = 2; left > 0;) {
        sendfd_message both[2] = {roomy_message(), roomy_message()};
        int second, got;
        both[1].fds = &second;
        both[1].max_fds = 1;
        CHECK((got = sendfd_receiver_recv_many(receiver, both, 2, 0)) >= 1);
        for (int i = 0; i < got; i++, left--)
            close(both[i].fds[0]);
    }
    EQUAL(0, sendfd(getpid(), sig, fd));
    CHECK(close(sendfd_receiver_recv_fd(receiver, 0, NULL)) == 0);
    EQUAL(-EAGAIN, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(-EBADF, sendfd_target_send(target, &(int){-1}, 1, NULL));
}

static void count_allocations(void)
{
    allocations = 0;
    free(strdup("counted"));
    EQUAL(1, allocations);
    exchange();
    allocations = 0;
    for (int i = 0; i < ROUNDS; i++)
        exchange();
    EQUAL(0, allocations);
}

/* Everything between two marks is the call's. */
static void count_calls(void)
{
    const pid_t sender = fork();
    int status, calls = 0, marks = 0, entering = 0;

    CHECK(sender >= 0);
    if (sender == 0) {
        CHECK(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
        raise(SIGSTOP);
        syscall(MARK);
        int result = sendfd_target_send(target, &fd, 1, NULL);
        syscall(MARK);
        _exit(result == 0 ? 0 : 1);
    }
    CHECK(waitpid(sender, &status, 0) == sender && WIFSTOPPED(status));
    CHECK(ptrace(PTRACE_SETOPTIONS, sender, NULL, (void *)PTRACE_O_TRACESYSGOOD) == 0);
    for (;;) {
        struct __ptrace_syscall_info info;
        CHECK(ptrace(PTRACE_SYSCALL, sender, NULL, NULL) == 0);
        CHECK(waitpid(sender, &status, 0) == sender);
        if (WIFEXITED(status))
            break;
        CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == (SIGTRAP | 0x80));
        CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, sender, (void *)sizeof info, &info) > 0);
        entering = info.op == PTRACE_SYSCALL_INFO_ENTRY;
        if (!entering)
            continue;
        if (info.entry.nr == MARK)
            marks++;
        else if (marks == 1)
            calls++;
    }
    EQUAL(0, status);
    EQUAL(2, marks);
    EQUAL(1, calls);
}

int main(int argc, char **argv)
{
    sendfd_message message = roomy_message();

    sig = SIGRTMIN + 2;
    fd = null_device();
    EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
    EQUAL(0, sendfd_target_open(getpid(), sig, NULL, &target));
    exchange();
    if (argc == 2 && strcmp(argv[1], "calls") == 0) {
        count_calls();
        EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
        close(message.fds[0]);
    } else {
        count_allocations();
    }
    sendfd_target_close(target);
    sendfd_receiver_close(receiver);
    return 0;
}
