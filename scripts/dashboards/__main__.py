"""`python scripts/dashboards [FOLDER]` writes deploy/grafana/dashboards; a test compares the files with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from form import form
from host import HOST
from model import MODEL
from overview import OVERVIEW
from tenant import TENANT

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboards"
BOARDS = (OVERVIEW, MODEL, TENANT, HOST)


def files() -> dict[str, str]:
    """The dashboards by their file names."""
    return {f"{b.uid}.json": json.dumps(form(b, BOARDS), indent=1, ensure_ascii=False) + "\n" for b in BOARDS}


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
