"""The training step of golden_trace.py by detectron2, of its other kinds of model: Mask R-CNN on C4, and an RPN alone on C4 and on an FPN.

Names and order of classes are turned into torchvision's as in golden_trace_detectron2.py; res5 is layer4 wherever it is used. There
is no margin for inputs of ReLUs: res5 over each region has too many of them. The run in single precision has to agree all the same.
"""
import os

import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import ImageList, pairwise_iou
from detectron2.utils.events import EventStorage
from golden_trace import ANCHOR_SIZES, CLASSES, IMAGE_SIZES, OBJECTS, Margins, check_matches, check_proposals, find_seed, pictures, weights
from golden_trace_detectron2 import LOSSES, RENAMED, from_torchvision, instances, to_torchvision
from torchvision.ops import roi_align

C4 = (('backbone.stem.conv1.norm', 'backbone.body.bn1'), ('backbone.stem.conv1', 'backbone.body.conv1'),
      *((f'backbone.res{i + 1}.', f'backbone.body.layer{i}.') for i in range(1, 4)), ('roi_heads.res5.', 'backbone.body.layer4.'))
CASES = {'detectron2_c4': ('COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml', 'mask_rcnn_R_50_C4_1x.yaml'),
         'detectron2_rpn_c4': ('COCO-Detection/rpn_R_50_C4_1x.yaml', 'rpn_R_50_C4_1x.yaml'),
         'detectron2_rpn_fpn': ('COCO-Detection/rpn_R_50_FPN_1x.yaml', 'rpn_R_50_FPN_1x.yaml')}
BEFORE_NMS, AFTER_NMS = 300, 60  # of the one level of C4


def keys_of(case):
    """The case as keys below MODEL., of detectron2 and of the program."""
    keys = {'RESNETS.STEM_OUT_CHANNELS': 8, 'RESNETS.RES2_OUT_CHANNELS': 32, 'RESNETS.WIDTH_PER_GROUP': 8,
            'ANCHOR_GENERATOR.SIZES': [[s] for s in ANCHOR_SIZES] if case['fpn'] else [list(ANCHOR_SIZES)],
            'RPN.BATCH_SIZE_PER_IMAGE': 20000, 'RPN.POSITIVE_FRACTION': 1.0}
    if case['fpn']:
        keys['FPN.OUT_CHANNELS'] = 32
    if not case['alone']:
        keys.update({'RPN.PRE_NMS_TOPK_TRAIN': BEFORE_NMS, 'RPN.POST_NMS_TOPK_TRAIN': AFTER_NMS, 'ROI_HEADS.BATCH_SIZE_PER_IMAGE': 512,
                     'ROI_HEADS.POSITIVE_FRACTION': 0.25, 'ROI_HEADS.NUM_CLASSES': CLASSES, 'ROI_MASK_HEAD.CONV_DIM': 16})
    return keys


def torchvision_name(name):
    for old, new in C4 + RENAMED:
        name = name.replace(old, new)
    return name


def build(case):
    """detectron2's model with formula weights, in single precision, and the sum of their CRC-32."""
    cfg = get_cfg()
    cfg.merge_from_file(case['recipe'])
    cfg.MODEL.DEVICE = 'cpu'
    cfg.merge_from_list([v for k, value in keys_of(case).items() for v in ('MODEL.' + k, value)])
    model = build_model(cfg)
    own = {k: torchvision_name(k) for k in model.state_dict() if k not in ('pixel_mean', 'pixel_std') and 'cell_anchors' not in k}
    shapes = {name: to_torchvision(name, model.state_dict()[k]).shape for k, name in own.items()}
    state, crc = weights(case['seed'], shapes)
    model.load_state_dict({k: from_torchvision(name, state[name]) for k, name in own.items()}, strict=False)
    return model.train(), crc


def check_masks(targets, rois, margins):
    for t, boxes in zip(targets, rois):
        iou, owner = pairwise_iou(t.gt_boxes, type(t.gt_boxes)(boxes)).max(0)
        boxes, owner = boxes[iou >= 0.5].double(), owner[iou >= 0.5]
        image_of = torch.arange(len(boxes), dtype=torch.float64)[:, None]
        margins.note('half of a mask', roi_align(t.gt_masks.tensor[owner].double()[:, None], torch.cat([image_of, boxes], 1), 14, 1.0, 0, True) - 0.5)


def step(case, dtype=torch.float64):
    """As golden_trace.torchvision_step."""
    model, crc = build(case)
    model.to(dtype)
    images, masks = pictures(case['seed'])
    images = ImageList(torch.from_numpy(images).to(dtype).permute(0, 3, 1, 2), list(IMAGE_SIZES))
    targets, rois, margins = instances(masks), [], Margins()
    if not case['alone']:
        model.roi_heads.pooler.register_forward_pre_hook(lambda module, args: rois.extend(b.tensor for b in args[1]))
    with EventStorage():
        features = model.backbone(images.tensor)
        proposals, losses = model.proposal_generator(images, features, targets)
        if not case['alone']:
            losses.update(model.roi_heads(images, features, proposals, targets)[1])
    sum(losses.values()).backward()
    levels = [features[f] for f in model.proposal_generator.in_features]
    counts = {'objects': [len(OBJECTS) + 2]}
    with torch.no_grad():
        anchors = [a.tensor for a in model.proposal_generator.anchor_generator(levels)]
        if not case['alone']:
            counts['after NMS'] = check_proposals(*model.proposal_generator.rpn_head(levels), anchors, margins, 0, (BEFORE_NMS, AFTER_NMS))
            counts['objects'] = [check_matches(t.gt_boxes.tensor.double(), torch.cat(anchors).double(), r.double(), margins)[0]
                                 for t, r in zip(targets, rois)]
            counts['rois'] = [len(r) for r in rois]
            check_masks(targets, rois, margins)
        for t in targets:
            check_matches(t.gt_boxes.tensor.double(), torch.cat(anchors).double(), t.gt_boxes.tensor.double(), margins)
    margins.smallest.pop('level of a RoI', None)
    tensors = {f'loss/{LOSSES[k]}': v.detach() for k, v in losses.items()}
    tensors.update({f'feature/{k}': v.detach().permute(0, 2, 3, 1).contiguous() for k, v in features.items()})
    for k, v in model.named_parameters():
        if v.requires_grad:
            tensors[f'grad/{torchvision_name(k)}'] = to_torchvision(torchvision_name(k), v.grad)
    return tensors, crc, margins, counts


def write_all(path, configs, seeds):
    for name, (recipe, config) in CASES.items():
        case = {'recipe': os.path.join(configs, recipe), 'config': config, 'fpn': 'FPN' in recipe, 'alone': 'rpn' in recipe}
        case['overrides'] = ';'.join(f'MODEL.{k}={v}' for k, v in keys_of(case).items())
        find_seed(path, name, case, step, seeds)
