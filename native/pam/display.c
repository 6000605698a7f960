/* The job's X11 display, and the one that `ssh -X` brings. sshd asks PAM before it knows whether the client wants X11
   forwarding, and what PAM has set wins over its own DISPLAY (do_setup_env in its session.c). So the choice is made where
   it is known: in the process that sshd forks for a session, which has the environment still to read, and where the
   sockets stand open on which sshd listens for X11. Of a multiplexed connection one session with X11 forwarding is enough,
   as long as it lasts: those beside it have no DISPLAY of the job's then. */

#include "display.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

/* Display N is port 6000 + N; sshd begins at 10 (X11DisplayOffset) and tries 1,000. */
enum { FIRST_PORT = 6000, LAST_PORT = 7999, MOST_DESCRIPTORS = 1024 };

static _Atomic(pam_handle_t *) session; /* NULL: none has a display of its job */
static char of_job[64];

static bool is_x11(int fd) {
	int listens = 0;
	socklen_t size = sizeof listens;
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} address = { .any = { .sa_family = AF_UNSPEC } };
	socklen_t length = sizeof address;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || !listens)
		return false;
	if (getsockname(fd, &address.any, &length) != 0)
		return false;
	int family = address.any.sa_family;
	if (family != AF_INET && family != AF_INET6)
		return false;
	int port = ntohs(family == AF_INET ? address.four.sin_port : address.six.sin6_port);
	return port >= FIRST_PORT && port <= LAST_PORT;
}

static void unset(pam_handle_t *pamh, const char *name) {
	if (pam_getenv(pamh, name) != NULL)
		pam_putenv(pamh, name);
}

/* In each process that is forked from here on; this one keeps what it has. */
static void in_child(void) {
	pam_handle_t *pamh = atomic_load(&session);
	if (pamh == NULL)
		return;
	for (int fd = 0; fd < MOST_DESCRIPTORS; fd++) {
		if (!is_x11(fd))
			continue;
		const char *display = pam_getenv(pamh, "DISPLAY");
		if (display != NULL && strcmp(display, of_job) == 0) {
			unset(pamh, "DISPLAY");
			unset(pamh, "XAUTHORITY");
		}
		return;
	}
}

/* PAM's end. libpam unloads the module then, and the C library forgets what it registered. */
static void forget(pam_handle_t *pamh, void *data, int status) {
	(void)data;
	(void)status;
	if (atomic_load(&session) == pamh)
		atomic_store(&session, NULL);
}

void display_yield(pam_handle_t *pamh, const char *display) {
	static atomic_flag registered = ATOMIC_FLAG_INIT;
	if (strlen(display) >= sizeof of_job)
		return;
	if (pam_set_data(pamh, "slurm_cgroups_display", of_job, forget) != PAM_SUCCESS)
		return;
	memcpy(of_job, display, strlen(display) + 1);
	atomic_store(&session, pamh);
	if (!atomic_flag_test_and_set(&registered))
		pthread_atfork(NULL, NULL, in_child);
}
