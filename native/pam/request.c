/* The request to the helper: PROTOCOL.md. */

#include "request.h"

#include <stdio.h>
#include <string.h>

static void put(struct request *request, char c) {
	if (request->length < sizeof request->text)
		request->text[request->length++] = c;
	else
		request->too_long = true;
}

static void put_all(struct request *request, const char *text) {
	for (; *text != '\0'; text++)
		put(request, *text);
}

void request_begin(struct request *request) {
	char version[16];
	request->length = 0;
	request->too_long = false;
	snprintf(version, sizeof version, " %d\n", PROTOCOL_VERSION);
	put_all(request, PROTOCOL_REQUEST);
	put_all(request, version);
}

void request_add(struct request *request, const char *key, const char *value) {
	static const char hex[] = "0123456789ABCDEF";
	size_t begin = request->length;
	if (value == NULL)
		return;
	put_all(request, key);
	put(request, ' ');
	for (; *value != '\0'; value++) {
		unsigned char c = (unsigned char)*value;
		if (c < 0x20 || c == 0x7f || c == '%') {
			put(request, '%');
			put(request, hex[c >> 4]);
			put(request, hex[c & 15]);
		} else {
			put(request, *value);
		}
	}
	put(request, '\n');
	if (request->length - begin > PROTOCOL_LONGEST_LINE)
		request->too_long = true;
}

void request_add_number(struct request *request, const char *key, uint64_t number) {
	char digits[24];
	snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
	request_add(request, key, digits);
}

bool request_end(struct request *request) {
	put_all(request, "end\n");
	return !request->too_long;
}
