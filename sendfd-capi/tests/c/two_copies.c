/* Two copies of the library in one process, as where a plugin brings its own: each finds that the other listens, also
 * where somebody else has the address, and they send to each other. The argument is the library to be copied. */
#include "test.h"

#include <dlfcn.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static int (*other_open)(int, const sendfd_receiver_options *, sendfd_receiver **);
static void (*other_close)(sendfd_receiver *);
static int (*other_send)(pid_t, int, int);

/* A pointer to a function cannot be made of one to an object, but for what dlsym(3) gives. */
static void find(void *library, const char *name, void *place)
{
    void *const found = dlsym(library, name);
    CHECK(found != NULL);
    memcpy(place, &found, sizeof found);
}

/* Under another name and with another inode, so that it is not taken for the one there is. */
static void load_copy_of(const char *path)
{
    char copy[] = "/tmp/sendfd-copy-XXXXXX", bytes[65536];
    ssize_t length;
    const int from = open(path, O_RDONLY), to = mkstemp(copy);
    CHECK(from >= 0 && to >= 0);
    while ((length = read(from, bytes, sizeof bytes)) > 0)
        CHECK(write(to, bytes, (size_t)length) == length);
    close(from);
    close(to);
    void *const library = dlopen(copy, RTLD_NOW | RTLD_LOCAL);
    unlink(copy);
    if (library == NULL)
        skip("dlopen: the library cannot be loaded from /tmp");
    find(library, "sendfd_receiver_open", &other_open);
    find(library, "sendfd_receiver_close", &other_close);
    find(library, "sendfd", &other_send);
    CHECK(other_open != sendfd_receiver_open);
}

/* A child that sits on this process's address at a signal. */
static pid_t sit_on_the_address(int sig)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat namespace;
    int ready[2];
    char byte;
    CHECK(stat("/proc/self/ns/pid", &namespace) == 0 && pipe(ready) == 0);
    const int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "sendfd/1/%lu/%d/%d",
                                (unsigned long)namespace.st_ino, (int)getpid(), sig);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const int sitting = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        const socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
        CHECK(bind(sitting, (struct sockaddr *)&address, size) == 0 && listen(sitting, 1) == 0);
        CHECK(write(ready[1], "!", 1) == 1);
        alarm(120);
        for (;;)
            pause();
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

int main(int argc, char **argv)
{
    const int sig = SIGRTMIN, fd = open("/dev/null", O_RDONLY);
    sendfd_receiver *own, *others, *none;
    CHECK(argc == 2 && fd >= 0);
    load_copy_of(argv[1]);

    EQUAL(0, sendfd_receiver_open(sig, NULL, &own));
    EQUAL(-EADDRINUSE, other_open(sig, NULL, &none));
    EQUAL(0, other_open(sig + 1, NULL, &others));
    EQUAL(-EADDRINUSE, sendfd_receiver_open(sig + 1, NULL, &none));
    EQUAL(0, other_send(getpid(), sig, fd));
    EQUAL(0, sendfd(getpid(), sig + 1, fd));
    const int came = sendfd_receiver_recv_fd(own, 60000, NULL);
    CHECK(came >= 0);
    close(came);

    const pid_t squatter = sit_on_the_address(sig + 2);
    EQUAL(0, sendfd_receiver_open(sig + 2, NULL, &none));
    sendfd_receiver *second;
    EQUAL(-EADDRINUSE, other_open(sig + 2, NULL, &second));
    sendfd_receiver_close(none);
    EQUAL(0, other_open(sig + 2, NULL, &second));
    other_close(second);
    CHECK(kill(squatter, SIGKILL) == 0 && waitpid(squatter, NULL, 0) == squatter);

    /* A child has neither. */
    const pid_t child = fork();
    if (child == 0) {
        EQUAL(-EBADF, sendfd_receiver_recv_fd(own, 0, NULL));
        EQUAL(0, sendfd_receiver_open(sig + 1, NULL, &none));
        EQUAL(0, other_open(sig, NULL, &second));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    EQUAL(0, status);
    other_close(others);
    sendfd_receiver_close(own);
    return 0;
}
