"""The training path computes what the reference model computes."""

from __future__ import annotations

import copy

import pytest
import torch

from spm_export.model.backbones import AlexNet
from spm_export.model.coarse import correlate
from spm_export.model.network import SPMTracker, center_crop, flatten_deltas
from spm_train.objective import light, network
from spm_train.objective.convolution import small_convolution
from spm_train.objective.lrn import local_response_norm


@pytest.fixture(scope="module")
def model() -> SPMTracker:
    torch.manual_seed(5)
    model = SPMTracker().eval()
    with torch.no_grad():
        for name, value in model.fine.named_buffers():
            if name.endswith(("mean", "var")):
                value.uniform_(*((-0.1, 0.1) if name.endswith("mean") else (0.5, 2)))
    return model


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 271, 271), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@torch.no_grad()
def test_both_stages_equal_the_reference(either_model: SPMTracker) -> None:
    model, index, side = either_model, torch.arange(2), either_model.spec.crop_size
    crops = torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    reference = model.features(crops.float())
    kernels = model.coarse.kernels(model.template_embedding(reference))
    expected = model.coarse(kernels, model.search_embedding(reference))
    found = network.match(model, crops, crops, index)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-4)
    deltas = flatten_deltas(expected.deltas)
    torch.testing.assert_close(found.deltas, deltas, atol=1e-4 * float(deltas.abs().max()), rtol=1e-4)

    boxes = torch.tensor([[[100.0, 90, 170, 180], [-20.0, 200, 60, 280], [130.0, 130, 140, 142]]] * 2)
    target_box = torch.tensor([[[104.0, 104, 167, 167]]] * 2)
    target = model.fine.roi_features(reference, target_box)[:, 0]
    expected_fine = model.fine(target, model.fine.roi_features(reference, boxes))
    z, x = found.template, found.search
    targets = network.roi_features(model, network.normalized(model, z), target_box, z.offset)[:, 0]
    proposals = network.roi_features(model, network.normalized(model, x), boxes, x.offset).flatten(0, 1)
    logits, moved = network.fine(model, targets, proposals, torch.tensor([0, 0, 0, 1, 1, 1]))
    torch.testing.assert_close(logits.reshape(2, 3, 2), expected_fine.logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(moved.reshape(2, 3, 4), expected_fine.deltas, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_in_training_a_batch_normalises_itself_and_its_templates(light_model: SPMTracker) -> None:
    model, one = copy.deepcopy(light_model), torch.arange(1)
    crops = torch.rand(2, 3, 255, 255, generator=torch.Generator().manual_seed(2)) * 255
    before = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    network.match(model, crops[:1], crops[1:], one)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers() if name in before)
    found = network.match(model, crops[:1], crops[1:], one, momentum=1.0)
    moved = {name for name, value in model.named_buffers() if name in before and not torch.equal(value, before[name])}
    assert moved == {name for name in before if not name.startswith("fine.")}
    # Now the running values are those of the batch, and give what it gave; their variance is over n - 1 values.
    again = network.match(model, crops[:1], crops[1:], one)
    torch.testing.assert_close(again.template.embedding, found.template.embedding, atol=0.02, rtol=0.02)
    torch.testing.assert_close(again.logits, found.logits, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("trained", ["", "backbone.blocks.2", "backbone.blocks.1"])
def test_the_light_backbones_cells_are_the_same_whatever_is_frozen(trained: str, light_model: SPMTracker) -> None:
    model = copy.deepcopy(light_model)
    for name, value in model.named_parameters():
        value.requires_grad_(bool(trained) and name.startswith(trained))
    image = torch.rand(5, 3, 47, 47, generator=torch.Generator().manual_seed(3)) * 255 - 127
    found = light.levels(model.backbone, image)
    for mine, plain in zip(found, model.backbone.levels(model.backbone.entry(image)), strict=True):
        torch.testing.assert_close(mine, plain, atol=1e-4, rtol=1e-4)
        assert mine.requires_grad == bool(trained)


@torch.no_grad()
def test_a_small_template_crop_has_the_same_centre(model: SPMTracker, crops: torch.Tensor) -> None:
    full = network.features(model, crops, 6)
    small = network.features(model, center_crop(crops, 143), 6)
    assert small.offset == 8
    torch.testing.assert_close(small.embedding, full.embedding, atol=1e-5, rtol=1e-3)


@torch.no_grad()
def test_a_small_search_crop_has_the_same_cells_and_anchors(model: SPMTracker, crops: torch.Tensor) -> None:
    full = network.features(model, crops, 24)
    small = network.features(model, center_crop(crops, 207), 16)
    # The outermost ring sees a little of the crop's padding (the receptive field is 87 pixels, 5.4 cells each way).
    torch.testing.assert_close(center_crop(small.embedding, 14), center_crop(full.embedding, 14), atol=1e-5, rtol=1e-3)
    grid = model.anchors.reshape(19, 19, 5, 4)[4:15, 4:15].reshape(-1, 4)
    torch.testing.assert_close(network.search_anchors(model, 207), grid)
    torch.testing.assert_close(network.search_anchors(model, 271), model.anchors)


def test_frozen_layers_get_no_gradient_and_the_others_do(crops: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = SPMTracker()
    for layer in (model.backbone.conv1, model.backbone.conv2):
        layer.requires_grad_(False)
    maps = network.features(model, center_crop(crops, 143), 6)
    (maps.embedding.sum() + maps.deep.sum()).backward()
    trained = {name for name, value in model.backbone.named_parameters() if value.grad is not None}
    assert trained == {f"conv{layer}.{kind}" for layer in (3, 4, 5) for kind in ("weight", "bias")}


def test_correlation_as_a_product_equals_the_models() -> None:
    generator = torch.Generator().manual_seed(2)
    search = torch.randn(3, 8, 14, 14, generator=generator)
    kernels = torch.randn(3, 10, 8, 4, 4, generator=generator)
    torch.testing.assert_close(network.correlate_by_product(search, kernels), correlate(search, kernels))


def test_normalisation_and_its_gradient_are_those_of_the_plain_one() -> None:
    x = (
        torch.randn(2, 9, 3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 200
    ).requires_grad_()
    pooled = torch.nn.functional.max_pool2d(x, 3, stride=2, padding=1)
    (expected,) = torch.autograd.grad(AlexNet.pool_and_normalize(x).square().sum(), x)
    (found,) = torch.autograd.grad(network.pool_and_normalize(x).square().sum(), x)
    torch.testing.assert_close(network.pool_and_normalize(x), AlexNet.pool_and_normalize(x))
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(local_response_norm, pooled.detach().requires_grad_())


def test_kernels_as_a_product_equal_the_models_with_all_gradients(model: SPMTracker) -> None:
    embedding = torch.randn(2, 256, 6, 6, generator=torch.Generator().manual_seed(4), requires_grad=True)
    bias = model.coarse.template_regress.bias
    assert bias is not None
    inputs = embedding, model.coarse.template_classify.weight, bias
    results = []
    for kernels in (model.coarse.kernels(embedding), network.coarse_kernels(model.coarse, embedding)):
        loss = kernels.classify.square().sum() + kernels.regress.square().sum()
        results.append([kernels.classify, kernels.regress, *torch.autograd.grad(loss, inputs)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_pairs_are_compared_with_the_templates_that_were_asked_for(model: SPMTracker) -> None:
    generator = torch.Generator().manual_seed(5)
    embedding, templates = (torch.randn(2, 256, side, side, generator=generator) for side in (9, 6))
    kernels, template_of = network.coarse_kernels(model.coarse, templates), torch.tensor([0, 1, 1, 0])
    found = network.coarse(model.coarse, kernels, embedding, template_of)
    each = [k.index_select(0, template_of) for k in kernels]
    expected = model.coarse(type(kernels)(*each), embedding.repeat(2, 1, 1, 1))
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.deltas, expected.deltas, atol=1e-4, rtol=1e-4)


def test_the_small_convolutions_gradients_are_the_plain_ones() -> None:
    generator = torch.Generator().manual_seed(6)
    shapes = (2, 3, 4, 5), (6, 3, 3, 3)
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    plain = torch.nn.functional.conv2d(*inputs, padding=1)
    expected = torch.autograd.grad(plain.sin().sum(), inputs)
    found = small_convolution(*inputs)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(torch.autograd.grad(found.sin().sum(), inputs), expected)
    assert torch.autograd.gradcheck(small_convolution, inputs)
