# SPDX-License-Identifier: Apache-2.0
"""Line plots as SVG text, of nothing but the standard library: places along x have names, y begins at 0 or is logarithmic."""

import html
import math

WIDTH, HEIGHT = 620, 330
LEFT, RIGHT, TOP, BOTTOM = 58, 128, 34, 40  # the names of lines stand on the right
LABEL_GAP = 14  # pixels that two of these names need
TICKS_MAX = 6

STYLES = {  # color, width, dashes
    "raw": ("#444444", 1.6, "5 4"),
    "none": ("#444444", 1.6, "5 4"),
    "varve": ("#1257b8", 2.6, ""),
    "varve, plan": ("#1257b8", 2.6, ""),
    "varve, no plan": ("#1257b8", 1.6, "2 3"),
    "varve-threads": ("#58a0ea", 1.8, ""),
    "file": ("#c0392b", 1.8, ""),
    "file-threads": ("#d98218", 1.8, ""),
    "rocksdb": ("#7a4fb5", 1.8, ""),
    "lmdb": ("#23895f", 1.8, ""),
    "hashlog": ("#b0478a", 1.8, ""),
    "varve get": ("#1257b8", 2.6, ""),
    "varve put": ("#23895f", 2.6, ""),
    "raw read": ("#1257b8", 1.4, "5 4"),
    "raw write": ("#23895f", 1.4, "5 4"),
    "rocksdb-inline": ("#7a4fb5", 1.8, "2 3"),
    "varve, big cache": ("#1257b8", 1.6, "2 3"),
    "extents": ("#1257b8", 2.6, ""),
    "single pages": ("#58a0ea", 1.8, ""),
    "hash order": ("#b0478a", 1.8, ""),
    "locator": ("#1257b8", 1.6, "2 3"),
    "locator, extents": ("#1257b8", 2.6, ""),
    "bloom": ("#c0392b", 1.8, ""),
    "controller": ("#1257b8", 2.6, ""),
    "nominal": ("#58a0ea", 1.8, ""),
    "off": ("#444444", 1.6, "5 4"),
    "bloom, one line": ("#d98218", 1.8, ""),
}
OTHER_STYLE = ("#777777", 1.8, "")


def number(value):
    """A number for people: three digits or so, commas at thousands."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}".rstrip("0").rstrip(".") if abs(value) < 100 \
        else f"{value:.0f}"


def linear_ticks(largest):
    step = 10.0 ** math.floor(math.log10(largest / TICKS_MAX))
    step *= next(factor for factor in (1, 2, 5, 10) if largest / (step * factor) <= TICKS_MAX)
    return [step * i for i in range(math.ceil(largest / step) + 1)]


def log_ticks(smallest, largest):
    return [10.0 ** e for e in range(math.floor(math.log10(smallest)), math.ceil(math.log10(largest)) + 1)]


def spread(places):
    """Where the names go: near the ends of their lines, one below the other."""
    order = sorted(places, key=lambda item: item[1])
    placed = []
    for name, y in order:
        placed.append([name, max(y, placed[-1][1] + LABEL_GAP) if placed else y])
    over = placed[-1][1] - (HEIGHT - BOTTOM) if placed else 0
    for item in reversed(placed if over > 0 else []):
        item[1] = min(item[1], HEIGHT - BOTTOM - LABEL_GAP * (len(placed) - 1 - placed.index(item)))
    return placed


class Axes:
    def __init__(self, count, values, logarithmic):
        self.count = count
        self.log = logarithmic and min(values) > 0
        self.ticks = log_ticks(min(values), max(values)) if self.log else linear_ticks(max(max(values), 1e-9))
        if self.log and len(self.ticks) == 1:
            self.ticks.append(10 * self.ticks[0])

    def x(self, index):
        span = WIDTH - LEFT - RIGHT
        return LEFT + (span / 2 if self.count == 1 else 12 + (span - 24) * index / (self.count - 1))

    def y(self, value):
        low, high = self.ticks[0], self.ticks[-1]
        part = math.log(value / low) / math.log(high / low) if self.log else value / high
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)


def line_parts(axes, name, points):
    """One line: what connects known neighbours, a dot a value, which tells it to the mouse."""
    color, width, dashes = STYLES.get(name, OTHER_STYLE)
    known = [(axes.x(i), axes.y(value), value) for i, value in enumerate(points) if value is not None]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in known)
    yield (f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"'
           + (f' stroke-dasharray="{dashes}"' if dashes else "") + "/>")
    for x, y, value in known:
        yield (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"><title>{html.escape(name)}: {number(value)}'
               "</title></circle>")


def line_plot(title, x_names, lines, y_name, logarithmic=False):
    """An <svg> element; `lines` maps names to one value (or None) for each name along x. Empty text where nothing is known."""
    lines = {name: points for name, points in sorted(lines.items(), key=lambda line: STYLES.get(line[0], OTHER_STYLE)[1])
             if any(value is not None for value in points)}  # the thickest last, on top
    values = [value for points in lines.values() for value in points if value is not None]
    if not values:
        return ""
    axes = Axes(len(x_names), values, logarithmic)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">',
             f'<text x="{LEFT}" y="16" class="title">{html.escape(title)}</text>']
    for tick in axes.ticks:
        y = axes.y(tick) if axes.log or tick else HEIGHT - BOTTOM
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
                     f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for index, name in enumerate(x_names):
        parts.append(f'<text x="{axes.x(index):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{html.escape(name)}</text>')
    parts.append(f'<text transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle">'
                 f"{html.escape(y_name)}</text>")
    ends = []
    for name, points in lines.items():
        parts.extend(line_parts(axes, name, points))
        ends.append((name, axes.y(next(value for value in reversed(points) if value is not None))))
    for name, y in spread(ends):
        color = STYLES.get(name, OTHER_STYLE)[0]
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y + 4:.1f}" fill="{color}">{html.escape(name)}</text>')
    return "".join(parts) + "</svg>"
