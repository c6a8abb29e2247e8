#!/usr/bin/env python3
"""gen.py TREE 6.12|7.3: resets TREE to base and commits the series, one stage at a time."""
import re, subprocess, sys, os
from pathlib import Path
tree, version = Path(sys.argv[1]), sys.argv[2]
new = version == "7.3"
here = Path(__file__).parent

def git(*a, **k):
    return subprocess.run(["git", *a], cwd=tree, check=True, **k)

def sub(path, old, text, count=1, where="replace"):
    p = tree / path
    s = p.read_text()
    if s.count(old) != count:
        sys.exit(f"{version} {path}: {s.count(old)} times, not {count}: {old!r}")
    if where == "after":
        text = old + text
    elif where == "before":
        text = text + old
    p.write_text(s.replace(old, text))

def after(path, old, text): sub(path, old, text, where="after")
def before(path, old, text): sub(path, old, text, where="before")

def commit(number, paths=()):
    git("add", "-f", "-u")
    for p in paths:
        git("add", "-f", p)
    git("commit", "-q", "-F", str(here / f"msg{number}"))

def copy(name, path):
    p = tree / path
    p.parent.mkdir(parents=True, exist_ok=True)
    p.write_text((here / name).read_text())

git("reset", "-q", "--hard", "base")

# 1: documentation
copy("sendfd.rst", "Documentation/userspace-api/sendfd.rst")
after("Documentation/userspace-api/index.rst", "   mseal\n   rseq\n" if new else "   mseal\n", "   sendfd\n")
before("MAINTAINERS", "SENSABLE PHANTOM\n", """SENDFD SYSTEM CALLS
M:	Seed d5a3e81e maintainers <maintainers@users.noreply.r-seed-d5a3e81e.example>
L:	linux-fsdevel@vger.kernel.org
L:	linux-api@vger.kernel.org
S:	Maintained
F:	Documentation/userspace-api/sendfd.rst

""")
commit(1, ["Documentation/userspace-api/sendfd.rst"])

# 2: what user space sees of it
before("include/uapi/asm-generic/signal-defs.h", "/* 0x00010000 used on mips */\n",
       "#define SA_EXPECTFD	0x00001000\n")
sub("include/uapi/asm-generic/signal-defs.h", """ * SA_EXPOSE_TAGBITS exposes""", """ * SA_EXPECTFD permits others to send files with this signal, see sendfd(2).
 * SA_EXPOSE_TAGBITS exposes""") if " * SA_EXPOSE_TAGBITS exposes" in (tree/"include/uapi/asm-generic/signal-defs.h").read_text() else None
after("include/uapi/asm-generic/siginfo.h", "#define SI_KERNEL	0x80		/* sent by the kernel from somewhere */\n",
      "#define SI_SENDFD	0x81		/* sent by sendfd, pidfd_sendfd */\n")
sub("include/linux/signal_types.h", "	 SA_NODEFER | SA_RESETHAND | SA_EXPOSE_TAGBITS | __ARCH_UAPI_SA_FLAGS)",
    "	 SA_NODEFER | SA_RESETHAND | SA_EXPOSE_TAGBITS | SA_EXPECTFD_FLAG |     \\\n	 __ARCH_UAPI_SA_FLAGS)")
before("include/linux/signal_types.h", "#define UAPI_SA_FLAGS ", """/* Without the system calls it is cleared, as an unknown flag is. */
#ifdef CONFIG_SIGQUEUE_FILE
#define SA_EXPECTFD_FLAG	SA_EXPECTFD
#else
#define SA_EXPECTFD_FLAG	0
#endif

""")
S = "kernel/signal.c"
sub(S, """		else if (si_code == SI_SIGIO)
			layout = SIL_POLL;
		else if (si_code < 0)
""", """		else if (si_code == SI_SIGIO)
			layout = SIL_POLL;
		else if (si_code < 0 || si_code == SI_SENDFD)
""")
before("init/Kconfig", "config RSEQ\n", """config SIGQUEUE_FILE
	bool

""")
commit(2)

# 3: a queued signal may carry a file
sub("include/linux/signal_types.h", "struct ucounts;\n", "struct file;\nstruct ucounts;\nstruct user_struct;\n")
sub("include/linux/signal_types.h", "	struct ucounts *ucounts;\n};", """	struct ucounts *ucounts;
#ifdef CONFIG_SIGQUEUE_FILE
	struct file *file;		/* for the one who takes the signal */
	struct user_struct *sender;	/* whose file in flight it is */
#endif
};""")
after("include/linux/sched/user.h", "	unsigned long unix_inflight;	/* How many files in flight in unix sockets */\n",
      "#ifdef CONFIG_SIGQUEUE_FILE\n	atomic_long_t sigqueue_files;	/* How many files in flight in queued signals */\n#endif\n")
H = "include/linux/sched/signal.h"
sub(H, "extern int dequeue_signal(sigset_t *mask, kernel_siginfo_t *info, enum pid_type *type);\n",
    """int dequeue_signal(sigset_t *mask, kernel_siginfo_t *info, enum pid_type *type,
		   struct sigqueue **carrier);
int dequeue_signal_sync(sigset_t *mask, kernel_siginfo_t *info);
#ifdef CONFIG_SIGQUEUE_FILE
void flush_sigqueue_files(void);
#else
static inline void flush_sigqueue_files(void) { }
#endif
""")
sub(H, "	ret = dequeue_signal(&task->blocked, &__info, &__type);\n",
    "	ret = dequeue_signal(&task->blocked, &__info, &__type, NULL);\n")
sub("fs/exec.c", "	flush_signal_handlers(me, 0);\n", "	flush_signal_handlers(me, 0);\n	flush_sigqueue_files();\n")
sub("kernel/exit.c", """		if (tsk->mm)
			setmax_mm_hiwater_rss(&tsk->signal->maxrss, tsk->mm);
	}
""", """		flush_sigqueue_files();
		if (tsk->mm)
			setmax_mm_hiwater_rss(&tsk->signal->maxrss, tsk->mm);
	}
""")
sub("fs/signalfd.c", "	enum pid_type type;\n	DECLARE_WAITQUEUE", "	DECLARE_WAITQUEUE")
sub("fs/signalfd.c", "dequeue_signal(&sigmask, info, &type)", "dequeue_signal_sync(&sigmask, info)", count=2)

after(S, "#include <linux/fs.h>\n", "#include <linux/file.h>\n") if "#include <linux/file.h>\n" not in (tree / S).read_text() else None
after(S, "#include <linux/cgroup.h>\n", "#include <linux/security.h>\n") if "#include <linux/security.h>" not in (tree / S).read_text() else None
before(S, "#define CREATE_TRACE_POINTS\n", "#include <net/sock.h>\n\n") if "net/sock.h" not in (tree / S).read_text() else None
HELPERS = """#ifdef CONFIG_SIGQUEUE_FILE
static bool sigqueue_carries(const struct sigqueue *q)
{
	return q->file;
}

/* The caller gets the reference, and the file is no longer in flight. */
static struct file *sigqueue_take_file(struct sigqueue *q)
{
	struct file *file = q->file;

	q->file = NULL;
	atomic_long_dec(&q->sender->sigqueue_files);
	free_uid(q->sender);
	return file;
}

static void sigqueue_init_file(struct sigqueue *q)
{
	q->file = NULL;
}
#else
static bool sigqueue_carries(const struct sigqueue *q)
{
	return false;
}

static struct file *sigqueue_take_file(struct sigqueue *q)
{
	return NULL;
}

static void sigqueue_init_file(struct sigqueue *q)
{
}
#endif

"""
if new:
    before(S, "static void __sigqueue_init(struct sigqueue *q,", HELPERS)
    sub(S, "	q->ucounts = ucounts;\n}\n", "	q->ucounts = ucounts;\n	sigqueue_init_file(q);\n}\n")
else:
    before(S, "/*\n * allocate a new signal queue record\n", HELPERS)
    sub(S, "		q->ucounts = ucounts;\n	}\n", "		q->ucounts = ucounts;\n		sigqueue_init_file(q);\n	}\n")
sub(S, """		q->ucounts = NULL;
	}
	kmem_cache_free(sigqueue_cachep, q);
""", """		q->ucounts = NULL;
	}
	/* The last reference goes by task_work, so locks do not matter here. */
	if (unlikely(sigqueue_carries(q)))
		fput(sigqueue_take_file(q));
	kmem_cache_free(sigqueue_cachep, q);
""")
if new:
    sub(S, """static void collect_signal(int sig, struct sigpending *list, kernel_siginfo_t *info,
			   struct sigqueue **timer_sigq)
""", """static void collect_signal(int sig, struct sigpending *list, kernel_siginfo_t *info,
			   struct sigqueue **timer_sigq, struct sigqueue **carrier)
""")
    sub(S, """			*timer_sigq = first;
		else
			__sigqueue_free(first);
""", """			*timer_sigq = first;
		else if (unlikely(sigqueue_carries(first) && carrier))
			*carrier = first;
		else
			__sigqueue_free(first);
""")
    sub(S, """			    kernel_siginfo_t *info, struct sigqueue **timer_sigq)
{
	int sig = next_signal(pending, mask);

	if (sig)
		collect_signal(sig, pending, info, timer_sigq);
""", """			    kernel_siginfo_t *info, struct sigqueue **timer_sigq,
			    struct sigqueue **carrier)
{
	int sig = next_signal(pending, mask);

	if (sig)
		collect_signal(sig, pending, info, timer_sigq, carrier);
""")
    sub(S, "	signr = __dequeue_signal(&tsk->pending, mask, info, &timer_sigq);\n",
        "	signr = __dequeue_signal(&tsk->pending, mask, info, &timer_sigq, carrier);\n")
    sub(S, "					 mask, info, &timer_sigq);\n", "					 mask, info, &timer_sigq, carrier);\n")
else:
    sub(S, """			   bool *resched_timer)
{
	struct sigqueue *q, *first = NULL;
""", """			   bool *resched_timer, struct sigqueue **carrier)
{
	struct sigqueue *q, *first = NULL;
""")
    sub(S, """			(info->si_sys_private);

		__sigqueue_free(first);
""", """			(info->si_sys_private);

		if (unlikely(sigqueue_carries(first) && carrier))
			*carrier = first;
		else
			__sigqueue_free(first);
""")
    sub(S, """			kernel_siginfo_t *info, bool *resched_timer)
{
	int sig = next_signal(pending, mask);

	if (sig)
		collect_signal(sig, pending, info, resched_timer);
""", """			kernel_siginfo_t *info, bool *resched_timer,
			struct sigqueue **carrier)
{
	int sig = next_signal(pending, mask);

	if (sig)
		collect_signal(sig, pending, info, resched_timer, carrier);
""")
    sub(S, "	signr = __dequeue_signal(&tsk->pending, mask, info, &resched_timer);\n",
        "	signr = __dequeue_signal(&tsk->pending, mask, info, &resched_timer, carrier);\n")
    sub(S, "					 mask, info, &resched_timer);\n", "					 mask, info, &resched_timer, carrier);\n")
sub(S, """ * caller provided siginfo and return the signal number. Otherwise return
 * 0.
 */
int dequeue_signal(sigset_t *mask, kernel_siginfo_t *info, enum pid_type *type)
""", """ * caller provided siginfo and return the signal number. Otherwise return
 * 0. If the signal carries a file, *@carrier becomes the caller's, who has it
 * installed by receive_sigqueue_file() or lets it go by __sigqueue_free().
 */
int dequeue_signal(sigset_t *mask, kernel_siginfo_t *info, enum pid_type *type,
		   struct sigqueue **carrier)
""")
after(S, "EXPORT_SYMBOL_GPL(dequeue_signal);\n", """
/*
 * Make the file that @q carried a descriptor of current, close-on-exec, and @info
 * say which: @fd if that is reserved, else a new one. What the security modules
 * do not let current have, or what has no room, is put, and @info says -1 and
 * why. Consumes @q and @fd.
 */
static void receive_sigqueue_file(struct sigqueue *q, kernel_siginfo_t *info, int fd)
{
	struct file *file = sigqueue_take_file(q);
	int error = security_file_receive(file);

	__sigqueue_free(q);

	if (!error && fd < 0) {
		fd = get_unused_fd_flags(O_CLOEXEC);
		error = min(fd, 0);
	}
	if (error) {
		if (fd >= 0)
			put_unused_fd(fd);
		info->si_errno = -error;
		fput(file);
		return;
	}
	info->si_int = fd;
	__receive_sock(file);
	fd_install(fd, file);
}

/* Does what dequeue_signal() would take next carry a file? */
static bool next_signal_carries(struct task_struct *tsk, sigset_t *mask)
{
	struct sigpending *pending = &tsk->signal->shared_pending;
	int sig = next_signal(pending, mask);
	struct sigqueue *q;

	/* Only real-time signals do, and only those sent to a process. */
	if (sig < SIGRTMIN || next_signal(&tsk->pending, mask))
		return false;

	list_for_each_entry(q, &pending->list, list) {
		if (q->info.si_signo == sig)
			return sigqueue_carries(q);
	}
	return false;
}

/*
 * dequeue_signal() for system calls that return the signal, and so can fail: if
 * there is no descriptor for the file that the signal carries, it stays queued
 * and the error is returned. The number is therefore reserved first.
 *
 * Lets go of siglock meanwhile, and may sleep if there is a file.
 */
int dequeue_signal_sync(sigset_t *mask, kernel_siginfo_t *info)
	__releases(&current->sighand->siglock)
	__acquires(&current->sighand->siglock)
{
	struct sighand_struct *sighand = current->sighand;
	struct sigqueue *carrier = NULL;
	enum pid_type type;
	int sig, fd = -1;

	lockdep_assert_held(&sighand->siglock);

	if (unlikely(next_signal_carries(current, mask))) {
		spin_unlock_irq(&sighand->siglock);
		__set_current_state(TASK_RUNNING);
		fd = get_unused_fd_flags(O_CLOEXEC);
		spin_lock_irq(&sighand->siglock);
		if (fd < 0)
			return fd;
	}

	/* Somebody else may have taken it; without @fd there was none. */
	sig = dequeue_signal(mask, info, &type, &carrier);
	if (unlikely(fd >= 0)) {
		spin_unlock_irq(&sighand->siglock);
		if (carrier)
			receive_sigqueue_file(carrier, info, fd);
		else
			put_unused_fd(fd);
		spin_lock_irq(&sighand->siglock);
	}
	return sig;
}

#ifdef CONFIG_SIGQUEUE_FILE
/*
 * The program that expected these files is being replaced, or current is the
 * last thread of its process: their signals go with them.
 */
void flush_sigqueue_files(void)
{
	struct sigpending *pending = &current->signal->shared_pending;
	sigset_t signal, retain;
	struct sigqueue *q, *n;

	sigemptyset(&retain);

	spin_lock_irq(&current->sighand->siglock);
	signal = pending->signal;
	list_for_each_entry_safe(q, n, &pending->list, list) {
		if (sigqueue_carries(q)) {
			sigdelset(&signal, q->info.si_signo);
			list_del_init(&q->list);
			__sigqueue_free(q);
		} else {
			sigaddset(&retain, q->info.si_signo);
		}
	}
	sigorsets(&pending->signal, &signal, &retain);
	recalc_sigpending();
	spin_unlock_irq(&current->sighand->siglock);
}
#endif
""")
# ptrace
sub(S, "static int ptrace_signal(int signr, kernel_siginfo_t *info, enum pid_type type)\n",
    "static int ptrace_signal(int signr, kernel_siginfo_t *info, enum pid_type type,\n			 struct sigqueue **carrier)\n")
sub(S, """	    fatal_signal_pending(current)) {
		send_signal_locked(signr, info, current, type);
		signr = 0;
""", """	    fatal_signal_pending(current)) {
		if (*carrier && (*carrier)->info.si_signo == signr)
			requeue_carrier(carrier);
		else
			send_signal_locked(signr, info, current, type);
		signr = 0;
""")
before(S, "static int ptrace_signal(int signr, kernel_siginfo_t *info,", """/* What it carries goes back to the queue with it. */
static void requeue_carrier(struct sigqueue **carrier)
{
	queue_sigqueue(*carrier, current);
	*carrier = NULL;
}

""") if False else None
before(S, "static inline bool legacy_queue(struct sigpending *signals, int sig)\n", """/* Add @q to what is pending for the process of @t. */
static void queue_sigqueue(struct sigqueue *q, struct task_struct *t)
{
	struct sigpending *pending = &t->signal->shared_pending;
	int sig = q->info.si_signo;

	list_add_tail(&q->list, &pending->list);
	signalfd_notify(t, sig);
	sigaddset(&pending->signal, sig);
	complete_signal(sig, t, PIDTYPE_TGID);
}

""")
sub(S, """		if (*carrier && (*carrier)->info.si_signo == signr)
			requeue_carrier(carrier);
		else
			send_signal_locked(signr, info, current, type);
		signr = 0;
""", """		if (*carrier && (*carrier)->info.si_signo == signr) {
			queue_sigqueue(*carrier, current);
			*carrier = NULL;
		} else {
			send_signal_locked(signr, info, current, type);
		}
		signr = 0;
""")
sub(S, """	struct signal_struct *signal = current->signal;
	int signr;

	clear_notify_signal();
""", """	struct signal_struct *signal = current->signal;
	struct sigqueue *carrier = NULL;
	int signr;

	clear_notify_signal();
""")
sub(S, """	for (;;) {
		struct k_sigaction *ka;
		enum pid_type type;

""", """	for (;;) {
		struct k_sigaction *ka;
		enum pid_type type;

		/* The signal before was not delivered after all. */
		if (unlikely(carrier)) {
			__sigqueue_free(carrier);
			carrier = NULL;
		}

""")
sub(S, "			signr = dequeue_signal(&current->blocked, &ksig->info, &type);\n",
    "			signr = dequeue_signal(&current->blocked, &ksig->info, &type, &carrier);\n")
sub(S, "			signr = ptrace_signal(signr, &ksig->info, type);\n",
    "			signr = ptrace_signal(signr, &ksig->info, type, &carrier);\n")
sub(S, """	fatal:
		spin_unlock_irq(&sighand->siglock);
""", """	fatal:
		if (unlikely(carrier)) {
			__sigqueue_free(carrier);
			carrier = NULL;
		}
		spin_unlock_irq(&sighand->siglock);
""")
sub(S, """	spin_unlock_irq(&sighand->siglock);

	ksig->sig = signr;
""", """	spin_unlock_irq(&sighand->siglock);

	if (unlikely(carrier)) {
		/* Who is not told the number is not given the file. */
		if (signr == carrier->info.si_signo && (ksig->ka.sa.sa_flags & SA_SIGINFO))
			receive_sigqueue_file(carrier, &ksig->info, -1);
		else
			__sigqueue_free(carrier);
	}

	ksig->sig = signr;
""")
# sigtimedwait
sub(S, "	sigset_t mask = *which;\n	enum pid_type type;\n	int sig, ret = 0;\n", "	sigset_t mask = *which;\n	int sig, ret = 0;\n")
sub(S, "	sig = dequeue_signal(&mask, info, &type);\n", "	sig = dequeue_signal_sync(&mask, info);\n", count=2)
commit(3)

# 4: the system calls
before("init/Kconfig", "config SIGQUEUE_FILE\n", """config SENDFD
	bool "Enable sendfd() and pidfd_sendfd() system calls"
	# The architectures whose tables have numbers for them
	depends on X86_64 || ARC || ARM64 || CSKY || HEXAGON || LOONGARCH || \\
		   NIOS2 || OPENRISC || RISCV
	select SIGQUEUE_FILE
	help
	  Enable the system calls sendfd(pid, sig, fd) and pidfd_sendfd(pidfd, sig,
	  fd, flags), which send a file to a process that expects one, as the
	  payload of a queued real-time signal: the process finds a descriptor of
	  its own in the siginfo.

	  Their numbers are not upstream ones; programs read them from
	  /proc/sys/kernel/sendfd_nr and pidfd_sendfd_nr.

	  If unsure, say N.

""")
sub("include/linux/syscalls.h", "asmlinkage long sys_pidfd_getfd(int pidfd, int fd, unsigned int flags);\n", """asmlinkage long sys_pidfd_getfd(int pidfd, int fd, unsigned int flags);
asmlinkage long sys_sendfd(pid_t pid, int sig, unsigned int fd);
asmlinkage long sys_pidfd_sendfd(int pidfd, int sig, unsigned int fd,
				 unsigned int flags);
""")
after("include/uapi/linux/pidfd.h", "#define PIDFD_SIGNAL_PROCESS_GROUP	(1UL << 2)\n", """
/* Flags for pidfd_sendfd(). */
#define PIDFD_SENDFD_ASK	(1U << 0) /* Would a file be accepted? */
""")
sub("kernel/sys_ni.c", "COND_SYSCALL(mseal);\n", "COND_SYSCALL(mseal);\nCOND_SYSCALL(sendfd);\nCOND_SYSCALL(pidfd_sendfd);\n")
CALLS = (here / "calls.c").read_text().replace("SIGQUEUE_ALLOC", "sigqueue_alloc(sig, t, GFP_ATOMIC, 0)" if new else "__sigqueue_alloc(sig, t, GFP_ATOMIC, 0, 0)")
before(S, "/*\n * For kthreads only, must not be used if cloned with CLONE_SIGHAND\n", CALLS)
commit(4)

# 5: wiring
before("Documentation/admin-guide/sysctl/kernel.rst", "sg-big-buff\n===========\n", """sendfd_nr, pidfd_sendfd_nr
==========================

The numbers of the system calls sendfd() and pidfd_sendfd(), read-only. They are
there if ``CONFIG_SENDFD`` is set. See Documentation/userspace-api/sendfd.rst.


""")
p = tree / "arch/x86/entry/syscalls/syscall_64.tbl"
p.write_text(p.read_text().rstrip("\n") + "\n\n548	common	sendfd			sys_sendfd\n549	common	pidfd_sendfd		sys_pidfd_sendfd\n")
p = tree / "scripts/syscall.tbl"
p.write_text(p.read_text().rstrip("\n") + "\n\n# Not assigned upstream: far from the numbers that are next, same as on x86-64\n548	common	sendfd				sys_sendfd\n549	common	pidfd_sendfd			sys_pidfd_sendfd\n")
last = "#undef __NR_syscalls\n#define __NR_syscalls %d\n" % (473 if new else 463)
sub("include/uapi/asm-generic/unistd.h", last, """#define __NR_sendfd 548
__SYSCALL(__NR_sendfd, sys_sendfd)
#define __NR_pidfd_sendfd 549
__SYSCALL(__NR_pidfd_sendfd, sys_pidfd_sendfd)

#undef __NR_syscalls
#define __NR_syscalls 550
""")
const = "const " if new else ""
before(S, "static int __init init_signal_sysctls(void)\n", """#ifdef CONFIG_SENDFD
static const int sendfd_nr = __NR_sendfd;
static const int pidfd_sendfd_nr = __NR_pidfd_sendfd;

static %sstruct ctl_table sendfd_table[] = {
	{
		.procname	= "sendfd_nr",
		.data		= (void *)&sendfd_nr,
		.maxlen		= sizeof(sendfd_nr),
		.mode		= 0444,
		.proc_handler	= proc_dointvec
	},
	{
		.procname	= "pidfd_sendfd_nr",
		.data		= (void *)&pidfd_sendfd_nr,
		.maxlen		= sizeof(pidfd_sendfd_nr),
		.mode		= 0444,
		.proc_handler	= proc_dointvec
	},
};
#endif

""" % const)
sub(S, """	register_sysctl_init("debug", signal_debug_table);
""", """	register_sysctl_init("debug", signal_debug_table);
#ifdef CONFIG_SENDFD
	register_sysctl_init("kernel", sendfd_table);
#endif
""")
commit(5)

# 6: selftests
if (here / "sendfd_test.c").exists():
    copy("sendfd_test.c", "tools/testing/selftests/sendfd/sendfd_test.c")
    copy("st.Makefile", "tools/testing/selftests/sendfd/Makefile")
    copy("st.config", "tools/testing/selftests/sendfd/config")
    copy("st.gitignore", "tools/testing/selftests/sendfd/.gitignore")
    after("MAINTAINERS", "F:	Documentation/userspace-api/sendfd.rst\n", "F:	tools/testing/selftests/sendfd/\n")
    after("tools/testing/selftests/Makefile", "TARGETS += seccomp\n", "TARGETS += sendfd\n")
    commit(6, ["tools/testing/selftests/sendfd"])
