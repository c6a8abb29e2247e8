/* No descriptor more than are open now, or one */
static void limit_files(int extra)
{
	struct rlimit limit = { .rlim_max = 1024 };
	int fd = dup(2);

	close(fd);
	limit.rlim_cur = fd + extra;
	if (fd < 0 || setrlimit(RLIMIT_NOFILE, &limit))
		exit(KSFT_FAIL);
}

static void raise_limit(void)
{
	struct rlimit limit = { 1024, 1024 };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		exit(KSFT_FAIL);
}

TEST_F(sendfd, emfile_sigtimedwait)
{
	struct timespec moment = { .tv_nsec = 1000000 };
	sigset_t set;
	int i;

	expect(SIG);
	sigemptyset(&set);
	sigaddset(&set, SIG);
	limit_files(1);
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	limit_files(0);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-1, sigtimedwait(&set, NULL, i ? &moment : NULL));
		EXPECT_EQ(EMFILE, errno);
		EXPECT_TRUE(pending(SIG));
	}
	raise_limit();
	EXPECT_LE(0, receive(SIG, NULL, 0));
	EXPECT_FALSE(pending(SIG));
	EXPECT_EQ(self->fds + 1, count_fds(getpid()));
}

TEST_F(sendfd, emfile_while_waiting)
{
	struct gate ready, go;
	siginfo_t info;
	sigset_t set;
	pid_t pid;

	gate_init(&ready);
	gate_init(&go);
	pid = fork();
	if (!pid) {
		expect(SIG);
		sigemptyset(&set);
		sigaddset(&set, SIG);
		limit_files(0);
		gate_open(&ready);
		if (sigtimedwait(&set, &info, NULL) != -1 || errno != EMFILE)
			_exit(1);
		/* Other signals do not wait behind it. */
		block(SIG - 1);
		sigaddset(&set, SIG - 1);
		sigqueue(getpid(), SIG - 1, (union sigval){ .sival_int = 5 });
		if (sigtimedwait(&set, &info, NULL) != SIG - 1 || info.si_value.sival_int != 5)
			_exit(2);
		if (sigtimedwait(&set, &info, NULL) != -1 || errno != EMFILE)
			_exit(3);
		raise_limit();
		_exit(receive(SIG, NULL, 0) >= 0 ? 0 : 4);
	}
	gate_pass(&ready);
	wait_until_waiting(pid, SIG);
	if (by_pidfd) {
		EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	} else {
		EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	}
	EXPECT_EQ(0, exit_status(pid));
}

TEST_F(sendfd, emfile_signalfd)
{
	struct signalfd_siginfo info[4];
	struct pollfd poll_fd;
	sigset_t set;

	expect(SIG);
	sigemptyset(&set);
	sigaddset(&set, SIG);
	poll_fd.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	poll_fd.events = POLLIN;
	ASSERT_LE(0, poll_fd.fd);
	limit_files(1);
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	/* as many as there is room for, and only then an error */
	EXPECT_EQ(sizeof(*info), read(poll_fd.fd, info, sizeof(info)));
	EXPECT_LE(0, info[0].ssi_int);
	EXPECT_EQ(-1, read(poll_fd.fd, info, sizeof(info)));
	EXPECT_EQ(EMFILE, errno);
	EXPECT_EQ(1, poll(&poll_fd, 1, 0));
	raise_limit();
	EXPECT_EQ(sizeof(*info), read(poll_fd.fd, info, sizeof(info)));
	EXPECT_LE(0, info[0].ssi_int);
	EXPECT_EQ(-1, read(poll_fd.fd, info, sizeof(info)));
	EXPECT_EQ(EAGAIN, errno);
}

TEST_F(sendfd, emfile_handler)
{
	int fd;

	set_handler();
	block(SIG);
	fd = send_pipe(getpid(), SIG);
	ASSERT_LE(0, fd);
	limit_files(0);
	unblock(SIG);
	/* It cannot be told later: it is told that this one is lost. */
	EXPECT_EQ(-1, handled_fd);
	EXPECT_EQ(EMFILE, handled_errno);
	EXPECT_TRUE(hung_up(fd));
	raise_limit();
	ASSERT_EQ(0, try_sendfd(getpid(), SIG, self->fd));
	if (!by_pidfd)
		EXPECT_TRUE(same_file(getpid(), handled_fd, getpid(), self->fd));
	EXPECT_EQ(0, handled_errno);
}

