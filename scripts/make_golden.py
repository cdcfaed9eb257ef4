#!/usr/bin/env python3
"""Makes the fixtures in tests/golden, so that the tests themselves need no Python.

usage: make_golden.py KIND [OPTIONS]     (make_golden.py KIND --help explains one)

Each kind of fixture is one function with @fixture; it names the packages it needs. Fixtures are small, and the same
versions of those packages make the same bytes again.
"""
import argparse
import os

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tests', 'golden')
FIXTURES = {}


def fixture(add_options=lambda parser: None):
    """Makes a function (taking the parsed options) a kind of fixture, named as the function is."""
    def register(function):
        FIXTURES[function.__name__] = (function, add_options)
        return function
    return register


def path(name):
    os.makedirs(GOLDEN, exist_ok=True)
    return os.path.normpath(os.path.join(GOLDEN, name))


@fixture(lambda p: p.add_argument('configs', help="the folder configs of a detectron2 checkout"))
def config(options):
    """Every key of detectron2 as it writes it out itself, for its 1x recipe. Needs detectron2."""
    from detectron2.config import get_cfg
    cfg = get_cfg()
    cfg.merge_from_file(os.path.join(options.configs, 'COCO-InstanceSegmentation', 'mask_rcnn_R_50_FPN_1x.yaml'))
    with open(path('detectron2_1x_resolved.yaml'), 'w') as f:
        f.write(cfg.dump())


@fixture()
def masks(options):
    """Polygons, the masks pycocotools makes of them, and detectron2's mask targets. Needs numpy and pycocotools.

    masks.txt has lines of numbers: `polygon` height width, area, box (4), compressed counts, parts, then per part the
    number of points and x y pairs; `target` size, box (4), the bits in rows as hexadecimal, parts as above.
    """
    import numpy as np
    from pycocotools import mask as api
    random = np.random.RandomState(7)
    lines = []

    def text_of(parts):
        return ' '.join([str(len(parts))] + [f'{len(p) // 2} ' + ' '.join(repr(float(v)) for v in p) for p in parts])

    def polygon(height, width, parts):
        rle = api.merge(api.frPyObjects([list(p) for p in parts], height, width))
        box = ' '.join(str(int(v)) for v in api.toBbox(rle))
        lines.append(f'polygon {height} {width} {int(api.area(rle))} {box} {rle["counts"].decode()} {text_of(parts)}')

    def target(size, box, parts):
        box = np.array(box, np.float32)
        w, h = box[2] - box[0], box[3] - box[1]
        ratio_w, ratio_h = size / max(w, 0.1), size / max(h, 0.1)
        moved = []
        for p in parts:
            p = np.array(p, np.float64)
            p[0::2] = (p[0::2] - box[0]) * ratio_w
            p[1::2] = (p[1::2] - box[1]) * ratio_h
            moved.append(p)
        bits = api.decode(api.merge(api.frPyObjects(moved, size, size)))
        lines.append(f'target {size} {" ".join(repr(float(v)) for v in box)} {np.packbits(bits).tobytes().hex()} '
                     f'{text_of(parts)}')

    def star(cx, cy, radius, points, decimals):
        angle = np.sort(random.uniform(0, 2 * np.pi, points))
        r = radius * random.uniform(0.3, 1, points)
        return np.round(np.stack([cx + r * np.cos(angle), cy + r * np.sin(angle)], 1).ravel(), decimals)

    def tangle(low, high, points, decimals=2):
        return np.round(random.uniform(low, high, 2 * points), decimals)

    polygon(10, 12, [[2, 3, 8, 3, 8, 7, 2, 7]])
    polygon(10, 12, [[2.5, 3.5, 8.5, 3.5, 8.5, 7.5, 2.5, 7.5]])
    polygon(10, 12, [[0, 0, 12, 0, 12, 10, 0, 10]])
    polygon(10, 12, [[-50, -50, 70, -50, 70, 60, -50, 60]])
    polygon(10, 12, [[20, 20, 30, 20, 25, 40]])
    polygon(10, 12, [[-20, -20, -3, -20, -5, 4]])
    polygon(10, 12, [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]])
    polygon(10, 12, [[5, 5, 5, 5, 5, 5], [1, 1, 4, 1, 4, 4]])
    polygon(10, 12, [[1, 1, 11, 9, 11, 1, 1, 9]])
    polygon(10, 12, [[3, 1, 3, 9, 3, 1]])
    polygon(1, 1, [[0, 0, 1, 0, 1, 1, 0, 1]])
    polygon(1, 30, [[2, -3, 25, 0.2, 9, 5]])
    polygon(30, 1, [[-3, 2, 0.2, 25, 5, 9]])
    polygon(20, 20, [[2, 2, 12, 2, 12, 12, 2, 12], [8, 8, 18, 8, 18, 18, 8, 18], [8, 8, 12, 8, 12, 12, 8, 12]])
    polygon(300, 400, [star(200, 150, 180, 3000, 2)])
    polygon(120, 160, [tangle(-30, 190, 200)])
    polygon(120, 160, [star(30, 30, 40, 50, 2), star(120, 80, 60, 400, 1), star(60, 60, 30, 9, 0)])
    for _ in range(60):
        height, width = random.randint(1, 70, 2)
        polygon(height, width, [tangle(-20, 80, random.randint(3, 12), random.randint(0, 4)) for _ in range(random.randint(1, 4))])
    for size in (28, 14, 5):
        target(size, [10, 10, 40, 30], [[10, 10, 40, 10, 40, 30, 10, 30]])
        target(size, [10.3, 8.7, 10.35, 8.71], [[5, 5, 15, 5, 15, 15]])
        target(size, [50, 50, 50, 50], [star(50, 50, 20, 12, 2)])
        target(size, [300, 300, 340, 350], [star(50, 50, 20, 12, 2)])
        for _ in range(15):
            corner, side = random.uniform(0, 60, 2), random.uniform(1, 60, 2)
            target(size, [*corner, *(corner + side)],
                   [np.float32(tangle(-5, 110, random.randint(3, 20))) for _ in range(random.randint(1, 3))])
    with open(path('masks.txt'), 'w') as f:
        f.write('\n'.join(lines) + '\n')


@fixture()
def ops(options):
    """Inputs and results of every op, by PyTorch and torchvision in double. Needs torch, torchvision and safetensors."""
    from golden_ops import write_all
    write_all(path)


@fixture()
def detection(options):
    """Proposals, targets of anchors, RoIs and masks by detectron2 and torchvision. Needs both, torch, pycocotools, safetensors, Pillow."""
    from golden_detection import write_all
    write_all(path)


@fixture()
def inference(options):
    """Detections and pasted masks by detectron2 and torchvision, see golden_inference.py. Needs both, torch and safetensors."""
    from golden_inference import write_all
    write_all(path)


@fixture()
def pillow_resize(options):
    """8-bit RGB pictures as Pillow resizes them with BILINEAR. Needs numpy and Pillow.

    pillow_resize.bin holds cases one after another: int32 height, width, new height, new width, then both pictures.
    """
    import numpy as np
    from PIL import Image
    random = np.random.RandomState(11)
    sizes = [((37, 53), (20, 31)), ((37, 53), (70, 101)), ((37, 53), (37, 20)), ((37, 53), (90, 53)), ((1, 1), (3, 5)),
             ((64, 7), (1, 1)), ((64, 48), (63, 49)), ((3, 50), (60, 2)), ((48, 64), (80, 107)), ((90, 5), (13, 11))]
    with open(path('pillow_resize.bin'), 'wb') as f:
        for (h, w), (new_h, new_w) in sizes:
            picture = random.randint(0, 256, (h, w, 3)).astype(np.uint8)
            picture[h // 2:] = np.where(picture[h // 2:] > 127, 255, 0)
            # along x, then along y; Pillow 13 does that in one call, too, unless the height shrinks more than the width
            resized = Image.fromarray(picture).resize((new_w, h), Image.BILINEAR).resize((new_w, new_h), Image.BILINEAR)
            f.write(np.array([h, w, new_h, new_w], '<i4').tobytes() + picture.tobytes() + resized.tobytes())


@fixture(lambda p: p.add_argument('--seeds', type=int, default=60, help='seeds to try for each case'))
def trace(options):
    """A training step of small models, see golden_trace.py. Needs torch and torchvision."""
    from golden_trace import write_all
    write_all(path, range(1, options.seeds + 1))


def add_trace_options(parser):
    parser.add_argument('--seeds', type=int, default=60, help='seeds to try for each case')
    parser.add_argument('configs', help="the folder configs of a detectron2 checkout")


@fixture(add_trace_options)
def trace_detectron2(options):
    """The same by detectron2's recipes, see golden_trace_detectron2.py. Needs detectron2 besides."""
    from golden_trace_detectron2 import write_all
    write_all(path, options.configs, range(1, options.seeds + 1))


@fixture(add_trace_options)
def trace_kinds(options):
    """The same by detectron2's C4 model and RPNs, see golden_trace_kinds.py. Needs detectron2 besides."""
    from golden_trace_kinds import write_all
    write_all(path, options.configs, range(1, options.seeds + 1))


@fixture(lambda p: p.add_argument('--seeds', type=int, default=60, help='seeds to try for each case'))
def predict(options):
    """Detections of small models, see golden_predict.py. Needs torch and torchvision."""
    from golden_predict import write_all
    write_all(path, range(1, options.seeds + 1))


@fixture(add_trace_options)
def predict_detectron2(options):
    """The same by detectron2's recipes, see golden_predict_detectron2.py. Needs detectron2 besides."""
    from golden_predict_detectron2 import write_all
    write_all(path, options.configs, range(1, options.seeds + 1))


@fixture(add_trace_options)
def predict_kinds(options):
    """The same by detectron2's C4 model and RPNs, see golden_predict_kinds.py. Needs detectron2 besides."""
    from golden_predict_kinds import write_all
    write_all(path, options.configs, range(1, options.seeds + 1))


@fixture()
def recall(options):
    """detectron2's recall of proposals, see golden_recall.py. Needs detectron2, torch and pycocotools."""
    from golden_recall import write_all
    write_all(path)


@fixture()
def state_dicts(options):
    """Names and shapes of torchvision's Mask R-CNN R50-FPN with 91 classes, with frozen batch norm and with group norm. Needs torchvision."""
    import torch
    import torchvision
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops.misc import FrozenBatchNorm2d

    def group_norm(channels):
        return torch.nn.GroupNorm(32, channels)

    for name, norm, fpn_norm in (('frozen_bn', FrozenBatchNorm2d, None), ('group_norm', group_norm, group_norm)):
        body = torchvision.models.resnet50(weights=None, norm_layer=norm)
        state = MaskRCNN(_resnet_fpn_extractor(body, 5, norm_layer=fpn_norm), 91).state_dict()
        with open(path(f'torchvision_{name}.txt'), 'w') as f:
            for key, value in state.items():
                f.write(f'{key} {" ".join(map(str, value.shape))}\n')


@fixture()
def eval(options):
    """Small datasets with results and their COCO scores, see golden_eval.py. Needs numpy and pycocotools."""
    from golden_eval import write_all
    write_all(path)


@fixture(lambda p: p.add_argument('configs', help="the folder configs of a detectron2 checkout"))
def weights(options):
    """Weights of other programs, converted, see golden_weights.py. Needs torch, torchvision, timm, detectron2 and safetensors."""
    from golden_weights import write_all
    write_all(path, options.configs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest='kind', required=True)
    for name, (function, add_options) in sorted(FIXTURES.items()):
        add_options(kinds.add_parser(name, description=function.__doc__, help=function.__doc__))
    options = parser.parse_args()
    FIXTURES[options.kind][0](options)


if __name__ == '__main__':
    main()
