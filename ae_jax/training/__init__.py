"""A run as a folder: epochs in Python, everything inside one compiled.

`train` trains all seeds of an algorithm; `Folder` keeps the log, the checkpoints and the results.
"""

from .compiled import State, map_seeds
from .loop import Trained, train
from .run_folder import Folder
from .signals import Interrupted

__all__ = ["Folder", "Interrupted", "State", "Trained", "map_seeds", "train"]
