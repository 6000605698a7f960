/*
 * The pieces of the PAM module that need no PAM: tables of good and bad input, then random changes of them, the same in
 * every run. Built with sanitizers, and run under valgrind too.
 *
 * usage: pieces [ROUNDS]    says how many checks held; each that did not is a line on stderr, and exit code 1
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "child.h"
#include "number.h"
#include "options.h"
#include "plain.h"
#include "reply.h"
#include "request.h"
#include "self.h"
#include "trust.h"

static int held, failed;

static void check_at(int line, int good, const char *what) {
	if (good) {
		held++;
		return;
	}
	failed++;
	fprintf(stderr, "line %d: %s\n", line, what);
}
#define check(good) check_at(__LINE__, (good) ? 1 : 0, #good)
#define check_for(good, what) check_at(__LINE__, (good) ? 1 : 0, what)

static struct reply reply;
static struct request request;

/* Parses a copy of exactly that size, so that a sanitizer sees each byte read behind it. */
static const char *parse(const char *text, size_t length) {
	char *copy = malloc(length > 0 ? length : 1);
	if (copy == NULL)
		abort();
	memcpy(copy, text, length);
	size_t whole = reply_length(copy, length);
	check(whole <= length);
	const char *wrong = reply_parse(copy, length, &reply);
	check(wrong != NULL || whole == length);
	free(copy);
	return wrong;
}

#define HEAD "slurm-cgroups-answer 1\n"

static const char full[] = HEAD
	"action allow\nreason adopted into job 5, the only job of uid 1001 here\n"
	"log 6 Connection by user alice: process 31335 adopted into job 5\nlog 7 50%25 done%0Anext\n"
	"message You are in job 5\nmessage \nprocess 31335 882100\njob 5\ncounted 1\nfailure deny\n"
	"cgroup memory /slurm/uid_1001/job_5/step_extern/task_0\ncgroup cpu,cpuacct /slurm\ncgroup - /\n"
	"from /sys/fs/cgroup/memory/system.slice/ssh.service\nfrom /sys/fs/cgroup/unified\n"
	"display localhost:52.0\nxauthority /tmp/x y\nstepd 9728 /var/spool/slurmd/n_5.4294967292\nnamespaces account\naudit 4294967295 s9BNM865MKYJ00\nlater-key what%7Fever\nend\n";

static void test_numbers(void) {
	static const struct { const char *text; int good; uint64_t value; } rows[] = {
		{ "0", 1, 0 }, { "7", 1, 7 }, { "18446744073709551615", 1, UINT64_MAX }, { "18446744073709551616", 0, 0 },
		{ "99999999999999999999999", 0, 0 }, { "", 0, 0 }, { "-1", 0, 0 }, { "+1", 0, 0 }, { " 1", 0, 0 }, { "1 ", 0, 0 },
		{ "01", 0, 0 }, { "0x1", 0, 0 }, { "1a", 0, 0 },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint64_t value = 0;
		int good = number_read(rows[i].text, strlen(rows[i].text), UINT64_MAX, &value);
		check_for(good == rows[i].good && (!good || value == rows[i].value), rows[i].text);
	}
	uint64_t value;
	check(!number_read("256", 3, 255, &value) && number_read("255", 3, 255, &value));
}

static void test_options(void) {
	struct options options;
	const char *none[] = { "action_unknown=deny", "debug" };
	options_read(2, none, &options);
	check(options.ignore_root && strcmp(options.service, "sshd") == 0 && options.budget_ms == 5000);
	check(options.generic_failure == ACTION_IGNORE && options.wrong == NULL);
	check(strcmp(options.helper, OPTIONS_HELPER) == 0 && strcmp(options.socket, OPTIONS_SOCKET) == 0);

	const char *many[] = { "IGNORE_root=0", "Service=Login", "budget=3s", "action_generic_failure=Deny",
		               "helper=/opt/x", "socket=/run/y", "budget=250MS" };
	options_read(7, many, &options);
	check(!options.ignore_root && options.budget_ms == 250 && options.generic_failure == ACTION_DENY);
	check(strcmp(options.helper, "/opt/x") == 0 && strcmp(options.socket, "/run/y") == 0 && options.wrong == NULL);
	check(options_serve(&options, "login") && !options_serve(&options, "sshd") && !options_serve(&options, NULL));

	static const struct { const char *words[3]; enum action action; } strict[] = {
		{ { "profile=strict" }, ACTION_DENY }, { { "PROFILE=Strict", "x" }, ACTION_DENY },
		{ { "profile=strict", "profile=lenient" }, ACTION_IGNORE },
		{ { "action_generic_failure=allow", "profile=strict" }, ACTION_ALLOW },
		{ { "profile=strict", "action_generic_failure=ignore" }, ACTION_IGNORE },
		{ { "profile=strict", "action_generic_failure=nonsense" }, ACTION_DENY },
		{ { "profile=stricter" }, ACTION_IGNORE }, { { "profile" }, ACTION_IGNORE },
		{ { "profile=strict", "profile=x" }, ACTION_DENY }, { { "profile=x", "action_generic_failure=deny" }, ACTION_DENY },
	};
	for (size_t i = 0; i < sizeof strict / sizeof *strict; i++) {
		int count = 0;
		while (count < 3 && strict[i].words[count] != NULL)
			count++;
		options_read(count, strict[i].words, &options);
		check_for(options.generic_failure == strict[i].action, strict[i].words[0]);
	}

	static const char *const good[] = {
		"budget=2", "budget=120", "budget=1ms", "budget=120000ms", "budget=5S", "budget=007", "service=*", "service=a.b@c+d-e",
		"service=_x", "helper=/x", "socket=/a/b c", "ignore_root=1", "action_generic_failure=IGNORE", "profile=strict", "Profile=LENIENT",
	};
	static const char *const bad[] = {
		"budget=0", "budget=0ms", "budget=121", "budget=120001ms", "budget=1000000ms", "budget=", "budget", "budget=1.5",
		"budget=-1", "budget= 1", "budget=1 s", "budget=1m", "budget=1sec", "budget=9999999", "service=", "service", "service=.x",
		"service=-x", "service=a b", "service=a/b", "service=**", "helper=", "helper=x", "helper=/", "helper", "socket=run/x",
		"ignore_root=yes", "ignore_root", "ignore_root=", "ignore_root=01", "action_generic_failure=den",
		"action_generic_failure=denyall", "action_generic_failure=", "profile=", "profile", "profile=stric", "profile=strict ",
	};
	static const char *const others[] = { "budgets=1", "x", "", "=", "ignore-root=0", "helper_x=/x", "profiles=strict", "servic", "Mode=observe" };
	static const char *const kept[] = { "budget=2", "Budget=x", "budget", "HELPER=/x", "helper", "socket=/x", "socket=" };
	static const char *const passed[] = { "service=login", "Service=/", "ignore_root=0", "action_generic_failure=deny", "profile=strict", "profile=x" };
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		options_read(1, &good[i], &options);
		check_for(options.wrong == NULL, good[i]);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		options_read(1, &bad[i], &options);
		check_for(options.wrong == bad[i] && options.allowed != NULL, bad[i]);
		check_for(options.ignore_root && options.budget_ms == 5000 && options.generic_failure == ACTION_IGNORE, bad[i]);
	}
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		options_read(1, &others[i], &options);
		check_for(options.wrong == NULL && !options_keep(others[i]), others[i]);
	}
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		check_for(options_keep(kept[i]), kept[i]);
	for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
		check_for(!options_keep(passed[i]), passed[i]);
	const char *two[] = { "budget=x", "service=/" };
	options_read(2, two, &options);
	check(options.wrong == two[0]); /* the first */
	static char path[5000] = "helper=";
	memset(path + 7, '/', sizeof path - 8);
	const char *long_path[] = { path };
	options_read(1, long_path, &options);
	check(options.wrong == path);
}

static int request_is(const char *text) {
	return request.length == strlen(text) && memcmp(request.text, text, request.length) == 0;
}

static void test_requests(void) {
	request_begin(&request);
	request_add(&request, "user", "al%ice\n\x7f\x1b[31m\xc3\xa4");
	request_add(&request, "rhost", NULL);
	request_add(&request, "option", "");
	request_add_number(&request, "deadline", UINT64_MAX);
	check(request_end(&request));
	check(request_is("slurm-cgroups-login 1\nuser al%25ice%0A%7F%1B[31m\xc3\xa4\noption \ndeadline 18446744073709551615\nend\n"));

	static char text[PROTOCOL_LONGEST_LINE + 2];
	memset(text, 'x', PROTOCOL_LONGEST_LINE - 3); /* with `u `, and the line end: just fits */
	request_begin(&request);
	request_add(&request, "u", text);
	check(request_end(&request));
	text[PROTOCOL_LONGEST_LINE - 3] = 'x';
	request_begin(&request);
	request_add(&request, "u", text);
	check(!request_end(&request));
	memset(text, '%', PROTOCOL_LONGEST_LINE / 2); /* three bytes each */
	text[PROTOCOL_LONGEST_LINE / 2] = '\0';
	request_begin(&request);
	request_add(&request, "u", text);
	check(!request_end(&request));

	memset(text, 'x', 1000);
	text[1000] = '\0';
	request_begin(&request);
	for (int i = 0; i < 64; i++)
		request_add(&request, "option", text);
	check(request_end(&request));
	for (int i = 0; i < 10; i++)
		request_add(&request, "option", text);
	check(!request_end(&request));
	check(request.length <= sizeof request.text);
}

static int has(const char *key, int index, const char *wanted) {
	const char *value = reply_next(&reply, key, NULL);
	while (value != NULL && index-- > 0)
		value = reply_next(&reply, key, value);
	return wanted == NULL ? value == NULL : value != NULL && strcmp(value, wanted) == 0;
}

static void test_replies(void) {
	check(parse(full, sizeof full - 1) == NULL);
	check(reply.action == ACTION_ALLOW && strcmp(reply.job, "5") == 0 && reply.counted);
	check(reply.pid == 31335 && reply.start == 882100 && reply.failure == ACTION_DENY && reply_in_job(&reply));
	check(strcmp(reply.reason, "adopted into job 5, the only job of uid 1001 here") == 0);
	check(strcmp(reply.display, "localhost:52.0") == 0 && strcmp(reply.xauthority, "/tmp/x y") == 0);
	check(strcmp(reply.stepd, "/var/spool/slurmd/n_5.4294967292") == 0 && reply.stepd_version == 9728);
	check(reply.spaces_at_once && !reply.spaces_unknown);
	check(reply.sshd_session == UINT32_MAX && strcmp(reply.adoptions, "s9BNM865MKYJ00") == 0);
	check(has("log", 0, "6 Connection by user alice: process 31335 adopted into job 5") && has("log", 1, "7 50% done\nnext") && has("log", 2, NULL));
	check(has("message", 0, "You are in job 5") && has("message", 1, "") && has("message", 2, NULL));
	check(has("cgroup", 1, "cpu,cpuacct /slurm") && has("from", 1, "/sys/fs/cgroup/unified") && has("from", 2, NULL));
	check(has("later-key", 0, "what\x7f" "ever"));
	check(parse(HEAD "action deny\nend\n", sizeof HEAD "action deny\nend\n" - 1) == NULL);
	check(reply.action == ACTION_DENY && reply.reason == NULL && reply.job == NULL && reply.pid == 0 && !reply.counted);
	check(reply.failure == ACTION_IGNORE && !reply_in_job(&reply)); /* no line: not known */

	/* Each beginning of it is no message. */
	for (size_t length = 0; length < sizeof full - 1; length++)
		check(parse(full, length) != NULL);

	static const char *const good[] = {
		"action ignore\n", "action allow\nreason \n", "action allow\ncounted 0\n", "action allow\njob 4294967295\n",
		"x y\nx y\naction deny\n", "action deny\nmessage %00\nlog 0 \n", "a-b \naction allow\n", "action deny\nmessage end\n",
		"action deny\nmessage \xff\xfe\n", "action allow\nprocess 2147483647 0\n", "action allow\nfailure allow\n",
		"action allow\naudit 0 5\n", "failure deny\naction allow\n", "action allow\nnamespaces unknown\nnamespaces account\n", "action allow\nstepd 0 /a\n",
	};
	static const char *const bad[] = {
		"", "action\n", "action \n", "action Allow\n", "action allow \n", "action allow\naction allow\n", "reason x\n",
		"action deny\nreason a\nreason b\n", "action allow\njob 5\njob 6\n", "action allow\njob 0\n", "action allow\njob \n",
		"action allow\njob 05\n", "action allow\njob 5 \n", "action allow\njob 4294967296\n", "action allow\njob 5;x\n",
		"action allow\nprocess 5\n", "action allow\nprocess 0 1\n", "action allow\nprocess 5  1\n", "action allow\nprocess 5 1 1\n",
		"action allow\nprocess 2147483648 1\n", "action allow\nprocess -1 1\n", "action allow\ncounted yes\n",
		"action deny\nlog 8 x\n", "action deny\nlog x\n", "action deny\nlog 66 x\n", "action deny\nlog 6\n",
		"action allow\ncgroup /x\n", "action allow\ncgroup  /x\n", "action allow\ncgroup memory x\n", "action allow\ncgroup memory\n",
		"action allow\ncgroup memory /x%0A\n", "action allow\nfrom x\n", "action allow\nfrom \n", "action allow\nfrom /x%00y\n",
		"action allow\ndisplay \n", "action allow\ndisplay a%0Ab\n", "action allow\nxauthority a%00\n",
		"action allow\nstepd /a\n", "action allow\nstepd 1 a\n", "action allow\nstepd 1 /a/\n", "action allow\nstepd 65536 /a\n",
		"action allow\nstepd 1 /a%0A\n", "action allow\nstepd 1 /a\nstepd 1 /a\n", "action allow\nnamespaces all\n",
		"action allow\naudit 5\n", "action allow\naudit 5 \n", "action allow\naudit 4294967296 5\n", "action allow\naudit -1 5\n",
		"action allow\naudit 5 ..\n", "action allow\naudit 5 5/6\n", "action allow\naudit 5 5 \n", "action allow\naudit 5 5\naudit 5 5\n",
		"action allow\naudit 5 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", "action deny\n\n", "action deny\n x\n", "action deny\nKey x\n", "action deny\nk_y x\n", "action deny\nkey\n",
		"action deny\nmessage a\tb\n", "action deny\nmessage \x7f\n", "action deny\r\n", "action deny\nmessage %\n",
		"action deny\nmessage %0\n", "action deny\nmessage %0a\n", "action deny\nmessage %41\n", "action deny\nmessage %GG\n",
		"action deny\nunknown %zz\n", "action deny\nend\nend\n", "action allow\nfailure ignore\n", "action allow\nfailure \n",
		"action allow\nfailure Deny\n", "action allow\nfailure deny \n", "action allow\nfailure deny\nfailure deny\n", "failure deny\n",
	};
	char text[400];
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		check_for(parse(text, (size_t)snprintf(text, sizeof text, HEAD "%send\n", good[i])) == NULL, good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		check_for(parse(text, (size_t)snprintf(text, sizeof text, HEAD "%send\n", bad[i])) != NULL, bad[i]);
	static const struct { const char *lines; int in_job; } jobs[] = {
		{ "", 0 }, { "job 5\n", 1 }, { "cgroup - /x\n", 1 }, { "job 5\ncgroup - /x\n", 1 }, { "from /x\nprocess 1 1\n", 0 },
	};
	for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
		check(parse(text, (size_t)snprintf(text, sizeof text, HEAD "action allow\n%send\n", jobs[i].lines)) == NULL);
		check_for(reply_in_job(&reply) == jobs[i].in_job, jobs[i].lines);
	}
	static const char nul[] = HEAD "action deny\nmessage a\0b\nend\n";
	check(parse(nul, sizeof nul - 1) != NULL);

	static const char *const heads[] = { "", "\n", "slurm-cgroups-answer\n", "slurm-cgroups-answer \n", "slurm-cgroups-answer 0\n",
		"slurm-cgroups-answer 01\n", "slurm-cgroups-answer 2\n", "slurm-cgroups-answer 1 \n", "slurm-cgroups-answer -1\n",
		"slurm-cgroups-login 1\n", " slurm-cgroups-answer 1\n", "slurm-cgroups-answer 1\r\n", "HTTP/1.1 200 OK\n" };
	for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
		check_for(parse(text, (size_t)snprintf(text, sizeof text, "%saction allow\nend\n", heads[i])) != NULL, heads[i]);

	/* Lengths: a line, and the whole. */
	static char big[PROTOCOL_LONGEST_MESSAGE + 5000];
	for (int over = 0; over < 2; over++) {
		size_t used = (size_t)snprintf(big, sizeof big, HEAD "action deny\nmessage ");
		size_t fill = PROTOCOL_LONGEST_LINE - strlen("message ") + (size_t)over;
		memset(big + used, 'x', fill);
		used += fill;
		memcpy(big + used, "\nend\n", 5);
		check((parse(big, used + 5) == NULL) == !over);

		used = (size_t)snprintf(big, sizeof big, HEAD "action deny\n");
		while (used + 4 < PROTOCOL_LONGEST_MESSAGE + (size_t)over) {
			size_t line = PROTOCOL_LONGEST_MESSAGE + (size_t)over - 4 - used;
			if (line > 1000)
				line = line < 1010 ? 900 : 1000;
			memset(big + used, 'y', line);
			big[used + 1] = ' ';
			big[used + line - 1] = '\n';
			used += line;
		}
		memcpy(big + used, "end\n", 4);
		check(used + 4 == PROTOCOL_LONGEST_MESSAGE + (size_t)over);
		check((parse(big, used + 4) == NULL) == !over);
	}
}

/* What came of a message before its sender was killed: its whole lines, or nothing. */
static void test_begun(void) {
	static const char start[] = HEAD "process 31335 882100\nfrom /a\nfrom /b\n";
	for (size_t length = 0; length < sizeof full - 1; length++) {
		char *copy = malloc(length > 0 ? length : 1);
		if (copy == NULL)
			abort();
		memcpy(copy, full, length);
		bool begun = reply_parse_begun(copy, length, &reply);
		check(begun == (length >= sizeof HEAD - 1));
		check(begun || (reply.used == 0 && reply.pid == 0));
		free(copy);
	}
	check(reply_parse_begun(start, sizeof start - 1, &reply) && reply.pid == 31335 && reply.start == 882100);
	check(has("from", 0, "/a") && has("from", 1, "/b") && has("from", 2, NULL));
	/* The last line has not come whole. */
	check(reply_parse_begun(start, sizeof start - 2, &reply) && has("from", 0, "/a") && has("from", 1, NULL));
	static const char *const bad[] = { "", "x\n", "slurm-cgroups-answer 9\nprocess 5 5\n", HEAD "process 5\n", HEAD "process 5 5\nfrom x\n",
		HEAD "process 5 5\nprocess 5 5\n", HEAD "process 5 5\nend\nfrom /a\n", HEAD "process 5 5\n\n" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		check_for(!reply_parse_begun(bad[i], strlen(bad[i]), &reply), bad[i]);
		check_for(reply.pid == 0 && reply.used == 0, bad[i]);
	}
}

static void test_stats(void) {
	static const char tail[] = " S 1 10 10 0 -1 4194560 2115 0 5 0 2 3 0 0 20 0 1 0 882211 9000 1000 18446744073709551615 1 1 0\n";
	static const char *const names[] = { "sshd", "a b", "a) S 1 2 3", "((", ") ) )", "", "x\ny" };
	char text[400];
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		uint64_t start = 0;
		size_t length = (size_t)snprintf(text, sizeof text, "31337 (%s)%s", names[i], tail);
		check_for(self_start(text, length, &start) && start == 882211, names[i]);
	}
	static const char *const bad[] = { "", "1", "1 (x", "1 (x)", "1 (x) ", "1 (x) S 1 2 3\n",
		"1 (x) S 1 10 10 0 -1 4194560 2115 0 5 0 2 3 0 0 20 0 1 0 882211", "1 (x) S 1 10 10 0 -1 4194560 2115 0 5 0 2 3 0 0 20 0 1 0 -5 1 1\n",
		"1 (x)S 1 10 10 0 -1 4194560 2115 0 5 0 2 3 0 0 20 0 1 0 882211 1 1\n" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		uint64_t start;
		check_for(!self_start(bad[i], strlen(bad[i]), &start), bad[i]);
	}
	struct self self;
	check(self_read(&self) && self.pid == (uint64_t)getpid() && self.start > 0 && self.threads >= 1);
}

static void test_places(void) {
	static const char proc[] = "12:name=systemd:/user.slice\n11:cpu,cpuacct:/slurm/job_5\n4:memory:/slurm/job_5:x\n3:freezer:/gone (deleted)\n0::/\n";
	static const struct { const char *lines; int placed; } rows[] = {
		{ "cgroup cpu,cpuacct /slurm/job_5\n", 1 }, { "cgroup memory /slurm/job_5:x\ncgroup - /\n", 1 },
		{ "cgroup name=systemd /user.slice\ncgroup - /\n", 1 }, { "", 0 }, { "cgroup cpu /slurm/job_5\n", 0 },
		{ "cgroup cpuacct,cpu /slurm/job_5\n", 0 }, { "cgroup cpu,cpuacct /slurm/job_50\n", 0 }, { "cgroup cpu,cpuacct /slurm/job_\n", 0 },
		{ "cgroup memory /slurm/job_5\n", 0 }, { "cgroup freezer /gone\n", 0 }, { "cgroup freezer /gone (deleted)\n", 0 },
		{ "cgroup - /x\n", 0 }, { "cgroup pids /\n", 0 }, { "cgroup - /\ncgroup pids /x\n", 0 }, { "cgroup -x /\n", 0 },
	};
	char text[400];
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		check(parse(text, (size_t)snprintf(text, sizeof text, HEAD "action allow\n%send\n", rows[i].lines)) == NULL);
		check_for(self_placed_in(proc, sizeof proc - 1, &reply) == rows[i].placed, rows[i].lines);
		check_for(self_placed_in(proc, sizeof proc - 2, &reply) == rows[i].placed, "without the last line end");
		check(!self_placed_in("", 0, &reply) && !self_placed_in("0\n:\n::", 6, &reply));
	}
}

static void test_plain(void) {
	static const struct { const char *text, *plain; } rows[] = {
		{ "a b", "a b" }, { "\x1b[31m\n\t\x7f", "?[31m???" }, { "\xc3\xa4\xe2\x82\xac", "\xc3\xa4\xe2\x82\xac" },
		{ "\xc2\x9b" "x", "??x" }, { "\xe2\x80\xae" "x", "???x" }, { "\xe2\x81\xa6", "???" }, { "\xe2", "\xe2" }, { "\xe2\x80", "\xe2\x80" }, { "\xc2", "\xc2" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char text[32];
		snprintf(text, sizeof text, "%s", rows[i].text);
		plain_make(text);
		check_for(strcmp(text, rows[i].plain) == 0, rows[i].plain);
	}
}

static void test_trust(void) {
	struct distrust distrust;
	check(!trust_program("", &distrust) && !trust_program("bin/sh", &distrust));
	check(!trust_program("/", &distrust) && strcmp(distrust.at, "/") == 0);
	check(!trust_program("/nowhere/x", &distrust) && strcmp(distrust.at, "/nowhere") == 0 && strcmp(distrust.why, "is not there") == 0);
	check(!trust_program("/tmp/x", &distrust) && strcmp(distrust.at, "/tmp") == 0); /* everybody writes there */
	check(!trust_program("/etc/passwd", &distrust) && strcmp(distrust.why, "is not executable") == 0);
	check(!trust_program("/etc/passwd/x", &distrust) && strcmp(distrust.why, "is no folder") == 0);
	static char path[5000] = "/";
	for (size_t i = 1; i + 2 < sizeof path; i += 2)
		memcpy(path + i, "./", 3);
	check(!trust_program(path, &distrust));
}

/* Descriptors from 3 on are closed, with and without close_range; 0 to 2 stay. */
static void test_descriptors(void) {
	for (int listed = 0; listed < 2; listed++) {
		for (int i = 0; i < 300; i++)
			if (dup(2) < 0)
				abort();
		check(dup2(2, 900) == 900);
		if (listed)
			child_close_listed();
		else
			child_close_descriptors();
		int open_ones = 0;
		for (int fd = 0; fd < 1024; fd++)
			open_ones += fcntl(fd, F_GETFD) >= 0;
		check(open_ones == 3);
	}
}

static uint64_t state = 0x9e3779b97f4a7c15;

static uint32_t chance(uint32_t below) { /* xorshift: the same in every run */
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32) % below;
}

/* What is written is what is read: a request's value, read as a reply's. */
static void round_trip(void) {
	static const char head[] = HEAD "action deny\nmessage ";
	char value[64], text[512];
	size_t length = chance(sizeof value - 1);
	for (size_t i = 0; i < length; i++)
		value[i] = (char)(1 + chance(255));
	value[length] = '\0';
	request_begin(&request);
	request_add(&request, "message", value);
	check(request_end(&request));
	size_t begin = strlen("slurm-cgroups-login 1\nmessage "), used = sizeof head - 1;
	memcpy(text, head, used);
	memcpy(text + used, request.text + begin, request.length - begin);
	check(parse(text, used + request.length - begin) == NULL && has("message", 0, value));
}

static void change(char *text, size_t *length, size_t room) {
	static const char *const bits[] = { "\nend\n", "action deny\n", "job 5\n", "%00", "%", "\n", " ", "log 9 ", "cgroup - ", "\0", "-", "from /", ")", ":" };
	for (uint32_t i = 1 + chance(4); i > 0; i--) {
		size_t at = chance((uint32_t)*length + 1);
		const char *bit = bits[chance(sizeof bits / sizeof *bits)];
		size_t size = strlen(bit);
		switch (chance(4)) {
		case 0:
			if (at < *length)
				text[at] = (char)chance(256);
			break;
		case 1:
			if (*length + size <= room) {
				memmove(text + at + size, text + at, *length - at);
				memcpy(text + at, bit, size);
				*length += size;
			}
			break;
		case 2: {
			size_t gone = chance(20);
			if (at + gone <= *length) {
				memmove(text + at, text + at + gone, *length - at - gone);
				*length -= gone;
			}
			break;
		}
		default:
			if (at < *length)
				text[at] = (char)(text[at] ^ (1 << chance(8)));
		}
	}
}

/* Whatever comes: what is taken keeps the promises that the module builds on. */
static void mutate(void) {
	static const char stat[] = "31337 (a) b) S 1 10 10 0 -1 4194560 2115 0 5 0 2 3 0 0 20 0 1 0 882211 9000 1000 1\n";
	char text[2048];
	size_t length = sizeof full - 1;
	memcpy(text, full, length);
	change(text, &length, sizeof text);
	if (parse(text, length) == NULL) {
		uint64_t job;
		check(reply.job == NULL || (number_read(reply.job, strlen(reply.job), UINT32_MAX, &job) && job > 0));
		check(reply.display == NULL || strpbrk(reply.display, "\n\r\t") == NULL);
		for (const char *value = NULL; (value = reply_next(&reply, "from", value)) != NULL;)
			check(value[0] == '/');
		for (const char *value = NULL; (value = reply_next(&reply, "log", value)) != NULL;)
			check(value[0] >= '0' && value[0] <= '7' && value[1] == ' ');
		self_placed_in(text, length, &reply);
	}
	uint64_t start;
	length = sizeof stat - 1;
	memcpy(text, stat, length);
	change(text, &length, sizeof text);
	self_start(text, length, &start);

	static const char *const words[] = { "budget=500ms", "service=sshd", "ignore_root=0", "action_generic_failure=deny", "helper=/x", "profile=strict" };
	struct options options;
	length = (size_t)snprintf(text, sizeof text, "%s", words[chance(6)]);
	change(text, &length, sizeof text - 1);
	text[length] = '\0';
	const char *word[] = { text };
	options_read(1, word, &options);
	check(options.budget_ms >= 1 && options.budget_ms <= 120000 && options.helper[0] == '/' && options.service[0] != '\0');
	check((options.wrong == NULL || options.wrong == text) && (options.wrong == NULL) == (options.allowed == NULL));
	plain_make(text);
}

int main(int argc, char **argv) {
	long rounds = argc > 1 ? atol(argv[1]) : 1000;
	test_numbers();
	test_options();
	test_requests();
	test_replies();
	test_begun();
	test_stats();
	test_places();
	test_plain();
	test_trust();
	for (long i = 0; i < rounds; i++) {
		round_trip();
		mutate();
	}
	test_descriptors();
	printf("%d held, %d failed\n", held, failed);
	return failed > 0;
}
