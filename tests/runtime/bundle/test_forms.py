"""The table of graph forms: which files a bundle has, and which of them every reader gets."""

from __future__ import annotations

import pytest

from spm_rt.bundle import FORMS, STAGES
from spm_rt.bundle.forms import form_for, forms_of, graph_file, graph_precision, graphs_of, own_form
from spm_rt.precision import PRECISIONS

ON_CPUS = {
    "ONNX Runtime on CPUs": "template_fast_expanded search_fast_expanded relation_fast",
    "OpenVINO": "template_flat search_fast relation_fast",
    "OpenVINO in bfloat16 with AMX": "template_flat search_plain relation_fast",
}
ON_GPUS = {
    "ONNX Runtime on GPUs": "template search relation",
    "TensorRT": "template search relation",
    "TensorRT for RTX": "template search relation",
    "TensorRT before 10.7": "template_flat search relation_flat",
}


def files(reader: str, precision: str) -> str:
    form = form_for(reader)
    return " ".join(graph_file(stage, own_form(stage, form, precision), 1).removesuffix(".onnx") for stage in STAGES)


@pytest.mark.parametrize(("reader", "expected"), {**ON_CPUS, **ON_GPUS}.items())
def test_readers_get_these_files(reader: str, expected: str) -> None:
    assert files(reader, "float32") == expected
    if reader in ON_GPUS:
        assert {files(reader, precision) for precision in PRECISIONS} == {expected}
    int8 = expected.replace("relation_fast", "relation_fast_expanded") if reader == "ONNX Runtime on CPUs" else expected
    assert files(reader, "int8") == int8


def test_every_form_has_a_reader_and_every_reader_one_form() -> None:
    readers = [reader for form in FORMS.values() for reader in form.readers]
    assert sorted(readers) == sorted({**ON_CPUS, **ON_GPUS})
    assert all(form.readers for form in FORMS.values())
    with pytest.raises(ValueError, match="unpack"):
        form_for("a library that nobody knows")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_is_run_by_somebody(precision: str) -> None:
    given = {
        (stage, own_form(stage, form_for(reader), precision))
        for reader in ({**ON_CPUS, **ON_GPUS} if PRECISIONS[precision].for_cpus else ON_GPUS)
        for stage in STAGES
    }
    assert given == set(graphs_of(precision))


@pytest.mark.parametrize(("precision", "number"), [("float32", 10), ("int8", 11), ("float16", 5), ("bfloat16", 5)])
def test_a_bundle_has_so_many_graphs_and_each_its_own_file(precision: str, number: int) -> None:
    names = {graph_file(stage, form, targets) for stage, form in graphs_of(precision) for targets in (1, 2)}
    assert len(names) == 2 * number
    assert {form.name for form in forms_of(precision)} == {form for _, form in graphs_of(precision)}


def test_files_for_several_targets_say_so() -> None:
    assert graph_file("search", "portable", 1) == "search.onnx"
    assert graph_file("search", "fast_expanded", 16) == "search_t16_fast_expanded.onnx"


def test_what_stays_float32_in_int8_bundles() -> None:
    floats = {pair for pair in graphs_of("int8") if graph_precision(*pair, "int8") == "float32"}
    assert floats == {pair for pair in graphs_of("int8") if pair[0] == "template"} | {("search", "plain")}
    assert {graph_precision(*pair, "float16") for pair in graphs_of("float16")} == {"float16"}
