/* The job's X11 display, and the one that `ssh -X` brings. */

#ifndef SLURM_CGROUPS_DISPLAY_H
#define SLURM_CGROUPS_DISPLAY_H

#include <security/pam_modules.h>

/* Lets a session with X11 forwarding of its own keep that: the PAM environment has the job's DISPLAY (and XAUTHORITY), and
   sshd sets the session's variables from there last of all. Called once it is set. */
void display_yield(pam_handle_t *pamh, const char *display);

#endif
