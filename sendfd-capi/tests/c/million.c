/* Many hand-offs end with the memory and the descriptors of the first thousand, on both sides.
 *
 *     million COUNT      so many by each path to a receiver, and as many to a process in signal mode */
#include "test.h"

#include <stdatomic.h>

enum { WARM = 1000, PATIENCE_MS = 60000, PAGES_OF_SLACK = 64 };

/* Allocations that are alive: the library's come through here, too. */
static atomic_long alive;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static void *counted(void *memory)
{
    if (memory)
        alive++;
    return memory;
}

void *malloc(size_t size)
{
    return counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return counted(__libc_calloc(count, size));
}

void *realloc(void *old, size_t size)
{
    return old ? __libc_realloc(old, size) : malloc(size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    *memory = counted(__libc_memalign(alignment, size));
    return *memory ? 0 : ENOMEM;
}

void free(void *memory)
{
    if (memory)
        alive--;
    __libc_free(memory);
}

/* The process's own, without those of programs and libraries, which come in as they are needed. */
static long own_pages(void)
{
    char text[128];
    long resident = 0, of_files = 0;
    const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    const ssize_t length = read(fd, text, sizeof text - 1);
    CHECK(length > 0);
    close(fd);
    text[length] = 0;
    CHECK(sscanf(text, "%*d %ld %ld", &resident, &of_files) == 2);
    return resident - of_files;
}

struct state {
    long pages, allocations;
    int descriptors;
};

static struct state state_now(void)
{
    const int descriptors = open_descriptors();
    return (struct state){own_pages(), alive, descriptors};
}

static int is_within(const struct state *end, const struct state *warm)
{
    return end->allocations <= warm->allocations && end->descriptors <= warm->descriptors &&
           end->pages <= warm->pages + PAGES_OF_SLACK;
}

/* To be called after each hand-off: looks after the first thousand and after the last. */
static void look(const char *who, long nth, long count)
{
    static struct state warm;
    if (nth + 1 == WARM)
        warm = state_now();
    if (nth + 1 != count)
        return;
    /* What others close for the library takes a moment. */
    struct state end = state_now();
    for (int i = 0; i < 1000 && !is_within(&end, &warm); i++) {
        usleep(10000);
        end = state_now();
    }
    printf("%s: %ld kB, %ld allocations, %d descriptors after %d; %ld kB, %ld, %d after %ld\n", who,
           warm.pages * 4, warm.allocations, warm.descriptors, WARM, end.pages * 4, end.allocations,
           end.descriptors, count);
    CHECK(is_within(&end, &warm));
}

/* What the nth message carries. */
static uint32_t descriptors_of(long nth)
{
    return nth % 8 == 0 ? 3 : 1;
}

static uint32_t bytes_of(long nth)
{
    return nth % 1000 == 999 ? 10000 : nth % 16 == 0 ? 100 : 0;
}

static void receive(int sig, long count)
{
    sendfd_receiver *receiver;
    EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
    for (long nth = 0; nth < count; nth++) {
        sendfd_message message = roomy_message();
        EQUAL(0, sendfd_receiver_recv(receiver, &message, PATIENCE_MS));
        EQUAL(nth, message.tag);
        EQUAL(descriptors_of(nth), message.nfds);
        EQUAL(bytes_of(nth), message.data_len);
        for (uint32_t i = 0; i < message.nfds; i++)
            close(message.fds[i]);
        look("receiver", nth, count);
    }
    sendfd_receiver_close(receiver);
}

static void take_signals(int sig, long count)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    EQUAL(0, sendfd_listen(sig));
    for (long nth = 0; nth < count; nth++) {
        siginfo_t info;
        CHECK(sigwaitinfo(&set, &info) == sig);
        close(info.si_value.sival_int);
        look("signal mode", nth, count);
    }
    EQUAL(0, sendfd_unlisten(sig));
}

static void hand_over(int sig, long count, uint32_t path)
{
    static char data[10000];
    const int null = null_device(), fds[] = {null, null, null};
    fflush(stdout);
    const pid_t child = fork();
    int status;
    if (child == 0) {
        alarm(0);
        path ? receive(sig, count) : take_signals(sig, count);
        fflush(stdout);
        _exit(0);
    }
    const uint32_t paths = path ? path : SENDFD_PATH_SYSCALL | SENDFD_PATH_PIDFD;
    sendfd_options options = {.size = sizeof options, .paths = paths, .timeout_ms = PATIENCE_MS};
    sendfd_target *target;
    EQUAL(0, sendfd_target_open(child, sig, &options, &target));
    for (long nth = 0; nth < count; nth++) {
        const uint32_t nfds = path ? descriptors_of(nth) : 1;
        options.tag = path ? (uint64_t)nth : 0;
        options.data = data;
        options.data_len = path ? bytes_of(nth) : 0;
        options.paths = 0;
        EQUAL(0, sendfd_target_send(target, fds, nfds, &options));
        look("sender", nth, count);
    }
    sendfd_target_close(target);
    CHECK(waitpid(child, &status, 0) == child);
    EQUAL(0, status);
    close(null);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    const long count = atol(argv[1]);
    CHECK(count > WARM);
    alarm(0);
    /* What stdio allocates for itself is there from now on. */
    printf("%ld hand-offs\n", count);
    hand_over(sendfd_port(2), count, SENDFD_PATH_PIDFD);
    hand_over(sendfd_port(3), count, SENDFD_PATH_NAME);
    hand_over(sendfd_port(4), count, 0);
    return 0;
}
