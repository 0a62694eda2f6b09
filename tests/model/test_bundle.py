import json
import os

import pytest
import torch
from safetensors.torch import save_file

import pyramidseg
from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import WeightsError
from pyramidseg.model.bundle import read_bundle, read_description
from pyramidseg.model.segmenter import Segmenter

CLASSES = Classes(("sky", "road", "car"), ((1, 2, 3), (40, 50, 60), (200, 0, 255)))


def small(**settings):
    given = {"encoder": "test_resnet", "encoder_weights": "none", "pyramid_channels": 8, "segmentation_channels": 8}
    return Segmenter(**({"classes": CLASSES} | given | settings))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = small(dropout=0.4, merge="concat", finest_stride=2, image_head=True)
    model.set_normalization((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    model(torch.rand(2, 3, 64, 64))  # so that batch norm has statistics of its own
    return model.eval()


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "model.safetensors"
    model.save(path, facts={"val_miou": 0.5, "ema": True, "data": {"images": 7}})
    return path


class TestRoundTrip:
    def test_logits_are_equal_bit_for_bit(self, model, bundle):
        image = torch.rand(1, 3, 45, 50)
        with torch.inference_mode():
            assert torch.equal(Segmenter.load(bundle)(image), model(image))

    def test_settings_classes_source_and_normalisation_are_kept(self, model, bundle):
        loaded = Segmenter.load(str(bundle))
        assert loaded.settings == model.settings
        assert loaded.classes == CLASSES
        assert loaded.encoder_source == model.encoder_source
        assert loaded.mean.tolist() == [1.0, 2.0, 3.0] and loaded.std.tolist() == [4.0, 5.0, 6.0]
        assert not loaded.training

    def test_a_bundle_may_be_read_by_whom_the_umask_lets(self, model, tmp_path):
        before = os.umask(0o022)
        model.save(tmp_path / "model.safetensors")
        os.umask(before)
        assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644

    def test_facts_and_version_are_kept(self, bundle):
        loaded = read_bundle(bundle)
        assert loaded.facts == {"val_miou": 0.5, "ema": True, "data": {"images": 7}}
        assert loaded.version == pyramidseg.__version__

    def test_settings_can_be_read_alone(self, model, bundle):
        assert read_description(bundle).config == model.settings

    def test_loading_leaves_the_random_numbers_alone(self, bundle):
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.manual_seed(0)
        Segmenter.load(bundle)
        assert torch.equal(torch.rand(3), expected)


class TestDamage:
    @pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999999])
    def test_a_truncated_bundle_is_refused_by_name(self, bundle, tmp_path, share):
        content = bundle.read_bytes()
        damaged = tmp_path / "damaged.safetensors"
        damaged.write_bytes(content[: int(share * len(content))])
        with pytest.raises(WeightsError, match=r"damaged\.safetensors"):
            Segmenter.load(damaged)

    @pytest.mark.parametrize("seed", range(24))
    def test_a_flipped_bit_is_found_wherever_it_is(self, bundle, tmp_path, seed):
        content = bytearray(bundle.read_bytes())
        header = 8 + int.from_bytes(content[:8], "little")
        generator = torch.Generator().manual_seed(seed)
        # Half of them in the header, which is a small share of the file.
        start, stop = ((0, header), (header, len(content)))[seed % 2]
        position = int(torch.randint(start, stop, (1,), generator=generator))
        content[position] ^= 1 << (seed % 8)
        damaged = tmp_path / "damaged.safetensors"
        damaged.write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged\.safetensors"):
            Segmenter.load(damaged)

    def test_foreign_tensors_are_refused_as_no_bundle(self, tmp_path):
        save_file({"weight": torch.rand(3)}, tmp_path / "foreign.safetensors")
        with pytest.raises(WeightsError, match=r"foreign\.safetensors: not a pyramidseg bundle"):
            Segmenter.load(tmp_path / "foreign.safetensors")

    @pytest.mark.parametrize("name", ["absent.safetensors", "folder"])
    def test_what_is_no_file_is_refused(self, tmp_path, name):
        (tmp_path / "folder").mkdir()
        with pytest.raises(WeightsError, match=f"{name}: (no such file|a folder)"):
            Segmenter.load(tmp_path / name)

    def test_settings_of_another_version_are_refused_with_both_versions(self, model, tmp_path):
        from pyramidseg.model.tensor_files import write_tensors

        metadata = {
            "format": "pyramidseg bundle",
            "version": "99.0",
            "model": json.dumps({**model.settings.model_dump(mode="json"), "telepathy": True}),
            "classes": json.dumps(CLASSES.to_dict()),
            "encoder_source": "{}",
            "facts": "{}",
        }
        write_tensors(tmp_path / "later.safetensors", model.state_dict(), metadata)
        with pytest.raises(
            WeightsError, match=rf"pyramidseg 99\.0 .*\({pyramidseg.__version__}\) cannot read.*telepathy"
        ):
            Segmenter.load(tmp_path / "later.safetensors")


SAME = {"merge": "concat", "finest_stride": 2, "image_head": True}


class TestFineTuning:
    def test_all_of_an_equal_network_is_loaded(self, model, bundle):
        other = small(**SAME)
        report = other.load_weights(bundle)
        assert report == f"{len(model.state_dict())} of {len(model.state_dict())} tensors loaded"
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items())

    def test_the_weights_setting_does_the_same(self, model, bundle):
        other = small(**SAME, weights=str(bundle))
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items())
        assert other.encoder_source == model.encoder_source

    def test_other_classes_are_refused_with_both_lists(self, bundle):
        other = small(**SAME, classes=Classes.from_names(["crop", "weed"]))
        before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
        with pytest.raises(WeightsError, match=r"3 classes \(sky, road, car\).*2 \(crop, weed\).*`reset_head=True`"):
            other.load_weights(bundle)
        assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())

    def test_other_classes_initialize_the_heads_again_if_asked(self, model, bundle):
        other = small(**SAME, classes=Classes.from_names(["crop", "weed"]))
        classifier = other.classifier.weight.clone()
        report = other.load_weights(bundle, reset_head=True)
        heads = ("classifier.weight", "classifier.bias", "head.weight", "head.bias")
        assert set(report.partition("reinitialised: ")[2].split(", ")) == set(heads)
        assert torch.equal(other.classifier.weight, classifier)
        loaded = [name for name in other.state_dict() if name not in heads]
        assert report.startswith(f"{len(loaded)} of {len(loaded) + len(heads)} tensors loaded; ")
        assert all(torch.equal(other.state_dict()[name], model.state_dict()[name]) for name in loaded)

    @pytest.mark.parametrize(
        ("settings", "difference"),
        [
            ({**SAME, "pyramid_channels": 16}, r"pyramid_channels=8 \(here 16\)"),
            ({**SAME, "merge": "add"}, r"merge=concat \(here add\)"),
            ({**SAME, "encoder": "test_efficientnet"}, r"encoder=test_resnet \(here test_efficientnet\)"),
            ({**SAME, "smoothing": False}, r"smoothing=True \(here False\)"),
        ],
    )
    def test_another_network_is_refused_with_the_differences(self, bundle, settings, difference):
        other = small(**settings)
        before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
        with pytest.raises(WeightsError, match=rf"another network: .*{difference}"):
            other.load_weights(bundle)
        assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
