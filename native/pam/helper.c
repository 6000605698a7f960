/* One question to the helper: started, asked, heard, ended. Every wait ends at the deadline; then the helper is killed.

   Its exit is part of its answer: what it still does (tells slurmstepd) is done within the budget, or not at all. */

#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "plain.h"
#include "talk.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* A helper that crashes closes its stream a moment before its exit can be read. */
enum { CLOSED_WAIT_MS = 200 };

__attribute__((format(printf, 2, 3))) static void because(struct outcome *outcome, const char *format, ...) {
	va_list rest;
	va_start(rest, format);
	vsnprintf(outcome->why, sizeof outcome->why, format, rest);
	va_end(rest);
}

/* Sends the request and hears the reply, up to its end. */
static bool converse(struct talk *talk, const struct helper *helper, const struct request *request, size_t *length,
                     struct outcome *outcome) {
	char end[32];
	const uint64_t deadline = helper->deadline;
	for (;;) {
		bool gone = talk_ended(talk); /* first: what it said before it ended is in the stream by then */
		if (talk->sent < request->length)
			talk_send(talk, request);
		enum heard heard = talk_hear(talk);
		*length = reply_length(talk->heard, talk->heard_length);
		if (*length > 0)
			return true;
		if (talk->heard_length == sizeof talk->heard) {
			because(outcome, "the helper's answer is too long");
			return false;
		}
		if (heard == HEARD_MORE)
			continue;
		if (heard == HEARD_END || gone) {
			talk_close(&talk->stream);
			uint64_t soon = clock_ms() + CLOSED_WAIT_MS;
			if (talk_wait_end(talk, soon < deadline ? soon : deadline)) {
				talk_describe_end(talk, end, sizeof end);
				/* 127: from child.c, from a shell, from env(1) that finds no node */
				if (talk->known && WIFEXITED(talk->status) && WEXITSTATUS(talk->status) == 127)
					because(outcome, "the helper %s could not be started", helper->program);
				else
					because(outcome, "the helper ended without a whole answer (%s)", end);
			} else {
				because(outcome, "the helper closed its stream without a whole answer");
			}
			return false;
		}
		if (!talk_wait(talk, talk->sent < request->length, deadline)) {
			/* What it has said while we were kept from hearing it, be it all. */
			talk_hear_out(talk);
			*length = reply_length(talk->heard, talk->heard_length);
			if (*length > 0)
				return true;
			because(outcome, "the helper gave no answer within %llu ms and was killed",
			        (unsigned long long)helper->budget_ms);
			return false;
		}
	}
}

static void hear_answer(struct talk *talk, const struct helper *helper, const struct request *request,
                        struct reply *reply, struct outcome *outcome) {
	char end[32];
	size_t length;
	if (!converse(talk, helper, request, &length, outcome))
		return;
	const char *wrong = reply_parse(talk->heard, length, reply);
	if (wrong != NULL) {
		because(outcome, "the helper's answer cannot be used: %s", wrong);
		return;
	}
	outcome->answered = true;
	talk_close(&talk->stream);
	if (!talk_wait_end(talk, helper->deadline)) {
		outcome->late = true;
		snprintf(outcome->note, sizeof outcome->note, "The helper answered, but did not end in time and was killed");
		return;
	}
	talk_describe_end(talk, end, sizeof end);
	if (!talk->known || !WIFEXITED(talk->status) || WEXITSTATUS(talk->status) > 1)
		snprintf(outcome->note, sizeof outcome->note, "The helper answered, then ended with %s", end);
}

/* The fork, with every signal blocked: a handler of the caller's must not run in the child. */
static pid_t start(const struct helper *helper, int talk, int errors) {
	sigset_t all, before;
	struct child child = { helper->program, talk, errors, getpid(), helper->record };
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	if (pid == 0)
		child_run(&child);
	int code = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = code;
	return pid;
}

static void add_said(const struct talk *talk, struct outcome *outcome) {
	size_t used = strlen(outcome->why);
	if (talk->said_length > 0)
		snprintf(outcome->why + used, sizeof outcome->why - used, "; it said: %s", talk->said);
}

/* With SIGCHLD at its default. */
static void start_and_hear(struct talk *talk, const struct helper *helper, const struct request *request,
                           struct reply *reply, struct outcome *outcome) {
	int stream[2], errors[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream) != 0) {
		because(outcome, "no socket could be made: %s", strerror(errno));
		return;
	}
	if (pipe2(errors, O_CLOEXEC) != 0) {
		because(outcome, "no pipe could be made: %s", strerror(errno));
		close(stream[0]);
		close(stream[1]);
		return;
	}
	fcntl(errors[0], F_SETFL, O_NONBLOCK);
	talk->pid = start(helper, stream[1], errors[1]);
	if (talk->pid < 0)
		because(outcome, "no process could be made for the helper: %s", strerror(errno));
	close(stream[1]);
	close(errors[1]);
	talk->stream = stream[0];
	talk->errors = errors[0];
	if (talk->pid > 0) {
		talk->pidfd = (int)syscall(SYS_pidfd_open, talk->pid, 0);
		hear_answer(talk, helper, request, reply, outcome);
		if (!talk_kill(talk)) {
			outcome->late = true;
			snprintf(outcome->note, sizeof outcome->note,
			         "Helper process %d was killed but has not ended: it hangs in the kernel, and is left alone; look at "
			         "/proc/%d/stack",
			         (int)talk->pid, (int)talk->pid);
		}
		if (!outcome->answered) {
			reply_parse_begun(talk->heard, talk->heard_length, reply);
			add_said(talk, outcome);
		}
	}
	talk_close(&talk->stream);
	talk_close(&talk->errors);
	talk_close(&talk->pidfd);
}

/* The caller's handler has heard nothing meanwhile: it is told now, if another child of the caller's has ended. */
static void catch_up(const struct sigaction *handler) {
	siginfo_t ended = { .si_pid = 0 };
	if (handler->sa_handler == SIG_DFL || handler->sa_handler == SIG_IGN)
		return;
	if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid != 0)
		kill(getpid(), SIGCHLD);
}

void helper_ask(const struct helper *helper, const struct request *request, struct reply *reply, struct outcome *outcome) {
	struct sigaction standard = { .sa_handler = SIG_DFL }, before;
	*outcome = (struct outcome){ .answered = false };
	if (clock_ms() >= helper->deadline) {
		because(outcome, "the budget was used up before the helper could be started");
		return;
	}
	struct talk *talk = calloc(1, sizeof *talk);
	if (talk == NULL) {
		because(outcome, "there is no memory");
		return;
	}
	talk->stream = talk->errors = talk->pidfd = -1;
	/* Where the caller ignores SIGCHLD, children vanish before anybody can wait for them; where it has a handler, that
	   would wait for ours. Of several threads here at once only the one that found something else than the default puts
	   it back: what the others found was that one's doing. */
	sigaction(SIGCHLD, &standard, &before);
	bool changed = before.sa_handler != SIG_DFL || (before.sa_flags & SA_NOCLDWAIT) != 0;
	start_and_hear(talk, helper, request, reply, outcome);
	if (changed) {
		sigaction(SIGCHLD, &before, NULL);
		catch_up(&before);
	}
	free(talk);
	plain_make(outcome->why);
	plain_make(outcome->note);
}
