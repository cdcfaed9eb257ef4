"""Inputs and results of every op of `maskrcnn op`, computed by PyTorch and torchvision in double precision.

A fixture op_<op>_<case>.safetensors holds the op's inputs, grad_<output>, and expect_<tensor> for every tensor the op must write;
__metadata__ holds `op`, `attrs` (NAME=VALUE, separated by ';') and the tolerances `atol` and `rtol`. Arrays are NHWC, convolution
weights [K,R,S,C]; what PyTorch wants otherwise is turned here.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from safetensors.numpy import save_file
from torchvision.models.detection._utils import BoxCoder


class Case:
    """Collects one fixture. Inputs are rounded to float32 first, so both sides compute from the same numbers."""

    def __init__(self, op, case, seed, atol=2e-5, rtol=2e-5, **attrs):
        self.op, self.case, self.rng = op, case, np.random.default_rng(seed)
        self.meta = {'op': op, 'attrs': ';'.join(f'{k}={v}' for k, v in attrs.items()), 'atol': repr(atol), 'rtol': repr(rtol)}
        self.arrays, self.inputs, self.wanted = {}, {}, []

    def put(self, name, array, grad=False):
        """An input of the op as a double tensor; with `grad`, its gradient is expected too."""
        array = np.asarray(array)
        array = np.ascontiguousarray(array if array.dtype in (np.int32, np.uint8) else array.astype(np.float32))
        self.arrays[name] = array
        if array.dtype != np.float32:
            return torch.from_numpy(array)
        tensor = torch.from_numpy(array.astype(np.float64)).requires_grad_(grad)
        self.inputs[name] = tensor
        if grad:
            self.wanted.append(name)
        return tensor

    def normal(self, name, *shape, mean=0.0, std=1.0, grad=True):
        return self.put(name, self.rng.standard_normal(shape) * std + mean, grad)

    def finish(self, outputs, grads=None, dtype=np.float32):
        """`outputs`: name -> tensor. grads: name -> gradient of the output, or None for normal ones wherever an input wants one."""
        if grads is None and self.wanted:
            grads = {name: self.rng.standard_normal(tuple(y.shape)) for name, y in outputs.items()}
        for name, y in outputs.items():
            self.arrays['expect_' + name] = y.detach().numpy().astype(dtype)
        if grads:
            total = 0
            for name, g in grads.items():
                g = np.asarray(g, dtype=np.float32)
                self.arrays['grad_' + name] = g
                total = total + (outputs[name] * torch.from_numpy(g.astype(np.float64))).sum()
            total.backward()
            for name in self.wanted:
                g = self.inputs[name].grad
                self.arrays['expect_grad_' + name] = (torch.zeros_like(self.inputs[name]) if g is None else g).numpy().astype(np.float32)
        arrays = {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in self.arrays.items()}
        save_file(arrays, self.path(f'op_{self.op}_{self.case}.safetensors'), metadata=self.meta)


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def conv2d():
    cases = [('odd', (2, 7, 9, 5), (6, 3, 3), 1, 1, 1, True, False, True), ('stem', (1, 15, 17, 3), (8, 7, 7), 2, 3, 1, False, False, False),
             ('one_by_one', (2, 6, 5, 37), (33, 1, 1), 1, 0, 1, True, True, True), ('strided_one_by_one', (1, 9, 8, 12), (20, 1, 1), 2, 0, 1, False, False, True),
             ('uneven_window', (1, 10, 11, 4), (5, 3, 5), 1, 2, 2, True, False, False), ('floor', (1, 8, 10, 3), (4, 3, 2), 3, 1, 1, True, True, False),
             ('wide', (1, 13, 14, 32), (40, 3, 3), 1, 1, 1, True, False, True), ('no_images', (0, 7, 9, 5), (6, 3, 3), 1, 1, 1, True, False, True),
             ('one_pixel', (1, 1, 1, 1), (1, 1, 1), 1, 0, 1, True, False, False)]
    for i, (name, shape, (k, r, s), stride, pad, dilation, bias, residual, relu) in enumerate(cases):
        c = Case('conv2d', name, 100 + i, stride=stride, pad=pad, dilation=dilation, relu=int(relu))
        x, w = c.normal('x', *shape), c.normal('weight', k, r, s, shape[3], std=1 / math.sqrt(r * s * shape[3]))
        b = c.normal('bias', k) if bias else None
        y = F.conv2d(nchw(x), nchw(w), b, stride, pad, dilation)
        if residual:
            y = y + nchw(c.normal('residual', y.shape[0], y.shape[2], y.shape[3], k))
        c.finish({'y': nhwc(F.relu(y) if relu else y)})


def conv2d_transpose():
    cases = [('mask_head', (3, 7, 7, 12), (2, 2, 10), 2, 0, True), ('overlap', (2, 5, 4, 7), (4, 4, 3), 2, 1, False),
             ('three_by_three', (1, 6, 5, 4), (3, 3, 5), 2, 1, True), ('no_rows', (0, 7, 7, 6), (2, 2, 5), 2, 0, True), ('one_pixel', (1, 1, 1, 2), (2, 3, 3), 1, 0, False)]
    for i, (name, shape, (r, s, k), stride, pad, relu) in enumerate(cases):
        c = Case('conv2d_transpose', name, 200 + i, stride=stride, pad=pad, relu=int(relu))
        x, w, b = c.normal('x', *shape), c.normal('weight', shape[3], r, s, k, std=1 / math.sqrt(shape[3])), c.normal('bias', k)
        y = F.conv_transpose2d(nchw(x), w.permute(0, 3, 1, 2), b, stride, pad)
        c.finish({'y': nhwc(F.relu(y) if relu else y)})


def linear():
    for i, (name, n, k, c_in, relu) in enumerate([('odd', 5, 3, 7, 1), ('large', 70, 65, 90, 1), ('plain', 9, 33, 17, 0), ('no_rows', 0, 4, 6, 1)]):
        c = Case('linear', name, 300 + i, relu=relu)
        y = F.linear(c.normal('x', n, c_in), c.normal('weight', k, c_in, std=1 / math.sqrt(c_in)), c.normal('bias', k))
        c.finish({'y': F.relu(y) if relu else y})


def frozen_batch_norm():
    for i, (name, eps, relu, shape) in enumerate([('plain', 1e-5, 0, (2, 5, 3, 7)), ('no_eps', 0.0, 1, (1, 4, 4, 33)), ('no_images', 1e-5, 1, (0, 4, 4, 3))]):
        c = Case('frozen_batch_norm', name, 400 + i, eps=eps, relu=relu, rtol=1e-4)
        n = shape[3]
        x, w, b, m = c.normal('x', *shape), c.normal('weight', n, grad=False), c.normal('bias', n, grad=False), c.normal('running_mean', n, grad=False)
        v = c.put('running_var', 10 ** c.rng.uniform(-4, 1, n))
        y = (x - m) * (w / torch.sqrt(v + eps)) + b
        c.finish({'y': F.relu(y) if relu else y})


def sync_batch_norm():
    for i, (name, mean, std, relu, shape) in enumerate([('plain', 0, 1, 0, (2, 5, 3, 7)), ('far_mean', 100, 1, 1, (2, 6, 5, 4)), ('small', 3, 0.01, 1, (1, 2, 1, 3))]):
        c = Case('sync_batch_norm', name, 500 + i, eps=1e-5, momentum=0.1, relu=relu, atol=1e-4, rtol=1e-4)
        n = shape[3]
        x, w, b = c.normal('x', *shape, mean=mean, std=std), c.normal('weight', n), c.normal('bias', n)
        m, v = c.normal('running_mean', n, grad=False), c.put('running_var', c.rng.uniform(0.5, 2, n))
        rm, rv = m.clone(), v.clone()
        y = nhwc(F.batch_norm(nchw(x), rm, rv, w, b, True, 0.1, 1e-5))
        y = F.relu(y) if relu else y
        c.finish({'y': y, 'new_running_mean': rm, 'new_running_var': rv}, {'y': c.rng.standard_normal(shape)})


def group_norm():
    cases = [('plain', 4, 0, 1, 0, (2, 5, 3, 8)), ('far_mean', 2, 100, 1, 1, (2, 6, 5, 6)), ('one_group', 1, 0, 1, 1, (1, 3, 3, 5)), ('instance', 3, 1, 2, 0, (3, 2, 2, 3)), ('no_images', 2, 0, 1, 0, (0, 3, 3, 4))]
    for i, (name, groups, mean, std, relu, shape) in enumerate(cases):
        c = Case('group_norm', name, 600 + i, groups=groups, eps=1e-5, relu=relu, atol=1e-4, rtol=1e-4)
        x, w, b = c.normal('x', *shape, mean=mean, std=std), c.normal('weight', shape[3]), c.normal('bias', shape[3])
        y = nhwc(F.group_norm(nchw(x), groups, w, b, 1e-5)) if shape[0] else x * w + b
        c.finish({'y': F.relu(y) if relu else y})


def max_pool2d():
    for i, (name, kernel, stride, pad, shape) in enumerate([('stem', 3, 2, 1, (2, 9, 8, 5)), ('even', 2, 2, 0, (1, 7, 6, 3)), ('subsample', 1, 2, 0, (2, 5, 7, 4)), ('negative', 3, 2, 1, (1, 6, 6, 2))]):
        c = Case('max_pool2d', name, 700 + i, kernel=kernel, stride=stride, pad=pad)
        x = c.normal('x', *shape, mean=-9 if name == 'negative' else 0)
        c.finish({'y': nhwc(F.max_pool2d(nchw(x), kernel, stride, pad))})


def upsample_add():
    for i, (name, shape) in enumerate([('odd', (2, 3, 5, 4)), ('one_pixel', (1, 1, 1, 7)), ('no_images', (0, 2, 2, 3))]):
        c = Case('upsample_add', name, 800 + i)
        top, lateral = c.normal('top', *shape), c.normal('lateral', shape[0], 2 * shape[1], 2 * shape[2], shape[3])
        c.finish({'y': top.repeat_interleave(2, 1).repeat_interleave(2, 2) + lateral})


def random_rois(rng, n, images, width, height, smallest=0.3):
    """Boxes in input pixels, some off the image; images in mixed order."""
    centre = np.stack([rng.uniform(-0.1, 1.1, n) * width, rng.uniform(-0.1, 1.1, n) * height], 1)
    half = np.exp(rng.uniform(math.log(smallest), math.log(0.6 * max(width, height)), (n, 2))) / 2
    return np.concatenate([rng.integers(0, images, (n, 1)).astype(np.float64), centre - half, centre + half], 1)


def special_rois(width, height):
    """The whole image, a zero area, a box far outside, a reversed one, a border pixel."""
    return np.array([[0, 0, 0, width, height], [0, 5, 6, 5, 6], [0, width * 3, 2, width * 3 + 9, 8], [0, 9, 9, 4, 3], [0, width - 0.2, height - 0.2, width, height]], dtype=np.float64)


def roi_align():
    cases = [('adaptive', 0, 1, 0.25, 3, (2, 9, 11, 4), 9), ('two_samples', 2, 0, 0.25, 4, (2, 8, 10, 3), 9), ('unaligned_adaptive', 0, 0, 0.5, 2, (1, 7, 6, 5), 7),
             ('aligned_two', 2, 1, 0.125, 7, (3, 6, 6, 2), 6), ('no_rois', 2, 1, 0.25, 7, (1, 5, 5, 3), 0), ('one_pixel_map', 2, 0, 0.0625, 2, (1, 1, 1, 2), 3)]
    for i, (name, sampling, aligned, scale, size, shape, n) in enumerate(cases):
        c = Case('roi_align', name, 900 + i, output_size=size, spatial_scale=scale, sampling_ratio=sampling, aligned=aligned)
        w, h = shape[2] / scale, shape[1] / scale
        x = c.normal('x', *shape)
        boxes = np.concatenate([random_rois(c.rng, n, shape[0], w, h), special_rois(w, h)]) if n else np.zeros((0, 5))
        rois = c.put('rois', boxes)
        y = torchvision.ops.roi_align(nchw(x).contiguous(), rois, size, scale, sampling if sampling else -1, bool(aligned))
        c.finish({'y': nhwc(y)})


def roi_pool():
    for i, (name, scale, size, shape, n) in enumerate([('plain', 0.25, 3, (2, 9, 11, 4), 9), ('large', 0.5, 7, (1, 12, 10, 3), 6), ('no_rois', 0.25, 2, (1, 5, 5, 3), 0)]):
        c = Case('roi_pool', name, 1000 + i, output_size=size, spatial_scale=scale)
        w, h = shape[2] / scale, shape[1] / scale
        x = c.normal('x', *shape)
        boxes = np.concatenate([random_rois(c.rng, n, shape[0], w, h), special_rois(w, h)[:3]]) if n else np.zeros((0, 5))
        rois = c.put('rois', boxes)
        c.finish({'y': nhwc(torchvision.ops.roi_pool(nchw(x).contiguous(), rois, size, scale))})


def roi_align_fpn():
    for i, (name, sampling, aligned, size, n, largest) in enumerate([('mixed', 2, 0, 3, 14, 900), ('adaptive', 0, 1, 2, 10, 700), ('one_level', 2, 1, 7, 3, 60), ('no_rois', 2, 1, 7, 0, 9)]):
        c = Case('roi_align_fpn', name, 1100 + i, output_size=size, sampling_ratio=sampling, aligned=aligned)
        maps = [c.normal(f'p{level}', 2, 32 >> level - 2, 48 >> level - 2, 2) for level in range(2, 6)]
        side = np.exp(c.rng.uniform(math.log(3), math.log(largest), (n, 2)))
        corner = np.stack([c.rng.uniform(-20, 300, n), c.rng.uniform(-20, 200, n)], 1)
        boxes = np.concatenate([c.rng.integers(0, 2, (n, 1)).astype(np.float64), corner, corner + side], 1)
        if n:
            boxes = np.concatenate([boxes, [[1, 40, 40, 40, 40]]])
        rois = c.put('rois', boxes)
        area = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])
        exact = 4 + torch.log2(torch.sqrt(area) / 224 + 1e-6)
        assert not len(exact) or (exact - exact.round()).abs().min() > 1e-3, 'a box too near to the border of two levels'
        level = exact.floor().clamp(2, 5).long()
        y = torch.zeros(len(boxes), 2, size, size, dtype=torch.float64)
        for k, p in enumerate(maps):
            here = (level == k + 2).nonzero()[:, 0]
            if len(here):
                y = y.index_put((here,), torchvision.ops.roi_align(nchw(p).contiguous(), rois[here], size, 1 / (4 << k), sampling if sampling else -1, bool(aligned)))
        if not y.requires_grad:
            y = y + 0 * sum(p.sum() for p in maps)
        c.finish({'y': nhwc(y)})


def softmax_cross_entropy():
    cases = [('plain', 9, 5, 9.0, 1.0, 1.0), ('ignored', 12, 4, 512.0, 2.0, -1.5), ('all_ignored', 3, 4, 7.0, 1.0, 1.0), ('huge', 6, 81, 6.0, 1e4, 0.5), ('no_rows', 0, 4, 5.0, 1.0, 2.0), ('one_class', 3, 1, 3.0, 1.0, 1.0)]
    for i, (name, n, k, normalizer, scale, grad) in enumerate(cases):
        c = Case('softmax_cross_entropy', name, 1200 + i, normalizer=normalizer)
        logits = c.put('logits', np.sign(c.rng.standard_normal((n, k))) * scale if name == 'huge' else c.rng.standard_normal((n, k)) * scale, True)
        low = -1 if 'ignored' in name else 0
        labels = c.put('labels', np.full(n, -1, np.int32) if name == 'all_ignored' else c.rng.integers(low, k, n).astype(np.int32))
        loss = F.cross_entropy(logits, labels.long(), ignore_index=-1, reduction='sum') / normalizer if n else logits.sum()
        c.finish({'loss': loss}, {'loss': grad})


def sigmoid_bce():
    for i, (name, n, normalizer, scale, grad) in enumerate([('plain', 37, 256.0, 3.0, 1.0), ('huge', 8, 8.0, 1e4, -2.0), ('no_rows', 0, 3.0, 1.0, 1.0)]):
        c = Case('sigmoid_bce', name, 1300 + i, normalizer=normalizer)
        logits = c.normal('logits', n, std=scale)
        targets = c.put('targets', c.rng.integers(0, 2, n) if name == 'huge' else c.rng.uniform(0, 1, n))
        weights = c.put('weights', c.rng.integers(0, 3, n) * 0.5)
        loss = (F.binary_cross_entropy_with_logits(logits, targets, reduction='none') * weights).sum() / normalizer
        c.finish({'loss': loss}, {'loss': grad})


def smooth_l1():
    for i, (name, n, beta, normalizer, grad) in enumerate([('plain', 11, 1 / 9, 256.0, 1.0), ('wide', 6, 1.0, 6.0, -3.0), ('l1', 7, 0.0, 4.0, 1.0), ('no_rows', 0, 1.0, 2.0, 1.0)]):
        c = Case('smooth_l1', name, 1400 + i, beta=beta, normalizer=normalizer)
        pred = c.normal('pred', n, 4)
        target = c.normal('target', n, 4, grad=False)
        if name == 'l1':
            target.data[2] = pred.data[2]
            c.arrays['target'][2] = c.arrays['pred'][2]
        weights = c.put('weights', c.rng.integers(0, 3, n) * 0.5)
        d = (pred - target).abs()
        rows = torch.where(d < beta, 0.5 * d * d / beta, d - 0.5 * beta) if beta > 0 else d
        c.finish({'loss': (rows * weights[:, None]).sum() / normalizer}, {'loss': grad})


def nms():
    for i, (name, n, groups, threshold) in enumerate([('plain', 60, 0, 0.5), ('groups', 80, 4, 0.3), ('ties', 40, 2, 0.6), ('no_boxes', 0, 0, 0.5)]):
        c = Case('nms', name, 1500 + i, iou_threshold=threshold)
        corner, side = c.rng.uniform(0, 40, (n, 2)), c.rng.uniform(2, 30, (n, 2))
        boxes = np.concatenate([corner, corner + side], 1).astype(np.float32)
        scores = c.rng.standard_normal(n).astype(np.float32)
        group = c.rng.choice([0, 7, 99999, 100000], n).astype(np.int32) if groups else np.zeros(n, np.int32)
        if name == 'ties':
            scores, boxes[1::2] = np.round(scores), boxes[::2]
            boxes[5, 2:] = boxes[5, :2]
            boxes[7] = boxes[5]
        c.put('boxes', boxes), c.put('scores', scores)
        if groups:
            c.put('groups', group)
        # Greedy, in double; torchvision leaves the order of equal scores open.
        b = boxes.astype(np.float64)
        area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
        keep = []
        for k in np.argsort(-scores.astype(np.float64), kind='stable'):
            def iou(j):
                w, h = min(b[k, 2], b[j, 2]) - max(b[k, 0], b[j, 0]), min(b[k, 3], b[j, 3]) - max(b[k, 1], b[j, 1])
                inter = max(w, 0) * max(h, 0)
                return inter / (area[k] + area[j] - inter) if inter > 0 else 0.0
            if all(group[j] != group[k] or iou(j) <= threshold for j in keep):
                keep.append(k)
        c.finish({'keep': torch.from_numpy(np.array(keep, dtype=np.int32))}, dtype=np.int32)


def box_encode():
    for i, (name, n, weights) in enumerate([('heads', 13, (10.0, 10.0, 5.0, 5.0)), ('rpn', 7, (1.0, 1.0, 1.0, 1.0)), ('no_boxes', 0, (1.0, 2.0, 3.0, 4.0))]):
        c = Case('box_encode', name, 1600 + i, weights=','.join(map(str, weights)))
        boxes, reference = [c.put(k, random_rois(c.rng, n, 1, 200, 100, smallest=2)[:, 1:]) for k in ('boxes', 'reference')]
        c.finish({'y': BoxCoder(weights).encode_single(boxes, reference) if n else boxes})


def box_decode():
    for i, (name, n, weights) in enumerate([('heads', 13, (10.0, 10.0, 5.0, 5.0)), ('rpn', 7, (1.0, 1.0, 1.0, 1.0)), ('no_boxes', 0, (1.0, 2.0, 3.0, 4.0))]):
        attrs = {'weights': ','.join(map(str, weights))}
        if name != 'rpn':
            attrs['clip'] = math.log(1000 / 16)
        c = Case('box_decode', name, 1700 + i, atol=1e-3, **attrs)
        deltas = c.put('deltas', c.rng.standard_normal((n, 4)) * (3 if name == 'rpn' else 12))
        reference = c.put('reference', random_rois(c.rng, n, 1, 200, 100, smallest=2)[:, 1:])
        c.finish({'y': BoxCoder(weights).decode_single(deltas, reference) if n else deltas})


def image_pack():
    cases = [('down', 17, 23, 11, 13, 0, 'RGB'), ('up_flip_bgr', 9, 7, 21, 18, 1, 'BGR'), ('same', 6, 5, 6, 5, 1, 'RGB'), ('one_pixel', 1, 1, 4, 3, 0, 'BGR'), ('thin', 30, 2, 7, 9, 1, 'RGB')]
    for i, (name, h, w, height, width, flip, order) in enumerate(cases):
        mean, std = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
        c = Case('image_pack', name, 1800 + i, atol=5e-5, height=height, width=width, flip=flip, mean=','.join(map(str, mean)), std=','.join(map(str, std)), order=order)
        image = c.put('image', c.rng.integers(0, 256, (h, w, 3)).astype(np.uint8))
        y = F.interpolate(image.double().permute(2, 0, 1)[None], (height, width), mode='bilinear', align_corners=False)[0].permute(1, 2, 0)
        y = y.flip(1) if flip else y
        y = y.flip(2) if order == 'BGR' else y
        c.finish({'y': (y - torch.tensor(mean, dtype=torch.float64)) / torch.tensor(std, dtype=torch.float64)})


ALL = [conv2d, conv2d_transpose, linear, frozen_batch_norm, sync_batch_norm, group_norm, max_pool2d, upsample_add, roi_align, roi_pool, roi_align_fpn,
       softmax_cross_entropy, sigmoid_bce, smooth_l1, nms, box_encode, box_decode, image_pack]


def write_all(path):
    Case.path = staticmethod(path)
    for make in ALL:
        make()
