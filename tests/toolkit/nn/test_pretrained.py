import io
import socket
import urllib.error

import pytest
import torch

from toolkit.errors import UserError
from toolkit.nn.pretrained import (
    DOWNLOAD_TIMEOUT,
    PretrainedNetwork,
    download_state_dict,
    pretrained_enabled,
    read_state_dict,
    without_pretrained,
)

URL = "https://example.org/models/tiny-0123abcd.pth"


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def test__loading_is_off_inside_only():
    with without_pretrained():
        with without_pretrained():
            assert not pretrained_enabled()
        assert not pretrained_enabled()
    assert pretrained_enabled()


def test__loading_is_on_again_after_an_error():
    with pytest.raises(UserError), without_pretrained():
        raise UserError("the checkpoint does not fit")
    assert pretrained_enabled()


def test__a_pretrained_network_must_say_how_it_loads():
    with pytest.raises(TypeError, match="load_pretrained"):
        PretrainedNetwork()


def test__failed_download_says_where_to_place_the_file(monkeypatch, hub):
    seen = []

    def no_network(request):
        seen.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    with pytest.raises(UserError) as caught:
        download_state_dict(URL)
    for part in (URL, "Name or service not known", str(hub / "tiny-0123abcd.pth"), "set weights to the path"):
        assert part in str(caught.value)
    assert seen == [DOWNLOAD_TIMEOUT]
    assert socket.getdefaulttimeout() is None


class _Answer(io.BytesIO):
    def info(self):
        return type("Info", (), {"get_all": lambda self, name: None})()


def test__download_of_something_else_is_refused_and_leaves_nothing(monkeypatch, hub):
    monkeypatch.setattr(torch.hub, "urlopen", lambda request: _Answer(b"<html>Please log in</html>"))
    with pytest.raises(UserError, match="invalid hash value"):
        download_state_dict(URL)
    assert list(hub.iterdir()) == []


def test__a_file_that_is_there_is_not_downloaded(monkeypatch, hub):
    monkeypatch.setattr(torch.hub, "urlopen", lambda request: pytest.fail("downloaded"))
    hub.mkdir(parents=True)
    torch.save({"weight": torch.arange(3)}, hub / "tiny-0123abcd.pth")
    assert download_state_dict(URL)["weight"].tolist() == [0, 1, 2]


def test__a_damaged_file_that_is_there_is_explained(hub):
    hub.mkdir(parents=True)
    (hub / "tiny-0123abcd.pth").write_bytes(b"PK not a checkpoint")
    with pytest.raises(UserError, match="replace it if it is there"):
        download_state_dict(URL)


def test__a_module_that_is_there_is_not_unpickled(hub):
    hub.mkdir(parents=True)
    torch.save(torch.nn.Linear(2, 3), hub / "tiny-0123abcd.pth")  # would execute code when read
    with pytest.raises(UserError, match="UnpicklingError"):
        download_state_dict(URL)


def test__local_state_dict_is_read_back(tmp_path):
    net = torch.nn.Linear(2, 3)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    assert torch.equal(read_state_dict(tmp_path / "net.pth")["weight"], net.weight)


def test__missing_file_raises(tmp_path):
    with pytest.raises(UserError, match=r"no such file: '.*net\.pth'"):
        read_state_dict(tmp_path / "net.pth")


def test__whole_module_is_not_unpickled(tmp_path):
    torch.save(torch.nn.Linear(2, 3), tmp_path / "net.pth")  # would execute code when read
    with pytest.raises(UserError, match=r"not readable.*torch\.save\(net\.state_dict\(\), path\)"):
        read_state_dict(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("content", "found"), [({"model": {}, "epoch": 3}, r"dict with \['model', 'epoch'\]"), ([1], "list")]
)
def test__something_other_than_a_state_dict_raises(tmp_path, content, found):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(UserError, match=rf"holds .*{found}.*not a state dict"):
        read_state_dict(tmp_path / "net.pth")
