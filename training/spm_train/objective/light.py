"""The light model's parts of the network, run the way training needs them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spm_export.model.backbones import ConvNorm, Lite0
from spm_export.model.coarse import CoarseOutput, PixelStage
from spm_export.model.network import center_crop

FEW = 4
"""Crops that frozen layers are given at once on a CPU."""


class Norms:
    """How norms normalise: by their running values, or in a step of training by what they see first.

    That is the search crops of a batch, and the templates after them are normalised by the same: alike things have to
    look alike. A network that learns from random weights needs the values of the batch; running ones lag behind.

    Args:
        momentum: by which the running values move towards those of the batch; 0: they normalise, and stay.
    """

    def __init__(self, momentum: float = 0.0) -> None:
        self._momentum = momentum
        self._seen: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}

    def __call__(self, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        """``x`` normalised."""
        mean, variance, weight, bias = norm.running_mean, norm.running_var, norm.weight, norm.bias
        if self._momentum and norm not in self._seen:
            out, seen, inverse = torch.native_batch_norm(
                x, weight, bias, mean, variance, True, self._momentum, norm.eps
            )
            self._seen[norm] = seen.detach(), inverse.detach() ** -2 - norm.eps
            return out
        if self._momentum:
            mean, variance = self._seen[norm]
        return F.batch_norm(x, mean, variance, weight, bias, eps=norm.eps)

    def layer(self, layer: ConvNorm, x: Tensor) -> Tensor:
        """A layer's convolution, norm and activation."""
        return F.relu6(self(layer.norm, layer.convolution(x)))


def maps(net: Lite0, image: Tensor, embedding_cells: int, norms: Norms) -> tuple[Tensor, Tensor, Tensor]:
    """The fine stage's two maps of mean-free crops, and the central cells of the coarse stage's."""
    shallow, deep = levels(net, image)
    shallow, deep = norms.layer(net.lateral_shallow, shallow), norms.layer(net.lateral_deep, deep)
    deep = F.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=False)
    around = torch.cat([center_crop(each, embedding_cells + 2) for each in (shallow, deep)], dim=1)
    top = norms.layer(net.top_depthwise, norms.layer(net.top_project, around))
    return shallow, deep, center_crop(top, embedding_cells)


def levels(net: Lite0, image: Tensor) -> tuple[Tensor, Tensor]:
    """EfficientNet's cells of stride 8 and 16.

    Parts without gradient see a few crops at a time: their large maps stay in the processor's cache.
    """
    image = image.contiguous(memory_format=torch.channels_last)
    few = FEW if image.device.type == "cpu" else len(image)
    if net.stem.weight.requires_grad:
        return net.levels(net.entry(image))
    if any(value.requires_grad for value in net.blocks.parameters()):
        return net.levels(torch.cat([net.entry(part) for part in torch.split(image, few)]))
    shallow, deep = zip(*(net.levels(net.entry(part)) for part in torch.split(image, few)), strict=True)
    return torch.cat(shallow), torch.cat(deep)


def compare(stage: PixelStage, templates: Tensor, searches: Tensor, template_of: Tensor, norms: Norms) -> CoarseOutput:
    """The coarse stage for P pairs: search embedding ``pair % B`` with the template ``template_of[pair]``.

    A search embedding is mixed in once for all its templates.
    """
    count, (height, width) = len(searches), searches.shape[2:]
    kernels, bias = (value.index_select(0, template_of) for value in stage.kernels(templates))
    flat = searches.flatten(2).repeat(len(template_of) // count, 1, 1)
    response = torch.baddbmm(bias[..., None].to(flat.dtype), kernels.to(flat.dtype), flat)
    response = norms(stage.norm, response.reshape(*response.shape[:2], height, width))
    weight, cells = stage.mix.convolution.weight, response.shape[1]
    own = F.conv2d(searches, weight[:, cells:])
    mixed = F.conv2d(response, weight[:, :cells])
    x = F.relu6(norms(stage.mix.norm, mixed + own.repeat(len(mixed) // count, 1, 1, 1)))
    x = norms.layer(stage.tower, norms.layer(stage.gather, x))
    return CoarseOutput(stage.classify(x).float(), stage.regress(x).float())
