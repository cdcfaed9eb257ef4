/* Text of a page that grows: HTML with the syntax of XML, so that one checker serves all of it. What a file or a user
 * named goes through markup_text, which leaves no character that could end a text or an attribute; the rest is our own.
 *
 *   markup page = {0};
 *   markup_put(&page, "<td>"), markup_text(&page, name), markup_format(&page, "</td><td>%d</td>", count);
 *   RETURN_IF_ERROR(markup_finish(&page));           // the only place that can fail: no memory
 *   ... page.text, page.size ...
 *   markup_release(&page); */
#ifndef REPORT_MARKUP_H
#define REPORT_MARKUP_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct markup {
    char *text; /* zero-terminated, `size` bytes; owned; NULL while empty */
    size_t size, capacity;
    bool out_of_memory;
} markup;

void markup_release(markup *m);

/* As it stands. */
void markup_put(markup *m, const char *literal);
void markup_format(markup *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Escaped, for contents and for attributes in quotes; control characters (but for tab and line end) and bytes that are
 * not UTF-8 become U+FFFD. */
void markup_text(markup *m, const char *text);
void markup_text_sized(markup *m, const char *text, size_t size);

void markup_base64(markup *m, const void *bytes, size_t size);

/* OS if memory ran out on the way, and then the text is incomplete. */
status markup_finish(const markup *m);

#endif
