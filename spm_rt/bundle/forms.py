"""The forms in which a bundle holds the graphs of its stages: what each is, and who runs it.

Every form computes the same, but in int8 bundles some stay float32. The exporter writes, the verification compares and
:class:`spm_rt.bundle.Bundle` finds what this table names; :mod:`spm_export.graphs.forms` has the function that builds
each of them.
"""

from __future__ import annotations

import dataclasses

from ..precision import PRECISIONS

STAGES = ("template", "search", "relation")


@dataclasses.dataclass(frozen=True)
class GraphForm:
    """One way to write the graphs.

    Attributes:
        name: what ``variant`` is in :meth:`spm_rt.bundle.Bundle.graph`, and after the stage in the file's name.
        content: what its graphs are, in words.
        readers: who runs it.
        stages: stages that have a graph of their own in this form.
        int8_stages: the same in int8 bundles.
        otherwise: the form whose graph stands in for the other stages.
        for_cpus: whether it is for CPUs: feature maps go from graph to graph channels last, int8 has zero points.
            Bundles of float16 and bfloat16 have no such form.
    """

    name: str
    content: str
    readers: tuple[str, ...]
    stages: tuple[str, ...]
    int8_stages: tuple[str, ...] = ()
    otherwise: str = ""
    for_cpus: bool = False

    def stages_in(self, precision: str) -> tuple[str, ...]:
        """The stages that have a graph of their own in a bundle of this precision."""
        return (self.int8_stages or self.stages) if precision == "int8" else self.stages


FORMS = {
    form.name: form
    for form in (
        GraphForm(
            "portable",
            "standard operators, and the RoI operator as one node of our own with a function as its body",
            ("TensorRT", "TensorRT for RTX", "ONNX Runtime on GPUs"),
            STAGES,
        ),
        GraphForm(
            "flat",
            "portable with the function's body in place of the node: standard operators only",
            ("TensorRT before 10.7",),
            ("template", "relation"),
            otherwise="portable",
        ),
        GraphForm(
            "plain",
            "fast with ordinary convolutions, in float32 in int8 bundles too",
            ("OpenVINO in bfloat16 with AMX",),
            ("search",),
            otherwise="fast",
            for_cpus=True,
        ),
        GraphForm(
            "fast",
            "fewer multiplications (Winograd, a trimmed first kernel), maps channels last, RoI samples gathered; in "
            "int8 bundles ordinary convolutions in int8",
            ("OpenVINO",),
            ("search", "relation"),
            otherwise="flat",
            for_cpus=True,
        ),
        GraphForm(
            "fast_expanded",
            "fast with LRN as an average pool over channels and two square roots; in int8 bundles rounded on all sides",
            ("ONNX Runtime on CPUs",),
            ("template", "search"),
            int8_stages=STAGES,
            otherwise="fast",
            for_cpus=True,
        ),
    )
}
"""Name -> form."""


def form_for(reader: str) -> str:
    """The form that a library runs, by its name in ``GraphForm.readers``."""
    (name,) = (form.name for form in FORMS.values() if reader in form.readers)
    return name


def forms_of(precision: str) -> tuple[GraphForm, ...]:
    """The forms in a bundle of this precision."""
    return tuple(form for form in FORMS.values() if PRECISIONS[precision].for_cpus or not form.for_cpus)


def own_form(stage: str, form: str, precision: str) -> str:
    """The form whose graph serves a stage: ``form`` itself, or the one that stands in for it there."""
    while stage not in FORMS[form].stages_in(precision):
        form = FORMS[form].otherwise
    return form


def graphs_of(precision: str) -> tuple[tuple[str, str], ...]:
    """Stage and form of every graph in a bundle of this precision."""
    return tuple(
        (stage, form.name) for stage in STAGES for form in forms_of(precision) if stage in form.stages_in(precision)
    )


def graph_precision(stage: str, form: str, precision: str) -> str:
    """What a graph computes in: in an int8 bundle the template and the plain form stay float32."""
    return "float32" if precision == "int8" and (stage == "template" or form == "plain") else precision


def graph_file(stage: str, form: str, targets: int) -> str:
    """The name of a graph's file."""
    several = "" if targets == 1 else f"_t{targets}"
    return f"{stage}{several}{'' if form == 'portable' else f'_{form}'}.onnx"
