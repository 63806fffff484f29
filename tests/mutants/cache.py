"""A plugin for pytest: compiled programs go to the folder MUTANT_CACHE, not to those of the real tree."""

import os
from pathlib import Path

from xdpguard.kernel import compile

compile.CACHE = Path(os.environ["MUTANT_CACHE"])
