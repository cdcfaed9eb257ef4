#!/usr/bin/env python3
"""Converts weights of other programs to safetensors with torchvision's names, which `maskrcnn --weights` reads.

usage: convert_weights.py IN OUT.safetensors [--class-names A,B,...]
                          [--input-order RGB|BGR] [--pixel-mean A,B,C] [--pixel-std A,B,C] [--stride-place 1x1|3x3] [--norm-eps E]

IN is one of (told apart by its names):
  torchvision   state dict of maskrcnn_resnet50_fpn or of an ImageNet resnet (.pth), or a file of torchvision's train.py
  detectron2    model_final of Mask R-CNN R50/R101-FPN (.pkl, .pth): the background moves from the last class to the first
  Caffe2        ImageNet backbones such as MSRA's R-50.pkl: folded norms become frozen ones

What the numbers were made for (channel order, mean, ...) goes into __metadata__ where the kind of file tells it; options say
otherwise. detectron2 models that began from torchvision's ResNet need --stride-place 3x3 --input-order RGB and their mean and std.
Needs numpy and safetensors, and torch for .pth files. Pickles may run code: only numpy arrays are let through.
"""
import argparse
import io
import json
import pickle
import re
import sys

import numpy as np
from safetensors.numpy import save_file

CLAIMS = {
    'torchvision': {'input_order': 'RGB', 'pixel_mean': '[123.675, 116.28, 103.53]', 'pixel_std': '[58.395, 57.12, 57.375]', 'stride_place': '3x3'},
    'detectron2': {'input_order': 'BGR', 'pixel_mean': '[103.53, 116.28, 123.675]', 'pixel_std': '[1.0, 1.0, 1.0]', 'stride_place': '1x1', 'norm_eps': '1e-05'},
    'caffe2': {'input_order': 'BGR', 'pixel_mean': '[103.53, 116.28, 123.675]', 'pixel_std': '[1.0, 1.0, 1.0]', 'stride_place': '1x1', 'norm_eps': '1e-05'},
}


class ArrayUnpickler(pickle.Unpickler):
    """Pickles with numpy arrays and nothing else that can be called."""
    ALLOWED = {('numpy', 'ndarray'), ('numpy', 'dtype'), ('numpy.core.multiarray', '_reconstruct'), ('numpy.core.multiarray', 'scalar'),
               ('numpy._core.multiarray', '_reconstruct'), ('numpy._core.multiarray', 'scalar'), ('_codecs', 'encode'), ('collections', 'OrderedDict')}

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f'the pickle wants {module}.{name}, which no array needs')
        return super().find_class(module, name)


def read(path):
    with open(path, 'rb') as f:
        start = f.read(4)
        if start[:2] == b'PK' or not path.endswith('.pkl'):
            import torch
            state = torch.load(path, map_location='cpu', weights_only=True)
        else:
            state = ArrayUnpickler(io.BytesIO(start + f.read()), encoding='latin1').load()
    for key in ('model', 'state_dict', 'blobs'):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    arrays = {}
    for name, value in state.items():
        if hasattr(value, 'detach'):
            value = value.detach().float().numpy() if value.is_floating_point() else value.numpy()
        if isinstance(value, np.ndarray) and value.dtype.kind == 'f':
            arrays[name] = value.astype(np.float32)
    return arrays


def kind_of(names):
    if any(n.endswith('_w') for n in names):
        return 'caffe2'
    if any('bottom_up' in n or n.startswith(('stem.', 'res2.')) for n in names):
        return 'detectron2'
    return 'torchvision'


def from_torchvision(name):
    name = re.sub(r'^module\.', '', name)
    name = re.sub(r'^(conv1|bn1|layer[1-4])\.', r'backbone.body.\1.', name)
    name = re.sub(r'^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$', r'\1.0.\2', name)
    name = re.sub(r'^rpn\.head\.conv\.(weight|bias)$', r'rpn.head.conv.0.0.\1', name)
    return re.sub(r'^roi_heads\.mask_head\.mask_fcn(\d)\.', lambda m: f'roi_heads.mask_head.{int(m[1]) - 1}.0.', name)


def body_name(name):
    """res2.0.conv1.norm.weight and the like, without what stands before it."""
    name = name.replace('stem.', '')
    name = re.sub(r'^res(\d)', lambda m: f'layer{int(m[1]) - 1}', name)
    name = re.sub(r'conv(\d)\.norm\.', r'bn\1.', name)
    name = name.replace('shortcut.norm.', 'downsample.1.').replace('shortcut.', 'downsample.0.')
    return 'backbone.body.' + name


def from_detectron2(name):
    name = re.sub(r'^module\.', '', name)
    if name.startswith(('stem.', 'res')):
        return body_name(name)
    if name.startswith('backbone.bottom_up.'):
        return body_name(name[len('backbone.bottom_up.'):])
    m = re.match(r'backbone\.fpn_(lateral|output)(\d)\.(norm\.)?(weight|bias)$', name)
    if m:
        return f'backbone.fpn.{"inner" if m[1] == "lateral" else "layer"}_blocks.{int(m[2]) - 2}.{1 if m[3] else 0}.{m[4]}'
    m = re.match(r'roi_heads\.mask_head\.mask_fcn(\d)\.(norm\.)?(weight|bias)$', name)
    if m:
        return f'roi_heads.mask_head.{int(m[1]) - 1}.{1 if m[2] else 0}.{m[3]}'
    for old, new in (('proposal_generator.rpn_head.conv.', 'rpn.head.conv.0.0.'), ('proposal_generator.rpn_head.objectness_logits.', 'rpn.head.cls_logits.'),
                     ('proposal_generator.rpn_head.anchor_deltas.', 'rpn.head.bbox_pred.'), ('roi_heads.box_head.fc1.', 'roi_heads.box_head.fc6.'),
                     ('roi_heads.box_head.fc2.', 'roi_heads.box_head.fc7.'), ('roi_heads.mask_head.deconv.', 'roi_heads.mask_predictor.conv5_mask.'),
                     ('roi_heads.mask_head.predictor.', 'roi_heads.mask_predictor.mask_fcn_logits.')):
        if name.startswith(old):
            return new + name[len(old):]
    return name if name.startswith('roi_heads.box_predictor.') else None


def from_caffe2(name):
    m = re.match(r'(?:res_)?conv1_(w|bn_s|bn_b)$', name)
    if m:
        return 'backbone.body.' + {'w': 'conv1.weight', 'bn_s': 'bn1.weight', 'bn_b': 'bn1.bias'}[m[1]]
    m = re.match(r'res(\d)_(\d+)_branch(1|2a|2b|2c)_(w|bn_s|bn_b)$', name)
    if not m:
        return None
    place = f'backbone.body.layer{int(m[1]) - 1}.{m[2]}.'
    if m[3] == '1':
        return place + {'w': 'downsample.0.weight', 'bn_s': 'downsample.1.weight', 'bn_b': 'downsample.1.bias'}[m[4]]
    number = 'abc'.index(m[3][1]) + 1
    return place + {'w': f'conv{number}.weight', 'bn_s': f'bn{number}.weight', 'bn_b': f'bn{number}.bias'}[m[4]]


def background_first(arrays):
    """detectron2's last class is the background, and it has neither a box nor a mask."""
    for last in ('weight', 'bias'):
        score, box, mask = (f'roi_heads.{n}.{last}' for n in ('box_predictor.cls_score', 'box_predictor.bbox_pred', 'mask_predictor.mask_fcn_logits'))
        if score in arrays:
            arrays[score] = np.concatenate([arrays[score][-1:], arrays[score][:-1]])
        for name, rows in ((box, 4), (mask, 1)):
            if name in arrays:
                arrays[name] = np.concatenate([np.zeros_like(arrays[name][:1]).repeat(rows, 0), arrays[name]])


def unfold_norms(arrays):
    """Caffe2's norms are a scale and a shift: statistics of mean 0 and deviation 1 leave them so."""
    for name in [n for n in arrays if re.search(r'(bn\d|downsample\.1)\.weight$', n)]:
        base = name[:-len('weight')]
        arrays[base + 'running_mean'] = np.zeros_like(arrays[name])
        arrays[base + 'running_var'] = np.full_like(arrays[name], 1 - 1e-5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input')
    parser.add_argument('output')
    for key in ('class-names', 'input-order', 'pixel-mean', 'pixel-std', 'stride-place', 'norm-eps'):
        parser.add_argument('--' + key)
    options = parser.parse_args()
    source = read(options.input)
    if not source:
        sys.exit(f'{options.input}: holds no arrays')
    kind = kind_of(source)
    rename = {'torchvision': from_torchvision, 'detectron2': from_detectron2, 'caffe2': from_caffe2}[kind]
    arrays, left_out = {}, []
    for name, value in source.items():
        new = rename(name)
        if new is None or new.startswith('fc.') or new.startswith('backbone.body.fc'):
            left_out.append(name)
        else:
            arrays[new] = np.ascontiguousarray(value)
    if kind == 'detectron2':
        background_first(arrays)
    if kind == 'caffe2':
        unfold_norms(arrays)
    metadata = {'format': 'pt', **CLAIMS[kind]}
    for key in ('input_order', 'stride_place', 'norm_eps'):
        if getattr(options, key):
            metadata[key] = getattr(options, key)
    for key in ('pixel_mean', 'pixel_std'):
        if getattr(options, key):
            metadata[key] = json.dumps([float(v) for v in getattr(options, key).split(',')])
    if options.class_names:
        metadata['class_names'] = json.dumps(options.class_names.split(','))
    save_file(arrays, options.output, metadata=metadata)
    print(f'{options.input}: {kind}, {len(arrays)} tensors written to {options.output}, {len(left_out)} left out{": " + ", ".join(left_out) if left_out else ""}')


if __name__ == '__main__':
    main()
