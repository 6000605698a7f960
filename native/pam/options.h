/* The words of the PAM line that the module itself reads. The helper gets them too, but for a few. */

#ifndef SLURM_CGROUPS_OPTIONS_H
#define SLURM_CGROUPS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "action.h"

#define OPTIONS_HELPER "/usr/lib/slurm-cgroups/slurm-cgroups"
#define OPTIONS_SOCKET "/run/slurm-cgroups/pam.sock"

/* Points into the words that it was read from. */
struct options {
	bool ignore_root;
	const char *service; /* a PAM service, or `*` */
	uint64_t budget_ms;
	bool strict; /* profile=strict */
	enum action generic_failure;
	const char *helper;
	const char *socket;  /* of the resident process: not used yet */
	const char *wrong;   /* the first word whose value is not allowed; NULL: none */
	const char *allowed; /* what is allowed there */
};

/* A wrong word leaves the value as it was: root gets in, whatever stands on the line. */
void options_read(int count, const char *const *words, struct options *options);

/* Whether the helper does not get this word, right or wrong: it is about the helper itself. */
bool options_keep(const char *word);

/* Whether sessions of that PAM service are ours. */
bool options_serve(const struct options *options, const char *service);

#endif
