/* A worker of the pool, in C: it is handed connections and answers HTTP on them.
 *
 *     worker SIG
 *
 * Connections come at the real-time signal SIG. SIGTERM ends the worker. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sendfd.h>

enum { HEAD_MAX = 8192, READ_TIMEOUT_MS = 5000 };

static volatile sig_atomic_t ending;

static void on_term(int sig)
{
    (void)sig;
    ending = 1;
}

static void fail(const char *what, int err)
{
    fprintf(stderr, "worker: %s: %s\n", what, sendfd_strerror(err));
    exit(1);
}

/* Reads up to the blank line that ends the head of a request. The connection may be non-blocking:
 * whoever accepted it decided that, and the two descriptors share it. */
static int read_head(int connection)
{
    char head[HEAD_MAX + 1];
    size_t len = 0;
    struct pollfd readable = {.fd = connection, .events = POLLIN};

    while (len < HEAD_MAX && poll(&readable, 1, READ_TIMEOUT_MS) == 1) {
        ssize_t got = recv(connection, head + len, HEAD_MAX - len, MSG_DONTWAIT);
        if (got <= 0)
            return -1;
        len += (size_t)got;
        head[len] = '\0';
        if (strstr(head, "\r\n\r\n"))
            return 0;
    }
    return -1;
}

static void serve(int connection)
{
    char body[32], answer[256];

    if (read_head(connection) < 0)
        return;
    int body_len = snprintf(body, sizeof body, "c %d\n", (int)getpid());
    int len = snprintf(answer, sizeof answer,
                       "HTTP/1.1 200 OK\r\n"
                       "Content-Type: text/plain\r\n"
                       "Content-Length: %d\r\n"
                       "Connection: close\r\n"
                       "\r\n"
                       "%s",
                       body_len, body);
    /* A client that went away is no reason to die of SIGPIPE. */
    send(connection, answer, (size_t)len, MSG_NOSIGNAL);
}

int main(void)
{
    const char *port = getenv("SENDFD_PORT");
    if (!port) {
        fprintf(stderr, "worker-c: SENDFD_PORT is not set: `sendfd pool` starts workers\n");
        return 2;
    }

    /* Blocked except while polling, so that SIGTERM cannot slip in between the look and the wait. */
    sigset_t term, waiting;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &waiting);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_term}, NULL);

    sendfd_receiver *receiver;
    int err = sendfd_receiver_open(atoi(port), NULL, &receiver);
    if (err < 0)
        fail("cannot listen", err);

    /* Room for the largest message: one that does not fit would stay first in the queue. */
    int fds[SENDFD_MAX_FDS];
    static char data[SENDFD_MAX_DATA];
    sendfd_message message = {.size = sizeof message,
                              .max_fds = SENDFD_MAX_FDS,
                              .fds = fds,
                              .max_data = SENDFD_MAX_DATA,
                              .data = data};
    struct pollfd ready = {.fd = sendfd_receiver_fd(receiver), .events = POLLIN};

    /* Retired, it still receives what was sent before, to the last, and then -ESHUTDOWN. */
    while (err != -ESHUTDOWN) {
        ppoll(&ready, 1, NULL, &waiting);
        if (ending)
            sendfd_receiver_retire(receiver);
        while ((err = sendfd_receiver_recv(receiver, &message, 0)) == 0) {
            for (unsigned i = 0; i < message.nfds; i++) {
                serve(fds[i]);
                close(fds[i]); /* what arrives is ours */
            }
        }
        if (err != -EAGAIN && err != -ESHUTDOWN)
            fail("cannot receive", err);
    }
    sendfd_receiver_close(receiver);
    return 0;
}
