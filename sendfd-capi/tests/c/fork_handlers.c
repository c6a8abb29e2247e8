/* The handlers of fork(2) cannot be registered: everybody who asks for a receiver is told, not the first
 * alone, until they can be. */
#include "test.h"

static int answer = ENOMEM, asked;

/* pthread_atfork of glibc is linked into the library and calls this. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *handle);

int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *handle)
{
    (void)prepare, (void)parent, (void)child, (void)handle;
    asked++;
    return answer;
}

int main(void)
{
    sendfd_receiver *receiver;
    const int sig = sendfd_port(2), before = open_descriptors();

    const int first = sendfd_receiver_open(sig, NULL, &receiver);
    if (asked == 0)
        skip("glibc, whose registering can be replaced");
    EQUAL(-ENOMEM, first);
    EQUAL(-ENOMEM, sendfd_receiver_open(sig, NULL, &receiver));
    CHECK(receiver == NULL);
    EQUAL(before, open_descriptors());
    answer = 0;
    EQUAL(0, sendfd_receiver_open(sig, NULL, &receiver));
    sendfd_receiver_close(receiver);
    return 0;
}
