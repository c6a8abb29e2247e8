/* Bad input gets a negative errno. Nothing is sent, nothing is received, no descriptor is left. */
#include "test.h"

static sendfd_receiver *receiver;
static int before;

static void refused(int line, int expected, int result)
{
    sendfd_message message = roomy_message();
    if (result != expected) {
        fprintf(stderr, "line %d: %d (%s), not %d (%s)\n", line, result, sendfd_strerror(result),
                expected, sendfd_strerror(expected));
        exit(1);
    }
    EQUAL(-EAGAIN, sendfd_receiver_recv(receiver, &message, 0));
    EQUAL(before, open_descriptors());
}
#define REFUSED(expected, call) refused(__LINE__, expected, call)

static pid_t own;
static int sig, fd, closed;
static pid_t dead;

/* Receives what was sent well. From now on the number of descriptors stays what it is. */
static void arrives(void)
{
    sendfd_message message = roomy_message();
    EQUAL(0, sendfd_receiver_recv(receiver, &message, 0));
    close(message.fds[0]);
    before = open_descriptors();
}

static void one_call(void)
{
    REFUSED(-EINVAL, sendfd(own, 0, fd));
    REFUSED(-EINVAL, sendfd(own, -1, fd));
    REFUSED(-EINVAL, sendfd(own, SIGTERM, fd));
    REFUSED(-EINVAL, sendfd(own, SIGRTMIN - 1, fd));
    REFUSED(-EINVAL, sendfd(own, SIGRTMAX + 1, fd));
    REFUSED(-EINVAL, sendfd(own, INT_MAX, fd));
    REFUSED(-EINVAL, sendfd(0, sig, fd));
    REFUSED(-EINVAL, sendfd(-1, sig, fd));
    REFUSED(-EINVAL, sendfd(INT_MIN, sig, fd));
    REFUSED(-EBADF, sendfd(own, sig, -1));
    REFUSED(-EBADF, sendfd(own, sig, AT_FDCWD));
    REFUSED(-EBADF, sendfd(own, sig, INT_MIN));
    REFUSED(-EBADF, sendfd(own, sig, INT_MAX));
    REFUSED(-EBADF, sendfd(own, sig, closed));
    REFUSED(-ESRCH, sendfd(dead, sig, fd));
    REFUSED(-ESRCH, sendfd(INT_MAX, sig, fd));
}

/* How options can be wrong, whichever function takes them. */
static void wrong_options(int (*call)(const sendfd_options *))
{
    static char data[SENDFD_MAX_DATA + 1];
    struct {
        sendfd_options known;
        char unknown[8];
    } newer = {.known.size = sizeof newer, .unknown = {[7] = 1}};
    sendfd_options options = {.size = 0};

    REFUSED(-EINVAL, call(&options));
    options.size = sizeof options - 1;
    REFUSED(-EINVAL, call(&options));
    options.size = UINT32_MAX;
    REFUSED(-EINVAL, call(&options));
    REFUSED(-EINVAL, call(&newer.known));

    options = (sendfd_options){.size = sizeof options, .paths = 8};
    REFUSED(-EINVAL, call(&options));
    options.paths = UINT32_MAX;
    REFUSED(-EINVAL, call(&options));
    options = (sendfd_options){.size = sizeof options, .flags = 2};
    REFUSED(-EINVAL, call(&options));
    options = (sendfd_options){.size = sizeof options, .reserved = 1};
    REFUSED(-EINVAL, call(&options));
    options = (sendfd_options){.size = sizeof options, .timeout_ms = -2};
    REFUSED(-EINVAL, call(&options));
    options.timeout_ms = INT_MIN;
    REFUSED(-EINVAL, call(&options));
    options = (sendfd_options){.size = sizeof options, .data_len = 1};
    REFUSED(-EINVAL, call(&options));
    options = (sendfd_options){.size = sizeof options, .data = data, .data_len = sizeof data};
    REFUSED(-EMSGSIZE, call(&options));
    options.data_len = UINT32_MAX;
    REFUSED(-EMSGSIZE, call(&options));
}

/* How descriptors can be wrong, whichever function takes them. */
static void wrong_fds(int (*call)(const int *, size_t))
{
    int many[SENDFD_MAX_FDS + 1], holes[3] = {fd, -1, fd}, gone[3] = {fd, fd, closed};
    for (size_t i = 0; i < SENDFD_MAX_FDS + 1; i++)
        many[i] = fd;

    REFUSED(-EINVAL, call(NULL, 1));
    REFUSED(-EINVAL, call(NULL, 0));
    REFUSED(-EINVAL, call(&fd, 0));
    REFUSED(-EINVAL, call(many, SENDFD_MAX_FDS + 1));
    REFUSED(-EINVAL, call(many, SIZE_MAX));
    REFUSED(-EBADF, call(holes, 3));
    REFUSED(-EBADF, call(gone, 3));
    many[SENDFD_MAX_FDS - 1] = INT_MIN;
    REFUSED(-EBADF, call(many, SENDFD_MAX_FDS));
}

static int send_options(const sendfd_options *options)
{
    return sendfd_send(own, sig, &fd, 1, options);
}

static int send_fds(const int *fds, size_t nfds)
{
    return sendfd_send(own, sig, fds, nfds, NULL);
}

static int open_options(const sendfd_options *options)
{
    sendfd_target *target = (sendfd_target *)&target;
    int result = sendfd_target_open(own, sig, options, &target);
    CHECK(target == NULL);
    return result;
}

static sendfd_target *target;

static int target_options(const sendfd_options *options)
{
    return sendfd_target_send(target, &fd, 1, options);
}

static int target_fds(const int *fds, size_t nfds)
{
    return sendfd_target_send(target, fds, nfds, NULL);
}

static void targets(void)
{
    sendfd_target *out = (sendfd_target *)&out;
    sendfd_message message = roomy_message();

    wrong_options(open_options);
    REFUSED(-EINVAL, sendfd_target_open(own, sig, NULL, NULL));
    REFUSED(-EINVAL, sendfd_target_open(0, sig, NULL, &out));
    CHECK(out == NULL);
    REFUSED(-EINVAL, sendfd_target_open(own, SIGTERM, NULL, &out));
    REFUSED(-ESRCH, sendfd_target_open(dead, sig, NULL, &out));
    sendfd_target_close(NULL);

    EQUAL(0, sendfd_target_open(own, sig, NULL, &target));
    EQUAL(0, sendfd_target_send(target, &fd, 1, NULL));
    arrives();
    wrong_options(target_options);
    wrong_fds(target_fds);
    REFUSED(-EINVAL, sendfd_target_send(NULL, &fd, 1, NULL));
    REFUSED(-EINVAL, sendfd_target_path(NULL));
    REFUSED(-EINVAL, sendfd_target_queued(NULL));
    sendfd_target_close(target);
    /* Receiving notices that a connection has ended. */
    EQUAL(-EAGAIN, sendfd_receiver_recv(receiver, &message, 0));
    before = open_descriptors();
}

static int try_open(sendfd_receiver_options options)
{
    sendfd_receiver *out = (sendfd_receiver *)&out;
    int result = sendfd_receiver_open(SIGRTMAX, &options, &out);
    CHECK(out == NULL);
    return result;
}

static void receivers(void)
{
    const uint32_t size = sizeof(sendfd_receiver_options);
    struct {
        sendfd_receiver_options known;
        char unknown[8];
    } newer = {.known.size = sizeof newer, .unknown = {[7] = 1}};
    sendfd_receiver *out = NULL;

    REFUSED(-EINVAL, sendfd_receiver_open(SIGRTMAX, NULL, NULL));
    REFUSED(-EINVAL, sendfd_receiver_open(SIGTERM, NULL, &out));
    REFUSED(-EINVAL, sendfd_receiver_open(SIGRTMAX + 1, NULL, &out));
    REFUSED(-EADDRINUSE, sendfd_receiver_open(sig, NULL, &out));
    REFUSED(-EINVAL, sendfd_receiver_open(SIGRTMAX, &newer.known, &out));
    REFUSED(-EINVAL, try_open((sendfd_receiver_options){.size = 0}));
    REFUSED(-EINVAL, try_open((sendfd_receiver_options){.size = size - 1}));
    REFUSED(-EINVAL, try_open((sendfd_receiver_options){.size = size, .flags = 1}));
    REFUSED(-EINVAL, try_open((sendfd_receiver_options){.size = size, .nuids = 1}));
    REFUSED(-EINVAL, sendfd_receiver_fd(NULL));
    REFUSED(-EINVAL, sendfd_receiver_retire(NULL));
    REFUSED(-EINVAL, sendfd_receiver_discard(NULL));
    REFUSED(0, sendfd_receiver_discard(receiver));
    sendfd_receiver_close(NULL);
}

static int try_recv(sendfd_message message)
{
    int one = sendfd_receiver_recv(receiver, &message, 0);
    EQUAL(one, sendfd_receiver_recv_many(receiver, &message, 1, 0));
    return one;
}

static void messages(void)
{
    struct {
        sendfd_message known;
        char unknown[8];
    } newer = {.known.size = sizeof newer, .unknown = {[7] = 1}};
    sendfd_message good = roomy_message(), bad = good, array[2] = {good, good};

    REFUSED(-EINVAL, sendfd_receiver_recv(NULL, &good, 0));
    REFUSED(-EINVAL, sendfd_receiver_recv(receiver, NULL, 0));
    REFUSED(-EINVAL, sendfd_receiver_recv(receiver, &good, -2));
    REFUSED(-EINVAL, sendfd_receiver_recv(receiver, &newer.known, 0));
    REFUSED(-EINVAL, sendfd_receiver_recv_many(NULL, &good, 1, 0));
    REFUSED(-EINVAL, sendfd_receiver_recv_many(receiver, NULL, 1, 0));
    REFUSED(-EINVAL, sendfd_receiver_recv_many(receiver, &good, 0, 0));
    REFUSED(-EINVAL, sendfd_receiver_recv_many(receiver, &good, SIZE_MAX, 0));
    REFUSED(-EINVAL, sendfd_receiver_recv_many(receiver, &good, 1, -2));

    bad.size = 0;
    REFUSED(-EINVAL, try_recv(bad));
    bad.size = sizeof bad - 1;
    REFUSED(-EINVAL, try_recv(bad));
    bad = good;
    bad.fds = NULL;
    REFUSED(-EINVAL, try_recv(bad));
    bad = good;
    bad.data = NULL;
    REFUSED(-EINVAL, try_recv(bad));
    array[1] = bad;
    REFUSED(-EINVAL, sendfd_receiver_recv_many(receiver, array, 2, 0));
    array[1].size = 0;
    REFUSED(-EINVAL, sendfd_receiver_recv_many(receiver, array, 2, 0));
}

static void nothing(int ignored)
{
    (void)ignored;
}

static void signal_mode(void)
{
    REFUSED(-EINVAL, sendfd_listen(0));
    REFUSED(-EINVAL, sendfd_listen(SIGTERM));
    REFUSED(-EINVAL, sendfd_listen(SIGRTMAX + 1));
    /* Nobody takes the signal: it would kill this process. */
    REFUSED(-EINVAL, sendfd_listen(SIGRTMAX));
    REFUSED(-EINVAL, sendfd_unlisten(0));
    REFUSED(-EINVAL, sendfd_unlisten(SIGRTMAX));
    /* A receiver is there, but that is not signal mode. */
    REFUSED(-EINVAL, sendfd_unlisten(sig));
    signal(sig, nothing);
    signal(SIGRTMAX, SIG_IGN);
    REFUSED(-EINVAL, sendfd_listen(SIGRTMAX));
    REFUSED(-EADDRINUSE, sendfd_listen(sig));
}

static void probing(void)
{
    struct {
        sendfd_report known;
        char unknown[8];
    } newer = {.known.size = sizeof newer, .unknown = {[7] = 1}};
    sendfd_report report = {.size = sizeof report};

    REFUSED(-EINVAL, sendfd_probe(own, sig, NULL));
    REFUSED(-EINVAL, sendfd_probe(own, sig, &newer.known));
    REFUSED(-EINVAL, sendfd_probe(own, SIGTERM, &report));
    REFUSED(-EINVAL, sendfd_probe(0, sig, &report));
    REFUSED(-ESRCH, sendfd_probe(dead, sig, &report));
    report.size = 4;
    REFUSED(-EINVAL, sendfd_probe(own, sig, &report));
}

int main(void)
{
    own = getpid();
    sig = SIGRTMIN + 3;
    fd = null_device();
    dead = dead_process();
    EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));

    /* All is well but for the input. This also fills the cache of targets. */
    EQUAL(0, sendfd(own, sig, fd));
    arrives();
    closed = closed_descriptor();
    one_call();
    wrong_options(send_options);
    wrong_fds(send_fds);
    targets();
    receivers();
    messages();
    signal_mode();
    probing();

    const int odd[] = {0, 1, -1, 9999, INT_MAX, INT_MIN, -ENOTRECOVERABLE};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        CHECK(sendfd_strerror(odd[i])[0] != '\0');
    sendfd_receiver_close(receiver);
    return 0;
}
