static int sharing_target(void *arg)
{
	struct gate *gates = arg;

	expect(SIG);
	gate_open(&gates[0]);
	gate_pass(&gates[1]);
	return fcntl(receive(SIG, NULL, 5), F_GETFD) == FD_CLOEXEC ? 0 : 2;
}

TEST_F(sendfd, shared_table)
{
	static long double stack[4096];	/* for its alignment */
	struct gate gates[2];
	pid_t pid;

	gate_init(&gates[0]);
	gate_init(&gates[1]);
	self->fds = count_fds(getpid());

	pid = clone(sharing_target, stack + 4096, CLONE_FILES | SIGCHLD, gates);
	ASSERT_LT(0, pid);
	gate_pass(&gates[0]);
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	EXPECT_EQ(self->fds, count_fds(getpid()));
	gate_open(&gates[1]);
	EXPECT_EQ(0, exit_status(pid));
	EXPECT_EQ(self->fds + 1, count_fds(getpid()));
}

static void *unsharing_thread(void *arg)
{
	struct gate *gates = arg;
	int fd;

	if (unshare(CLONE_FILES))
		_exit(1);
	gate_open(&gates[0]);
	fd = receive(SIG, NULL, 10);
	/* Who takes it has it. */
	_exit(fcntl(fd, F_GETFD) == FD_CLOEXEC ? 0 : 2);
}

TEST_F(sendfd, thread_with_a_table_of_its_own)
{
	struct gate gates[1];
	pthread_t id;
	pid_t pid;

	gate_init(&gates[0]);
	pid = fork();
	if (!pid) {
		expect(SIG);
		pthread_create(&id, NULL, unsharing_thread, gates);
		for (;;)
			pause();
	}
	gate_pass(&gates[0]);
	EXPECT_EQ(0, try_sendfd(pid, SIG, self->fd));
	EXPECT_EQ(0, exit_status(pid));
}

