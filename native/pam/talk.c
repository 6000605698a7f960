/* A helper that runs: its process, and our ends of its stream and its errors. */

#include "talk.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

enum {
	LOOK_MS = 20,         /* how often the child is looked at where the kernel has no pidfd (before 5.3: RHEL 8) */
	KILLED_WAIT_MS = 500, /* SIGKILL takes effect at once, except on a process that hangs in the kernel */
};

void talk_close(int *fd) {
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* waitpid() for this one alone: the caller's other children are its own. */
bool talk_ended(struct talk *talk) {
	pid_t got;
	if (talk->ended)
		return true;
	do
		got = waitpid(talk->pid, &talk->status, WNOHANG);
	while (got < 0 && errno == EINTR);
	if (got == 0)
		return false;
	talk->known = got == talk->pid; /* ECHILD: a thread of the caller waits for every child, or ignores SIGCHLD again */
	talk->ended = true;
	return true;
}

static void hear_errors(struct talk *talk) {
	char text[1024];
	ssize_t got = read(talk->errors, text, sizeof text);
	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
		talk_close(&talk->errors);
		return;
	}
	for (ssize_t i = 0; i < got && !talk->said_whole; i++) {
		if (text[i] == '\n' || talk->said_length == sizeof talk->said - 1)
			talk->said_whole = true;
		else
			talk->said[talk->said_length++] = text[i] == '\0' ? '?' : text[i];
	}
}

/* What can be sent now. A helper may answer without having read it all. */
void talk_send(struct talk *talk, const struct request *request) {
	ssize_t sent = send(talk->stream, request->text + talk->sent, request->length - talk->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent > 0)
		talk->sent += (size_t)sent;
	else if (sent < 0 && errno != EAGAIN && errno != EINTR)
		talk->sent = request->length;
}

enum heard talk_hear(struct talk *talk) {
	size_t room = sizeof talk->heard - talk->heard_length;
	ssize_t got = recv(talk->stream, talk->heard + talk->heard_length, room, MSG_DONTWAIT);
	if (got > 0) {
		talk->heard_length += (size_t)got;
		return HEARD_MORE;
	}
	/* ECONNRESET: it has ended without having read the whole request. */
	return got < 0 && (errno == EAGAIN || errno == EINTR) ? HEARD_NOTHING : HEARD_END;
}

void talk_hear_out(struct talk *talk) {
	shutdown(talk->stream, SHUT_RD); /* what it writes later fails, what it has written stays */
	while (talk->heard_length < sizeof talk->heard && talk_hear(talk) == HEARD_MORE)
		;
}

bool talk_wait(struct talk *talk, bool sending, uint64_t until) {
	uint64_t now = clock_ms();
	if (now >= until)
		return false;
	struct pollfd ends[] = {
		{ .fd = talk->stream, .events = (short)(sending ? POLLIN | POLLOUT : POLLIN) },
		{ .fd = talk->errors, .events = POLLIN },
		{ .fd = talk->ended ? -1 : talk->pidfd, .events = POLLIN },
	};
	uint64_t left = until - now;
	if (talk->pidfd < 0 && left > LOOK_MS)
		left = LOOK_MS;
	int ready = poll(ends, 3, (int)left);
	if (ready < 0 && errno != EINTR)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL); /* no memory in the kernel: not in a circle */
	if (ready > 0 && ends[1].revents != 0)
		hear_errors(talk);
	return true;
}

bool talk_wait_end(struct talk *talk, uint64_t until) {
	while (!talk_ended(talk))
		if (!talk_wait(talk, false, until))
			return talk_ended(talk);
	/* What it wrote last. A process of its own may hold the pipe open still: what is there now is enough. */
	for (size_t length = 0; talk->errors >= 0 && !talk->said_whole; length = talk->said_length) {
		hear_errors(talk);
		if (talk->said_length == length)
			break;
	}
	return true;
}

bool talk_kill(struct talk *talk) {
	talk_close(&talk->stream);
	if (talk_ended(talk))
		return true;
	/* Nobody has waited for it, so its number is still its own, with or without a pidfd. */
	if (talk->pidfd < 0 || syscall(SYS_pidfd_send_signal, talk->pidfd, SIGKILL, NULL, 0) != 0)
		kill(talk->pid, SIGKILL);
	return talk_wait_end(talk, clock_ms() + KILLED_WAIT_MS);
}

void talk_describe_end(const struct talk *talk, char *text, size_t size) {
	if (!talk->known)
		snprintf(text, size, "an unknown end");
	else if (WIFSIGNALED(talk->status))
		snprintf(text, size, "signal %d", WTERMSIG(talk->status));
	else
		snprintf(text, size, "exit code %d", WEXITSTATUS(talk->status));
}
