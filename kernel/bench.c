// SPDX-License-Identifier: GPL-2.0-only
/*
 * How many instructions does it take to hand a descriptor over? Run where the
 * time-stamp counter counts them: qemu -accel tcg -icount shift=0, one processor.
 *
 * Two processes take turns. What is counted is a hand-off as a whole: the
 * sender's call, the switches between the two, and what the receiver does until
 * it has the descriptor and has closed it. The same switches without anything
 * handed over are counted too, so that they can be subtracted.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIG (SIGRTMIN + 1)
#define ROUNDS 2000
#define WARM_UP 200

static long nr;
static int fd, pair[2];
static pid_t target;
static sigset_t set;
static unsigned long long *result;

static unsigned long long instructions(void)
{
	unsigned int low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
	return (unsigned long long)high << 32 | low;
}

static void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static void send_by_call(void)
{
	check(!syscall(nr, target, SIG, fd), "sendfd");
}

static void receive_by_call(void)
{
	siginfo_t info;

	check(sigtimedwait(&set, &info, NULL) == SIG, "sigtimedwait");
	check(!close(info.si_value.sival_int), "close");
}

static void send_by_socket(void)
{
	char control[CMSG_SPACE(sizeof(int))] = "", byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	check(sendmsg(pair[0], &message, 0) == 1, "sendmsg");
}

static void receive_by_socket(void)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control),
	};
	int got;

	check(recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC) == 1, "recvmsg");
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(got));
	check(!close(got), "close");
}

/* Both ends in one process: nothing but the calls */
static void measure_calls(const char *name, void (*send)(void), void (*receive)(void))
{
	unsigned long long start, sending = 0, receiving = 0, middle;

	target = getpid();
	for (int i = 0; i < WARM_UP + ROUNDS; i++) {
		start = instructions();
		send();
		middle = instructions();
		receive();
		if (i >= WARM_UP) {
			sending += middle - start;
			receiving += instructions() - middle;
		}
	}
	printf("calls %s send %llu receive+close %llu sum %llu\n", name, sending / ROUNDS, receiving / ROUNDS,
	       (sending + receiving) / ROUNDS);
}

/*
 * A receiver that waits in another process. When it has closed the descriptor
 * it waits for the next one; the sender, who has the processor again only then
 * (it yields, and there is only one), counts from its call to there.
 */
static void measure_wakeup(const char *name, void (*send)(void), void (*receive)(void))
{
	unsigned long long start, sum = 0;
	int status;

	*result = 0;
	target = fork();
	check(target >= 0, "fork");
	if (!target) {
		for (unsigned long i = 0; i < WARM_UP + ROUNDS; i++) {
			receive();
			__atomic_store_n(result, i + 1, __ATOMIC_SEQ_CST);
		}
		_exit(0);
	}
	for (int i = 0; i < 10; i++)
		sched_yield();
	for (unsigned long i = 0; i < WARM_UP + ROUNDS; i++) {
		start = instructions();
		send();
		while (__atomic_load_n(result, __ATOMIC_SEQ_CST) != i + 1)
			sched_yield();
		if (i >= WARM_UP)
			sum += instructions() - start;
		/* until it waits again */
		sched_yield();
		sched_yield();
	}
	check(waitpid(target, &status, 0) == target && !status, "receiver");
	printf("wakeup %s %llu\n", name, sum / ROUNDS);
}

int main(void)
{
	FILE *file = fopen("/proc/sys/kernel/sendfd_nr", "r");
	unsigned long long start;

	check(file && fscanf(file, "%ld", &nr) == 1, "sendfd_nr");
	fclose(file);
	check(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
	fd = memfd_create("passenger", MFD_CLOEXEC);
	check(fd >= 0, "memfd_create");
	result = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(result != MAP_FAILED, "mmap");
	sigemptyset(&set);
	sigaddset(&set, SIG);
	sigprocmask(SIG_BLOCK, &set, NULL);

	/* What is measured here must be what is measured: a million additions */
	start = instructions();
	for (int i = 0; i < 1000000; i++)
		__asm__ volatile("nop");
	printf("loop of a million: %llu\n", instructions() - start);

	start = instructions();
	for (int i = 0; i < ROUNDS; i++)
		syscall(SYS_getppid);
	printf("getppid %llu\n", (instructions() - start) / ROUNDS);

	measure_calls("sendfd", send_by_call, receive_by_call);
	measure_calls("scm_rights", send_by_socket, receive_by_socket);
	measure_wakeup("sendfd", send_by_call, receive_by_call);
	measure_wakeup("scm_rights", send_by_socket, receive_by_socket);
	return 0;
}
