#!/usr/bin/env python3
"""Times pycocotools (or faster-coco-eval, which has its interface) scoring a results file, from opening the files to the twelve
numbers, to put beside `maskrcnn eval`.

usage: pycocotools_eval.py --annotations FILE --results FILE [--iou-type bbox|segm] [--package pycocotools|faster_coco_eval]
"""

import argparse
import contextlib
import io
import sys
import time
from importlib.metadata import version

from common import peak_rss_mib, tell

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--results", required=True)
    parser.add_argument("--iou-type", choices=["bbox", "segm"], default="bbox")
    parser.add_argument("--package", choices=["pycocotools", "faster_coco_eval"], default="pycocotools")
    return parser.parse_args()


def main():
    options = parse_arguments()
    if options.package == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO, COCOeval_faster as COCOeval
    begin = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(options.annotations)
        results = truth.loadRes(options.results)
        loaded = time.perf_counter()
        scorer = COCOeval(truth, results, options.iou_type)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    end = time.perf_counter()
    tell(
        {
            "seconds": end - begin,
            "load_seconds": loaded - begin,
            "peak_rss_mib": peak_rss_mib(),
            "library": options.package,
            "version": version(options.package),
            **{name: float(value) for name, value in zip(NAMES, scorer.stats)},
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
