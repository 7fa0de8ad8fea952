import torch
from hypothesis import given
from hypothesis.strategies import integers

from medcoss_cli.model.mixup import mix_images, mix_words
from medcoss_cli.randomness import generator


@given(n=integers(2, 8), length=integers(1, 16), seed=integers(0, 999))
def test_every_mixed_token_keeps_its_place_and_comes_from_one_of_two_samples(n, length, seed):
    ids = torch.arange(n * length).view(n, length)  # all different, so the origin can be read off
    draw = generator(seed)
    partner = torch.randperm(n, generator=draw)
    mixed = mix_words(ids, ids[partner], torch.rand(n, length, generator=draw), torch.rand((), generator=draw))
    assert torch.equal(mixed % length, ids % length)
    for row in range(n):
        assert set((mixed[row] // length).tolist()) <= {row, int(partner[row])}


def test_images_are_weighted_sums_with_one_weight_a_sample():
    a, b = torch.rand(3, 1, 2, 2), torch.rand(3, 1, 2, 2)
    weight = torch.tensor([0.0, 0.25, 1.0])
    mixed = mix_images(a, b, weight)
    for i, w in enumerate(weight):
        assert torch.allclose(mixed[i], w * a[i] + (1 - w) * b[i])
