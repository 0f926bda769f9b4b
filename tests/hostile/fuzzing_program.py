"""Fuzzes one parser with atheris, which follows the code that bytes lead to: NAME FOLDER [options of libFuzzer].

As `python -m tests.hostile.fuzzing_program "manifest of a cache" DIR -max_total_time=60`. What breaks the parser lies
in DIR afterwards, and the process ends with a code other than 0.
"""

import os
import sys
from pathlib import Path

FOLLOWED = [
    "keras_kd.cache",
    "keras_kd.cli",
    "keras_kd.data",
    "keras_kd.export.metadata",
    "keras_kd.page",
    "keras_kd.plots",
]
FOLLOWED += ["json", "csv", "zipfile", "ast"]


def main(name, folder, *options):
    import atheris  # not there for every Python and system, and pytest imports this file to look for doctests

    with atheris.instrument_imports(include=FOLLOWED):
        from tests.hostile.parsers import PARSERS
    (Path(folder) / "read").mkdir(parents=True)
    parser = PARSERS[name](Path(folder) / "read")
    seeds = Path(folder) / "seeds"
    seeds.mkdir()
    (seeds / "sound").write_bytes(parser.sound)
    found = f"-artifact_prefix={folder}{os.sep}"
    arguments = [sys.argv[0], *options, found, "-timeout=10", "-rss_limit_mb=4096", os.fspath(seeds)]
    atheris.Setup(arguments, parser, enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
