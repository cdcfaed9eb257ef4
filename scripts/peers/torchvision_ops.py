#!/usr/bin/env python3
"""Times torchvision's RoIAlign and NMS on the CPU over the sizes of `maskrcnn bench op`, whose names the cases have.

Maps and boxes are random, of the same distributions. backward_ms is of the backward pass alone; a case that needs more than half of
the free memory is left out.

usage: torchvision_ops.py roi_align|nms [--case TEXT] [--threads N]
"""

import argparse
import os
import sys

import torch
import torchvision
from torchvision.ops import nms, roi_align

from common import median_ms, peak_rss_mib, tell


def spread_boxes(count, height, width):
    """Centres anywhere on an image, sides of e^2 to e^6 pixels, clipped."""
    size = torch.tensor([width, height], dtype=torch.float32)
    centre, half = torch.rand(count, 2) * size, torch.exp(2 + 4 * torch.rand(count, 2)) / 2
    return torch.cat([(centre - half).clamp(min=0), torch.minimum(centre + half, size)], 1)


def corner_boxes(count, side):
    a, b = side * torch.rand(count, 2), side * torch.rand(count, 2)
    return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], 1)


def on_images(boxes, images):
    return torch.cat([torch.randint(images, (len(boxes), 1)).float(), boxes], 1)


def roi_align_cases():
    """name, shape of the maps, regions, side of the output, scale"""
    boxes = lambda count: lambda: on_images(spread_boxes(count, 800, 1344), 1)
    yield "box_head_512_on_p2", (1, 256, 200, 336), boxes(512), 7, 0.25
    yield "mask_head_128_on_p2", (1, 256, 200, 336), boxes(128), 14, 0.25
    for side in (8, 64, 256):
        for batch in (8, 64, 256):
            for count in (10, 100, 1000):
                regions = lambda count=count, side=side, batch=batch: on_images(corner_boxes(count, side), batch)
                yield f"map{side}_batch{batch}_rois{count}", (batch, 3, side, side), regions, 7, 1.0
    yield "channels512_map50_batch1_rois300", (1, 512, 50, 50), lambda: on_images(corner_boxes(300, 50), 1), 7, 1.0


def free_bytes():
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def time_roi_align(shape, regions, side, scale):
    x, rois = torch.randn(shape, requires_grad=True), regions()
    with torch.no_grad():
        forward = median_ms(lambda: roi_align(x, rois, side, scale, 2, False))
    y = roi_align(x, rois, side, scale, 2, False)
    d_y = torch.randn_like(y)
    backward = median_ms(lambda: torch.autograd.grad(y, x, d_y, retain_graph=True))
    return {"forward_ms": forward, "backward_ms": backward}


def time_nms(count):
    boxes, scores = spread_boxes(count, 800, 1344), torch.randn(count)
    return {"forward_ms": median_ms(lambda: nms(boxes, scores, 0.7)), "backward_ms": None}


def time_cases(op, text):
    names = [f"boxes_{count}" for count in (2000, 12000)] if op == "nms" else [name for name, *_ in roi_align_cases()]
    wanted = [text] if text in names else [name for name in names if text in name]  # as bench op chooses
    if op == "nms":
        for count in (2000, 12000):
            if f"boxes_{count}" in wanted:
                yield {"name": f"boxes_{count}", **time_nms(count)}
        return
    for name, shape, *rest in roi_align_cases():
        if name in wanted and 12 * torch.Size(shape).numel() < free_bytes() / 2:  # maps, their gradient, room
            yield {"name": name, **time_roi_align(shape, *rest)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("op", choices=["roi_align", "nms"])
    parser.add_argument("--case", default="", help="only this case, or those with it in their names")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(options.threads)
    cases = list(time_cases(options.op, options.case))
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    tell({"op": options.op, "cases": cases, "peak_rss_mib": peak_rss_mib(), **versions})
    return 0


if __name__ == "__main__":
    sys.exit(main())
