"""The detections of golden_predict.py by detectron2's other kinds of model, see golden_trace_kinds.py. Of an RPN alone they are its
proposals: label 0, and the probability of an object as score.
"""
import os

import numpy as np
import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling.proposal_generator import proposal_utils
from detectron2.modeling.roi_heads import fast_rcnn
from golden_predict import DETECTIONS, KEYS, LONG, SHORT, find_seed, picture
from golden_predict_detectron2 import STD
from golden_trace_kinds import CASES, build, keys_of

fast_rcnn.batched_nms = proposal_utils.batched_nms


def detections(case, dtype):
    """Boxes are single precision in detectron2 whatever the model is."""
    model, crc = build(case)
    model.to(dtype).eval()
    model.pixel_std = torch.tensor(STD, dtype=dtype).view(3, 1, 1)
    for n in ('pre_nms_topk', 'post_nms_topk'):
        getattr(model.proposal_generator, n)[False] = case['keys'][f'MODEL.RPN.{n.upper()}_TEST']
    if not case['alone']:
        predictor = model.roi_heads.box_predictor
        predictor.test_score_thresh, predictor.test_topk_per_image = case['keys']['MODEL.ROI_HEADS.SCORE_THRESH_TEST'], DETECTIONS
    image = np.ascontiguousarray(picture(case['seed'])[..., ::-1])
    h, w = image.shape[:2]
    image = ResizeShortestEdge([SHORT, SHORT], LONG).get_transform(image).apply_image(image)
    with torch.no_grad():
        found = model([{'image': torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), 'height': h, 'width': w}])[0]
    if case['alone']:
        found = found['proposals']
        scores = found.objectness_logits.double().sigmoid().numpy()
        return crc, (found.proposal_boxes.tensor.double().numpy(), scores, np.zeros(len(scores), np.int32), None)
    found = found['instances']
    return crc, (found.pred_boxes.tensor.double().numpy(), found.scores.double().numpy(), found.pred_classes.numpy(), found.pred_masks.numpy())


def write_all(path, configs, seeds):
    torch.set_num_threads(1)
    for name, (recipe, config) in CASES.items():
        case = {'recipe': os.path.join(configs, recipe), 'config': config, 'fpn': 'FPN' in recipe, 'alone': 'rpn' in recipe}
        case['classes'] = 1 if case['alone'] else 2
        case['overrides'] = ';'.join(f'MODEL.{k}={v}' for k, v in keys_of(case).items())
        case['keys'] = {**KEYS, 'MODEL.PIXEL_STD': STD, 'MODEL.RPN.POST_NMS_TOPK_TEST': 60 if case['alone'] else 150}
        find_seed(path, name, case, detections, case['keys'], seeds)
