#ifdef CONFIG_SENDFD
/*
 * Has the process of @p said by sigaction() that it expects files with @sig?
 *
 * A handler has to be one that is told the number, and stays. Without a handler
 * the signal is for sigtimedwait() or signalfd: any thread that does not block
 * it would die of it. sigtimedwait() unblocks what it waits for, and keeps what
 * was blocked before in ->real_blocked. Workers take no signals.
 */
static bool sig_expects_file(int sig, struct task_struct *p)
{
	struct sigaction *sa = &p->sighand->action[sig - 1].sa;
	struct task_struct *t;

	lockdep_assert_held(&p->sighand->siglock);

	if (!(sa->sa_flags & SA_EXPECTFD) || sa->sa_handler == SIG_IGN)
		return false;
	if (sa->sa_handler != SIG_DFL)
		return (sa->sa_flags & (SA_SIGINFO | SA_RESETHAND)) == SA_SIGINFO;

	for_each_thread(p, t) {
		if (!(t->flags & (PF_EXITING | PF_USER_WORKER)) &&
		    !sigismember(&t->blocked, sig) &&
		    !sigismember(&t->real_blocked, sig))
			return false;
	}
	return true;
}

/* SCM_RIGHTS has the same rule. */
static bool too_many_sigqueue_files(void)
{
	return atomic_long_read(&current_user()->sigqueue_files) > rlimit(RLIMIT_NOFILE) &&
	       !capable(CAP_SYS_RESOURCE) && !capable(CAP_SYS_ADMIN);
}

static int sendfd_locked(struct task_struct *t, int sig, struct file *file, bool too_many)
{
	struct sigqueue *q;

	lockdep_assert_held(&t->sighand->siglock);

	/* On its way out it takes no more signals. */
	if (t->signal->flags & SIGNAL_GROUP_EXIT)
		return -ESRCH;
	if (!sig_expects_file(sig, t))
		return -ECONNREFUSED;
	if (!file)
		return 0;
	if (too_many)
		return -ETOOMANYREFS;
	/* An init that does not block it would be spared by dropping it. */
	if (!prepare_signal(sig, t, false))
		return -ECONNREFUSED;

	q = SIGQUEUE_ALLOC;
	if (!q)
		return -EAGAIN;

	clear_siginfo(&q->info);
	q->info.si_signo = sig;
	q->info.si_code = SI_SENDFD;
	q->info.si_pid = task_tgid_nr_ns(current, task_active_pid_ns(t));
	q->info.si_uid = from_kuid_munged(task_cred_xxx(t, user_ns), current_uid());
	q->info.si_int = -1;
	q->file = get_file(file);
	q->sender = get_uid(current_user());
	atomic_long_inc(&q->sender->sigqueue_files);

	queue_sigqueue(q, t);
	trace_signal_generate(sig, &q->info, t, true, TRACE_SIGNAL_DELIVERED);
	return 0;
}

/*
 * Queue @sig for the process @pid, and @file with it; or without @file, only say
 * what would come of it. Never sleeps.
 */
static int do_sendfd(struct pid *pid, int sig, struct file *file)
{
	bool too_many = file && too_many_sigqueue_files();
	struct task_struct *t;
	unsigned long flags;
	bool no_exec;
	int ret;

	guard(rcu)();

	t = pid_task(pid, PIDTYPE_TGID);
	if (!t)
		return -ESRCH;

	/*
	 * Who gets the file has to be who was asked about: not a program with
	 * more privileges that is about to take its place. One that is on its
	 * way has not said yet that it expects anything.
	 */
	no_exec = down_read_trylock(&t->signal->exec_update_lock);
	/* SEND_SIG_NOINFO: what is from the kernel is not checked. */
	ret = check_kill_permission(sig, SEND_SIG_NOINFO, t);
	if (!ret && !no_exec)
		ret = -ECONNREFUSED;
	if (!ret) {
		if (lock_task_sighand(t, &flags)) {
			ret = sendfd_locked(t, sig, file, too_many);
			unlock_task_sighand(t, &flags);
		} else {
			/* It is gone, or another thread took its place to exec. */
			ret = pid_task(pid, PIDTYPE_TGID) ? -ECONNREFUSED : -ESRCH;
		}
	}
	if (no_exec)
		up_read(&t->signal->exec_update_lock);
	return ret;
}

static bool valid_sendfd_signal(int sig)
{
	return sig >= SIGRTMIN && valid_signal(sig);
}

/**
 *  sys_sendfd - send a file to a process
 *  @pid: the process
 *  @sig: the real-time signal that carries it
 *  @fd: a descriptor of the file
 *
 *  When the process takes the signal, the file becomes a descriptor of its own,
 *  close-on-exec, and the signal's payload the number.
 *  See Documentation/userspace-api/sendfd.rst.
 */
SYSCALL_DEFINE3(sendfd, pid_t, pid, int, sig, unsigned int, fd)
{
	if (pid <= 0 || !valid_sendfd_signal(sig))
		return -EINVAL;

	CLASS(fd_raw, f)(fd);
	if (fd_empty(f))
		return -EBADF;

	guard(rcu)();
	return do_sendfd(find_vpid(pid), sig, fd_file(f));
}

/**
 *  sys_pidfd_sendfd - send a file to the process that a pidfd refers to
 *  @pidfd: the process
 *  @sig: the real-time signal that carries it
 *  @fd: a descriptor of the file
 *  @flags: PIDFD_SENDFD_ASK only asks whether a file would be accepted, whatever
 *	    @fd is
 */
SYSCALL_DEFINE4(pidfd_sendfd, int, pidfd, int, sig, unsigned int, fd,
		unsigned int, flags)
{
	struct pid *pid;

	if ((flags & ~PIDFD_SENDFD_ASK) || !valid_sendfd_signal(sig))
		return -EINVAL;

	CLASS(fd, p)(pidfd);
	if (fd_empty(p))
		return -EBADF;
	pid = pidfd_to_pid(fd_file(p));
	if (IS_ERR(pid))
		return PTR_ERR(pid);
	if (!access_pidfd_pidns(pid))
		return -EINVAL;
	if (flags & PIDFD_SENDFD_ASK)
		return do_sendfd(pid, sig, NULL);

	CLASS(fd_raw, f)(fd);
	if (fd_empty(f))
		return -EBADF;
	return do_sendfd(pid, sig, fd_file(f));
}
#endif /* CONFIG_SENDFD */

