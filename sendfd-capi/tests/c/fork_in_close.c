/* A signal handler that forks may interrupt retiring or closing anywhere. The child goes on there with
 * copies of its parent's sockets, and must not shut down what is its parent's: shutdown(2) reaches
 * through to the sockets themselves. Here the kernel stops each shutdown(2) of the library just before
 * it happens, and the handler forks. */
#include "test.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <ucontext.h>

#if defined(__x86_64__)

/* The third argument of a shutdown(2) that is let through. The kernel does not look at it. */
enum { LET_THROUGH = 0x5EFD };

static pid_t parent;
static sendfd_target *targets[2];
static int fd, armed, alive[2], stops;

static int is_child(void)
{
    return getpid() != parent;
}

/* What still reaches the receiver before the child runs does so after it. */
static void look(void)
{
    for (int i = 0; i < 2; i++)
        if (alive[i])
            alive[i] = sendfd_target_send(targets[i], &fd, 1, NULL) == 0;
}

static void stopped(int sig, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)sig;
    (void)info;
    if (armed && !is_child()) {
        int status, before[2];
        stops++;
        look();
        memcpy(before, alive, sizeof before);
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child > 0) {
            CHECK(waitpid(child, &status, 0) == child);
            EQUAL(0, status);
            look();
            CHECK(memcmp(before, alive, sizeof before) == 0);
        }
    }
    const long result =
        syscall(SYS_shutdown, registers[REG_RDI], registers[REG_RSI], LET_THROUGH);
    registers[REG_RAX] = result < 0 ? -errno : result;
}

static void stop_every_shutdown(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_shutdown, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LET_THROUGH, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    const struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    struct sigaction action = {.sa_sigaction = stopped, .sa_flags = SA_SIGINFO | SA_NODEFER};

    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0);
}

int main(void)
{
    const int sig = sendfd_port(4);
    const uint32_t paths[] = {SENDFD_PATH_PIDFD, SENDFD_PATH_NAME};
    sendfd_receiver *receiver;
    sendfd_message message = roomy_message();

    parent = getpid();
    fd = null_device();
    stop_every_shutdown();
    for (int retires = 0; retires < 2; retires++) {
        EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
        for (int i = 0; i < 2; i++) {
            sendfd_options options = {.size = sizeof options, .paths = paths[i]};
            EQUAL(0, sendfd_target_open(parent, sig, &options, &targets[i]));
            EQUAL(0, sendfd_target_send(targets[i], &fd, 1, NULL));
            EQUAL(0, sendfd_receiver_recv(receiver, &message, -1));
            close(message.fds[0]);
            alive[i] = 1;
        }
        stops = 0;
        armed = 1;
        if (retires) {
            const int result = sendfd_receiver_retire(receiver);
            if (is_child())
                _exit(result == -EBADF ? 0 : 2);
            EQUAL(0, result);
            /* The listener, the inbox, and the connection. */
            EQUAL(3, stops);
        }
        sendfd_receiver_close(receiver);
        if (is_child())
            _exit(0);
        armed = 0;
        CHECK(stops >= 3);
        sendfd_target_close(targets[0]);
        sendfd_target_close(targets[1]);
    }
    return 0;
}

#else

int main(void)
{
    skip("x86_64: how the stopped call is let through is written for it alone");
}

#endif
