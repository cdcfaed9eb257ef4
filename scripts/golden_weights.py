"""Weights of other programs for the tests: names and shapes of ResNets and of old Mask R-CNNs as the libraries write them,
and a very small detectron2 model in both of its forms as scripts/convert_weights.py converts it.

names_<kind>.txt has lines "name size size ...". converted_detectron2.safetensors comes from the .pth of detectron2's
checkpointer, converted_detectron.safetensors from Detectron's pickle of the same network: Caffe2's names, scale and shift
instead of a norm, the background first, momentum beside the weights. converted_step.safetensors holds detectron2's own
losses and features (NHWC) on converted_batch.safetensors, with what `maskrcnn trace` needs in `overrides`.
"""
import os
import pickle
import re
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from safetensors.torch import save_file

HEIGHT, WIDTH, CLASSES = 64, 96, 3
BOXES = ((6.5, 8.25, 40.0, 52.5), (50.25, 10.0, 90.5, 44.75), (30.0, 20.0, 60.0, 60.0))
LABELS = (0, 2, 1)
OVERRIDES = {
    'MODEL.RESNETS.STEM_OUT_CHANNELS': 4, 'MODEL.RESNETS.RES2_OUT_CHANNELS': 4, 'MODEL.RESNETS.WIDTH_PER_GROUP': 2,
    'MODEL.FPN.OUT_CHANNELS': 4, 'MODEL.ANCHOR_GENERATOR.SIZES': [[8], [16], [32], [48], [64]],
    'MODEL.RPN.BATCH_SIZE_PER_IMAGE': 20000, 'MODEL.RPN.POSITIVE_FRACTION': 1.0, 'MODEL.RPN.PRE_NMS_TOPK_TRAIN': 50,
    'MODEL.RPN.POST_NMS_TOPK_TRAIN': 40, 'MODEL.ROI_HEADS.NUM_CLASSES': CLASSES, 'MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE': 512,
    'MODEL.ROI_HEADS.POSITIVE_FRACTION': 1.0, 'MODEL.ROI_BOX_HEAD.FC_DIM': 4, 'MODEL.ROI_MASK_HEAD.CONV_DIM': 4,
    'INPUT.MASK_FORMAT': 'bitmask'}
LOSSES = {'loss_cls': 'loss_classifier', 'loss_box_reg': 'loss_box_reg', 'loss_mask': 'loss_mask', 'loss_rpn_cls': 'loss_objectness',
          'loss_rpn_loc': 'loss_rpn_box_reg'}


def write_names(path, kind, state):
    with open(path(f'names_{kind}.txt'), 'w') as f:
        for key, value in state.items():
            f.write(' '.join([key, *map(str, value.shape)]) + '\n')


def old_names(state):
    """torchvision's names before 0.13, which it still loads: checked here."""
    def old(name):
        name = re.sub(r'(fpn\.(?:inner|layer)_blocks\.\d)\.0\.', r'\1.', name).replace('rpn.head.conv.0.0.', 'rpn.head.conv.')
        return re.sub(r'mask_head\.(\d)\.0\.', lambda m: f'mask_head.mask_fcn{int(m[1]) + 1}.', name)
    state = {old(k): v for k, v in state.items()}
    model = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    assert not any(model.load_state_dict(dict(state)))
    return state


def small_model(configs):
    """With statistics, scales and shifts that matter, and predictors that tell places and classes apart."""
    cfg = get_cfg()
    cfg.merge_from_file(os.path.join(configs, 'COCO-InstanceSegmentation', 'mask_rcnn_R_50_FPN_1x.yaml'))
    cfg.merge_from_list(['MODEL.DEVICE', 'cpu', *(v for item in OVERRIDES.items() for v in item)])
    torch.manual_seed(5)
    model = build_model(cfg)
    for name, value in model.state_dict().items():
        if name.endswith('running_var'):
            value.uniform_(0.7, 1.5)
        elif name.endswith('running_mean'):
            value.uniform_(-0.2, 0.2)
        elif name.endswith('norm.weight'):
            value.uniform_(0.5, 1.0)
        elif re.search(r'predictor|anchor_deltas|objectness', name):
            value.uniform_(-0.3, 0.3)
        elif name.endswith('bias'):
            value.uniform_(-0.1, 0.2)
    return cfg, model


def caffe2_name(name):
    """Detectron's blob of a parameter, None for a statistic, which its scale and shift hold."""
    last = 'w' if name.endswith('weight') else 'b'
    m = re.match(r'backbone\.bottom_up\.res(\d)\.(\d+)\.(?:conv(\d)|shortcut)\.(norm\.)?(weight|bias)$', name)
    if m:
        branch = '2' + 'abc'[int(m[3]) - 1] if m[3] else '1'
        return f'res{m[1]}_{m[2]}_branch{branch}_' + (('bn_s' if last == 'w' else 'bn_b') if m[4] else 'w')
    m = re.match(r'backbone\.fpn_(lateral|output)(\d)\.', name)
    if m:
        end = {2: 2, 3: 3, 4: 5, 5: 2}[int(m[2])]
        return (f'fpn_inner_res{m[2]}_{end}_sum{"" if m[2] == "5" else "_lateral"}_{last}' if m[1] == 'lateral'
                else f'fpn_res{m[2]}_{end}_sum_{last}')
    m = re.match(r'roi_heads\.mask_head\.mask_fcn(\d)\.', name)
    if m:
        return f'_[mask]_fcn{m[1]}_{last}'
    for start, blob in (('backbone.bottom_up.stem.conv1.norm.weight', 'res_conv1_bn_s'), ('backbone.bottom_up.stem.conv1.norm.bias', 'res_conv1_bn_b'),
                        ('backbone.bottom_up.stem.conv1.weight', 'conv1_w'), ('proposal_generator.rpn_head.conv.', 'conv_rpn_fpn2_'),
                        ('proposal_generator.rpn_head.objectness_logits.', 'rpn_cls_logits_fpn2_'),
                        ('proposal_generator.rpn_head.anchor_deltas.', 'rpn_bbox_pred_fpn2_'), ('roi_heads.box_head.fc1.', 'fc6_'),
                        ('roi_heads.box_head.fc2.', 'fc7_'), ('roi_heads.box_predictor.cls_score.', 'cls_score_'),
                        ('roi_heads.box_predictor.bbox_pred.', 'bbox_pred_'), ('roi_heads.mask_head.deconv.', 'conv5_mask_'),
                        ('roi_heads.mask_head.predictor.', 'mask_fcn_logits_')):
        if name.startswith(start) and 'running' not in name:
            return blob + last if blob.endswith('_') else blob
    return None


def detectron_blobs(model):
    state = {k: v.double().numpy() for k, v in model.state_dict().items()}
    blobs = {'conv1_b': np.zeros(4, np.float32), 'fc1000_w': np.zeros((10, 4), np.float32)}
    for name, value in state.items():
        blob = caffe2_name(name)
        if blob is None:
            continue
        base = name[:name.rfind('.')]
        if base.endswith('norm'):
            scale = state[base + '.weight'] / np.sqrt(state[base + '.running_var'] + 1e-5)
            value = scale if name.endswith('weight') else value - state[base + '.running_mean'] * scale
        if blob.startswith('cls_score'):
            value = np.concatenate([value[-1:], value[:-1]])
        elif blob.startswith(('bbox_pred', 'mask_fcn_logits')):  # rows of the background, which nothing reads
            value = np.concatenate([np.full_like(value[:4 if blob.startswith('bbox') else 1], 7), value])
        blobs[blob] = value.astype(np.float32)
        blobs[blob + '_momentum'] = np.full_like(blobs[blob], 3)
    return blobs


def step(model, images, masks):
    image_list = ImageList(images.permute(0, 3, 1, 2).contiguous(), [(HEIGHT, WIDTH)])
    targets = [Instances((HEIGHT, WIDTH), gt_boxes=Boxes(torch.tensor(BOXES)), gt_classes=torch.tensor(LABELS), gt_masks=BitMasks(masks.bool()))]
    model.train()
    with EventStorage(), torch.no_grad():
        features = model.backbone(image_list.tensor)
        proposals, losses = model.proposal_generator(image_list, features, targets)
        losses.update(model.roi_heads(image_list, features, proposals, targets)[1])
    return {**{f'loss/{LOSSES[k]}': v for k, v in losses.items()},
            **{f'feature/{k}': v.permute(0, 2, 3, 1).contiguous() for k, v in features.items()}}


def write_all(path, configs):
    import timm
    for depth in (18, 34, 101):
        write_names(path, f'torchvision_resnet{depth}', getattr(torchvision.models, f'resnet{depth}')(weights=None).state_dict())
    write_names(path, 'timm_resnet50', timm.create_model('resnet50.tv_in1k', pretrained=False).state_dict())
    write_names(path, 'torchvision_old', old_names(torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=91).state_dict()))

    _, model = small_model(configs)
    images = torch.randn(1, HEIGHT, WIDTH, 3)
    masks = torch.zeros(len(BOXES), HEIGHT, WIDTH, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, BOXES):
        mask[int(y1):int(y2), int(x1):int((x1 + 2 * x2) / 3)] = 1
    save_file({'images': images, 'image_sizes': torch.tensor([[HEIGHT, WIDTH]], dtype=torch.int32), 'boxes': torch.tensor(BOXES),
               'labels': torch.tensor(LABELS, dtype=torch.int32), 'box_image': torch.zeros(len(BOXES), dtype=torch.int32), 'masks': masks},
              path('converted_batch.safetensors'))
    overrides = ';'.join(f'{k}={v}' for k, v in OVERRIDES.items())
    save_file(step(model, images, masks), path('converted_step.safetensors'), metadata={'overrides': overrides})
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'convert_weights.py')
    with tempfile.TemporaryDirectory() as folder:
        DetectionCheckpointer(model, folder).save('model_final', iteration=9)
        with open(os.path.join(folder, 'detectron.pkl'), 'wb') as f:
            pickle.dump({'blobs': detectron_blobs(model), 'cfg': 'MODEL: {}\n'}, f, protocol=2)
        for source, out in (('model_final.pth', 'converted_detectron2'), ('detectron.pkl', 'converted_detectron')):
            subprocess.run([sys.executable, script, os.path.join(folder, source), path(f'{out}.safetensors'), '--class-names', 'date,fig,hazelnut'],
                           check=True)
