"""Where the templates and the handwritten firmware are: in a checkout, or in the wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_DATA = _PACKAGE / "_data"
_ROOT = _DATA if _DATA.is_dir() else _PACKAGE.parent

TEMPLATES = _ROOT / "templates"
RUNTIME = _ROOT / "firmware" / "runtime"
COMMON = _ROOT / "firmware" / "common"
BOARDS = _ROOT / "firmware" / "boards"
CORES = _ROOT / "firmware" / "cores"
