"""Weights that nothing can be computed with are refused at every door: bundle, encoder file, import, fine-tuning."""

import pytest
import torch
from safetensors.torch import save_file

from pyramidseg.base.errors import WeightsError
from pyramidseg.model.bundle import read_bundle
from pyramidseg.model.classifier import Classifier
from pyramidseg.model.encoder import Encoder
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.state_dict_check import check_state_dict
from pyramidseg.model.tensor_files import read_metadata, write_tensors

SMALL = {"encoder": "test_resnet", "encoder_weights": "none", "pyramid_channels": 8, "segmentation_channels": 8}


def first(state, ending):
    return next(name for name in state if name.endswith(ending))


def changed(state, ending, change):
    """A copy of a state dict with the first tensor of some name changed, and the name."""
    name = first(state, ending)
    return {**state, name: change(state[name].clone())}, name


def with_value(value):
    def change(tensor):
        tensor.view(-1)[-1] = value
        return tensor

    return change


SPOILT = [
    ("weight", with_value(torch.nan), r"\(NaN or infinite\)"),
    ("bias", with_value(torch.inf), r"\(NaN or infinite\)"),
    ("running_mean", with_value(-torch.inf), r"\(NaN or infinite\)"),
    ("running_var", with_value(-1e-3), r"\(negative variances\)"),
    ("weight", lambda tensor: tensor.double() * 0 + 1e300, r"\(NaN or infinite\)"),  # in float32
    ("weight", lambda tensor: tensor.long(), r"of integers instead of"),
    ("weight", lambda tensor: tensor > 0, r"of bool instead of"),
    ("weight", lambda tensor: tensor.to(torch.complex64), r"of complex64 instead of"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "model.safetensors"
    torch.manual_seed(0)
    Segmenter(**SMALL, num_classes=2).save(path)
    return path


def spoil(bundle, tensors, path):
    """A bundle with other tensors and a right checksum."""
    metadata = {key: value for key, value in read_metadata(bundle, kind="pyramidseg bundle").items() if key != "sha256"}
    write_tensors(path, tensors, metadata)
    return path


@pytest.mark.parametrize(("ending", "change", "message"), SPOILT)
def test_a_bundle_is_refused_at_load_and_for_fine_tuning(bundle, tmp_path, ending, change, message):
    tensors, name = changed(read_bundle(bundle).tensors, ending, change)
    path = spoil(bundle, tensors, tmp_path / "spoilt.safetensors")
    with pytest.raises(WeightsError, match=rf"spoilt\.safetensors: .*{name}.*{message}"):
        Segmenter.load(path)
    model = Segmenter(**SMALL, num_classes=2)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        model.load_weights(path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("value", [0.0, -0.2])
def test_deviations_of_no_image_are_refused(bundle, tmp_path, value):
    tensors = {**read_bundle(bundle).tensors, "std": torch.tensor([0.2, value, 0.2])}
    with pytest.raises(WeightsError, match=r"std \(deviations of 0 or less\)"):
        Segmenter.load(spoil(bundle, tensors, tmp_path / "spoilt.safetensors"))


@pytest.mark.parametrize(("ending", "change", "message"), SPOILT)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_an_encoder_file_is_refused(tmp_path, ending, change, message, suffix):
    tensors, name = changed(Classifier("ab", encoder="test_resnet").network.state_dict(), ending, change)
    file = tmp_path / f"encoder{suffix}"
    save_file(tensors, file) if suffix == ".safetensors" else torch.save(tensors, file)
    with pytest.raises(WeightsError, match=rf"encoder\{suffix}: not weights of test_resnet: .*{name}.*{message}"):
        Encoder("test_resnet", weights=str(file))


def test_what_is_reinitialised_may_be_spoilt(bundle, tmp_path):
    tensors, _ = changed(read_bundle(bundle).tensors, "classifier.weight", with_value(torch.nan))
    path = spoil(bundle, tensors, tmp_path / "spoilt.safetensors")
    report = Segmenter(**SMALL, num_classes=5).load_weights(path, reset_head=True)
    assert report.endswith("; reinitialised: classifier.weight, classifier.bias")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.ones(3, 3).to_sparse(), "sparse"),
        (lambda: torch.ones(3, device="meta"), "without values"),
    ],
)
def test_tensors_of_other_layouts_are_refused_by_name(tmp_path, make, kind):
    torch.save({"conv1.0.weight": make()}, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=rf"odd\.pth: conv1\.0\.weight is {kind}|odd\.pth: not a readable file"):
        Encoder("test_resnet", weights=str(tmp_path / "odd.pth"))


class TestCounters:
    """`num_batches_tracked` counts batches; no computation uses it, and old or converted files lack it."""

    @staticmethod
    def without(state):
        return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}

    def test_an_encoder_file_may_lack_them(self, tmp_path):
        state = Classifier("ab", encoder="test_resnet").network.state_dict()
        save_file(self.without(state), tmp_path / "tf.safetensors")
        loaded = Encoder("test_resnet", weights=str(tmp_path / "tf.safetensors")).network.state_dict()
        assert loaded and all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())

    def test_all_but_one_of_them_is_as_good(self, tmp_path):
        state = Classifier("ab", encoder="test_resnet").network.state_dict()
        kept = first(state, "num_batches_tracked")
        save_file({**self.without(state), kept: torch.tensor(7)}, tmp_path / "tf.safetensors")
        loaded = Encoder("test_resnet", weights=str(tmp_path / "tf.safetensors")).network.state_dict()
        assert int(loaded[kept]) == 7

    def test_a_bundle_may_lack_them(self, bundle, tmp_path):
        stored = read_bundle(bundle).tensors
        path = spoil(bundle, self.without(stored), tmp_path / "old.safetensors")
        image = torch.rand(1, 3, 40, 40)
        expected, model = Segmenter.load(bundle)(image), Segmenter(**SMALL, num_classes=2)
        assert torch.equal(Segmenter.load(path)(image), expected)
        model.load_weights(path)
        assert torch.equal(model.eval()(image), expected)

    def test_weights_may_not(self):
        state = {"bn.weight": torch.ones(2), "bn.num_batches_tracked": torch.tensor(3)}
        with pytest.raises(WeightsError, match=r"of 2 tensors 1 absent: bn\.weight"):
            check_state_dict(state, {}, what="file")
