"""`pyramidseg publish`, with the real client of the hub against a stand-in on loopback."""

import pytest
import torch
import yaml

import pyramidseg as ps
from made_hub import made_hub
from made_server import noise, small_bundle
from pyramidseg.base.remote_files import local_copy
from pyramidseg.cli.main import main
from pyramidseg.export.publish_model import CARD_MARK, _line, model_card, publish_model
from pyramidseg.model.bundle import read_bundle

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")  # of the client, which sends large files by httpx

URL = "hf://owner/street"
FACTS = {
    "metrics": {
        "miou": 0.51239,
        "images": 7,
        "classes": [
            {"id": 0, "name": "road", "iou": 0.75, "dice": 0.857},
            {"id": 1, "name": "a|b<i>", "iou": None, "dice": None},
            {"id": 2, "name": "sky_*", "iou": 0.25, "dice": 0.4},
        ],
    },
    "split": "val",
    "epoch": 3,
    "data": {"source": "streets", "layout": "VOC", "fingerprint": "abc"},
}


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(0)
    names = ("road", "a|b<i>", "sky_*")
    model = ps.Segmenter(classes=names, encoder="test_resnet", encoder_weights="none", pyramid_channels=16)
    model.eval().save(tmp_path / "run.safetensors", facts=FACTS)
    return tmp_path / "run.safetensors"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub without the repository."""
    with made_hub(tmp_path / "hub", monkeypatch) as hub:
        hub.created = False
        yield hub


def publish(bundle, *options, url=URL):
    return main(["publish", str(bundle), url, "--license", "apache-2.0", *options])


@pytest.mark.parametrize("large", [100_000, 10**9], ids=["sent apart", "in the commit"])
def test_what_is_published_is_read_back_equal(hub, bundle, capsys, large):
    hub.large = large
    assert publish(bundle, "--private") == 0
    said = capsys.readouterr().out.strip()
    assert said == f"published: {URL}@{hub.commits['main']}" and hub.private == "private"
    for url in (URL, said.removeprefix("published: ")):
        assert local_copy(url).read_bytes() == bundle.read_bytes()
        theirs, ours = ps.load_model(url), ps.load_model(bundle)
        assert theirs.classes == ours.classes and theirs.settings == ours.settings
        assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True))
    labels = ps.Predictor(URL, device="cpu").predict(noise()).labels
    assert (labels == ps.Predictor(bundle, device="cpu").predict(noise()).labels).all()
    assert sorted(hub.contents[hub.commits["main"]]) == [".gitattributes", "README.md", "model.safetensors"]
    assert hub.messages == ["Publish run.safetensors with pyramidseg"]


def test_a_second_version_replaces_the_first_which_keeps_its_commit(hub, bundle, tmp_path):
    first = publish_model(bundle, URL, license="mit")
    other = small_bundle(tmp_path / "other.safetensors", seed=4)
    second = publish_model(other, URL, license="mit")
    assert local_copy(URL).read_bytes() == local_copy(f"{URL}@{second}").read_bytes() == other.read_bytes()
    assert local_copy(f"{URL}@{first}").read_bytes() == bundle.read_bytes()


def test_the_card_has_licence_classes_scores_data_and_recipe(bundle):
    card = model_card(read_bundle(bundle), url=URL, license="cc-by-4.0")
    _, head, text = card.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "license": "cc-by-4.0",
        "library_name": "pyramidseg",
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", "feature-pyramid-network"],
    }
    assert text.startswith(f"{CARD_MARK}\n# street\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    colors = ["#" + bytes(color).hex() for color in ps.load_model(bundle).classes.colors]
    assert f"| 0 | road | {colors[0]} | 0.75 | 0.857 |" in rows
    assert rf"| 1 | a\|b\<i\> | {colors[1]} |  |  |" in rows
    assert rf"| 2 | sky\_\* | {colors[2]} | 0.25 | 0.4 |" in rows
    assert {"| miou | 0.5124 |", "| images | 7 |", "| source | streets |", "| epoch | 3 |"} <= set(rows)
    assert "model.encoder=test_resnet\n" in text and "model.pyramid_channels=16\n" in text and "train." not in text


def test_the_card_of_a_run_has_its_settings_without_paths(bundle, tmp_path):
    config = ps.load_config(overrides={"train.epochs": 4, "model.encoder_weights": str(tmp_path / "own.safetensors")})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    text = model_card(read_bundle(bundle), url=URL, license="mit")
    assert "train.epochs=4\n" in text and "model.encoder_weights=own.safetensors\n" in text
    assert str(tmp_path) not in text


def test_a_bundle_without_facts_has_a_card(tmp_path):
    bundle = read_bundle(small_bundle(tmp_path / "a.safetensors"))
    assert "None are stored in the bundle." in model_card(bundle, url=URL, license="mit")
    ps.load_model(bundle.path).save(tmp_path / "b.safetensors", facts={"metrics": [1], "data": "text", "epoch": None})
    card = model_card(read_bundle(tmp_path / "b.safetensors"), url=URL, license="mit")
    assert "| source | not stored in the bundle |" in card


def refused(capsys, status):
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1 and error.startswith("error: "), error
    return error


def test_the_licence_is_asked_for(bundle, capsys):
    assert "--license apache-2.0, cc-by-4.0" in refused(capsys, main(["publish", str(bundle), URL]))


@pytest.mark.parametrize(
    "url",
    ["https://huggingface.co/owner/street", "hf://street", "hf://owner/street@v2", "hf://owner/street/a.safetensors"],
)
def test_other_addresses_are_refused(bundle, capsys, url):
    assert "hf://OWNER/NAME" in refused(capsys, publish(bundle, url=url))


def test_what_is_no_bundle_is_not_published(hub, bundle, tmp_path, capsys):
    damaged = bytearray(bundle.read_bytes())
    damaged[-100] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(bytes(damaged))
    for name in ("damaged.safetensors", "none.safetensors"):
        assert name in refused(capsys, publish(tmp_path / name))
    assert not hub.asked


def test_without_a_token_nothing_is_asked(hub, bundle, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN")
    assert "set HF_TOKEN to a token" in refused(capsys, publish(bundle))
    assert not hub.asked
    (bundle.parent / "hub").mkdir(exist_ok=True)
    (bundle.parent / "hub/token").write_text("hf_write")  # the saved login
    assert publish(bundle) == 0


def test_refusals_of_the_hub_are_one_line(hub, bundle, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "401" in refused(capsys, publish(bundle))
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    hub.refuse = {"/api/repos/create": (403, "You don't have the rights to create a model under owner")}
    assert "rights to create a model under owner" in refused(capsys, publish(bundle))
    hub.refuse = {"/api/validate-yaml": (400, "")}
    assert "Invalid metadata in README.md" in refused(capsys, publish(bundle))
    hub.refuse = {"/api/models/owner/street/commit": (412, "A commit has happened since")}
    assert "A commit has happened since" in refused(capsys, publish(bundle))
    hub.refuse = {"/lfs/": (403, "")}
    assert "Error while uploading 'model.safetensors'" in refused(capsys, publish(bundle))
    assert not hub.messages


def test_without_a_network_it_is_one_line(hub, bundle, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    assert "check the address, the network" in refused(capsys, publish(bundle))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refused(capsys, publish(bundle))


def test_a_public_repository_is_not_taken_for_a_private_one(hub, bundle, capsys):
    assert publish(bundle) == 0
    capsys.readouterr()
    assert "exists and is public" in refused(capsys, publish(bundle, "--private"))
    assert len(hub.messages) == 1


def test_folders_of_this_machine_are_not_published():
    named = {"weights": "/home/me/a.safetensors", "list": ["~/b", "../c/d.pth", "e"], "encoder": "tv_in1k"}
    assert _line(named) == '{"weights": "a.safetensors", "list": ["b", "d.pth", "e"], "encoder": "tv_in1k"}'
    assert (_line("../secret/x.pth"), _line("imagenet")) == ("x.pth", "imagenet")
    assert _line("a" * 5000) == "a" * 5000, "longer than a file's name can be"


def test_a_repository_of_others_is_not_overwritten(hub, bundle, capsys):
    hub.created, hub.commits = True, {"main": "1" * 40}
    hub.contents["1" * 40] = {"README.md": b"# My own words", "best.safetensors": b"x"}
    assert "has best.safetensors already" in refused(capsys, publish(bundle))
    del hub.contents["1" * 40]["best.safetensors"]
    assert "--overwrite replaces it" in refused(capsys, publish(bundle))
    assert not hub.messages
    assert publish(bundle, "--overwrite") == 0 and publish(bundle) == 0
    assert CARD_MARK.encode() in hub.contents[hub.commits["main"]]["README.md"]
