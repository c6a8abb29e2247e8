// An application as its author would write it: built against what was installed.
#include <csignal>
#include <cstdio>
#include <iostream>
#include <sendfd.hpp>

int main() {
    try {
        libsendfd::Receiver receiver(SIGRTMIN + 1);
        libsendfd::send(getpid(), SIGRTMIN + 1, STDOUT_FILENO);
        libsendfd::Message message = receiver.recv();
        dprintf(message.fds.at(0).get(), "sendfd %s\n", sendfd_version());
    } catch (const std::system_error &error) {
        std::cerr << error.what() << "\n";
        return 1;
    }
}
