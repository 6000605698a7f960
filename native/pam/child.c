/* From fork to exec. The caller may have threads, which may have held any lock at the fork: nothing here allocates, locks
   or uses stdio, and what glibc would do for all threads (setresuid) is asked of the kernel. What goes wrong is written
   to descriptor 2, where the parent reads it.

   The helper must not inherit from sshd, or from the modules before us, what could stop or mislead it: limits (Node
   aborts under a small RLIMIT_AS), signals, descriptors, the environment, the folder, the SELinux context of pam_selinux
   (attr/exec), the ids of a setuid caller, a place behind all others at the processor. It stays in sshd's process group. */

#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "enter.h"
#include "number.h"
#include "trust.h"

#ifndef SYS_close_range
#define SYS_close_range 436 /* the same on every architecture; RHEL 8's headers are older */
#endif

static void complain(const char *text) {
	ssize_t written = write(2, text, strlen(text));
	(void)written; /* nobody else could be told */
}

_Noreturn static void give_up(const char *what, const char *why) {
	complain(what);
	complain(" ");
	complain(why);
	complain("\n");
	_exit(127);
}

static void reset_signals(void) {
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;
	for (int number = 1; number <= SIGRTMAX; number++)
		sigaction(number, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Raises one limit as far as we may. */
static void raise_limit(int resource, rlim_t soft, rlim_t hard) {
	struct rlimit limit = { soft, hard };
	if (setrlimit(resource, &limit) == 0 || getrlimit(resource, &limit) != 0)
		return;
	limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
	setrlimit(resource, &limit);
}

static void reset_limits(void) {
	static const int endless[] = { RLIMIT_AS,    RLIMIT_DATA,  RLIMIT_CPU,        RLIMIT_FSIZE,    RLIMIT_NPROC, RLIMIT_RSS,
		                       RLIMIT_LOCKS, RLIMIT_MEMLOCK, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_RTTIME };
	const rlim_t files = 1024;
	struct rlimit limit;
	for (size_t i = 0; i < sizeof endless / sizeof *endless; i++)
		raise_limit(endless[i], RLIM_INFINITY, RLIM_INFINITY);
	/* The kernel's own default: an endless stack turns the layout of memory upside down. */
	raise_limit(RLIMIT_STACK, 8 << 20, RLIM_INFINITY);
	raise_limit(RLIMIT_CORE, 0, 0);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < files)
		raise_limit(RLIMIT_NOFILE, files, limit.rlim_max < files ? files : limit.rlim_max);
}

/* The stream becomes 0 and 1, the pipe 2; they may themselves be such, where the caller had closed its own. */
static void place_descriptors(const struct child *child) {
	int talk = fcntl(child->talk, F_DUPFD, 3);
	int errors = fcntl(child->errors, F_DUPFD, 3);
	if (talk < 0 || errors < 0 || dup2(errors, 2) < 0 || dup2(talk, 0) < 0 || dup2(talk, 1) < 0)
		_exit(127);
}

struct entry { /* linux_dirent64 of getdents64(2), which has no header */
	uint64_t inode;
	int64_t next;
	unsigned short size;
	unsigned char type;
	char name[];
};

/* One look at the list; how many were closed. */
static int close_some(int list) {
	_Alignas(struct entry) char buffer[4096];
	int closed = 0;
	lseek(list, 0, SEEK_SET);
	for (;;) {
		long got = syscall(SYS_getdents64, list, buffer, sizeof buffer);
		if (got <= 0)
			return closed;
		for (long at = 0; at < got;) {
			const struct entry *entry = (const struct entry *)(const void *)(buffer + at);
			uint64_t fd;
			at += entry->size;
			if (number_read(entry->name, strlen(entry->name), INT_MAX, &fd) && fd > 2 && fd != (uint64_t)list)
				closed += close((int)fd) == 0;
		}
	}
}

void child_close_listed(void) {
	int list = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (list < 0) {
		for (int fd = 3; fd < 65536; fd++)
			close(fd);
		return;
	}
	/* Closing while listing can pass over some. */
	while (close_some(list) > 0)
		;
	if (list > 2)
		close(list);
}

void child_close_descriptors(void) {
	if (syscall(SYS_close_range, 3u, ~0u, 0u) != 0)
		child_close_listed();
}

static void become_root(void) {
	if (geteuid() != 0)
		return;
	if (syscall(SYS_setgroups, 0, NULL) != 0 || syscall(SYS_setresgid, 0, 0, 0) != 0 ||
	    syscall(SYS_setresuid, 0, 0, 0) != 0)
		give_up("the helper", "cannot be given root's ids");
}

/* With a caller that gives way to all others (nice(1), a batch daemon) the helper would miss its deadline on a busy node.
   Where the kernel does not allow it, it stays so. */
static void take_turn(void) {
	const struct sched_param none = { .sched_priority = 0 };
	long rank = syscall(SYS_getpriority, PRIO_PROCESS, 0); /* the kernel's own answer is 20 - nice */
	if (rank > 0 && rank < 20)
		syscall(SYS_setpriority, PRIO_PROCESS, 0, 0);
	long policy = syscall(SYS_sched_getscheduler, 0);
	if (policy < 0)
		return;
	policy &= ~SCHED_RESET_ON_FORK;
	if (policy == SCHED_BATCH || policy == SCHED_IDLE)
		syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &none);
}

/* In the session phase we may be born inside a job, with its memory limit, its pids limit and its freezer. Back to where
   the login was before; a directory that is gone is passed over. */
static void leave_job(const struct reply *record) {
	for (const char *from = NULL; (from = reply_next(record, "from", from)) != NULL;)
		enter_cgroup(from, "0");
}

/* The context that pam_selinux chose for the user's shell is not the helper's. Without SELinux this fails. */
static void clear_context(void) {
	int fd = open("/proc/self/attr/exec", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t written = write(fd, "\n", 1);
	(void)written;
	close(fd);
}

/* After the ids: a change of ids clears it. */
static void die_with(pid_t parent) {
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127); /* it died before */
}

_Noreturn static void execute(const char *program) {
	struct distrust distrust;
	char *const words[] = { (char *)(uintptr_t)program, (char *)(uintptr_t) "pam", NULL };
	char *const environment[] = { (char *)(uintptr_t) "LC_ALL=C", NULL };
	/* Here and not in the parent: a file system can hang, and then it is we who are killed at the deadline. */
	if (!trust_program(program, &distrust))
		give_up(distrust.at, distrust.why);
	execve(program, words, environment);
	switch (errno) {
	case ENOENT:
		give_up(program, "has an interpreter that is not there");
	case ENOEXEC:
		give_up(program, "is no program");
	case EACCES:
	case EPERM:
		give_up(program, "may not be executed (mounted noexec? a security module?)");
	default:
		give_up(program, "cannot be executed");
	}
}

_Noreturn void child_run(const struct child *child) {
	struct child own = *child;
	reset_limits();
	place_descriptors(&own);
	child_close_descriptors();
	reset_signals();
	become_root();
	take_turn();
	die_with(own.parent);
	if (own.record != NULL)
		leave_job(own.record);
	umask(077);
	if (chdir("/") != 0)
		give_up("/", "cannot be entered");
	clear_context();
	execute(own.program);
}
