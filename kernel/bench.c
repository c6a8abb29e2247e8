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
#include <sendfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIG (SIGRTMIN + 1)
#define ROUNDS 2000
#define WARM_UP 200

#define SA_EXPECTFD 0x1000

static long nr, pidfd_nr;
static int fd, pair[2], pidfd, sfd;
static sendfd_target *opened;
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

static void send_by_pidfd(void)
{
	check(!syscall(pidfd_nr, pidfd, SIG, fd, 0), "pidfd_sendfd");
}

static void receive_by_signalfd(void)
{
	struct signalfd_siginfo info;

	check(read(sfd, &info, sizeof(info)) == sizeof(info), "signalfd");
	check(!close(info.ssi_int), "close");
}

static void send_by_library(void)
{
	check(!sendfd_target_send(opened, &fd, 1, NULL), "sendfd_target_send");
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

/* What a target needs that another process has become */
static void open_target(void)
{
	if (pidfd)
		close(pidfd);
	pidfd = syscall(SYS_pidfd_open, target, 0);
	check(pidfd >= 0, "pidfd_open");
	sendfd_target_close(opened);
	check(!sendfd_target_open(target, SIG, NULL, &opened), "sendfd_target_open");
	check(sendfd_target_path(opened) == SENDFD_PATH_SYSCALL, "the path of the call");
}

/* Both ends in one process: nothing but the calls */
static void measure_calls(const char *name, void (*send)(void), void (*receive)(void))
{
	unsigned long long start, sending = 0, receiving = 0, middle;

	target = getpid();
	open_target();
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
	open_target();
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

static const struct {
	const char *name;
	void (*send)(void), (*receive)(void);
} ways[] = {
	{ "sendfd", send_by_call, receive_by_call },
	{ "pidfd_sendfd", send_by_pidfd, receive_by_signalfd },
	{ "library", send_by_library, receive_by_call },
	{ "scm_rights", send_by_socket, receive_by_socket },
};

static long read_number(const char *path)
{
	FILE *file = fopen(path, "r");
	long number = -1;

	check(file && fscanf(file, "%ld", &number) == 1, path);
	fclose(file);
	return number;
}

int main(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL, .sa_flags = SA_EXPECTFD };
	unsigned long long start;

	nr = read_number("/proc/sys/kernel/sendfd_nr");
	pidfd_nr = read_number("/proc/sys/kernel/pidfd_sendfd_nr");
	check(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
	fd = memfd_create("passenger", MFD_CLOEXEC);
	check(fd >= 0, "memfd_create");
	result = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(result != MAP_FAILED, "mmap");
	sigemptyset(&set);
	sigaddset(&set, SIG);
	sigprocmask(SIG_BLOCK, &set, NULL);
	/* The children inherit it. */
	check(!sigaction(SIG, &action, NULL), "sigaction");
	sfd = signalfd(-1, &set, SFD_CLOEXEC);
	check(sfd >= 0, "signalfd");

	/* What is measured here must be what is measured: a million additions */
	start = instructions();
	for (int i = 0; i < 1000000; i++)
		__asm__ volatile("nop");
	printf("loop of a million: %llu\n", instructions() - start);

	start = instructions();
	for (int i = 0; i < ROUNDS; i++)
		syscall(SYS_getppid);
	printf("getppid %llu\n", (instructions() - start) / ROUNDS);

	for (unsigned int i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		measure_calls(ways[i].name, ways[i].send, ways[i].receive);
	for (unsigned int i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		measure_wakeup(ways[i].name, ways[i].send, ways[i].receive);
	return 0;
}
