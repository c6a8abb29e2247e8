/* The peer in C++: see tests/PEER.md. */
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <csignal>
#include <cstdlib>

#include <unistd.h>

#include <sendfd.hpp>

namespace {

using Words = std::map<std::string, std::string>;

struct Peer {
    std::map<int, libsendfd::Receiver> receivers;
    std::optional<libsendfd::Target> target;
    std::vector<libsendfd::Descriptor> kept;
};

const char *path_name(unsigned path) {
    return path == SENDFD_PATH_SYSCALL ? "syscall" : path == SENDFD_PATH_PIDFD ? "pidfd" : "name";
}

long long number(const Words &words, const std::string &name, long long otherwise = 0) {
    const auto at = words.find(name);
    return at == words.end() ? otherwise : static_cast<long long>(std::stoull(at->second));
}

std::vector<std::string> list(const Words &words, const std::string &name) {
    std::vector<std::string> all;
    const auto at = words.find(name);
    std::istringstream text(at == words.end() ? "" : at->second);
    for (std::string item; std::getline(text, item, ',');)
        all.push_back(item);
    return all;
}

libsendfd::Options options(const Words &words) {
    libsendfd::Options options;
    for (const std::string &path : list(words, "paths"))
        options.paths |= path == "syscall" ? SENDFD_PATH_SYSCALL
                         : path == "pidfd" ? SENDFD_PATH_PIDFD
                                           : SENDFD_PATH_NAME;
    options.timeout = libsendfd::milliseconds(number(words, "ms"));
    options.tag = static_cast<std::uint64_t>(number(words, "tag"));
    if (const auto data = words.find("data"); data != words.end())
        options.data = data->second;
    return options;
}

sigset_t set_of(int sig) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    return set;
}

std::string take(Peer &peer, const Words &words, int sig) {
    const long long ms = number(words, "ms");
    const timespec wait{static_cast<time_t>(ms / 1000), static_cast<long>(ms % 1000 * 1000000)};
    const sigset_t set = set_of(sig);
    siginfo_t info{};
    if (sigtimedwait(&set, &info, &wait) < 0)
        throw std::system_error(errno, std::generic_category());
    if (info.si_code != SI_QUEUE && info.si_code != SENDFD_SI_SENDFD)
        throw std::system_error(EPROTO, std::generic_category());
    std::ostringstream answer;
    answer << "pid=" << info.si_pid << " uid=" << info.si_uid << " at=" << info.si_value.sival_int;
    peer.kept.emplace_back(info.si_value.sival_int);
    return answer.str();
}

std::string receive(Peer &peer, const Words &words, int sig) {
    auto message = peer.receivers.at(sig).recv(libsendfd::milliseconds(number(words, "ms")));
    std::ostringstream answer;
    answer << "pid=" << message.pid << " uid=" << message.uid << " gid=" << message.gid
           << " tag=" << message.tag << " path=" << path_name(message.path) << " at=";
    const char *separator = "";
    for (auto &fd : message.fds) {
        answer << separator << fd.get();
        separator = ",";
        peer.kept.push_back(std::move(fd));
    }
    answer << " data=" << message.data;
    return answer.str();
}

/* Both of the ways to name what is sent: one number, and a list of them. */
void send(Peer &peer, const Words &words, bool over_target) {
    std::vector<int> fds;
    for (const std::string &fd : list(words, "fds"))
        fds.push_back(std::stoi(fd));
    const auto pid = static_cast<pid_t>(number(words, "pid"));
    const int sig = static_cast<int>(number(words, "sig"));
    auto with = options(words);
    for (long long times = number(words, "times", 1); times > 0; times--, with.tag++) {
        if (over_target && fds.size() == 1)
            peer.target.value().send(fds[0], with);
        else if (over_target)
            peer.target.value().send(fds, with);
        else if (fds.size() == 1)
            libsendfd::send(pid, sig, fds[0], with);
        else
            libsendfd::send(pid, sig, fds, with);
    }
}

// Until the child runs, it holds what it inherited: its end of the pipe tells.
void fork_child(const Words &words) {
    int ends[2];
    if (pipe(ends))
        throw std::system_error(errno, std::generic_category());
    std::signal(SIGCHLD, SIG_IGN);
    const pid_t child = fork();
    close(ends[1]);
    if (child == 0) {
        usleep(static_cast<useconds_t>(number(words, "ms")) * 1000);
        _exit(0);
    }
    char none;
    const ssize_t ended = child < 0 ? -1 : read(ends[0], &none, 1);
    close(ends[0]);
    if (ended < 0)
        throw std::system_error(EIO, std::generic_category());
}

std::string act(Peer &peer, const std::string &verb, const Words &words, char **argv) {
    const int sig = static_cast<int>(number(words, "sig"));
    if (verb == "self")
        return "language=cpp signals=yes";
    if (verb == "open") {
        peer.receivers.emplace(sig, libsendfd::Receiver(sig));
    } else if (verb == "recv") {
        return receive(peer, words, sig);
    } else if (verb == "close") {
        peer.receivers.erase(sig);
    } else if (verb == "retire") {
        peer.receivers.at(sig).retire();
    } else if (verb == "fork") {
        fork_child(words);
    } else if (verb == "exec") {
        std::cout << "ok" << std::endl;
        execv("/proc/self/exe", argv);
        std::abort();
    } else if (verb == "listen") {
        const sigset_t set = set_of(sig);
        sigprocmask(SIG_BLOCK, &set, nullptr);
        libsendfd::detail::check(sendfd_listen(sig));
    } else if (verb == "take") {
        return take(peer, words, sig);
    } else if (verb == "unlisten") {
        libsendfd::detail::check(sendfd_unlisten(sig));
    } else if (verb == "forget") {
        peer.kept.clear();
    } else if (verb == "send" || verb == "tsend") {
        send(peer, words, verb == "tsend");
    } else if (verb == "target") {
        peer.target.emplace(static_cast<pid_t>(number(words, "pid")), sig, options(words));
        return std::string("path=") + path_name(static_cast<unsigned>(peer.target->path()));
    } else if (verb == "untarget") {
        peer.target.reset();
    } else {
        throw std::invalid_argument(verb);
    }
    return "";
}

} // namespace

int main(int, char **argv) {
    Peer peer;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream text(line);
        std::string verb;
        Words words;
        text >> verb;
        for (std::string word; text >> word;) {
            const auto equals = word.find('=');
            words[word.substr(0, equals)] = word.substr(equals + 1);
        }
        try {
            const std::string answer = act(peer, verb, words, argv);
            std::cout << "ok " << answer << std::endl;
        } catch (const std::system_error &error) {
            std::cout << "error " << error.code().value() << ' ' << error.what() << std::endl;
        }
    }
}
