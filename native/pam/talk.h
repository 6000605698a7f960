/* A helper that runs: its process, and our ends of its stream and its errors. */

#ifndef SLURM_CGROUPS_TALK_H
#define SLURM_CGROUPS_TALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "protocol.h"
#include "request.h"

struct talk {
	pid_t pid;
	int pidfd; /* -1: this kernel has none */
	bool ended, known; /* it has; with what status is known */
	int status;
	int stream, errors; /* our ends; -1: closed */
	size_t sent;
	size_t said_length; /* the first line of what it wrote to descriptor 2 */
	bool said_whole;
	char said[200];
	size_t heard_length;
	char heard[PROTOCOL_LONGEST_MESSAGE];
};

enum heard { HEARD_MORE, HEARD_NOTHING, HEARD_END };

/* What can be sent now; what can be read now. */
void talk_send(struct talk *talk, const struct request *request);
enum heard talk_hear(struct talk *talk);

/* From now on it can say no more, and all that it has said is heard. */
void talk_hear_out(struct talk *talk);

/* Whether the process has ended. */
bool talk_ended(struct talk *talk);

/* Waits until something happens, at most until that moment (ms of CLOCK_BOOTTIME). False: it is past. */
bool talk_wait(struct talk *talk, bool sending, uint64_t until);

/* Waits until the process has ended, at most until that moment. False: it has not. */
bool talk_wait_end(struct talk *talk, uint64_t until);

/* Kills it if it has not ended. False: not even that has ended it, it hangs in the kernel. */
bool talk_kill(struct talk *talk);

/* How it ended: "exit code 1", "signal 11". */
void talk_describe_end(const struct talk *talk, char *text, size_t size);

/* Closes our end, if it is open. */
void talk_close(int *fd);

#endif
