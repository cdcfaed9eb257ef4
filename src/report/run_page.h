/* A run as one HTML page that needs nothing but a browser: no script, no address outside of it, light and dark. It is
 * well-formed XML too. */
#ifndef REPORT_RUN_PAGE_H
#define REPORT_RUN_PAGE_H

#include "base/status.h"
#include "report/markup.h"
#include "report/run_record.h"

/* Appends the page; pictures are taken from r->folder/pictures. OS. */
status run_page_draw(markup *page, const run_record *r);

/* Its parts: charts of metrics and scores; tables of scores. Each is absent where there is nothing to show. OS. */
status page_charts_draw(markup *page, const run_record *r);
status page_tables_draw(markup *page, const run_record *r);

#endif
