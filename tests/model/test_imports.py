"""Importing checkpoints: what is found, assumed with a note, and rejected. test_oracle.py compares logits."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import nn

from peer import peer
from pyramidseg.base.errors import ConfigError, WeightsError
from pyramidseg.model.bundle import read_bundle
from pyramidseg.model.imports import import_checkpoint
from pyramidseg.model.imports.foreign_checkpoint import ImportOptions
from pyramidseg.model.imports.smp_encoders import TIMM_NAMES, encoder_statistics, timm_encoder
from pyramidseg.model.segmenter import Segmenter


def imported(path, **options):
    """A folder names its encoder in config.json; a file of tensors needs the option."""
    if path.is_file():
        options.setdefault("encoder", "resnet18")
    return import_checkpoint(path, library="smp", options=ImportOptions(**options))


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


def noted(result, words):
    return any(words in note for note in result.notes)


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
        assert not noted(result, "--dropout")

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
        with pytest.raises(ConfigError, match=r"networks under '', 'ema\.'; choose one with --prefix ema\."):
            imported(tmp_path / "weights.pth")
        with pytest.raises(ConfigError, match=r"--prefix 'emma\.': .* holds networks under '', 'ema\.'"):
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


def saved_as(folder: Path, model: nn.Module, **settings) -> Path:
    """A saved folder whose config.json was changed."""
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


class TestConfig:
    def test_dropout_and_interpolation_are_taken_over(self, tmp_path):
        peer(decoder_dropout=0.35, decoder_interpolation="bilinear").save_pretrained(tmp_path)
        settings = imported(tmp_path).model.settings
        assert (settings.dropout, settings.interpolation) == (0.35, "bilinear")

    def test_without_config_they_are_assumed_with_a_note_or_given(self, tmp_path, weights):
        torch.save(weights, tmp_path / "weights.pth")
        result = imported(tmp_path / "weights.pth")
        assert noted(result, "0.2, smp's default, is assumed; --dropout")
        assert noted(result, "nearest, smp's default, is assumed; --interpolation")
        given = imported(tmp_path / "weights.pth", dropout=0.5, interpolation="bilinear")
        assert given.model.settings.dropout == 0.5
        assert not noted(given, "smp's default, is assumed")

    @pytest.mark.parametrize(
        ("choices", "words"),
        [
            ({"dropout": 0.5}, r"--dropout 0\.5: config\.json has decoder_dropout=0\.2"),
            ({"encoder": "resnet34"}, r"--encoder resnet34: config\.json has encoder_name=resnet18"),
            ({"interpolation": "bilinear"}, r"config\.json has decoder_interpolation=nearest"),
        ],
    )
    def test_flags_that_contradict_it_are_refused(self, tmp_path, theirs, choices, words):
        theirs.save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match=words):
            imported(tmp_path, **choices)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"classes": 6}, r"contradicts the tensors: classes=6 \(tensors: 5\)"),
            ({"decoder_merge_policy": "cat"}, r"decoder_merge_policy=cat \(tensors: add\)"),
            ({"encoder_depth": 4}, r"encoder_depth=4 \(tensors: 5\)"),
            ({"encoder_depth": "5"}, r"encoder_depth='5'"),
            ({"encoder_name": "resnet34"}, r"not an smp FPN of resnet34 .*absent: .*encoder\.layer"),
            ({"decoder_interpolation": "bicubic"}, r"decoder_interpolation=bicubic cannot be imported; possible: near"),
            ({"output_stride": 16}, r"may change the network in an unknown way: output_stride=16"),
        ],
    )
    def test_settings_that_do_not_fit_are_refused(self, tmp_path, theirs, settings, words):
        with pytest.raises(WeightsError, match=words):
            imported(saved_as(tmp_path, theirs, **settings))

    def test_an_activation_is_left_out_with_a_note(self, tmp_path):
        peer(activation="sigmoid").save_pretrained(tmp_path)
        result = imported(tmp_path)
        assert noted(result, "activation sigmoid is left out")
        assert noted(result, "pixels that had several classes")

    def test_another_upsampling_is_reported(self, tmp_path):
        peer(upsampling=1).save_pretrained(tmp_path)
        assert noted(imported(tmp_path), "0.25 times the image's size")

    def test_depth_3_is_refused_with_the_reason(self, tmp_path):
        peer(encoder_depth=3).save_pretrained(tmp_path)
        with pytest.raises(WeightsError, match="encoder_depth=3 cannot be imported: its finest level is the image"):
            imported(tmp_path)


class TestClasses:
    def test_names_are_given_or_numbered_with_a_note(self, tmp_path, weights):
        torch.save(weights, tmp_path / "weights.pth")
        named = imported(tmp_path / "weights.pth", classes=("sky", "road", "car", "tree", "sign"))
        assert named.model.classes.names == ("sky", "road", "car", "tree", "sign")
        numbered = imported(tmp_path / "weights.pth")
        assert numbered.model.classes.names[0] == "class 0"
        assert noted(numbered, "--classes names them")
        with pytest.raises(ConfigError, match="2 names, and the network has 5 classes"):
            imported(tmp_path / "weights.pth", classes=("sky", "road"))

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            ((), ("background", "foreground")),
            (("crack",), ("background", "crack")),
            (("wall", "crack"), ("wall", "crack")),
        ],
    )
    def test_a_single_class_gets_a_background(self, tmp_path, names, expected):
        torch.save(peer(classes=1).state_dict(), tmp_path / "weights.pth")
        result = imported(tmp_path / "weights.pth", classes=names)
        assert result.model.classes.names == expected
        assert noted(result, "one class becomes two")
        with pytest.raises(ConfigError, match="3 names"):
            imported(tmp_path / "weights.pth", classes=("a", "b", "c"))


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def statistics(result):
    model = result.model
    assert model.encoder_source.mean == pytest.approx(model.mean.tolist())
    return [round(value, 6) for value in model.mean.tolist()], [round(value, 6) for value in model.std.tolist()]


class TestPreprocessing:
    def test_known_encoder_weights_have_their_statistics(self, tmp_path, theirs):
        result = imported(saved_as(tmp_path, theirs, encoder_weights="swsl"))
        assert statistics(result) == IMAGENET
        assert noted(result, "smp's for resnet18 with swsl weights")

    @pytest.mark.parametrize("encoder", ["tu-resnet18", "tu-tf_efficientnet_b0.ap_in1k", "tu-mobilenetv3_large_100"])
    def test_those_of_timm_are_what_smp_itself_says(self, encoder):
        known = smp.encoders.get_preprocessing_params(encoder)
        assert encoder_statistics(encoder, True) == (tuple(known["mean"]), tuple(known["std"]))

    def test_unknown_ones_are_assumed_with_a_note(self, tmp_path, weights):
        torch.save(weights, tmp_path / "weights.pth")
        result = imported(tmp_path / "weights.pth")
        assert statistics(result) == IMAGENET
        assert noted(result, "ImageNet's, assumed; --mean and --std set others")

    def test_given_ones_come_first(self, tmp_path, theirs):
        folder = saved_as(tmp_path, theirs, encoder_weights="imagenet")
        assert statistics(imported(folder, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))) == ([0.1, 0.2, 0.3], [1, 2, 3])
        with pytest.raises(ConfigError, match="both or neither"):
            imported(folder, mean=(0.1, 0.2, 0.3))
        with pytest.raises(ConfigError, match="3 each are needed"):
            imported(folder, mean=(0.1,), std=(1.0,))

    def test_buffers_of_a_lightning_module_are_taken(self, tmp_path, weights):
        content = {f"model.{name}": tensor for name, tensor in weights.items()}
        content |= {"mean": torch.tensor([0.3, 0.2, 0.1]).view(1, 3, 1, 1), "std": torch.full((1, 3, 1, 1), 0.25)}
        torch.save({"state_dict": content}, tmp_path / "last.ckpt")
        result = imported(tmp_path / "last.ckpt")
        assert statistics(result) == ([0.3, 0.2, 0.1], [0.25] * 3)
        assert noted(result, "buffers of the checkpoint")

    def test_images_up_to_255_are_the_same_to_our_network(self, tmp_path, theirs):
        save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
        mean, std = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
        ours = imported(tmp_path / "weights.safetensors", mean=mean, std=std, input_range=255).model
        pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
        with torch.inference_mode():
            expected = theirs((pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
            torch.testing.assert_close(ours(pixels), expected, rtol=1e-4, atol=1e-4)
        with pytest.raises(ConfigError, match="--input-range 0"):
            imported(tmp_path / "weights.safetensors", input_range=0.0)

    def test_other_numbers_of_channels_get_the_average_with_a_note(self, tmp_path):
        torch.save(peer(in_channels=2).state_dict(), tmp_path / "weights.pth")
        result = imported(tmp_path / "weights.pth")
        assert statistics(result)[0] == [0.449] * 2
        assert noted(result, "assumed")

    def test_adversarial_and_lite_weights_have_their_own(self):
        assert encoder_statistics("timm-efficientnet-b0", "advprop") == ((0.5,) * 3, (0.5,) * 3)
        assert encoder_statistics("timm-tf_efficientnet_lite0", "imagenet") == ((0.5,) * 3, (0.5,) * 3)


class TestEncoders:
    @pytest.mark.parametrize("encoder", sorted(name for name in TIMM_NAMES if not name.startswith("timm-")))
    def test_its_tensors_are_those_of_timms_network(self, encoder):
        with torch.device("meta"):
            tensors = smp.encoders.get_encoder(encoder, weights=None).state_dict()
        assert timm_encoder(encoder, where=Path("x")).shapes == {name: t.shape for name, t in tensors.items()}

    @pytest.mark.parametrize(
        ("encoder", "reason"),
        [
            ("efficientnet-b0", "fixes its padding for one image size"),
            ("mobilenet_v2", "no network with the same tensors"),
            ("mit_b0", "no network with the same tensors"),
            ("resnext101_32x48d", "no network with the same tensors"),
            ("tu-resnet19", "has no network 'resnet19'"),
            ("tu-swin_tiny_patch4_window7_224", "for one image size"),
        ],
    )
    def test_one_that_timm_does_not_have_is_refused_with_the_reason(self, tmp_path, theirs, encoder, reason):
        with pytest.raises(WeightsError, match=f"encoder {encoder} cannot be imported: .*{reason}"):
            imported(saved_as(tmp_path, theirs, encoder_name=encoder))

    def test_a_file_of_tensors_needs_its_name(self, tmp_path, weights):
        torch.save(weights, tmp_path / "weights.pth")
        with pytest.raises(ConfigError, match=r"weights\.pth: .* add the name .* such as --encoder resnet34"):
            imported(tmp_path / "weights.pth", encoder=None)

    def test_another_name_is_refused_with_the_tensors_that_differ(self, tmp_path, weights):
        torch.save(weights, tmp_path / "weights.pth")
        with pytest.raises(WeightsError, match=r"not an smp FPN of resnet34 .*absent: .*encoder\.layer"):
            imported(tmp_path / "weights.pth", encoder="resnet34")

    @pytest.mark.filterwarnings("ignore:`timm-` encoders are deprecated")
    def test_one_whose_finest_map_differs_at_depth_4_is_refused(self, tmp_path):
        peer("timm-efficientnet-b0", encoder_depth=4).save_pretrained(tmp_path)
        with pytest.raises(WeightsError, match=r"decoder\.p2\.skip_conv\.weight 32x32x1x1 instead of 32x16x1x1"):
            imported(tmp_path)


def test_the_bundle_keeps_where_it_came_from(tmp_path, theirs):
    theirs.save_pretrained(tmp_path / "saved")
    result = imported(tmp_path / "saved")
    result.model.save(tmp_path / "bundle.safetensors", **result.facts)
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
    with pytest.raises(ConfigError, match="--from mmseg: unknown library; known: smp"):
        import_checkpoint(tmp_path, library="mmseg")
    with pytest.raises(ConfigError, match="--from spm: unknown library; did you mean 'smp'"):
        import_checkpoint(tmp_path, library="spm")
