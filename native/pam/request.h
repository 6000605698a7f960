/* The request to the helper: PROTOCOL.md. */

#ifndef SLURM_CGROUPS_REQUEST_H
#define SLURM_CGROUPS_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

struct request {
	size_t length;
	bool too_long;
	char text[PROTOCOL_LONGEST_MESSAGE];
};

void request_begin(struct request *request);

/* A line. Without a value (NULL) there is none. */
void request_add(struct request *request, const char *key, const char *value);
void request_add_number(struct request *request, const char *key, uint64_t number);

/* False: a line or the whole is too long, and nothing may be sent. */
bool request_end(struct request *request);

#endif
