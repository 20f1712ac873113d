"""What a fit notes of its steps."""

import weakref

import torch

from daguerre.train.record import MOST, Record


def test_losses_are_read_all_at_once_and_in_order():
    record, count = Record(["critic", "model"]), 3 * MOST + 5
    for i in range(count):
        loss = torch.tensor(float(i), dtype=torch.float64)
        record.add([loss, -loss])
    assert record.is_due
    assert record.flush() is None
    assert record.flush() is None
    numbers = torch.arange(count, dtype=torch.float32)
    assert torch.equal(record.losses()["critic"], numbers)
    assert torch.equal(record.losses()["model"], -numbers)
    record.add([torch.tensor(1.0), torch.tensor(torch.nan)])
    assert record.flush() == (count + 1, "model")


def test_a_loss_is_let_go_at_the_next_step():
    record, first = Record(["model"]), torch.tensor(1.0)
    kept = weakref.ref(first)
    record.add([first])
    del first
    record.add([torch.tensor(2.0)])
    assert kept() is None
    record.flush()
    assert record.losses()["model"].tolist() == [1.0, 2.0]
