"""The training step of golden_trace.py by detectron2: its two recipes, from the same weights and pictures.

detectron2's names and order of classes are turned into torchvision's: its last class is torchvision's first (background),
and it has no box deltas and no masks of the background, whose gradients are zero.
"""
import os

import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.proposal_generator import proposal_utils
from detectron2.structures import BitMasks, Boxes, ImageList, Instances, pairwise_iou
from detectron2.utils.events import EventStorage
from golden_trace import (AFTER_NMS, ANCHOR_SIZES, BEFORE_NMS, CLASSES, IMAGE_SIZES, OBJECTS, FrozenBatchNorm2d, Margins, build,
                          check_matches, check_proposals, find_seed, pictures)
from torchvision.ops import batched_nms, roi_align

CASES = {'detectron2_1x': 'COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml',
         'detectron2_noaug_1x': 'Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x.yaml'}
LOSSES = {'loss_cls': 'loss_classifier', 'loss_box_reg': 'loss_box_reg', 'loss_mask': 'loss_mask', 'loss_rpn_cls': 'loss_objectness',
          'loss_rpn_loc': 'loss_rpn_box_reg'}
RENAMED = (('backbone.bottom_up.stem.conv1.norm', 'backbone.body.bn1'), ('backbone.bottom_up.stem.conv1', 'backbone.body.conv1'),
           ('.conv1.norm', '.bn1'), ('.conv2.norm', '.bn2'), ('.conv3.norm', '.bn3'), ('.shortcut.norm', '.downsample.1'),
           ('.shortcut', '.downsample.0'), *((f'backbone.bottom_up.res{i + 1}', f'backbone.body.layer{i}') for i in range(1, 5)),
           *((f'backbone.fpn_lateral{i + 2}', f'backbone.fpn.inner_blocks.{i}.0') for i in range(4)),
           *((f'backbone.fpn_output{i + 2}', f'backbone.fpn.layer_blocks.{i}.0') for i in range(4)),
           ('proposal_generator.rpn_head.conv', 'rpn.head.conv.0.0'),
           ('proposal_generator.rpn_head.objectness_logits', 'rpn.head.cls_logits'),
           ('proposal_generator.rpn_head.anchor_deltas', 'rpn.head.bbox_pred'), ('box_head.fc1', 'box_head.fc6'), ('box_head.fc2', 'box_head.fc7'),
           ('mask_head.mask_fcn1', 'mask_head.0.0'), ('mask_head.mask_fcn2', 'mask_head.1.0'),
           ('mask_head.deconv', 'mask_predictor.conv5_mask'), ('mask_head.predictor', 'mask_predictor.mask_fcn_logits'))


# detectron2's own takes double scores, but turns the boxes into single precision: NMS wants both alike.
proposal_utils.batched_nms = lambda boxes, scores, groups, threshold: batched_nms(boxes.to(scores.dtype), scores, groups, threshold)


def torchvision_name(name):
    for old, new in RENAMED:
        name = name.replace(old, new)
    return name


def from_torchvision(name, t):
    if 'cls_score' in name:
        return torch.cat([t[1:], t[:1]])
    if 'roi_heads.box_predictor.bbox_pred' in name:
        return t[4:]
    return t[1:] if 'mask_fcn_logits' in name else t


def to_torchvision(name, t):
    if 'cls_score' in name:
        return torch.cat([t[-1:], t[:-1]])
    if 'roi_heads.box_predictor.bbox_pred' in name:
        return torch.cat([torch.zeros_like(t[:4]), t])
    return torch.cat([torch.zeros_like(t[:1]), t]) if 'mask_fcn_logits' in name else t


def small_model(recipe, state):
    """detectron2's model of a recipe with the channels of golden_trace.py."""
    cfg = get_cfg()
    cfg.merge_from_file(recipe)
    m = cfg.MODEL
    m.DEVICE, m.RESNETS.STEM_OUT_CHANNELS, m.RESNETS.RES2_OUT_CHANNELS, m.RESNETS.WIDTH_PER_GROUP = 'cpu', 16, 64, 16
    m.FPN.OUT_CHANNELS, m.ANCHOR_GENERATOR.SIZES = 32, [[s] for s in ANCHOR_SIZES]
    m.RPN.PRE_NMS_TOPK_TRAIN, m.RPN.POST_NMS_TOPK_TRAIN, m.RPN.BATCH_SIZE_PER_IMAGE, m.RPN.POSITIVE_FRACTION = BEFORE_NMS, AFTER_NMS, 20000, 1.0
    m.ROI_HEADS.BATCH_SIZE_PER_IMAGE, m.ROI_HEADS.POSITIVE_FRACTION, m.ROI_HEADS.NUM_CLASSES = 512, 0.25, CLASSES
    m.ROI_BOX_HEAD.FC_DIM, m.ROI_MASK_HEAD.NUM_CONV, m.ROI_MASK_HEAD.CONV_DIM = 64, 2, 16
    model = build_model(cfg)
    own = [k for k in model.state_dict() if k not in ('pixel_mean', 'pixel_std') and 'cell_anchors' not in k]
    assert {torchvision_name(k) for k in own} == set(state), sorted({torchvision_name(k) for k in own} ^ set(state))
    model.load_state_dict({k: from_torchvision(torchvision_name(k), state[torchvision_name(k)]) for k in own}, strict=False)
    return model.train()


def instances(masks):
    out = []
    for i, size in enumerate(IMAGE_SIZES):
        own = [k for k, o in enumerate(OBJECTS) if o[0] == i]
        out.append(Instances(size, gt_boxes=Boxes(torch.tensor([OBJECTS[k][2] for k in own])), gt_classes=torch.tensor([OBJECTS[k][1] for k in own]),
                             gt_masks=BitMasks(torch.from_numpy(masks[own]))))
    return out


def check_masks(targets, rois, margins):
    """Mask targets are cut off at one half."""
    for t, boxes in zip(targets, rois):
        iou, owner = pairwise_iou(t.gt_boxes, Boxes(boxes)).max(0)
        boxes, owner = boxes[iou >= 0.5].double(), owner[iou >= 0.5]
        image_of = torch.arange(len(boxes), dtype=torch.float64)[:, None]
        values = roi_align(t.gt_masks.tensor[owner].double()[:, None], torch.cat([image_of, boxes], 1), 28, 1.0, 0, True)
        margins.note('half of a mask', values - 0.5)


def detectron2_step(case, dtype=torch.float64):
    """As golden_trace.torchvision_step. Boxes are single precision in detectron2 whatever the model is."""
    with Margins() as margins:
        tensors, crc, counts = step_within(case, dtype, margins)
    return tensors, crc, margins, counts


def step_within(case, dtype, margins):
    reference, crc = build(case)
    model = small_model(case['recipe'], {k: v.float() for k, v in reference.state_dict().items()}).to(dtype)
    images, masks = pictures(case['seed'])
    images = ImageList(torch.from_numpy(images).to(dtype).permute(0, 3, 1, 2), list(IMAGE_SIZES))
    targets = instances(masks)
    rois = []
    model.roi_heads.box_pooler.register_forward_pre_hook(lambda module, args: rois.extend(b.tensor for b in args[1]))
    with EventStorage():
        features = model.backbone(images.tensor)
        levels = list(features.values())
        proposals, losses = model.proposal_generator(images, features, targets)
        losses.update(model.roi_heads(images, features, proposals, targets)[1])
    sum(losses.values()).backward()
    with torch.no_grad():
        anchors = [a.tensor for a in model.proposal_generator.anchor_generator(levels)]
        survivors = check_proposals(*model.proposal_generator.rpn_head(levels), anchors, margins, 0)
        matched = [check_matches(t.gt_boxes.tensor.double(), torch.cat(anchors).double(), r.double(), margins) for t, r in zip(targets, rois)]
        check_masks(targets, rois, margins)
    counts = {'after NMS': survivors, 'rois': [len(r) for r in rois], 'objects': [m[0] for m in matched], 'on P3': [m[1] for m in matched]}
    tensors = {f'loss/{LOSSES[k]}': v.detach() for k, v in losses.items()}
    tensors.update({f'feature/{k}': v.detach().permute(0, 2, 3, 1).contiguous() for k, v in features.items()})
    for k, v in model.named_parameters():
        if v.requires_grad:
            tensors[f'grad/{torchvision_name(k)}'] = to_torchvision(torchvision_name(k), v.grad)
    return tensors, crc, counts


def write_all(path, configs, seeds):
    for name, recipe in CASES.items():
        case = {'depth': 50, 'norm': FrozenBatchNorm2d, 'freeze': True, 'recipe': os.path.join(configs, recipe),
                'config': 'mask_rcnn_R_50_FPN_' + name.removeprefix('detectron2_') + '.yaml'}
        find_seed(path, name, case, detectron2_step, seeds)
