"""Detections of a small Mask R-CNN by torchvision, for the test of the detector.

Weights are the formulas of golden_trace.py. A fixture predict_<case>.safetensors holds the picture (image u8 [h,w,3] RGB) and what
is found in it: boxes f32 [D,4], scores f32 [D], labels i32 [D] (0..K-1), and as masks, where there are any, COCO's run lengths, run_counts i32 [D] of
them in runs i32. __metadata__ is that of golden_trace.py.

PyTorch in single precision must find the same as in double, with scores and boxes far closer than the test asks for: a seed for
which a decision hangs on the last digits is refused.
"""
import numpy as np
import torch
from golden_trace import FrozenBatchNorm2d, build, nn, overrides, write

SIZE, SHORT, LONG = (117, 90), 128, 160
DETECTIONS = 40
KEYS = {'INPUT.MIN_SIZE_TEST': SHORT, 'INPUT.MAX_SIZE_TEST': LONG, 'MODEL.RPN.PRE_NMS_TOPK_TEST': 200, 'MODEL.RPN.POST_NMS_TOPK_TEST': 150,
        'MODEL.ROI_HEADS.SCORE_THRESH_TEST': 0.55, 'TEST.DETECTIONS_PER_IMAGE': DETECTIONS}
CLOSE_SCORE, CLOSE_BOX, CLOSE_MASK = 1e-5, 2e-3, 0.999
FEWEST = 12


def picture(seed):
    """Squares of 8 pixels in random colours, and some noise."""
    random = np.random.RandomState(seed)
    h, w = SIZE
    coarse = random.randint(0, 200, (h // 8 + 1, w // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:h, :w]
    return (coarse + random.randint(0, 56, (h, w, 3))).astype(np.uint8)


def run_lengths(mask):
    """Down the columns, zeros first."""
    flat = np.concatenate([[0], mask.T.reshape(-1).astype(np.int8)])
    starts = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], starts, [mask.size]])).astype(np.int32)


def torchvision_detections(case, dtype):
    model, crc = build(case)
    model.to(dtype).eval()
    model.transform.min_size, model.transform.max_size = (SHORT,), LONG
    model.rpn._pre_nms_top_n['testing'], model.rpn._post_nms_top_n['testing'] = 200, 150
    model.roi_heads.score_thresh, model.roi_heads.detections_per_img = 0.55, DETECTIONS
    image = torch.from_numpy(picture(case['seed'])).permute(2, 0, 1).to(dtype) / 255
    with torch.no_grad():
        found = model([image])[0]
    return crc, (found['boxes'].double().numpy(), found['scores'].double().numpy(), found['labels'].numpy() - 1, found['masks'][:, 0].numpy() > 0.5)


def agree(a, b):
    if len(a[0]) != len(b[0]) or not np.array_equal(a[2], b[2]):
        return False
    overlap = [1] if a[3] is None else [(p & q).sum() / max((p | q).sum(), 1) for p, q in zip(a[3], b[3])]
    return np.abs(a[0] - b[0]).max() < CLOSE_BOX and np.abs(a[1] - b[1]).max() < CLOSE_SCORE and min(overlap) > CLOSE_MASK


def find_seed(path, name, case, detect, keys, seeds):
    for seed in seeds:
        case['seed'] = seed
        crc, found = detect(case, torch.float64)
        single = detect(case, torch.float32)[1]
        print(f'{name}, seed {seed}: {len(found[0])} detections of classes {sorted(set(found[2].tolist()))}', flush=True)
        if len(found[0]) >= FEWEST and len(set(found[2].tolist())) >= case.get('classes', 2) and agree(found, single):
            break
    else:
        raise SystemExit(f'{name}: no seed gives enough detections that single precision finds, too')
    arrays = {'boxes': found[0].astype(np.float32), 'scores': found[1].astype(np.float32), 'labels': found[2].astype(np.int32),
              'image': picture(seed)}
    if found[3] is not None:
        runs = [run_lengths(m) for m in found[3]]
        arrays.update(run_counts=np.array([len(r) for r in runs], np.int32), runs=np.concatenate(runs))
    text = (case.get('overrides') or overrides(case)) + ''.join(f';{k}={v}' for k, v in keys.items())
    write(path(f'predict_{name}.safetensors'), arrays, {'config': case['config'], 'overrides': text, 'seed': str(seed), 'weights_crc': str(crc)})


def write_all(path, seeds):
    torch.set_num_threads(1)
    for name, norm, freeze in (('torchvision', FrozenBatchNorm2d, True), ('torchvision_batch_norm', nn.BatchNorm2d, False)):
        case = {'depth': 50, 'norm': norm, 'freeze': freeze, 'config': 'mask_rcnn_R_50_FPN_torchvision.yaml'}
        find_seed(path, name, case, torchvision_detections, KEYS, seeds)
