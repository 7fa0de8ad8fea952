import pytest
import torch
from hypothesis import given
from hypothesis.strategies import integers, lists

from medcoss_cli.model.patches import grid_of, patchify, unpatchify
from medcoss_cli.model.positions import sincos


@given(grid=lists(integers(1, 3), min_size=1, max_size=3), channels=integers(1, 3), edge=integers(1, 3))
def test_unpatchify_undoes_patchify_in_every_dimension(grid, channels, edge):
    size, patch = tuple(g * edge for g in grid), (edge,) * len(grid)
    batch = torch.arange(2 * channels * torch.tensor(size).prod()).view(2, channels, *size).float()
    assert torch.equal(unpatchify(patchify(batch, patch, channels), size, patch, channels), batch)


def test_patches_come_in_raster_order_with_the_channel_last():
    batch = torch.arange(2 * 4 * 4).view(1, 2, 4, 4)
    patches = patchify(batch, (2, 2), 2)
    assert patches[0, 1].tolist() == [v for y in (0, 1) for x in (2, 3) for v in (batch[0, 0, y, x], batch[0, 1, y, x])]


def test_grey_is_repeated_to_the_tokenizers_channels():
    grey = torch.rand(1, 1, 4, 4)
    assert torch.equal(patchify(grey, (2, 2), 3), patchify(grey.repeat(1, 3, 1, 1), (2, 2), 3))


def test_a_size_that_is_no_multiple_of_the_patch_is_refused():
    with pytest.raises(ValueError, match="not a multiple"):
        grid_of((224, 220), (16, 16))


@pytest.mark.parametrize("grid", [(112,), (14, 14), (1, 12, 12)])
@pytest.mark.parametrize("width", [768, 128, 100])
def test_positions_tell_every_token_of_a_grid_apart(grid, width):
    table = sincos(grid, width)
    distance = torch.cdist(table.double(), table.double()) + torch.eye(len(table)) * 9
    assert table.shape == (torch.tensor(grid).prod(), width)
    assert distance.min() > 1e-3


def test_positions_of_an_image_are_those_of_mae():
    table = sincos((3, 5), 16)
    frequency = 1 / 10000 ** (torch.arange(4, dtype=torch.float64) / 4)
    row, column = 2, 3
    expected = [f(v * frequency) for v in (row, column) for f in (torch.sin, torch.cos)]
    assert torch.allclose(table[row * 5 + column].double(), torch.cat(expected), atol=1e-6)


def test_what_three_even_parts_leave_over_is_zero():
    assert torch.equal(sincos((2, 2, 2), 128)[:, 126:], torch.zeros(8, 2))


@pytest.mark.parametrize(("trained", "grid"), [((14, 14), (32, 32)), ((1, 12, 12), (4, 12, 24))])
def test_positions_of_a_larger_grid_lie_between_those_that_were_trained(trained, grid):
    """Each axis of the plane by itself: the trained table as a function of the place, at the centres of smaller patches."""
    width = 96
    part = width // len(grid) // 2 * 2
    frequency = 1 / 10000 ** (torch.arange(part // 2, dtype=torch.float64) / (part / 2))
    table = sincos(grid, width, trained).reshape(*grid, width)
    for axis, (n, places) in enumerate(zip(trained, grid, strict=True)):
        line = table.movedim(axis, 0).flatten(1, -2)[:, 0, axis * part : (axis + 1) * part]
        coordinates = [(i + 0.5) * n / places - 0.5 for i in range(places)]
        if len(grid) == 3 and axis == 0:
            coordinates = list(range(places))  # the depth of a volume runs on
        expected = torch.stack([torch.cat([(c * frequency).sin(), (c * frequency).cos()]) for c in coordinates])
        torch.testing.assert_close(line.double(), expected, atol=1e-6, rtol=0)


def test_positions_of_the_trained_grid_and_of_a_smaller_one_stay():
    assert torch.equal(sincos((14, 14), 64, (14, 14)), sincos((14, 14), 64))
    assert torch.equal(sincos((2, 3), 64, (14, 14)), sincos((2, 3), 64))
