"""`keras-kd report`: what an export has left in its folder, as a page to show to others."""

import argparse

from keras_kd.page import write_report


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "report",
        help="make a page of what an export has left",
        description="Writes one HTML file that needs no network: what was distilled from what, what its files cost, "
        "how it answers beside its teacher and how it was trained, with links to the files.",
    )
    parser.add_argument("directory", metavar="DIR", help="folder of an export, with its report.json")
    parser.add_argument("--out", metavar="FILE.html", help="default: DIR/report.html")
    parser.add_argument("--title", metavar="TEXT", help="heading of the page (default: of the student's name)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand and returns its exit code."""
    print(f"Written: {write_report(options.directory, options.out, options.title)}")
    return 0
