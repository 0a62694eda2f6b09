import os
import pickle
from functools import partial

import numpy as np
import pytest
import torch

from pyramidseg.backends import BACKENDS, TorchBackend, make_backend
from pyramidseg.backends.torch_backend import SAMPLE_BATCHES, SAMPLE_PX
from pyramidseg.base.errors import ConfigError, DeviceError, WeightsError
from pyramidseg.model.fpn import FPNDecoder
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predictor import Predictor


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Segmenter(num_classes=4, encoder="test_resnet", encoder_weights="none", pyramid_channels=16).eval()


def images(dtype=torch.uint8):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 45, 61), np.uint8)).to(dtype)


def test_bfloat16_gives_float32_logits_near_them(model):
    exact = TorchBackend(model, device="cpu")(images())
    rounded = TorchBackend(model, device="cpu", precision="bf16")(images())
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()


def test_uses_a_bundle_as_its_model(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    backend = TorchBackend(tmp_path / "model.safetensors", device="cpu")
    assert torch.equal(backend(images()), TorchBackend(model, device="cpu")(images()))
    assert (backend.classes, backend.in_channels) == (model.classes, 3)


def test_a_model_is_copied_and_not_changed():
    model = Segmenter(num_classes=2, encoder="test_resnet", encoder_weights="none", pyramid_channels=16).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    backend = TorchBackend(model, device="cpu", precision="bf16")
    first = backend(images())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.nn.init.ones_(model.classifier.weight)
    assert torch.equal(backend(images()), first)


def test_a_pickled_one_on_a_gpu_belongs_to_the_process_that_loads_it(model, monkeypatch):
    backend = TorchBackend(model, device="cpu")
    backend.place = "cuda:0"  # as if
    pickled = pickle.dumps(backend)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(DeviceError, match="before this process was forked"):
        backend.continue_after_fork()
    pickle.loads(pickled).continue_after_fork()


def test_upsampled_coarse_logits_are_the_logits(model):
    backend = TorchBackend(model, device="cpu")
    coarse = backend.coarse_logits(images())
    assert coarse.shape == (2, 4, 16, 16)  # 45x61 padded to 64x64, at stride 4
    assert torch.equal(backend.geometry.upsample(coarse, 45, 61), backend(images()))
    with torch.inference_mode():
        torch.testing.assert_close(backend.geometry.upsample(coarse, 45, 61), model.upsample(coarse, 45, 61))


def test_a_failed_compilation_is_one_line(model, monkeypatch):
    def compile(function, **options):
        def fail(images):
            raise RuntimeError("no C compiler\nat all")

        return fail

    monkeypatch.setattr(torch, "compile", compile)
    with pytest.raises(ConfigError, match=r"^`backend=torch-compiled`: torch.compile failed \(no C compiler\); choose"):
        make_backend(model, "torch-compiled", device="cpu")


@pytest.fixture(scope="module", params=[3, 1], ids="{} channels".format)
def compiled(request):
    """A compiled backend with the graphs that torch traces; they run as they are, which takes no compiler."""
    torch.manual_seed(0)
    model = Segmenter(
        num_classes=4, encoder="test_resnet", encoder_weights="none", pyramid_channels=16, in_channels=request.param
    )
    torch.compiler.reset()
    compile, traced = torch.compile, []

    def keep(graph, example):
        traced.append(graph)
        return graph.forward

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", partial(compile, backend=keep))
        backend = make_backend(model, "torch-compiled", device="cpu")
    assert backend.note == ""
    yield model, backend, traced
    torch.compiler.reset()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_nothing_is_left_to_compile_at_the_first_image(compiled, batch):
    model, backend, traced = compiled
    height, width = SAMPLE_PX
    some = torch.randint(0, 256, (batch, height + 9, width + 9, backend.in_channels), dtype=torch.uint8)
    some = some.permute(0, 3, 1, 2)
    expected = TorchBackend(model, device="cpu").coarse_logits(some)
    for images in (some, some.contiguous()) if backend.in_channels > 1 else (some,):
        torch.testing.assert_close(backend.coarse_logits(images), expected)
    assert len(traced) == len(SAMPLE_BATCHES)


def test_a_predictor_gives_images_that_are_compiled_for(compiled):
    _, backend, traced = compiled
    image = np.zeros((*SAMPLE_PX, backend.in_channels), np.uint8)
    list(Predictor(backend).predict_many([image] * 3, batch_size=2))
    assert len(traced) == len(SAMPLE_BATCHES)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("batch", [1, 2])
def test_compiled_logits_are_those_of_eager_torch(model, batch):
    backend = make_backend(model, "torch-compiled", device="cuda")
    assert backend.note == ""
    some = images()[:batch]
    torch.testing.assert_close(backend(some), TorchBackend(model, device="cuda")(some), rtol=1e-3, atol=1e-4)


def test_auto_is_torch_and_says_where_it_runs(model):
    backend = make_backend(model, device="cpu")
    assert backend.name in BACKENDS
    assert str(backend) == "torch fp32 on cpu"


def test_an_unknown_backend_is_refused_with_the_nearest(model):
    with pytest.raises(ConfigError, match=r"`backend=toch`: .*did you mean 'torch'"):
        make_backend(model, "toch")


def test_an_unknown_precision_is_refused(model):
    with pytest.raises(ConfigError, match=r"`precision=fp8`: auto, fp32, bf16 and int8"):
        make_backend(model, precision="fp8")


def test_a_missing_bundle_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.safetensors: no such file"):
        make_backend(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("options", "said"),
    [({"device": 0}, "`device=0`: a name such as auto"), ({"name": None}, "`backend=None`: unknown backend")],
)
def test_backend_and_device_are_names(model, options, said):
    with pytest.raises(ConfigError, match=said):
        make_backend(model, **options)


def test_exported_files_end_in_lower_case(tmp_path):
    with pytest.raises(WeightsError, match=r"MODEL\.ONNX: exported files end in \.onnx, in lower case; rename it"):
        make_backend(tmp_path / "MODEL.ONNX")


def test_as_written_keeps_the_decoder():
    model = Segmenter(num_classes=4, encoder="test_resnet", encoder_weights="none").eval()
    plain, composed = TorchBackend(model, device="cpu", as_written=True), TorchBackend(model, device="cpu")
    assert isinstance(plain.model.decoder, FPNDecoder)
    assert not isinstance(composed.model.decoder, FPNDecoder)
    torch.testing.assert_close(plain(images()), composed(images()), rtol=1e-4, atol=1e-5)


def test_as_written_is_refused_for_exported_files(model, tmp_path):
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ConfigError, match=r"`as_written`: an exported file .* export it again with `as_written=True`"):
        make_backend(tmp_path / "model.onnx", as_written=True)
    with pytest.raises(ConfigError, match=r"give the bundle without `backend`"):
        make_backend(model, "openvino", as_written=True)
