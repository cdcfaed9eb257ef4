/* A results file of arbitrary bytes, scored by boxes and by masks against a small ground truth. */
#include <string.h>

#include "base/check.h"
#include "eval/eval_match.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char truth[] =
    "{\"images\":[{\"id\":1,\"width\":30,\"height\":20},{\"id\":2}],\"categories\":[{\"id\":1,\"name\":\"a\"}"
    "],"
    "\"annotations\":[{\"id\":1,\"image_id\":1,\"category_id\":1,\"bbox\":[1,2,9,8],\"area\":50,"
    "\"segmentation\":[[1,2,10,2,10,10,1,10]]},"
    "{\"id\":0,\"image_id\":1,\"category_id\":1,\"bbox\":[10,2,9,8],\"area\":9,\"iscrowd\":1,"
    "\"segmentation\":{\"size\":[20,30],\"counts\":[100,60,440]}}]}";

static void score(const raw_coco *gt, const raw_coco *dt, coco_iou_type type) {
    eval_set set = {.truth_path = "truth",
                    .results_path = "results",
                    .truth = gt,
                    .results = dt,
                    .options = &coco_eval_defaults,
                    .type = type};
    eval_matches matches = {0};
    error_clear();
    status s = eval_set_resolve(&set);
    if (s == STATUS_OK) s = eval_match(&matches, &set);
    for (size_t p = 0; s == STATUS_OK && p < set.pair_count; p++)
        for (uint32_t d = 0; d < set.pairs[p].detections; d++)
            CHECK(matches.verdicts[set.pairs[p].first_detection + d].rank == d,
                  "a verdict for each detection");
    CHECK(s == STATUS_OK || error_cause()[0], "a refusal says why");
    eval_matches_release(&matches);
    eval_set_release(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    raw_coco gt, dt;
    error_clear();
    status s = coco_parse_bytes(&gt, (const uint8_t *)truth, sizeof truth - 1, "truth");
    CHECK(s == STATUS_OK, "%s", error_cause());
    s = coco_parse_results_bytes(&dt, data, size, "results");
    CHECK(s == STATUS_OK || error_cause()[0], "a refusal says why");
    for (int type = 0; type < COCO_IOU_TYPES && s == STATUS_OK; type++) score(&gt, &dt, (coco_iou_type)type);
    raw_coco_release(&gt);
    raw_coco_release(&dt);
    return 0;
}
