"""A plugin for pytest: what is kept goes to the folder MUTANT_CACHE, not to that of the real tree."""

import os
from pathlib import Path

from xdpguard.kernel import kept

kept.FOLDER = Path(os.environ["MUTANT_CACHE"])
