TEST_F(sendfd, nothing_in_the_table_before_it_is_taken)
{
	int fd, zero, before = count_fds(getpid());

	expect(SIG);
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	EXPECT_EQ(before, count_fds(getpid()));
	/* What is open does not change behind a program's back. */
	close(0);
	zero = open("/dev/null", O_RDONLY);
	EXPECT_EQ(0, zero);
	fd = receive(SIG, NULL, 0);
	EXPECT_LT(0, fd);
	EXPECT_TRUE(same_file(getpid(), fd, getpid(), self->fd));
}

/* Only the kernel makes signals of this code, and what user space makes carries nothing. */
TEST_F(sendfd, cannot_be_forged)
{
	siginfo_t info = { .si_signo = SIG, .si_code = SI_SENDFD };
	pid_t pid, me = getpid();
	int pidfd;

	expect(SIG);
	info.si_pid = 1;
	info.si_value.sival_int = self->fd;
	pid = fork();
	if (!pid) {
		if (!syscall(SYS_rt_sigqueueinfo, me, SIG, &info) || errno != EPERM)
			_exit(1);
		if (!syscall(SYS_rt_tgsigqueueinfo, me, me, SIG, &info) || errno != EPERM)
			_exit(2);
		pidfd = pidfd_open(me, 0);
		if (!syscall(SYS_pidfd_send_signal, pidfd, SIG, &info, 0) || errno != EPERM)
			_exit(3);
		info.si_code = SI_QUEUE;
		if (syscall(SYS_rt_sigqueueinfo, me, SIG, &info))
			_exit(4);
		_exit(0);
	}
	ASSERT_EQ(0, exit_status(pid));
	ASSERT_EQ(self->fd, receive(SIG, &info, 0));
	EXPECT_EQ(SI_QUEUE, info.si_code);
	EXPECT_EQ(-1, receive(SIG, NULL, 0));

	/* One may fool oneself, as with any other signal, but not the kernel. */
	info.si_code = SI_SENDFD;
	info.si_value.sival_ptr = (void *)-8L;
	ASSERT_EQ(0, syscall(SYS_rt_sigqueueinfo, me, SIG, &info));
	EXPECT_EQ(-8, receive(SIG, NULL, 0));
	EXPECT_EQ(self->fds, count_fds(me));
}

TEST_F(sendfd, ignoring_puts_what_is_queued)
{
	int fd;

	expect(SIG);
	fd = send_pipe(getpid(), SIG);
	ASSERT_LE(0, fd);
	signal(SIG, SIG_IGN);
	EXPECT_TRUE(hung_up(fd));
	EXPECT_FALSE(pending(SIG));
}

/* Nobody more is let in, and what has come is still there. */
TEST_F(sendfd, withdrawn)
{
	expect(SIG);
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	signal(SIG, SIG_DFL);
	EXPECT_EQ(ECONNREFUSED, try_sendfd(getpid(), SIG, self->fd));
	EXPECT_LE(0, receive(SIG, NULL, 0));
	EXPECT_EQ(-1, receive(SIG, NULL, 0));
}

TEST_F(sendfd, handler_that_is_not_told_gets_nothing)
{
	struct sigaction action = { .sa_handler = plain_handler };
	int fd;

	set_handler();
	block(SIG);
	fd = send_pipe(getpid(), SIG);
	ASSERT_LE(0, fd);
	sigaction(SIG, &action, NULL);
	unblock(SIG);
	EXPECT_TRUE(hung_up(fd));
}

/* The child has been sent something, and never takes it. */
static pid_t start_target(struct gate *go, char *const *argv)
{
	struct gate ready;
	pid_t pid;

	gate_init(&ready);
	gate_init(go);
	pid = fork();
	if (!pid) {
		expect(SIG);
		gate_open(&ready);
		gate_pass(go);
		if (argv)
			execv("/proc/self/exe", argv);
		_exit(0);
	}
	gate_pass(&ready);
	return pid;
}

TEST_F(sendfd, exit_puts_what_is_queued)
{
	struct gate go;
	int fd, how;
	pid_t pid;

	for (how = 0; how < 3; how++) {
		pid = start_target(&go, NULL);
		fd = send_pipe(pid, SIG);
		ASSERT_LE(0, fd);
		if (how)
			kill(pid, how == 1 ? SIGKILL : SIGABRT);
		else
			gate_open(&go);
		/* before anybody has waited for it */
		EXPECT_TRUE(hung_up(fd));
		EXPECT_EQ(ESRCH, try_sendfd(pid, SIG, self->fd));
		EXPECT_EQ(how ? 256 + (how == 1 ? SIGKILL : SIGABRT) : 0, exit_status(pid));
		close(fd);
	}
}

TEST_F(sendfd, exec_puts_what_is_queued_and_clears_the_consent)
{
	char *const argv[] = { "sendfd_test", "exec-expects", NULL };
	struct gate go;
	int fd, status;
	pid_t pid;

	pid = start_target(&go, argv);
	fd = send_pipe(pid, SIG);
	ASSERT_LE(0, fd);
	gate_open(&go);
	EXPECT_TRUE(hung_up(fd));
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	/* The mask is inherited. */
	EXPECT_TRUE(status_mask(pid, "SigBlk") & (1ULL << (SIG - 1)));
	EXPECT_EQ(ECONNREFUSED, try_sendfd(pid, SIG, self->fd));
	kill(pid, SIGCONT);
	EXPECT_EQ(0, exit_status(pid));
}

TEST_F(sendfd, fork_inherits_the_consent_and_nothing_else)
{
	struct gate ready, go;
	pid_t pid;
	int fd;

	expect(SIG);
	fd = send_pipe(getpid(), SIG);
	ASSERT_LE(0, fd);
	gate_init(&ready);
	gate_init(&go);
	pid = fork();
	if (!pid) {
		if (pending(SIG))
			_exit(1);
		gate_open(&ready);
		gate_pass(&go);
		_exit(receive(SIG, NULL, 0) >= 0 && receive(SIG, NULL, 0) < 0 ? 0 : 2);
	}
	gate_pass(&ready);
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	gate_open(&go);
	close(receive(SIG, NULL, 0));
	EXPECT_TRUE(hung_up(fd));
	EXPECT_EQ(0, exit_status(pid));
}

TEST_F(sendfd, in_flight)
{
	struct rlimit limit = { 20, 20 };
	struct gate ready, go;
	pid_t pid, sender;

	gate_init(&ready);
	gate_init(&go);
	pid = fork();
	if (!pid) {
		/* another user's: it is the sender who counts */
		expect(SIG);
		ASSERT_EQ(0, setresuid(54322, 54322, 54321));
		gate_open(&ready);
		gate_pass(&go);
		_exit(receive(SIG, NULL, 5) >= 0 ? 0 : 1);
	}
	gate_pass(&ready);
	sender = fork();
	if (!sender) {
		int i;

		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
		ASSERT_EQ(0, setresuid(54321, 54321, 54321));
		for (i = 0; i < 21; i++)
			ASSERT_EQ(0, try_sendfd(pid, SIG, self->fd));
		ASSERT_EQ(ETOOMANYREFS, try_sendfd(pid, SIG, self->fd));
		/* what was taken, or put, is not in flight any more */
		gate_open(&go);
		while (try_sendfd(pid, SIG, self->fd) != ESRCH)
			usleep(1000);
		expect(SIG);
		for (i = 0; i < 21; i++)
			ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
		ASSERT_EQ(ETOOMANYREFS, try_sendfd(getpid(), SIG, self->fd));
		ASSERT_LE(0, receive(SIG, NULL, 0));
		ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
		_exit(_metadata->exit_code);
	}
	EXPECT_EQ(0, exit_status(sender));
	EXPECT_EQ(0, exit_status(pid));
	/* Root may. */
	expect(SIG);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	for (sender = 0; sender < 30; sender++)
		EXPECT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
}

/* A queue that holds the descriptors by which it is read ends with its process. */
TEST_F(sendfd, no_cycle)
{
	int fd, sfd, pair[2];
	struct gate ready;
	sigset_t set;
	pid_t pid;

	gate_init(&ready);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	pid = fork();
	if (!pid) {
		expect(SIG);
		sigemptyset(&set);
		sigaddset(&set, SIG);
		sfd = signalfd(-1, &set, SFD_CLOEXEC);
		if (try_sendfd(getpid(), SIG, sfd) || try_sendfd(getpid(), SIG, pair[0]) ||
		    try_sendfd(getpid(), SIG, pidfd_open(getpid(), 0)))
			_exit(1);
		gate_open(&ready);
		_exit(0);
	}
	close(pair[0]);
	gate_pass(&ready);
	fd = pair[1];
	EXPECT_EQ(1, poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000));
	EXPECT_EQ(0, exit_status(pid));
}

struct receivers {
	int sum, last;
};

static void *taking_thread(void *arg)
{
	struct receivers *receivers = arg;
	struct timespec time = { .tv_sec = 10 };
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIG);
	while (__atomic_load_n(&receivers->sum, __ATOMIC_SEQ_CST) < receivers->last) {
		/* woken for one that another thread took first: EINTR */
		if (sigtimedwait(&set, &info, &time) != SIG)
			continue;
		if (info.si_value.sival_int < 0)
			return NULL;
		if (info.si_code == SI_SENDFD && close(info.si_value.sival_int))
			exit(KSFT_FAIL);
		__atomic_add_fetch(&receivers->sum, info.si_code == SI_SENDFD, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

TEST_F(sendfd, threads_share_the_work)
{
	struct receivers receivers = { .last = 500 };
	pthread_t threads[4];
	int i;

	expect(SIG);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, taking_thread, &receivers));
	for (i = 0; i < 500; i++)
		ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	while (__atomic_load_n(&receivers.sum, __ATOMIC_SEQ_CST) < 500)
		usleep(1000);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, sigqueue(getpid(), SIG, (union sigval){ .sival_int = -1 }));
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	EXPECT_EQ(500, receivers.sum);
	EXPECT_EQ(self->fds, count_fds(getpid()));
}

/* A worker takes no signals and may have no table. */
TEST_F(sendfd, kernel_workers_do_not_count)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 10000 };

	expect(SIG);
	if (syscall(SYS_io_uring_setup, 1, &params) < 0)
		SKIP(return, "no io_uring");
	EXPECT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	EXPECT_LE(0, receive(SIG, NULL, 5));
}

static pid_t start_tracee(int *fd)
{
	struct gate ready, go;
	int status;
	pid_t pid;

	gate_init(&ready);
	gate_init(&go);
	pid = fork();
	if (!pid) {
		set_handler();
		block(SIG);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		gate_open(&ready);
		raise(SIGSTOP);
		handled_fd = -3;
		unblock(SIG);
		if (handled_fd == -3) {
			handled_fd = receive(SIG, NULL, 0);
			if (handled_fd < 0)
				_exit(10);
		}
		_exit(handled_fd < 0 ? 11 : 12);
	}
	gate_pass(&ready);
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP)
		exit(KSFT_FAIL);
	*fd = send_pipe(pid, SIG);
	return pid;
}

TEST_F(sendfd, ptrace)
{
	enum { SWALLOWS, LETS_THROUGH, BLOCKS } how;
	struct __ptrace_peeksiginfo_args args = { .flags = PTRACE_PEEKSIGINFO_SHARED, .nr = 1 };
	unsigned long long mask = -1ULL;
	siginfo_t info;
	int fd, status;
	pid_t pid;

	for (how = SWALLOWS; how <= BLOCKS; how++) {
		pid = start_tracee(&fd);
		ASSERT_LE(0, fd);

		/* In the queue it has no number, and a checkpoint no file. */
		ASSERT_EQ(1, ptrace(PTRACE_PEEKSIGINFO, pid, &args, &info));
		EXPECT_EQ(SIG, info.si_signo);
		EXPECT_EQ(SI_SENDFD, info.si_code);
		EXPECT_EQ(getpid(), info.si_pid);
		EXPECT_EQ(-1, info.si_value.sival_int);
		EXPECT_EQ(0, (unsigned long)info.si_value.sival_ptr >> 32);

		ptrace(PTRACE_CONT, pid, 0, 0);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIG);
		ASSERT_EQ(0, ptrace(PTRACE_GETSIGINFO, pid, 0, &info));
		EXPECT_EQ(-1, info.si_value.sival_int);

		if (how == BLOCKS)
			ASSERT_EQ(0, ptrace(PTRACE_SETSIGMASK, pid, 8, &mask));
		ptrace(PTRACE_CONT, pid, 0, how == SWALLOWS ? 0 : SIG);
		if (how == SWALLOWS) {
			/* gone, and nothing left in the tracee's table */
			EXPECT_TRUE(hung_up(fd));
			EXPECT_EQ(10, exit_status(pid));
		} else {
			EXPECT_EQ(12, exit_status(pid));
		}
		close(fd);
	}
}

TEST_F(sendfd, pidfd_asks)
{
	struct gate ready, go;
	pid_t pid, child;
	int pidfd, me;

	if (!by_pidfd)
		SKIP(return, "the other call has no flags");
	me = pidfd_open(getpid(), 0);
	EXPECT_EQ(ECONNREFUSED, try_pidfd_sendfd(me, SIG, -1, PIDFD_SENDFD_ASK));
	expect(SIG);
	EXPECT_EQ(0, try_pidfd_sendfd(me, SIG, -1, PIDFD_SENDFD_ASK));
	EXPECT_EQ(0, try_pidfd_sendfd(me, SIG, self->fd, PIDFD_SENDFD_ASK));
	EXPECT_FALSE(pending(SIG));
	EXPECT_EQ(EBADF, try_pidfd_sendfd(me, SIG, -1, 0));
	EXPECT_EQ(EBADF, try_pidfd_sendfd(self->fd, SIG, self->fd, 0));
	EXPECT_EQ(EBADF, try_pidfd_sendfd(-1, SIG, self->fd, 0));
	EXPECT_EQ(EINVAL, try_pidfd_sendfd(me, SIG, self->fd, 2));
	EXPECT_EQ(EINVAL, try_pidfd_sendfd(me, SIG, self->fd, ~0U));
	EXPECT_EQ(EINVAL, try_pidfd_sendfd(me, SIGTERM, self->fd, PIDFD_SENDFD_ASK));
	child = fork();
	if (!child) {
		ASSERT_EQ(0, setresuid(OTHER_UID, OTHER_UID, OTHER_UID));
		EXPECT_EQ(EPERM, try_pidfd_sendfd(me, SIG, -1, PIDFD_SENDFD_ASK));
		_exit(_metadata->exit_code);
	}
	EXPECT_EQ(0, exit_status(child));

	/* What it refers to never becomes another process. */
	gate_init(&ready);
	gate_init(&go);
	pid = fork();
	if (!pid) {
		gate_open(&ready);
		gate_pass(&go);
		_exit(0);
	}
	gate_pass(&ready);
	pidfd = pidfd_open(pid, 0);
	ASSERT_LE(0, pidfd);
	EXPECT_EQ(0, try_pidfd_sendfd(pidfd, SIG, self->fd, 0));
	gate_open(&go);
	ASSERT_EQ(0, waitid(P_PID, pid, NULL, WEXITED | WNOWAIT));
	EXPECT_EQ(ESRCH, try_pidfd_sendfd(pidfd, SIG, -1, PIDFD_SENDFD_ASK));
	EXPECT_EQ(0, exit_status(pid));
	EXPECT_EQ(ESRCH, try_pidfd_sendfd(pidfd, SIG, self->fd, 0));
}

TEST_F(sendfd, pidfd_from_outside_the_namespace)
{
	pid_t pid;
	int me;

	if (!by_pidfd)
		SKIP(return, "the other call has no pidfd");
	expect(SIG);
	me = pidfd_open(getpid(), 0);
	if (unshare(CLONE_NEWPID))
		SKIP(return, "no pid namespaces");
	pid = fork();
	if (!pid)
		_exit(try_pidfd_sendfd(me, SIG, self->fd, 0));
	EXPECT_EQ(EINVAL, exit_status(pid));
}

/* Yama is about what one can do to a process with ptrace(), which this is not. */
TEST_F(sendfd, yama)
{
	const char *path = "/proc/sys/kernel/yama/ptrace_scope";
	int fd, scope, before = read_number(path);
	pid_t pid;
	char text;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (before < 0 || fd < 0)
		SKIP(return, "no Yama");
	expect(SIG);
	/* 3 stays until the next boot; the test can be started with it. */
	for (scope = before; scope < (before == 3 ? 4 : 3); scope++) {
		text = '0' + scope;
		if (before != 3)
			ASSERT_EQ(1, pwrite(fd, &text, 1, 0));
		pid = fork();
		if (!pid) {
			ASSERT_EQ(0, setresuid(OTHER_UID, OTHER_UID, OTHER_UID));
			pid = fork();
			if (!pid) {
				expect(SIG);
				raise(SIGSTOP);
				_exit(receive(SIG, NULL, 5) >= 0 ? 0 : 1);
			}
			waitpid(pid, NULL, WUNTRACED);
			/* two of one user that are not each other's parents */
			if (!fork())
				_exit(try_sendfd(pid, SIG, self->fd));
			kill(pid, SIGCONT);
			_exit(exit_status(pid) || exit_status(-1));
		}
		EXPECT_EQ(0, exit_status(pid));
	}
	text = '0' + before;
	if (before != 3)
		ASSERT_EQ(1, pwrite(fd, &text, 1, 0));
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* A module says who may have what, and it is the receiver that is asked about. */
TEST_F(sendfd, smack)
{
	struct gate ready, go;
	siginfo_t info;
	pid_t pid;
	int fd;

	if (write_file("/proc/self/attr/smack/current", "sender"))
		SKIP(return, "no Smack");
	fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fsetxattr(fd, "security.SMACK64", "secret", 6, 0));

	gate_init(&ready);
	gate_init(&go);
	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, write_file("/proc/self/attr/smack/current", "receiver"));
		/* CAP_MAC_OVERRIDE goes with the user */
		ASSERT_EQ(0, setresuid(OTHER_UID, OTHER_UID, OTHER_UID));
		expect(SIG);
		gate_open(&ready);
		gate_pass(&go);
		self->fds = count_fds(getpid());
		EXPECT_EQ(-1, receive(SIG, &info, 5));
		EXPECT_EQ(SI_SENDFD, info.si_code);
		EXPECT_EQ(EACCES, info.si_errno);
		EXPECT_EQ(self->fds, count_fds(getpid()));
		/* the one after it is another matter */
		EXPECT_LE(0, receive(SIG, &info, 5));
		EXPECT_EQ(0, info.si_errno);
		_exit(_metadata->exit_code);
	}
	gate_pass(&ready);
	EXPECT_EQ(0, try_sendfd(pid, SIG, fd));
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fds >= 0 ? open("/dev/null", O_RDONLY) : -1));
	gate_open(&go);
	EXPECT_EQ(0, exit_status(pid));
}

#ifdef __x86_64__
/* A system call of the 32-bit ABI, whose pointers have to be below 4 GiB */
static long call_32(long number, long a, long b, long c, long d)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a"(ret)
			 : "0"(number), "b"(a), "c"(b), "d"(c), "S"(d)
			 : "memory", "r8", "r9", "r10", "r11");
	return ret;
}

TEST_F(sendfd, compat)
{
	/* the kernel's compat_siginfo: three ints, then si_pid, si_uid, si_value */
	struct {
		unsigned long long set;
		long long time[2];
		int info[32];
	} *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, low);
	pid = fork();
	if (!pid)
		_exit(call_32(20 /* getpid */, 0, 0, 0, 0) == getpid() ? 0 : 1);
	if (exit_status(pid))
		SKIP(return, "no 32-bit ABI");
	expect(SIG);
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	low->set = 1ULL << (SIG - 1);
	low->time[0] = 5;
	/* the number of rt_sigtimedwait_time64 */
	ASSERT_EQ(SIG, call_32(421, (long)&low->set, (long)low->info, (long)low->time, 8));
	EXPECT_EQ(SIG, low->info[0]);
	EXPECT_EQ(SI_SENDFD, low->info[2]);
	EXPECT_EQ(getpid(), low->info[3]);
	EXPECT_EQ(0, low->info[4]);
	EXPECT_TRUE(same_file(getpid(), low->info[5], getpid(), self->fd));
	/* It can receive, but there is no call to send. */
	EXPECT_EQ(-ENOSYS, call_32(nr, getpid(), SIG, self->fd, 0));
}

TEST_F(sendfd, x32)
{
	long bit = 0x40000000;

	if (syscall(SYS_getpid | bit) != getpid())
		SKIP(return, "no x32 ABI");
	expect(SIG);
	EXPECT_EQ(0, syscall(nr | bit, getpid(), SIG, self->fd));
	EXPECT_TRUE(same_file(getpid(), receive(SIG, NULL, 5), getpid(), self->fd));
}
#endif

