"""A page as a browser sees it, where one is installed, and as a parser does."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
VOID = {"meta", "img", "br", "link", "source"}

_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
_PROBE = """<script>
addEventListener("load", async () => {
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
  const page = document.documentElement, seen = {
    width: innerWidth, needs: page.scrollWidth,
    images: [...document.images].map(image => image.naturalWidth),
    plots: [...document.querySelectorAll("svg.plot")].map(p => p.getBoundingClientRect().width),
    boxes: [...document.querySelectorAll(".wide")].map(box => [box.clientWidth, box.scrollWidth]),
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
  };
  const told = document.createElement("pre");
  told.id = "seen";
  told.textContent = JSON.stringify(seen);
  document.body.append(told);
});
</script>"""


class Reader(HTMLParser):
    """Checks that tags are closed in order; keeps tags with attributes, and texts by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data


def browse(page: Path, work: Path, *, width: int, dark: bool = False) -> tuple[dict[str, Any], str]:
    """What a headless browser makes of a page: measures of a probe, and its console.

    The page is loaded as it is, too, for its console: the probe is a script, which the page's own
    policy forbids.

    Args:
        page: an HTML file.
        work: folder for the browser's files.
        width: of the viewport in CSS pixels.
        dark: whether the user likes dark pages.
    """
    text = page.read_text(encoding="utf-8")
    assert _POLICY.search(text), "the page has to forbid what comes from elsewhere"
    probed = work / "probed.html"
    inner = _POLICY.sub("", text).replace("</head>", f"{_PROBE}</head>")
    # A window of a browser has a least width; a frame inside one has none.
    framed = f'<iframe style="border:0" width="{width}" height="800" srcdoc="{html.escape(inner)}">'
    framed += """</iframe><script>addEventListener("load", () => {
      const frame = document.querySelector("iframe"), wait = setInterval(() => {
        const seen = frame.contentDocument.getElementById("seen");
        if (seen) { clearInterval(wait); document.body.append(seen); }
      }, 20);
    });</script>"""
    probed.write_text(f"<!DOCTYPE html><body>{framed}", encoding="utf-8")
    seen, dom = [], ""
    for _ in range(3):  # a busy machine may end the page's time before all of it is there
        if not seen:
            dom, _ = _run(probed, work, dark=dark)
            seen = re.findall(r'<pre id="seen">(.*?)</pre>', dom)
    assert seen, dom[-2000:]
    _, console = _run(page, work, dark=dark)
    return json.loads(html.unescape(seen[-1])), console


def _run(page: Path, work: Path, *, dark: bool) -> tuple[str, str]:
    """The document after a while, and the lines of the page's own console."""
    assert BROWSER is not None
    command = [
        BROWSER, "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--hide-scrollbars", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=8000",
        f"--user-data-dir={work / 'profile'}", "--window-size=1280,900",
        *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []),
        *(["--no-sandbox"] if os.geteuid() == 0 else []),  # a browser of root has no sandbox
        "--dump-dom", page.resolve().as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, "\n".join(lines)
