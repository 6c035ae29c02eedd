"""The report in a real browser, on a wide and on a narrow screen."""

import re
import shutil
import subprocess

import pytest

from hesrl.experiments.reports.report import Args, main
from tests.experiments.stores import records, write_store

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
MEASURE = """
<script>
addEventListener("load", () => {
  const images = [...document.images].filter(i => i.complete && i.naturalWidth > 0).length;
  document.title = [innerWidth, document.documentElement.scrollWidth, images].join(" ");
});
</script></body>
"""


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium to open the page in")
@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_fits_the_screen_and_shows_its_figures(tmp_path, width):
    store = write_store(tmp_path / "sweep", records())
    main(Args(store=store, figures=False))
    measured = tmp_path / "measured.html"
    page = (store / "report" / "report.html").read_text()
    measured.write_text(page.replace("</body>", MEASURE))
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom",
        measured.as_uri(),
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", run.stdout)
    inner, needed, images = map(int, found.groups())
    assert inner == width and needed <= inner and images == 6
