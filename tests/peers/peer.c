/* The peer in C: see tests/PEER.md. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sendfd.h>

static sendfd_receiver *receivers[65];
static sendfd_target *target;
static int *kept;
static size_t nkept;

static char *words[32];
static int nwords;

/* The value of a word by its name, or NULL. */
static const char *word(const char *name)
{
    size_t len = strlen(name);
    for (int i = 1; i < nwords; i++)
        if (!strncmp(words[i], name, len) && words[i][len] == '=')
            return words[i] + len + 1;
    return NULL;
}

static long long number(const char *name, long long otherwise)
{
    const char *value = word(name);
    return value ? strtoll(value, NULL, 10) : otherwise;
}

static int fail(int err)
{
    printf("error %d %s\n", -err, sendfd_strerror(err));
    return 0;
}

static int done(int err)
{
    if (err < 0)
        return fail(err);
    puts("ok");
    return 0;
}

static void keep(int fd)
{
    kept = realloc(kept, (nkept + 1) * sizeof *kept);
    if (!kept)
        abort();
    kept[nkept++] = fd;
}

static uint32_t paths(void)
{
    const char *list = word("paths");
    uint32_t all = 0;
    if (list && strstr(list, "syscall"))
        all |= SENDFD_PATH_SYSCALL;
    if (list && strstr(list, "pidfd"))
        all |= SENDFD_PATH_PIDFD;
    if (list && strstr(list, "name"))
        all |= SENDFD_PATH_NAME;
    return all;
}

static const char *path_name(uint32_t path)
{
    return path == SENDFD_PATH_SYSCALL ? "syscall" : path == SENDFD_PATH_PIDFD ? "pidfd" : "name";
}

static sendfd_options options(void)
{
    sendfd_options options = { .size = sizeof options };
    options.paths = paths();
    options.timeout_ms = (int32_t)number("ms", 0);
    options.tag = strtoull(word("tag") ? word("tag") : "0", NULL, 10);
    options.data = word("data");
    options.data_len = options.data ? (uint32_t)strlen(options.data) : 0;
    return options;
}

/* With the plain call where nothing but one descriptor is asked for, so that it is tried too. */
static int send_all(int pid, int sig, int over_target)
{
    int fds[SENDFD_MAX_FDS + 1];
    size_t n = 0;
    for (const char *at = word("fds"); at && *at && n <= SENDFD_MAX_FDS; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        fds[n++] = atoi(at);
    sendfd_options with = options();
    for (long long times = number("times", 1); times > 0; times--, with.tag++) {
        int err;
        if (over_target)
            err = sendfd_target_send(target, fds, n, &with);
        else if (n == 1 && !with.paths && !with.timeout_ms && !with.tag && !with.data)
            err = sendfd(pid, sig, fds[0]);
        else
            err = sendfd_send(pid, sig, fds, n, &with);
        if (err < 0)
            return fail(err);
    }
    return done(0);
}

static int receive(int sig)
{
    static int fds[SENDFD_MAX_FDS];
    static char data[SENDFD_MAX_DATA];
    sendfd_message message = { .size = sizeof message };
    message.max_fds = SENDFD_MAX_FDS;
    message.fds = fds;
    message.max_data = sizeof data;
    message.data = data;
    int err = sendfd_receiver_recv(receivers[sig], &message, (int)number("ms", 0));
    if (err < 0)
        return fail(err);
    printf("ok pid=%d uid=%u gid=%u tag=%llu path=%s at=", message.pid, message.uid, message.gid,
           (unsigned long long)message.tag, path_name(message.path));
    for (uint32_t i = 0; i < message.nfds; i++) {
        printf("%s%d", i ? "," : "", fds[i]);
        keep(fds[i]);
    }
    printf(" data=%.*s\n", (int)message.data_len, data);
    return 0;
}

static int take(int sig)
{
    sigset_t set;
    siginfo_t info;
    long long ms = number("ms", 0);
    struct timespec wait = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    sigemptyset(&set);
    sigaddset(&set, sig);
    if (sigtimedwait(&set, &info, &wait) < 0)
        return fail(-errno);
    if (info.si_code != SI_QUEUE && info.si_code != SENDFD_SI_SENDFD)
        return fail(-EPROTO);
    keep(info.si_value.sival_int);
    printf("ok pid=%d uid=%u at=%d\n", info.si_pid, info.si_uid, info.si_value.sival_int);
    return 0;
}

static int start_listening(int sig)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return done(sendfd_listen(sig));
}

/* Until the child runs, it holds what it inherited: its end of the pipe tells. */
static int fork_child(void)
{
    int ends[2];
    char none;
    if (pipe(ends))
        return fail(-errno);
    signal(SIGCHLD, SIG_IGN);
    pid_t child = fork();
    close(ends[1]);
    if (!child) {
        usleep((useconds_t)number("ms", 0) * 1000);
        _exit(0);
    }
    ssize_t ended = child < 0 ? -1 : read(ends[0], &none, 1);
    close(ends[0]);
    return ended < 0 ? fail(-EIO) : done(0);
}

/* Does one command. Returns whether it is unknown. */
static int act(const char *verb, char **argv)
{
    int sig = (int)number("sig", 0), pid = (int)number("pid", 0);
    if (!strcmp(verb, "self"))
        return puts("ok language=c signals=yes") < 0;
    if (!strcmp(verb, "open"))
        return done(sendfd_receiver_open(sig, NULL, &receivers[sig >= 0 && sig < 65 ? sig : 0]));
    if (!strcmp(verb, "recv"))
        return receive(sig);
    if (!strcmp(verb, "close")) {
        sendfd_receiver_close(receivers[sig]);
        receivers[sig] = NULL;
        return done(0);
    }
    if (!strcmp(verb, "retire"))
        return done(sendfd_receiver_retire(receivers[sig]));
    if (!strcmp(verb, "fork"))
        return fork_child();
    if (!strcmp(verb, "exec")) {
        done(0);
        fflush(stdout);
        execv("/proc/self/exe", argv);
        return 1;
    }
    if (!strcmp(verb, "listen"))
        return start_listening(sig);
    if (!strcmp(verb, "take"))
        return take(sig);
    if (!strcmp(verb, "unlisten"))
        return done(sendfd_unlisten(sig));
    if (!strcmp(verb, "forget")) {
        while (nkept)
            close(kept[--nkept]);
        return done(0);
    }
    if (!strcmp(verb, "send"))
        return send_all(pid, sig, 0);
    if (!strcmp(verb, "target")) {
        sendfd_options with = options();
        sendfd_target_close(target);
        int err = sendfd_target_open(pid, sig, &with, &target);
        if (err < 0)
            return fail(err);
        printf("ok path=%s\n", path_name((uint32_t)sendfd_target_path(target)));
        return 0;
    }
    if (!strcmp(verb, "tsend"))
        return send_all(0, 0, 1);
    if (!strcmp(verb, "untarget")) {
        sendfd_target_close(target);
        target = NULL;
        return done(0);
    }
    return 1;
}

int main(int argc, char **argv)
{
    (void)argc;
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        nwords = 0;
        for (char *at = strtok(line, " \n"); at && nwords < 32; at = strtok(NULL, " \n"))
            words[nwords++] = at;
        if (!nwords || act(words[0], argv)) {
            fprintf(stderr, "peer.c: unknown command %s\n", nwords ? words[0] : "");
            return 2;
        }
        fflush(stdout);
    }
    for (int sig = 0; sig < 65; sig++)
        sendfd_receiver_close(receivers[sig]);
    sendfd_target_close(target);
    while (nkept)
        close(kept[--nkept]);
    free(kept);
    free(line);
    return 0;
}
