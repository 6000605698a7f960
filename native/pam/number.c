/* Numbers written in decimal digits. Not strtoul: that takes signs and blanks, and on glibc 2.38 and newer it is a
   symbol that RHEL 8 does not have (__isoc23_strtoul). */

#include "number.h"

bool number_read(const char *text, size_t length, uint64_t most, uint64_t *number) {
	uint64_t value = 0;
	if (length == 0 || (length > 1 && text[0] == '0'))
		return false;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		uint64_t digit = (uint64_t)(text[i] - '0');
		if (value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	if (value > most)
		return false;
	*number = value;
	return true;
}
