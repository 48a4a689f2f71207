"""The data in a folder: the files that are read, their splits and classes, and a line on files left out."""

import contextlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from unicodedata import normalize

from ..errors import warn
from .dataset import DataError
from .disk import is_projected, is_run, suffix
from .tables import NAMES, is_table, of_splits, split_of

Kind = Literal["images", "texts", "arrays", "tables"]

TEXTS = (".txt", ".text", ".md")
# names of text files about the data, which are not data
ABOUT = ("readme", "license", "licence", "copying", "copyright", "notice", "citation", "authors", "changelog")


class Listed(NamedTuple):
    """The files below a folder."""

    files: list[Path]  # in the order of their names, without `own`
    own: list[Path]  # files and folders that ae_jax wrote
    folders: list[Path]  # all folders that were searched


class FolderContent(NamedTuple):
    """The files of one kind in a folder."""

    roots: dict[str, Path]  # the folder of each split
    files: dict[str, list[Path]]  # of each split, in the order of their names
    left_out: list[str]  # descriptions of the files and folders left out
    notes: list[str]  # further lines to print

    def tell(self) -> None:
        """Prints a line on stderr for the files left out, and one for each note."""
        for line in [f"left out: {'; '.join(self.left_out)}"] * bool(self.left_out) + self.notes:
            warn(line)


def image_suffixes() -> frozenset[str]:
    """The suffixes of files that Pillow can open."""
    from PIL import Image

    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)


def is_own(folder: Path) -> bool:
    """Whether ae_jax wrote a folder: a run, or codes for the Embedding Projector."""
    return is_run(folder) or is_projected(folder)


def listed(root: Path) -> Listed:
    """The files below a folder, without hidden files and folders, and without those that ae_jax wrote.

    Links to folders elsewhere are followed. Links to folders in `root`, or to its parents, would repeat files, and are
    not followed.
    """
    files, own, folders, top = [], [], [], root.resolve()

    def around(folder: Path) -> bool:
        to = folder.resolve()
        return to.is_relative_to(top) or top.is_relative_to(to)

    def walk(folder: Path, linked: tuple[Path, ...]) -> None:
        folders.append(folder)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{folder} cannot be read ({error.strerror}); make it readable, or move it away") from error
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                sprite = entry.name == "sprite.png" and is_projected(folder)
                (own if sprite else files).append(path)
            elif is_own(path):
                own.append(path)
            elif not entry.is_symlink():
                walk(path, linked)
            elif not around(path) and path.resolve() not in linked:
                walk(path, (*linked, path.resolve()))

    walk(root, ())
    return Listed(sorted(files), own, folders)


def readable() -> frozenset[str]:
    """The suffixes of all files that are data in a folder: images, texts and arrays."""
    return image_suffixes() | {*TEXTS, ".npy"}


def files_read(source: Path) -> list[Path]:
    """The file itself, or all data files below a folder, of any kind; see `listed`."""
    if not source.is_dir():
        return [source]
    kinds, tables = readable(), [*tables_in(source).values()]
    return [file for file in listed(source).files if suffix(file) in kinds or file in tables]


def would_read(source: Path, path: Path) -> bool:
    """Whether a file at `path`, which need not exist, would be read with the source: as data in its folder, or as the
    labels of its .npy file.

    Data of any kind count, since an array beside images changes how the folder is read. Links are resolved.
    """
    places = {path.parent.resolve() / path.name, path.resolve()}
    if not source.is_dir():
        return suffix(source) == ".npy" and source.resolve().with_suffix(".labels.npy") in places
    if any(place.parent == source.resolve() and split_of(place) for place in places) and tables_in(source):
        return True
    if all(suffix(place) not in readable() for place in places):
        return False
    folders = {folder.resolve() for folder in listed(source).folders}
    for place in places:
        there = next(folder for folder in place.parents if folder.is_dir())
        if there in folders and not any(part.startswith(".") for part in place.relative_to(there).parts):
            return True
    return False


def tell_left_out(root: Path, kind: Kind) -> None:
    """Prints a line on stderr for the files that `listed` and `text_files` leave out."""
    there = listed(root)
    if left := _own(there.own, root) + (_described(_without_about(there.files)[1], root) if kind == "texts" else []):
        warn(f"left out: {'; '.join(left)}")


def _own(paths: Sequence[Path], root: Path) -> list[str]:
    return [f"what ae-jax wrote ({some(paths, root)})"] * bool(paths)


def _described(texts: Sequence[Path], root: Path) -> list[str]:
    return [f"{many(len(texts), 'texts')} about the data ({some(texts, root)})"] * bool(texts)


def _without_about(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(texts that are data, texts about the data) among files, by their names, also in class folders.

    If every text has such a name as README, all texts are data.
    """
    texts = [p for p in files if suffix(p) in TEXTS]
    data = [p for p in texts if not _about(p)]
    return (data, [p for p in texts if _about(p)]) if data else (texts, [])


def text_files(path: Path) -> list[Path]:
    """The text files below a folder, without texts about the data; see `listed`."""
    return _without_about(listed(path).files)[0]


def visible_files(root: Path, suffixes: Collection[str]) -> list[Path]:
    """The files with these suffixes anywhere below a folder, in the order of their names; see `listed`."""
    return [file for file in listed(root).files if suffix(file) in suffixes]


def _sorted_by_kind(files: Sequence[Path]) -> dict[Kind, list[Path]]:
    """The files of each kind."""
    images = image_suffixes()
    return {
        "images": [p for p in files if suffix(p) in images],
        "texts": [p for p in files if suffix(p) in TEXTS],
        "arrays": [p for p in files if is_array(p)],
    }


def is_array(file: Path) -> bool:
    """Whether a file has the name of an array of examples; NAME.labels.npy holds labels."""
    return suffix(file) == ".npy" and not file.name.lower().endswith(".labels.npy")


def _about(file: Path) -> bool:
    return file.stem.lower() in ABOUT


def some(things: Sequence[Path | str], root: Path, most: int = 3) -> str:
    """The first `most` names of files or folders, relative to `root`, as text."""
    names = [str(p.relative_to(root)) if isinstance(p, Path) else p for p in things[:most]]
    return ", ".join(names) + ", ..." * (len(things) > most)


def many(count: int, what: str) -> str:
    """A count with its noun: `1 image`, `2 images`, `1 .npy file`."""
    what = {"images": "image", "texts": "text", "arrays": ".npy file"}.get(what, what)
    return f"{count} {what}{'s' * (count != 1)}"


def kind_of(path: Path) -> Kind:
    """The kind of data in a folder: images, texts, arrays or tables; images for a folder without data.

    Texts beside arrays, or beside at least as many images, are taken as descriptions. Raises DataError if either of two
    kinds could be the data: arrays beside images, or images beside more texts.
    """
    if is_run(path):
        raise DataError(f"{path} is the folder of a run, which holds no data: name a folder or file of data")
    there = listed(path).files
    kinds = _sorted_by_kind(there)
    kinds["texts"], _ = _without_about(kinds["texts"])
    images = kinds["images"]
    if (tables := [file for file in there if is_table(file)]) and not images and not kinds["arrays"]:
        texts = [text for text in kinds["texts"] if not _about(text)]
        if len(texts) <= len(tables) and of_splits([file for file in tables if file.parent == path]):
            return "tables"
        if not texts:
            raise DataError(
                f"{path} holds tables ({some(tables, path)}), and none is called train: name one, {tables[0]}, or "
                "rename the tables of the splits, to train and test"
            )
    other: Kind = "arrays" if kinds["arrays"] else "texts"
    if images and (kinds["arrays"] or len(kinds["texts"]) > len(images)):
        raise DataError(
            f"{path} holds {many(len(kinds[other]), other)} ({some(kinds[other], path)}) and "
            f"{many(len(images), 'images')} ({some(images, path)}): move one kind to another folder, or name a folder "
            "or file with one kind"
        )
    return "arrays" if kinds["arrays"] else "texts" if kinds["texts"] and not kinds["images"] else "images"


def tables_in(path: Path) -> dict[str, Path]:
    """The tables of the splits in a folder, such as train.csv and test.csv; {} for a file or a folder of other data."""
    if not os.path.isdir(path) or is_run(path):  # Path.is_dir raises for words longer than a name may be
        return {}
    parts = of_splits(sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")))
    return parts if parts and kind_of(path) == "tables" else {}


def table_of(path: Path) -> Path:
    """The path itself; for a folder of tables, the table that commands read: that of test, or else of train."""
    parts = tables_in(path)
    return parts.get("test", parts["train"]) if parts else path


def split_folders(path: Path, files: Sequence[Path]) -> dict[str, Path]:
    """The folder of each split, among the folders of `files`. Without any, `path` itself is the folder of train.

    Raises DataError for two folders of one split, and for a test or validation split without a train split.
    """
    below = {file.relative_to(path).parts[0] for file in files if len(file.relative_to(path).parts) > 1}
    below |= {p.name for p in path.iterdir() if p.is_dir() and p.name.lower() in NAMES["train"] and not is_own(p)}
    roots = {}
    for split, names in NAMES.items():
        called = sorted(name for name in below if name.lower() in names)
        if len(called) > 1:
            raise DataError(f"{path} has {len(called)} folders for {split}, {', '.join(called)}: leave one")
        if called:
            roots[split] = path / called[0]
    if roots and "train" not in roots:
        held = ", ".join(root.name for root in roots.values())
        raise DataError(
            f"{path} has the folder {held} and no folder train: move the training examples into a folder train, "
            f"or give {held} another name if it is a class"
        )
    # an empty test or validation folder is a split without files
    for split in ("test", "validation") if roots else ():
        empty = [p for p in path.iterdir() if p.is_dir() and p.name.lower() in NAMES[split] and not is_own(p)]
        if split not in roots and empty:
            roots[split] = sorted(empty)[0]
    return roots or {"train": path}


def look(path: Path, kind: Kind) -> FolderContent:
    """The files of one kind in a folder, by split. Raises DataError for files beside a lone folder `train`.

    Subfolders `train` and `test` (and `valid`) are the splits. Left out are folders that ae_jax wrote, files of other
    kinds, texts about the data, and files beside the splits.
    """
    there = listed(path)
    kinds = _sorted_by_kind(there.files)
    mine, left_out, notes = kinds[kind], [], []
    roots = split_folders(path, mine)
    if kind == "arrays":  # only files directly in the folder of a split
        deep = [p for p in mine if p.parent not in roots.values()]
        mine = [p for p in mine if p.parent in roots.values()]
        left_out += [f"{many(len(deep), kind)} in folders below ({some(deep, path)})"] * bool(deep)
    if kind == "texts":
        mine, about = _without_about(mine)
        left_out += _described(about, path)
    files = {split: [p for p in mine if p.is_relative_to(root)] for split, root in roots.items()}
    inside = {p for of in files.values() for p in of}
    if outside := [p for p in mine if p not in inside]:
        beside = f"{many(len(outside), kind)} ({some(outside, path)})"
        if len(roots) == 1:
            (train,) = roots.values()
            raise DataError(
                f"{path} has a folder {train.name} and {beside} beside it: move the files into it or out of {path}, or "
                f"give {train.name} another name if it is a class"
            )
        left_out.append(f"{beside} in no split")
    for other in kinds:
        strange = [p for p in kinds[other] if not (other == "texts" and _about(p))]
        if other != kind and strange:
            left_out.append(f"{many(len(strange), other)} ({some(strange, path)})")
    packed = [p for p in there.files if suffix(p) == ".npz"]  # `load` reads a .npz by its own path only
    left_out += [f"{many(len(packed), '.npz file')} ({some(packed, path)})"] * bool(packed)
    left_out += _own(there.own, path)
    if kind == "images":
        notes += _of_pages(mine, path)
    if kind != "arrays":
        notes += _of_classes(roots, files, left_out, kind)
    return FolderContent(roots, files, left_out, notes)


def _of_pages(images: Sequence[Path], root: Path, most: int = 20) -> list[str]:
    """A note on images of several pages, of which the first is read, if there is one among the first `most` that can
    have several.
    """
    from PIL import Image

    for file in [file for file in images if suffix(file) in (".tif", ".tiff", ".gif")][:most]:
        with contextlib.suppress(Exception), Image.open(file) as opened:  # a broken file is told when it is read
            if (pages := getattr(opened, "n_frames", 1)) > 1:
                name = some([file], root)
                return [f"note: {name} has {pages} images, and the first one of a file is read: save each as a file"]
    return []


def _of_classes(roots: dict[str, Path], files: dict[str, list[Path]], left_out: list[str], kind: Kind) -> list[str]:
    """Notes on classes that train lacks; adds folders without files to `left_out`."""
    classes = {split: {_class(p, roots[split]) for p in found} - {None} for split, found in files.items()}
    if not any(classes.values()):
        return []
    empty = [
        f"{root.name}/{p.name}" if len(roots) > 1 else p.name
        for split, root in roots.items()
        for p in sorted(root.iterdir())
        if p.is_dir() and not p.name.startswith(".") and not is_own(p)
        if normalize("NFC", p.name) not in classes[split] and not any(file.is_relative_to(p) for file in files[split])
        if not listed(p).own
    ]
    if empty:
        left_out.append(f"{'folders' if len(empty) > 1 else 'a folder'} without {kind} ({', '.join(empty[:3])})")
    return [
        f"note: {', '.join(sorted(map(str, missing)))} in {split} is no class of train: nothing can learn it"
        for split, of in classes.items()
        if (missing := of - classes["train"])
    ]


def _class(file: Path, root: Path) -> str | None:
    """The class of a file, the name of its folder in the split's folder; None for a file directly in that folder."""
    parts = file.relative_to(root).parts
    return normalize("NFC", parts[0]) if len(parts) > 1 else None


def class_labels(roots: dict[str, Path], files: dict[str, list[Path]]) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """The names of the class folders, and for each split the label of every file; both are empty without class folders.

    Raises DataError if some files are directly in the folder of their split and others in class folders.
    """
    names = {split: [_class(p, roots[split]) for p in found] for split, found in files.items()}
    direct = [p for split, found in files.items() for p in found if _class(p, roots[split]) is None]
    if len(direct) == sum(map(len, files.values())):
        return (), {}
    if direct:
        where = ", ".join(str(root) for root in roots.values())
        raise DataError(
            f"{where}: some files lie directly there ({', '.join(p.name for p in direct[:3])}"
            f"{', ...' * (len(direct) > 3)}) and others in class folders: move all or none into class folders"
        )
    classes = tuple(sorted({str(name) for found in names.values() for name in found}))
    place = {name: label for label, name in enumerate(classes)}
    return classes, {split: [place[str(name)] for name in found] for split, found in names.items()}
