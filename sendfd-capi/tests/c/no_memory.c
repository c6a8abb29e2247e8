/* Without memory each call answers -ENOMEM, or does what it was asked to; none ends the process.
 *
 *     no_memory left     with an address space that is used up (RLIMIT_AS)
 *     no_memory nth      from the nth allocation of the call on, for each n
 *     no_memory once     the nth allocation of the call alone */
#include "test.h"

#include <sys/resource.h>

/* The library's allocations come through here, too. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
static volatile long left = LONG_MAX;
static volatile int once;

static int fails(void)
{
    if (left == LONG_MAX || --left > 0)
        return 0;
    if (once)
        left = LONG_MAX;
    else
        left = 0;
    return 1;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}

static int sig, fd;
static sendfd_receiver *receiver;
static sendfd_target *target;

static int call_receiver_open(void)
{
    sendfd_receiver *other;
    int result = sendfd_receiver_open(sig - 1, NULL, &other);
    if (result == 0)
        sendfd_receiver_close(other);
    return result;
}

static int call_target_open(void)
{
    sendfd_target *other;
    int result = sendfd_target_open(getpid(), sig, NULL, &other);
    if (result == 0)
        sendfd_target_close(other);
    return result;
}

static int take(int result)
{
    int got;
    if (result == 0 && (got = sendfd_receiver_recv_fd(receiver, 0, NULL)) >= 0)
        return close(got);
    return result;
}

static int call_sendfd(void)
{
    return take(sendfd(getpid(), sig, fd));
}

static int call_target_send(void)
{
    return take(sendfd_target_send(target, &fd, 1, NULL));
}

static int call_probe(void)
{
    static sendfd_report report = SENDFD_REPORT_INIT;
    return sendfd_probe(getpid(), sig, &report);
}

static void nothing(int ignored)
{
    (void)ignored;
}

static int call_listen(void)
{
    signal(sig - 2, nothing);
    int result = sendfd_listen(sig - 2);
    /* That there is no thread is said by another number. */
    return result == 0 ? sendfd_unlisten(sig - 2) : result == -EAGAIN ? -ENOMEM : result;
}

static const struct {
    const char *name;
    int (*call)(void);
    int opens;
} calls[] = {
    {"sendfd_receiver_open", call_receiver_open, 1},
    {"sendfd_target_open", call_target_open, 1},
    {"sendfd_probe", call_probe, 1},
    {"sendfd_target_send", call_target_send, 0},
    {"sendfd", call_sendfd, 0},
    /* The last: the thread that it starts is allocated where nobody can refuse, so that a failing
     * malloc between the library's question for memory and that cannot be answered for. */
    {"sendfd_listen", call_listen, 1},
};

/* What is wrong with the answer, said without allocating. */
static void judge(const char *name, long n, int result, int must_fail)
{
    if (result == -ENOMEM || (result == 0 && !must_fail))
        return;
    dprintf(STDERR_FILENO, "%s, allocation %ld: %d\n", name, n, result);
    _exit(1);
}

static void in_a_child(void (*run)(size_t), size_t which)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        /* What the parent opened is not the child's. */
        EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
        EQUAL(0, sendfd_target_open(getpid(), sig, NULL, &target));
        run(which);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    EQUAL(0, status);
}

static void memory_used_up(size_t which)
{
    const struct rlimit none = {0, RLIM_INFINITY};
    CHECK(setrlimit(RLIMIT_AS, &none) == 0);
    for (size_t size = 1 << 20; size >= 16; size /= 2)
        while (__libc_malloc(size))
            ;
    judge(calls[which].name, 0, calls[which].call(), calls[which].opens);
}

static void nth_fails(size_t which)
{
    const int before = open_descriptors();
    int result = -ENOMEM;
    for (long n = 1; n < 200; n++) {
        left = n;
        result = calls[which].call();
        left = LONG_MAX;
        judge(calls[which].name, n, result, 0);
        /* At most a cached target, its connection and that of the other target. */
        int found = 0;
        sendfd_message message = roomy_message();
        EQUAL(-EAGAIN, sendfd_receiver_recv(receiver, &message, 0));
        CHECK((found = open_descriptors()) <= before + 3);
    }
    /* With as many allocations as it wants, it works. */
    EQUAL(0, result);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    sig = sendfd_port(4);
    fd = null_device();
    once = strcmp(argv[1], "once") == 0;
    const int used_up = strcmp(argv[1], "left") == 0;
    const size_t count = sizeof calls / sizeof *calls - (used_up ? 0 : 1);
    for (size_t i = 0; i < count; i++)
        in_a_child(used_up ? memory_used_up : nth_fails, i);
    return 0;
}
