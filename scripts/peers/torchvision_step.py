#!/usr/bin/env python3
"""Times a training step of torchvision's Mask R-CNN R50-FPN, to put beside `maskrcnn bench train` on the same device.

The same work as configs/mask_rcnn_R_50_FPN_noaug_1x.yaml as far as torchvision goes: frozen norms, stem and res2 frozen, SGD with
momentum. Images are those of a dataset, which the model resizes, or random ones that need no resizing (800x1333, padded to
800x1344). Weights are random; images are in memory already: neither reading nor decoding is timed. The last line is a JSON object
of figures.

usage: torchvision_step.py [--annotations FILE --images FOLDER] [--batch N] [--precision fp32|tf32|bf16] [--steps N] [--warmup N]
                           [--height H] [--width W] [--device NAME] [--threads N]
"""

import argparse
import sys
import time

import torch
import torchvision
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

from common import RANDOM_SCALE, CocoImages, RegionCount, step_figures, tell

OBJECTS = 8  # of each image: about what an image of COCO holds
CLASSES = 91  # with the background; COCO's category ids end at 90


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--annotations", help="COCO annotations; random images where not given")
    parser.add_argument("--images", help="the folder of the images they name")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="bf16")
    parser.add_argument("--steps", type=int, default=30, help="timed, after the warm-up")
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--height", type=int, default=800, help="with a dataset: the short edge")
    parser.add_argument("--width", type=int, default=1333, help="with a dataset: the most of the long edge")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--threads", type=int, help="of the CPU")
    options = parser.parse_args()
    if bool(options.annotations) != bool(options.images):
        parser.error("--annotations and --images go together")
    return options


def make_model(height, width, device):
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3)
    model = MaskRCNN(backbone, CLASSES, min_size=min(height, width), max_size=max(height, width))
    model.transform.image_std = [RANDOM_SCALE / 64 * deviation for deviation in model.transform.image_std]  # of 0 to 1
    return model.to(device, memory_format=torch.channels_last).train()


def make_target(height, width, device):
    """Boxes of 32 pixels to half an image, each with a mask that fills its middle."""
    low, high = torch.tensor([0.0, 0.0]), torch.tensor([width / 2.0, height / 2.0])
    corner = low + torch.rand(OBJECTS, 2) * (high - low)
    size = 32 + torch.rand(OBJECTS, 2) * (high - 32)
    boxes = torch.cat([corner, corner + size], 1)
    masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
        mask[y0 + (y1 - y0) // 4 : y1 - (y1 - y0) // 4, x0 + (x1 - x0) // 4 : x1 - (x1 - x0) // 4] = 1
    labels = torch.randint(1, CLASSES, (OBJECTS,))
    return {"boxes": boxes.to(device), "labels": labels.to(device), "masks": masks.to(device)}


def load_samples(options, device):
    """Samples to take turns."""
    if not options.annotations:
        shape = options.height, options.width
        return [(torch.rand(3, *shape, device=device), make_target(*shape, device)) for _ in range(options.batch)]
    dataset = CocoImages(options.annotations, options.images)
    count = min(len(dataset), options.batch * (options.steps + options.warmup))
    return [(image.to(device), {k: v.to(device) for k, v in target.items()}) for image, target in map(dataset.__getitem__, range(count))]


def wait_for(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main():
    options = parse_arguments()
    device = torch.device(options.device)
    torch.manual_seed(1)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    allow = options.precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow

    model = make_model(options.height, options.width, device)
    rois, positives = RegionCount(model.roi_heads.box_head), RegionCount(model.roi_heads.mask_head)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-5, momentum=0.9, weight_decay=1e-4)
    samples = load_samples(options, device)

    seconds, total = [], None
    for step in range(options.warmup + options.steps):
        batch = [samples[(step * options.batch + k) % len(samples)] for k in range(options.batch)]
        wait_for(device)
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.precision == "bf16"):
            total = sum(model([image for image, _ in batch], [target for _, target in batch]).values())
        total.backward()
        optimizer.step()
        wait_for(device)
        if step >= options.warmup:
            seconds.append(time.perf_counter() - begin)

    figures = step_figures(seconds, options.batch, alike=not options.annotations)
    images_seen = options.batch * (options.warmup + options.steps)
    figures.update(rois=rois.total / images_seen, positives=positives.total / images_seen)
    figures.update(last_loss=total.item(), torch=torch.__version__, torchvision=torchvision.__version__)
    if device.type == "cuda":
        figures["peak_MiB"] = torch.cuda.max_memory_allocated(device) // (1 << 20)
        figures["cudnn"] = torch.backends.cudnn.version()
    tell(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
