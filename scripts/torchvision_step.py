#!/usr/bin/env python3
"""Times a training step of torchvision's Mask R-CNN R50-FPN, to put beside `maskrcnn train` on the same card.

The same work as configs/mask_rcnn_R_50_FPN_noaug_1x.yaml as far as torchvision goes: frozen norms, stem and res2 frozen, SGD with
momentum, images that need no resizing (800x1333, padded to 800x1344). Images and weights are random, and in memory already: neither
reading nor decoding is timed. The last line is a JSON object of figures.

usage: torchvision_step.py [--batch N] [--precision fp32|tf32|bf16] [--steps N] [--warmup N] [--height H] [--width W] [--device NAME]
"""
import argparse
import json
import statistics
import sys
import time

import torch
import torchvision
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

OBJECTS = 8  # of each image: about what an image of COCO holds
CLASSES = 81  # with the background


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="bf16")
    parser.add_argument("--steps", type=int, default=30, help="timed, after the warm-up")
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1333)
    parser.add_argument("--device", default="cuda")
    return parser.parse_args()


def make_model(height, width, device):
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3)
    model = MaskRCNN(backbone, CLASSES, min_size=min(height, width), max_size=max(height, width))
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


def wait_for(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main():
    options = parse_arguments()
    device = torch.device(options.device)
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    allow = options.precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow

    model = make_model(options.height, options.width, device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-5, momentum=0.9, weight_decay=1e-4)
    images = [torch.rand(3, options.height, options.width, device=device) for _ in range(options.batch)]
    targets = [make_target(options.height, options.width, device) for _ in range(options.batch)]

    seconds, total = [], None
    for step in range(options.warmup + options.steps):
        wait_for(device)
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.precision == "bf16"):
            total = sum(model(images, targets).values())
        total.backward()
        optimizer.step()
        wait_for(device)
        if step >= options.warmup:
            seconds.append(time.perf_counter() - begin)

    median = statistics.median(seconds)
    figures = {
        "img_per_s": round(options.batch / median, 2),
        "step_ms": round(1e3 * median, 3),
        "iterations": options.steps,
        "last_loss": float(f"{total.item():.4g}"),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    if device.type == "cuda":
        figures["peak_MiB"] = torch.cuda.max_memory_allocated(device) // (1 << 20)
        figures["cudnn"] = torch.backends.cudnn.version()
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
