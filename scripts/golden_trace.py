"""One training step of a small Mask R-CNN by torchvision in double precision, for the test of `maskrcnn trace`.

Weights and pictures are formulas over the program's own random numbers (src/base/philox.h), which the test repeats, so
a fixture trace_<case>.safetensors holds only the batch's boxes and, of every loss, feature and gradient, a summary
(see `summary`). __metadata__ says `config` (a file in configs/), `overrides` (KEY=VALUE, separated by ';'), `seed` and
`weights_crc` (the sum of the CRC-32 of all tensors' bytes, modulo 2^32).

Every discrete decision of the step (top-k, NMS, matching, level of a RoI) must have a margin in double, so that a right
program in single precision decides the same; so must every input of a ReLU, of which biases leave few near 0. A seed
without is refused. Sampling takes every anchor and proposal.
"""
import json
import math
import zlib

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import box_iou
from torchvision.ops.misc import FrozenBatchNorm2d

PURPOSE_TEST = 9
MARGIN = 1e-4
KINK = 1e-6  # of the layer's root mean square
SINGLE = 1e-4  # largest error of PyTorch's own run in single precision
CANVAS = (160, 192)  # P6 has 3 rows: torchvision puts its anchors 53 apart
IMAGE_SIZES = ((158, 186), (130, 150))
CLASSES = 3
ANCHOR_SIZES = (16, 32, 64, 96, 128)
# image, label, box; corners are multiples of 1/16
OBJECTS = ((0, 0, (10.25, 20.5, 73.0, 81.75)), (0, 2, (90.5, 30.25, 121.75, 59.5)), (0, 1, (20.0, 4.0, 180.0, 120.5)),
           (0, 1, (130.5, 80.75, 146.25, 98.5)), (1, 0, (12.5, 16.25, 58.25, 110.5)), (1, 2, (60.75, 40.25, 142.0, 82.5)),
           (1, 1, (100.25, 8.5, 133.875, 39.375)))
BEFORE_NMS, AFTER_NMS = 100, 250  # proposals of a level, of an image
SAMPLES, SKETCHES = 16, 8


def words(seed, item, count):
    """The first `count` words of the stream (seed, PURPOSE_TEST, step 0, CRC-32 of `item`), see src/base/philox.h."""
    mask = (1 << 64) - 1
    k = ((seed ^ PURPOSE_TEST << 56) + 0x9E3779B97F4A7C15) & mask
    k = (k ^ k >> 30) * 0xBF58476D1CE4E5B9 & mask
    k = (k ^ k >> 27) * 0x94D049BB133111EB & mask
    k ^= k >> 31
    k0, k1 = k & 0xFFFFFFFF, k >> 32
    u = np.uint64
    low, shift = u(0xFFFFFFFF), u(32)
    c0 = np.arange(-(-count // 4), dtype=u)
    c1, c2, c3 = np.zeros_like(c0), np.full_like(c0, zlib.crc32(item.encode())), np.zeros_like(c0)
    for _ in range(10):
        p0, p1 = c0 * u(0xD2511F53), c2 * u(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ u(k0), p1 & low, (p0 >> shift) ^ c3 ^ u(k1), p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], 1).reshape(-1)[:count]


def integers(seed, item, count):
    """24-bit integers."""
    return (words(seed, item, count) >> np.uint64(8)).astype(np.int64)


# The first row whose text is part of the name holds. A vector is middle +- half, both dyadic, so that the sum is exact.
VECTORS = (('running_mean', 0, 0.25), ('running_var', 1, 0.5), ('bn3.weight', 0.375, 0.125), ('.weight', 1, 0.25),
           ('bn3.bias', 0.25, 0.125), ('fpn.', 0, 0.0625), ('cls_logits', 0, 0.0625), ('bbox_pred', 0, 0.0625),
           ('cls_score', 0, 0.0625), ('mask_fcn_logits', 0, 0.0625), ('mask_head', 2.5, 0.25), ('conv5_mask', 2.5, 0.25), ('.bias', 1.25, 0.25))
GAINS = (('cls_logits', 2.0), ('rpn.head.bbox_pred', 0.25), ('cls_score', 2.0), ('bbox_pred', 0.5), ('conv5_mask', 2.0),
         ('.weight', 1.0))


def first(table, name):
    return next(row for row in table if row[0] in name)


def formula(seed, name, shape):
    """The parameter `name` as float32. A matrix's rows sum to zero: else a random network answers every place alike."""
    r = integers(seed, name, math.prod(shape))
    if len(shape) == 1:
        _, middle, half = first(VECTORS, name)
        return (middle + half * (r * 2.0**-23 - 1.0)).astype(np.float32)
    rows = r.reshape(shape[0], -1)
    fan = rows.shape[1]
    scale = first(GAINS, name)[1] * math.sqrt(12.0 / fan) / (fan * 2.0**24)
    return ((rows * fan - rows.sum(1, keepdims=True)) * scale).astype(np.float32).reshape(shape)


def weights(seed, shapes):
    """The parameters of these names and shapes, and the sum of their CRC-32."""
    arrays = {name: formula(seed, name, tuple(shape)) for name, shape in shapes.items()}
    crc = sum(zlib.crc32(a.tobytes()) for a in arrays.values()) % 2**32
    return {name: torch.from_numpy(a) for name, a in arrays.items()}, crc


def pictures(seed):
    """images [N,H,W,3]: noise in squares of 8 and of 2 pixels, objects in a colour of their own; masks [G,H,W]: ellipses."""
    height, width = CANVAS
    y, x = np.arange(height)[:, None], np.arange(width)[None]

    def fraction(item, *shape):
        return integers(seed, item, math.prod(shape)).reshape(shape) * 2.0**-22 - 2.0

    coarse = fraction('coarse', len(IMAGE_SIZES), height // 8, width // 8, 3)[:, y // 8, x // 8]
    fine = fraction('fine', len(IMAGE_SIZES), height // 2, width // 2, 3)[:, y // 2, x // 2]
    images, masks, colour = coarse + fine, [], fraction('colour', len(OBJECTS), 3)
    for i, (image, _, (x1, y1, x2, y2)) in enumerate(OBJECTS):
        w, h = x2 - x1, y2 - y1
        masks.append(((2 * x + 1 - x1 - x2) * h)**2 + ((2 * y + 1 - y1 - y2) * w)**2 <= (w * h)**2)
        images[image] += masks[-1][..., None] * colour[i]
    for image, (h, w) in enumerate(IMAGE_SIZES):
        images[image, h:] = 0
        images[image, :, w:] = 0
    return images.astype(np.float32), np.stack(masks)


def summary(name, tensor):
    """float64 [2 + 8 + 16]: norm, sum, 8 sums with an element's sign in bits 0..7 of its random word, 16 elements.

    Element number k is (word k of the stream NAME + "#samples") x size >> 32, in the file's layout; an error anywhere
    shows in the signed sums.
    """
    flat = tensor.detach().double().numpy().reshape(-1)
    random = words(0, name, flat.size)
    signed = [(np.where(random >> np.uint64(b) & np.uint64(1), -flat, flat)).sum() for b in range(SKETCHES)]
    index = words(0, name + '#samples', SAMPLES) * np.uint64(flat.size) >> np.uint64(32)
    return np.array([np.linalg.norm(flat), flat.sum(), *signed, *flat[index.astype(np.int64)]])


def small_resnet(depth, norm, stem, width):
    """A torchvision ResNet of `depth` with fewer channels: `stem`, and `width` in layer1's 3x3 convolutions."""
    block, counts = {18: (BasicBlock, (2, 2, 2, 2)), 50: (Bottleneck, (3, 4, 6, 3))}[depth]
    net = torchvision.models.ResNet(block, [1, 1, 1, 1], norm_layer=norm)
    net.conv1, net.bn1, net.inplanes = nn.Conv2d(3, stem, 7, 2, 3, bias=False), norm(stem), stem
    for i, n in enumerate(counts):
        setattr(net, f'layer{i + 1}', net._make_layer(block, width << i, n, stride=1 if i == 0 else 2))
    return net, width * block.expansion


def build(case):
    """The model of a case with formula weights, in double."""
    norm, stem, channels, fc, mask = case['norm'], 16, 32, 64, 16
    body, res2 = small_resnet(case['depth'], norm, stem, 16)
    if case['freeze']:
        for part in (body.conv1, body.bn1, body.layer1):
            part.requires_grad_(False)
    extra = None if norm is FrozenBatchNorm2d else norm
    backbone = BackboneWithFPN(body, {f'layer{i + 1}': str(i) for i in range(4)}, [res2 << i for i in range(4)], channels,
                               norm_layer=extra)
    model = MaskRCNN(backbone, None, rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in ANCHOR_SIZES), ((0.5, 1.0, 2.0),) * 5),
                     box_head=TwoMLPHead(channels * 49, fc), box_predictor=FastRCNNPredictor(fc, CLASSES + 1),
                     mask_head=MaskRCNNHeads(channels, [mask] * 2, 1, norm_layer=extra),
                     mask_predictor=MaskRCNNPredictor(mask, mask, CLASSES + 1),
                     rpn_pre_nms_top_n_train=BEFORE_NMS, rpn_post_nms_top_n_train=AFTER_NMS, rpn_batch_size_per_image=20000,
                     rpn_positive_fraction=1.0, box_batch_size_per_image=512, box_positive_fraction=0.25)
    state, crc = weights(case['seed'], {k: v.shape for k, v in model.state_dict().items() if 'num_batches_tracked' not in k})
    unset = model.load_state_dict(state, strict=False)
    assert not unset.unexpected_keys and all('num_batches_tracked' in k for k in unset.missing_keys)
    return model.double().train(), crc


class Margins:
    """Collects how far decisions are from falling the other way. As a context: of the ReLUs within."""

    def __init__(self):
        self.smallest, self.kink, self.relus = {}, math.inf, (F.relu, F.relu_)

    def __enter__(self):
        def watched(relu):
            def call(x, *args, **kwargs):
                with torch.no_grad():
                    self.kink = min(self.kink, float(x.abs().min() / x.square().mean().sqrt()))
                return relu(x, *args, **kwargs)
            return call
        F.relu, F.relu_ = map(watched, self.relus)
        return self

    def __exit__(self, *error):
        F.relu, F.relu_ = self.relus

    def note(self, what, distances):
        distances = distances[distances.isfinite()]
        if distances.numel():
            self.smallest[what] = min(self.smallest.get(what, math.inf), float(distances.abs().min()))


def check_proposals(logits, deltas, anchors, margins, smallest_side=1e-3, limits=(BEFORE_NMS, AFTER_NMS)):
    """Follows the RPN's top-k, `limits` before and after NMS, and NMS; every argument has one entry per level. Returns how many boxes outlive NMS per image."""
    def by_place(t, n):
        return t.view(t.shape[0], -1, n, *t.shape[2:]).permute(0, 3, 4, 1, 2).reshape(t.shape[0], -1, n)

    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    kept_scores = [[] for _ in IMAGE_SIZES]
    for level, boxes_at in enumerate(anchors):
        scores, moves = by_place(logits[level], 1)[..., 0], by_place(deltas[level], 4)
        for i, size in enumerate(IMAGE_SIZES):
            order = scores[i].sort(descending=True)
            top = min(limits[0], order.values.numel())
            if order.values.numel() > top:
                margins.note('top-k before NMS', order.values[top - 1] - order.values[top])
            index, values = order.indices[:top], order.values[:top]
            boxes = coder.decode(moves[i][index], [boxes_at[index].to(moves.dtype)])[:, 0]
            boxes = torchvision.ops.clip_boxes_to_image(boxes, size)
            sides = (boxes[:, 2:] - boxes[:, :2]).min(1).values
            margins.note('smallest side', (sides - smallest_side)[sides > 0])  # 0: clipped away altogether
            boxes, values = boxes[sides > smallest_side], values[sides > smallest_side]
            iou = box_iou(boxes, boxes)
            alive = torch.ones(len(boxes), dtype=bool)
            for k in range(len(boxes)):
                if alive[k]:
                    margins.note('NMS', iou[k, k + 1:] - 0.7)
                    alive[k + 1:] &= iou[k, k + 1:] <= 0.7
            # Whoever may suppress another must have a clearly higher score.
            margins.note('order in NMS', (values[:, None] - values)[(iou > 0.69).triu(1)])
            kept_scores[i].append(values[alive])
    kept_scores = [torch.cat(s).sort(descending=True).values for s in kept_scores]
    for scores in kept_scores:
        if len(scores) > limits[1]:
            margins.note('top-k after NMS', scores[limits[1] - 1] - scores[limits[1]])
    return [len(s) for s in kept_scores]


def check_matches(objects, anchors, rois, margins):
    """Anchors and RoIs of one image. Returns how many RoIs hold an object, and how many are pooled from P3."""
    for what, boxes, thresholds in (('anchor', anchors, (0.3, 0.7)), ('RoI', rois, (0.5,))):
        iou = box_iou(objects, boxes)
        for t in thresholds:
            margins.note(f'class of an {what}', iou.max(0).values - t)
        top = iou.topk(2, 0).values
        margins.note(f'object of an {what}', (top[0] - top[1])[top[0] > thresholds[0] - 0.01])
    iou = box_iou(objects, anchors)
    behind = iou.max(1).values[:, None] - iou
    margins.note('best anchor', behind[behind > 1e-6])  # ties are ties everywhere
    side = (rois[:, 2:] - rois[:, :2]).prod(1).sqrt()
    margins.note('level of a RoI', side - 112)
    return int((box_iou(objects, rois).max(0).values >= 0.5).sum()), int((side >= 112).sum())


def torchvision_step(case, dtype=torch.float64):
    """The tensors of one step, the sum of the weights' CRC-32, margins, and some numbers to look at."""
    model, crc = build(case)
    model.to(dtype)
    images, masks = pictures(case['seed'])
    images = ImageList(torch.from_numpy(images).to(dtype).permute(0, 3, 1, 2), list(IMAGE_SIZES))
    targets = []
    for i in range(len(IMAGE_SIZES)):
        own = [k for k, o in enumerate(OBJECTS) if o[0] == i]
        targets.append({'boxes': torch.tensor([OBJECTS[k][2] for k in own], dtype=dtype), 'labels': torch.tensor([OBJECTS[k][1] + 1 for k in own]),
                        'masks': torch.from_numpy(masks[own]).to(torch.uint8)})
    rois = []
    model.roi_heads.box_roi_pool.register_forward_pre_hook(lambda module, args: rois.extend(args[1]))
    with Margins() as margins:
        features = model.backbone(images.tensors)
        levels = list(features.values())
        proposals, losses = model.rpn(images, features, targets)
        losses.update(model.roi_heads(features, proposals, IMAGE_SIZES, targets)[1])
    sum(losses.values()).backward()
    with torch.no_grad():
        anchors = model.rpn.anchor_generator(images, levels)
        per_level = anchors[0].split([level.shape[2] * level.shape[3] * 3 for level in levels])
        survivors = check_proposals(*model.rpn.head(levels), per_level, margins)
        matched = [check_matches(t['boxes'], a.to(dtype), r, margins) for t, a, r in zip(targets, anchors, rois)]
    counts = {'after NMS': survivors, 'rois': [len(r) for r in rois], 'objects': [m[0] for m in matched], 'on P3': [m[1] for m in matched]}
    tensors = {f'loss/{k}': v.detach() for k, v in losses.items()}
    tensors.update({f'feature/p{i + 2}': v.detach().permute(0, 2, 3, 1).contiguous() for i, v in enumerate(levels)})
    tensors.update({f'grad/{k}': v.grad for k, v in model.named_parameters() if v.requires_grad})
    return tensors, crc, margins, counts


def overrides(case):
    """The case as the program's configuration."""
    norm = {FrozenBatchNorm2d: 'FrozenBN', nn.BatchNorm2d: 'SyncBN'}.get(case['norm'], 'GN')
    extra = '' if norm == 'FrozenBN' else norm
    res2 = 64 if case['depth'] == 50 else 16
    keys = {'RESNETS.DEPTH': case['depth'], 'RESNETS.STEM_OUT_CHANNELS': 16, 'RESNETS.RES2_OUT_CHANNELS': res2,
            'RESNETS.WIDTH_PER_GROUP': 16, 'RESNETS.NORM': norm, 'BACKBONE.FREEZE_AT': 2 if case['freeze'] else 0, 'GN_GROUPS': 4,
            'FPN.OUT_CHANNELS': 32, 'FPN.NORM': extra, 'ANCHOR_GENERATOR.SIZES': [[s] for s in ANCHOR_SIZES],
            'RPN.PRE_NMS_TOPK_TRAIN': BEFORE_NMS, 'RPN.POST_NMS_TOPK_TRAIN': AFTER_NMS, 'RPN.BATCH_SIZE_PER_IMAGE': 20000,
            'RPN.POSITIVE_FRACTION': 1.0, 'ROI_HEADS.BATCH_SIZE_PER_IMAGE': 512, 'ROI_HEADS.POSITIVE_FRACTION': 0.25,
            'ROI_HEADS.NUM_CLASSES': CLASSES, 'ROI_BOX_HEAD.FC_DIM': 64, 'ROI_MASK_HEAD.NUM_CONV': 2, 'ROI_MASK_HEAD.CONV_DIM': 16,
            'ROI_MASK_HEAD.NORM': extra}
    return ';'.join(f'MODEL.{k}={v}' for k, v in keys.items())


CASES = {'frozen_bn': dict(depth=50, norm=FrozenBatchNorm2d, freeze=True),
         'group_norm': dict(depth=18, norm=lambda channels: nn.GroupNorm(4, channels), freeze=False),
         'batch_norm': dict(depth=50, norm=nn.BatchNorm2d, freeze=False)}


def write(path, arrays, metadata):
    """A safetensors file; unlike the library's, its header is always in the same order."""
    header, at = {'__metadata__': metadata}, 0
    arrays = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))
    for name, a in arrays:
        header[name] = {'dtype': {'float64': 'F64', 'float32': 'F32', 'int32': 'I32', 'uint8': 'U8'}[a.dtype.name], 'shape': list(a.shape), 'data_offsets': [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(len(text).to_bytes(8, 'little') + text + b''.join(a.tobytes() for _, a in arrays))


def find_seed(path, name, case, step, seeds):
    """Writes the fixture of the first seed that leaves every decision its margin and finds some proposals of objects."""
    torch.set_num_threads(1)
    for seed in seeds:
        case['seed'] = seed
        tensors, crc, margins, counts = step(case)
        closest = min(margins.smallest, key=margins.smallest.get)
        print(f'{name}, seed {seed}: {counts}, closest decision: {closest} {margins.smallest[closest]:.1e}, ReLU {margins.kink:.1e}', flush=True)
        if margins.smallest[closest] <= MARGIN or margins.kink <= KINK or sum(counts['objects']) < len(OBJECTS) + 2:
            continue
        single = step(case, torch.float32)[0]
        worst = max((float((single[k] - v).norm() / v.norm()), k) for k, v in tensors.items())
        print(f'largest error of PyTorch in single precision: {worst[0]:.1e}, {worst[1]}', flush=True)
        if worst[0] < SINGLE:
            break
    else:
        raise SystemExit(f'{name}: no seed leaves every decision its margin and finds two proposals of objects')
    print(', '.join(f'{k[5:]} {float(v):.6f}' for k, v in tensors.items() if k.startswith('loss/')))
    arrays = {k: summary(k, v) for k, v in tensors.items()}
    arrays.update(image_sizes=np.array(IMAGE_SIZES, np.int32), boxes=np.array([o[2] for o in OBJECTS], np.float32),
                  labels=np.array([o[1] for o in OBJECTS], np.int32), box_image=np.array([o[0] for o in OBJECTS], np.int32),
                  canvas=np.array(CANVAS, np.int32))
    write(path(f'trace_{name}.safetensors'), arrays,
          {'config': case['config'], 'overrides': case.get('overrides') or overrides(case), 'seed': str(case['seed']), 'weights_crc': str(crc)})


def write_all(path, seeds):
    for name, case in CASES.items():
        find_seed(path, name, {**case, 'config': 'mask_rcnn_R_50_FPN_torchvision.yaml'}, torchvision_step, seeds)
