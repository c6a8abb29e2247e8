// Hands its standard output to another process: the other half of receive.cpp.
//
//     send PID SIG
#include <cstdlib>
#include <exception>
#include <iostream>

#include <sendfd.hpp>

int main(int argc, char **argv) {
    if (argc != 3) {
        std::cerr << "usage: send PID SIG\n";
        return 2;
    }
    try {
        libsendfd::Options options;
        options.data = "take my standard output";
        options.timeout = std::chrono::seconds(5); // for a receiver that is still starting
        libsendfd::send(std::atoi(argv[1]), std::atoi(argv[2]), STDOUT_FILENO, options);
    } catch (const std::exception &error) {
        std::cerr << "send: " << error.what() << "\n";
        return 1;
    }
}
