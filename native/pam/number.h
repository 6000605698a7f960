/* Numbers written in decimal digits. */

#ifndef SLURM_CGROUPS_NUMBER_H
#define SLURM_CGROUPS_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Digits alone: no sign, no blank, no zero in front; at most `most`. */
bool number_read(const char *text, size_t length, uint64_t most, uint64_t *number);

#endif
