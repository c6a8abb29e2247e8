/* Signal mode: the signal is raised and its value is a descriptor of this process.
 *
 *     listen handler | sigwaitinfo | signalfd */
#include "test.h"

#include <sys/signalfd.h>

enum { SENT = 20 };

static volatile siginfo_t seen[SENT];
static volatile sig_atomic_t count;

static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    if (count < SENT)
        seen[count++] = *info;
}

static void note(pid_t pid, uid_t uid, int code, int value)
{
    siginfo_t info = {.si_code = code};
    info.si_pid = pid;
    info.si_uid = uid;
    info.si_value.sival_int = value;
    seen[count++] = info;
}

int main(int argc, char **argv)
{
    const int sig = SIGRTMIN + 4;
    const char *mode = argc == 2 ? argv[1] : "";
    sigset_t blocked, before_mask;
    int signals = -1, status;

    sigemptyset(&blocked);
    sigaddset(&blocked, sig);
    sigprocmask(SIG_BLOCK, &blocked, &before_mask);
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    if (strcmp(mode, "handler") == 0)
        CHECK(sigaction(sig, &action, NULL) == 0);
    else if (strcmp(mode, "signalfd") == 0)
        CHECK((signals = signalfd(-1, &blocked, SFD_CLOEXEC)) >= 0);
    else
        CHECK(strcmp(mode, "sigwaitinfo") == 0);

    const int before = open_descriptors();
    EQUAL(0, sendfd_listen(sig));
    EQUAL(-EADDRINUSE, sendfd_listen(sig));

    int files[SENT];
    for (int i = 0; i < SENT; i++) {
        char name[] = "/tmp/sendfd-listen-XXXXXX";
        CHECK((files[i] = mkostemp(name, O_CLOEXEC)) >= 0);
        unlink(name);
    }
    const pid_t sender = fork();
    if (sender == 0) {
        for (int i = 0; i < SENT; i++)
            EQUAL(0, sendfd(getppid(), sig, files[i]));
        _exit(0);
    }
    CHECK(waitpid(sender, &status, 0) == sender);
    EQUAL(0, status);

    /* The sender is gone. Each signal comes, in order. */
    while (count < SENT) {
        if (signals >= 0) {
            struct signalfd_siginfo info;
            CHECK(read(signals, &info, sizeof info) == sizeof info);
            note((pid_t)info.ssi_pid, info.ssi_uid, info.ssi_code, info.ssi_int);
        } else if (strcmp(mode, "sigwaitinfo") == 0) {
            siginfo_t info;
            CHECK(sigwaitinfo(&blocked, &info) == sig);
            note(info.si_pid, info.si_uid, info.si_code, info.si_value.sival_int);
        } else {
            sigsuspend(&before_mask);
        }
    }
    for (int i = 0; i < SENT; i++) {
        const int fd = seen[i].si_value.sival_int;
        CHECK(seen[i].si_code == SI_QUEUE || seen[i].si_code == SENDFD_SI_SENDFD);
        EQUAL(sender, seen[i].si_pid);
        EQUAL(getuid(), seen[i].si_uid);
        CHECK(same_file(files[i], fd));
        EQUAL(FD_CLOEXEC, fcntl(fd, F_GETFD));
        close(fd);
        close(files[i]);
    }
    EQUAL(0, sendfd_unlisten(sig));
    EQUAL(-EINVAL, sendfd_unlisten(sig));
    EQUAL(before, open_descriptors());
    EQUAL(-ECONNREFUSED, sendfd(getpid(), sig, 0));
    return 0;
}
