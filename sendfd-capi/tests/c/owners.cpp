// The C++ header: owners close, moves leave nothing behind, errors are exceptions with the errno.
#include "test.h"

#include <type_traits>

#include <sendfd.hpp>

using namespace libsendfd;
using namespace std::chrono_literals;

template <typename T>
constexpr bool move_only = std::is_move_constructible_v<T> && std::is_move_assignable_v<T> &&
                           !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>;
static_assert(move_only<Descriptor> && move_only<Target> && move_only<Receiver> &&
              move_only<Message>);

template <typename F>
static void throws(int expected, F call) {
    const int before = open_descriptors();
    try {
        call();
    } catch (const std::system_error &error) {
        EQUAL(expected, error.code().value());
        CHECK(error.code().category() == std::generic_category());
        CHECK(std::string(error.what()).find(sendfd_strerror(expected)) == 0);
        EQUAL(before, open_descriptors());
        return;
    }
    CHECK(!"it throws");
}

static void descriptors() {
    const int before = open_descriptors();
    {
        Descriptor a(null_device()), b(null_device());
        a = std::move(b);
        CHECK(a && !b);
        EQUAL(before + 1, open_descriptors());
        Descriptor c(std::move(a));
        Descriptor &same = c;
        c = std::move(same);
        CHECK(c && !a);
        ::close(c.release());
        EQUAL(-1, c.get());
        c.reset(null_device());
        c.reset(null_device());
        EQUAL(before + 1, open_descriptors());
    }
    EQUAL(before, open_descriptors());
}

int main() {
    const int before = open_descriptors(), sig = SIGRTMIN + 6;
    const pid_t own = getpid();
    descriptors();
    {
        throws(EINVAL, [] { Receiver receiver(SIGTERM); });
        throws(ECONNREFUSED, [&] { Target target(own, sig); });
        throws(ETIMEDOUT, [&] {
            Options options;
            options.timeout = 1ms;
            Target target(own, sig, options);
        });

        Receiver opened(sig, {12345}, 100000);
        Receiver receiver(std::move(opened));
        throws(EADDRINUSE, [&] { Receiver again(sig); });
        CHECK(!receiver.try_recv());
        throws(ETIMEDOUT, [&] { receiver.recv(1ms); });
        throws(EINVAL, [&] { receiver.recv(-2ms); });
        throws(EINVAL, [&] { receiver.recv(milliseconds::min()); });

        Descriptor file(null_device());
        Options options;
        options.tag = 42;
        options.data = "hello";
        options.timeout = milliseconds::max();
        Target first(own, sig);
        Target target(std::move(first));
        CHECK(target.path() == SENDFD_PATH_PIDFD || target.path() == SENDFD_PATH_NAME ||
              target.path() == SENDFD_PATH_SYSCALL);
        throws(EBADF, [&] { target.send(-1); });
        throws(EINVAL, [&] { target.send(std::vector<int>{}); });
        throws(EMSGSIZE, [&] {
            const std::string long_data(SENDFD_MAX_DATA + 1, 'x');
            Options too_long;
            too_long.data = long_data;
            target.send(file.get(), too_long);
        });

        EQUAL(SIGRTMAX, port(0));
        throws(EINVAL, [] { port(30); });
        EQUAL(SENDFD_KIND_CHARACTER_DEVICE, detect(file.get()).kind);
        throws(EBADF, [] { detect(-1); });
        CHECK(probe(own, sig).working & target.path());
        CHECK(!receiver.try_recv()); // notices that the probe's connection has ended
        if (target.path() != SENDFD_PATH_SYSCALL)
            EQUAL(0, target.queued());

        // The first may open a connection on both sides.
        target.send(file.get());
        receiver.recv();
        const int here = open_descriptors();
        {
            target.send(std::vector<int>{file.get(), file.get()}, options);
            CHECK(readable(receiver.fd()));
            Message message = receiver.recv();
            EQUAL(2, message.fds.size());
            CHECK(same_file(file.get(), message.fds[1].get()));
            CHECK(message.data == "hello" && message.tag == 42);
            CHECK(message.pid == own && message.uid == getuid() && message.gid == getgid());
            EQUAL(target.path(), message.path);
            EQUAL(here + 2, open_descriptors());
            Descriptor taken = std::move(message.fds[0]);
            message = Message();
            EQUAL(here + 1, open_descriptors());
        }
        EQUAL(here, open_descriptors());

        target.send(file.get());
        CHECK(receiver.try_recv()->fds.size() == 1);
        EQUAL(here, open_descriptors());

        // The one-call forms keep a target in the process's cache, which leads there by the same socket.
        send(own, sig, file.get());
        send(own, sig, std::vector<int>{file.get()}, options);
        CHECK(receiver.recv(0ms).data.empty());
        CHECK(receiver.recv(no_limit).data == "hello");
        EQUAL(here, open_descriptors());
    }
    EQUAL(before + 1, open_descriptors());
}
