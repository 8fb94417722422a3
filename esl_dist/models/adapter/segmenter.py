"""VFM-UDA++'s network (Englert et al., 2025): DINOv2 with a ViT-Adapter and a pyramid head, under the published key
names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from esl_dist.config.transformers import DinoV2Config
from esl_dist.models.adapter.interaction import Geometry, Interaction, SpatialPrior, as_map, norm, tokens
from esl_dist.models.adapter.pyramid import PyramidHead
from esl_dist.models.dinov2 import GRID, SHAPES, TINY, DinoV2, patch_grid
from esl_dist.models.initial import normal
from esl_dist.models.resize import resized
from esl_dist.models.segmenter import Outputs
from esl_dist.models.stochastic import number_places
from esl_dist.models.transformer import IMAGENET, Divided, check_classes
from esl_dist.models.vfm import ENLARGED, LightHead, VfmUda, depth_in, size_of
from esl_dist.models.vit import Shape

UNIT = 224
"""Sides of the enlarged image are multiples of it: of 14 for the patches and of 32 for the coarsest map."""
QUARTERS = 4
CLASSIFIER_SPREAD = 0.1
ADDED = ("level_embed", "spm.", "interactions.", "up.", "norm1.", "norm2.", "norm3.", "norm4.")
"""What the adapter adds to the encoder's parameters: they learn as the decoder does."""


class VfmUdaPlus(Divided):
    """Logits at a quarter of the enlarged image's side: 280x280 for 1024x1024, which is enlarged to 1120x1120."""

    output_stride = 4

    def __init__(
        self, num_classes: int, shape: Shape, drop_path: float = 0.0, checkpointing: bool = False, grid: int = GRID
    ) -> None:
        super().__init__()
        check_classes("VfmUdaPlus", num_classes)
        self.num_classes, self.feature_channels, self.normalisation = num_classes, shape.dim, IMAGENET
        self.encoder = AdaptedViT(shape, drop_path=drop_path, checkpointing=checkpointing, grid=grid)
        self.upscale = PyramidHead(shape.dim)
        self.out = nn.Conv2d(shape.dim // 8, num_classes, 1, bias=False)
        self.draws = number_places(self)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps of C channels at strides 4, 8, 16 and 32 of the enlarged image."""
        enlarged = resized(images, enlarged_size(images.shape))
        return self.encoder.pyramid(enlarged)

    def decode(self, maps: Sequence[Tensor]) -> Outputs:
        return Outputs(self.out(self.upscale(maps)), None)

    def attention_head(self) -> nn.Module:
        """On the map at stride 16."""
        return LightHead(self.feature_channels, self.num_classes, level=2)

    def output_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """1024 rows give 280."""
        h, w = enlarged_size(size_hw)
        return h // 4, w // 4

    def feature_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """1024 rows give 35."""
        h, w = enlarged_size(size_hw)
        return h // 32, w // 32

    def depth_of(self, name: str) -> int | None:
        return depth_in(name, self.encoder.shape.depth, ADDED)

    def describe(self) -> str:
        return f"VFM-UDA++: {size_of(self.encoder)} with a ViT-Adapter, pyramid head"

    def forward_order(self) -> Iterator[nn.Parameter]:
        """The parameters as the forward comes to them."""
        yield from self.encoder.forward_order()
        yield from self.upscale.parameters()
        yield from self.out.parameters()

    def draw(self, generator: torch.Generator) -> None:
        normal(self.out.weight, CLASSIFIER_SPREAD, generator)


class AdaptedViT(DinoV2):
    """DINOv2 whose patches exchange with a pyramid of maps around every quarter of its blocks; without mask token and
    last norm, as published.
    """

    def __init__(self, shape: Shape, drop_path: float = 0.0, checkpointing: bool = False, grid: int = GRID) -> None:
        super().__init__(shape, drop_path=drop_path, checkpointing=checkpointing, grid=grid)
        if shape.depth % QUARTERS or shape.dim % 64:
            raise ValueError(
                f"AdaptedViT: needs multiples of {QUARTERS} blocks and 64 channels, not {shape.depth} and {shape.dim}"
            )
        self.mask_token = None
        del self.norm
        self.level_embed = nn.Parameter(torch.zeros(3, shape.dim))
        self.spm = SpatialPrior(shape.dim)
        self.interactions = nn.ModuleList(Interaction(shape.dim, extra=i == QUARTERS - 1) for i in range(QUARTERS))
        self.up = nn.ConvTranspose2d(shape.dim, shape.dim, 2, stride=2)
        self.norm1, self.norm2, self.norm3, self.norm4 = (norm(shape.dim) for _ in range(4))

    def pyramid(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images ``[N, 3, H, W]``, sides multiples of 224, to maps of C channels at strides 4, 8, 16 and 32."""
        first, *coarser = self.spm(images)
        sizes = [(x.shape[2], x.shape[3]) for x in coarser]
        geometry = Geometry.of(patch_grid(images), (sizes[0], sizes[1], sizes[2]), images.device)
        maps = torch.cat([tokens(x) + level for x, level in zip(coarser, self.level_embed, strict=True)], dim=1)
        x = self.embedded(images)
        read = []
        for quarter, interaction in enumerate(self.interactions):
            assert isinstance(interaction, Interaction)
            patches = self.kept(interaction.injector, x[:, 1:], maps, geometry)
            x = torch.cat([x[:, :1], patches], dim=1)
            for i in range(self.shape.depth // QUARTERS):
                x = self.block(quarter * (self.shape.depth // QUARTERS) + i, x)
            maps = self.kept(interaction.extract, maps, x[:, 1:], geometry)
            read.append(as_map(x[:, 1:], geometry.patches))
        second, third, fourth = (
            as_map(part, grid) for part, grid in zip(maps.split([h * w for h, w in sizes], dim=1), sizes, strict=True)
        )
        levels = (self.up(second) + first, second, third, fourth)
        norms = (self.norm1, self.norm2, self.norm3, self.norm4)
        return tuple(
            normalise(level + resized(own, (level.shape[2], level.shape[3])))
            for normalise, level, own in zip(norms, levels, read, strict=True)
        )

    def forward_order(self) -> Iterator[nn.Parameter]:
        """The parameters as the forward comes to them."""
        yield from self.spm.parameters()
        yield self.level_embed
        yield from (*self.patch_embed.parameters(), self.cls_token, self.pos_embed)
        for quarter, interaction in enumerate(self.interactions):
            assert isinstance(interaction, Interaction)
            yield from interaction.injector.parameters()
            size = self.shape.depth // QUARTERS
            yield from self.blocks[quarter * size : (quarter + 1) * size].parameters()
            yield from interaction.extractor.parameters()
            yield from interaction.extras()
        yield from self.up.parameters()
        for layer in (self.norm1, self.norm2, self.norm3, self.norm4):
            yield from layer.parameters()

    def draw(self, generator: torch.Generator) -> None:
        """Levels N(0, 1), the rest as DINOv2's."""
        super().draw(generator)
        normal(self.level_embed, 1.0, generator)


def enlarged_size(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns that an image of ``[..., H, W]`` is resized to: 1.1 times its own, to the nearest ``UNIT``."""
    h, w = (max(1, round(side * ENLARGED / UNIT)) * UNIT for side in shape[-2:])
    return h, w


def build(options: DinoV2Config, num_classes: int) -> VfmUda | VfmUdaPlus:
    """The network of ``model.dinov2``."""
    shape, grid = (TINY, 5) if options.encoder == "tiny" else (SHAPES[options.encoder], GRID)
    if options.decoder == "pyramid":
        return VfmUdaPlus(num_classes, shape, options.drop_path, options.checkpointing, grid)
    soma = (options.soma_rank, options.soma_first) if options.soma_rank else None
    return VfmUda(num_classes, shape, options.drop_path, options.checkpointing, grid, soma)
