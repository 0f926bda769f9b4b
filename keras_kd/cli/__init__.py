"""The `keras-kd` command: one module for each subcommand."""

import argparse
import sys
from collections.abc import Sequence

from keras_kd.cli import adversarial, cache, chain, demo, distill, export, multimodal, report
from keras_kd.wording import one_line


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `keras-kd`.

    Args:
        arguments: The words of the command line. Defaults to those of the process.

    Returns:
        The exit code: 0; 2 after bad input, told in one line; 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="keras-kd", description="Knowledge distillation for Keras, to the phone.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (demo, distill, adversarial, chain, multimodal, cache, export, report):
        command.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("\nkeras-kd: interrupted.", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"keras-kd {options.command}: {one_line(error)}", file=sys.stderr)
        return 2
