/* One program hands descriptors to another, over each path. */
#include "test.h"

enum { SIGNAL_OFFSET = 2, PATIENCE_MS = 10000 };

/* two_processes receive PATH: takes one message and answers on the pipe that is in it. */
static int receive(uint32_t path)
{
    sendfd_receiver *receiver;
    sendfd_message message = roomy_message();

    EQUAL(0, sendfd_receiver_open(SIGRTMIN + SIGNAL_OFFSET, NULL, &receiver));
    const int before = open_descriptors();
    EQUAL(0, sendfd_receiver_recv(receiver, &message, PATIENCE_MS));

    EQUAL(path, message.path);
    EQUAL(getppid(), message.pid);
    EQUAL(getuid(), message.uid);
    EQUAL(getgid(), message.gid);
    EQUAL(0x123456789abcdef0, message.tag);
    EQUAL(5, message.data_len);
    CHECK(memcmp(message.data, "hello", 5) == 0);

    EQUAL(2, message.nfds);
    for (int i = 0; i < 2; i++)
        EQUAL(FD_CLOEXEC, fcntl(message.fds[i], F_GETFD));
    CHECK(write(message.fds[0], "thanks", 6) == 6);
    close(message.fds[0]);
    close(message.fds[1]);
    /* One more for a sender that holds a connection. */
    EQUAL(before + (path == SENDFD_PATH_NAME), open_descriptors());
    sendfd_receiver_close(receiver);
    return 0;
}

static void hand_over(const char *program, uint32_t path)
{
    char number[16], answer[16];
    int pipe_fds[2], status;
    sendfd_target *target;

    CHECK(pipe2(pipe_fds, O_CLOEXEC) == 0);
    snprintf(number, sizeof number, "%u", path);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl(program, program, "receive", number, (char *)NULL);
        _exit(127);
    }

    const int before = open_descriptors();
    sendfd_options options = {.size = sizeof options, .paths = path, .timeout_ms = PATIENCE_MS};
    EQUAL(0, sendfd_target_open(pid, SIGRTMIN + SIGNAL_OFFSET, &options, &target));
    EQUAL(path, sendfd_target_path(target));
    options.tag = 0x123456789abcdef0;
    options.data = "hello";
    options.data_len = 5;
    const int fds[2] = {pipe_fds[1], pipe_fds[0]};
    EQUAL(0, sendfd_target_send(target, fds, 2, &options));
    close(pipe_fds[1]);
    /* The other end has been closed everywhere once this reads the end of file. */
    CHECK(read(pipe_fds[0], answer, sizeof answer) == 6);
    CHECK(memcmp(answer, "thanks", 6) == 0);
    CHECK(read(pipe_fds[0], answer, sizeof answer) == 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    EQUAL(0, status);

    EQUAL(-ESRCH, sendfd_target_send(target, &pipe_fds[0], 1, NULL));
    sendfd_target_close(target);
    EQUAL(before - 1, open_descriptors());
    close(pipe_fds[0]);
}

int main(int argc, char **argv)
{
    sendfd_report report = {.size = sizeof report};
    sendfd_receiver *receiver;

    if (argc == 3 && strcmp(argv[1], "receive") == 0)
        return receive((uint32_t)atoi(argv[2]));

    EQUAL(0, sendfd_receiver_open(SIGRTMIN + SIGNAL_OFFSET, NULL, &receiver));
    EQUAL(0, sendfd_probe(getpid(), SIGRTMIN + SIGNAL_OFFSET, &report));
    sendfd_receiver_close(receiver);
    for (int i = 0; i < 3; i++) {
        /* Each path either works or says why it does not. */
        EQUAL(1 << i, report.paths[i].path);
        EQUAL(!!(report.working & report.paths[i].path), report.paths[i].error == 0);
        EQUAL(report.paths[i].error == 0, report.paths[i].reason[0] == '\0');
        CHECK(memchr(report.paths[i].reason, 0, SENDFD_REASON_SIZE));
    }
    EQUAL(report.working & -report.working, report.chosen);

    CHECK(report.working & SENDFD_PATH_NAME);
    hand_over(argv[0], SENDFD_PATH_NAME);
    if (!(report.working & SENDFD_PATH_PIDFD)) {
        char reason[300];
        snprintf(reason, sizeof reason, "pidfd: %s", report.paths[1].reason);
        skip(reason);
    }
    hand_over(argv[0], SENDFD_PATH_PIDFD);
    return 0;
}
