"""predict: segment images: write a label map for each to DIR."""

import argparse
import logging
import shlex
from fractions import Fraction
from typing import TYPE_CHECKING

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import show
from pyramidseg.cli.flags import (
    FINDINGS,
    LABEL_FORMATS,
    add_label_config,
    add_prediction_options,
    add_simplification,
    comma_list,
    predictor_of,
    values_of,
)

if TYPE_CHECKING:
    from pyramidseg.predict.ray_engine import RayEngine

logger = logging.getLogger(__name__)

OUTPUTS = ("mask", "overlay", "color", "confidence", "probabilities", "geotiff", "polygons")
VIDEO_OUTPUTS = ("mask", "video", "frames", "shares", "plot")
SCENE_OPTIONS = ("level", "mpp", "scanned_area", "skip_empty", "resample", "axes", "format")
RAY_OPTIONS = ("ray_address", "workers", "gpus_per_worker", "ray_timeout")
POLYGON_OPTIONS = ("simplify_px", "min_area_px", "block_rows")
POLYGON_FORMATS = ("geojson", "geopackage", "flatgeobuf", "geoparquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a bundle such as RUN/best.safetensors, or an exported file")
    text = (
        "images, folders, globs, lists (.txt, FILE.csv:COLUMN), URLs (s3://, gs://, https://), or - for paths on "
        "standard input; videos likewise, and live streams (rtsp://, udp://, /dev/video0)"
    )
    add("sources", nargs="+", metavar="SOURCE", help=text)
    text = "folder for the results, or the URL of one; a second call continues there"
    add("--out", required=True, metavar="DIR", help=text)
    text = (
        f"outputs of each image: {', '.join(OUTPUTS)}; or label formats, each in a folder of its name: "
        f"{', '.join(LABEL_FORMATS)}; of each video: {', '.join(VIDEO_OUTPUTS)} (default: mask, which is always "
        "written)"
    )
    names = comma_list(known=(*OUTPUTS, *VIDEO_OUTPUTS, *LABEL_FORMATS))
    add("--save", type=names, default=("mask",), metavar="NAME,NAME,...", help=text)
    text = "format of --save polygons (default: geojson)"
    add("--polygon-format", choices=POLYGON_FORMATS, default="geojson", help=text)
    add_simplification(parser)
    add_label_config(parser)
    text = "merge regions of fewer than PX pixels into the neighbour of the highest confidence (default: 0, none)"
    add("--min-area", dest="min_area_px", type=float, default=0, metavar="PX", help=f"for --save polygons: {text}")
    text = "for --save polygons: cut them every ROWS rows of the image, to bound the memory (default: 0, never)"
    add("--polygon-block", dest="block_rows", type=int, default=0, metavar="ROWS", help=text)
    add_prediction_options(parser)
    text = "only part I of N parts, chosen by name: for several processes and one DIR (default: all)"
    add("--shard", metavar="I/N", help=text)
    text = "plain: this process; ray: workers on many machines"
    add("--engine", choices=("plain", "ray"), default="plain", help=text)
    add("--overwrite", action="store_true", help="predict all images again, not only what is missing or has changed")
    parser.set_defaults(collect="sources")
    add = parser.add_argument_group("videos").add_argument
    add("--every", type=int, default=1, metavar="N", help="predict one frame in N")
    text = "weight of the earlier frames in the logits, below 1, against flicker (default: 0.0, off)"
    add("--smooth", type=float, default=0.0, metavar="W", help=text)
    text = "frames per second of a folder of frames: 25, 30000/1001 (default: none)"
    add("--fps", type=frame_rate, metavar="N", help=text)
    add("--seconds", type=float, metavar="S", help="leave live streams after S seconds (default: at Ctrl-C)")
    text = "written as DIR/NAME_mask.tif"
    add = parser.add_argument_group("images that do not fit into memory", text).add_argument
    add("--level", type=int, metavar="N", help="level of a slide or pyramid, 0 is the finest (default: its only one)")
    add("--axes", default="", metavar="AXES", help="of a Zarr array without names: yxc, cyx (no default)")
    text = "file format of the label maps: NAME_mask.tif or NAME_mask.zarr.zip (default: geotiff)"
    add("--scene-format", dest="format", choices=("geotiff", "zarr"), default="geotiff", help=text)
    add("--mpp", type=float, metavar="UM", help="read slides at UM micrometres per pixel (no default)")
    add("--resample", type=float, metavar="M", help="TIFFs at M metres per pixel (default: as they are)")
    add("--scanned-area", action="store_true", help="only the area that a slide says was scanned")
    add("--skip-empty", action="store_true", help="leave out windows of a single colour; their pixels become nodata")
    add = parser.add_argument_group("with --engine ray").add_argument
    add("--ray-address", metavar="ADDRESS", help="of a cluster: auto, HOST:PORT (default: this machine)")
    add(
        "--ray-workers",
        dest="workers",
        type=worker_range,
        metavar="MIN:MAX",
        help="default: as many as there is room for",
    )
    add("--gpus-per-worker", type=float, metavar="N", help="default: 1, or 0 without GPUs")
    add("--ray-timeout", type=float, metavar="MINUTES", help="end if nothing happens for so long (default: 30)")


def frame_rate(text: str) -> Fraction:
    """Type of `--fps`."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a frame rate; write 25, or 30000/1001") from None


def worker_range(text: str) -> tuple[int, int]:
    """Type of `--ray-workers`: `2:8`, or one number for both."""
    first, colon, last = text.partition(":")
    least, most = (int(part) if part.isdecimal() else 0 for part in (first, last if colon else first))
    if not 1 <= least <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers; write 4, or MIN:MAX such as 2:8")
    return least, most


def _engine(arguments: argparse.Namespace) -> "RayEngine | None":
    options = {name: getattr(arguments, name) for name in RAY_OPTIONS if getattr(arguments, name) is not None}
    if arguments.engine == "ray":
        from pyramidseg.predict.ray_engine import RayEngine

        return RayEngine(**options)
    if options:
        raise ConfigError(f"`{next(iter(options))}`: is an option of --engine ray; add that as well")
    return None


def run(arguments: argparse.Namespace) -> int:
    """Predict all images; status 3 if some cannot be read, or are of types that are not read."""
    from pyramidseg.images.image_files import count_extensions
    from pyramidseg.images.scene import SceneOptions
    from pyramidseg.predict.outputs.polygon_layers import PolygonOptions
    from pyramidseg.predict.predict_files import predict_files
    from pyramidseg.predict.predict_videos import VideoOptions
    from pyramidseg.predict.summary_file import SUMMARY_FILE

    engine = _engine(arguments)
    predictor = predictor_of(arguments.model, arguments)
    show(f"backend {predictor.backend}")
    summary = predict_files(
        predictor,
        arguments.sources,
        arguments.out,
        **values_of(arguments, "save", "batch_size", "shard", "overwrite", "label_config"),
        polygons=PolygonOptions(arguments.polygon_format, **values_of(arguments, *POLYGON_OPTIONS)),
        video=VideoOptions(**values_of(arguments, *VideoOptions._fields)),
        scenes=SceneOptions(**values_of(arguments, *SCENE_OPTIONS)),
        engine=engine,
    )
    for entry in summary.failed:
        logger.warning(f"not predicted: {entry['error']}")
    for entry in summary.damaged:
        found = entry["video"]
        ended = f"; {found['ended']}" if found["ended"] else ""
        sound = f", {found['damaged_sound']} packets of sound" if found["damaged_sound"] else ""
        logger.warning(f"{entry['image']}: {found['damaged']} frames are damaged or missing{sound}{ended}")
    if summary.skipped:
        found = f"{count_extensions(summary.skipped)}, such as {summary.skipped[0]}"
        logger.warning(f"not predicted, as files of these types are not read in a folder of images: {found}")
    done = summary.images - len(summary.failed)
    if summary.images == 1 and summary.last is not None:
        for name, share in summary.last.get("classes", {}).items():
            show(f"{100 * share:5.1f} %  {name}")
        if (found := summary.last.get("video", {})).get("dropped") is not None:
            show(f"{found['frames']} frames, {found['dropped']} dropped, each at most {found['latency_s']} s late")
    if summary.tiled:
        show(f"{summary.tiled} in tiles; {SUMMARY_FILE} has their sizes")
    if (counts := summary.polygons)["pixels"]:
        share = (counts["merged_px"] + counts["moved_px"]) / counts["pixels"]
        checked = f", {counts['invalid']} invalid" if "invalid" in counts else ""
        show(
            f"{counts['polygons']} polygons{checked}; drawn again, {share:.4%} of the pixels "
            f"differ from the masks ({counts['merged_px']} merged, {counts['moved_px']} moved by simplification)"
        )
    if summary.unchanged:
        show(f"{summary.unchanged} of them by an earlier call, and unchanged; --overwrite predicts all images again")
    what = "videos" if summary.last is not None and "video" in summary.last else "images"
    show(f"{done} of {summary.images} {what} predicted: {summary.out}")
    if arguments.shard is not None:
        show(f"when all parts are done: pyramidseg predictions merge {shlex.quote(str(summary.out))}")
    return FINDINGS if summary.failed or summary.damaged or summary.skipped else 0
