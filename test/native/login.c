/*
 * A login for the tests of the PAM module: loads it through libpam, as sshd does, and says what became of the caller.
 * As root, in a mount namespace of its own, where /run is empty: nothing of this machine is seen or changed.
 *
 * usage: login MODULE PUPPET STEP...     the steps are done in their order:
 *   words=PAM WORDS        the PAM line (before the first call)      user=NAME service=NAME rhost=NAME
 *   renamed=NAME           the service, once PAM is started: a name that no file can have
 *   part=TEXT              what the puppet does                      pamenv=NAME=VALUE      env=NAME=VALUE (our own)
 *   file=PATH=TEXT         writes a file (0600; @PID@, @START@, @SESSION@ are ours, `|` a line end)
 *   mkdir=PATH chmod=MODE=PATH chown=UID=PATH link=TARGET=PATH unlink=PATH   (PATH may hold @PID@ and @START@)
 *   sigchld=ignore|handler|nowait   sigpipe   handlers (for all signals)   alarm=MS (again and again)   alarms (came?)
 *   as=MB nofile=N limits (soft ones)   closed (0 to 2 are)   open=N (more descriptors)   threads=N   cwd=PATH
 *   nice=N   policy=batch|idle   real=UID (as a setuid program)   cgroup=DIRECTORY (we go there)   without=clone|pidfd_open|close_range (seccomp)
 *   call=account|open|close|auth|setcred|chauthtok   thread=CALL (in another thread)   silent   crowd=N (logins at once)
 *   leaves=MS (a child of ours ends then)   ended (how many did our handler for SIGCHLD see?)
 *   listen=PORT (on 127.0.0.1)   child (a process is forked: what PAM environment has it?)   hostname
 *   stepd=PROGRAM=VERSION=PART (stepd.c, at /run/test/spool/n_5.4294967292)   folder (where are we?)
 *   loginuid=UID (as pam_loginuid sets it)   session (its audit session)   places (our cgroups)
 *   show=PATH (a file of one line; PATH may hold @PID@ and @START@)
 *   die (a child that logs in is killed)   saw (what the puppet saw)   has=PATH   helper, grandchild (does it live?)
 *
 * Says, line by line: `log SEVERITY TEXT`, `user STYLE TEXT`, `result CALL NUMBER MILLISECONDS`, `pamenv NAME=VALUE`, and
 * `changed WHAT` for what a call did to its caller: descriptors, signals, environment, children.
 */

#include <errno.h>
#include <fcntl.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <grp.h>
#include <netinet/in.h>
#include <sched.h>
#include <security/pam_appl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "self.h"

#define HOME "/run/test"

extern char **environ;

static FILE *out; /* not descriptor 1: a step closes that */
static pam_handle_t *pamh;
static const char *module, *words = "", *user = "daemon", *service = "sshd";
static volatile sig_atomic_t alarms, ended;

static void die(const char *what) {
	fprintf(out, "cannot %s: %s\n", what, strerror(errno));
	fflush(out);
	_exit(3);
}

/* libpam's calls of syslog come here, since a program's own functions come before glibc's. */
__attribute__((format(printf, 2, 0))) static void log_line(int priority, const char *format, va_list rest) {
	char line[4096];
	vsnprintf(line, sizeof line, format, rest);
	fprintf(out, "log %d %d %s\n", priority & 7, priority >> 3, line);
}

__attribute__((format(printf, 2, 3))) void syslog(int priority, const char *format, ...);
__attribute__((format(printf, 3, 4))) void __syslog_chk(int priority, int flag, const char *format, ...);

void syslog(int priority, const char *format, ...) {
	va_list rest;
	va_start(rest, format);
	log_line(priority, format, rest);
	va_end(rest);
}

void __syslog_chk(int priority, int flag, const char *format, ...) {
	va_list rest;
	(void)flag;
	va_start(rest, format);
	log_line(priority, format, rest);
	va_end(rest);
}

static int converse(int count, const struct pam_message **messages, struct pam_response **replies, void *data) {
	(void)data;
	*replies = calloc((size_t)count, sizeof **replies);
	for (int i = 0; i < count; i++)
		fprintf(out, "user %s %s\n", messages[i]->msg_style == PAM_ERROR_MSG ? "error" : "info", messages[i]->msg);
	return *replies == NULL ? PAM_BUF_ERR : PAM_SUCCESS;
}

/* `text` with @PID@, @START@ and @SESSION@ (our audit session), and `|` as a line end. */
static const char *filled(const char *text, int lines) {
	static char buffer[70000];
	struct self self;
	size_t used = 0;
	if (!self_read(&self))
		die("read /proc/self");
	while (*text != '\0' && used + 64 < sizeof buffer) {
		if (strncmp(text, "@PID@", 5) == 0) {
			used += (size_t)snprintf(buffer + used, 64, "%llu", (unsigned long long)self.pid);
			text += 5;
		} else if (strncmp(text, "@START@", 7) == 0) {
			used += (size_t)snprintf(buffer + used, 64, "%llu", (unsigned long long)self.start);
			text += 7;
		} else if (strncmp(text, "@SESSION@", 9) == 0) {
			uint64_t session = 0;
			self_number("/proc/self/sessionid", &session);
			used += (size_t)snprintf(buffer + used, 64, "%llu", (unsigned long long)session);
			text += 9;
		} else {
			buffer[used++] = lines && *text == '|' ? '\n' : *text;
			text++;
		}
	}
	buffer[used] = '\0';
	return buffer;
}

static void write_file(const char *path, const char *text, mode_t mode) {
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(fd, mode) != 0)
		die(path);
	close(fd);
}

static void copy_file(const char *from, const char *to) {
	char buffer[65536];
	ssize_t got;
	int in = open(from, O_RDONLY | O_CLOEXEC), copy = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (in < 0 || copy < 0)
		die(from);
	while ((got = read(in, buffer, sizeof buffer)) > 0)
		if (write(copy, buffer, (size_t)got) != got)
			die(to);
	fchmod(copy, 0755);
	close(in);
	close(copy);
}

static void enter_namespace(const char *puppet) {
	char path[4096];
	snprintf(path, sizeof path, "%s", puppet);
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0)
		die("make a mount namespace");
	int in = open(path, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		die(path);
	snprintf(path, sizeof path, "/proc/self/fd/%d", in); /* the puppet may itself be under /run */
	if (mount("none", "/run", "tmpfs", 0, "mode=755") != 0)
		die("mount a tmpfs");
	umask(022);
	mkdir(HOME, 0755);
	mkdir(HOME "/pam.d", 0755);
	copy_file(path, HOME "/helper");
	close(in);
}

static void start_pam(void) {
	static const char *const types[] = { "auth", "account", "session", "password" };
	static const struct pam_conv conversation = { converse, NULL };
	char path[4096], text[8192];
	size_t used = 0;
	if (pamh != NULL)
		return;
	/* `other` too: so a service that has no file by its name has a stack. The module's answer is the stack's. */
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		used += (size_t)snprintf(text + used, sizeof text - used, "%s [default=done] %s %s\n", types[i], module, words);
	snprintf(path, sizeof path, HOME "/pam.d/%s", service);
	write_file(path, text, 0644);
	write_file(HOME "/pam.d/other", text, 0644);
	if (pam_start_confdir(service, user[0] == '\0' ? NULL : user, &conversation, HOME "/pam.d", &pamh) != PAM_SUCCESS)
		die("start PAM");
}

/* What a call must leave as it was. */
struct state {
	int descriptors, children;
	char table[1024];
	struct sigaction actions[65];
	sigset_t mask;
	char environment[16384];
	char cwd[4096];
	mode_t umask;
};

static int count_children(void) {
	char path[64], text[4096];
	int count = 0;
	snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? 0 : read(fd, text, sizeof text);
	if (fd >= 0)
		close(fd);
	for (ssize_t i = 0; i < got; i++)
		count += text[i] == ' ';
	return count;
}

static void take_state(struct state *state) {
	memset(state, 0, sizeof *state);
	for (int fd = 0; fd < (int)sizeof state->table; fd++) {
		int flags = fcntl(fd, F_GETFD);
		state->table[fd] = (char)(flags < 0 ? -1 : flags);
		state->descriptors += flags >= 0;
	}
	for (int number = 1; number < 65; number++)
		sigaction(number, NULL, &state->actions[number]);
	sigprocmask(SIG_BLOCK, NULL, &state->mask);
	size_t used = 0;
	for (char **variable = environ; *variable != NULL; variable++)
		used += (size_t)snprintf(state->environment + used, used < sizeof state->environment ? sizeof state->environment - used : 0, "%s\n", *variable);
	if (getcwd(state->cwd, sizeof state->cwd) == NULL)
		state->cwd[0] = '\0';
	state->umask = umask(0);
	umask(state->umask);
	state->children = count_children();
}

static void compare(const struct state *before, const struct state *after) {
	if (memcmp(before->table, after->table, sizeof before->table) != 0)
		fprintf(out, "changed descriptors: %d before, %d after\n", before->descriptors, after->descriptors);
	for (int number = 1; number < 65; number++) {
		const struct sigaction *was = &before->actions[number], *is = &after->actions[number];
		/* glibc adds SA_RESTORER (0x04000000) to whatever it sets. */
		if (was->sa_handler != is->sa_handler || ((was->sa_flags ^ is->sa_flags) & ~0x04000000) != 0 ||
		    memcmp(&was->sa_mask, &is->sa_mask, 8) != 0) /* the kernel's 64 bits */
			fprintf(out, "changed the action of signal %d\n", number);
	}
	if (memcmp(&before->mask, &after->mask, 8) != 0)
		fprintf(out, "changed signal mask\n");
	if (strcmp(before->environment, after->environment) != 0)
		fprintf(out, "changed environment\n");
	if (strcmp(before->cwd, after->cwd) != 0 || before->umask != after->umask)
		fprintf(out, "changed cwd or umask\n");
	if (before->children != after->children)
		fprintf(out, "changed children: %d before, %d after\n", before->children, after->children);
}

struct call {
	const char *name;
	int flags, result;
};

static void *run_call(void *data) {
	struct call *call = data;
	call->result = strcmp(call->name, "account") == 0  ? pam_acct_mgmt(pamh, call->flags)
	               : strcmp(call->name, "open") == 0   ? pam_open_session(pamh, call->flags)
	               : strcmp(call->name, "close") == 0  ? pam_close_session(pamh, call->flags)
	               : strcmp(call->name, "auth") == 0   ? pam_authenticate(pamh, call->flags)
	               : strcmp(call->name, "setcred") == 0 ? pam_setcred(pamh, call->flags)
	                                                    : pam_chauthtok(pamh, call->flags);
	return NULL;
}

static void do_call(const char *name, int flags) {
	static struct state before, after;
	struct call call = { name, flags, -1 };
	start_pam();
	take_state(&before);
	uint64_t begin = clock_ms();
	run_call(&call);
	uint64_t took = clock_ms() - begin;
	take_state(&after);
	compare(&before, &after);
	fprintf(out, "result %s %d %llu\n", name, call.result, (unsigned long long)took);
	char **list = pam_getenvlist(pamh);
	for (char **variable = list; variable != NULL && *variable != NULL; variable++) {
		fprintf(out, "pamenv %s\n", *variable);
		free(*variable);
	}
	free(list);
}

/* The kernel answers that call with ENOSYS; fork's with EAGAIN, as at the limit of processes. */
static void refuse(const char *name) {
	int number = strcmp(name, "pidfd_open") == 0 ? 434 : strcmp(name, "close_range") == 0 ? 436 : SYS_clone;
	unsigned code = number == SYS_clone ? EAGAIN : ENOSYS;
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof rules / sizeof *rules, rules };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		die("refuse a system call");
}

static void on_alarm(int number) {
	(void)number;
	alarms++;
}

static void on_child(int number) {
	(void)number;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		ended++;
}

static void *wait_for_ever(void *data) {
	(void)data;
	for (;;)
		pause();
	return NULL;
}

/* The soft one: to raise a hard one again takes CAP_SYS_RESOURCE, which root in a container may not have. */
static void set_limit(int resource, rlim_t value) {
	struct rlimit limit;
	if (getrlimit(resource, &limit) != 0)
		die("read a limit");
	limit.rlim_cur = value;
	if (setrlimit(resource, &limit) != 0)
		die("set a limit");
}

static void print_file(const char *path) {
	char buffer[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;
	if (fd < 0)
		return;
	while ((got = read(fd, buffer, sizeof buffer)) > 0)
		fwrite(buffer, 1, (size_t)got, out);
	close(fd);
}

static int number_in(const char *path) {
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, text, sizeof text - 1) < 0)
			text[0] = '\0';
		close(fd);
	}
	return atoi(text);
}

/* Whether it lives: a zombie does not. */
static int lives(int pid) {
	char path[64], text[512] = "";
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t got = read(fd, text, sizeof text - 1);
	close(fd);
	const char *state = got > 0 ? strrchr(text, ')') : NULL;
	return state != NULL && state[2] != 'Z';
}

static void nap(void) {
	usleep(10000);
}

/* A login that is killed while its helper hangs: the helper must not stay. */
static void die_in_the_middle(void) {
	start_pam();
	unlink(HOME "/helper.pid");
	pid_t child = fork();
	if (child == 0) {
		pam_acct_mgmt(pamh, 0);
		_exit(0);
	}
	int helper = 0;
	for (int i = 0; i < 3000 && (helper = number_in(HOME "/helper.pid")) == 0; i++)
		nap();
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	int left = 1;
	for (int i = 0; i < 3000 && (left = lives(helper)) != 0; i++)
		nap();
	fprintf(out, "helper %s\n", helper == 0 ? "did not start" : left ? "stayed" : "ended with its caller");
}

/* Several logins at once in one process. */
static void *login_thread(void *data) {
	static const struct pam_conv conversation = { converse, NULL };
	pam_handle_t *own = NULL;
	int *result = data;
	if (pam_start_confdir(service, user, &conversation, HOME "/pam.d", &own) == PAM_SUCCESS) {
		*result = pam_acct_mgmt(own, 0);
		pam_end(own, *result);
	}
	return NULL;
}

static void call_at_once(int count) {
	static struct state before, after;
	pthread_t threads[16];
	int results[16], good = 0;
	start_pam();
	take_state(&before);
	for (int i = 0; i < count && i < 16; i++) {
		results[i] = -1;
		if (pthread_create(&threads[i], NULL, login_thread, &results[i]) != 0)
			die("start a thread");
	}
	for (int i = 0; i < count && i < 16; i++) {
		pthread_join(threads[i], NULL);
		good += results[i] == PAM_SUCCESS;
	}
	take_state(&after);
	compare(&before, &after);
	fprintf(out, "at once %d good, %d children\n", good, count_children());
}

/* As sshd forks the process of a session. */
static void look_in_child(void) {
	pid_t child = fork();
	if (child == 0) {
		char **list = pam_getenvlist(pamh);
		for (char **variable = list; variable != NULL && *variable != NULL; variable++)
			fprintf(out, "childenv %s\n", *variable);
		fflush(out);
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static void listen_on(int port) {
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1) != 0)
		die("listen");
}

static pid_t stepd;

static void start_stepd(const char *program, const char *version, const char *part) {
	static const char spool[] = HOME "/spool", name[] = HOME "/spool/n_5.4294967292";
	mkdir(spool, 0755);
	stepd = fork();
	if (stepd == 0) {
		execl(program, program, name, version, part, NULL);
		_exit(127);
	}
	for (int i = 0; access(name, F_OK) != 0; i++) {
		if (i == 3000 || waitpid(stepd, NULL, WNOHANG) != 0)
			die(program);
		nap();
	}
}

static char *behind(char *text, const char *name) {
	size_t length = strlen(name);
	return strncmp(text, name, length) == 0 && text[length] == '=' ? text + length + 1 : NULL;
}

/* `A=B`: cuts it in two. */
static char *second(char *text) {
	char *at = strchr(text, '=');
	if (at == NULL)
		die(text);
	*at = '\0';
	return at + 1;
}

static int silent;

static void do_step(char *step) {
	char *value, *more;
	if ((value = behind(step, "words")) != NULL) {
		words = value;
	} else if ((value = behind(step, "user")) != NULL) {
		user = value;
	} else if ((value = behind(step, "service")) != NULL) {
		service = value;
	} else if ((value = behind(step, "renamed")) != NULL) {
		start_pam();
		pam_set_item(pamh, PAM_SERVICE, value);
	} else if ((value = behind(step, "rhost")) != NULL) {
		start_pam();
		pam_set_item(pamh, PAM_RHOST, value);
	} else if ((value = behind(step, "pamenv")) != NULL) {
		start_pam();
		pam_putenv(pamh, value);
	} else if ((value = behind(step, "env")) != NULL) {
		putenv(value);
	} else if ((value = behind(step, "part")) != NULL) {
		char *text = strdup(value);
		for (char *at = text; at != NULL && *at != '\0'; at++)
			if (*at == '|')
				*at = '\n';
		if (text != NULL)
			write_file(HOME "/part", text, 0600);
		free(text);
	} else if ((value = behind(step, "file")) != NULL) {
		more = second(value);
		char *path = strdup(filled(value, 0));
		write_file(path, filled(more, 1), 0600);
		free(path);
	} else if ((value = behind(step, "mkdir")) != NULL) {
		mkdir(filled(value, 0), 0700);
	} else if ((value = behind(step, "chmod")) != NULL) {
		more = second(value);
		chmod(filled(more, 0), (mode_t)strtol(value, NULL, 8));
	} else if ((value = behind(step, "chown")) != NULL) {
		more = second(value);
		if (lchown(filled(more, 0), (uid_t)atoi(value), (gid_t)-1) != 0)
			die("chown");
	} else if ((value = behind(step, "link")) != NULL) {
		more = second(value);
		if (symlink(value, filled(more, 0)) != 0)
			die("link");
	} else if ((value = behind(step, "unlink")) != NULL) {
		unlink(filled(value, 0));
	} else if ((value = behind(step, "has")) != NULL) {
		fprintf(out, "has %s: %s\n", value, access(filled(value, 0), F_OK) == 0 ? "yes" : "no");
	} else if ((value = behind(step, "sigchld")) != NULL) {
		struct sigaction action = { .sa_handler = SIG_IGN };
		if (strcmp(value, "handler") == 0) {
			action.sa_handler = on_child;
			action.sa_flags = SA_RESTART | SA_NOCLDSTOP;
			sigaddset(&action.sa_mask, SIGUSR1);
		} else if (strcmp(value, "nowait") == 0) {
			action.sa_handler = SIG_DFL;
			action.sa_flags = SA_NOCLDWAIT;
		}
		sigaction(SIGCHLD, &action, NULL);
	} else if (strcmp(step, "sigpipe") == 0) {
		signal(SIGPIPE, SIG_DFL);
	} else if (strcmp(step, "handlers") == 0) { /* a handler for everything, some blocked, some ignored */
		struct sigaction action = { .sa_handler = on_alarm };
		sigset_t some;
		for (int number = 1; number < 65; number++)
			if (number != SIGCHLD && number != SIGSEGV && number != SIGABRT)
				sigaction(number, &action, NULL);
		signal(SIGHUP, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
		sigemptyset(&some);
		sigaddset(&some, SIGUSR2);
		sigaddset(&some, SIGTERM);
		sigprocmask(SIG_BLOCK, &some, NULL);
	} else if ((value = behind(step, "alarm")) != NULL) { /* again and again, as sshd's once */
		struct sigaction action = { .sa_handler = on_alarm };
		struct itimerval timer = { { 0, atoi(value) * 1000 }, { 0, atoi(value) * 1000 } };
		sigaction(SIGALRM, &action, NULL);
		setitimer(ITIMER_REAL, &timer, NULL);
	} else if (strcmp(step, "alarms") == 0) {
		struct itimerval none = { { 0, 0 }, { 0, 0 } };
		setitimer(ITIMER_REAL, &none, NULL);
		fprintf(out, "alarms %s\n", alarms > 0 ? "came" : "none");
	} else if ((value = behind(step, "as")) != NULL) {
		set_limit(RLIMIT_AS, (rlim_t)atoi(value) << 20);
	} else if (strcmp(step, "limits") == 0) {
		set_limit(RLIMIT_FSIZE, 1 << 20);
		set_limit(RLIMIT_DATA, 64 << 20);
		set_limit(RLIMIT_CPU, 600);
		set_limit(RLIMIT_NPROC, 10000);
		set_limit(RLIMIT_STACK, 1 << 20);
	} else if ((value = behind(step, "nofile")) != NULL) {
		set_limit(RLIMIT_NOFILE, (rlim_t)atoi(value));
	} else if (strcmp(step, "closed") == 0) {
		for (int fd = 0; fd < 3; fd++)
			close(fd);
	} else if ((value = behind(step, "open")) != NULL) { /* without close-on-exec */
		for (int i = atoi(value); i > 0; i--)
			if (dup(fileno(out)) < 0)
				die("dup");
	} else if ((value = behind(step, "without")) != NULL) {
		refuse(value);
	} else if ((value = behind(step, "threads")) != NULL) {
		for (int i = atoi(value); i > 0; i--) {
			pthread_t thread;
			if (pthread_create(&thread, NULL, wait_for_ever, NULL) != 0)
				die("start a thread");
		}
	} else if ((value = behind(step, "cwd")) != NULL) {
		if (chdir(value) != 0)
			die(value);
	} else if ((value = behind(step, "nice")) != NULL) {
		if (setpriority(PRIO_PROCESS, 0, atoi(value)) != 0)
			die("change the nice value");
	} else if ((value = behind(step, "policy")) != NULL) {
		const struct sched_param none = { .sched_priority = 0 };
		if (sched_setscheduler(0, strcmp(value, "idle") == 0 ? SCHED_IDLE : SCHED_BATCH, &none) != 0)
			die("change the scheduling policy");
	} else if ((value = behind(step, "real")) != NULL) { /* as a setuid program of that user */
		gid_t groups[] = { 4, 5 };
		if (setgroups(2, groups) != 0 || setresgid((gid_t)atoi(value), 0, 0) != 0 || setresuid((uid_t)atoi(value), 0, 0) != 0)
			die("change ids");
	} else if ((value = behind(step, "cgroup")) != NULL) {
		char path[4096], pid[32];
		snprintf(path, sizeof path, "%s/cgroup.procs", value);
		snprintf(pid, sizeof pid, "%d", (int)getpid());
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, pid, strlen(pid)) < 0)
			die(path);
		close(fd);
	} else if ((value = behind(step, "thread")) != NULL) { /* a call in another thread */
		pthread_t thread;
		struct call call = { value, silent, -1 };
		start_pam();
		if (pthread_create(&thread, NULL, run_call, &call) != 0)
			die("start a thread");
		pthread_join(thread, NULL);
		fprintf(out, "result %s %d 0\n", value, call.result);
	} else if (strcmp(step, "silent") == 0) {
		silent = PAM_SILENT;
	} else if ((value = behind(step, "call")) != NULL) {
		do_call(value, silent);
	} else if ((value = behind(step, "crowd")) != NULL) {
		call_at_once(atoi(value));
	} else if ((value = behind(step, "listen")) != NULL) {
		listen_on(atoi(value));
	} else if ((value = behind(step, "leaves")) != NULL) {
		if (fork() == 0) {
			usleep((useconds_t)atoi(value) * 1000);
			_exit(0);
		}
	} else if (strcmp(step, "ended") == 0) {
		fprintf(out, "ended %d\n", (int)ended);
	} else if (strcmp(step, "child") == 0) {
		look_in_child();
	} else if ((value = behind(step, "loginuid")) != NULL) {
		int fd = open("/proc/self/loginuid", O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, value, strlen(value)) < 0)
			die("set the loginuid");
		close(fd);
	} else if ((value = behind(step, "show")) != NULL) {
		fprintf(out, "show ");
		print_file(filled(value, 0));
	} else if (strcmp(step, "session") == 0) {
		fprintf(out, "session ");
		print_file("/proc/self/sessionid");
		fprintf(out, "\n");
	} else if (strcmp(step, "places") == 0) {
		print_file("/proc/self/cgroup");
	} else if (strcmp(step, "hostname") == 0) {
		char name[256] = "";
		gethostname(name, sizeof name - 1);
		fprintf(out, "hostname %s\n", name);
	} else if (strcmp(step, "folder") == 0) {
		char folder[4096];
		fprintf(out, "folder %s\n", getcwd(folder, sizeof folder) == NULL ? "?" : folder);
	} else if ((value = behind(step, "stepd")) != NULL) {
		char *version = second(value), *part = second(version);
		start_stepd(value, version, part);
	} else if (strcmp(step, "die") == 0) {
		die_in_the_middle();
	} else if (strcmp(step, "saw") == 0) {
		print_file(HOME "/saw");
	} else if (strcmp(step, "helper") == 0) { /* whether it still lives */
		int pid = number_in(HOME "/helper.pid");
		fprintf(out, "helper %s\n", pid == 0 ? "did not start" : lives(pid) ? "lives" : "is gone");
	} else if (strcmp(step, "grandchild") == 0) {
		int pid = number_in(HOME "/grandchild.pid");
		fprintf(out, "grandchild %s\n", pid > 0 && lives(pid) ? "lives" : "is gone");
		if (pid > 0)
			kill(pid, SIGKILL);
	} else {
		errno = EINVAL;
		die(step);
	}
}

int main(int argc, char **argv) {
	if (argc < 3)
		return 2;
	out = fdopen(fcntl(1, F_DUPFD_CLOEXEC, 500), "w");
	if (out == NULL)
		return 2;
	setvbuf(out, NULL, _IOLBF, 0);
	module = argv[1];
	enter_namespace(argv[2]);
	for (int i = 3; i < argc; i++)
		do_step(argv[i]);
	if (pamh != NULL)
		pam_end(pamh, PAM_SUCCESS);
	if (stepd > 0) {
		kill(stepd, SIGKILL);
		waitpid(stepd, NULL, 0);
	}
	fprintf(out, "done\n");
	return 0;
}
