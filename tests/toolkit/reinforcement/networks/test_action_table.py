"""The table of action values."""

import pytest
import torch

from toolkit.errors import UserError
from toolkit.reinforcement.networks.action_table import ActionTable


def test_row_of_each_state() -> None:
    table = ActionTable(num_states=3, num_actions=2, initial=0.5)
    table.value.data[2] = torch.tensor([1.0, -1.0])
    assert table(torch.tensor([2, 0, 2])).tolist() == [[1.0, -1.0], [0.5, 0.5], [1.0, -1.0]]


def test_gradient_flows_to_the_rows_that_were_read() -> None:
    table = ActionTable(num_states=3, num_actions=2)
    table(torch.tensor([2])).sum().backward()
    assert table.value.grad is not None
    assert table.value.grad.tolist() == [[0, 0], [0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("states", "actions", "what"), [(None, 2, "observations are not numbered"), (4, None, "actions are not numbered")]
)
def test_spaces_that_are_not_numbered_are_refused(states: int | None, actions: int | None, what: str) -> None:
    with pytest.raises(UserError, match=what):
        ActionTable(states, actions)


def test_empty_table_is_refused() -> None:
    with pytest.raises(UserError, match="num_states and num_actions >= 1, got 0 and 2"):
        ActionTable(0, 2)
