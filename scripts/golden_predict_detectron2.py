"""The detections of golden_predict.py by detectron2: its two recipes, and test-time augmentation."""
import os

import numpy as np
import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import test_time_augmentation
from detectron2.modeling.proposal_generator import proposal_utils
from detectron2.modeling.roi_heads import fast_rcnn
from golden_predict import DETECTIONS, KEYS, LONG, SHORT, find_seed, picture
from golden_trace import FrozenBatchNorm2d, build
from golden_trace_detectron2 import CASES, small_model

# the one that golden_trace_detectron2.py has put there
fast_rcnn.batched_nms = proposal_utils.batched_nms
STD = [57.375, 57.12, 58.395]
AUGMENTED = {'TEST.AUG.ENABLED': True, 'TEST.AUG.MIN_SIZES': (96, 128), 'TEST.AUG.MAX_SIZE': 150, 'TEST.AUG.FLIP': True}


def detectron2_detections(case, dtype):
    """Boxes are single precision in detectron2 whatever the model is."""
    reference, crc = build(case)
    model = small_model(case['recipe'], {k: v.float() for k, v in reference.state_dict().items()}).to(dtype).eval()
    model.pixel_std = torch.tensor(STD, dtype=dtype).view(3, 1, 1)
    for n in ('pre_nms_topk', 'post_nms_topk'):
        getattr(model.proposal_generator, n)[False] = KEYS[f'MODEL.RPN.{n.upper()}_TEST']
    predictor = model.roi_heads.box_predictor
    predictor.test_score_thresh, predictor.test_topk_per_image = KEYS['MODEL.ROI_HEADS.SCORE_THRESH_TEST'], DETECTIONS
    image = np.ascontiguousarray(picture(case['seed'])[..., ::-1])
    h, w = image.shape[:2]
    if case['augment']:
        run = augmented(case, model)
    else:
        run, image = model, ResizeShortestEdge([SHORT, SHORT], LONG).get_transform(image).apply_image(image)
    image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    with torch.no_grad():
        found = run([{'image': image, 'height': h, 'width': w}])[0]['instances']
    return crc, (found.pred_boxes.tensor.double().numpy(), found.scores.double().numpy(), found.pred_classes.numpy(), found.pred_masks.numpy())


def augmented(case, model):
    from detectron2.config import get_cfg
    from golden_trace import CLASSES
    cfg = get_cfg()
    cfg.merge_from_file(case['recipe'])
    cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.TEST.DETECTIONS_PER_IMAGE = CLASSES, DETECTIONS
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE, cfg.TEST.AUG.FLIP = (AUGMENTED[f'TEST.AUG.{k}'] for k in ('MIN_SIZES', 'MAX_SIZE', 'FLIP'))
    # one image at a time: images of a batch are padded to the largest
    return test_time_augmentation.GeneralizedRCNNWithTTA(cfg, model, batch_size=1)


def write_all(path, configs, seeds):
    torch.set_num_threads(1)
    keys = {**KEYS, 'MODEL.PIXEL_STD': STD}
    for name, recipe in CASES.items():
        case = {'depth': 50, 'norm': FrozenBatchNorm2d, 'freeze': True, 'recipe': os.path.join(configs, recipe), 'augment': False,
                'config': 'mask_rcnn_R_50_FPN_' + name.removeprefix('detectron2_') + '.yaml'}
        find_seed(path, name, case, detectron2_detections, keys, seeds)
        if name == 'detectron2_1x':
            find_seed(path, name + '_augmented', {**case, 'augment': True}, detectron2_detections, {**keys, **AUGMENTED}, seeds)
