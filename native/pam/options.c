/* The words of the PAM line that the module itself reads. Names and values are compared without regard to case, a later
   word wins: as in src/policy/options.ts, where the helper reads them. */

#include "options.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>

static char lower(char c) {
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; /* tolower() depends on the locale of the caller */
}

static bool same(const char *a, const char *b) {
	while (*a != '\0' && lower(*a) == lower(*b)) {
		a++;
		b++;
	}
	return lower(*a) == lower(*b);
}

static bool read_flag(const char *value, struct options *options) {
	if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
		return false;
	options->ignore_root = value[0] == '1';
	return true;
}

static bool read_service(const char *value, struct options *options) {
	static const char more[] = "_.@+-";
	if (strcmp(value, "*") != 0) {
		size_t length = strlen(value);
		if (length == 0 || length > 255 || strchr(".@+-", value[0]) != NULL)
			return false;
		for (size_t i = 0; i < length; i++) {
			char c = lower(value[i]);
			if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && strchr(more, c) == NULL)
				return false;
		}
	}
	options->service = value;
	return true;
}

static bool read_budget(const char *value, struct options *options) {
	uint64_t ms = 0;
	size_t digits = strspn(value, "0123456789");
	if (digits == 0 || digits > 6)
		return false;
	for (size_t i = 0; i < digits; i++)
		ms = ms * 10 + (uint64_t)(value[i] - '0');
	if (value[digits] == '\0' || same(value + digits, "s"))
		ms *= 1000;
	else if (!same(value + digits, "ms"))
		return false;
	if (ms < 1 || ms > 120000) /* sshd's LoginGraceTime is 2 minutes */
		return false;
	options->budget_ms = ms;
	return true;
}

static bool read_generic(const char *value, struct options *options) {
	static const enum action actions[] = { ACTION_IGNORE, ACTION_ALLOW, ACTION_DENY };
	for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
		if (same(value, action_name(actions[i]))) {
			options->generic_failure = actions[i];
			return true;
		}
	return false;
}

/* Here only for what it says of generic_failure: the helper reads it for the rest. */
static bool read_profile(const char *value, struct options *options) {
	if (!same(value, "strict") && !same(value, "lenient"))
		return false;
	options->strict = same(value, "strict");
	return true;
}

static bool is_path(const char *value) {
	return value[0] == '/' && value[1] != '\0' && strlen(value) < PATH_MAX;
}

static bool read_helper(const char *value, struct options *options) {
	if (!is_path(value))
		return false;
	options->helper = value;
	return true;
}

static bool read_socket(const char *value, struct options *options) {
	if (!is_path(value))
		return false;
	options->socket = value;
	return true;
}

static const struct spec {
	const char *name;
	const char *allowed;
	bool (*read)(const char *value, struct options *options);
	bool kept; /* from the helper */
} specs[] = {
	{ "ignore_root", "1, 0", read_flag, false },
	{ "service", "the name of a PAM service, or *", read_service, false },
	{ "budget", "a time above 0 to 120 s, such as 2, 2s or 500ms", read_budget, true },
	{ "action_generic_failure", "ignore, allow, deny", read_generic, false },
	{ "profile", "strict, lenient", read_profile, false },
	{ "helper", "an absolute path", read_helper, true },
	{ "socket", "an absolute path", read_socket, true },
};

/* The value behind `name=`; for a word without `=` the empty text behind it. NULL: another word. */
static const char *value_of(const char *word, const char *name) {
	while (*name != '\0' && lower(*word) == *name) {
		word++;
		name++;
	}
	if (*name != '\0' || (*word != '\0' && *word != '='))
		return NULL;
	return *word == '=' ? word + 1 : word;
}

static const struct spec *spec_of(const char *word, const char **value) {
	for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
		if ((*value = value_of(word, specs[i].name)) != NULL)
			return &specs[i];
	return NULL;
}

void options_read(int count, const char *const *words, struct options *options) {
	const char *value;
	bool chosen = false;
	*options = (struct options){
		.ignore_root = true,
		.service = "sshd",
		.budget_ms = 5000,
		.generic_failure = ACTION_IGNORE,
		.helper = OPTIONS_HELPER,
		.socket = OPTIONS_SOCKET,
	};
	for (int i = 0; i < count; i++) {
		const struct spec *spec = spec_of(words[i], &value);
		if (spec == NULL)
			continue;
		if (spec->read(value, options)) {
			chosen |= spec->read == read_generic;
		} else if (options->wrong == NULL) {
			options->wrong = words[i];
			options->allowed = spec->allowed;
		}
	}
	if (options->strict && !chosen)
		options->generic_failure = ACTION_DENY;
}

bool options_keep(const char *word) {
	const char *value;
	const struct spec *spec = spec_of(word, &value);
	return spec != NULL && spec->kept;
}

bool options_serve(const struct options *options, const char *service) {
	/* libpam gives the name of a service in small letters. */
	return strcmp(options->service, "*") == 0 || (service != NULL && same(options->service, service));
}
