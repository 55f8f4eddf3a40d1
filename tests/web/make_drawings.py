"""Writes `drawings.json`: 100 digits of ten kinds as paths of a mouse. It was run once, before any model saw one.

`python -m tests.web.make_drawings`. A path is designed by hand as a few points in a box one unit high, from its left
upper corner; a point that stands twice is a corner, everything else is a curve. Each drawing gets a size, a place, a
width, a tilt and small errors of its own.
"""

from __future__ import annotations

import itertools
import json
from math import cos, hypot, pi, radians, sin
from pathlib import Path
from random import Random

Point = tuple[float, float]
Stroke = list[Point]

FILE = Path(__file__).parent / "drawings.json"
SEED = 20261127
STEP = 0.1  # between two points of a path, in heights of the digit
FAST_POINTS = (8, 11)  # of a fast stroke
CURVE_PARTS = 24  # of the curve between two designed points


def arc(x: float, y: float, rx: float, ry: float, start: float, turn: float, number: int = 9) -> Stroke:
    """Return points of an ellipse; degrees are counted from the top, counterclockwise as a hand turns."""
    angles = [radians(start + turn * i / (number - 1)) for i in range(number)]
    return [(x - rx * sin(angle), y - ry * cos(angle)) for angle in angles]


def line(*points: Point) -> Stroke:
    """Return a path with a corner at each point."""
    return [points[0], *[each for point in points[1:-1] for each in (point, point)], points[-1]]


# Three ways to write each digit: the kinds take them in turn.
WAYS: dict[int, list[list[Stroke]]] = {
    0: [
        [arc(0.3, 0.5, 0.29, 0.5, -5, 365, 13)],
        [arc(0.36, 0.5, 0.36, 0.5, -35, 385, 13)],
        [arc(0.27, 0.5, 0.25, 0.5, 10, 340, 13)],
    ],
    1: [
        [line((0.1, 0.0), (0.1, 1.0))],
        [line((0.0, 0.28), (0.25, 0.0), (0.25, 1.0))],
        [line((0.02, 0.22), (0.22, 0.0), (0.21, 1.0)), line((0.0, 1.0), (0.45, 1.0))],
    ],
    2: [
        [
            [
                (0.03, 0.24),
                (0.13, 0.05),
                (0.35, 0.0),
                (0.55, 0.14),
                (0.5, 0.38),
                (0.27, 0.68),
                (0.02, 0.97),
                (0.02, 0.97),
                (0.3, 0.98),
                (0.6, 0.96),
            ]
        ],
        [
            [
                (0.0, 0.2),
                (0.15, 0.02),
                (0.38, 0.0),
                (0.53, 0.18),
                (0.46, 0.42),
                (0.28, 0.7),
                (0.1, 0.95),
                (0.0, 0.92),
                (0.06, 0.82),
                (0.2, 0.84),
                (0.38, 0.97),
                (0.62, 0.93),
            ]
        ],
        [[(0.06, 0.12), (0.32, 0.0), (0.5, 0.2), (0.36, 0.52), (0.0, 1.0), (0.0, 1.0), (0.56, 1.0)]],
    ],
    3: [
        [
            [
                (0.04, 0.14),
                (0.28, 0.0),
                (0.52, 0.16),
                (0.44, 0.38),
                (0.2, 0.47),
                (0.2, 0.47),
                (0.46, 0.54),
                (0.58, 0.75),
                (0.42, 0.97),
                (0.16, 1.0),
                (0.0, 0.88),
            ]
        ],
        [
            [
                (0.04, 0.02),
                (0.52, 0.0),
                (0.52, 0.0),
                (0.24, 0.4),
                (0.24, 0.4),
                (0.48, 0.48),
                (0.56, 0.72),
                (0.4, 0.98),
                (0.12, 0.98),
                (0.0, 0.86),
            ]
        ],
        [
            [
                (0.0, 0.08),
                (0.26, 0.0),
                (0.46, 0.12),
                (0.42, 0.33),
                (0.24, 0.46),
                (0.16, 0.5),
                (0.28, 0.48),
                (0.5, 0.6),
                (0.52, 0.82),
                (0.3, 1.0),
                (0.02, 0.95),
            ]
        ],
    ],
    4: [
        [line((0.14, 0.0), (0.0, 0.6), (0.6, 0.58)), line((0.46, 0.22), (0.43, 1.0))],
        [line((0.46, 0.0), (0.0, 0.66), (0.64, 0.66)), line((0.46, 0.0), (0.46, 1.0))],
        [line((0.6, 0.63), (0.0, 0.63), (0.43, 0.0), (0.43, 1.0))],
    ],
    5: [
        [
            [(0.1, 0.0), (0.06, 0.42), (0.06, 0.42), (0.3, 0.35), (0.54, 0.5), (0.55, 0.78), (0.32, 0.99), (0.0, 0.93)],
            [(0.1, 0.0), (0.55, 0.0)],
        ],
        [
            [
                (0.56, 0.02),
                (0.1, 0.0),
                (0.1, 0.0),
                (0.06, 0.44),
                (0.06, 0.44),
                (0.3, 0.38),
                (0.55, 0.54),
                (0.54, 0.82),
                (0.3, 1.0),
                (0.0, 0.92),
            ]
        ],
        [
            [
                (0.5, 0.0),
                (0.14, 0.04),
                (0.14, 0.04),
                (0.08, 0.4),
                (0.2, 0.42),
                (0.44, 0.5),
                (0.5, 0.74),
                (0.36, 0.96),
                (0.02, 1.0),
            ]
        ],
    ],
    6: [
        [
            [
                (0.46, 0.0),
                (0.2, 0.2),
                (0.03, 0.55),
                (0.06, 0.86),
                (0.28, 1.0),
                (0.52, 0.86),
                (0.5, 0.62),
                (0.28, 0.53),
                (0.05, 0.7),
            ]
        ],
        [
            [
                (0.3, 0.0),
                (0.08, 0.36),
                (0.0, 0.7),
                (0.12, 0.95),
                (0.36, 0.98),
                (0.5, 0.78),
                (0.4, 0.58),
                (0.18, 0.58),
                (0.02, 0.76),
            ]
        ],
        [
            [
                (0.5, 0.06),
                (0.32, 0.0),
                (0.1, 0.2),
                (0.0, 0.6),
                (0.12, 0.94),
                (0.38, 1.0),
                (0.55, 0.78),
                (0.42, 0.5),
                (0.18, 0.54),
                (0.04, 0.68),
            ]
        ],
    ],
    7: [
        [line((0.0, 0.04), (0.58, 0.0), (0.24, 1.0))],
        [line((0.0, 0.0), (0.56, 0.02), (0.2, 1.0)), line((0.14, 0.52), (0.54, 0.5))],
        [[(0.0, 0.14), (0.02, 0.0), (0.02, 0.0), (0.6, 0.02), (0.6, 0.02), (0.42, 0.36), (0.3, 0.68), (0.26, 1.0)]],
    ],
    8: [
        [
            [
                (0.48, 0.13),
                (0.28, 0.0),
                (0.07, 0.16),
                (0.22, 0.42),
                (0.44, 0.6),
                (0.54, 0.8),
                (0.3, 1.0),
                (0.04, 0.82),
                (0.16, 0.58),
                (0.38, 0.4),
                (0.5, 0.22),
                (0.48, 0.1),
            ]
        ],
        [arc(0.28, 0.24, 0.21, 0.24, 0, 370, 11), arc(0.28, 0.74, 0.27, 0.26, 0, 370, 11)],
        [
            [
                (0.28, 0.48),
                (0.08, 0.26),
                (0.28, 0.0),
                (0.48, 0.24),
                (0.28, 0.48),
                (0.04, 0.76),
                (0.28, 1.0),
                (0.54, 0.76),
                (0.3, 0.5),
            ]
        ],
    ],
    9: [
        [
            [
                (0.5, 0.16),
                (0.3, 0.0),
                (0.05, 0.12),
                (0.04, 0.36),
                (0.24, 0.5),
                (0.46, 0.36),
                (0.52, 0.12),
                (0.52, 0.12),
                (0.53, 0.5),
                (0.42, 0.85),
                (0.14, 1.0),
            ]
        ],
        [[*arc(0.26, 0.26, 0.25, 0.26, -70, 350, 11), (0.52, 0.2), (0.52, 0.2), (0.48, 0.6), (0.4, 1.0)]],
        [
            [
                (0.46, 0.08),
                (0.22, 0.0),
                (0.02, 0.2),
                (0.12, 0.44),
                (0.36, 0.42),
                (0.5, 0.1),
                (0.5, 0.1),
                (0.52, 0.6),
                (0.4, 0.94),
                (0.2, 1.0),
                (0.06, 0.9),
            ]
        ],
    ],
}
TWO_STROKES: dict[int, list[Stroke]] = {
    0: [arc(0.3, 0.5, 0.29, 0.5, 5, 178), arc(0.3, 0.5, 0.29, 0.5, -2, -180)],
    1: [line((0.24, 0.0), (0.24, 1.0)), line((0.24, 0.0), (0.0, 0.26))],
    2: [WAYS[2][2][0][:5], line((0.0, 0.98), (0.6, 0.99))],
    3: [
        [(0.05, 0.1), (0.3, 0.0), (0.5, 0.16), (0.42, 0.4), (0.16, 0.47)],
        [(0.2, 0.48), (0.46, 0.54), (0.58, 0.76), (0.38, 0.99), (0.0, 0.92)],
    ],
    4: WAYS[4][0],
    5: WAYS[5][0],
    6: [[(0.4, 0.0), (0.16, 0.24), (0.02, 0.6), (0.04, 0.8)], arc(0.28, 0.76, 0.26, 0.24, 60, 365, 11)],
    7: [line((0.0, 0.02), (0.56, 0.0)), line((0.56, 0.0), (0.22, 1.0))],
    8: WAYS[8][1],
    9: [arc(0.27, 0.27, 0.25, 0.27, -60, 365, 11), [(0.52, 0.14), (0.52, 0.55), (0.4, 1.0)]],
}
FOURS = {
    "open": WAYS[4][0],
    "open, upright": [line((0.04, 0.02), (0.02, 0.52), (0.56, 0.52)), line((0.5, 0.0), (0.5, 1.0))],
    "open, round": [
        [(0.1, 0.0), (0.02, 0.3), (0.06, 0.52), (0.3, 0.56), (0.56, 0.46)],
        line((0.52, 0.06), (0.48, 1.0)),
    ],
    "closed": WAYS[4][1],
    "closed, one stroke": WAYS[4][2],
}
SEVENS = {
    "without a bar": WAYS[7][0],
    "without a bar, bent": [[(0.0, 0.05), (0.56, 0.02), (0.56, 0.02), (0.36, 0.4), (0.26, 1.0)]],
    "without a bar, with a hook": WAYS[7][2],
    "with a bar": WAYS[7][1],
    "with a bar and a hook": [*WAYS[7][2], line((0.18, 0.5), (0.56, 0.48))],
}
ONES = {
    "stem": WAYS[1][0],
    "stem with a flag": WAYS[1][1],
    "stem with a long flag": [line((0.0, 0.42), (0.34, 0.0), (0.32, 1.0))],
    "stem with a base": [line((0.22, 0.0), (0.22, 1.0)), line((0.02, 1.0), (0.44, 0.99))],
    "stem with flag and base": WAYS[1][2],
}
NINES = {
    "round loop": [[*arc(0.26, 0.25, 0.26, 0.25, -80, 350, 11), (0.52, 0.25), (0.52, 0.25), (0.52, 1.0)]],
    "narrow loop": [
        [(0.4, 0.08), (0.22, 0.0), (0.04, 0.2), (0.14, 0.46), (0.36, 0.4), (0.42, 0.06), (0.42, 0.06), (0.42, 1.0)]
    ],
    "large loop": [[*arc(0.28, 0.32, 0.28, 0.32, -70, 355, 11), (0.56, 0.16), (0.56, 0.16), (0.54, 1.0)]],
    "small loop": [[*arc(0.22, 0.2, 0.2, 0.2, -60, 345, 11), (0.42, 0.14), (0.42, 0.14), (0.38, 1.0)]],
    "loop, then tail": [arc(0.26, 0.26, 0.26, 0.26, -75, 370, 11), line((0.52, 0.04), (0.52, 1.0))],
}


def curve(stroke: Stroke) -> Stroke:
    """Return many points of the smooth curve through the designed ones (Catmull and Rom's), with its corners."""
    pieces, piece = [], [stroke[0]]
    for point in stroke[1:]:
        if point == piece[-1]:
            pieces.append(piece)
            piece = []
        piece.append(point)
    points: Stroke = []
    for each in [*pieces, piece]:
        around = [each[0], *each, each[-1]]
        for p0, p1, p2, p3 in zip(around, around[1:], around[2:], around[3:], strict=False):
            points += [through(p0, p1, p2, p3, i / CURVE_PARTS) for i in range(CURVE_PARTS)]
        points.append(each[-1])
    return points


def through(p0: Point, p1: Point, p2: Point, p3: Point, t: float) -> Point:
    x, y = (
        (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3) / 2
        for a, b, c, d in zip(p0, p1, p2, p3, strict=True)
    )
    return x, y


def walked(points: Stroke, step: float, number: int | None) -> Stroke:
    """Return points at equal distances of the path: `number` of them, or a step apart."""
    lengths = [0.0]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        lengths.append(lengths[-1] + hypot(x1 - x0, y1 - y0))
    parts = max(3, round(lengths[-1] / step)) if number is None else number - 1
    found = []
    for i in range(parts + 1):
        j = next(j for j, length in enumerate(lengths) if length >= lengths[-1] * i / parts - 1e-9)
        found.append(points[j])
    return found


class Hand:
    """Draws designs, each a little differently."""

    def __init__(self) -> None:
        self.random = Random(SEED)

    def draw(
        self,
        design: list[Stroke],
        *,
        height: tuple[float, float] = (0.58, 0.8),
        slant: float | None = None,
        corner: Point | None = None,
        is_fast: bool = False,
        shake: float = 0.0,
    ) -> list[Stroke]:
        """Return strokes in shares of the pad."""
        random = self.random
        size, width = random.uniform(*height), random.uniform(0.88, 1.15)
        tilt = radians(random.uniform(-4, 4))
        shear = random.uniform(-0.05, 0.12) if slant is None else slant
        strokes = [self.wrong(stroke, 0.018) for stroke in design]
        strokes = [[(x * width + shear * (0.5 - y), y) for x, y in curve(stroke)] for stroke in strokes]
        strokes = [
            [(size * (x * cos(tilt) - y * sin(tilt)), size * (x * sin(tilt) + y * cos(tilt))) for x, y in stroke]
            for stroke in strokes
        ]
        if shake:
            strokes = [self.shaken(stroke, shake * size) for stroke in strokes]
        dx, dy = self.place(strokes, corner)
        moved = [[(x + dx, y + dy) for x, y in stroke] for stroke in strokes]
        number = [random.randint(*FAST_POINTS) if is_fast else None for _ in moved]
        return [walked(stroke, STEP * size, each) for stroke, each in zip(moved, number, strict=True)]

    def wrong(self, stroke: Stroke, by: float) -> Stroke:
        """Return the designed points, each a little beside its place; corners stay corners."""
        errors = {point: (self.random.gauss(0, by), self.random.gauss(0, by)) for point in stroke}
        return [(x + errors[x, y][0], y + errors[x, y][1]) for x, y in stroke]

    def shaken(self, stroke: Stroke, by: float) -> Stroke:
        """Return the path of a hand that trembles: two waves across it, of changing length."""
        phases = [self.random.uniform(0, 2 * pi) for _ in range(4)]
        done, found, last = 0.0, [], stroke[0]
        for x, y in stroke:
            done += hypot(x - last[0], y - last[1])
            last = x, y
            a, b = 2 * pi * done / 0.19, 2 * pi * done / 0.31
            dx = by * (sin(a + phases[0]) + 0.6 * sin(b + phases[1]))
            dy = by * (sin(a + phases[2]) + 0.6 * sin(b + phases[3]))
            found.append((x + dx, y + dy))
        return found

    def place(self, strokes: list[Stroke], corner: Point | None) -> Point:
        """Return how far the drawing is moved: near the middle of the pad, or into a corner of it."""
        xs, ys = zip(*[point for stroke in strokes for point in stroke], strict=True)
        margin = self.random.uniform(0.06, 0.1)
        moves = []
        for low, high, side in ((min(xs), max(xs), corner and corner[0]), (min(ys), max(ys), corner and corner[1])):
            if side is None:
                moves.append(0.5 + self.random.uniform(-0.06, 0.06) - (low + high) / 2)
            else:
                moves.append(margin - low if side == 0 else 1 - margin - high)
        return moves[0], moves[1]


def all_drawings() -> list[dict[str, object]]:
    hand = Hand()
    found: list[dict[str, object]] = []

    def add(kind: str, label: int, strokes: list[Stroke]) -> None:
        points = [[[round(x, 3), round(y, 3)] for x, y in stroke] for stroke in strokes]
        found.append({"kind": kind, "label": label, "strokes": points})

    for label in range(10):
        slant = hand.random.uniform(0.3, 0.55) if label not in (2, 7) else hand.random.uniform(-0.35, -0.25)
        add("slanted", label, hand.draw(WAYS[label][label % 3], slant=slant))
    for label in range(10):
        add("small", label, hand.draw(WAYS[label][(label + 1) % 3], height=(0.16, 0.28)))
    for label in range(10):
        corner = ((0, 0), (1, 0), (0, 1), (1, 1))[label % 4]
        add("in a corner", label, hand.draw(WAYS[label][(label + 2) % 3], height=(0.3, 0.42), corner=corner))
    for label in range(10):
        add("fast, few points", label, hand.draw(WAYS[label][label % 3], is_fast=True))
    for label in range(10):
        add("shaky", label, hand.draw(WAYS[label][(label + 1) % 3], shake=0.02))
    for label in range(10):
        add("two strokes", label, hand.draw(TWO_STROKES[label]))
    for kind, label, designs in (
        ("4, open and closed", 4, FOURS),
        ("7, with and without a bar", 7, SEVENS),
        ("1, with and without bars", 1, ONES),
        ("9 with a straight tail", 9, NINES),
    ):
        for design in designs.values():
            add(kind, label, hand.draw(design))
            add(kind, label, hand.draw(design, slant=hand.random.uniform(0.1, 0.3)))
    return found


def main() -> None:
    lines = ",\n".join(json.dumps(each, separators=(",", ":")) for each in all_drawings())
    FILE.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
