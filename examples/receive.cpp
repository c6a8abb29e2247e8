// Receives a descriptor and writes to it: the other half of send.cpp.
//
//     receive        prints its pid and signal, and waits
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>

#include <sendfd.hpp>

int main() {
    try {
        libsendfd::Receiver receiver(SIGRTMIN + 1);
        std::cout << "./send " << getpid() << " " << SIGRTMIN + 1 << std::endl;

        libsendfd::Message message = receiver.recv();
        dprintf(message.fds.at(0).get(), "written by process %d for user %d, who said: %s\n",
                getpid(), message.uid, message.data.c_str());
        // The descriptor closes itself.
    } catch (const std::exception &error) {
        std::cerr << "receive: " << error.what() << "\n";
        return 1;
    }
}
