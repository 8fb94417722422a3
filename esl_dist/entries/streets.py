"""``python -m esl_dist.streets --out DIR``: write the embedded pair of street domains, or ``--sheet FILE.png``: look at
it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from esl_dist.config.schema import StreetsConfig
from esl_dist.entries import cli
from esl_dist.synthetic.streets import ensure_pair
from esl_dist.synthetic.streets.sheet import contact_sheet


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT of at least 16 pixels each, such as 256x128")
    return int(width), int(height)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _parser() -> cli.Parser:
    default = StreetsConfig()
    parser = cli.parser("streets", "Write the embedded pair of street domains, or a contact sheet of it.", schema=None)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder that gets gta5/, cityscapes/ and streets.json")
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="write a contact sheet of both domains with their labels"
    )
    parser.add_argument("--seed", type=_count, default=default.seed, help="seed of the scenes (default %(default)s)")
    parser.add_argument(
        "--size", type=_size, default=default.size, metavar="WxH", help="size of an image (default 256x128)"
    )
    for name in ("source_train", "target_train", "target_val", "target_test"):
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=_count,
            default=getattr(default, name),
            metavar="N",
            help="images in it (default %(default)s)",
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    if args.out is None and args.sheet is None:
        parser.error("say where to: --out DIR for the pair, --sheet FILE.png for a contact sheet")
    if args.sheet is not None:
        contact_sheet(args.sheet, args.seed, args.size)
    if args.out is not None:
        start = time.perf_counter()
        config = StreetsConfig(
            True, args.seed, args.size, args.source_train, args.target_train, args.target_val, args.target_test
        )
        ensure_pair(args.out, config, print)
        print(f"streets: {args.out} is complete ({time.perf_counter() - start:.1f} s)")
    return 0
