"""Small random datasets with results, and pycocotools' scores of them (make_golden.py eval).

Of each case eval_<case>_gt.json and eval_<case>_dt.json; eval_expected.txt has a line `case type limits numbers count APs`
for each type the case is scored by: three limits of detections, the twelve numbers (AP at the largest limit), and the AP of
each category by rising id. Masks are scored without the results' boxes, as detectron2 does.
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
DEFAULT_LIMITS = (1, 10, 100)


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


def mean(values):
    return float(np.mean(values[values > -1])) if (values > -1).any() else -1.0


def score(gt, dt, kind, limits):
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
                    elif isinstance(d['segmentation']['counts'], list):
                        rle = api.frPyObjects(d['segmentation'], HEIGHT, WIDTH)
                        d['segmentation'] = {'size': rle['size'], 'counts': rle['counts'].decode()}
        if dt:
            results = truth.loadRes(dt)
        else:
            results = COCO()
            results.dataset = {'images': gt['images'], 'categories': gt['categories'], 'annotations': []}
            results.createIndex()
        evaluation = COCOeval(truth, results, kind)
        evaluation.params.maxDets = list(limits)
        evaluation.evaluate()
        evaluation.accumulate()
        if limits == DEFAULT_LIMITS:
            evaluation.summarize()
    precision, recall = evaluation.eval['precision'][..., 2], evaluation.eval['recall']
    numbers = [mean(precision[t, :, :, 0]) for t in (slice(None), 0, 5)] + [mean(precision[:, :, :, a]) for a in (1, 2, 3)]
    numbers += [mean(recall[:, :, 0, k]) for k in range(3)] + [mean(recall[:, :, a, 2]) for a in (1, 2, 3)]
    assert limits != DEFAULT_LIMITS or np.allclose(numbers, evaluation.stats, rtol=0, atol=1e-12)
    return numbers, [mean(precision[:, :, k, 0]) for k in range(precision.shape[2])]


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


def oddities():
    # sides of 32 and 96, and areas on the borders of the ranges and just off them
    gt, dt = make(7, images=4, objects=5)
    random = np.random.RandomState(7)
    for a in gt['annotations']:
        side = random.choice([32, 96])
        a['bbox'][2:] = [float(side)] * 2
        a['area'] = float(side * side) + random.choice([0, 0, 0, -1e-9, 1e-9])
    for d in dt:
        d['bbox'][2:] = [float(random.choice([32, 96, 33]))] * 2
    yield 'borders', gt, dt, dt, ('bbox', 'segm'), DEFAULT_LIMITS
    gt, dt = make(8, images=4, objects=4, crowd=0.3)
    for i, a in enumerate(gt['annotations']):
        a['ignore'] = i % 2
    yield 'ignore', gt, dt, dt, ('bbox', 'segm'), DEFAULT_LIMITS
    gt, dt = make(9, images=3, objects=12, categories=2, spurious=0.9)
    yield 'limits', gt, dt, dt, ('bbox', 'segm'), (2, 3, 5)
    gt, dt = make(13, images=5, objects=4)
    for i, d in enumerate(dt[::3]):
        d['category_id'] = [1000, -4, 1][i % 3]
    for i, a in enumerate(gt['annotations'][::5]):
        a[['image_id', 'category_id'][i % 2]] = 4444
    yield 'strays', gt, dt, dt, ('bbox', 'segm'), DEFAULT_LIMITS
    gt, dt = make(11, images=3, objects=3)
    for a in gt['annotations']:
        if isinstance(a['segmentation'], list):
            a['segmentation'][0].append(3.5)
            a['segmentation'] += [[5.0, 5.0, 50.0, 9.0], [7.0, 7.0]]
    for d in dt:
        rle = {'size': d['segmentation']['size'], 'counts': d['segmentation']['counts'].encode()}
        d['segmentation'] = uncompressed(rle)
        d['score'] = 1
    yield 'equal_scores', gt, dt, dt, ('segm',), DEFAULT_LIMITS
    gt, dt = make(12, images=2, objects=2)
    yield 'no_truth', dict(gt, annotations=[]), dt, dt, ('bbox', 'segm'), DEFAULT_LIMITS


def write_all(path):
    lines = []
    for name, gt, dt, written, kinds, limits in [case + (DEFAULT_LIMITS,) for case in cases()] + list(oddities()):
        for what, content in (('gt', gt), ('dt', written)):
            with open(path(f'eval_{name}_{what}.json'), 'w') as f:
                json.dump(content, f, separators=(',', ':'))
                f.write('\n')
        for kind in kinds:
            numbers, classes = score(gt, dt, kind, limits)
            lines.append(' '.join([name, kind] + [repr(v) for v in [*limits, *numbers, len(classes), *classes]]) + '\n')
    with open(path('eval_expected.txt'), 'w') as f:
        f.writelines(lines)
