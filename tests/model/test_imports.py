"""Importing checkpoints: what is found, assumed with a note, and rejected. test_oracle.py compares logits."""

import hashlib
import os
import pickle

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file

from made_imports import imported, noted
from peer import peer
from pyramidseg.base.errors import ConfigError, WeightsError
from pyramidseg.model.bundle import read_bundle
from pyramidseg.model.imports.smp import import_checkpoint
from pyramidseg.model.segmenter import Segmenter


@pytest.fixture(scope="module")
def theirs():
    return peer()


@pytest.fixture(scope="module")
def weights(theirs):
    return theirs.state_dict()


@pytest.fixture(scope="module")
def expected(weights, tmp_path_factory):
    """Our tensors of their weights, imported from the plainest file."""
    path = tmp_path_factory.mktemp("plain") / "weights.pth"
    torch.save(weights, path)
    return imported(path).model.state_dict()


def assert_same_tensors(result, expected):
    own = result.model.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[name], expected[name]) for name in own)


class TestFiles:
    @pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.bin"])
    def test_state_dicts(self, tmp_path, weights, expected, name):
        torch.save(weights, tmp_path / name)
        assert_same_tensors(imported(tmp_path / name), expected)

    def test_safetensors(self, tmp_path, weights, expected):
        save_file(weights, tmp_path / "weights.safetensors")
        assert_same_tensors(imported(tmp_path / "weights.safetensors"), expected)

    def test_a_saved_folder(self, tmp_path, theirs, expected):
        theirs.save_pretrained(tmp_path / "saved")
        result = imported(tmp_path / "saved")
        assert_same_tensors(result, expected)
        assert not noted(result, "`dropout`")

    def test_a_saved_folder_of_older_versions(self, tmp_path, theirs, weights, expected):
        theirs.save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").unlink()
        torch.save(weights, tmp_path / "pytorch_model.bin")
        assert_same_tensors(imported(tmp_path), expected)

    def test_a_file_next_to_its_config_reports_that_the_config_was_not_read(self, tmp_path, theirs):
        theirs.save_pretrained(tmp_path)
        assert noted(imported(tmp_path / "model.safetensors"), "config.json in the same folder was not read")

    @pytest.mark.parametrize(
        ("wrapper", "prefix"),
        [("state_dict", "model."), ("model_state_dict", ""), ("model", "module."), ("state_dict", "net.module.")],
    )
    def test_weights_within_a_training_checkpoint(self, tmp_path, weights, expected, wrapper, prefix):
        content = {"epoch": 7, wrapper: {prefix + name: tensor for name, tensor in weights.items()}}
        torch.save(content, tmp_path / "last.ckpt")
        result = imported(tmp_path / "last.ckpt")
        assert_same_tensors(result, expected)
        assert noted(result, f"read from the key '{wrapper}'")
        assert noted(result, f"prefix '{prefix}' removed from {len(weights)} names") == bool(prefix)

    def test_other_tensors_are_left_out_with_a_note(self, tmp_path, weights, expected):
        content = {f"model.{name}": tensor for name, tensor in weights.items()} | {"loss.weight": torch.ones(5)}
        torch.save(content, tmp_path / "weights.pth")
        result = imported(tmp_path / "weights.pth")
        assert_same_tensors(result, expected)
        assert noted(result, "left out, not part of the network: loss.weight")

    def test_one_of_several_networks_has_to_be_chosen(self, tmp_path, weights, expected):
        averaged = peer(seed=1).state_dict()
        content = weights | {f"ema.{name}": tensor for name, tensor in averaged.items()}
        torch.save(content, tmp_path / "weights.pth")
        with pytest.raises(ConfigError, match=r"networks under '', 'ema\.'; choose one: `prefix='ema\.'`"):
            imported(tmp_path / "weights.pth")
        with pytest.raises(ConfigError, match=r"`prefix='emma\.'`: .* holds networks under '', 'ema\.'"):
            imported(tmp_path / "weights.pth", prefix="emma.")
        assert_same_tensors(imported(tmp_path / "weights.pth", prefix=""), expected)
        chosen = imported(tmp_path / "weights.pth", prefix="ema.").model
        assert torch.equal(chosen.classifier.weight, averaged["segmentation_head.0.weight"])


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class TestUntrustedFiles:
    @pytest.mark.parametrize("inside", ["alone", "among tensors"])
    def test_code_in_a_pickle_is_refused_and_not_run(self, tmp_path, weights, inside):
        harm = Malicious(f"touch {tmp_path}/harm")
        torch.save(harm if inside == "alone" else {"state_dict": weights, "extra": harm}, tmp_path / "bad.pth")
        with pytest.raises(WeightsError, match=r"bad\.pth: .*more than tensors \(posix\.system\).*is not run") as error:
            imported(tmp_path / "bad.pth")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "harm").exists()

    def test_code_in_a_plain_pickle_is_refused_and_not_run(self, tmp_path):
        (tmp_path / "bad.bin").write_bytes(pickle.dumps(Malicious(f"touch {tmp_path}/harm")))
        with pytest.raises(WeightsError, match=r"bad\.bin: not a readable file of tensors"):
            imported(tmp_path / "bad.bin")
        assert not (tmp_path / "harm").exists()

    def test_a_whole_pickled_model_is_refused_with_the_way_out(self, tmp_path, theirs):
        torch.save(theirs, tmp_path / "model.pth")
        with pytest.raises(WeightsError, match=r"FPN\).*torch\.save\(model\.state_dict\(\), FILE\)"):
            imported(tmp_path / "model.pth")

    @pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 half a zip file"])
    @pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
    def test_damaged_files_are_refused(self, tmp_path, content, name):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=f"{name}: not a readable file of tensors"):
            imported(tmp_path / name)

    def test_a_checkpoint_without_weights_is_refused_with_its_keys(self, tmp_path):
        torch.save({"epoch": 3, "network": {}}, tmp_path / "weights.pth")
        with pytest.raises(WeightsError, match=r"under state_dict, model_state_dict, model; got .*epoch, network"):
            imported(tmp_path / "weights.pth")

    def test_what_is_not_there_is_refused(self, tmp_path):
        with pytest.raises(WeightsError, match="no such file"):
            imported(tmp_path / "absent.pth")
        with pytest.raises(WeightsError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
            imported(tmp_path)

    @pytest.mark.parametrize("text", ["{", "[]"])
    def test_a_damaged_config_is_refused(self, tmp_path, weights, text):
        save_file(weights, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(WeightsError, match=r"config\.json: (not readable as JSON|a mapping of settings)"):
            imported(tmp_path)


class TestFit:
    @pytest.fixture
    def refusal(self, tmp_path):
        def of(weights):
            torch.save(weights, tmp_path / "weights.pth")
            with pytest.raises(WeightsError) as error:
                imported(tmp_path / "weights.pth")
            return str(error.value)

        return of

    def test_absent_misshapen_and_unknown_tensors_are_all_named(self, refusal, weights):
        changed = {name: tensor for name, tensor in weights.items() if name != "decoder.p4.skip_conv.bias"}
        changed["encoder.bn1.weight"] = torch.ones(63)
        changed["encoder.bn1.running_mean"] = torch.ones(64, dtype=torch.int64)
        changed["encoder.fc.weight"] = torch.ones(10, 512)
        message = refusal(changed)
        assert "1 absent: decoder.p4.skip_conv.bias" in message
        assert "encoder.bn1.weight 63 instead of 64" in message
        assert "encoder.bn1.running_mean 64 of integers instead of 64" in message
        assert "1 unknown: encoder.fc.weight" in message
        assert "nothing was loaded" in message

    def test_many_are_grouped_and_counted(self, refusal, weights):
        changed = {name: tensor for name, tensor in weights.items() if not name.startswith("encoder.layer4.")}
        changed |= {f"encoder.attention.{index}.weight": torch.ones(1) for index in range(7)}
        message = refusal(changed)
        assert "25 absent: encoder.layer4 (25)" in message
        assert "7 unknown: encoder.attention (7)" in message

    @pytest.mark.parametrize(
        "name", ["segmentation_head.0.weight", "decoder.p5.weight", "decoder.seg_blocks.0.block.0.block.0.weight"]
    )
    def test_a_tensor_that_shows_a_size_may_be_absent_too(self, refusal, weights, name):
        message = refusal({key: tensor for key, tensor in weights.items() if key != name})
        assert f"1 absent: {name}; nothing was loaded" in message

    @pytest.mark.parametrize("architecture", ["Unet", "DeepLabV3Plus"])
    def test_other_architectures_are_refused(self, tmp_path, architecture):
        other = getattr(smp, architecture)("resnet18", encoder_weights=None)
        other.save_pretrained(tmp_path)
        with pytest.raises(WeightsError, match=f"a {architecture} of smp"):
            imported(tmp_path)
        torch.save(other.state_dict(), tmp_path / "weights.pth")
        with pytest.raises(WeightsError, match=r"not an FPN of smp: .* named decoder\.p5"):
            imported(tmp_path / "weights.pth")

    def test_an_auxiliary_head_is_left_out_with_a_note(self, tmp_path):
        peer(aux_params={"classes": 7}).save_pretrained(tmp_path)
        result = imported(tmp_path)
        assert noted(result, "classification_head.3.weight")
        assert not result.model.settings.image_head

    def test_the_stage_that_depth_4_never_runs_is_left_out_with_a_note(self, tmp_path):
        peer(encoder_depth=4).save_pretrained(tmp_path)
        result = imported(tmp_path)
        assert noted(result, "never used: encoder.layer4 (30)")
        assert noted(result, "2 times the image's size; the bundle's have the image's size")
        assert (result.model.settings.finest_stride, result.model.settings.coarsest_stride) == (2, 16)

    def test_half_precision_is_reported(self, tmp_path, theirs, expected):
        torch.save({name: tensor.half() for name, tensor in theirs.state_dict().items()}, tmp_path / "half.pth")
        result = imported(tmp_path / "half.pth")
        assert noted(result, "tensors of float16 are stored as float32")
        torch.testing.assert_close(result.model.state_dict(), dict(expected), rtol=1e-3, atol=1e-3)

    def test_importing_leaves_the_random_numbers_alone(self, tmp_path, weights):
        torch.save(weights, tmp_path / "weights.pth")
        torch.manual_seed(0)
        before = torch.rand(3)
        torch.manual_seed(0)
        imported(tmp_path / "weights.pth")
        assert torch.equal(torch.rand(3), before)


def test_the_bundle_keeps_where_it_came_from(tmp_path, theirs):
    theirs.save_pretrained(tmp_path / "saved")
    result = imported(tmp_path / "saved")
    result.model.save(tmp_path / "bundle.safetensors", facts=result.facts)
    bundle = read_bundle(tmp_path / "bundle.safetensors")
    model = Segmenter.from_bundle(bundle)
    image = torch.rand(1, 3, 40, 50)
    with torch.inference_mode():
        assert torch.equal(model(image), result.model(image))
    origin = bundle.facts["imported"]
    assert origin["sha256"] == hashlib.sha256((tmp_path / "saved/model.safetensors").read_bytes()).hexdigest()
    assert (origin["library"], origin["encoder"]) == ("segmentation_models.pytorch", "resnet18")
    assert origin["config"]["decoder_pyramid_channels"] == 32
    assert model.encoder_source.name == "model.safetensors (smp resnet18)"


def test_other_libraries_are_refused_with_what_is_possible(tmp_path):
    with pytest.raises(ConfigError, match="`library=mmseg`: unknown library; known: smp"):
        import_checkpoint(tmp_path, library="mmseg")
    with pytest.raises(ConfigError, match="`library=spm`: unknown library; did you mean 'smp'"):
        import_checkpoint(tmp_path, library="spm")
