// SPDX-License-Identifier: GPL-2.0-only
/*
 * The first process of the kernels under test: makes a small system of what it
 * finds, runs one command in it, says how that ended, and switches the machine
 * off. `boot` writes what it needs into a directory, whose path comes in the
 * environment (that is where a kernel puts the name=value words it does not
 * know), or at /run-spec in an initramfs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static int spec = -1;

static void power_off(void)
{
	sync();
	/* The PC has no ACPI to switch it off; QEMU takes a reboot for the end. */
	reboot(getenv("SENDFD_RUN") ? RB_POWER_OFF : RB_AUTOBOOT);
	_exit(1);
}

static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	dprintf(2, "init: ");
	vdprintf(2, format, args);
	dprintf(2, ": %s\n", strerror(errno));
	va_end(args);
	power_off();
}

static void mount_at(const char *type, const char *path, const char *options)
{
	mkdir(path, 0755);
	if (mount(type, path, type, 0, options))
		die("mount %s at %s", type, path);
}

/* A file of NUL-terminated strings, as a NULL-terminated array */
static char **read_strings(const char *name)
{
	size_t count = 0, size = 0, room = 1 << 20;
	char *text = calloc(1, room), **strings;
	int fd = openat(spec, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		die("open %s", name);
	while (size < room - 1 && (n = read(fd, text + size, room - 1 - size)) > 0)
		size += n;
	close(fd);
	for (size_t i = 0; i < size; i++)
		count += !text[i];
	strings = calloc(count + 1, sizeof(*strings));
	for (size_t i = 0, at = 0; i < count; i++, at += strlen(text + at) + 1)
		strings[i] = text + at;
	return strings;
}

static void make_parents(const char *path)
{
	char copy[4096];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *p = strchr(copy + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = 0;
		mkdir(copy, 0755);
		*p = '/';
	}
	mkdir(copy, 0755);
}

/* Directories that a file system mounted here on top of them hides are put back. */
static void keep_visible(char **paths, int *fds)
{
	char source[64];

	for (int i = 0; paths[i]; i++) {
		if (access(paths[i], F_OK)) {
			make_parents(paths[i]);
			snprintf(source, sizeof(source), "/proc/self/fd/%d", fds[i]);
			if (mount(source, paths[i], NULL, MS_BIND | MS_REC, NULL))
				die("bind %s", paths[i]);
		}
		close(fds[i]);
	}
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0 || ioctl(s, SIOCGIFFLAGS, &request))
		return; /* a kernel without a network is fine as well */
	request.ifr_flags |= IFF_UP;
	if (ioctl(s, SIOCSIFFLAGS, &request))
		die("lo");
	close(s);
}

/*
 * Where the kernel looks for lost memory, what was lost since the start goes to
 * the console, where `boot` looks for complaints.
 */
static void kmemleak(const char *order)
{
	int fd = open("/sys/kernel/debug/kmemleak", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, order, strlen(order)) < 0)
		die("kmemleak");
	close(fd);
}

static void report_leaks(void)
{
	char text[4096];
	ssize_t n;
	int fd;

	if (access("/sys/kernel/debug/kmemleak", F_OK))
		return;
	/* It says nothing of what is younger than five seconds. */
	sleep(6);
	kmemleak("scan");
	kmemleak("scan");
	fd = open("/sys/kernel/debug/kmemleak", O_RDONLY | O_CLOEXEC);
	while ((n = read(fd, text, sizeof(text))) > 0)
		if (write(2, text, n) < 0)
			break;
	dprintf(2, "kmemleak has looked\n");
	close(fd);
}

static void flush_output(int sig)
{
	(void)sig;
	sync();
}

/* An initramfs has no place for output but the console. */
static int output(const char *name, int is_initramfs)
{
	return is_initramfs ? open("/dev/console", O_WRONLY | O_CLOEXEC)
			    : openat(spec, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

int main(void)
{
	const char *where = getenv("SENDFD_RUN");
	struct itimerval often = { { 0, 300000 }, { 0, 300000 } };
	struct sigaction action = { .sa_handler = flush_output, .sa_flags = SA_RESTART };
	char **argv, **env, **keep, **writable, **cwd, report[64];
	int is_initramfs = !where, fds[64], status, fd, out, err;
	pid_t child, pid;

	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	if (is_initramfs) {
		where = "/run-spec";
	} else if (mount("hostfs", where, "hostfs", 0, where)) {
		die("hostfs at %s", where);
	}
	spec = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (spec < 0)
		die("open %s", where);
	argv = read_strings("argv");
	env = read_strings("env");
	cwd = read_strings("cwd");
	keep = read_strings("keep");
	writable = read_strings("writable");

	for (int i = 0; writable[i]; i++)
		if (mount("hostfs", writable[i], "hostfs", 0, writable[i]))
			die("hostfs at %s", writable[i]);
	for (int i = 0; keep[i]; i++) {
		fds[i] = i < 63 ? open(keep[i], O_PATH | O_CLOEXEC) : -1;
		if (fds[i] < 0)
			die("open %s", keep[i]);
	}

	mount_at("proc", "/proc", NULL);
	mount_at("sysfs", "/sys", NULL);
	mount_at("devtmpfs", "/dev", NULL);
	mount_at("devpts", "/dev/pts", "mode=620,ptmxmode=666");
	mount_at("tmpfs", "/dev/shm", "mode=1777");
	mount_at("tmpfs", "/tmp", "mode=1777");
	mount_at("tmpfs", "/run", "mode=755");
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
	if (!access("/sys/kernel/debug", F_OK))
		mount_at("debugfs", "/sys/kernel/debug", NULL);
	kmemleak("clear");
	keep_visible(keep, fds);
	loopback_up();
	sethostname("sendfd", 6);
	umask(022);

	out = output("stdout", is_initramfs);
	err = output("stderr", is_initramfs);
	if (out < 0 || err < 0)
		die("output");

	child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		setsid();
		fd = open("/dev/null", O_RDONLY);
		dup2(fd, 0);
		dup2(out, 1);
		dup2(err, 2);
		if (fd > 2)
			close(fd);
		if (chdir(cwd[0])) {
			dprintf(2, "init: chdir %s: %s\n", cwd[0], strerror(errno));
			_exit(126);
		}
		execvpe(argv[0], argv, env);
		dprintf(2, "init: exec %s: %s\n", argv[0], strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}

	/* So that the other side of the host's file system sees output as it comes */
	if (!is_initramfs) {
		sigaction(SIGALRM, &action, NULL);
		setitimer(ITIMER_REAL, &often, NULL);
	}
	do {
		pid = wait(&status);
	} while (pid != child && (pid > 0 || errno == EINTR));

	/* What it left behind goes first, so that complaints at exit are seen too. */
	kill(-1, SIGKILL);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	report_leaks();

	if (pid != child)
		snprintf(report, sizeof(report), "sendfd-status lost\n");
	else if (WIFSIGNALED(status))
		snprintf(report, sizeof(report), "sendfd-status %d\n", 128 + WTERMSIG(status));
	else
		snprintf(report, sizeof(report), "sendfd-status %d\n", WEXITSTATUS(status));
	fd = output("status", is_initramfs);
	if (fd < 0 || write(fd, report, strlen(report)) < 0)
		die("status");
	power_off();
}
