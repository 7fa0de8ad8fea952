"""A small checkpoint made by hand, for the tests of what is written and read."""

from __future__ import annotations

import torch

from medcoss_cli.store.checkpoint import Checkpoint


def example(fill: float = 1.0, **modalities: str) -> Checkpoint:
    """A checkpoint whose weights are all `fill`.

    Args:
        modalities: name to distribution; two of this package's own if none is given.
    """
    modalities = modalities or {"xray": "medcoss 0.1.0", "pathology": "medcoss 0.1.0"}
    generator = torch.Generator().manual_seed(0)

    def stored(count: int) -> dict[str, torch.Tensor]:
        integers = torch.randint(0, 255, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
        return {"integers": integers, "scale": torch.ones(count), "offset": torch.zeros(count)}

    return Checkpoint(
        encoder={"width": 8, "depth": 1, "heads": 2, "seed": 0, "masking": {"patches": 0.75, "words": 0.15}},
        tokenizers={"patch2d-4": {"patch": [4, 4], "positions": "sincos"}},
        modalities={
            name: {
                "tokenizer": "patch2d-4",
                "size": [8, 8],
                "dims": 2,
                "channels": 1,
                "pretext": "masked_patches",
                "decoder": {"width": 4},
                "distribution": distribution,
            }
            for name, distribution in modalities.items()
        },
        weights={
            "encoder.cls": torch.full((1, 1, 8), fill),
            "encoder.blocks.0.mlp.fc1.weight": torch.full((32, 8), fill),
            "tokenizers.patch2d-4.weight": torch.full((8, 16), fill),
            "decoders.xray.weight": torch.full((4, 8), fill),
        },
        vocabularies={"words": '{"model": {"vocab": {"lung": 0, "clear": 1}}}'},
        buffer={name: stored(3) for name in modalities},
        anchors={name: {**stored(2), "features": torch.ones(2, 8), "loss": 0.5} for name in modalities},
        history=[
            {
                "stage": number,
                "modality": name,
                "title": "a title",
                "train": 10,
                "steps": 4,
                "rehearsal_steps": 1,
                "strategy": "medcoss",
                "baseline": 2.0,
                "data_hash": "0123456789abcdef",
                "recipe": {"kind": "pretrain", "train": {"epochs": 3}, "stages": [{"epochs": None}, {"epochs": 7}]},
                "versions": {"medcoss": "0.1.0", "torch": "2.10", name: distribution},
                "retention": {
                    earlier: {"cka": 0.9, "loss": 1.0, "loss_then": 1.0, "relative_then": 0.5}
                    for earlier in list(modalities)[:number]
                },
            }
            for number, (name, distribution) in enumerate(modalities.items(), 1)
        ],
        memory={},
    )
