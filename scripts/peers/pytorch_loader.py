#!/usr/bin/env python3
"""Times PyTorch's DataLoader on a COCO dataset, to put beside `maskrcnn bench loader`: worker processes decode JPEGs with Pillow
and draw the masks with pycocotools. A second pass also does what torchvision's model does to a batch first: resize, normalise, pad.

usage: pytorch_loader.py --annotations FILE --images FOLDER [--workers N] [--batch N] [--epochs N] [--short N] [--long N] [--threads N]
"""

import argparse
import sys
import time

import torch
import torchvision
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from common import CocoImages, peak_rss_mib, tell

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--short", type=int, default=800)
    parser.add_argument("--long", type=int, default=1333)
    parser.add_argument("--threads", type=int, default=2, help="of the transform")
    return parser.parse_args()


def one_pass(loader, use):
    """Images a second from the second batch on: starting the workers is not counted."""
    batches = iter(loader)
    use(next(batches))
    begin, images = time.perf_counter(), 0
    for batch in batches:
        use(batch)
        images += len(batch)
    return images / (time.perf_counter() - begin), images


def main():
    options = parse_arguments()
    torch.manual_seed(1)
    torch.set_num_threads(options.threads)
    dataset = CocoImages(options.annotations, options.images, options.epochs)
    loader = torch.utils.data.DataLoader(dataset, options.batch, shuffle=True, num_workers=options.workers, collate_fn=list)
    transform = GeneralizedRCNNTransform(options.short, options.long, MEAN, DEVIATION).train()
    alone, images = one_pass(loader, lambda batch: None)
    whole, _ = one_pass(loader, lambda batch: transform([image for image, _ in batch], [target for _, target in batch]))
    tell(
        {
            "img_per_s": alone,
            "img_per_s_with_transform": whole,
            "images": images,
            "workers": options.workers,
            "peak_rss_mib": peak_rss_mib(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
