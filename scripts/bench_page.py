#!/usr/bin/env python3
"""Writes what bench_all.sh measured as Markdown: FOLDER/benchmarks.md, and the same between the two marks of a page. Needs no package.

usage: bench_page.py FOLDER [--page FILE]
"""

import argparse
import json
import os
import re
import statistics
import sys

BEGIN, END = "<!-- bench_all.sh: from here", "<!-- bench_all.sh: to here -->"
NOTE = BEGIN + " on written by scripts/bench_all.sh; what is changed here is lost -->"
PEERS = {
    "torchvision": "torchvision",
    "detectron2": "detectron2",
    "pytorch": "PyTorch",
    "pycocotools": "pycocotools",
    "faster_coco_eval": "faster-coco-eval",
}
COMPARED = ("detectron2", "torchvision")


class Results:
    """results/WHAT.WHO.RUN.json: `of` has the runs of a measurement; .command and .failed beside."""

    def __init__(self, folder):
        self.folder = folder
        self.about = dict(self.pairs("about", " "))
        self.settings = dict(self.pairs("settings", " "))
        self.skipped = dict(self.pairs("skipped", "\t"))
        self.runs, self.failed = {}, {}
        for name in sorted(os.listdir(os.path.join(folder, "results"))):
            what, who, run, kind = name.split(".", 3)
            key = what, who.removeprefix("peer_")
            if kind == "json":
                self.runs.setdefault(key, []).append(json.loads(self.text(name)))
            elif kind == "failed":
                self.failed[(*key, run)] = self.text(name)

    def text(self, name):
        with open(os.path.join(self.folder, "results", name), encoding="utf-8") as f:
            return f.read().strip()

    def pairs(self, name, separator):
        with open(os.path.join(self.folder, name), encoding="utf-8") as f:
            return [line.rstrip("\n").split(separator, 1) for line in f if separator in line]

    def of(self, what, who="ours"):
        return self.runs.get((what, who), [])

    def first(self, what, who="ours"):
        return next(iter(self.of(what, who)), None)

    def median(self, what, who, value):
        """Of `value`, a key or a function of a run; None where there is no run."""
        take = value if callable(value) else lambda run: run[value]
        values = [take(run) for run in self.of(what, who)]
        return statistics.median(values) if values else None

    def commands(self, *names):
        """Of the first run of each WHAT.WHO, as a block to repeat them."""
        lines = []
        for name in names:
            path = os.path.join(self.folder, "results", name + ".1.command")
            if os.path.exists(path):
                with open(path, encoding="utf-8") as f:
                    lines.append(f.read().strip())
        return "```\n" + "\n".join(lines) + "\n```" if lines else ""


def number(value, unit="", digits=3):
    """Three digits, but no fewer than there are before the point."""
    if value is None:
        return "-"
    shown = f"{value:.{digits}g}"
    if "e" in shown or abs(value) >= 10**digits:
        shown = f"{value:.0f}" if abs(value) >= 1 else f"{value:.5f}".rstrip("0").rstrip(".") or "0"
    return shown + (" " + unit if unit else "")


def times(value):
    return "-" if value is None else f"{value:.1f}x" if value >= 1.95 else f"{value:.2f}x"


def seconds(ms):
    return "-" if ms is None else number(ms / 1e3, "s") if ms >= 1000 else number(ms, "ms")


def table(heading, rows):
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    return "\n".join(lines + ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows])


def ratio(a, b):
    return a / b if a is not None and b else None


def goal(value, wanted, most=False):
    """A ratio beside its goal; most: the goal is the largest, not the smallest."""
    if value is None:
        return "-"
    met = value <= wanted if most else value >= wanted
    shown = f"{value:.2f}x" if most else times(value)
    return f"{shown} ({'at most' if most else 'goal'} {wanted}x{'' if met else ', not reached'})"


def missing(results, what, who="ours"):
    """Why a measurement has no figures; "" where it has."""
    if results.of(what, who):
        return ""
    for (a, b, _), reason in results.failed.items():
        if (a, b) == (what, who):
            return f"{PEERS.get(who, 'it')} failed: {reason}"
    library = "torchvision" if who == "pytorch" else who
    if library in results.skipped:
        return f"{PEERS[who]} was not there ({results.skipped[library]})"
    return "was not run"


def left_out(results, what, whos):
    reasons = [text for text in (missing(results, what, who) for who in whos) if text]
    return "Without comparison: " + "; ".join(reasons) + "." if reasons else ""


def section(title, *parts):
    return "\n\n".join([f"## {title}", *(part for part in parts if part)])


# --- sections


def versions(results):
    found = {}
    for (_, _), runs in sorted(results.runs.items()):
        for run in runs:
            for key in ("torch", "torchvision", "detectron2"):
                if key in run:
                    found[PEERS.get(key, "PyTorch")] = run[key]
            if "library" in run:
                found[PEERS[run["library"]]] = run["version"]
    return ", ".join(f"{name} {version}" for name, version in found.items()) or "none"


def measured_peaks(results):
    return [r["machine"] for runs in results.runs.values() for r in runs if r.get("machine", {}).get("gemm_gflops")]


def about(results):
    machine = next((r["machine"] for runs in results.runs.values() for r in runs if "machine" in r), None)
    if not machine:
        return section("One run: machine, versions, commands", "Nothing could be measured.")
    peaks = measured_peaks(results)
    rows = [
        ["date", results.about["date"]],
        ["machine", f"{machine['cpu']}, {machine['cores']:.0f} cores, {machine['memory_gib']:.1f} GiB, {machine['system']}"],
        ["here", f"{machine['version']} (commit {results.about['commit']}), compiler {machine['compiler']}"],
        ["BLAS", machine["blas"]],
        ["peers", versions(results)],
    ]
    if peaks:
        gemm, memory = ([p[key] for p in peaks] for key in ("gemm_gflops", "memory_gb_per_s"))
        rows.append(
            [
                "measured peaks",
                f"products of F32 matrices {statistics.median(gemm):.0f} GFLOP/s ({min(gemm):.0f}-{max(gemm):.0f} over the run), "
                f"memory {statistics.median(memory):.0f} GB/s ({min(memory):.0f}-{max(memory):.0f})",
            ]
        )
    rows.append(["other load", f"{results.about['load']} (average of the minute before)"])
    runs = int(results.settings["runs"])
    mode = {"full": "", "quick": " Short runs (--quick).", "check": " Not a measurement, but a check that everything runs (--check)."}
    text = (
        f"This section and all up to [Where the speed of a CPU step comes from](#where-the-speed-of-a-cpu-step-comes-from) are from one run of `scripts/bench_all.sh`.{mode[results.settings['mode']]} "
        f"Where there is a peer, it and this program took turns, {runs} time{'s' * (runs > 1)} each; "
        f"numbers are medians. All of it used the {results.about['cores']} cores of the machine."
    )
    repeat = (
        "```\nscripts/bench_all.sh --annotations ANNOTATIONS --images IMAGES --python PYTHON --detectron2 DETECTRON2\n```\n\n"
        "ANNOTATIONS and IMAGES are a COCO dataset of photographs, PYTHON one that has the peers, DETECTRON2 its source folder, OUT the folder of the run "
        "(`--out`), which keeps the JSON of every measurement in `results/` and what each printed in `logs/`. The commands below repeat one measurement."
    )
    return section("One run: machine, versions, commands", text, table(["", ""], rows), repeat)


def step_rows(results, what, speed_goal, memory_goal):
    mine, memory = results.median(what, "ours", "img_per_s"), results.median(what, "ours", "peak_rss_mib")
    for who in ("ours", *COMPARED):
        if not results.of(what, who):
            continue
        spread = [run["step_ms"] for run in results.of(what, who)]
        run = results.first(what, who)
        speed, used = results.median(what, who, "img_per_s"), results.median(what, who, "peak_rss_mib")
        counts = run.get("per_image", run)
        regions = f"{counts['rois']:.0f}, {counts['positives']:.0f}"
        row = [
            PEERS.get(who, "**here**"),
            f"{number(speed)} img/s",
            seconds(results.median(what, who, "step_ms")),
            f"{seconds(min(spread))} - {seconds(max(spread))}",
        ]
        row += [number(used, "MiB", 4), regions]
        faster, smaller = ratio(mine, speed), ratio(memory, used)
        if who == "ours":
            yield row + ["", ""]
        elif who == "detectron2":
            yield row + [goal(faster, speed_goal), goal(smaller, memory_goal, True)]
        else:
            yield row + [times(faster), f"{smaller:.2f}x"]


def stage_table(run):
    rows = []
    for stage in ("data", "copy", "forward", "backward", "allreduce", "optimizer"):
        rows.append([f"**{stage}**", number(run["stages_ms"][stage]), f"{100 * run['stages_ms'][stage] / run['step_ms']:.1f} %"])
        for part, ms in run.get(stage + "_ms", {}).items():
            if ms > 0.0005 * run["step_ms"]:
                rows.append([part, number(ms), f"{100 * ms / run['step_ms']:.1f} %"])
    total = sum(run["stages_ms"].values())
    rows.append(["sum", number(total, digits=4), f"{100 * total / run['step_ms']:.1f} %"])
    return table(["stage, part", "ms", "of the step"], rows)


def training(results):
    if not results.of("train_large"):
        return section("A training step on the CPU", "Not measured: " + missing(results, "train_large"))
    heading = ["", "speed", "step", "lowest - highest", "peak memory", "RoIs, positives per image", "speed of ours to it", "memory of ours to it"]
    parts = [
        "Mask R-CNN R50-FPN, `configs/mask_rcnn_R_50_FPN_noaug_1x.yaml` (frozen norm, stem and res2 frozen, 512 RoIs an image); detectron2 runs the "
        "same recipe from its own file, torchvision its own model with the same layers frozen. Everybody takes the same six photographs in batches of the same "
        "shape; weights are random, and pixels divided by 4096 besides, which keeps activations within "
        "bounds behind norms that do nothing: else hardly a proposal is left for the heads. Peers' images are in memory already, ours come from JPEG files inside the step. Memory is the peak resident set."
    ]
    for what, size, batch, speed, memory in (("train_large", "large", 1, 1.5, 0.6), ("train_small", "small", 2, 1.8, 0.5)):
        run = results.first(what)
        if not run:
            parts.append(f"### {results.about[size]}, batch {batch}\n\nNot measured: {missing(results, what)}")
            continue
        parts += [
            f"### {results.about[size]}, batch {batch}",
            table(heading, step_rows(results, what, speed, memory)),
            left_out(results, what, COMPARED),
            f"Iterations {run['iterations'][0]} to {run['iterations'][1]} of each run. Stages of ours, in its first run:",
            stage_table(run),
            results.commands(what + ".ours", what + ".peer_detectron2", what + ".peer_torchvision"),
        ]
    return section("A training step on the CPU", *parts)


def part_of_layer(name):
    """A layer's name up to where its numbers begin: backbone.body.layer3, rpn.head, ..."""
    words = name.split(".")
    if words[0] == "backbone" and len(words) > 2:
        return ".".join(words[:3])
    return ".".join(words[:2]) if words[0] in ("rpn", "roi_heads") else words[0]


def floor(results):
    run = results.first("layers")
    if not run:
        return section("The floor of a step", "Not measured: " + missing(results, "layers"))
    peak = max(p["gemm_gflops"] for p in measured_peaks(results))
    flops = sum(row.get("flops", 0) for row in run["ops"]) / 1e9
    bound = 1e3 * flops / peak
    groups = {}
    for row in run["ops"]:
        entry = groups.setdefault((part_of_layer(row["name"].rsplit(" ", 1)[0]), row["direction"]), [0, 0])
        entry[0] += row["mean_ms"]
        entry[1] += row.get("flops", 0) / 1e9
    rows = []
    for (name, direction), (ms, work) in sorted(groups.items(), key=lambda item: -item[1][0])[:20]:
        rate = 1e3 * work / ms if ms else 0
        rows.append(
            [f"`{name}`", direction, number(ms), f"{100 * ms / run['step_ms']:.1f} %", number(work), f"{rate:.0f}", f"{100 * rate / peak:.0f} %"]
        )
    layers = sorted((r for r in run["ops"] if r.get("flops", 0) > 1e9), key=lambda r: -(r["mean_ms"] - r["flops"] / 1e6 / peak))[:12]
    gaps = [
        [
            f"`{r['name']}`",
            number(r["mean_ms"]),
            number(r["flops"] / 1e9),
            f"{r['gflop_per_s']:.0f}",
            f"{100 * r['gflop_per_s'] / peak:.0f} %",
            number(r["mean_ms"] - r["flops"] / 1e6 / peak),
        ]
        for r in layers
    ]
    height, width = run["batch_shape"][1:3]
    text = (
        f"A step at {results.about['large']} (batch 1, canvases like {height:.0f}x{width:.0f}) is {flops:.0f} GFLOP, counted as direct convolutions over what is computed "
        f"(regions and positives as they come; gradients of frozen stages and of zero pixels are not). At the {peak:.0f} GFLOP/s in large products, the most that was measured in this run, that is "
        f"{seconds(bound)}; the step took {seconds(run['step_ms'])}, {100 * bound / run['step_ms']:.0f} % of the peak. More than 100 % is Winograd's F(2x2,3x3), which needs 2.25 times fewer products in 3x3 layers."
    )
    return section(
        "The floor of a step",
        text,
        table(["part", "direction", "ms", "of the step", "GFLOP", "GFLOP/s", "of the peak"], rows),
        "The layers that are farthest from the floor, by the time above it:",
        table(["layer", "ms", "GFLOP", "GFLOP/s", "of the peak", "ms above the floor"], gaps),
        results.commands("layers.ours"),
    )


def case_of(run, name):
    return next((case for case in run["cases"] if case["name"] == name), None)


def op_time(results, what, who, name, key):
    """Median over the runs; `key` "both" adds forward and backward."""
    values = []
    for run in results.of(what, who):
        case = case_of(run, name)
        if case and key == "both":
            values.append(case["forward_ms"] + case["backward_ms"])
        elif case:
            values.append(case[key])
    return statistics.median(values) if values else None


def op_rows(results, what):
    for case in results.first(what)["cases"]:
        for key, direction in (("forward_ms", "forward"), ("both", "forward and backward")):
            if key == "both" and case["backward_ms"] is None:
                continue
            mine, other = (op_time(results, what, who, case["name"], key) for who in ("ours", "torchvision"))
            yield [case["name"], direction, seconds(mine), seconds(other), goal(ratio(other, mine), 4)]


def grid_rows(results):
    for case in results.first("roi_grid")["cases"]:
        name = case["name"]
        naive = next((k for k in case["kernels"] if k["name"] == "naive_loop"), None)
        row = [name]
        for key in ("forward_ms", "both"):
            mine, other = (op_time(results, "roi_grid", who, name, key) for who in ("ours", "torchvision"))
            loop = naive and (naive["forward_ms"] if key == "forward_ms" else naive["forward_ms"] + naive["backward_ms"])
            row += [seconds(mine), seconds(loop), seconds(other), times(ratio(other, mine))]
        yield row


def ops(results):
    parts = []
    for what in ("roi_align", "nms"):
        if results.of(what):
            parts += [
                table([what, "", "here", "torchvision", "ratio"], op_rows(results, what)),
                left_out(results, what, ["torchvision"]),
                results.commands(what + ".ours", what + ".peer_torchvision"),
            ]
        else:
            parts.append(f"{what}: not measured: {missing(results, what)}")
    if results.of("roi_grid"):
        parts += [
            "The grid of a known comparison of RoI pooling (7x7 bins, 3 channels unless the name says more); the loop over regions is beside:",
            table(
                ["RoIAlign, forward", "here", "loop", "torchvision", "ratio", "with backward: here", "loop", "torchvision", "ratio"],
                grid_rows(results),
            ),
            results.commands("roi_grid.ours", "roi_grid.peer_torchvision"),
        ]
    return section(
        "RoIAlign and NMS",
        "Random maps and boxes of the same distributions; 256 channels on a 200x336 map for the heads, 800x1344 pixels for NMS.",
        *parts,
    )


def loading(results):
    run = results.first("loader")
    if not run:
        return section("Loading data", "Not measured: " + missing(results, "loader"))
    rows = []
    for key, title, wanted, aim in (("img_per_s", "decoded", None, 1000), ("img_per_s_with_transform", "with the transform", 6, None)):
        mine, other = (results.median("loader", who, key) for who in ("ours", "pytorch"))
        told = number(mine, "img/s", 4)
        if aim:
            told += f" (goal {aim}{'' if mine >= aim else ', not reached'})"
        rows.append(
            [title, told, number(other, "img/s", 4) if other else "-", goal(ratio(mine, other), wanted) if wanted else times(ratio(mine, other))]
        )
    stages = ", ".join(f"{name} {number(ms)}" for name, ms in run["stages_ms"].items())
    memory = ", ".join(f"{p['role']} {p['rss_mib']:.0f}" for p in run["processes"])
    text = (
        f"{run['images']} photographs of {run['megapixels_per_image']:.2f} megapixels as JPEG, {run['workers']} workers, batches of {run['batch']}. The transform resizes to "
        f"{results.about['large']}, flips, normalises and pads. PyTorch's DataLoader decodes with Pillow, and draws the masks where ours hands polygons on."
    )
    return section(
        "Loading data",
        text,
        table(["", "here", "PyTorch", "ratio"], rows),
        left_out(results, "loader", ["pytorch"]),
        f"Milliseconds an image in the first run (read, decode and annotations are a worker's): {stages}. Resident MiB of each process: {memory}.",
        results.commands("loader.ours", "loader.peer_pytorch"),
    )


def scoring(results):
    run = results.first("eval_bbox")
    if not run:
        return section("Scoring a results file", "Not measured: " + missing(results, "eval_bbox"))
    libraries = ("pycocotools", "faster_coco_eval")
    rows = []
    for what, title in (("eval_bbox", "boxes"), ("eval_segm", "masks")):
        mine = results.median(what, "ours", lambda r: r["types"][0]["total_ms"])
        used = results.median(what, "ours", "peak_rss_mib")
        row = [title, seconds(mine)]
        for library in libraries:
            other = results.median(what, library, "seconds")
            row += [seconds(other and 1e3 * other), times(ratio(other and 1e3 * other, mine))]
        row.append(number(used, "MiB", 4))
        row += [number(results.median(what, library, "peak_rss_mib"), "MiB", 4) if results.of(what, library) else "-" for library in libraries]
        rows.append(row)
    differences = [
        abs(results.first(what)["types"][0]["AP"] - results.first(what, library)["AP"])
        for what in ("eval_bbox", "eval_segm")
        for library in libraries
        if results.of(what, library) and results.of(what)
    ]
    text = (
        f"{run['images']:.0f} images, {run['objects']:.0f} objects, {run['detections']:.0f} detections with compressed masks in 80 categories, made up (`bench eval --synthetic {run['images']:.0f} --keep FOLDER`). From opening "
        "the files to the twelve numbers; starting Python and importing are not counted."
    )
    parts = [row_text for row_text in [left_out(results, "eval_bbox", libraries)] if row_text]
    if differences:
        parts.append(f"Largest difference of an AP: {max(differences):.1g}.")
    spent = run["types"][0]
    parts.append(
        f"Of ours by boxes, in the first run: reading annotations {seconds(run['load_annotations_ms'])}, results {seconds(run['load_results_ms'])}, "
        + ", ".join(f"{name} {seconds(ms)}" for name, ms in spent["stages_ms"].items())
        + "."
    )
    heading = ["", "here", "pycocotools", "ratio", "faster-coco-eval", "ratio", "memory: here", "pycocotools", "faster-coco-eval"]
    commands = results.commands("scored.ours", "eval_segm.ours", "eval_segm.peer_pycocotools", "eval_segm.peer_faster_coco_eval")
    return section("Scoring a results file", text, table(heading, rows), *parts, commands)


def prediction(results):
    rows = []
    for what, title in (("predict_full", "masks of the whole image"), ("predict_raw", "raw masks")):
        for run in results.of(what):
            for size in run["sizes"]:
                shape = "x".join(f"{v:.0f}" for v in size["image"])
                rows.append(
                    [
                        shape,
                        title,
                        number(size["img_per_s"]),
                        seconds(size["step_ms"]),
                        *(number(ms) for ms in size["stages_detail_ms"].values()),
                        f"{size['detections']:.0f}",
                        f"{size['memory_mib']:.0f}",
                    ]
                )
    if not rows:
        return section("Prediction", "Not measured: " + missing(results, "predict_full"))
    names = list(results.runs[next(k for k in results.runs if k[0].startswith("predict_"))][0]["sizes"][0]["stages_detail_ms"])
    heading = ["image", "", "img/s", "an image", *(f"{name.replace('_', ' ')} ms" for name in names), "detections", "device memory MiB"]
    text = "`configs/mask_rcnn_R_50_FPN_1x.yaml` from RGB in memory to boxes and masks in memory, one image at a time; not resized, random weights, the score threshold put where 100 detections pass."
    return section("Prediction", text, table(heading, rows), results.commands("predict_full.ours", "predict_raw.ours"))


MODELS = (
    ("profile_mask_rcnn_R_50_FPN_1x", "Mask R-CNN, FPN", "training"),
    ("profile_mask_rcnn_R_50_C4_1x", "Mask R-CNN, C4", "training"),
    ("profile_rpn_R_50_FPN_1x", "RPN, FPN", "training"),
    ("profile_rpn_R_50_C4_1x", "RPN, C4", "training"),
    ("inference_rpn_R_50_FPN_1x", "RPN, FPN", "inference"),
    ("inference_rpn_R_50_C4_1x", "RPN, C4", "inference"),
)


def models(results):
    rows = []
    for what, model, job in MODELS:
        run = results.first(what)
        if not run:
            rows.append([model, job, missing(results, what), "", "", "", ""])
            continue
        ranked = sorted((r for r in run["ops"]), key=lambda r: -r["mean_ms"])
        nms = [r for r in run["ops"] if re.search(r"\bnms\b", r["name"])]
        proposals = sum(r["mean_ms"] for r in run["ops"] if r["name"].startswith("rpn_proposals"))
        ms = sum(r["mean_ms"] for r in nms)
        place = 1 + min(ranked.index(r) for r in nms) if nms else None
        told = f"{number(ms)} ({100 * ms / run['step_ms']:.2g} %)" if nms else "no proposals are made"
        largest = "; ".join(f"{r['name']} {r['percent']:.0f} %" for r in ranked[:4])
        rows.append(
            [model, job, seconds(run["step_ms"]), told, number(proposals) if nms else "-", f"{place} of {len(ranked)}" if place else "-", largest]
        )
    heading = ["model", "", "step", "NMS ms", "all of the proposals ms", "NMS is row", "largest rows"]
    text = (
        f"`profile` at {results.about['large']}, one image a step. C4 takes 12000 boxes of one level (6000 when predicting) through NMS, FPN up to 2000 (1000) of each of five levels. "
        "The commands are those of C4; other models differ in their configuration."
    )
    return section(
        "Where the time goes in each model",
        text,
        table(heading, rows),
        results.commands("profile_mask_rcnn_R_50_C4_1x.ours", "inference_rpn_R_50_C4_1x.ours"),
    )


def size_text(count):
    return f"{count / 2**20:.0f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def sums(results):
    columns, sizes = {}, []
    for count in (2, 4):
        run = results.first(f"allreduce_{count}")
        for case in run["cases"] if run else []:
            told = f"{seconds(case['time_ms'])}, {number(case['bus_gb_per_s'])} GB/s"
            columns.setdefault(f"{count} ranks, {case['type']}", {})[case["bytes"]] = told
            sizes.append(case["bytes"])
    if not columns:
        return section(
            "Sums over ranks", "Not measured: " + (missing(results, "allreduce_2") if "mpirun" not in results.skipped else "mpirun is not installed")
        )
    rows = [[size_text(size), *(column.get(size, "-") for column in columns.values())] for size in sorted(set(sizes))]
    return section(
        "Sums over ranks",
        f"`bench allreduce` in the memory of one machine with {results.about['cores']} cores. GB/s are of the bus: bytes over time, times 2 (n - 1) / n.",
        table(["size", *columns], rows),
        results.commands("allreduce_2.ours", "allreduce_4.ours"),
    )


def ranks(results):
    alone = results.median("ranks_1", "ours", "img_per_s")
    if alone is None:
        return section(
            "Ranks on one machine", "Not measured: " + (missing(results, "ranks_1") if "mpirun" not in results.skipped else "mpirun is not installed")
        )
    rows, cores = [], int(results.about["cores"])
    for count in (1, 2, 4):
        what = f"ranks_{count}"
        speed = results.median(what, "ours", "img_per_s")
        if speed is None:
            rows.append([count, missing(results, what), "", "", "", "", ""])
            continue
        exposed = results.median(what, "ours", lambda r: r["stages_ms"]["allreduce"])
        total = results.median(what, "ours", "allreduce_total_ms")
        memory = sum(r["peak_rss_mib"] for r in results.first(what)["per_rank"])
        step = results.median(what, "ours", "step_ms")
        rows.append(
            [
                count,
                max(1, cores // count),
                number(speed),
                seconds(step),
                f"{100 * speed / alone:.0f} %",
                f"{seconds(exposed)} of {seconds(total)}",
                f"{memory:.0f} MiB",
            ]
        )
    heading = ["ranks", "threads each", "img/s of all", "step", "efficiency", "all-reduce exposed", "memory of all"]
    more = f" 4 ranks of one thread share the {cores} cores." if cores < 4 else ""
    text = (
        f"Training as above at {results.about['large']}, one image a rank. The cores are the same {cores} in each row, so 100 % is the speed of one rank with all of them.{more} "
        "What many machines would do: [scaling.md](scaling.md)."
    )
    return section("Ranks on one machine", text, table(heading, rows), results.commands("ranks_2.ours"))


SECTIONS = (about, training, floor, ops, loading, scoring, prediction, models, sums, ranks)


def put_between_marks(page, text):
    try:
        with open(page, encoding="utf-8") as f:
            old = f.read()
    except OSError as error:
        return f"{page}: {error.strerror}"
    begin, end = old.find(BEGIN), old.find(END)
    if begin < 0 or end < begin:
        return f"{page}: the marks are not there: a line that begins with {BEGIN}, and {END}"
    with open(page + ".part", "w", encoding="utf-8") as f:
        f.write(f"{old[:begin]}{NOTE}\n\n{text}\n\n{old[end:]}")
    os.replace(page + ".part", page)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--page")
    options = parser.parse_args()
    results = Results(options.folder)
    text = "\n\n".join(part(results) for part in SECTIONS)
    with open(os.path.join(options.folder, "benchmarks.md"), "w", encoding="utf-8") as f:
        f.write(text + "\n")
    return put_between_marks(options.page, text) if options.page else 0


if __name__ == "__main__":
    sys.exit(main())
