/* Ground truth of arbitrary bytes that results are scored against, by boxes and by masks, strictly and leniently. */
#include <string.h>

#include "base/check.h"
#include "eval/eval_match.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char results[] =
    "[{\"image_id\":1,\"category_id\":1,\"score\":0.9,\"bbox\":[1,2,9,8]},"
    "{\"image_id\":1,\"category_id\":1,\"score\":0.8,\"bbox\":[1,2,9,7],\"segmentation\":[[1,2,10,2,10,9]]},"
    "{\"image_id\":1,\"category_id\":2,\"score\":0.8,\"bbox\":[0,0,30,20]}]";

static void score(const raw_coco *gt, const raw_coco *dt, coco_iou_type type, bool lenient) {
    coco_eval_options options = coco_eval_defaults;
    options.skip_unusable = lenient;
    eval_set set = {.truth_path = "truth",
                    .results_path = "results",
                    .truth = gt,
                    .results = dt,
                    .options = &options,
                    .type = type};
    eval_matches matches = {0};
    error_clear();
    status s = eval_set_resolve(&set);
    if (s == STATUS_OK) s = eval_match(&matches, &set);
    for (size_t p = 0; s == STATUS_OK && p < set.pair_count; p++)
        for (int area = 0; area < EVAL_AREAS; area++)
            CHECK(matches.objects[p][area] <= set.pairs[p].truths, "more objects than there are");
    CHECK(s == STATUS_OK || error_cause()[0], "a refusal says why");
    eval_matches_release(&matches);
    eval_set_release(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    raw_coco gt, dt;
    error_clear();
    status s = coco_parse_results_bytes(&dt, (const uint8_t *)results, sizeof results - 1, "results");
    CHECK(s == STATUS_OK, "%s", error_cause());
    s = coco_parse_bytes(&gt, data, size, "truth");
    CHECK(s == STATUS_OK || error_cause()[0], "a refusal says why");
    for (int run = 0; run < 2 * COCO_IOU_TYPES && s == STATUS_OK; run++)
        score(&gt, &dt, (coco_iou_type)(run / 2), run % 2);
    raw_coco_release(&gt);
    raw_coco_release(&dt);
    return 0;
}
