/* One question to the helper: started, asked, heard, ended. */

#ifndef SLURM_CGROUPS_HELPER_H
#define SLURM_CGROUPS_HELPER_H

#include <stdbool.h>
#include <stdint.h>

#include "reply.h"
#include "request.h"

struct helper {
	const char *program;
	const struct reply *record; /* it is started in the cgroups that are `from` there; NULL: in ours */
	uint64_t budget_ms, deadline; /* the latter in ms of CLOCK_BOOTTIME */
};

struct outcome {
	bool answered;  /* a whole, valid reply within the time */
	char why[512];  /* else why not */
	char note[512]; /* what else is worth a line in the log; empty: nothing */
	bool late;      /* the note is about a helper that had to be killed: worth a warning */
};

/* Not answered, though a helper was started: the reply holds what that had begun (reply_parse_begun).
   Leaves signal handlers, descriptors and children of the caller as they were, whatever happens. SIGCHLD is at its default
   meanwhile, for the whole process; several threads may ask at once. */
void helper_ask(const struct helper *helper, const struct request *request, struct reply *reply, struct outcome *outcome);

#endif
