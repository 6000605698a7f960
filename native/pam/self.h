/* What /proc says about the process that PAM runs in. */

#ifndef SLURM_CGROUPS_SELF_H
#define SLURM_CGROUPS_SELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reply.h"

struct self {
	uint64_t pid, start, threads;
};

bool self_read(struct self *self);

/* A file of /proc that holds one number. */
bool self_number(const char *path, uint64_t *number);

/* Whether this process is in every cgroup that the reply names. It names none: no. */
bool self_placed(const struct reply *reply);

/* The start time in a /proc/PID/stat. */
bool self_start(const char *stat, size_t length, uint64_t *start);

/* The same as self_placed for the text of a /proc/PID/cgroup. */
bool self_placed_in(const char *text, size_t length, const struct reply *reply);

#endif
