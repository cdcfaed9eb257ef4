"""What detectron2 and torchvision make of one small batch: proposals, anchor labels, RoI labels, mask targets.

Nothing is drawn at random here: the fixtures hold what everything is before sampling, or with samples large enough for all.
"""
import math

import numpy as np
import torch
from safetensors.numpy import save_file

HEIGHT, WIDTH, SIZES = 96, 128, [(90, 128), (96, 117)]
STRIDES, ANCHOR_SIZES, RATIOS = [4, 8, 16, 32, 64], [32, 64, 128, 256, 512], [0.5, 1.0, 2.0]
PRE_NMS, POST_NMS, OBJECTS = 60, 80, [9, 5]
SHAPES = [(math.ceil(HEIGHT / s), math.ceil(WIDTH / s)) for s in STRIDES]


def image_info(originals, sizes, flips):
    return np.array([[*o, *s, f, i, 0, 0] for i, (o, s, f) in enumerate(zip(originals, sizes, flips))], np.int32)


def random_boxes(count, height, width):
    corner = torch.rand(count, 2) * torch.tensor([width, height]) * 0.8
    side = torch.exp(torch.rand(count, 2) * 2.5 + 2)
    return torch.cat([corner, torch.minimum(corner + side, torch.tensor([float(width), float(height)]))], 1)


class Detectron2:
    name = 'detectron2'

    def __init__(self):
        from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
        make = DefaultAnchorGenerator(sizes=[[s] for s in ANCHOR_SIZES], aspect_ratios=[RATIOS], strides=STRIDES, offset=0.0)
        self.levels = [b.tensor for b in make([torch.zeros(1, 1, *s) for s in SHAPES])]

    def proposals(self, logits, deltas):
        from detectron2.modeling.box_regression import Box2BoxTransform
        from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
        decode = Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).apply_deltas
        boxes = [torch.stack([decode(d, a) for d in level]) for level, a in zip(deltas, self.levels)]
        found = find_top_rpn_proposals(boxes, logits, SIZES, 0.7, PRE_NMS, POST_NMS, 0.0, False)
        return [(f.proposal_boxes.tensor, f.objectness_logits) for f in found]

    def match(self, objects, boxes, thresholds, labels, low_quality):
        from detectron2.modeling.matcher import Matcher
        from detectron2.structures import Boxes, pairwise_iou
        return Matcher(thresholds, labels, low_quality)(pairwise_iou(Boxes(objects), Boxes(boxes)))

    def anchor_labels(self, objects):
        return self.match(objects, torch.cat(self.levels), [0.3, 0.7], [0, -1, 1], True)

    def roi_labels(self, objects, boxes):
        return self.match(objects, boxes, [0.5], [0, 1], False)

    def encode(self, boxes, reference, weights):
        from detectron2.modeling.box_regression import Box2BoxTransform
        return Box2BoxTransform(weights).get_deltas(reference, boxes)


class Torchvision:
    name = 'torchvision'

    def __init__(self):
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.image_list import ImageList
        from torchvision.models.detection.rpn import RegionProposalNetwork
        make = AnchorGenerator(tuple((s,) for s in ANCHOR_SIZES), (tuple(RATIOS),) * 5)
        self.anchors = make(ImageList(torch.zeros(2, 3, HEIGHT, WIDTH), SIZES), [torch.zeros(2, 1, *s) for s in SHAPES])
        self.levels = [self.anchors[0]]
        self.rpn = RegionProposalNetwork(None, None, 0.7, 0.3, 256, 0.5, dict(training=PRE_NMS, testing=PRE_NMS), dict(training=POST_NMS, testing=POST_NMS), 0.7)

    def proposals(self, logits, deltas):
        boxes = self.rpn.box_coder.decode(torch.cat(deltas, 1).reshape(-1, 4), self.anchors).view(2, -1, 4)
        boxes, scores = self.rpn.filter_proposals(boxes, torch.cat(logits, 1), SIZES, [level.shape[1] for level in logits])
        return [(b, torch.logit(s.double())) for b, s in zip(boxes, scores)]

    def anchor_labels(self, objects):
        labels, matched = self.rpn.assign_targets_to_anchors(self.anchors[:1], [{'boxes': objects}])
        index = (matched[0][:, None] == objects).all(2).int().argmax(1)
        return index, labels[0].int()

    def roi_labels(self, objects, boxes):
        from torchvision.models.detection.roi_heads import RoIHeads
        heads = RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, None, 0.05, 0.5, 100)
        (index,), (labels,) = heads.assign_targets_to_proposals([boxes], [objects], [torch.ones(len(objects), dtype=torch.int64)])
        return index, labels

    def encode(self, boxes, reference, weights):
        from torchvision.models.detection._utils import BoxCoder
        return BoxCoder(weights).encode_single(boxes, reference)


def write_batch(path, framework):
    torch.manual_seed(20)
    out = {}
    logits = [torch.randn(2, h, w, 3) * 2 for h, w in SHAPES]
    deltas = [torch.randn(2, h, w, 12) * 0.4 for h, w in SHAPES]
    for i, (l, d) in enumerate(zip(logits, deltas)):
        out[f'logits{i}'], out[f'deltas{i}'] = l, d
    found = framework.proposals([l.reshape(2, -1) for l in logits], [d.reshape(2, -1, 4) for d in deltas])
    out['proposals'], out['scores'], out['counts'] = torch.zeros(2, POST_NMS, 4), torch.zeros(2, POST_NMS), torch.tensor([len(b) for b, _ in found])
    out['gt_boxes'], out['gt_labels'], out['gt_count'] = torch.zeros(2, 10, 4), torch.randint(0, 80, (2, 10)), torch.tensor(OBJECTS)
    out['candidates'], out['candidate_count'] = torch.zeros(2, 40, 4), torch.tensor([40, 33])
    anchors, rois, mask_gt, labels, targets = [], [], [], [], []
    for i, size in enumerate(SIZES):
        out['proposals'][i, :len(found[i][0])], out['scores'][i, :len(found[i][1])] = found[i]
        objects = random_boxes(OBJECTS[i], *size)
        if i == 0:
            objects = objects.round()  # many exact ties
        out['gt_boxes'][i, :len(objects)] = objects
        index, label = framework.anchor_labels(objects)
        anchors.append((index, label, framework.encode(objects[index[label == 1]], torch.cat(framework.levels)[label == 1], (1.0, 1.0, 1.0, 1.0))))
        near = objects[torch.randint(0, len(objects), (25,))] + torch.randn(25, 4) * 4
        near[:, 2:] = torch.maximum(near[:, 2:], near[:, :2] + 1)
        out['candidates'][i] = torch.cat([near, random_boxes(15, *size)])
        boxes = torch.cat([out['candidates'][i, :out['candidate_count'][i]], objects])
        index, label = framework.roi_labels(objects, boxes)
        order = torch.cat([(label > 0).nonzero()[:, 0], (label == 0).nonzero()[:, 0]])
        positive = int((label > 0).sum())
        rois.append(torch.cat([torch.full((len(boxes), 1), float(i)), boxes[order]], 1))
        labels.append(torch.where(label > 0, out['gt_labels'][i][index] + 1, 0)[order])
        delta = torch.zeros(len(boxes), 4)
        delta[:positive] = framework.encode(objects[index[order[:positive]]], boxes[order[:positive]], (10.0, 10.0, 5.0, 5.0))
        targets.append(delta)
        mask_gt.append(i * 10 + index[order[:positive]])
    out['info'] = torch.from_numpy(image_info(SIZES, SIZES, [0, 0]))
    out['anchor_labels'] = torch.stack([a[1] for a in anchors])
    out['anchor_targets'] = torch.cat([a[2] for a in anchors])
    out['rois'], out['roi_labels'], out['roi_targets'], out['mask_gt'] = torch.cat(rois), torch.cat(labels), torch.cat(targets), torch.cat(mask_gt)
    save_file({k: np.ascontiguousarray(v.numpy().astype(np.float32 if v.is_floating_point() else np.int32)) for k, v in out.items()},
              path(f'detection_{framework.name}.safetensors'))


def pack_masks(objects):
    """The two arrays of src/data/gt_masks.h, of polygons (lists of lists) and bitmaps (arrays)."""
    blob, records = b'', []
    for o in objects:
        offset = len(blob)
        if isinstance(o, list):
            blob += np.int32(len(o)).tobytes() + b''.join(np.int32(len(p) // 2).tobytes() + np.asarray(p, np.float32).tobytes() for p in o)
            records.append([0, offset, len(blob) - offset, 0, 0, 0, 0, 0])
        else:
            blob += np.packbits(o, axis=1, bitorder='little').tobytes()
            blob += bytes(-len(blob) % 4)
            records.append([1, offset, len(blob) - offset, 0, 0, o.shape[1], o.shape[0], 0])
    return np.array(records, np.int32), np.frombuffer(blob, np.uint8)


def star(rng, height, width, points):
    centre, angle = rng.uniform(0.2, 0.8, 2) * [width, height], np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(0.1, 0.45, points) * min(height, width)
    xy = np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], 1).clip(0, [width, height])
    return np.round(xy * 4).astype(np.float32).ravel() / 4 if points % 2 else xy.astype(np.float32).ravel()


def write_masks(path):
    """Each image has one object, as polygon (record 2n) and as bitmap (2n + 1); 28 x 28 targets of both in all three ways."""
    import pycocotools.mask as api
    from detectron2.structures.masks import BitMasks, polygons_to_bitmask, rasterize_polygons_within_box
    from PIL import Image
    from torchvision.models.detection.roi_heads import project_masks_on_boxes
    rng = np.random.RandomState(5)
    originals = [(60, 90), (75, 50), (64, 64), (48, 100), (100, 48)]
    sizes, flips, per_image = [(60, 90), (120, 80), (24, 24), (64, 133), (37, 18)], [1, 0, 1, 1, 0], 6
    objects, rois, hard, bitmaps, pillow, soft = [], [], [], [], [], []
    for n, ((h, w), (new_h, new_w), flip) in enumerate(zip(originals, sizes, flips)):
        parts = [star(rng, h, w, 5 + 4 * n + k) for k in range(1 + n % 3)]
        mask = api.decode(api.merge(api.frPyObjects([p.astype(np.float64).tolist() for p in parts], h, w)))
        objects += [parts, mask]
        ends = np.sort(rng.uniform(0, 1, (per_image, 2, 2)), 1)
        box = (np.concatenate([ends[:, 0], ends[:, 1]], 1) * [new_w, new_h, new_w, new_h]).astype(np.float32)
        box[:2] = np.round(box[:2])
        box[:, 2:] = np.minimum(np.maximum(box[:, 2:], box[:, :2] + 1), np.float32([new_w, new_h]))
        box = torch.from_numpy(box)
        moved = []
        for p in parts:
            xy = p.astype(np.float64).reshape(-1, 2) * [new_w * 1.0 / w, new_h * 1.0 / h]
            if flip:
                xy[:, 0] = new_w - xy[:, 0]
            moved.append(xy.ravel())
        rois.append(torch.cat([torch.full((per_image, 1), float(n)), box], 1))
        hard += [rasterize_polygons_within_box(moved, b, 28) for b in box.numpy()]
        bitmaps.append(BitMasks(polygons_to_bitmask(moved, new_h, new_w)[None].repeat(per_image, 0)).crop_and_resize(box, 28))
        resized = np.asarray(Image.fromarray(mask).resize((new_w, new_h), Image.NEAREST))
        resized = np.ascontiguousarray(resized[:, ::-1] if flip else resized)
        pillow.append(BitMasks(resized[None].repeat(per_image, 0)).crop_and_resize(box, 28))
        flipped = torch.from_numpy(np.ascontiguousarray(mask[:, ::-1] if flip else mask).astype(np.float32))
        resized = torch.nn.functional.interpolate(flipped[None, None], size=(new_h, new_w))[0]
        soft.append(project_masks_on_boxes(resized, box, torch.zeros(per_image), 28))
    records, blob = pack_masks(objects)
    bits = {'polygon_in_roi': torch.stack(hard), 'polygon_as_bitmap': torch.cat(bitmaps), 'bitmap': torch.cat(pillow)}
    save_file({'records': records.reshape(-1, 2, 8), 'blob': np.concatenate([blob, np.zeros(-len(blob) % 4, np.uint8)]),
               'info': image_info(originals, sizes, flips), 'rois': torch.cat(rois).numpy(), 'soft': torch.cat(soft).numpy(),
               **{k: v.numpy().astype(np.uint8) for k, v in bits.items()}}, path('mask_targets.safetensors'))


def write_all(path):
    for framework in (Detectron2(), Torchvision()):
        write_batch(path, framework)
    write_masks(path)
