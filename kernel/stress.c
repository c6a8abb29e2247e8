// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many senders, and targets that die, exec and unshare at random: stress SECONDS [SEED]
 *
 * Fails if a target is killed by the signal, or finds a number that is not the
 * descriptor sent; if a sender gets an error that it should not; or if the system
 * has more files open afterwards than before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIG (SIGRTMIN + 2)
#define SENDERS 4
#define TARGETS 8
#define PASSENGER_SIZE 424242

#define SA_EXPECTFD 0x1000
#define SI_SENDFD 0x81

enum kind { WAITS, HANDLES, READS_SIGNALFD, HAS_THREADS, SHARES_TABLE, GUESSES, KINDS };
static const char *const kind_names[] = {
	"sigtimedwait", "handler", "signalfd", "threads", "shared table", "guesses",
};

/* Seen by all: they inherit the mapping, or after an exec map descriptor 3. */
#define SHARED_FD 3
struct shared {
	atomic_int targets[TARGETS];
	atomic_int over, failed;
	atomic_long sent, refused, gone, queue_full, table_full;
	/* A handler that is told -1 because the table is full has lost a file. */
	atomic_long received[KINDS], lost[KINDS];
	atomic_long execs, unshares, deaths;
};

static struct shared *shared;
static long nr, pidfd_nr;
static unsigned int seed;

static unsigned int pick(unsigned int n)
{
	return rand_r(&seed) % n;
}

static void fail(const char *format, ...)
{
	char text[256];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text) - 1, format, args);
	va_end(args);
	text[n++] = '\n';
	if (write(2, text, n) < 0)
		_exit(3);
	atomic_store(&shared->failed, 1);
	atomic_store(&shared->over, 1);
}

static int passenger(void)
{
	int fd = memfd_create("passenger", MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, PASSENGER_SIZE))
		exit(3);
	return fd;
}

/* Either call, which differ in how the target is named */
static int send_to(pid_t pid, int fd)
{
	int pidfd, result, error;

	if (pick(2))
		return syscall(nr, pid, SIG, fd);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -1;
	result = syscall(pidfd_nr, pidfd, SIG, fd, 0);
	error = errno;
	close(pidfd);
	errno = error;
	return result;
}

static void sender(void)
{
	int fd = passenger();

	while (!atomic_load(&shared->over)) {
		pid_t pid = atomic_load(&shared->targets[pick(TARGETS)]);

		if (pid <= 0 || !send_to(pid, fd)) {
			atomic_fetch_add(&shared->sent, pid > 0);
		} else if (errno == ECONNREFUSED) {
			atomic_fetch_add(&shared->refused, 1);
		} else if (errno == ESRCH) {
			atomic_fetch_add(&shared->gone, 1);
		} else if (errno == EAGAIN) {
			atomic_fetch_add(&shared->queue_full, 1);
			sched_yield();
		} else {
			fail("sendfd: %s", strerror(errno));
		}
		if (!pick(64)) {
			/* in flight without a sender's descriptor */
			close(fd);
			fd = passenger();
		}
	}
	_exit(0);
}

static enum kind kind;

/* Signal handlers come here too. */
static void received(int code, int error, int fd)
{
	struct stat st;

	atomic_fetch_add(&shared->received[kind], 1);
	if (code != SI_SENDFD)
		fail("%s: si_code %d", kind_names[kind], code);
	if (kind == HANDLES && fd == -1 && error == EMFILE)
		atomic_fetch_add(&shared->lost[kind], 1);
	else if (fcntl(fd, F_GETFD) == FD_CLOEXEC && !fstat(fd, &st) && st.st_size == PASSENGER_SIZE)
		close(fd);
	else
		fail("%s: %d is not what was sent", kind_names[kind], fd);
}

static void handler(int sig, siginfo_t *info, void *context)
{
	int error = errno;

	(void)sig, (void)context;
	received(info->si_code, info->si_errno, info->si_value.sival_int);
	errno = error;
}

static void receive_some(int count)
{
	struct timespec moment = { .tv_nsec = 2000000 };
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIG);
	while (count-- && sigtimedwait(&set, &info, &moment) == SIG)
		received(info.si_code, info.si_errno, info.si_value.sival_int);
	if (count >= 0 && errno == EMFILE)
		atomic_fetch_add(&shared->table_full, 1);
}

static void *receiving_thread(void *arg)
{
	(void)arg;
	for (;;)
		receive_some(16);
	return NULL;
}

static void read_signalfd(int sfd)
{
	struct signalfd_siginfo info[8];
	ssize_t n = read(sfd, info, sizeof(info));

	for (ssize_t i = 0; i < n / (ssize_t)sizeof(*info); i++)
		received(info[i].ssi_code, info[i].ssi_errno, info[i].ssi_int);
	if (n < 0 && errno == EMFILE)
		atomic_fetch_add(&shared->table_full, 1);
	if (n < 0)
		sched_yield();
}

/* Looks descriptors up the cheap way while others write to the table */
static void use_table(void)
{
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	char bytes[64];

	if (fd < 0)
		return;
	if (read(fd, bytes, sizeof(bytes)) != sizeof(bytes))
		fail("read: %s", strerror(errno));
	close(fd);
}

static void guess(void)
{
	int fd = dup(2);

	/* Nothing of what was sent is there before the signal was taken. */
	if (fd < 0)
		return;
	for (int i = 0; i < 4; i++)
		if (dup3(2, fd + i, O_CLOEXEC) < 0 && errno == EBUSY)
			fail("dup3: a number was seen before its file");
	for (int i = 0; i < 4; i++)
		close(fd + i);
}

/* A table in which there is room for nothing more, for a moment */
static void be_full(int sfd)
{
	struct rlimit before, none = { 0 };

	getrlimit(RLIMIT_NOFILE, &before);
	none.rlim_max = before.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	if (sfd >= 0)
		read_signalfd(sfd);
	else if (kind == HANDLES)
		usleep(1000);
	else
		receive_some(1);
	setrlimit(RLIMIT_NOFILE, &before);
}

/* Leaves the table to a child, which looks at it a little longer */
static void share_and_unshare(void)
{
	pid_t child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);

	if (!child) {
		for (unsigned int i = pick(50); i; i--)
			use_table();
		_exit(0);
	}
	receive_some(pick(20));
	if (unshare(CLONE_FILES))
		fail("unshare: %s", strerror(errno));
	atomic_fetch_add(&shared->unshares, 1);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

static void run_target(void)
{
	struct sigaction action = { .sa_flags = SA_EXPECTFD | SA_SIGINFO | SA_RESTART };
	struct rlimit files = { 64 << pick(5), 1024 };
	/* The queue is the user's, how much of it one may fill is the target's. */
	struct rlimit signals = { pick(4) ? RLIM_INFINITY : 50, RLIM_INFINITY };
	pthread_t thread;
	sigset_t set;
	int sfd = -1;

	kind = pick(KINDS);
	setrlimit(RLIMIT_NOFILE, &files);
	setrlimit(RLIMIT_SIGPENDING, &signals);
	sigemptyset(&set);
	sigaddset(&set, SIG);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (kind == HANDLES)
		action.sa_sigaction = handler;
	else
		action.sa_handler = SIG_DFL;
	sigaction(SIG, &action, NULL);
	if (kind == HANDLES)
		sigprocmask(SIG_UNBLOCK, &set, NULL);
	if (kind == READS_SIGNALFD)
		sfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (kind == HAS_THREADS)
		for (int i = 0; i < 2; i++)
			pthread_create(&thread, NULL, receiving_thread, NULL);

	for (unsigned int left = 1 + pick(300); left && !atomic_load(&shared->over); left--) {
		use_table();
		if (kind != HAS_THREADS && !pick(16))
			be_full(sfd);
		if (kind == WAITS || kind == HAS_THREADS)
			receive_some(pick(40));
		if (kind == READS_SIGNALFD)
			read_signalfd(sfd);
		if (kind == GUESSES) {
			receive_some(pick(8));
			guess();
		}
		if (kind == SHARES_TABLE) {
			receive_some(pick(8));
			if (!pick(8))
				share_and_unshare();
		}
	}

	switch (atomic_load(&shared->over) ? 0 : pick(4)) {
	case 0:
		_exit(0);
	case 1:
		kill(getpid(), SIGKILL);
		pause();
		_exit(3);
	case 2:
		if (kind == HAS_THREADS) {
			/* The others carry on without the leader for a while. */
			alarm(1);
			signal(SIGALRM, SIG_DFL);
			pthread_exit(NULL);
		}
		_exit(0);
	default:
		atomic_fetch_add(&shared->execs, 1);
		char number[16], pidfd_number[16], again[16];

		snprintf(number, sizeof(number), "%ld", nr);
		snprintf(pidfd_number, sizeof(pidfd_number), "%ld", pidfd_nr);
		snprintf(again, sizeof(again), "%u", pick(1 << 30));
		execl("/proc/self/exe", "stress", "target", number, pidfd_number, again, NULL);
		_exit(3);
	}
}

static pid_t start(void (*what)(void))
{
	unsigned int next = pick(1 << 30);
	pid_t pid = fork();

	if (!pid) {
		seed = next;
		what();
		_exit(3);
	}
	return pid;
}

static void target_ended(int status)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGALRM)
		fail("a target was killed by signal %d", WTERMSIG(status));
	else if (WIFEXITED(status) && WEXITSTATUS(status))
		fail("a target ended with status %d", WEXITSTATUS(status));
	atomic_fetch_add(&shared->deaths, 1);
}

/* Signals first, then the end: a process that shares a mask is not killed by one. */
static void supervise(time_t until)
{
	int status;
	pid_t pid;

	while (!atomic_load(&shared->over)) {
		for (int i = 0; i < TARGETS; i++) {
			pid_t *target = (pid_t *)&shared->targets[i];

			if (*target && waitpid(*target, &status, WNOHANG) == *target) {
				atomic_store(&shared->targets[i], 0);
				target_ended(status);
			}
			if (!*target) {
				pid = start(run_target);
				atomic_store(&shared->targets[i], pid);
			}
		}
		if (time(NULL) >= until)
			atomic_store(&shared->over, 1);
		usleep(2000);
	}
}

/* The first number in a file, or -1 */
static long read_number(const char *path)
{
	FILE *file = fopen(path, "r");
	long number = -1;

	if (file) {
		if (fscanf(file, "%ld", &number) != 1)
			number = -1;
		fclose(file);
	}
	return number;
}

static long open_files(void)
{
	return read_number("/proc/sys/fs/file-nr");
}

static int report(long before)
{
	/* With several processors the count is only that exact: a batch for each. */
	long after, slack = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 64 * sysconf(_SC_NPROCESSORS_ONLN) : 0;
	long received = 0;

	for (int i = 0; i < 50 && (after = open_files()) > before + slack; i++)
		usleep(100000);
	for (int i = 0; i < KINDS; i++) {
		printf("%-14s %8ld received %6ld of them lost to a full table\n", kind_names[i],
		       shared->received[i], shared->lost[i]);
		received += shared->received[i];
	}
	printf("%ld sent, %ld received, %ld refused, %ld gone, %ld queue full, %ld times table full\n",
	       shared->sent, received, shared->refused, shared->gone, shared->queue_full, shared->table_full);
	printf("%ld execs, %ld unshares, %ld deaths\n", shared->execs, shared->unshares, shared->deaths);
	printf("%ld open files before, %ld after\n", before, after);
	if (after > before + slack) {
		printf("files were left open\n");
		return 1;
	}
	/* A run in which little happened has shown nothing. */
	if (shared->sent < 1000 || received < 500 || shared->execs < 5 || shared->unshares < 5 ||
	    shared->table_full < 5) {
		printf("too little happened\n");
		return 1;
	}
	return shared->failed;
}

static void map_shared(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, SHARED_FD, 0);
	if (shared == MAP_FAILED) {
		perror("mmap");
		exit(3);
	}
}

int main(int argc, char **argv)
{
	pid_t senders[SENDERS];
	long before;
	int fd;

	if (argc == 5 && !strcmp(argv[1], "target")) {
		nr = atol(argv[2]);
		pidfd_nr = atol(argv[3]);
		seed = atoi(argv[4]);
		map_shared();
		run_target();
	}
	nr = read_number("/proc/sys/kernel/sendfd_nr");
	pidfd_nr = read_number("/proc/sys/kernel/pidfd_sendfd_nr");
	if (argc < 2 || nr < 0 || pidfd_nr < 0) {
		fprintf(stderr, "usage: stress SECONDS [SEED], on a kernel that has the calls\n");
		return 2;
	}
	fd = memfd_create("shared", 0);
	if (fd < 0 || dup2(fd, SHARED_FD) < 0 || ftruncate(SHARED_FD, sizeof(*shared)))
		return 3;
	if (fd != SHARED_FD)
		close(fd);
	map_shared();
	seed = argc > 2 ? atoi(argv[2]) : getpid();
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("seed %u\n", seed);

	before = open_files();
	for (int i = 0; i < SENDERS; i++)
		senders[i] = start(sender);
	supervise(time(NULL) + atoi(argv[1]));

	for (int i = 0; i < SENDERS; i++)
		waitpid(senders[i], NULL, 0);
	for (int i = 0, status; i < TARGETS; i++) {
		pid_t pid = atomic_load(&shared->targets[i]);

		if (pid && waitpid(pid, &status, 0) == pid)
			target_ended(status);
	}
	return report(before);
}
