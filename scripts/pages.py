"""Hooks for mkdocs: the pages of the site that are not in docs/, and links from its pages to files of the repository.

README.md is the first page, and results/README.md is the page of results. The gallery comes from results/*.json. The
table of families, and the members on each family's page (between the lines `<!-- members -->` and `<!-- /members -->`),
come from the registry. The API comes from docstrings, and the tutorials from notebooks with their outputs. Pages link
to files as on GitHub, such as `../experiments/made.py`; in the site this file is a page below source/. Pictures and
records are copied.
"""

import base64
import json
import os
import posixpath
import re
from pathlib import Path
from typing import Any

import exactness
import table
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from ae_jax.algorithms import MEMBERS, Member

ROOT = Path(__file__).resolve().parents[1]
HOMES = {"index.md": "README.md", "results.md": "results/README.md", "families/index.md": "README.md"}
FOLDERS = {  # a folder in a link -> the page that replaces it in the site
    "results": "results.md",
    "experiments": "gallery.md",
    "docs": "index.md",
    "docs/families": "families/index.md",
}
LINK = re.compile(r"(\]\()([^()\s#:]+)((?:#[^()\s]*)?\))")
COPIED = (".json", ".png", ".jpg")
SHOWN = 4  # numbers shown with a picture of the gallery
MARKER, END = "<!-- members -->", "<!-- /members -->"


def home(page: str) -> str:
    """The file of the repository to which a page's links are relative."""
    return HOMES.get(page, f"docs/{page}")


def packages() -> dict[str, list[str]]:
    """The pages of the API with their modules: a page for each folder, and a page for the files beside the folders."""
    modules = {"core": []}
    for file in sorted((ROOT / "ae_jax").rglob("*.py")):
        *folders, name = file.relative_to(ROOT).with_suffix("").parts
        if name == "__main__" or (folders[1:2] == ["algorithms"] and name != "__init__"):
            continue  # a member is on its family's page
        module = ".".join(folders if name == "__init__" else [*folders, name])
        modules.setdefault(folders[1] if len(folders) > 1 else "core", []).append(module)
    modules["core"].sort(key=lambda module: (module != "ae_jax", module != "ae_jax.core", module))
    return modules


def api() -> dict[str, str]:
    """The pages of the API by their place in the site."""
    pages = {}
    for name, modules in packages().items():
        title = "ae_jax" if name == "core" else f"ae_jax.{name}"
        note = ["Members have pages by [family](../families/index.md).", ""] * (name == "algorithms")
        bodies = [f"::: {module}\n" for module in modules]
        pages[f"api/{name}.md"] = "\n".join([f"# {title}", "", *note, *bodies])
    return pages


def gallery() -> str:
    """The page with every experiment's picture and its leading numbers."""
    lines = [
        "# Gallery",
        "",
        "Every experiment's picture and leading numbers; [results](../results/README.md) has all.",
    ]
    for e in table.experiments_of(ROOT / "results"):
        published, claims = e.get("published", {}), e.get("claims", {})
        first = [label for label in (table.LEADS.get(table.source(e)),) if label]
        labels = [*first, *(label for label in table.order(e) if label not in first and label in e["metrics"])][:SHOWN]
        rows = [table.cells(head) for head in table.RESULTS_HEAD]
        for label in labels:
            metric, paper = e["metrics"][label], published.get(label)
            judged = table.verdict(metric["mean"], paper, claims.get(label))
            there = table.plain(paper["value"]) if paper else ""
            rows.append(table.cells((label, there, table.interval(metric), judged)))
        links = f"[all numbers](../results/README.md#{e['name']}), [experiment](../experiments/{table.source(e)}.py)"
        picture = [f"![{e['title']}](../results/{e['picture']})", ""] if "picture" in e else []
        lines += [
            "",
            f"## {e['title']}{table.size(e)}",
            "",
            f"{e['source']}. {len(e['seeds'])} seeds: {links}.",
            "",
            *picture,
            *rows,
        ]
    return "\n".join([*lines, ""])


def member(entry: Member) -> str:
    """A member's part of its family's page."""
    name, d = entry.make.__name__, entry.defaults
    options = ", ".join(f"`{key}={value!r}`" for key, value in {**d.network, **d.hyper}.items())
    pretraining = f", after {d.pretraining:,} of pretraining" if d.pretraining else ""
    used = ", ".join(f"[{e}](../../experiments/{e}.py)" for e in table.experiments_with(name, ROOT))
    return "\n".join(
        [
            f"## {name} {{: #{name} }}",
            "",
            "```bash",
            f"scripts/ae-jax train {name} --data digits",
            "```",
            "",
            f"Defaults: {d.latents} latents, {d.updates:,} updates{pretraining}, batches of {d.batch_size}, Adam's "
            f"learning rate {d.lr:g}{'; ' + options if options else ''}. Behind them: {d.why}",
            "",
            *([f"Experiments: {used}.", ""] if used else []),
            f"::: ae_jax.algorithms.{name}",
            "    options: {show_root_heading: false, show_root_toc_entry: false, heading_level: 2}",
            "",
        ]
    )


def families(text: str, name: str) -> str:
    """A family's page with its members between the markers. Raises ValueError without members or markers."""
    members = [member(entry) for entry in MEMBERS if entry.family == name]
    before, _, rest = text.partition(MARKER)
    _, closed, after = rest.partition(END)
    if not (members and closed):
        raise ValueError(
            f"docs/families/{name}.md needs the lines {MARKER} and {END}, and a member with family={name!r}"
        )
    return "\n".join([before, *members, after])


def source(path: str) -> str:
    """A file of the repository as a page."""
    suffix = Path(path).suffix
    language = {".py": "python", ".toml": "toml"}.get(suffix, "bash" if path.startswith("scripts/") else "text")
    head, fence = f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n", "`" * 6
    return f"{head}{fence}{language}\n{(ROOT / path).read_text()}\n{fence}\n"


def text_of(lines: str | list[str]) -> str:
    """A text of a notebook, which may be stored as a list of lines."""
    return lines if isinstance(lines, str) else "".join(lines)


def notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook of docs/tutorials as a page's text, and the pictures of its outputs by name."""
    pictures: dict[str, bytes] = {}
    fence = "`" * 6

    def shown(output: dict[str, Any]) -> str:
        data = output.get("data", {})
        if png := data.get("image/png"):
            name = f"{path.stem}-{len(pictures)}.png"
            pictures[name] = base64.b64decode(png)
            return f"![Output of the code above]({name})"
        if "text/markdown" in data:
            return text_of(data["text/markdown"])
        text = text_of(output.get("text", data.get("text/plain", "")))
        return f'{fence}text title="Output"\n{text.rstrip()}\n{fence}'

    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = text_of(cell["source"])
        code = cell["cell_type"] == "code"
        parts.append(f"{fence}python\n{source}\n{fence}" if code else source)
        parts += [shown(output) for output in cell.get("outputs", ())]
    note = f'<a href="{path.name}" download>Download this page as a notebook</a>; [how to run it](index.md).'
    title, _, rest = parts[0].partition("\n")
    return "\n\n".join([title, note, rest, *parts[1:], ""]), pictures


def place(target: str) -> str | None:
    """The place in the site of a file or folder of the repository; None if the site has no page of it."""
    back = {file: page for page, file in reversed(HOMES.items())}
    if target in back or target in FOLDERS:
        return back.get(target) or FOLDERS[target]
    if target.startswith("docs/"):
        return re.sub(r"\.ipynb$", ".md", target.removeprefix("docs/"))
    if (ROOT / target).is_dir():
        folder = target.removeprefix("ae_jax").strip("/") or "core"
        return f"api/{folder}.md" if target.startswith("ae_jax") else None
    if not (ROOT / target).is_file():
        return None
    return target if target.endswith(COPIED) else f"source/{target}.md"


def targets(text: str, page: str) -> dict[str, str]:
    """The links in a page's text to the repository, with the files that they name."""
    folder = posixpath.dirname(home(page))
    return {link: posixpath.normpath(posixpath.join(folder, link)) for _, link, _ in LINK.findall(text)}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the pages of the API to the menu."""
    assert config.nav is not None
    config.nav.append({"API": [f"api/{name}.md" for name in packages()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that this module makes, and the files to which pages link."""
    missing = sorted({entry.family for entry in MEMBERS} - {p.stem for p in (ROOT / "docs" / "families").glob("*.md")})
    if missing:
        raise ValueError(f"there is no docs/families/{missing[0]}.md: write it, and add it to mkdocs.yml")
    made: dict[str, str] = {
        "index.md": (ROOT / "README.md").read_text(),
        "results.md": (ROOT / "results" / "README.md").read_text(),
        "gallery.md": gallery(),
        "exactness.md": exactness.page(),
        "families/index.md": "\n".join(["# Families", "", *table.members_table(ROOT), ""]),
        **api(),
    }
    for file in files.documentation_pages():
        if file.src_uri.startswith("families/"):
            made[file.src_uri] = families(file.content_string, Path(file.src_uri).stem)
    for path in (ROOT / "docs" / "tutorials").glob("*.ipynb"):
        made[f"tutorials/{path.stem}.md"], pictures = notebook(path)
        for name, content in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    texts = {file.src_uri: file.content_string for file in files.documentation_pages()} | made
    for page, text in texts.items():
        for target in targets(text, page).values():
            where = place(target)
            if where and where.startswith("source/"):
                made[where] = source(target)
            elif where and where == target and files.get_file_from_path(where) is None:
                files.append(File.generated(config, where, abs_src_path=str(ROOT / target)))
    for page, text in made.items():
        if old := files.get_file_from_path(page):
            files.remove(old)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Replaces links to files of the repository by links within the site."""
    here = page.file.src_uri
    if here.startswith("source/"):
        return markdown
    places = {link: place(target) for link, target in targets(markdown, here).items()}

    def within(match: re.Match[str]) -> str:
        begin, link, end = match.groups()
        where = places[link]
        return match[0] if where is None else begin + os.path.relpath(where, posixpath.dirname(here) or ".") + end

    return LINK.sub(within, markdown)
