#!/usr/bin/env python3
"""Converts weights of other programs to safetensors with torchvision's names, which `maskrcnn --weights` reads.

usage: convert_weights.py IN OUT.safetensors [--class-names NAMES] [--drop-unnamed] [--config config.yaml]
                          [--input-order RGB|BGR] [--pixel-mean A,B,C] [--pixel-std A,B,C]
                          [--stride-place 1x1|3x3] [--norm-eps E]

IN is one of (told apart by its names):
  torchvision   state dict of maskrcnn_resnet50_fpn (names of any version) or of an ImageNet ResNet, torchvision's or
                timm's (.pth, .safetensors); a file of torchvision's training script
  detectron2    Mask R-CNN R50/R101-FPN or -C4 or an RPN alone (.pth of a training, .pkl or .pth of the model zoo), or an
                ImageNet backbone in its names (.pkl): the background moves from the last class to the first
  Caffe2        Detectron's Mask R-CNN R50/R101-FPN or -C4, MSRA's and FAIR's ImageNet backbones (.pkl): AffineChannel becomes a
                frozen batch norm, momentum is left out

What the numbers were made for (channel order, mean, deviation, place of the stride, eps) goes into __metadata__, where the
program compares it with its configuration. It is taken from the options, else from --config (detectron2's config.yaml),
else from the file, else from what models of this kind usually are; what is recorded is printed. A detectron2 model that
began from torchvision's ResNet is not the usual one: give its --config, or --input-order, --pixel-mean, --pixel-std and
--stride-place. NAMES is a text file with a class on each line, without the background (configs/coco_classes.txt), or
A,B,C. torchvision's 90 classes of COCO (configs/coco_classes_91.txt) count ten ids that no object has, named N/A:
--drop-unnamed leaves their rows out, so that the 80 others remain, in the order of COCO's annotations.

Needs numpy and safetensors, torch for .pth files, PyYAML for --config. Pickles may run code: only numpy arrays are let
through.
"""
import argparse
import hashlib
import io
import json
import os
import pickle
import re
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

TORCHVISION = {'input_order': 'RGB', 'pixel_mean': [123.675, 116.28, 103.53], 'pixel_std': [58.395, 57.12, 57.375],
               'stride_place': '3x3'}
MSRA = {'input_order': 'BGR', 'pixel_mean': [103.53, 116.28, 123.675], 'pixel_std': [1.0, 1.0, 1.0],
        'stride_place': '1x1', 'norm_eps': 1e-5}
DETECTRON_MEAN = [102.9801, 115.9465, 122.7717]
CONFIGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'configs')
# torchvision publishes files under the first digits of their SHA-256. This one was trained with eps 0 in its norms.
COCO_V1 = 'bf2d0c1e'


class ArrayUnpickler(pickle.Unpickler):
    """Pickles with numpy arrays and nothing else that can be called."""
    ALLOWED = {('numpy', 'ndarray'), ('numpy', 'dtype'), ('numpy.core.multiarray', '_reconstruct'),
               ('numpy.core.multiarray', 'scalar'), ('numpy._core.multiarray', '_reconstruct'),
               ('numpy._core.multiarray', 'scalar'), ('_codecs', 'encode'), ('collections', 'OrderedDict')}

    def find_class(self, module, name):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f'the pickle wants {module}.{name}, which no array needs')
        return super().find_class(module, name)


def load(path):
    """The file's content, and the start of its SHA-256."""
    with open(path, 'rb') as f:
        content = f.read()
    digest = hashlib.sha256(content).hexdigest()
    if path.endswith('.safetensors'):
        return load_file(path), digest
    if path.endswith('.pkl') and content[:2] != b'PK':
        return ArrayUnpickler(io.BytesIO(content), encoding='latin1').load(), digest
    import torch
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(io.BytesIO(content), map_location='cpu', weights_only=True), digest


def arrays_of(content):
    """The float arrays of a file, wherever it keeps them."""
    for key in ('model', 'state_dict', 'blobs'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    arrays = {}
    for name, value in content.items() if isinstance(content, dict) else ():
        if hasattr(value, 'detach'):
            value = value.detach().float().numpy() if value.is_floating_point() else value.numpy()
        if isinstance(value, np.ndarray) and value.dtype.kind == 'f':
            arrays[re.sub(r'^module\.', '', name)] = value.astype(np.float32)
    return {name: value for name, value in arrays.items() if not name.endswith('_momentum')}


def kind_of(names):
    if any(n.endswith('_w') for n in names):
        return 'Caffe2'
    if any('bottom_up' in n or n.startswith(('stem.', 'res2.', 'backbone.stem.', 'proposal_generator.')) for n in names):
        return 'detectron2'
    return 'torchvision'


def from_torchvision(name):
    name = re.sub(r'^(conv1|bn1|layer[1-4])\.', r'backbone.body.\1.', name)
    name = re.sub(r'^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$', r'\1.0.\2', name)
    name = re.sub(r'^rpn\.head\.conv\.(weight|bias)$', r'rpn.head.conv.0.0.\1', name)
    name = re.sub(r'^roi_heads\.mask_head\.mask_fcn(\d)\.', lambda m: f'roi_heads.mask_head.{int(m[1]) - 1}.0.', name)
    return name if name.startswith(('backbone.', 'rpn.head.', 'roi_heads.')) else None


def body_name(name):
    """res2.0.conv1.norm.weight and the like, without what stands before it."""
    name = name.replace('stem.', '')
    name = re.sub(r'^res(\d)', lambda m: f'layer{int(m[1]) - 1}', name)
    name = re.sub(r'conv(\d)\.norm\.', r'bn\1.', name)
    name = name.replace('shortcut.norm.', 'downsample.1.').replace('shortcut.', 'downsample.0.')
    return 'backbone.body.' + name if re.match(r'(conv1|bn1|layer[1-4])\.', name) else None


def from_detectron2(name):
    if name.startswith(('stem.', 'res')):
        return body_name(name)
    m = re.match(r'backbone\.bottom_up\.(.*)|backbone\.((?:stem|res)\w*\..*)|roi_heads\.(res5\..*)', name)
    if m:  # with an FPN, without, and the res5 that is C4's head
        return body_name(m[1] or m[2] or m[3])
    m = re.match(r'backbone\.fpn_(lateral|output)(\d)\.(norm\.)?(\w+)$', name)
    if m:
        blocks = 'inner' if m[1] == 'lateral' else 'layer'
        return f'backbone.fpn.{blocks}_blocks.{int(m[2]) - 2}.{1 if m[3] else 0}.{m[4]}'
    m = re.match(r'roi_heads\.mask_head\.mask_fcn(\d)\.(norm\.)?(\w+)$', name)
    if m:
        return f'roi_heads.mask_head.{int(m[1]) - 1}.{1 if m[2] else 0}.{m[3]}'
    if re.match(r'roi_heads\.box_predictor\.(cls_score|bbox_pred)\.(weight|bias)$', name):
        return name
    for old, new in (('proposal_generator.rpn_head.conv.', 'rpn.head.conv.0.0.'),
                     ('proposal_generator.rpn_head.objectness_logits.', 'rpn.head.cls_logits.'),
                     ('proposal_generator.rpn_head.anchor_deltas.', 'rpn.head.bbox_pred.'),
                     ('roi_heads.box_head.fc1.', 'roi_heads.box_head.fc6.'),
                     ('roi_heads.box_head.fc2.', 'roi_heads.box_head.fc7.'),
                     ('roi_heads.mask_head.deconv.', 'roi_heads.mask_predictor.conv5_mask.'),
                     ('roi_heads.mask_head.predictor.', 'roi_heads.mask_predictor.mask_fcn_logits.')):
        if name.startswith(old):
            return new + name[len(old):]
    return None


CAFFE2_LAST = {'w': 'weight', 'b': 'bias', 's': 'weight', 'rm': 'running_mean', 'riv': 'running_var'}


def from_caffe2(name):
    m = re.match(r'(?:res_)?conv1_(w|(?:bn|gn)_(?:s|b|rm|riv))$', name)
    if m:
        return f'backbone.body.{"conv1" if m[1] == "w" else "bn1"}.{CAFFE2_LAST[m[1].split("_")[-1]]}'
    m = re.match(r'res(\d)_(\d+)_branch(1|2a|2b|2c)_(w|(?:bn|gn)_(?:s|b|rm|riv))$', name)
    if m:
        number, norm = 'abc'.find(m[3][-1]) + 1, m[4] != 'w'
        part = f'downsample.{int(norm)}' if m[3] == '1' else f'{"bn" if norm else "conv"}{number}'
        return f'backbone.body.layer{int(m[1]) - 1}.{m[2]}.{part}.{CAFFE2_LAST[m[4].split("_")[-1]]}'
    m = re.match(r'fpn_(inner_)?res(\d)_\d+_sum(_lateral)?_(gn_)?([wbs])$', name)
    if m:  # the topmost lateral convolution has no "_lateral" in its name
        return f'backbone.fpn.{"inner" if m[1] else "layer"}_blocks.{int(m[2]) - 2}.{1 if m[4] else 0}.{CAFFE2_LAST[m[5]]}'
    m = re.match(r'_\[mask\]_fcn(\d)_(gn_)?([wbs])$', name)
    if m:
        return f'roi_heads.mask_head.{int(m[1]) - 1}.{1 if m[2] else 0}.{CAFFE2_LAST[m[3]]}'
    m = re.match(r'(?:(conv_rpn|rpn_cls_logits|rpn_bbox_pred)(?:_fpn2)?|(fc6|fc7|cls_score|bbox_pred|conv5_mask|mask_fcn_logits))_([wb])$', name)
    if not m:
        return None
    return {'conv_rpn': 'rpn.head.conv.0.0', 'rpn_cls_logits': 'rpn.head.cls_logits',
            'rpn_bbox_pred': 'rpn.head.bbox_pred', 'fc6': 'roi_heads.box_head.fc6', 'fc7': 'roi_heads.box_head.fc7',
            'cls_score': 'roi_heads.box_predictor.cls_score', 'bbox_pred': 'roi_heads.box_predictor.bbox_pred',
            'conv5_mask': 'roi_heads.mask_predictor.conv5_mask',
            'mask_fcn_logits': 'roi_heads.mask_predictor.mask_fcn_logits'}[m[1] or m[2]] + '.' + CAFFE2_LAST[m[3]]


PREDICTORS = {'roi_heads.box_predictor.cls_score': 1, 'roi_heads.box_predictor.bbox_pred': 4,
              'roi_heads.mask_predictor.mask_fcn_logits': 1}


def background_first(arrays):
    """detectron2's last class is the background, and it has neither a box nor a mask."""
    for last in ('weight', 'bias'):
        for name, rows in PREDICTORS.items():
            name = f'{name}.{last}'
            if name in arrays and name.startswith('roi_heads.box_predictor.cls_score'):
                arrays[name] = np.concatenate([arrays[name][-1:], arrays[name][:-1]])
            elif name in arrays:
                arrays[name] = np.concatenate([np.zeros_like(arrays[name][:1]).repeat(rows, 0), arrays[name]])


def unfold_norms(arrays):
    """Caffe2's norms are a scale and a shift: a mean of 0 and a variance of 1 - eps leave them so."""
    for name in [n for n in arrays if re.search(r'(bn\d|downsample\.1)\.weight$', n)]:
        base = name[:-len('weight')]
        arrays.setdefault(base + 'running_mean', np.zeros_like(arrays[name]))
        arrays.setdefault(base + 'running_var', np.full_like(arrays[name], 1 - 1e-5))


def check_rows(arrays):
    """The number of classes, None without class scores; ends where the predictors disagree."""
    score = arrays.get('roi_heads.box_predictor.cls_score.weight')
    if score is None:
        return None
    for name, rows in PREDICTORS.items():
        for last in ('weight', 'bias'):
            found = arrays.get(f'{name}.{last}')
            if found is not None and len(found) != rows * len(score):
                sys.exit(f'{name}.{last}: {len(found)} rows where {rows * len(score)} belong to {len(score) - 1} classes '
                         'and the background: boxes or masks for all classes together are not supported')
    return len(score) - 1


def coco_ids(names):
    """The category ids of COCO's classes, None for other lists."""
    coco = class_names(os.path.join(CONFIGS, 'coco_classes_91.txt'))
    if names == coco:
        return list(range(1, len(coco) + 1))
    return [i + 1 for i, name in enumerate(coco) if name != 'N/A'] if names == [n for n in coco if n != 'N/A'] else None


def drop_unnamed(arrays, names):
    """Leaves out the rows of classes without a name; returns the names that stay."""
    blocks = np.array([0] + [i + 1 for i, name in enumerate(names) if name != 'N/A'])
    for predictor, rows in PREDICTORS.items():
        for name in (f'{predictor}.weight', f'{predictor}.bias'):
            if name in arrays:
                arrays[name] = np.ascontiguousarray(arrays[name][(blocks[:, None] * rows + np.arange(rows)).ravel()])
    return [name for name in names if name != 'N/A']


def usual_claims(kind, content, source, arrays, digest):
    """What a file says itself, or what models of its kind usually are."""
    has_heads = any(n.startswith('rpn.') for n in arrays)
    claims = dict(TORCHVISION if kind == 'torchvision' else MSRA)
    if kind == 'torchvision' and not has_heads:
        claims['norm_eps'] = 1e-5
    if kind == 'torchvision' and digest.startswith(COCO_V1):
        claims['norm_eps'] = 0.0
    if kind == 'detectron2' and content.get('__author__') == 'torchvision':
        claims = dict(TORCHVISION, norm_eps=1e-5)
    if kind == 'Caffe2':
        if has_heads:
            claims['pixel_mean'] = DETECTRON_MEAN
        if any('_gn_' in n for n in source) or re.search(r'STRIDE_1X1: *false', str(content.get('cfg', '')), re.I):
            claims['stride_place'] = '3x3'
    for key in ('pixel_mean', 'pixel_std'):
        if key in source:
            claims[key] = [round(float(v), 4) for v in source[key].ravel()]
    if 'pixel_mean' in source:
        claims['input_order'] = 'BGR' if claims['pixel_mean'][0] < claims['pixel_mean'][2] else 'RGB'
    body = [n for n in arrays if n.startswith('backbone.body.')]
    if any('bn1' in n for n in body):
        claims['norm'] = 'FrozenBN' if any('running_mean' in n for n in body) else 'GN'
    return claims


def claims_of_config(path):
    import yaml
    with open(path) as f:
        cfg = yaml.safe_load(f)
    try:
        return {'input_order': cfg['INPUT']['FORMAT'], 'pixel_mean': cfg['MODEL']['PIXEL_MEAN'],
                'pixel_std': cfg['MODEL']['PIXEL_STD'],
                'stride_place': '1x1' if cfg['MODEL']['RESNETS']['STRIDE_IN_1X1'] else '3x3'}
    except (KeyError, TypeError) as missing:
        sys.exit(f'{path}: not the config.yaml that detectron2 writes into OUTPUT_DIR: {missing} is missing')


def claims_of_options(options):
    claims = {key: getattr(options, key) for key in ('input_order', 'stride_place') if getattr(options, key)}
    for key in ('pixel_mean', 'pixel_std'):
        if getattr(options, key):
            claims[key] = [float(v) for v in getattr(options, key).split(',')]
    if options.norm_eps is not None:
        claims['norm_eps'] = options.norm_eps
    return claims


def class_names(given):
    if not os.path.exists(given):
        return given.split(',')
    with open(given, encoding='utf-8') as f:
        names = [line.strip() for line in f if line.strip()]
    return names[1:] if names[0] == '__background__' else names


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input')
    parser.add_argument('output')
    parser.add_argument('--class-names')
    parser.add_argument('--drop-unnamed', action='store_true')
    parser.add_argument('--config')
    parser.add_argument('--input-order', choices=('RGB', 'BGR'))
    parser.add_argument('--pixel-mean')
    parser.add_argument('--pixel-std')
    parser.add_argument('--stride-place', choices=('1x1', '3x3'))
    parser.add_argument('--norm-eps', type=float)
    options = parser.parse_args()
    try:
        content, digest = load(options.input)
    except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        sys.exit(f'{options.input}: {error}')
    source = arrays_of(content)
    if not source:
        sys.exit(f'{options.input}: holds no arrays')
    kind = kind_of(source)
    rename = {'torchvision': from_torchvision, 'detectron2': from_detectron2, 'Caffe2': from_caffe2}[kind]
    arrays, left_out = {}, []
    for name, value in source.items():
        new = rename(name)
        if new is None:
            left_out.append(name)
        elif new in arrays:
            sys.exit(f'{options.input}: two arrays are {new}, one of them {name}')
        else:
            arrays[new] = np.ascontiguousarray(value)
    if not arrays:
        sys.exit(f'{options.input}: none of its {len(source)} arrays belongs to a Mask R-CNN or a ResNet: {", ".join(left_out[:9])}')
    if kind == 'detectron2':
        background_first(arrays)
    if kind == 'Caffe2' and not any('_gn_' in n for n in source):
        unfold_norms(arrays)
    classes = check_rows(arrays)
    names = class_names(options.class_names) if options.class_names else None
    if names is None and digest.startswith(COCO_V1):
        names = class_names(os.path.join(CONFIGS, 'coco_classes_91.txt'))
    if names and classes != len(names):
        sys.exit(f'--class-names: {len(names)} names, but {options.input} has {classes or "no"} classes')
    if names and options.drop_unnamed:
        names = drop_unnamed(arrays, names)
        classes = check_rows(arrays)
    claims = usual_claims(kind, content, source, arrays, digest)
    if options.config:
        claims.update(claims_of_config(options.config))
    claims.update(claims_of_options(options))
    if names:
        claims['class_names'] = names
        ids = coco_ids(names)
        if ids:
            claims['class_ids'] = ids
    metadata = {'format': 'pt', **{k: v if isinstance(v, str) else json.dumps(v) for k, v in claims.items()}}
    save_file(arrays, options.output, metadata=metadata)
    print(f'{options.input}: {kind}, {f"{classes} classes and the background" if classes is not None else "an RPN" if any(n.startswith("rpn.") for n in arrays) else "a backbone"}')
    print(f'recorded as made for: {", ".join(f"{k} {v}" for k, v in claims.items() if not k.startswith("class_"))}')
    if classes is not None and not names:
        print('classes without names: --class-names records them, configs/coco_classes.txt are those of COCO')
    print(f'{options.output}: {len(arrays)} tensors written, {len(left_out)} left out{": " if left_out else ""}{", ".join(left_out)}')


if __name__ == '__main__':
    main()
