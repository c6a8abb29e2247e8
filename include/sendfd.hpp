/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * libsendfd for C++17: sendfd.h with owners. What a function does, and each of its errors, is told
 * there; here an error is a std::system_error of std::generic_category(), whose code().value() is
 * the errno.
 *
 * The namespace is not called sendfd, for that is the name of a function.
 */
#ifndef SENDFD_HPP
#define SENDFD_HPP

#include <chrono>
#include <climits>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <cerrno>
#include <unistd.h>

#include "sendfd.h"

namespace libsendfd {

using std::chrono::milliseconds;

/* A timeout that never runs out. */
inline constexpr milliseconds no_limit{-1};

/* Not for callers. */
namespace detail {

/* What a function of sendfd.h returned; throws if that is an error. */
inline int check(int result) {
    if (result < 0)
        throw std::system_error(-result, std::generic_category(), sendfd_strerror(result));
    return result;
}

inline std::int32_t count(milliseconds timeout) {
    if (timeout.count() > INT_MAX)
        return INT_MAX;
    return timeout.count() < INT_MIN ? INT_MIN : static_cast<std::int32_t>(timeout.count());
}

} // namespace detail

/* Owns a descriptor and closes it. Move-only. */
class Descriptor {
  public:
    Descriptor() noexcept = default;
    explicit Descriptor(int fd) noexcept : fd_(fd) {}
    Descriptor(Descriptor &&other) noexcept : fd_(other.release()) {}
    Descriptor &operator=(Descriptor &&other) noexcept {
        if (this != &other)
            reset(other.release());
        return *this;
    }
    ~Descriptor() { reset(); }

    /* The number, or -1. It stays owned. */
    int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }

    /* Gives the number away: the caller closes it. */
    int release() noexcept { return std::exchange(fd_, -1); }

    /* Closes what it owns and owns fd instead. */
    void reset(int fd = -1) noexcept {
        const int old = std::exchange(fd_, fd);
        if (old >= 0)
            ::close(old);
    }

  private:
    int fd_ = -1;
};

/* The real-time signal of port n, which every libc counts alike: see sendfd_port. */
inline int port(int n) { return detail::check(sendfd_port(n)); }

/* What a descriptor refers to: see sendfd_detect. */
inline sendfd_kind detect(int fd) {
    sendfd_kind kind = SENDFD_KIND_INIT;
    detail::check(sendfd_detect(fd, &kind));
    return kind;
}

/* Which paths lead to a process, and why others do not: see sendfd_probe. */
inline sendfd_report probe(pid_t pid, int sig) {
    sendfd_report report = SENDFD_REPORT_INIT;
    detail::check(sendfd_probe(pid, sig, &report));
    return report;
}

/* What goes with the descriptors, and how they are sent: see sendfd_options. */
struct Options {
    std::uint32_t paths = 0;
    milliseconds timeout{0};
    std::uint64_t tag = 0;
    std::string_view data{};
    std::uint32_t flags = 0;

    /* For sendfd.h. It refers to data, and is valid as long as that. */
    sendfd_options c() const {
        if (data.size() > SENDFD_MAX_DATA)
            detail::check(-EMSGSIZE);
        sendfd_options options = SENDFD_OPTIONS_INIT;
        options.paths = paths;
        options.timeout_ms = detail::count(timeout);
        options.data_len = static_cast<std::uint32_t>(data.size());
        options.data = data.data();
        options.tag = tag;
        options.flags = flags;
        return options;
    }
};

/* Sends a duplicate of one descriptor, which is only borrowed: see sendfd_send. */
inline void send(pid_t pid, int sig, int fd, const Options &options = {}) {
    const sendfd_options c = options.c();
    detail::check(sendfd_send(pid, sig, &fd, 1, &c));
}

/* Sends duplicates of several descriptors in one message. */
inline void send(pid_t pid, int sig, const std::vector<int> &fds, const Options &options = {}) {
    const sendfd_options c = options.c();
    detail::check(sendfd_send(pid, sig, fds.data(), fds.size(), &c));
}

/* A process opened for sending, again and again: see sendfd_target_open. Move-only. */
class Target {
  public:
    Target(pid_t pid, int sig, const Options &options = {}) {
        const sendfd_options c = options.c();
        sendfd_target *target = nullptr;
        detail::check(sendfd_target_open(pid, sig, &c, &target));
        target_.reset(target);
    }

    void send(int fd, const Options &options = {}) {
        const sendfd_options c = options.c();
        detail::check(sendfd_target_send(target_.get(), &fd, 1, &c));
    }

    void send(const std::vector<int> &fds, const Options &options = {}) {
        const sendfd_options c = options.c();
        detail::check(sendfd_target_send(target_.get(), fds.data(), fds.size(), &c));
    }

    /* SENDFD_PATH_* */
    int path() const { return detail::check(sendfd_target_path(target_.get())); }

    /* How many bytes wait in its queue. */
    int queued() const { return detail::check(sendfd_target_queued(target_.get())); }

  private:
    struct Close {
        void operator()(sendfd_target *target) const noexcept { sendfd_target_close(target); }
    };
    std::unique_ptr<sendfd_target, Close> target_;
};

/* A message and its descriptors, which are closed with it unless they are moved out. Move-only. */
struct Message {
    std::vector<Descriptor> fds;
    std::string data;
    std::uint64_t tag = 0;
    std::uint32_t path = 0; /* SENDFD_PATH_*: how it came */
    pid_t pid = 0;          /* who sent it, vouched for by the kernel; no address to answer to */
    uid_t uid = 0;
    gid_t gid = 0;

    Message() = default;
    Message(Message &&) = default;
    Message &operator=(Message &&) = default;
};

/* Receives what is sent to this process at one signal: see sendfd_receiver_open. Move-only. */
class Receiver {
  public:
    /* uids: users that are accepted beside this process's own and root. */
    explicit Receiver(int sig, const std::vector<uid_t> &uids = {}, std::uint32_t queue_bytes = 0) {
        sendfd_receiver_options options = SENDFD_RECEIVER_OPTIONS_INIT;
        options.queue_bytes = queue_bytes;
        options.nuids = static_cast<std::uint32_t>(uids.size());
        options.uids = uids.data();
        sendfd_receiver *receiver = nullptr;
        detail::check(sendfd_receiver_open(sig, &options, &receiver));
        receiver_.reset(receiver);
    }

    /* To be polled for POLLIN. Borrowed. */
    int fd() const { return detail::check(sendfd_receiver_fd(receiver_.get())); }

    /* Waits for a message. */
    Message recv(milliseconds timeout = no_limit) {
        Message message;
        detail::check(receive(message, timeout));
        return message;
    }

    /* A message if one is there. */
    std::optional<Message> try_recv() {
        Message message;
        const int result = receive(message, milliseconds{0});
        if (result == -EAGAIN)
            return std::nullopt;
        detail::check(result);
        return message;
    }

    /* Stops accepting. What was sent before is still received; then recv throws ESHUTDOWN. */
    void retire() { detail::check(sendfd_receiver_retire(receiver_.get())); }

    /* Gives up the message that did not fit (EMFILE). Returns whether there was one. */
    bool discard() { return detail::check(sendfd_receiver_discard(receiver_.get())) != 0; }

  private:
    static constexpr std::uint32_t usual_data = 4096;

    int receive(Message &message, milliseconds timeout) {
        int fds[SENDFD_MAX_FDS];
        int result;
        sendfd_message c = SENDFD_MESSAGE_INIT;
        c.max_fds = SENDFD_MAX_FDS;
        c.fds = fds;
        /* Now, so that no exception can leak descriptors that have arrived. */
        message.fds.reserve(SENDFD_MAX_FDS);
        c.data_len = usual_data;
        do {
            /* 4096 bytes, or after EMSGSIZE as many as the message needs that stayed. */
            message.data.resize(c.data_len);
            c.max_data = c.data_len;
            c.data = &message.data[0];
            result = sendfd_receiver_recv(receiver_.get(), &c, detail::count(timeout));
        } while (result == -EMSGSIZE);
        if (result < 0)
            return result;
        for (std::uint32_t i = 0; i < c.nfds; i++)
            message.fds.emplace_back(fds[i]);
        message.data.resize(c.data_len);
        message.tag = c.tag;
        message.path = c.path;
        message.pid = c.pid;
        message.uid = c.uid;
        message.gid = c.gid;
        return 0;
    }

    struct Close {
        void operator()(sendfd_receiver *receiver) const noexcept {
            sendfd_receiver_close(receiver);
        }
    };
    std::unique_ptr<sendfd_receiver, Close> receiver_;
};

} // namespace libsendfd

#endif
