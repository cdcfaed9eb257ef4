"""What detectron2 and torchvision make of the heads' predictions: detections, and masks in the original image.

inference_detections.safetensors: for each scene the inputs `scene.logits` (background first), `.deltas`, `.rois`, `.info`, and per framework
`scene.framework.boxes` (original pixels), `.rois` (resized), `.scores`, `.labels` (class + 1), `.counts`.
inference_masks.safetensors: for each scene `.probs`, `.boxes`, `.info` (one image), and per framework `.bits` (row-major masks, packed, least
significant bit first) and `.unsure` (numbers of those bits whose value is within 1e-5 of the threshold).
"""
import numpy as np
import torch
from safetensors.numpy import save_file

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def image_info(originals, sizes):
    return torch.tensor([[*o, *s, 0, i, 0, 0] for i, (o, s) in enumerate(zip(originals, sizes))], dtype=torch.int32)


def detectron2_detections(scene, threshold, nms, limit):
    from detectron2.modeling.box_regression import Box2BoxTransform
    from detectron2.modeling.postprocessing import detector_postprocess
    from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
    boxes = Box2BoxTransform(WEIGHTS).apply_deltas(scene['deltas'][:, 4:], scene['rois'][:, 1:])
    scores = torch.softmax(scene['logits'], 1)
    scores = torch.cat([scores[:, 1:], scores[:, :1]], 1)
    rows = [scene['rois'][:, 0] == i for i in range(len(scene['info']))]
    sizes = [tuple(i[2:4].tolist()) for i in scene['info']]
    found, _ = fast_rcnn_inference([boxes[r] for r in rows], [scores[r] for r in rows], sizes, threshold, nms, limit)
    out = []
    for f, info in zip(found, scene['info']):
        f.resized = f.pred_boxes.tensor.clone()
        f = detector_postprocess(f, *info[:2].tolist())
        out.append((f.pred_boxes.tensor, f.resized, f.scores, f.pred_classes + 1))
    return out


def torchvision_detections(scene, threshold, nms, limit):
    from torchvision.models.detection.roi_heads import RoIHeads
    from torchvision.models.detection.transform import resize_boxes
    heads = RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, WEIGHTS, threshold, nms, limit)
    sizes = [tuple(i[2:4].tolist()) for i in scene['info']]
    proposals = [scene['rois'][scene['rois'][:, 0] == i, 1:] for i in range(len(sizes))]
    boxes, scores, labels = heads.postprocess_detections(scene['logits'], scene['deltas'], proposals, sizes)
    return [(resize_boxes(b, list(s), i[:2].tolist()), b, sc, l) for b, sc, l, s, i in zip(boxes, scores, labels, sizes, scene['info'])]


def random_scene(counts, classes, spread, originals, sizes):
    """Proposals in heaps of a few, so that much is suppressed; every fifth leaves the image, or lies outside."""
    rois = []
    for i, (count, (height, width)) in enumerate(zip(counts, sizes)):
        heaps = torch.rand(max(count // 6, 1), 4) * torch.tensor([width * 0.7, height * 0.7, width * 0.5, height * 0.5])
        boxes = heaps[torch.randint(0, len(heaps), (count,))] + torch.randn(count, 4) * 3
        boxes[::5, :2] += torch.tensor([width, height]) * torch.randn(len(boxes[::5]), 2).sign()
        boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:].abs() + 1
        rois.append(torch.cat([torch.full((count, 1), float(i)), boxes], 1))
    rows = sum(counts)
    return {'logits': torch.randn(rows, classes + 1) * 2, 'deltas': torch.randn(rows, 4 * classes + 4) * spread, 'rois': torch.cat(rois),
            'info': image_info(originals, sizes)}


# scene: score threshold, NMS threshold, detections per image (tests/kernels/test_inference_golden.c has the same)
LIMITS = {'usual': (0.05, 0.5, 100), 'crowded': (0.0, 0.5, 20), 'many_classes': (0.02, 0.3, 100), 'equal_scores': (0.05, 0.5, 30), 'nothing': (0.5, 0.5, 100)}


def write_detections(path):
    torch.manual_seed(30)
    originals, sizes = [(375, 500), (160, 90)], [(800, 1066), (133, 75)]
    scenes = {'usual': random_scene((50, 35), 7, 1.0, originals, sizes), 'crowded': random_scene((40, 30), 5, 0.5, originals, sizes),
              'many_classes': random_scene((22,), 80, 1.0, originals[:1], sizes[:1]), 'equal_scores': random_scene((25, 20), 4, 0.3, originals, sizes),
              'nothing': random_scene((6, 5), 3, 1.0, originals, sizes)}
    scenes['equal_scores']['logits'][:] = torch.tensor([0.5, 1.0, -3.0, 1.0, 0.0])
    scenes['nothing']['logits'][:, 0] = 9
    out = {}
    for name, scene in scenes.items():
        out.update({f'{name}.{k}': v for k, v in scene.items()})
        for framework, run in (('detectron2', detectron2_detections), ('torchvision', torchvision_detections)):
            found = run(scene, *LIMITS[name])
            out[f'{name}.{framework}.counts'] = torch.tensor([len(f[0]) for f in found])
            for i, kind in enumerate(('boxes', 'rois', 'scores', 'labels')):
                out[f'{name}.{framework}.{kind}'] = torch.cat([f[i] for f in found])
    save_file({k: np.ascontiguousarray(v.numpy().astype(np.float32 if v.is_floating_point() else np.int32)) for k, v in out.items()},
              path('inference_detections.safetensors'))


def on_image(boxes, size):
    """Boxes off the image have empty masks, which neither framework can make: their ranges of pixels get negative lengths."""
    return [i for i, b in enumerate(boxes) if (b[2:] > 0).all() and b[0] < size[1] and b[1] < size[0]]


def detectron2_masks(probs, boxes, size):
    from detectron2.layers.mask_ops import _do_paste_mask, paste_masks_in_image
    bits, values = torch.zeros(len(probs), *size, dtype=torch.bool), torch.zeros(len(probs), *size)
    for i in on_image(boxes, size):
        bits[i:i + 1] = paste_masks_in_image(probs[i:i + 1], boxes[i:i + 1], size, 0.5)
        value, place = _do_paste_mask(probs[i:i + 1, None], boxes[i:i + 1], *size, skip_empty=True)
        values[(slice(i, i + 1),) + place] = value
    return bits, values


def torchvision_masks(probs, boxes, size):
    from torchvision.models.detection.roi_heads import paste_masks_in_image
    values = torch.zeros(len(probs), *size)
    for i in on_image(boxes, size):
        values[i] = paste_masks_in_image(probs[i:i + 1, None], boxes[i:i + 1], size)[0, 0]
    return values > 0.5, values


def blobs(count, side):
    """Smooth shapes like a mask head's, some with holes; every fourth is noise, the last is all ones."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij')
    maps = []
    for i in range(count):
        waves = sum(torch.sin(x * a / side + b) * torch.sin(y * c / side + d) for a, b, c, d in torch.rand(4, 4) * 12)
        distance = ((x - side / 2) ** 2 + (y - side / 2) ** 2).sqrt() / side
        maps.append(torch.rand(side, side) if i % 4 == 3 else torch.sigmoid(8 * (0.35 - distance) + 2 * waves))
    maps[-1] = torch.ones(side, side)
    return torch.stack(maps)


def mask_boxes(count, height, width):
    """Some off the image; one no larger than a point (for torchvision), parts of a pixel, slivers, the whole image, off all of it."""
    corner = (torch.rand(count, 2) * 1.3 - 0.3) * torch.tensor([width, height])
    boxes = torch.cat([corner, corner + torch.rand(count, 2) ** 2 * torch.tensor([width, height]) + 0.3], 1)
    odd = [[20.3, 10.6, 20.31, 10.61], [20.2, 10.3, 20.8, 10.9], [7.1, 0, 7.7, height], [0, 5.6, width, 6.2], [0, 0, width, height],
           [-width, -height, 2 * width, 2 * height], [width - 1.3, height - 0.6, width, height]]
    boxes[:len(odd)] = torch.tensor(odd)
    boxes[-1] = torch.tensor([width * 0.25, 0, width * 0.5, height * 0.7])
    return boxes


def write_masks(path):
    torch.manual_seed(31)
    out = {}
    for name, count, side, size in (('usual', 18, 28, (61, 90)), ('coarse', 18, 14, (48, 33)), ('large', 8, 28, (240, 130))):
        probs, boxes = blobs(count, side), mask_boxes(count, *size)
        out.update({f'{name}.probs': probs.numpy(), f'{name}.boxes': boxes.numpy(), f'{name}.info': image_info([size], [size]).numpy()})
        for framework, run in (('detectron2', detectron2_masks), ('torchvision', torchvision_masks)):
            bits, values = run(probs, boxes, size)
            print(name, framework, int(bits.sum()), 'pixels,', int(((values - 0.5).abs() < 1e-5).sum()), 'unsure')
            out[f'{name}.{framework}.bits'] = np.packbits(bits.numpy().ravel(), bitorder='little')
            out[f'{name}.{framework}.unsure'] = np.flatnonzero((values - 0.5).abs().numpy().ravel() < 1e-5).astype(np.int32)
    save_file(out, path('inference_masks.safetensors'))


def write_all(path):
    write_detections(path)
    write_masks(path)
