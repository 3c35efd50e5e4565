"""Execute the notebook from top to bottom, in place (``make notebook``)."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

if __name__ == "__main__":  # typed as `python training/notebook.py`, from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airquality.ground import command

_EXAMPLES = """\
examples:
  make notebook   in the environment of this checkout, from the top to the bottom

exit status: 0 done, 1 failure, 2 wrong usage
"""
PATH = Path(__file__).resolve().parent / "model_training.ipynb"


def execute(path: Path = PATH) -> None:
    """Run every cell in the folder above the notebook's and keep the outputs; a cell that fails raises."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    local = Config({"KernelManager": {"transport": "ipc"}})  # a socket file: nobody else on the machine can listen
    folder = {"metadata": {"path": str(path.parent.parent)}}
    NotebookClient(notebook, timeout=600, resources=folder, config=local).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day: they differ at every execution
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    command.parser("python training/notebook.py", __doc__ or "", _EXAMPLES).parse_args(argv)
    return command.run("training/notebook.py", _run)


def _run() -> None:
    execute()
    print(f"executed {PATH.name}")


if __name__ == "__main__":
    sys.exit(main())
