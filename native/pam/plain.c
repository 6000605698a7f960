/* Text that others wrote, made fit for a log and a terminal. */

#include "plain.h"

void plain_make(char *text) {
	for (unsigned char *at = (unsigned char *)text; *at != '\0'; at++) {
		if (*at < 0x20 || *at == 0x7f) {
			*at = '?';
		} else if (at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f) { /* U+0080 to U+009F: the controls of C1 */
			at[0] = at[1] = '?';
		} else if (at[0] == 0xe2 && ((at[1] == 0x80 && at[2] >= 0xa8 && at[2] <= 0xae) ||
		                             (at[1] == 0x81 && at[2] >= 0xa6 && at[2] <= 0xa9))) {
			/* U+2028 to U+202E, U+2066 to U+2069: line ends, and the direction of text */
			at[0] = at[1] = at[2] = '?';
		}
	}
}
