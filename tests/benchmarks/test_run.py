"""The runner: what it measures, what it does not measure again, and what it writes."""

import json
import multiprocessing
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

import keras
import pytest
import tensorflow as tf

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import run as runner  # noqa: E402
from records import Missing, Record, Records, Run, made  # noqa: E402
from rendering import Page, Table, error_bars, markdown, percent, spread  # noqa: E402

TABLE = """
    from pathlib import Path
    from records import Run
    from rendering import Page, Table, values

    SEEDS = 2

    def measure(figure):
        with Path("measured.txt").open("a") as file:
            file.write(f"{figure}\\n")
        return {"figure": figure}

    def runs(seed, quick):
        first = yield Run("first", 0, {"quick": quick}, lambda: measure(10))
        yield Run("second", seed, {"from": first["figure"]}, lambda: measure(first["figure"] + seed))

    def page(records):
        rows = [[setting, str(values(records, setting, "figure"))] for setting in ("first", "second")]
        return Page("Two settings", ["Said of them.", Table(["setting", "figures"], rows)])
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A benchmark of two settings in a folder of its own, whose second setting needs the figures of the first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two_settings.py").write_text(textwrap.dedent(TABLE))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(runner, "benchmarks", lambda: ["two_settings"])
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results")
    yield tmp_path
    sys.modules.pop("two_settings", None)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_run_is_a_line_and_a_table_is_made_of_them(table):
    assert runner.main(["two_settings"]) == 0
    lines = lines_of(table / "results/two_settings.jsonl")
    assert [(line["setting"], line["seed"], line["settings"], line["figures"]) for line in lines] == [
        ("first", 0, {"quick": False}, {"figure": 10}),
        ("second", 0, {"from": 10}, {"figure": 10}),
        ("second", 1, {"from": 10}, {"figure": 11}),
    ]
    assert {line["versions"]["keras"] for line in lines} == {version("keras")}
    assert all(line["benchmark"] == "two_settings" and line["seconds"] < 1 for line in lines)
    written = (table / "results/two_settings.md").read_text().split("\n\n")
    assert written[0] == "# Two settings"
    assert written[1].startswith("`python benchmarks/run.py two_settings --seeds 2`: 3 runs; Keras ")
    assert written[2:] == [
        "Said of them.",
        "| setting | figures |\n|---|---|\n| first | [10] |\n| second | [10, 11] |\n",
    ]


def test_a_table_that_was_broken_off_goes_on_where_it_stopped(table):
    runner.main(["two_settings"])
    path = table / "results/two_settings.jsonl"
    kept = path.read_text().splitlines(keepends=True)
    path.write_text("".join(kept[:2]))
    runner.main(["two_settings"])
    assert (table / "measured.txt").read_text().split() == ["10", "10", "11", "11"]
    assert [line["figures"] for line in lines_of(path)] == [{"figure": 10}, {"figure": 10}, {"figure": 11}]


def _shuffled():
    """An order that hangs on the seed of the process too, as all of TensorFlow's do."""
    return {"order": [int(number) for number in tf.data.Dataset.range(20).shuffle(20, seed=1)]}


@pytest.mark.parametrize("seeds", [(0, 1), (1, 0)])
def test_a_run_begins_from_its_seed_whatever_was_run_before_it(seeds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records = Records(tmp_path / "orders.jsonl")
    found = {seed: records.complete(Run("one", seed, {}, _shuffled)).figures for seed in seeds}
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        assert found[seed] == _shuffled()
    assert found[0] != found[1]


def test_other_settings_are_other_runs_and_quick_ones_lie_apart(table):
    runner.main(["two_settings", "--quick"])
    assert not (table / "results").exists()
    assert [line["settings"] for line in lines_of(table / "saved_models/quick/two_settings.jsonl")] == [
        {"quick": True},
        {"from": 10},
    ]
    records = Records(table / "saved_models/quick/two_settings.jsonl")
    with pytest.raises(Missing, match=r"no run of 'first' with seed 0 and settings \{'quick': False\}"):
        records.of(Run("first", 0, {"quick": False}, dict))


def test_no_seeds_are_refused(table, capsys):
    with pytest.raises(SystemExit, match="2"):
        runner.main(["two_settings", "--seeds", "0"])
    assert "--seeds must be at least 1. Received: 0" in capsys.readouterr().err
    assert not (table / "measured.txt").exists()


def test_the_folder_of_data_reaches_the_data_sets(table, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "elsewhere")
    runner.main(["two_settings", "--quick", "--data-dir", "sets"])
    assert runner.os.environ["TFDS_DATA_DIR"] == "sets"


def _come_second(path, came, started):
    def measure():
        started.set()
        return {"by": "the second"}

    came.set()
    Records(path).complete(Run("one", 0, {}, measure))


def test_two_processes_share_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    context = multiprocessing.get_context("spawn")  # a fork of a process with TensorFlow in it may hang
    path, came, started = tmp_path / "shared.jsonl", context.Event(), context.Event()
    records = Records(path)
    other = context.Process(target=_come_second, args=(path, came, started))
    with records.claimed("one_0"):
        other.start()
        assert came.wait(60)
        assert not started.wait(0.3)
        records.add(Record("shared", "one", 0, {}, {"by": "the first"}))
    other.join(10)
    assert other.exitcode == 0
    assert not started.is_set()
    assert [record.figures for record in records] == [{"by": "the first"}]


def test_the_lock_of_another_is_seen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = Records(tmp_path / "a.jsonl"), Records(tmp_path / "a.jsonl")
    with one.claimed("seed_0"), other.claimed("seed_0", wait=False) as had:
        assert not had
    with other.claimed("seed_0", wait=False) as had:
        assert had


def test_what_runs_share_is_made_once_and_whole(tmp_path):
    def break_off(path):
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "models/teacher.keras", break_off)
    assert not (tmp_path / "models/teacher.keras").exists()
    for content in ("first", "second"):
        path = made(tmp_path / "models/teacher.keras", lambda path, content=content: path.write_text(content))
        assert path.read_text() == "first"


def test_numbers_are_written_with_their_spread():
    assert spread([70.0, 72.0, 77.0], 1) == "73.0 ± 3.6"
    assert spread([1234.0], 0) == "1,234"
    assert spread([0.5, 1.5], 1, sign="+") == "+1.0 ± 0.7"
    assert percent([0.5, 0.52]) == "51.00 ± 1.41"


def test_a_page_says_what_it_does_not_know():
    records = [
        Record("old", "a", 0, {}, {}),
        Record("old", "a", 2, {}, {}, seconds=90.0, versions={"keras": "3.15.1", "tensorflow": "2.21.0"}, cores=2),
    ]
    assert markdown(Page("Old", [Table(["a"], [["1"]])]), records) == (
        "# Old\n\n`python benchmarks/run.py old --seeds 3`: 2 runs, 1 of them made before times and versions were "
        "kept; Keras 3.15.1, TensorFlow 2.21.0, 2 cores, 2 minutes in all.\n\n| a |\n|---|\n| 1 |\n"
    )


def test_error_bars_are_means_and_deviations():
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    error_bars(axis, {1.0: [2.0, 4.0], 3.0: [5.0]}, "both")
    line, _, (bars,) = axis.containers[0]
    assert line.get_xydata().tolist() == [[1.0, 3.0], [3.0, 5.0]]
    assert bars.get_segments()[0][:, 1].tolist() == pytest.approx([3 - 2**0.5, 3 + 2**0.5])
    assert bars.get_segments()[1][:, 1].tolist() == [5.0, 5.0]


@pytest.mark.parametrize("path", sorted((FOLDER / "results").glob("*.jsonl")), ids=lambda path: path.stem)
def test_what_is_published_is_what_was_recorded(path):
    benchmark = __import__(path.stem)
    records = runner.recorded(benchmark, Records(path), benchmark.SEEDS, quick=False)
    assert markdown(benchmark.page(records), records) == path.with_suffix(".md").read_text(encoding="utf-8")


def test_every_table_has_its_records():
    assert {path.stem for path in (FOLDER / "results").glob("*.jsonl")} == set(runner.benchmarks())
