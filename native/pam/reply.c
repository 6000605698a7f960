/* The helper's reply. What comes from there is root's, but it is read as if it were an enemy's: a parser in sshd's
   process must not be the way in. One wrong byte, and nothing of the message is used. */

#include "reply.h"

#include <limits.h>
#include <string.h>

#include "number.h"

static const char end_line[] = "\nend\n";

size_t reply_length(const char *text, size_t length) {
	const char *end = memmem(text, length, end_line, sizeof end_line - 1);
	return end == NULL ? 0 : (size_t)(end - text) + sizeof end_line - 1;
}

/* `-1` where the digit is none, or a small one. */
static int hex_digit(char c) {
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A NUL can stand in no value that is used as a path or a number; in a text for people it becomes a `?`. */
static const char nul_mark = '\x01';

/* Writes the value to `out`; the length, or -1 where a byte is not written as the protocol has it. */
static int unescape(const char *text, size_t length, char *out) {
	int used = 0;
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c < 0x20 || c == 0x7f)
			return -1;
		if (c == '%') {
			if (length - i < 3)
				return -1;
			int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
			if (high < 0 || low < 0)
				return -1;
			c = (unsigned char)(high * 16 + low);
			if (c >= 0x20 && c != 0x7f && c != '%')
				return -1; /* one value has one spelling */
			if (c == 0)
				c = (unsigned char)nul_mark;
			i += 2;
		}
		out[used++] = (char)c;
	}
	out[used] = '\0';
	return used;
}

static bool has_control(const char *value) {
	for (; *value != '\0'; value++)
		if ((unsigned char)*value < 0x20 || *value == 0x7f)
			return true;
	return false;
}

static bool is_path(const char *value) {
	return value[0] == '/' && !has_control(value);
}

static bool read_action(const char *value, enum action *action) {
	static const enum action actions[] = { ACTION_IGNORE, ACTION_ALLOW, ACTION_DENY };
	for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
		if (strcmp(value, action_name(actions[i])) == 0) {
			*action = actions[i];
			return true;
		}
	return false;
}

/* Each of these takes one value of its key. False: it is not allowed. */
static bool take_action(const char *value, struct reply *reply) {
	return read_action(value, &reply->action);
}

static bool take_failure(const char *value, struct reply *reply) {
	return read_action(value, &reply->failure) && reply->failure != ACTION_IGNORE;
}

static bool take_reason(const char *value, struct reply *reply) {
	reply->reason = value;
	return true;
}

static bool take_job(const char *value, struct reply *reply) {
	uint64_t job;
	reply->job = value;
	return number_read(value, strlen(value), UINT32_MAX, &job) && job > 0;
}

static bool take_process(const char *value, struct reply *reply) {
	const char *blank = strchr(value, ' ');
	return blank != NULL && number_read(value, (size_t)(blank - value), INT_MAX, &reply->pid) && reply->pid > 0 &&
	       number_read(blank + 1, strlen(blank + 1), UINT64_MAX, &reply->start);
}

static bool take_counted(const char *value, struct reply *reply) {
	reply->counted = strcmp(value, "1") == 0;
	return reply->counted || strcmp(value, "0") == 0;
}

/* These two become environment variables. */
static bool take_display(const char *value, struct reply *reply) {
	reply->display = value;
	return value[0] != '\0' && !has_control(value);
}

static bool take_xauthority(const char *value, struct reply *reply) {
	reply->xauthority = value;
	return value[0] != '\0' && !has_control(value);
}

/* Of a path there is a name behind the last slash. */
static bool take_stepd(const char *value, struct reply *reply) {
	const char *blank = strchr(value, ' ');
	reply->stepd = blank == NULL ? NULL : blank + 1;
	return blank != NULL && number_read(value, (size_t)(blank - value), UINT16_MAX, &reply->stepd_version) &&
	       is_path(reply->stepd) && strrchr(reply->stepd, '/')[1] != '\0';
}

static bool take_namespaces(const char *value, struct reply *reply) {
	bool unknown = strcmp(value, "unknown") == 0, at_once = strcmp(value, "account") == 0;
	reply->spaces_unknown |= unknown;
	reply->spaces_at_once |= at_once;
	return unknown || at_once;
}

/* The folder is a part of a path: the id of a job, or its SLUID. */
static bool take_audit(const char *value, struct reply *reply) {
	static const char allowed[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	const char *blank = strchr(value, ' ');
	if (blank == NULL || !number_read(value, (size_t)(blank - value), UINT32_MAX, &reply->sshd_session))
		return false;
	size_t length = strspn(blank + 1, allowed);
	reply->adoptions = blank + 1;
	return length > 0 && length <= 32 && blank[1 + length] == '\0';
}

static bool take_log(const char *value, struct reply *reply) {
	(void)reply;
	return value[0] >= '0' && value[0] <= '7' && value[1] == ' ';
}

static bool take_cgroup(const char *value, struct reply *reply) {
	const char *blank = strchr(value, ' ');
	(void)reply;
	return blank != NULL && blank != value && !has_control(value) && is_path(blank + 1);
}

static bool take_from(const char *value, struct reply *reply) {
	(void)reply;
	return is_path(value) && strlen(value) < PATH_MAX;
}

static bool take_message(const char *value, struct reply *reply) {
	(void)value;
	(void)reply;
	return true;
}

static const struct key {
	const char *name;
	bool single;
	bool (*take)(const char *value, struct reply *reply);
} keys[] = {
	{ "action", true, take_action },         { "reason", true, take_reason },   { "process", true, take_process },
	{ "job", true, take_job },               { "counted", true, take_counted }, { "display", true, take_display },
	{ "xauthority", true, take_xauthority }, { "log", false, take_log },        { "message", false, take_message },
	{ "cgroup", false, take_cgroup },        { "from", false, take_from },      { "failure", true, take_failure },
	{ "stepd", true, take_stepd },           { "namespaces", false, take_namespaces }, { "audit", true, take_audit },
};
enum { KEYS = sizeof keys / sizeof *keys };

/* The header, to its line end; its length, or 0. */
static size_t header_length(const char *text, size_t length) {
	static const char name[] = PROTOCOL_ANSWER " ";
	const char *end = memchr(text, '\n', length);
	size_t begin = sizeof name - 1;
	uint64_t version;
	if (end == NULL || (size_t)(end - text) < begin || memcmp(text, name, begin) != 0)
		return 0;
	if (!number_read(text + begin, (size_t)(end - text) - begin, INT_MAX, &version))
		return 0;
	if (version == 0 || version > PROTOCOL_VERSION || version + 1 < PROTOCOL_VERSION)
		return 0;
	return (size_t)(end - text) + 1;
}

/* One line without its line end. */
static const char *take_line(const char *line, size_t length, struct reply *reply, unsigned *seen) {
	size_t name = 0;
	while (name < length && ((line[name] >= 'a' && line[name] <= 'z') || line[name] == '-'))
		name++;
	if (name == 0 || name == length || line[name] != ' ')
		return "a line has no key";

	char *key = reply->pairs + reply->used;
	char *value = key + name + 1;
	memcpy(key, line, name);
	key[name] = '\0';
	/* Key, blank, value and line end took at least as many bytes of the message: there is room. */
	int used = unescape(line + name + 1, length - name - 1, value);
	if (used < 0)
		return "a value is not written as it has to be";
	reply->used += name + 1 + (size_t)used + 1;

	for (unsigned i = 0; i < KEYS; i++) {
		if (strcmp(key, keys[i].name) != 0)
			continue;
		if (keys[i].single && (*seen & 1u << i) != 0)
			return "a key comes twice";
		*seen |= 1u << i;
		return keys[i].take(value, reply) ? NULL : "a value is not allowed";
	}
	return NULL; /* a key of a later version */
}

static const char unfinished[] = "it ends in the middle";

/* The lines up to `end`: NULL; or what is wrong: `unfinished`, where all of them are as they have to be, and no end came. */
static const char *take_lines(const char *text, size_t length, struct reply *reply, size_t *at, unsigned *seen) {
	for (;;) {
		const char *line = text + *at;
		const char *end = memchr(line, '\n', length - *at);
		if (end == NULL)
			return unfinished;
		size_t size = (size_t)(end - line);
		if (size > PROTOCOL_LONGEST_LINE)
			return "a line is too long";
		*at += size + 1;
		if (size == 3 && memcmp(line, "end", 3) == 0)
			return NULL;
		const char *wrong = take_line(line, size, reply, seen);
		if (wrong != NULL)
			return wrong;
	}
}

const char *reply_parse(const char *text, size_t length, struct reply *reply) {
	unsigned seen = 0;
	*reply = (struct reply){ .used = 0 };
	if (length > PROTOCOL_LONGEST_MESSAGE)
		return "it is too long";
	size_t at = header_length(text, length);
	if (at == 0)
		return "it begins with no header that is known here";
	const char *wrong = take_lines(text, length, reply, &at, &seen);
	if (wrong != NULL)
		return wrong;
	if (at != length)
		return "something follows its end";
	if ((seen & 1u) == 0) /* `action`, the first of the keys */
		return "it has no action";
	return NULL;
}

bool reply_parse_begun(const char *text, size_t length, struct reply *reply) {
	unsigned seen = 0;
	*reply = (struct reply){ .used = 0 };
	size_t at = length > PROTOCOL_LONGEST_MESSAGE ? 0 : header_length(text, length);
	if (at == 0)
		return false;
	if (take_lines(text, length, reply, &at, &seen) == unfinished)
		return true;
	*reply = (struct reply){ .used = 0 }; /* a line that is not as it has to be, or an end: nothing of it is used */
	return false;
}

bool reply_in_job(const struct reply *reply) {
	return reply->job != NULL || reply_next(reply, "cgroup", NULL) != NULL;
}

const char *reply_next(const struct reply *reply, const char *key, const char *previous) {
	const char *at = previous == NULL ? reply->pairs : previous + strlen(previous) + 1;
	while (at < reply->pairs + reply->used) {
		const char *value = at + strlen(at) + 1;
		if (strcmp(at, key) == 0)
			return value;
		at = value + strlen(value) + 1;
	}
	return NULL;
}
