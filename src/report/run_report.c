#include "report/run_report.h"

#include "base/file_util.h"
#include "report/run_page.h"

status run_report_write(const char *folder, const char *path) {
    char beside[PATH_MAX];
    run_record record;
    markup page = {0};
    status s = run_record_read(&record, folder);
    if (s == STATUS_OK && !path) {
        s = path_join(beside, folder, "report.html");
        path = beside;
    }
    if (s == STATUS_OK) s = run_page_draw(&page, &record);
    if (s == STATUS_OK) s = write_file_atomic(path, page.text, page.size);
    markup_release(&page);
    run_record_release(&record);
    return s;
}
