#!/usr/bin/env python3
"""Makes the fixtures in tests/golden, so that the tests themselves need no Python.

usage: make_golden.py KIND [OPTIONS]     (make_golden.py KIND --help explains one)

Each kind of fixture is one function with @fixture; it names the packages it needs. Fixtures are small, and the same
versions of those packages make the same bytes again.
"""
import argparse
import os

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tests', 'golden')
FIXTURES = {}


def fixture(add_options=lambda parser: None):
    """Makes a function (taking the parsed options) a kind of fixture, named as the function is."""
    def register(function):
        FIXTURES[function.__name__] = (function, add_options)
        return function
    return register


def path(name):
    os.makedirs(GOLDEN, exist_ok=True)
    return os.path.normpath(os.path.join(GOLDEN, name))


@fixture(lambda p: p.add_argument('configs', help="the folder configs of a detectron2 checkout"))
def config(options):
    """Every key of detectron2 as it writes it out itself, for its 1x recipe. Needs detectron2."""
    from detectron2.config import get_cfg
    cfg = get_cfg()
    cfg.merge_from_file(os.path.join(options.configs, 'COCO-InstanceSegmentation', 'mask_rcnn_R_50_FPN_1x.yaml'))
    with open(path('detectron2_1x_resolved.yaml'), 'w') as f:
        f.write(cfg.dump())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest='kind', required=True)
    for name, (function, add_options) in sorted(FIXTURES.items()):
        add_options(kinds.add_parser(name, description=function.__doc__, help=function.__doc__))
    options = parser.parse_args()
    FIXTURES[options.kind][0](options)


if __name__ == '__main__':
    main()
