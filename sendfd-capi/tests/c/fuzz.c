/* Random sequences of calls, most of them with something wrong: each returns, with an error that the
 * header knows, what comes out is close-on-exec, and at the end no descriptor is left.
 *
 *     fuzz SEED STEPS        STEPS calls, the same for the same seed
 *     fuzz SEED SECSs        with the seeds from SEED on, for as many seconds */
#include "test.h"

#include <time.h>

enum { PLACES = 4, CACHED = 16, STEPS_OF_A_SEED = 2000, BUFFER = 70000 };

static uint64_t state;
static sendfd_receiver *receivers[PLACES];
static sendfd_target *targets[PLACES];
static int passenger, closed;
static pid_t dead;

static uint32_t below(uint32_t limit)
{
    /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * UINT64_C(2685821657736338717)) >> 32) % limit;
}

#define ONE_OF(array) (array)[below(sizeof(array) / sizeof *(array))]

static pid_t a_pid(void)
{
    const pid_t pids[] = {getpid(), getpid(), getpid(), getpid(), dead, 0, -1, INT_MAX};
    return ONE_OF(pids);
}

static int a_signal(void)
{
    const int wrong[] = {0, -1, SIGTERM, SIGRTMAX + 1, INT_MAX, INT_MIN};
    return below(16) == 0 ? ONE_OF(wrong) : sendfd_port((int)below(PLACES));
}

static int a_descriptor(void)
{
    const int wrong[] = {-1, closed, INT_MAX, INT_MIN};
    return below(32) == 0 ? ONE_OF(wrong) : passenger;
}

static int a_timeout(void)
{
    const int some[] = {0, 0, 0, 0, 0, 1, -2, INT_MIN};
    return ONE_OF(some);
}

/* A struct's size: right, of another release, or wrong. The memory behind it is that long. */
static uint32_t a_size(size_t right)
{
    const uint32_t wrong[] = {0, 4, (uint32_t)right - 4, (uint32_t)right - 1, (uint32_t)right + 8,
                              (uint32_t)right + 64, 65536, UINT32_MAX};
    return below(8) == 0 ? ONE_OF(wrong) : (uint32_t)right;
}

static void *a_struct(size_t right)
{
    static _Alignas(16) char memory[BUFFER];
    memset(memory, 0, sizeof memory);
    memcpy(memory, &(uint32_t){a_size(right)}, sizeof(uint32_t));
    if (below(32) == 0)
        memory[right + below(8)] = 1;
    return below(32) == 0 ? NULL : memory;
}

static const int *some_descriptors(size_t *count)
{
    static int fds[SENDFD_MAX_FDS + 1];
    const size_t counts[] = {1, 1, 1, 2, 3, SENDFD_MAX_FDS, SENDFD_MAX_FDS + 1, 0};
    *count = ONE_OF(counts);
    for (size_t i = 0; i < *count; i++)
        fds[i] = below(64) == 0 ? a_descriptor() : passenger;
    return below(64) == 0 ? NULL : fds;
}

static const sendfd_options *some_options(void)
{
    static char data[SENDFD_MAX_DATA + 1];
    const uint32_t lengths[] = {0, 0, 1, 4096, 4097, SENDFD_MAX_DATA, SENDFD_MAX_DATA + 1,
                                UINT32_MAX};
    const uint32_t paths[] = {0, 0, 0, 1, 2, 4, 6, 7, 8, UINT32_MAX};
    sendfd_options *options = a_struct(sizeof *options);
    if (!options || options->size < sizeof *options)
        return options;
    options->paths = ONE_OF(paths);
    options->timeout_ms = a_timeout();
    options->data_len = ONE_OF(lengths);
    options->data = below(32) == 0 ? NULL : data;
    options->tag = below(UINT32_MAX);
    options->flags = below(16) == 0 ? below(UINT32_MAX) : below(2);
    return options;
}

/* Every error that the header knows, and nothing else. */
static int known(int result)
{
    static const int errors[] = {EINVAL, EBADF, ESRCH, ECONNREFUSED, EPERM, EAGAIN, ETIMEDOUT,
                                 EINTR, ETOOMANYREFS, EMFILE, ENFILE, ENOMEM, EMSGSIZE,
                                 EADDRINUSE, EOPNOTSUPP, ESHUTDOWN};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (result == -errors[i])
            return result;
    CHECK(result >= 0);
    return result;
}

static void arrived(int fd)
{
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(same_file(passenger, fd));
    close(fd);
}

static void receive(sendfd_receiver *receiver)
{
    static char data[SENDFD_MAX_DATA];
    static int fds[SENDFD_MAX_FDS];
    sendfd_message *message = a_struct(sizeof *message);
    if (message && message->size >= sizeof *message) {
        message->fds = below(16) == 0 ? NULL : fds;
        message->max_fds = below(4) == 0 ? below(3) : SENDFD_MAX_FDS;
        message->data = below(16) == 0 ? NULL : data;
        message->max_data = below(4) == 0 ? below(3) : SENDFD_MAX_DATA;
    }
    const int many = below(2) == 0, timeout = a_timeout();
    const int got = known(many ? sendfd_receiver_recv_many(receiver, message, below(2), timeout)
                               : sendfd_receiver_recv(receiver, message, timeout));
    if (got < 0)
        return;
    EQUAL(many, got);
    for (uint32_t i = 0; i < message->nfds; i++)
        arrived(fds[i]);
}

static void open_receiver(sendfd_receiver **place, int sig)
{
    static const uid_t uids[] = {1, 2, 1};
    sendfd_receiver_options *options = a_struct(sizeof *options);
    if (options && options->size >= sizeof *options) {
        options->queue_bytes = below(3) == 0 ? below(UINT32_MAX) : 0;
        options->nuids = below(4);
        options->uids = below(4) == 0 ? NULL : uids;
        options->flags = below(16) == 0;
    }
    if (known(sendfd_receiver_open(sig, options, place)) < 0)
        CHECK(!*place);
}

static void step(void)
{
    const uint32_t at = below(PLACES);
    const int sig = a_signal();
    size_t count;
    const int *fds = some_descriptors(&count);
    int got;

    switch (below(14)) {
    case 0:
        known(sendfd(a_pid(), sig, a_descriptor()));
        break;
    case 1:
    case 2:
        known(sendfd_send(a_pid(), sig, fds, count, some_options()));
        break;
    case 3:
        if (!targets[at] &&
            known(sendfd_target_open(a_pid(), sig, some_options(), &targets[at])) < 0)
            CHECK(!targets[at]);
        break;
    case 4:
    case 5:
        known(sendfd_target_send(targets[at], fds, count, some_options()));
        break;
    case 6:
        known(sendfd_target_path(targets[at]));
        known(sendfd_target_queued(targets[at]));
        if (below(4) == 0) {
            sendfd_target_close(targets[at]);
            targets[at] = NULL;
        }
        break;
    case 7:
        if (!receivers[at])
            open_receiver(&receivers[at], below(8) == 0 ? sig : sendfd_port((int)at));
        break;
    case 8:
        known(sendfd_receiver_fd(receivers[at]));
        known(sendfd_receiver_discard(receivers[at]));
        if (below(16) == 0)
            known(sendfd_receiver_retire(receivers[at]));
        if (below(8) == 0) {
            sendfd_receiver_close(receivers[at]);
            receivers[at] = NULL;
        }
        break;
    case 9:
        got = known(sendfd_receiver_recv_fd(receivers[at], a_timeout(),
                                            a_struct(sizeof(sendfd_sender))));
        if (got >= 0)
            arrived(got);
        break;
    case 10:
        known(sendfd_probe(a_pid(), sig, a_struct(sizeof(sendfd_report))));
        break;
    case 11:
        known(sendfd_detect(a_descriptor(), a_struct(sizeof(sendfd_kind))));
        break;
    default:
        receive(receivers[at]);
    }
}

static void run(uint64_t seed, long steps)
{
    /* In a process of its own: what one leaves is not the next one's. */
    pid_t child = fork();
    int status;
    if (child == 0) {
        const int before = open_descriptors();
        state = seed * 2 + 1;
        for (long i = 0; i < steps; i++)
            step();
        for (int i = 0; i < PLACES; i++) {
            sendfd_target_close(targets[i]);
            sendfd_receiver_close(receivers[i]);
        }
        CHECK(open_descriptors() <= before + CACHED);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (status != 0) {
        fprintf(stderr, "seed %llu, %ld steps: status %d\n", (unsigned long long)seed, steps,
                status);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    uint64_t seed = strtoull(argv[1], NULL, 10);
    char *unit;
    const long number = strtol(argv[2], &unit, 10);

    passenger = null_device();
    closed = closed_descriptor();
    dead = dead_process();
    if (*unit != 's') {
        run(seed, number);
        return 0;
    }
    alarm(0);
    const time_t end = time(NULL) + number;
    long runs = 0;
    for (; time(NULL) < end; runs++)
        run(seed++, STEPS_OF_A_SEED);
    printf("%ld calls\n", runs * STEPS_OF_A_SEED);
    return 0;
}
