/* Sends its standard input: send PID SIG. */
#include <stdio.h>
#include <stdlib.h>

#include <sendfd.h>

int main(int argc, char **argv)
{
    int err = argc == 3 ? sendfd(atoi(argv[1]), atoi(argv[2]), 0) : -22;
    if (err < 0)
        fprintf(stderr, "send: %s\n", sendfd_strerror(err));
    return err < 0;
}
