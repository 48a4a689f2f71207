"""A run as a folder: a loop over epochs in Python, each epoch one compiled program.

`train` trains all seeds of an algorithm; `Folder` keeps the log, the checkpoints and the results. `run` trains without
a folder, in one call; `step` replays a step; `plugins.load` registers the members and networks of a file.
"""

from .compiled import State, map_seeds
from .in_memory import Ran, run
from .loop import Trained, train
from .replay import Step, step
from .run_folder import Folder
from .signals import Interrupted

__all__ = ["Folder", "Interrupted", "Ran", "State", "Step", "Trained", "map_seeds", "run", "step", "train"]
