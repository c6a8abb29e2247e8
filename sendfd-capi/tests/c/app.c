/* An application as its author would write it: built against what was installed. */
#define _POSIX_C_SOURCE 200809L
#include <sendfd.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    sendfd_receiver *receiver;
    int fd, err = sendfd_receiver_open(SIGRTMIN + 1, NULL, &receiver);
    sendfd_message message = {.size = sizeof message, .max_fds = 1, .fds = &fd};

    if (err == 0)
        err = sendfd(getpid(), SIGRTMIN + 1, STDOUT_FILENO);
    if (err == 0)
        err = sendfd_receiver_recv(receiver, &message, -1);
    if (err < 0) {
        fprintf(stderr, "%s\n", sendfd_strerror(err));
        return 1;
    }
    dprintf(fd, "sendfd %s\n", sendfd_version());
    close(fd);
    sendfd_receiver_close(receiver);
    return 0;
}
