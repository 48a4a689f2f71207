"""One page that shows what a run learned: `gather` looks at the trained model, `write` lays it out.

The page is one self-contained file, opened by double click, without scripts; each picture is also a PNG.
"""

from . import chunks, findings, page, sections
from .account import account
from .findings import Findings, gather
from .page import explained, write

__all__ = ["Findings", "account", "chunks", "explained", "findings", "gather", "page", "sections", "write"]
