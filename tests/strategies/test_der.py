"""DER and DER++: what is stored, and every term against a loop over samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medcoss_cli.conformance.toy_run import KEPT, ToyRun
from medcoss_cli.errors import CheckpointError
from medcoss_cli.model.batch import Batch
from medcoss_cli.strategies import StageInfo, Strategy, terms
from medcoss_cli.strategies.der import DER
from medcoss_cli.strategies.derpp import DERpp
from tests.pretraining_runs import train, write_demo


def second_stage(cls: type[Strategy], folder: Path, **settings: float) -> tuple[ToyRun, Batch]:
    run = ToyRun(cls, cls.Settings(**settings), folder / "run")
    run.finish_stage(1)
    run.begin(2)
    run.model.eval()
    return run, next(run.whole_batches())


def test_stored_tokens_are_those_of_the_stored_view_under_the_stored_mask(tmp_path: Path) -> None:
    run, _ = second_stage(DER, tmp_path)
    (stored,) = run.strategy.memory()["stored"]
    assert (len(stored["inputs"]), stored["modality"], stored["tokens"].dtype) == (KEPT, "first", torch.float16)
    masks = {tuple(row) for row in stored["keep"].tolist()}
    assert len(masks) == KEPT  # every sample has its own
    with torch.no_grad():
        again = run.model.encode("first", stored["inputs"].float(), stored["keep"].long())
    assert torch.equal(again.half(), stored["tokens"])


def test_at_the_weights_of_storage_the_pull_is_only_the_rounding_of_fp16(tmp_path: Path) -> None:
    run, batch = second_stage(DER, tmp_path)
    new, (value, count) = terms(run.strategy.loss(run.model, batch))
    alone, number = run.model.masked_loss(batch)
    assert (new[0].item(), new[1]) == (alone.item(), number)
    assert float(count) == batch.total * (4 + 1)
    assert 0 <= value.item() / float(count) < 1e-6


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_the_pull_is_the_mean_over_stored_samples_tokens_and_width(tmp_path: Path, alpha: float) -> None:
    run, batch = second_stage(DER, tmp_path, alpha=alpha)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(0.02)
        value, count = terms(run.strategy.loss(run.model, batch))[1]
        stored, rows = run.strategy.drawn(batch, "replay")
        squares = []
        for row in rows.tolist():
            z = run.model.encode("first", stored["inputs"][[row]].float(), stored["keep"][[row]].long())
            squares.append((z[0] - stored["tokens"][row].float()).square())
    assert len(set(rows.tolist())) == batch.total  # without replacement where there are enough
    assert (value / count).item() == pytest.approx(alpha * torch.stack(squares).mean().item(), rel=1e-5)


def test_derpp_adds_the_pretext_on_another_draw_under_fresh_masks(tmp_path: Path) -> None:
    run, batch = second_stage(DERpp, tmp_path, beta=0.25)
    _, _, (value, count) = terms(run.strategy.loss(run.model, batch))
    stored, rows = run.strategy.drawn(batch, "second replay")
    assert not torch.equal(rows, run.strategy.drawn(batch, "replay")[1])
    inputs = stored["inputs"][rows].float()
    fresh = Batch("first", False, inputs, None, batch.rows, batch.total, (*batch.key, "second replay"))
    alone, number = run.model.masked_loss(fresh, run.strategy.decoders["first"])
    assert value.item() == pytest.approx(0.25 * alone.item(), rel=1e-6)
    assert count == number
    assert not torch.equal(run.model.hide(fresh)[1], stored["keep"][rows].long())
    before = {name: tensor.clone() for name, tensor in run.model.decoders["first"].state_dict().items()}
    run.finish_stage(2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.decoders["first"].state_dict().items())


def test_stored_words_keep_what_was_hidden(tmp_path: Path) -> None:
    data = write_demo(tmp_path / "data", report=40, xray=40)
    state = train(tmp_path, data, "strategy=derpp", "train.epochs=1")
    report, xray = state.memory["derpp"]["stored"]
    assert (report["modality"], xray["modality"]) == ("report", "xray")
    assert len(report["tokens"]) == len(state.buffer["report"])  # both are what rehearsal.ratio keeps
    assert report["hidden"].shape == report["inputs"].shape
    assert (report["hidden"] != report["inputs"]).any()
    assert report["hidden"].dtype == torch.int32
    assert report["tokens"].shape == (*report["inputs"].shape, 32)


def test_without_stored_tokens_it_is_refused(tmp_path: Path) -> None:
    run = ToyRun(DER, DER.Settings(), tmp_path / "run")
    run.add(1)
    with pytest.raises(CheckpointError, match="no stored tokens"):
        run.strategy.begin_stage(run.model, StageInfo(2, None, ("first",), ()))
