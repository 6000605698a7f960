/* The clock of deadlines. CLOCK_BOOTTIME goes on while the machine sleeps, and nobody can set it. */

#ifndef SLURM_CGROUPS_CLOCK_H
#define SLURM_CGROUPS_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ms(void) {
	struct timespec now = { 0, 0 };
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#endif
