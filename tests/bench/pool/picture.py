"""Bars, as SVG that can be read in light and in dark."""

from __future__ import annotations

from html import escape

Group = tuple[str, list[tuple[str, float]]]

WIDTH, LEFT, ROW = 720, 250, 26

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #14181c; }
  .head { font-weight: 600; } .own { fill: #1a66c9; } .other { fill: #aab4be; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8ecf0; } .own { fill: #78aef5; } .other { fill: #59636e; }
  }
"""


def bars(groups: list[Group]) -> str:
    """Draw requests per second, each language in its own scale, the pool's bars in colour."""
    lines: list[str] = []
    y = 0
    for language, ways in groups:
        y += ROW
        lines.append(f'<text class="head" x="8" y="{y}">{escape(language)}</text>')
        y += 8
        most = max(rate for _, rate in ways)
        for name, rate in ways:
            length = (WIDTH - LEFT - 70) * rate / most
            kind = "own" if name.startswith("sendfd") else "other"
            lines.append(
                f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{escape(name)}</text>'
            )
            lines.append(
                f'<rect class="{kind}" x="{LEFT}" y="{y + 3}" width="{length:.0f}"'
                f' height="{ROW - 6}" rx="3"/>'
            )
            lines.append(f'<text x="{LEFT + length + 6:.0f}" y="{y + 17}">{rate:.0f}</text>')
            y += ROW
    height = y + 10
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' aria-label="Requests per second, a new connection for each">'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", *lines, "</svg>", ""])
