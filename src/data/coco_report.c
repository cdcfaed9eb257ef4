/* What a dataset holds and what is wrong with it, in words. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "data/coco_index.h"

static const struct {
    coco_verdict verdict;
    const char *text;
} issues[COCO_ISSUE_COUNT] = {
#define COCO_ISSUE(name, verdict, text) {COCO_VERDICT_##verdict, text},
#include "data/coco_issues.def"
#undef COCO_ISSUE
};

const char *coco_issue_text(coco_issue issue) {
    return issues[issue].text;
}

coco_verdict coco_issue_verdict(coco_issue issue) {
    return issues[issue].verdict;
}

bool coco_index_was_fixed(const coco_index *index) {
    for (int i = 0; i < COCO_ISSUE_COUNT; i++)
        if (issues[i].verdict != COCO_VERDICT_NOTE && coco_index_finding(index, i)->count > 0) return true;
    return false;
}

status coco_index_check_usable(const coco_index *index) {
    coco_summary sum = coco_index_summarize(index);
    const char *path = coco_index_path(index);
    if (sum.usable > 0) return STATUS_OK;
    if (sum.annotations == 0)
        return error_set(STATUS_DATA, "give an annotation file with annotations",
                         "%s: no usable annotation: it holds none", path);
    if (sum.crowd == sum.annotations)
        return error_set(STATUS_DATA, "if they are ordinary objects, set DATASETS.CROWD_AS_INSTANCES True",
                         "%s: no usable annotation: all %" PRIu64 " are crowd regions (iscrowd 1)", path,
                         sum.annotations);
    if (sum.crowd > 0 && sum.crowd + sum.without_mask < sum.annotations)
        return error_set(STATUS_DATA,
                         "see the reasons in the log; DATASETS.CROWD_AS_INSTANCES True uses crowd regions",
                         "%s: no usable annotation among %" PRIu64 " (%" PRIu64 " are crowd regions)", path,
                         sum.annotations, sum.crowd);
    if (sum.without_mask > 0)
        return error_set(STATUS_DATA, "give segmentations, or train boxes only with MODEL.MASK_ON False",
                         "%s: no usable annotation: %" PRIu64 " of %" PRIu64 " have no valid mask", path,
                         sum.without_mask, sum.annotations);
    return error_set(STATUS_DATA, "see the reasons in the log", "%s: no usable annotation among %" PRIu64,
                     path, sum.annotations);
}

static void report_categories(const coco_index *index) {
    uint32_t count = coco_index_category_count(index);
    log_info("data", "%" PRIu32 " categories:", count);
    char line[512];
    size_t at = 0;
    for (uint32_t k = 0; k < count; k++) {
        const coco_category *category = coco_index_category(index, k);
        char item[192];
        int length = snprintf(item, sizeof item, "%s%.80s (id %" PRId64 "): %" PRIu64, at ? ", " : "  ",
                              coco_index_category_name(index, k), category->id, category->annotations);
        if (at + (size_t)length > 110 && at > 0) {
            log_info("data", "%s", line);
            at = 0;
            length = snprintf(item, sizeof item, "  %.80s (id %" PRId64 "): %" PRIu64,
                              coco_index_category_name(index, k), category->id, category->annotations);
        }
        memcpy(line + at, item, (size_t)length + 1);
        at += (size_t)length;
    }
    if (at) log_info("data", "%s", line);
}

static void report_finding(const coco_finding *finding, coco_issue issue) {
    static const char *const verdicts[] = {"noted", "fixed", "dropped"};
    char names[COCO_ISSUE_EXAMPLES * (COCO_EXAMPLE_SIZE + 2) + 8] = "";
    size_t at = 0;
    for (int i = 0; i < COCO_ISSUE_EXAMPLES && finding->examples[i][0]; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", finding->examples[i]);
    log_info("data", "  %s: %" PRIu64 " %s: %s%s", verdicts[issues[issue].verdict], finding->count,
             issues[issue].text, names, finding->count > COCO_ISSUE_EXAMPLES ? ", ..." : "");
}

void coco_index_report(const coco_index *index) {
    coco_summary sum = coco_index_summarize(index);
    bool reused;
    const char *kept = coco_index_kept_at(index, &reused);
    log_info("data",
             "%s: %" PRIu64 " images, %" PRIu64 " annotations, %" PRIu64 " images without annotations",
             coco_index_path(index), sum.images, sum.annotations, sum.images_without_annotations);
    if (*kept) log_info("data", "annotation index %s %s", reused ? "taken from" : "written to", kept);
    report_categories(index);
    log_info("data", "%" PRIu64 " usable annotations, on %" PRIu64 " of the images", sum.usable,
             sum.images - sum.images_without_usable_annotations);
    if (sum.crowd)
        log_info("data", "  %" PRIu64 " crowd regions (iscrowd 1), %s", sum.crowd,
                 coco_index_uses_crowd(index) ? "used as instances"
                                              : "not used (DATASETS.CROWD_AS_INSTANCES False)");
    if (sum.without_mask)
        log_info("data", "  %" PRIu64 " annotations without a valid mask", sum.without_mask);
    for (int i = 0; i < COCO_ISSUE_COUNT; i++)
        if (coco_index_finding(index, i)->count > 0) report_finding(coco_index_finding(index, i), i);
}
