/* Small questions about texts that several rooms ask. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the well-formed UTF-8 sequence at `s` (RFC 3629: shortest form, no surrogates, at most U+10FFFF), of which
 * `left` bytes may be read; 0 if there is none. In a zero-terminated text `left` may be SIZE_MAX. */
size_t text_utf8_length(const char *s, size_t left);

/* Whether all of a zero-terminated text is UTF-8. */
bool text_is_utf8(const char *text);

/* Whether `word` is one of `choices`, "a|b|c"; an empty one is a choice too. */
bool text_is_choice(const char *choices, const char *word);

#endif
