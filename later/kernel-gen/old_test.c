// SPDX-License-Identifier: GPL-2.0-only
/* Tests of sendfd(2). They have to be run as root, for there are several users. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/kcmp.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"

#define KERNEL_SIGRTMIN	32	/* libc keeps the first two or three for itself */
#define SIG		(SIGRTMIN + 1)
#define OTHER_UID	65534

static long nr;

static int sys_sendfd(pid_t pid, int sig, int fd)
{
	return syscall(nr, pid, sig, fd);
}

/* Errors are compared by number: 0 for success. */
static int try_sendfd(pid_t pid, int sig, int fd)
{
	return sys_sendfd(pid, sig, fd) ? errno : 0;
}

static void block(int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static void unblock(int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* The next descriptor, or -1 if none comes within the time */
static int receive(int sig, siginfo_t *info, int seconds)
{
	struct timespec time = { .tv_sec = seconds };
	siginfo_t unused;
	sigset_t set;

	if (!info)
		info = &unused;
	sigemptyset(&set);
	sigaddset(&set, sig);
	return sigtimedwait(&set, info, &time) == sig ? info->si_value.sival_int : -1;
}

static bool pending(int sig)
{
	sigset_t set;

	sigpending(&set);
	return sigismember(&set, sig);
}

static bool same_file(pid_t a, int fda, pid_t b, int fdb)
{
	return syscall(SYS_kcmp, a, b, KCMP_FILE, fda, fdb) == 0;
}

static int count_fds(pid_t pid)
{
	char path[64];
	int count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return -1;
	while (readdir(dir))
		count++;
	closedir(dir);
	/* Less ".", "..", and what is open to look at itself */
	return count - 2 - (pid == getpid());
}

static int exit_status(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Processes tell each other that they got somewhere, one byte at a time. */
struct gate {
	int ends[2];
};

static void gate_init(struct gate *gate)
{
	if (pipe2(gate->ends, O_CLOEXEC))
		exit(KSFT_FAIL);
}

static void gate_open(struct gate *gate)
{
	if (write(gate->ends[1], "", 1) != 1)
		exit(KSFT_FAIL);
}

static void gate_pass(struct gate *gate)
{
	char byte;

	if (read(gate->ends[0], &byte, 1) != 1)
		exit(KSFT_FAIL);
}

/* A line of /proc/PID/status, as a set of signals in hexadecimal */
static unsigned long long status_mask(pid_t pid, const char *name)
{
	unsigned long long mask = 0;
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, strlen(name)))
			mask = strtoull(line + strlen(name) + 1, NULL, 16);
	}
	if (file)
		fclose(file);
	return mask;
}

/* In sigtimedwait() what is waited for is not blocked. */
static void wait_until_waiting(pid_t pid, int sig)
{
	while (status_mask(pid, "SigBlk") & (1ULL << (sig - 1)))
		usleep(1000);
}

static int handled_fd;

static void handler(int sig, siginfo_t *info, void *context)
{
	int fd = info->si_value.sival_int;

	/* The descriptor is there when the signal is. */
	if (fcntl(fd, F_GETFD) != FD_CLOEXEC)
		fd = -2;
	__atomic_store_n(&handled_fd, fd, __ATOMIC_RELAXED);
}

static void set_handler(void)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

	sigaction(SIG, &action, NULL);
}

FIXTURE(sendfd)
{
	int fd;		/* a descriptor to send */
	int fds;	/* how many are open */
};

FIXTURE_SETUP(sendfd)
{
	struct rlimit no_limit = { RLIM_INFINITY, RLIM_INFINITY };
	FILE *file = fopen("/proc/sys/kernel/sendfd_nr", "r");

	if (!file)
		SKIP(return, "this kernel has no sendfd()");
	ASSERT_EQ(1, fscanf(file, "%ld", &nr));
	fclose(file);
	ASSERT_EQ(0, geteuid()) {
		TH_LOG("has to be run as root");
	}
	/* by default it depends on the memory of the machine */
	ASSERT_EQ(0, setrlimit(RLIMIT_SIGPENDING, &no_limit));
	self->fd = memfd_create("passenger", MFD_CLOEXEC);
	ASSERT_LE(0, self->fd);
	self->fds = count_fds(getpid());
}

FIXTURE_TEARDOWN(sendfd)
{
}

TEST_F(sendfd, number_is_read_only)
{
	struct stat st;

	ASSERT_EQ(0, stat("/proc/sys/kernel/sendfd_nr", &st));
	EXPECT_EQ(0444, st.st_mode & 0777);
}

TEST_F(sendfd, einval)
{
	int i, signals[] = { INT_MIN, -1, 0, SIGTERM, KERNEL_SIGRTMIN - 1, SIGRTMAX + 1, INT_MAX };

	for (i = 0; i < 7; i++)
		EXPECT_EQ(EINVAL, try_sendfd(getpid(), signals[i], self->fd));
	EXPECT_EQ(EINVAL, try_sendfd(0, SIG, self->fd));
	EXPECT_EQ(EINVAL, try_sendfd(-1, SIG, self->fd));
	EXPECT_EQ(EINVAL, try_sendfd(-getpid(), SIG, self->fd));
}

TEST_F(sendfd, every_real_time_signal)
{
	int sig, fd;

	/* not sigprocmask(), which spares the ones that libc uses */
	ASSERT_EQ(0, syscall(SYS_rt_sigprocmask, SIG_BLOCK,
			     &(unsigned long long){ -1ULL }, NULL, 8));
	for (sig = KERNEL_SIGRTMIN; sig <= SIGRTMAX; sig++) {
		unsigned long long set = 1ULL << (sig - 1);
		siginfo_t info;

		ASSERT_EQ(0, try_sendfd(getpid(), sig, self->fd));
		ASSERT_EQ(sig, syscall(SYS_rt_sigtimedwait, &set, &info,
				       &(struct timespec){ 0 }, 8));
		fd = info.si_value.sival_int;
		EXPECT_TRUE(same_file(getpid(), fd, getpid(), self->fd));
		close(fd);
	}
}

TEST_F(sendfd, esrch)
{
	struct gate ready;
	pid_t pid;

	gate_init(&ready);
	pid = fork();
	if (!pid) {
		block(SIG);
		gate_open(&ready);
		_exit(0);
	}
	gate_pass(&ready);
	/* dead, but not waited for */
	ASSERT_EQ(0, waitid(P_PID, pid, NULL, WEXITED | WNOWAIT));
	EXPECT_EQ(ESRCH, try_sendfd(pid, SIG, self->fd));
	EXPECT_EQ(0, exit_status(pid));
	EXPECT_EQ(ESRCH, try_sendfd(pid, SIG, self->fd));
	EXPECT_EQ(ESRCH, try_sendfd(INT_MAX, SIG, self->fd));
}

TEST_F(sendfd, eperm)
{
	pid_t pid = fork(), target = getppid();

	block(SIG);
	if (!pid) {
		target = getppid();
		ASSERT_EQ(0, setresuid(OTHER_UID, OTHER_UID, OTHER_UID));
		/* before anything about the descriptor, or whether it is asked for */
		EXPECT_EQ(EPERM, try_sendfd(target, SIG, self->fd));
		EXPECT_EQ(EPERM, try_sendfd(target, SIG, -1));
		EXPECT_EQ(EPERM, try_sendfd(target, SIGRTMAX, self->fd));
		_exit(_metadata->exit_code);
	}
	ASSERT_EQ(0, exit_status(pid));
	EXPECT_FALSE(pending(SIG));
	EXPECT_EQ(self->fds, count_fds(getpid()));
}

TEST_F(sendfd, other_user_same_uid)
{
	pid_t pid, me = getpid();
	siginfo_t info;

	ASSERT_EQ(0, setresuid(OTHER_UID, OTHER_UID, OTHER_UID));
	block(SIG);
	pid = fork();
	if (!pid)
		_exit(try_sendfd(me, SIG, self->fd));
	ASSERT_EQ(0, exit_status(pid));
	ASSERT_LE(0, receive(SIG, &info, 5));
	EXPECT_EQ(pid, info.si_pid);
	EXPECT_EQ(OTHER_UID, info.si_uid);
}

TEST_F(sendfd, econnrefused)
{
	static struct sigaction actions[] = {
		{ .sa_handler = SIG_DFL },
		{ .sa_handler = SIG_IGN },
		{ .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESETHAND },
	};
	struct gate ready, go;
	pid_t pid;
	int how;

	for (how = 0; how < 3; how++) {
		gate_init(&ready);
		gate_init(&go);
		pid = fork();
		if (!pid) {
			sigaction(SIG, &actions[how], NULL);
			gate_open(&ready);
			gate_pass(&go);
			_exit(count_fds(getpid()));
		}
		gate_pass(&ready);
		EXPECT_EQ(ECONNREFUSED, try_sendfd(pid, SIG, self->fd));
		/* before the descriptor is looked up */
		EXPECT_EQ(ECONNREFUSED, try_sendfd(pid, SIG, -1));
		gate_open(&go);
		EXPECT_EQ(count_fds(getpid()), exit_status(pid));
	}
}

TEST_F(sendfd, ebadf_is_a_probe)
{
	block(SIG);
	EXPECT_EQ(EBADF, try_sendfd(getpid(), SIG, -1));
	EXPECT_EQ(EBADF, try_sendfd(getpid(), SIG, INT_MAX));
	EXPECT_EQ(EBADF, try_sendfd(getpid(), SIG, self->fd + 100));
	EXPECT_FALSE(pending(SIG));
	EXPECT_EQ(self->fds, count_fds(getpid()));
}

TEST_F(sendfd, signal_and_descriptor)
{
	siginfo_t info;
	int fd;

	block(SIG);
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	fd = receive(SIG, &info, 5);
	ASSERT_LE(0, fd);
	EXPECT_NE(self->fd, fd);
	EXPECT_EQ(SIG, info.si_signo);
	EXPECT_EQ(SI_QUEUE, info.si_code);
	EXPECT_EQ(0, info.si_errno);
	EXPECT_EQ(getpid(), info.si_pid);
	EXPECT_EQ(0, info.si_uid);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	EXPECT_TRUE(same_file(getpid(), fd, getpid(), self->fd));
	EXPECT_EQ(0, close(fd));
	EXPECT_EQ(-1, receive(SIG, NULL, 0));
	EXPECT_EQ(self->fds, count_fds(getpid()));
}

TEST_F(sendfd, outlives_the_sender)
{
	int fd, ends[2];
	char text[8] = "";
	pid_t pid, me = getpid();

	block(SIG);
	pid = fork();
	if (!pid) {
		if (pipe(ends) || write(ends[1], "hello", 5) != 5)
			_exit(1);
		_exit(try_sendfd(me, SIG, ends[0]));
	}
	ASSERT_EQ(0, exit_status(pid));
	fd = receive(SIG, NULL, 5);
	ASSERT_LE(0, fd);
	EXPECT_EQ(5, read(fd, text, sizeof(text)));
	EXPECT_STREQ("hello", text);
}

TEST_F(sendfd, handler)
{
	int fd;

	set_handler();
	__atomic_store_n(&handled_fd, -1, __ATOMIC_RELAXED);
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	/* one's own signals arrive before the call returns */
	fd = __atomic_load_n(&handled_fd, __ATOMIC_RELAXED);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(same_file(getpid(), fd, getpid(), self->fd));
}

TEST_F(sendfd, sigwaitinfo_that_waits)
{
	struct gate ready;
	pid_t pid;

	gate_init(&ready);
	pid = fork();
	if (!pid) {
		block(SIG);
		gate_open(&ready);
		_exit(fcntl(receive(SIG, NULL, 10), F_GETFD) == FD_CLOEXEC ? 0 : 1);
	}
	gate_pass(&ready);
	wait_until_waiting(pid, SIG);
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	EXPECT_EQ(0, exit_status(pid));
}

TEST_F(sendfd, sigwaitinfo_for_a_signal_not_blocked)
{
	struct timespec second = { .tv_sec = 1 };
	struct gate ready;
	sigset_t set;
	pid_t pid;

	gate_init(&ready);
	pid = fork();
	if (!pid) {
		sigemptyset(&set);
		sigaddset(&set, SIG);
		gate_open(&ready);
		_exit(sigtimedwait(&set, NULL, &second) == -1 && errno == EAGAIN ? 0 : 1);
	}
	gate_pass(&ready);
	usleep(200000);
	/* It would take the first, but the next might come after it has gone. */
	EXPECT_EQ(ECONNREFUSED, try_sendfd(pid, SIG, self->fd));
	EXPECT_EQ(0, exit_status(pid));
}

TEST_F(sendfd, signalfd)
{
	struct signalfd_siginfo info;
	sigset_t set;
	int sfd;

	block(SIG);
	sigemptyset(&set);
	sigaddset(&set, SIG);
	sfd = signalfd(-1, &set, SFD_CLOEXEC);
	ASSERT_LE(0, sfd);
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	ASSERT_EQ(sizeof(info), read(sfd, &info, sizeof(info)));
	EXPECT_EQ(SIG, info.ssi_signo);
	EXPECT_EQ(SI_QUEUE, info.ssi_code);
	EXPECT_EQ(getpid(), info.ssi_pid);
	EXPECT_TRUE(same_file(getpid(), info.ssi_int, getpid(), self->fd));
}

TEST_F(sendfd, order)
{
	int i, fd, sent[100];

	block(SIG);
	for (i = 0; i < 100; i++) {
		sent[i] = eventfd(i, EFD_CLOEXEC);
		ASSERT_LE(0, sent[i]);
		ASSERT_EQ(0, try_sendfd(getpid(), SIG, sent[i]));
	}
	for (i = 0; i < 100; i++) {
		fd = receive(SIG, NULL, 5);
		ASSERT_LE(0, fd);
		EXPECT_TRUE(same_file(getpid(), fd, getpid(), sent[i]));
	}
	EXPECT_EQ(-1, receive(SIG, NULL, 0));
}

TEST_F(sendfd, emfile_leaves_nothing)
{
	struct rlimit limit;
	int fd, top;

	block(SIG);
	fd = dup(self->fd);	/* the lowest number that is free */
	ASSERT_LE(0, fd);
	top = fd;
	close(fd);
	limit.rlim_cur = top;
	limit.rlim_max = 1024;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_EQ(EMFILE, try_sendfd(getpid(), SIG, self->fd));
	EXPECT_FALSE(pending(SIG));
	/* a full table does not hide a wrong descriptor */
	EXPECT_EQ(EBADF, try_sendfd(getpid(), SIG, -1));
	limit.rlim_cur = top + 1;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	EXPECT_EQ(top, receive(SIG, NULL, 5));
}

TEST_F(sendfd, limit_is_the_targets)
{
	struct rlimit none = { 3, 3 };
	struct gate ready, go;
	pid_t pid;

	gate_init(&ready);
	gate_init(&go);
	pid = fork();
	if (!pid) {
		block(SIG);
		gate_open(&ready);
		gate_pass(&go);
		_exit(receive(SIG, NULL, 5) >= 0 ? 0 : 1);
	}
	gate_pass(&ready);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	gate_open(&go);
	EXPECT_EQ(0, exit_status(pid));
}

TEST_F(sendfd, eagain_gives_the_number_back)
{
	struct rlimit limit = { 2, 1024 };
	int fd, next;

	block(SIG);
	next = dup(self->fd);
	close(next);
	/* A user of its own, whose queued signals nobody else adds to */
	ASSERT_EQ(0, setresuid(54321, 54321, 54321));
	ASSERT_EQ(0, setrlimit(RLIMIT_SIGPENDING, &limit));
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	EXPECT_EQ(EAGAIN, try_sendfd(getpid(), SIG, self->fd));
	EXPECT_EQ(self->fds + 2, count_fds(getpid()));
	fd = dup(self->fd);
	EXPECT_EQ(next + 2, fd);
	close(fd);
	EXPECT_EQ(next, receive(SIG, NULL, 5));
	EXPECT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	EXPECT_EQ(next + 1, receive(SIG, NULL, 5));
	EXPECT_EQ(next + 2, receive(SIG, NULL, 5));
	EXPECT_EQ(-1, receive(SIG, NULL, 0));
}

TEST_F(sendfd, passengers)
{
	struct io_uring_params params = { 0 };
	int i, fd, pair[2], fds[9], count = 0;
	sigset_t set;

	block(SIG);
	sigemptyset(&set);
	sigaddset(&set, SIG);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	fds[count++] = pair[0];
	fds[count++] = open("/", O_PATH);
	fds[count++] = open("/", O_RDONLY | O_DIRECTORY);
	fds[count++] = epoll_create1(0);
	fds[count++] = eventfd(0, 0);
	fds[count++] = syscall(SYS_io_uring_setup, 1, &params);
	fds[count++] = syscall(SYS_pidfd_open, getpid(), 0);
	fds[count++] = signalfd(-1, &set, 0);
	fds[count++] = open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
	for (i = 0; i < count; i++) {
		ASSERT_LE(0, fds[i]) {
			TH_LOG("passenger %d: %m", i);
		}
		ASSERT_EQ(0, try_sendfd(getpid(), SIG, fds[i]));
	}
	for (i = 0; i < count; i++) {
		fd = receive(SIG, NULL, 5);
		EXPECT_TRUE(same_file(getpid(), fd, getpid(), fds[i]));
		EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	}
}

TEST_F(sendfd, its_own_signalfd)
{
	struct signalfd_siginfo info;
	struct gate ready;
	sigset_t set;
	int sfd, poll;
	pid_t pid;

	block(SIG);
	sigemptyset(&set);
	sigaddset(&set, SIG);
	sfd = signalfd(-1, &set, SFD_CLOEXEC);
	poll = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_EQ(0, epoll_ctl(poll, EPOLL_CTL_ADD, sfd, &(struct epoll_event){ EPOLLIN }));

	/* the file that says that a signal is there, by that signal */
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, sfd));
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, poll));
	ASSERT_EQ(1, epoll_wait(poll, &(struct epoll_event){ 0 }, 1, 5000));
	ASSERT_EQ(sizeof(info), read(sfd, &info, sizeof(info)));
	close(sfd);
	/* and the copy gives the rest */
	sfd = info.ssi_int;
	ASSERT_EQ(sizeof(info), read(sfd, &info, sizeof(info)));
	EXPECT_TRUE(same_file(getpid(), info.ssi_int, getpid(), poll));

	/* Somebody else's reads that one's signals. */
	gate_init(&ready);
	pid = fork();
	if (!pid) {
		gate_open(&ready);
		if (receive(SIG, NULL, 10) < 0)
			_exit(1);
		_exit(0);
	}
	gate_pass(&ready);
	EXPECT_EQ(0, try_sendfd(pid, SIG, sfd));
	EXPECT_EQ(0, exit_status(pid));
}

TEST_F(sendfd, table_grows)
{
	struct rlimit limit = { 5000, 5000 };
	int i, fd, count = 3000;
	struct gate ready, go;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	gate_init(&ready);
	gate_init(&go);
	pid = fork();
	if (!pid) {
		block(SIG);
		gate_open(&ready);
		/* In here it holds its end of the pipe, without a reference. */
		if (read(go.ends[0], &byte, 1) != 1)
			_exit(1);
		for (i = 0; i < count; i++) {
			fd = receive(SIG, NULL, 5);
			if (fd < 0 || !same_file(getpid(), fd, getppid(), self->fd))
				_exit(2);
		}
		/* and its own old ones are still there */
		if (read(go.ends[0], &byte, 1) != 1)
			_exit(3);
		_exit(0);
	}
	gate_pass(&ready);
	for (i = 0; i < count; i++)
		ASSERT_EQ(0, try_sendfd(pid, SIG, self->fd));
	gate_open(&go);
	gate_open(&go);
	EXPECT_EQ(0, exit_status(pid));
}

struct thread {
	bool blocks;
	struct gate ready, go;
};

static void *thread_main(void *arg)
{
	struct thread *thread = arg;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIG);
	pthread_sigmask(thread->blocks ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
	gate_open(&thread->ready);
	gate_pass(&thread->go);
	return NULL;
}

TEST_F(sendfd, threads_with_different_masks)
{
	struct gate ready, go;
	pid_t pid;
	int how;

	/* bit 0: the leader blocks it; bit 1: another thread does; bit 2: it is ignored */
	for (how = 0; how < 8; how++) {
		gate_init(&ready);
		gate_init(&go);
		pid = fork();
		if (!pid) {
			struct thread thread = { .blocks = how & 2 };
			pthread_t id;

			if (how & 4)
				signal(SIG, SIG_IGN);
			gate_init(&thread.ready);
			gate_init(&thread.go);
			pthread_create(&id, NULL, thread_main, &thread);
			gate_pass(&thread.ready);
			if (how & 1)
				block(SIG);
			gate_open(&ready);
			gate_pass(&go);
			if ((how & 3) == 3 && receive(SIG, NULL, 5) < 0)
				_exit(1);
			_exit(0);
		}
		gate_pass(&ready);
		EXPECT_EQ((how & 3) == 3 ? 0 : ECONNREFUSED, try_sendfd(pid, SIG, self->fd)) {
			TH_LOG("masks %d", how);
		}
		gate_open(&go);
		EXPECT_EQ(0, exit_status(pid));
	}
}

static void *receiving_thread(void *arg)
{
	struct gate *ready = arg;

	/* The leader goes first. */
	usleep(100000);
	gate_open(ready);
	_exit(fcntl(receive(SIG, NULL, 10), F_GETFD) == FD_CLOEXEC ? 0 : 1);
}

TEST_F(sendfd, leader_has_exited)
{
	struct gate ready;
	pthread_t id;
	pid_t pid;

	gate_init(&ready);
	pid = fork();
	if (!pid) {
		block(SIG);
		pthread_create(&id, NULL, receiving_thread, &ready);
		pthread_exit(NULL);
	}
	gate_pass(&ready);
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	EXPECT_EQ(0, exit_status(pid));
}

static void *tid_thread(void *arg)
{
	int *tid = arg;

	__atomic_store_n(tid, gettid(), __ATOMIC_RELAXED);
	pause();
	return NULL;
}

TEST_F(sendfd, a_thread_is_no_process)
{
	int tid = 0;
	pthread_t id;

	block(SIG);
	ASSERT_EQ(0, pthread_create(&id, NULL, tid_thread, &tid));
	while (!__atomic_load_n(&tid, __ATOMIC_RELAXED))
		usleep(1000);
	EXPECT_EQ(ESRCH, try_sendfd(tid, SIG, self->fd));
}

TEST_F(sendfd, kernel_threads_do_not_listen)
{
	/* kthreadd, unless in a pid namespace */
	char name[16] = "";
	int fd = open("/proc/2/comm", O_RDONLY);

	if (fd < 0 || read(fd, name, sizeof(name) - 1) < 0 || strcmp(name, "kthreadd\n"))
		SKIP(return, "no kthreadd");
	EXPECT_EQ(ECONNREFUSED, try_sendfd(2, SIG, self->fd));
}

TEST_F(sendfd, stopped_target)
{
	struct gate ready;
	int status;
	pid_t pid;

	gate_init(&ready);
	pid = fork();
	if (!pid) {
		block(SIG);
		raise(SIGSTOP);
		_exit(receive(SIG, NULL, 5) >= 0 ? 0 : 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	kill(pid, SIGCONT);
	EXPECT_EQ(0, exit_status(pid));
}

static void *killer_thread(void *arg)
{
	pause();
	return NULL;
}

TEST_F(sendfd, group_exit)
{
	struct gate ready;
	int error = 0, i;
	pthread_t id;
	pid_t pid;

	/* As it dies it says ESRCH from some moment on, and nothing else. */
	gate_init(&ready);
	pid = fork();
	if (!pid) {
		block(SIG);
		pthread_create(&id, NULL, killer_thread, NULL);
		gate_open(&ready);
		pause();
	}
	gate_pass(&ready);
	kill(pid, SIGKILL);
	for (i = 0; i < 1000 && !error; i++)
		error = try_sendfd(pid, SIG, self->fd);
	EXPECT_EQ(ESRCH, error);
	EXPECT_EQ(256 + SIGKILL, exit_status(pid));
}

/* exec this program as main() says, and see how it ends */
static pid_t start_exec(const char *mode, struct gate *ready, struct gate *go)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	block(SIG);
	gate_open(ready);
	gate_pass(go);
	execl("/proc/self/exe", "sendfd_test", mode, NULL);
	_exit(100);
}

TEST_F(sendfd, exec_drops_what_was_sent)
{
	struct gate ready, go;
	pid_t pid;
	int i;

	gate_init(&ready);
	gate_init(&go);
	pid = start_exec("exec-empty", &ready, &go);
	gate_pass(&ready);
	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, try_sendfd(pid, SIG, self->fd));
	gate_open(&go);
	EXPECT_EQ(0, exit_status(pid));
}

TEST_F(sendfd, exec_keeps_other_signals)
{
	struct gate ready, go;
	pid_t pid;

	gate_init(&ready);
	gate_init(&go);
	pid = start_exec("exec-queued", &ready, &go);
	gate_pass(&ready);
	ASSERT_EQ(0, try_sendfd(pid, SIG, self->fd));
	ASSERT_EQ(0, sigqueue(pid, SIG, (union sigval){ .sival_int = 77 }));
	ASSERT_EQ(0, try_sendfd(pid, SIG, self->fd));
	gate_open(&go);
	EXPECT_EQ(0, exit_status(pid));
}

TEST_F(sendfd, exec_is_not_killed)
{
	int i, error, sent = 0;
	struct gate ready;
	pid_t pid;

	/* The handler goes with the image: sent in between, the signal would kill. */
	for (i = 0; i < 20; i++) {
		gate_init(&ready);
		pid = fork();
		if (!pid) {
			set_handler();
			gate_open(&ready);
			execl("/proc/self/exe", "sendfd_test", "exec-nap", NULL);
			_exit(100);
		}
		gate_pass(&ready);
		do {
			error = try_sendfd(pid, SIG, self->fd);
			sent += !error;
			sched_yield();
		} while (!error || error == EMFILE || error == EAGAIN);
		EXPECT_EQ(ECONNREFUSED, error);
		EXPECT_EQ(0, exit_status(pid));
	}
	EXPECT_LT(0, sent);
}

TEST_F(sendfd, exec_keeps_posix_locks)
{
	struct rlimit limit = { 5000, 5000 };
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct gate ready;
	int fd, i, status;
	pid_t pid;

	/*
	 * The owner of a lock is the table: were a sender to count as one that
	 * shares it, an exec would copy it, and the lock be lost.
	 */
	fd = memfd_create("locked", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	gate_init(&ready);
	pid = fork();
	if (!pid) {
		block(SIG);
		if (fcntl(fd, F_SETLK, &lock))
			_exit(101);
		gate_open(&ready);
		execl("/proc/self/exe", "sendfd_test", "exec-stop", NULL);
		_exit(100);
	}
	gate_pass(&ready);
	for (i = 0; i < 400; i++)
		try_sendfd(pid, SIG, self->fd);
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	ASSERT_EQ(0, fcntl(fd, F_GETLK, &lock));
	EXPECT_EQ(F_WRLCK, lock.l_type);
	EXPECT_EQ(pid, lock.l_pid);
	end(pid);
}

static int unsharing_target(void *arg)
{
	struct gate *gates = arg;

	block(SIG);
	if (unshare(CLONE_FILES))
		return 1;
	gate_open(&gates[0]);
	gate_pass(&gates[1]);
	return fcntl(receive(SIG, NULL, 5), F_GETFD) == FD_CLOEXEC ? 0 : 2;
}

static int sharing_target(void *arg)
{
	struct gate *gates = arg;

	block(SIG);
	gate_open(&gates[0]);
	gate_pass(&gates[1]);
	return fcntl(receive(SIG, NULL, 5), F_GETFD) == FD_CLOEXEC ? 0 : 2;
}

TEST_F(sendfd, unshared_and_shared_tables)
{
	static long double stack[2][4096];	/* for its alignment */
	struct gate gates[2];
	pid_t pid;

	gate_init(&gates[0]);
	gate_init(&gates[1]);
	self->fds = count_fds(getpid());

	pid = clone(unsharing_target, stack[0] + 4096, CLONE_FILES | SIGCHLD, gates);
	ASSERT_LT(0, pid);
	gate_pass(&gates[0]);
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	/* not into the table it came from */
	EXPECT_EQ(self->fds, count_fds(getpid()));
	gate_open(&gates[1]);
	EXPECT_EQ(0, exit_status(pid));

	pid = clone(sharing_target, stack[1] + 4096, CLONE_FILES | SIGCHLD, gates);
	ASSERT_LT(0, pid);
	gate_pass(&gates[0]);
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	EXPECT_EQ(self->fds + 1, count_fds(getpid()));
	gate_open(&gates[1]);
	EXPECT_EQ(0, exit_status(pid));
}

TEST_F(sendfd, vfork)
{
	struct gate ready, go;
	pid_t target, pid, child;
	char byte;

	gate_init(&ready);
	gate_init(&go);
	target = fork();
	if (!target) {
		block(SIG);
		pid = vfork();
		if (!pid) {
			/* It has its parent's memory, but a table of its own. */
			child = getpid();
			if (write(ready.ends[1], &child, sizeof(child)) != sizeof(child))
				_exit(1);
			if (read(go.ends[0], &byte, 1) != 1)
				_exit(2);
			_exit(receive(SIG, NULL, 5) >= 0 && receive(SIG, NULL, 0) < 0 ? 0 : 3);
		}
		if (exit_status(pid))
			_exit(4);
		_exit(receive(SIG, NULL, 5) >= 0 && receive(SIG, NULL, 0) < 0 ? 0 : 5);
	}
	ASSERT_EQ(sizeof(child), read(ready.ends[0], &child, sizeof(child)));
	EXPECT_EQ(0, try_sendfd(target, SIG, self->fd));
	EXPECT_EQ(0, try_sendfd(child, SIG, self->fd));
	gate_open(&go);
	EXPECT_EQ(0, exit_status(target));
}

TEST_F(sendfd, namespaces)
{
	struct gate ready;
	siginfo_t info;
	pid_t pid;

	gate_init(&ready);
	ASSERT_EQ(0, unshare(CLONE_NEWPID));
	pid = fork();
	if (!pid) {
		pid_t inner;

		block(SIG);
		gate_open(&ready);
		/* from outside: no number for the sender */
		ASSERT_LE(0, receive(SIG, &info, 10));
		EXPECT_EQ(0, info.si_pid);
		EXPECT_EQ(0, info.si_uid);

		/* from inside: its number here; there is no way to the outside */
		inner = fork();
		if (!inner)
			_exit(try_sendfd(1, SIG, self->fd));
		EXPECT_EQ(0, exit_status(inner));
		ASSERT_LE(0, receive(SIG, &info, 10));
		EXPECT_EQ(inner, info.si_pid);
		EXPECT_EQ(ESRCH, try_sendfd(30000, SIG, self->fd));

		/* from a user whom the target's user namespace does not know */
		ASSERT_EQ(0, unshare(CLONE_NEWUSER));
		gate_open(&ready);
		ASSERT_LE(0, receive(SIG, &info, 10));
		EXPECT_EQ(65534, info.si_uid);
		_exit(_metadata->exit_code);
	}
	gate_pass(&ready);
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	gate_pass(&ready);
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	EXPECT_EQ(0, exit_status(pid));
}

static int filter_sendfd(unsigned int action)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 4, .filter = filter };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

TEST_F(sendfd, seccomp)
{
	pid_t pid, me = getpid();

	block(SIG);
	pid = fork();
	if (!pid) {
		if (filter_sendfd(SECCOMP_RET_ERRNO | EXDEV))
			_exit(1);
		_exit(try_sendfd(me, SIG, self->fd) == EXDEV ? 0 : 2);
	}
	EXPECT_EQ(0, exit_status(pid));
	EXPECT_FALSE(pending(SIG));

	pid = fork();
	if (!pid) {
		if (filter_sendfd(SECCOMP_RET_KILL_PROCESS))
			_exit(1);
		try_sendfd(me, SIG, self->fd);
		_exit(2);
	}
	EXPECT_EQ(256 + SIGSYS, exit_status(pid));

	/* A filter is about what one does, not about what is done to one. */
	pid = fork();
	if (!pid) {
		if (filter_sendfd(SECCOMP_RET_KILL_PROCESS))
			_exit(1);
		_exit(receive(SIG, NULL, 10) >= 0 ? 0 : 2);
	}
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	EXPECT_EQ(0, exit_status(pid));
}

static int exec_empty(void)
{
	/* nothing pending, and nothing open but the standard ones */
	return pending(SIG) ? 1 : count_fds(getpid()) > 3 ? 2 : 0;
}

static int exec_queued(void)
{
	if (receive(SIG, NULL, 0) != 77)
		return 1;
	return pending(SIG) ? 2 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "exec-empty"))
		return exec_empty();
	if (argc == 2 && !strcmp(argv[1], "exec-queued"))
		return exec_queued();
	if (argc == 2 && !strcmp(argv[1], "exec-nap")) {
		unblock(SIG);
		usleep(100000);
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "exec-stop"))
		return raise(SIGSTOP);
	return test_harness_run(argc, argv);
}
