#!/usr/bin/env python3
"""Times a training step of detectron2's Mask R-CNN R50-FPN on the CPU, to put beside `maskrcnn bench train`.

The recipe is detectron2's own (Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x.yaml) from random weights; images come from memory,
resized and with their annotations made ready: only the step is timed.

usage: detectron2_step.py --annotations FILE --images FOLDER [--detectron2 FOLDER] [--batch N] [--short N] [--long N] [--steps N]
                          [--warmup N] [--threads N]
"""

import argparse
import logging
import os
import sys
import time

import torch

from common import RANDOM_SCALE, RegionCount, step_figures, tell

RECIPE = "Detectron1-Comparisons/mask_rcnn_R_50_FPN_noaug_1x.yaml"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--detectron2", help="its source folder, with the extension built in place; else the installed one")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--short", type=int, default=800)
    parser.add_argument("--long", type=int, default=1333)
    parser.add_argument("--steps", type=int, default=6, help="timed, after the warm-up")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def make_config(options):
    from detectron2.config import get_cfg

    if options.detectron2:
        recipe = os.path.join(options.detectron2, "configs", RECIPE)
    else:
        from detectron2 import model_zoo

        recipe = model_zoo.get_config_file(RECIPE)
    cfg = get_cfg()
    cfg.merge_from_file(recipe)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.SOLVER.BASE_LR = "cpu", "", 1e-5
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (options.short,), options.long
    cfg.MODEL.PIXEL_STD = [RANDOM_SCALE * deviation for deviation in cfg.MODEL.PIXEL_STD]
    return cfg


def load_images(cfg, options):
    from detectron2.data import DatasetMapper
    from detectron2.data.datasets import load_coco_json

    records = load_coco_json(options.annotations, options.images, "timed")
    records = [r for r in records if any(not o["iscrowd"] for o in r["annotations"])]
    mapper = DatasetMapper(cfg, True)
    return [mapper(r) for r in records[: options.batch * (options.steps + options.warmup)]]


def main():
    options = parse_arguments()
    if options.detectron2:
        sys.path.insert(0, options.detectron2)
    import detectron2
    from detectron2.modeling import build_model
    from detectron2.solver import build_optimizer
    from detectron2.utils.events import EventStorage

    logging.disable(logging.WARNING)
    torch.manual_seed(1)
    torch.set_num_threads(options.threads)
    cfg = make_config(options)
    images = load_images(cfg, options)
    model = build_model(cfg).train()
    rois, positives = RegionCount(model.roi_heads.box_head), RegionCount(model.roi_heads.mask_head)
    optimizer = build_optimizer(cfg, model)
    seconds, loss = [], None
    with EventStorage(0):
        for step in range(options.warmup + options.steps):
            batch = [images[(step * options.batch + k) % len(images)] for k in range(options.batch)]
            begin = time.perf_counter()
            loss = sum(model(batch).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step >= options.warmup:
                seconds.append(time.perf_counter() - begin)
    figures = step_figures(seconds, options.batch)
    images_seen = options.batch * (options.warmup + options.steps)
    figures.update(rois=rois.total / images_seen, positives=positives.total / images_seen)
    tell({**figures, "last_loss": loss.item(), "torch": torch.__version__, "detectron2": detectron2.__version__})
    return 0


if __name__ == "__main__":
    sys.exit(main())
