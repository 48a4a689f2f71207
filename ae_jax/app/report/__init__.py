"""The report of a run, one page: `gather` computes the findings with the trained model, `write` lays them out.

The page is one self-contained file without scripts, opened by double click. Each picture is also a PNG file.
"""

from . import chunks, findings, page, sections
from .account import account
from .findings import Findings, gather
from .page import explained, write

__all__ = ["Findings", "account", "chunks", "explained", "findings", "gather", "page", "sections", "write"]
