"""The site builds without a warning, has every member and module, and loads nothing from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ae_jax.algorithms import MEMBERS

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocs", reason="the extra docs is not installed")


class Loaded(HTMLParser):
    """The addresses that a page loads by itself."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.found.append(attrs.get("src"))
        elif tag == "link" and attrs.get("rel") in ("stylesheet", "preconnect", "icon", "prefetch", "preload"):
            self.found.append(attrs.get("href"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Building documentation" in done.stderr, "a warning is an error only where it is logged"
    return folder


@pytest.mark.slow
def test_the_site_has_every_member_experiment_and_module(site):
    for member in MEMBERS:
        page = (site / "families" / f"{member.family}.html").read_text()
        name = member.make.__name__
        assert f'id="{name}"' in page
        assert f'id="ae_jax.algorithms.{name}.{name}"' in page
    gallery = (site / "gallery.html").read_text()
    results = (site / "results.html").read_text()
    for picture in (ROOT / "results").glob("*.json"):
        if (ROOT / "experiments" / picture.name).with_suffix(".py").exists():
            assert f'id="{picture.stem}"' in results
            assert f"results.html#{picture.stem}" in gallery
    for module in ("core", "networks.mlp", "data.dataset", "training.loop", "evaluation.probes"):
        assert f'id="ae_jax.{module}"' in (site / "api" / f"{module.split('.')[0]}.html").read_text()


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert loaded.found
        for address in filter(None, loaded.found):
            assert not re.match(r"(https?:)?//", address), f"{page} loads {address}"
            if page.name != "404.html" and not address.startswith("data:"):
                assert (page.parent / address.split("?")[0]).exists(), f"{page} loads {address}, which is not there"


@pytest.mark.slow
def test_a_family_without_a_page_or_a_marker_is_refused():
    code = "import sys; sys.path.insert(0, 'scripts'); import pages; pages.families('# A family', 'plain')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "docs/families/plain.md needs the lines <!-- members --> and <!-- /members -->" in done.stderr
