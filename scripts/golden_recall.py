"""detectron2's recall of the results of golden_eval.py, taken as proposals without classes (make_golden.py recall).

recall_expected.txt has a line `case numbers` for some of the cases: AR@100, ARs@100, ARm@100, ARl@100, then with 1000;
-1 where there are no such objects. No case has equal
scores at a limit, for torch does not say which of them it sorts first. `crowded` is a case of its own: more than 1000 proposals for an image, files recall_crowded_*.
"""
import json
import math

import numpy as np
import torch
from detectron2.evaluation.coco_evaluation import _evaluate_box_proposals
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO

CASES = ('mixed', 'boxes_only', 'empty', 'same_ids', 'all_crowd', 'borders', 'ignore', 'no_truth')
SIZE = 120


def crowded():
    random = np.random.RandomState(21)

    def boxes(count):
        corner, side = random.uniform(0, 0.8 * SIZE, (count, 2)), random.choice([10, 25, 60, 100], (count, 1)) * random.uniform(0.7, 1.3, (count, 2))
        return np.concatenate([corner, side], 1).round(1).tolist()

    gt = {'images': [{'id': 1, 'file_name': 'a.jpg', 'height': SIZE, 'width': SIZE}], 'categories': [{'id': 5, 'name': 'thing'}],
          'annotations': [{'id': i + 1, 'image_id': 1, 'category_id': 5, 'bbox': b, 'area': round(b[2] * b[3], 3), 'iscrowd': 0} for i, b in enumerate(boxes(40))]}
    dt = [{'image_id': 1, 'category_id': 1, 'bbox': b, 'score': s} for b, s in zip(boxes(1100), random.permutation(1100).tolist())]
    return gt, dt


def recall(gt, dt):
    truth = COCO()
    truth.dataset = gt
    truth.createIndex()
    predictions = []
    for image in gt['images']:
        own = [d for d in dt if d['image_id'] == image['id']]
        corners = torch.tensor([[d['bbox'][0], d['bbox'][1], d['bbox'][0] + d['bbox'][2], d['bbox'][1] + d['bbox'][3]] for d in own]).reshape(-1, 4)
        scores = torch.tensor([float(d['score']) for d in own], dtype=torch.float64)
        predictions.append({'image_id': image['id'], 'proposals': Instances((SIZE, SIZE), proposal_boxes=Boxes(corners), objectness_logits=scores)})
    numbers = []
    for limit in (100, 1000):
        for area in ('all', 'small', 'medium', 'large'):
            value = float(_evaluate_box_proposals(predictions, truth, area=area, limit=limit)['ar'])
            numbers.append(-1.0 if math.isnan(value) else value)
    return numbers


def write_all(path):
    gt, dt = crowded()
    for what, content in (('gt', gt), ('dt', dt)):
        with open(path(f'recall_crowded_{what}.json'), 'w') as f:
            json.dump(content, f, separators=(',', ':'))
            f.write('\n')
    lines = []
    for name in [f'eval_{c}' for c in CASES] + ['recall_crowded']:
        with open(path(f'{name}_gt.json')) as g, open(path(f'{name}_dt.json')) as d:
            numbers = recall(json.load(g), json.load(d))
        lines.append(' '.join([name] + [repr(n) for n in numbers]) + '\n')
    with open(path('recall_expected.txt'), 'w') as f:
        f.writelines(lines)
