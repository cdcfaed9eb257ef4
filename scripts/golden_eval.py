"""Small random datasets with results, and pycocotools' scores of them (make_golden.py eval).

Of each case eval_<case>_gt.json and eval_<case>_dt.json; eval_expected.txt has a line `case type twelve numbers` for each
type the case is scored by. Masks are scored without the results' boxes, as detectron2 does.
"""
import contextlib
import copy
import io
import json

import numpy as np
from pycocotools import mask as api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HEIGHT, WIDTH = 150, 170


def polygon(random, box):
    x, y, w, h = box
    angles = np.sort(random.uniform(0, 2 * np.pi, 9))
    radius = random.uniform(0.85, 1, 9)
    xy = np.stack([x + w / 2 + w / 2 * radius * np.cos(angles), y + h / 2 + h / 2 * radius * np.sin(angles)], 1)
    return [round(float(v), 2) for v in xy.ravel()]


def rle_of(parts):
    rle = api.merge(api.frPyObjects(parts, HEIGHT, WIDTH))
    return {'size': [HEIGHT, WIDTH], 'counts': rle['counts'].decode()}


def uncompressed(rle):
    pixels = api.decode(rle).ravel(order='F')
    edges = np.flatnonzero(np.diff(np.concatenate([[0], pixels]))).tolist() + [pixels.size]
    return {'size': rle['size'], 'counts': np.diff([0] + edges).tolist()}


def random_box(random):
    size = random.choice([12, 30, 60, 140])
    w, h = random.uniform(0.7, 1.1, 2) * size
    return [round(float(v), 2) for v in (random.uniform(0, WIDTH - w * 0.9), random.uniform(0, HEIGHT - h * 0.9), w, h)]


def make(seed, images=8, categories=4, objects=6, first_id=1, crowd=0.12, spurious=0.4, decimals=1):
    """Ground truth, and results that are shaken copies of it."""
    random = np.random.RandomState(seed)
    gt = {'images': [], 'annotations': [], 'categories': [{'id': 3 * k + 2, 'name': f'class {k}'} for k in range(categories)]}
    dt = []
    for image in range(images):
        gt['images'].append({'id': 11 * (images - image), 'file_name': f'{image}.jpg', 'height': HEIGHT, 'width': WIDTH})
        for _ in range(random.randint(0, 2 * objects)):
            box, parts = random_box(random), None
            parts = [polygon(random, box)] + ([polygon(random, random_box(random))] if random.rand() < 0.2 else [])
            is_crowd, category = int(random.rand() < crowd), 3 * random.randint(categories - 1) + 2
            rle = rle_of(parts)
            gt['annotations'].append({
                'id': first_id + len(gt['annotations']), 'image_id': 11 * (images - image), 'category_id': category,
                'bbox': box, 'area': float(api.area(rle)), 'iscrowd': is_crowd, 'segmentation': uncompressed(rle) if is_crowd else parts})
            for _ in range(random.randint(0, 3)):
                near = [round(float(v + random.normal(0, 0.06 * max(box[2], 8))), 2) for v in box]
                near[2:] = [max(v, 1.0) for v in near[2:]]
                shift = random.normal(0, 0.05 * max(box[2], 8), 2)
                moved = [[round(float(v + shift[i % 2]), 2) for i, v in enumerate(p)] for p in parts]
                dt.append({'image_id': 11 * (images - image), 'category_id': category, 'bbox': near,
                           'segmentation': moved, 'score': round(float(random.rand()), decimals)})
        for _ in range(random.binomial(2 * objects, spurious)):
            box = random_box(random)
            dt.append({'image_id': 11 * (images - image), 'category_id': 3 * random.randint(categories) + 2, 'bbox': box,
                       'segmentation': [polygon(random, box)], 'score': round(float(random.rand()), decimals)})
    for d in dt:
        d['segmentation'] = rle_of(d['segmentation'])
    return gt, dt


def score(gt, dt, kind):
    gt, dt = copy.deepcopy(gt), copy.deepcopy(dt)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = gt
        truth.createIndex()
        if kind == 'segm':
            for d in dt:
                if 'segmentation' in d:
                    d.pop('bbox', None)
                    if isinstance(d['segmentation'], list):
                        d['segmentation'] = rle_of(d['segmentation'])
        if dt:
            results = truth.loadRes(dt)
        else:
            results = COCO()
            results.dataset = {'images': gt['images'], 'categories': gt['categories'], 'annotations': []}
            results.createIndex()
        evaluation = COCOeval(truth, results, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(v) for v in evaluation.stats]


def without(dt, key):
    return [{k: v for k, v in d.items() if k != key} for d in dt]


def cases():
    gt, dt = make(1)
    yield 'mixed', gt, dt, dt, ('bbox', 'segm')
    yield 'boxes_only', gt, without(dt, 'segmentation'), without(dt, 'segmentation'), ('bbox', 'segm')
    yield 'masks_only', gt, without(dt, 'bbox'), without(dt, 'bbox'), ('bbox', 'segm')
    yield 'empty', gt, [], [], ('bbox', 'segm')
    gt, dt = make(2, images=3, first_id=0, decimals=2)
    yield 'id_zero', gt, dt, dt, ('bbox', 'segm')
    gt, dt = make(3, images=5)
    for i, a in enumerate(gt['annotations']):
        a['id'] = a['id'] % 17 + 1
    yield 'same_ids', gt, dt, dt, ('bbox', 'segm')
    gt, dt = make(4, images=2, categories=2, objects=70, spurious=0.9)
    yield 'many', gt, without(dt, 'segmentation'), without(dt, 'segmentation'), ('bbox',)
    gt, dt = make(5, images=3, crowd=1)
    yield 'all_crowd', gt, dt, dt, ('bbox', 'segm')
    # ids beyond 2^53 as strings, results as a dataset, with polygons
    gt, dt = make(6, images=4, decimals=17)
    for image in gt['images'] + gt['annotations'] + dt:
        key = 'image_id' if 'image_id' in image else 'id'
        image[key] = 2 ** 60 + image[key] // 11
    for d in dt:
        d['segmentation'] = [polygon(np.random.RandomState(len(d['segmentation']['counts'])), d['bbox'])]
    written = {'images': gt['images'], 'categories': gt['categories'],
               'annotations': [dict(d, id=7, image_id=str(d['image_id']), category_id=str(d['category_id'])) for d in dt]}
    yield 'dataset', gt, dt, written, ('bbox', 'segm')


def write_all(path):
    lines = []
    for name, gt, dt, written, kinds in cases():
        for what, content in (('gt', gt), ('dt', written)):
            with open(path(f'eval_{name}_{what}.json'), 'w') as f:
                json.dump(content, f, separators=(',', ':'))
                f.write('\n')
        for kind in kinds:
            lines.append(' '.join([name, kind] + [repr(v) for v in score(gt, dt, kind)]) + '\n')
    with open(path('eval_expected.txt'), 'w') as f:
        f.writelines(lines)
