/* The helper's reply, and the record that it leaves for the session phase: PROTOCOL.md. */

#ifndef SLURM_CGROUPS_REPLY_H
#define SLURM_CGROUPS_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "action.h"
#include "protocol.h"

/* Points into itself: not to be copied. */
struct reply {
	enum action action;
	const char *reason; /* this and the next four, and `adoptions`: NULL where the line is absent */
	const char *job;
	const char *display;
	const char *xauthority;
	const char *stepd; /* the socket of the slurmstepd that is asked for the job's namespaces */
	uint64_t stepd_version;
	bool spaces_unknown; /* the job has namespaces, and nobody to ask for them */
	bool spaces_at_once; /* they are joined in the account phase: there is no session phase */
	const char *adoptions; /* the folder of the job's records of adoptions; NULL: this one is not recorded */
	uint64_t sshd_session; /* the audit session of sshd itself */
	uint64_t pid, start; /* 0: no line `process` */
	bool counted;
	enum action failure; /* of a session that is not in its job; ACTION_IGNORE: no line `failure` */
	size_t used;
	char pairs[PROTOCOL_LONGEST_MESSAGE]; /* key, NUL, value, NUL for each line */
};

/* How long the message at the begin of `text` is, with its line `end`; 0: its end has not come yet. */
size_t reply_length(const char *text, size_t length);

/* `text` has to be one whole message. NULL: it is, and `reply` holds it; else what is wrong with it. */
const char *reply_parse(const char *text, size_t length, struct reply *reply);

/* The same for what came of a message before its helper ended: its whole lines. False: there is nothing to use. */
bool reply_parse_begun(const char *text, size_t length, struct reply *reply);

/* Whether the session is in a job by what it says, be it one whose id is not known. */
bool reply_in_job(const struct reply *reply);

/* The value of the next line of that key behind `previous` (NULL: the first); NULL: no more. Calls nothing that
   allocates or locks, for the child between fork and exec. */
const char *reply_next(const struct reply *reply, const char *key, const char *previous);

#endif
