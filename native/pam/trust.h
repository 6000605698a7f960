/* Whether a file is root's alone: nobody else can change it, or put another in its place. */

#ifndef SLURM_CGROUPS_TRUST_H
#define SLURM_CGROUPS_TRUST_H

#include <limits.h>
#include <stdbool.h>

struct distrust {
	const char *why;
	char at[PATH_MAX]; /* the part of the path that is at fault */
};

/* A regular, executable file, every folder and link on the way to it included. Looks at the path only: a file system
   that hangs hangs this too. Calls nothing that allocates or locks, for the child between fork and exec. */
bool trust_program(const char *path, struct distrust *distrust);

/* An open file or folder by itself: owned by root, written by no other. `type`: S_IFREG or S_IFDIR. */
bool trust_open(int fd, unsigned type);

#endif
