"""What the scripts of this folder share: the photographs of a COCO dataset as torchvision's models take them, and how figures are
told. Each script times a part of another program on this machine and prints one line of JSON, for scripts/bench_all.sh."""

import contextlib
import io
import json
import os
import resource
import statistics
import time

import numpy as np
import torch
from PIL import Image


def open_coco(path):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(path)


class CocoImages(torch.utils.data.Dataset):
    """(image [3,H,W] of 0 to 1, target) of every image that has an object, by rising id; `passes` times over."""

    def __init__(self, annotations, folder, passes=1):
        self.coco, self.folder = open_coco(annotations), folder
        self.ids = [i for i in sorted(self.coco.imgs) if self.coco.getAnnIds(i, iscrowd=False)] * passes

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        info = self.coco.imgs[self.ids[index]]
        with Image.open(os.path.join(self.folder, info["file_name"])) as picture:
            pixels = np.array(picture.convert("RGB"))
        objects = self.coco.loadAnns(self.coco.getAnnIds(info["id"], iscrowd=False))
        corners = [[x, y, x + w, y + h] for x, y, w, h in (o["bbox"] for o in objects)]
        masks = np.stack([self.coco.annToMask(o) for o in objects])
        target = {
            "boxes": torch.tensor(corners, dtype=torch.float32),
            "labels": torch.tensor([o["category_id"] for o in objects]),
            "masks": torch.from_numpy(masks),
        }
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, target


def peak_rss_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def median_ms(call, seconds=0.2, fewest=3):
    """Median of as many calls as fill that time, after one that warms up."""
    call()
    taken = []
    while len(taken) < fewest or sum(taken) < seconds:
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(taken)


# What pixels are divided by besides, as in src/bench/random_model.h, which says why: with random weights and frozen norms the heads
# would have nothing to do.
RANDOM_SCALE = 4096


def step_figures(seconds, images, alike=False):
    """Of the times of some steps with so many images each. Images a second are told by the mean, as of a window of a training; by
    the median where the steps are alike."""
    mean, median = statistics.fmean(seconds), statistics.median(seconds)
    return {
        "img_per_s": images / (median if alike else mean),
        "step_ms": 1e3 * (median if alike else mean),
        "step_ms_median": 1e3 * median,
        "iterations": len(seconds),
        "peak_rss_mib": peak_rss_mib(),
    }


class RegionCount:
    """Counts the regions that a head is called with, the first dimension of its input."""

    def __init__(self, head):
        self.total = 0
        head.register_forward_pre_hook(self.add)

    def add(self, _, inputs):
        first = inputs[0]
        self.total += len(first if torch.is_tensor(first) else next(iter(first)))


def tell(figures):
    print(json.dumps({k: float(f"{v:.12g}") if isinstance(v, float) else v for k, v in figures.items()}), flush=True)
