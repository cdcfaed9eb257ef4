#!/usr/bin/env python3
"""The images that bench_all.sh times training steps on: the first of a dataset that are wider than high and have an object, so that
every program takes the same ones, in batches of the same shape. Needs no package.

usage: bench_subset.py ANNOTATIONS OUT.json [--count N]
"""

import argparse
import json
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("annotations")
    parser.add_argument("out")
    parser.add_argument("--count", type=int, default=6)
    options = parser.parse_args()
    with open(options.annotations, encoding="utf-8") as f:
        dataset = json.load(f)
    of_image = {}
    for annotation in dataset["annotations"]:
        if not annotation.get("iscrowd"):
            of_image.setdefault(annotation["image_id"], []).append(annotation)
    wide = [i for i in dataset["images"] if i["width"] > i["height"] and i["id"] in of_image]
    wide = sorted(wide, key=lambda image: image["id"])[: options.count]
    if not wide:
        return f"{options.annotations}: no image is wider than high and has an object"
    dataset["images"] = wide
    dataset["annotations"] = [a for image in wide for a in of_image[image["id"]]]
    with open(options.out, "w", encoding="utf-8") as f:
        json.dump(dataset, f)
    return 0


if __name__ == "__main__":
    sys.exit(main())
