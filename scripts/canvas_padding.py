#!/usr/bin/env python3
"""Pixels of the canvas that ranks share over pixels of an image, by ranks and images a rank: the table in docs/scaling.md.

Wide and tall batches are drawn apart, as DATALOADER.ASPECT_RATIO_GROUPING has it; images with replacement; the long edge is at most 1333.
The second figure is of ranks that each pad for themselves and wait for the largest canvas.

usage: canvas_padding.py ANNOTATIONS [--draws N]
"""
import argparse
import json
import random
import sys

LONGEST = 1333
DIVISOR = 32
RECIPES = {"800": [800], "640 to 800": [640, 672, 704, 736, 768, 800]}


def resized(image, short):
    height, width = image
    scale = min(short / min(image), LONGEST / max(image))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def canvas(batch):
    height, width = (-(-max(side) // DIVISOR) * DIVISOR for side in zip(*batch))
    return height * width


def draw(groups, count, shorts):
    """A batch from the wide or from the tall images, each as often as there are such."""
    group = random.choices(groups, [len(g) for g in groups])[0]
    return [resized(random.choice(group), random.choice(shorts)) for _ in range(count)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("annotations")
    parser.add_argument("--draws", type=int, default=2000)
    options = parser.parse_args()
    random.seed(1)
    with open(options.annotations, encoding="utf-8") as file:
        images = [(i["height"], i["width"]) for i in json.load(file)["images"]]
    groups = [g for g in ([i for i in images if i[1] >= i[0]], [i for i in images if i[1] < i[0]]) if g]
    print("short edge, images a rank, ranks: shared, largest of the ranks' own")
    for name, shorts in RECIPES.items():
        sizes = [resized(image, short) for image in images for short in shorts]
        mean = sum(height * width for height, width in sizes) / len(sizes)
        for per_rank in (2, 12):
            for ranks in (1, 2, 8, 64, 1024):
                draws = max(20, options.draws // max(1, ranks // 8))
                shared = sum(canvas(draw(groups, per_rank * ranks, shorts)) for _ in range(draws))
                own = sum(max(canvas(draw(groups, per_rank, shorts)) for _ in range(ranks)) for _ in range(draws))
                print(f"{name}, {per_rank}, {ranks}: {shared / draws / mean:.2f}, {own / draws / mean:.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
