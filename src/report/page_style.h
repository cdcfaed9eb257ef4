/* The style sheet of a run's page: light and dark by the reader's setting, nothing from outside. */
#ifndef REPORT_PAGE_STYLE_H
#define REPORT_PAGE_STYLE_H

extern const char page_style[];

#endif
