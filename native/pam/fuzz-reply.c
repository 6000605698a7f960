/* libFuzzer's way into what reads others' text: the reply, /proc/PID/cgroup, /proc/PID/stat, the log's lines.
   `npm run test:native` builds and runs it. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "plain.h"
#include "reply.h"
#include "self.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	static const char *const keys[] = { "log", "message", "cgroup", "from" };
	static struct reply reply;
	const char *text = (const char *)data;
	uint64_t start;

	size_t length = reply_length(text, size);
	if (length > size)
		abort();
	/* The message at the begin, as from the stream, the whole, as from a record, and what came before its sender died. */
	for (int how = 0; how < 3; how++) {
		bool good = how == 2 ? reply_parse_begun(text, size, &reply) : reply_parse(text, how == 1 ? size : length, &reply) == NULL;
		if (!good)
			continue;
		for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
			for (const char *value = NULL; (value = reply_next(&reply, keys[i], value)) != NULL;)
				if (value + strlen(value) >= reply.pairs + reply.used)
					abort();
		self_placed_in(text, size, &reply);
	}
	self_start(text, size, &start);

	char *copy = malloc(size + 1);
	if (copy != NULL) {
		memcpy(copy, data, size);
		copy[size] = '\0';
		plain_make(copy);
		free(copy);
	}
	return 0;
}
