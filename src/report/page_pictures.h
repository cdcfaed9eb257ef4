/* Pictures of a run inside its page, as data: addresses. */
#ifndef REPORT_PAGE_PICTURES_H
#define REPORT_PAGE_PICTURES_H

#include "base/status.h"
#include "report/markup.h"

enum { PAGE_MAX_PICTURES = 12 };

/* Appends figures of the first PAGE_MAX_PICTURES *.png files of `folder` by name; nothing where there is no such folder or no
 * picture. A file above 256 KiB goes in smaller, as a JPEG of at most 1280 x 1280 pixels, so that a page stays below 10 MB.
 * A file that is no picture is left out by name. OS. */
status page_pictures_draw(markup *page, const char *folder);

#endif
