/* The report of a run: one HTML file with its state, curves, scores, pictures and configuration (run_page.h), made from
 * what stands in its OUTPUT_DIR, also while it still runs. */
#ifndef REPORT_RUN_REPORT_H
#define REPORT_RUN_REPORT_H

#include "base/status.h"

/* Writes `path` (NULL: folder/report.html) in one go. NO_INPUT: `folder` is none or not that of a run; codes of
 * write_file_atomic; OS. */
status run_report_write(const char *folder, const char *path);

#endif
