/* Text that others wrote, made fit for a log and a terminal. */

#ifndef SLURM_CGROUPS_PLAIN_H
#define SLURM_CGROUPS_PLAIN_H

/* Replaces in place what could act on a terminal or break a line: control characters, and marks that turn the direction
   of text. */
void plain_make(char *text);

#endif
