/* The parameter list of the whole model: names, counts and shapes that torchvision's state_dict has, freezing, norms,
 * start values, and what a wrong combination says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "device/device.h"
#include "model/mask_rcnn.h"

static mask_rcnn_spec r50(int classes, norm_kind norm) {
    mask_rcnn_spec spec = {.backbone = {.depth = 50,
                                        .stem_channels = 64,
                                        .res2_channels = 256,
                                        .bottleneck_width = 64,
                                        .freeze_at = 2,
                                        .norm = {norm, 1e-5, 32}},
                           .fpn_channels = 256,
                           .fpn_norm = {norm == NORM_GROUP ? NORM_GROUP : NORM_NONE, 1e-5, 32},
                           .roi = {.classes = classes,
                                   .box_pooler = {.resolution = 7},
                                   .mask_pooler = {.resolution = 14},
                                   .fc_dim = 1024,
                                   .mask_convs = 4,
                                   .mask_dim = 256},
                           .mask_on = true,
                           .seed = 3};
    spec.rpn.anchors.n_sizes[0] = 1;
    spec.rpn.anchors.n_ratios[0] = 3;
    return spec;
}

static int64_t count_values(const param_store *store, bool buffers, bool norms) {
    int64_t sum = 0;
    for (int i = 0; i < store->count; i++) {
        const param *p = &store->params[i];
        if ((p->kind == PARAM_BUFFER && !buffers) || (p->kind == PARAM_NORM && !norms)) continue;
        sum += p->size;
    }
    return sum;
}

static void counts_are_torchvisions(void **state) {
    (void)state;
    mask_rcnn model;
    mask_rcnn_spec spec = r50(90, NORM_FROZEN);
    assert_int_equal(mask_rcnn_init(&model, &spec), STATUS_OK);
    assert_int_equal(model.params.count, 307);
    assert_int_equal(count_values(&model.params, false, false),
                     44401393); /* torchvision holds frozen norms as buffers */
    mask_rcnn_release(&model);

    spec = r50(90, NORM_GROUP);
    assert_int_equal(mask_rcnn_init(&model, &spec), STATUS_OK);
    assert_int_equal(model.params.count, 209);
    mask_rcnn_release(&model);

    spec = r50(80, NORM_FROZEN);
    assert_int_equal(mask_rcnn_init(&model, &spec), STATUS_OK);
    assert_int_equal(count_values(&model.params, true, true) - count_values(&model.params, false, false),
                     4 * 53120 / 2);
    mask_rcnn_release(&model);
}

static const param *find(const mask_rcnn *model, const char *name) {
    int i = param_store_find(&model->params, name);
    if (i < 0) fail_msg("no parameter %s", name);
    return &model->params.params[i];
}

static void assert_file_shape(const mask_rcnn *model, const char *name, int rank, const int64_t *expected) {
    int64_t shape[PARAM_MAX_RANK];
    assert_int_equal(param_file_shape(find(model, name), shape), rank);
    for (int i = 0; i < rank; i++) assert_int_equal(shape[i], expected[i]);
}

static void names_and_shapes_are_torchvisions(void **state) {
    (void)state;
    mask_rcnn model;
    mask_rcnn_spec spec = r50(90, NORM_FROZEN);
    assert_int_equal(mask_rcnn_init(&model, &spec), STATUS_OK);
    assert_file_shape(&model, "backbone.body.conv1.weight", 4, (int64_t[]){64, 3, 7, 7});
    assert_file_shape(&model, "backbone.body.layer3.5.bn3.running_var", 1, (int64_t[]){1024});
    assert_file_shape(&model, "backbone.body.layer1.0.downsample.0.weight", 4, (int64_t[]){256, 64, 1, 1});
    assert_file_shape(&model, "backbone.fpn.inner_blocks.3.0.weight", 4, (int64_t[]){256, 2048, 1, 1});
    assert_file_shape(&model, "backbone.fpn.layer_blocks.0.0.bias", 1, (int64_t[]){256});
    assert_file_shape(&model, "rpn.head.conv.0.0.weight", 4, (int64_t[]){256, 256, 3, 3});
    assert_file_shape(&model, "rpn.head.bbox_pred.weight", 4, (int64_t[]){12, 256, 1, 1});
    assert_file_shape(&model, "roi_heads.box_head.fc6.weight", 2, (int64_t[]){1024, 12544});
    assert_file_shape(&model, "roi_heads.box_predictor.bbox_pred.weight", 2, (int64_t[]){364, 1024});
    assert_file_shape(&model, "roi_heads.mask_head.3.0.weight", 4, (int64_t[]){256, 256, 3, 3});
    assert_file_shape(&model, "roi_heads.mask_predictor.conv5_mask.weight", 4, (int64_t[]){256, 256, 2, 2});
    assert_file_shape(&model, "roi_heads.mask_predictor.mask_fcn_logits.bias", 1, (int64_t[]){91});
    assert_int_equal(param_store_find(&model.params, "backbone.body.conv1.bias"), -1);
    mask_rcnn_release(&model);
}

static void freezing_follows_the_stages(void **state) {
    (void)state;
    mask_rcnn model;
    mask_rcnn_spec spec = r50(80, NORM_FROZEN);
    assert_int_equal(mask_rcnn_init(&model, &spec), STATUS_OK);
    int trainable = 0;
    for (int i = 0; i < model.params.count; i++) trainable += model.params.params[i].trainable;
    assert_int_equal(trainable, 84);
    assert_false(find(&model, "backbone.body.conv1.weight")->trainable);
    assert_false(find(&model, "backbone.body.layer1.2.conv3.weight")->trainable);
    assert_true(find(&model, "backbone.body.layer2.0.conv1.weight")->trainable);
    assert_false(find(&model, "backbone.body.layer2.0.bn1.weight")->trainable);
    mask_rcnn_release(&model);

    spec = r50(80, NORM_SYNC);
    assert_int_equal(mask_rcnn_init(&model, &spec), STATUS_OK);
    assert_false(find(&model, "backbone.body.layer1.2.bn3.weight")->trainable);
    assert_true(find(&model, "backbone.body.layer2.0.bn1.weight")->trainable);
    assert_false(find(&model, "backbone.body.layer2.0.bn1.running_mean")->trainable);
    mask_rcnn_release(&model);
}

static void small_and_basic_networks_exist(void **state) {
    (void)state;
    mask_rcnn model;
    mask_rcnn_spec spec = r50(3, NORM_GROUP);
    spec.backbone =
        (resnet_spec){.depth = 18, .stem_channels = 16, .res2_channels = 16, .norm = {NORM_GROUP, 1e-5, 8}};
    spec.fpn_channels = 32;
    spec.fpn_norm.groups = spec.roi.mask_norm.groups = 8;
    assert_int_equal(mask_rcnn_init(&model, &spec), STATUS_OK);
    assert_int_equal(param_store_find(&model.params, "backbone.body.layer1.0.downsample.0.weight"), -1);
    assert_file_shape(&model, "backbone.body.layer4.1.conv2.weight", 4, (int64_t[]){128, 128, 3, 3});
    assert_file_shape(&model, "backbone.body.layer2.0.downsample.0.weight", 4, (int64_t[]){32, 16, 1, 1});
    mask_rcnn_release(&model);

    spec.backbone.stem_channels = 20;
    assert_int_equal(mask_rcnn_init(&model, &spec), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "MODEL.GN_GROUPS"));
    mask_rcnn_release(&model);
}

static void start_values_have_the_named_spread(void **state) {
    (void)state;
    device *dev;
    assert_int_equal(device_open(&dev, "cpu"), STATUS_OK);
    mask_rcnn model;
    mask_rcnn_spec spec = r50(80, NORM_FROZEN);
    assert_int_equal(mask_rcnn_init(&model, &spec), STATUS_OK);
    assert_int_equal(param_store_allocate(&model.params, dev, NULL, false), STATUS_OK);
    assert_int_equal(param_store_initialise(&model.params, 3), STATUS_OK);
    const struct {
        const char *name;
        double deviation;
    } rows[] = {{"backbone.body.layer2.0.conv2.weight", 0.04166667},  /* sqrt(2 / (128 * 9)) */
                {"backbone.fpn.layer_blocks.1.0.weight", 0.02083333}, /* sqrt(3 / 2304) / sqrt(3) */
                {"rpn.head.conv.0.0.weight", 0.01},
                {"roi_heads.box_head.fc7.weight", 0.03125}, /* sqrt(3 / 1024) / sqrt(3) */
                {"roi_heads.box_predictor.bbox_pred.weight", 0.001},
                {"roi_heads.mask_predictor.conv5_mask.weight", 0.04419417}}; /* sqrt(2 / (256 * 4)) */
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        const param *p = find(&model, rows[r].name);
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < p->size; i++) {
            double v = (double)model.params.values[p->offset + i];
            sum += v;
            squares += v * v;
        }
        double mean = sum / (double)p->size, deviation = sqrt(squares / (double)p->size - mean * mean);
        assert_true(fabs(deviation / rows[r].deviation - 1.0) < 0.02);
        assert_true(fabs(mean) < 0.02 * rows[r].deviation);
    }
    float first = model.params.values[find(&model, "rpn.head.conv.0.0.weight")->offset];
    assert_int_equal(param_store_initialise(&model.params, 4), STATUS_OK);
    assert_true(first != model.params.values[find(&model, "rpn.head.conv.0.0.weight")->offset]);
    mask_rcnn_release(&model);
    device_close(dev);
}

static void steps_beyond_all_limits_are_refused(void **state) {
    (void)state;
    mask_rcnn_spec spec = r50(80, NORM_FROZEN);
    spec.rpn.post_nms_topk[0] = 2000;
    spec.roi.batch_size_per_image = 512;
    spec.roi.positive_fraction = 0.25;
    step_shape usual = {.images = 16, .height = 1344, .width = 1344, .gt_capacity = 100}, shape = usual;
    assert_int_equal(train_graph_check(&spec, &usual), STATUS_OK);
    shape.images = 65536;
    assert_int_equal(train_graph_check(&spec, &shape), STATUS_CONFIG);
    assert_non_null(strstr(error_remedy(), "INPUT.MAX_SIZE_TRAIN"));
    shape = (step_shape){.images = 256, .height = 64, .width = 64, .gt_capacity = 100};
    spec.rpn.post_nms_topk[0] = 10000000;
    assert_int_equal(train_graph_check(&spec, &shape), STATUS_CONFIG);
    assert_non_null(strstr(error_remedy(), "MODEL.RPN.POST_NMS_TOPK_TRAIN"));
    spec.rpn.post_nms_topk[0] = 1000000;
    spec.roi.batch_size_per_image = 1000000; /* 256e6 RoIs of 12544 values */
    assert_int_equal(train_graph_check(&spec, &shape), STATUS_CONFIG);
    assert_non_null(strstr(error_remedy(), "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_torchvisions),
        cmocka_unit_test(names_and_shapes_are_torchvisions),
        cmocka_unit_test(freezing_follows_the_stages),
        cmocka_unit_test(small_and_basic_networks_exist),
        cmocka_unit_test(start_values_have_the_named_spread),
        cmocka_unit_test(steps_beyond_all_limits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
