/* From fork to exec: the process that becomes the helper. */

#ifndef SLURM_CGROUPS_CHILD_H
#define SLURM_CGROUPS_CHILD_H

#include <sys/types.h>

#include "reply.h"

struct child {
	const char *program;
	int talk;                   /* becomes 0 and 1 */
	int errors;                 /* becomes 2 */
	pid_t parent;
	const struct reply *record; /* it goes to the cgroups that are `from` there; NULL: it stays */
};

/* Called with every signal blocked. */
_Noreturn void child_run(const struct child *child);

/* Closes the descriptors from 3 on. The second does it without close_range (Linux 5.9). */
void child_close_descriptors(void);
void child_close_listed(void);

#endif
