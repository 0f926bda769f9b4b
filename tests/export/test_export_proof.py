"""What an export proves beside Keras: its teacher, its costs on this host, and the report of them."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_kd as kd
from keras_kd.export import ExportedFile, ExportReport, LiteRTModel, export_student
from keras_kd.export.report import TeacherFigures
from keras_kd.export.teacher_file import TeacherFile
from keras_kd.export.teaching import Asking, teaching_of
from keras_kd.export.timing import cores, host_figures
from keras_kd.signals import Signals

RNG = np.random.default_rng(0)
WIDE = RNG.normal(size=(150, 8)).astype("float32")
X = {"narrow": WIDE[:, :6].copy(), "wide": WIDE}
Y = WIDE[:, :3].argmax(1)


def dense(name, columns, classes):
    return keras.Sequential([keras.Input((columns,), name=name), layers.Dense(classes, name="scores")], name=name)


@pytest.fixture(scope="module")
def taught():
    """A distiller whose student sees one part of the inputs, its teacher the other."""
    keras.utils.set_random_seed(0)
    teacher = kd.Teacher(dense("wide", 8, 3), inputs=["wide"])
    return kd.Distiller(dense("narrow", 6, 3), teacher, student_inputs=["narrow"])


@pytest.fixture(scope="module")
def exported(taught, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proof")
    forms = {"formats": "tflite", "quantize": ("float32", "int8"), "tolerances": {"int8": 0}}
    return export_student(taught, folder, **forms, representative_data=X, evaluation_data=(X, Y)), folder


def named(model, x):
    kernel, bias = model.layers[-1].get_weights()
    return (x @ kernel + bias).argmax(1)


def test_agreement_with_the_teacher_equals_numpy(taught, exported):
    report, _ = exported
    student, teacher = named(taught.student, X["narrow"]), named(taught.teacher.model, X["wide"])
    assert 0 < np.mean(student == teacher) < 1
    assert report.keras_teacher_agreement == np.mean(student == teacher)
    assert (report.teacher.name, report.teacher.parameters) == ("wide", 27)
    assert report.teacher.accuracy == np.mean(teacher == Y)
    for file in report.files:
        said = LiteRTModel(file.path)(X["narrow"]).argmax(1)
        assert file.teacher_agreement == np.mean(said == teacher)
        assert file.agreement == np.mean(said == student)
        assert file.accuracy == np.mean(said == Y)


def test_the_teachers_own_file_is_measured_and_not_kept(exported):
    report, folder = exported
    names = ["evaluation.json", "report.json", "student.tflite", "student_int8.tflite"]
    assert sorted(path.name for path in folder.iterdir()) == names
    file = report.teacher.file
    assert (file.path.name, file.accuracy, file.agreement, file.examples) == (
        *("teacher.tflite", report.teacher.accuracy, 1.0, 150),
    )
    assert file.max_abs_difference < 1e-5
    # 27 weights in float32, and what else a file of one layer holds.
    assert 27 * 4 < file.gzip_bytes < file.size_bytes < 5000
    assert 0 < file.latency_ms_median <= file.latency_ms_p95


def test_a_teacher_that_is_given_says_what_that_of_the_distiller_says(taught, exported, tmp_path):
    report, folder = exported
    other = export_student(taught.student, tmp_path, formats="tflite", evaluation_data=(X, Y), teacher=taught.teacher)
    assert other.keras_teacher_agreement == report.keras_teacher_agreement
    assert other.teacher.accuracy == report.teacher.accuracy
    assert other.teacher.file.size_bytes == report.teacher.file.size_bytes
    documents = [json.loads((path / "evaluation.json").read_text()) for path in (folder, tmp_path)]
    assert documents[0] == documents[1]


def test_some_teachers_have_no_file_of_their_own(taught, tmp_path):
    model = taught.teacher.model
    for teacher, why in [
        (kd.Teacher(model, preprocess=lambda x: x), "its `preprocess` is no part of the model"),
        (kd.Ensemble([model, model]), "there are several"),
        (kd.Teacher(lambda x: x), "it is no Keras model"),
    ]:
        with pytest.raises(ValueError, match=f"^{why}$"):
            TeacherFile(teacher, X["wide"], tmp_path)
    figures = TeacherFigures("wide+wide", 54, 0.5, None, "there are several")
    report = ExportReport("narrow", 21, None, (), teacher=figures)
    assert report.to_dict()["teacher"] == {"name": "wide+wide", "parameters": 54, "accuracy": 0.5, "file": None}
    assert "Teacher wide+wide, 54 parameters, accuracy in Keras 0.5000; no file of it: there are several" in str(report)


class Says(layers.Layer):
    """A teacher that says the same of everything."""

    def __init__(self, said):
        super().__init__()
        self.said = dict(said) if isinstance(said, dict) else list(said)
        self.built = True

    def call(self, x, training=False):
        return self.said


def asked(said, student):
    return Asking(teaching_of(None, Says(said)))(X["wide"][:4], student)[0]


def test_outputs_are_shared_by_name_or_by_place(taught):
    scores = {name: RNG.normal(size=(4, 5, 3)).astype("float32") for name in ("color", "shape")}
    zeros = {name: np.zeros((4, 5, 3)) for name in ("shape", "color", "size")}
    shared = asked(scores, Signals(zeros, zeros, keyed=True))
    assert sorted(shared) == ["color", "shape"]
    np.testing.assert_array_equal(shared["shape"], scores["shape"])
    shared = asked(scores.values(), Signals(None, {name: zeros[name] for name in ("shape", "color")}, keyed=False))
    np.testing.assert_array_equal(shared["shape"], scores["color"])
    one = Signals(None, {"y": np.zeros((4, 3))}, keyed=False)
    with pytest.raises(ValueError, match=r"`teacher` must .* the teacher's outputs output_0 \(4, 7\) are none of"):
        asked([np.zeros((4, 7))], one)
    with pytest.raises(ValueError, match=r"`export_student`: the teacher must give numbers.* NaN or infinity in 'y'"):
        asked([np.full((4, 3), np.nan)], one)
    with pytest.raises(ValueError, match=r"^`export_student`: `teacher` must be a Keras model.* Received: 5"):
        teaching_of(taught.student, 5)


def test_a_distillers_teacher_need_not_fit_the_evaluation_data(taught, tmp_path):
    report = export_student(taught, tmp_path, formats="tflite", evaluation_data=(X["narrow"], Y))
    assert report.files[0].accuracy == np.mean(named(taught.student, X["narrow"]) == Y)
    assert (report.keras_teacher_agreement, report.teacher.accuracy, report.teacher.file) == (None, None, None)
    assert "no file of it: `Teacher`: `inputs`: `x` has no ['wide']" in str(report)
    with pytest.raises(ValueError, match=r"`teacher` must take the inputs of `evaluation_data`.* no \['wide'\]"):
        export_student(
            taught.student, tmp_path, formats="tflite", evaluation_data=(X["narrow"], Y), teacher=taught.teacher
        )


def test_peak_memory_holds_the_weights(tmp_path):
    big = keras.Sequential([keras.Input((1000,), name="x"), layers.Dense(10_000, kernel_initializer="ones")])
    (file,) = export_student(big, tmp_path, formats="tflite").files
    figures = host_figures(file.path, {"x": np.ones((1, 1000), "float32")})
    assert file.size_bytes > 40e6
    assert 1 <= figures["peak_memory_bytes"] / file.size_bytes < 3
    # 40 MB to read, at no more than 400 GB in a second.
    assert 0.1 < figures["latency_ms_median"] <= figures["latency_ms_p95"]
    assert 0.1 < figures["latency_ms_median_threads"] <= figures["latency_ms_p95_threads"]


def test_a_process_that_fails_says_why(exported):
    report, _ = exported
    with pytest.raises(RuntimeError, match=r"measures student.tflite must end well\. Received: exit code 1: ."):
        host_figures(report.files[0].path, {"narrow": np.zeros((1, 7), "float32")})


def test_dataframe_holds_the_figures(exported):
    report, _ = exported
    frame = report.to_dataframe()
    assert list(frame.index) == ["student.tflite", "student_int8.tflite", "teacher.tflite"]
    assert list(frame["accuracy"]) == [*(file.accuracy for file in report.files), report.teacher.accuracy]
    assert frame.loc["student_int8.tflite", "size_bytes"] == report.files[1].path.stat().st_size
    assert frame.loc["teacher.tflite", "peak_memory_bytes"] == report.teacher.file.peak_memory_bytes


def test_picture_has_a_point_for_each_file(exported):
    report, _ = exported
    sizes, latencies = report.plot().axes
    files = [*report.files, report.teacher.file]
    assert [line.get_label() for line in sizes.lines] == ["float32", "int8", "teacher"]
    for file, by_size, by_latency in zip(files, sizes.lines, latencies.lines, strict=True):
        assert by_size.get_xydata().tolist() == [[file.size_bytes / 1000, file.accuracy]]
        assert by_latency.get_xydata().tolist() == [[file.latency_ms_median, file.accuracy]]
    unmeasured = ExportReport("s", 1, None, (ExportedFile(files[0].path, "tflite", "float32", 9),))
    with pytest.raises(ValueError, match=r"`ExportReport.plot`: there must be files with an accuracy"):
        unmeasured.plot()


def test_table_has_the_teacher_last_and_fits_a_screen(exported):
    report, _ = exported
    lines = str(report).splitlines()
    title, header, first, *_ = lines
    agreement = f"{report.keras_teacher_agreement:.4f}"
    assert title.endswith(f"accuracy in Keras {report.keras_accuracy:.4f}, agreement with the teacher {agreement}")
    column = header.index("with teacher") + len("with teacher")
    assert first[column - 6 : column] == f"{report.files[0].teacher_agreement:.4f}"
    assert (lines[4].split()[0], lines[4][column - 2 : column]) == ("teacher.tflite", " -")
    assert lines[5] == f"Teacher wide, 27 parameters, accuracy in Keras {report.teacher.accuracy:.4f}"
    assert f"this host's ({cores()} core" in lines[6]
    assert "`litert-benchmark --model student.tflite --num_threads 1`" in lines[7]
    assert max(map(len, lines[:6])) <= 140
    plain = ExportReport("s", 1, None, (ExportedFile(report.files[0].path, "tflite", "float32", 1200),))
    assert str(plain).splitlines()[1:] == ["file            bytes  batch", "student.tflite  1,200    any"]


@pytest.mark.parametrize("given", [False, True])
def test_a_teacher_of_the_students_inputs_is_asked_behind_the_preprocessing(given, tmp_path):
    keras.utils.set_random_seed(1)
    student, teacher = dense("student", 8, 3), dense("teacher", 8, 3)
    raw = np.round(100 * WIDE)
    x = raw / 100 - 1.0
    owner, options = (student, {"teacher": teacher}) if given else (kd.Distiller(student, teacher), {})
    report = export_student(
        owner,
        tmp_path,
        formats="tflite",
        evaluation_data=(raw, Y),
        preprocess=lambda values: values / 100 - 1.0,
        **options,
    )
    said = named(teacher, x)
    assert report.teacher.accuracy == report.teacher.file.accuracy == np.mean(said == Y)
    assert report.keras_teacher_agreement == np.mean(named(student, x) == said)
    assert (report.metadata["preprocess"], report.metadata["softmax"]) == (True, False)
