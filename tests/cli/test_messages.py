"""Arguments in messages, which the command line prints as its options."""

import logging

import pytest

from pyramidseg.cli.flags import in_options
from pyramidseg.cli.main import main, option_names


@pytest.mark.parametrize(
    ("command", "message", "printed"),
    [
        ("train", "`resume=True` continues, or choose another `out`", "--resume continues, or choose another --out"),
        ("train", "give `minutes=1.5`, or `unlabeled=FOLDER`", "give --minutes 1.5, or --unlabeled FOLDER"),
        ("predict", "`tile_px=256` and `format='zarr'`", "--tile 256 and --scene-format zarr"),
        ("predict", "export with `input_dtype='float32'`", "export with --input float32"),
        ("export", "`size=(512, 64)` and `format='onnx'`", "--size 512x64 and --format onnx"),
        ("import", "`library=spm`: unknown; `prefix='a b.'`", "--from spm: unknown; --prefix 'a b.'"),
        ("train", "`out=/my data/a=b`: exists", "--out /my data/a=b: exists"),
        (
            "train",
            "start `ray start --head`, `pretrain`, `x=1` or a`b",
            "start `ray start --head`, `pretrain`, `x=1` or a`b",
        ),
    ],
)
def test_an_argument_becomes_an_option_of_the_command_or_of_another(command: str, message: str, printed: str) -> None:
    assert in_options(message, option_names(command)) == printed


def test_log_messages_have_options_too_and_other_handlers_get_them_as_they_were(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["config"]) == 0
    logger = logging.getLogger("pyramidseg.predict")
    logger.addHandler(caplog.handler)
    logger.warning("to resample images, predict with `resample=%g`", 0.5)
    logger.removeHandler(caplog.handler)
    assert "predict with --resample 0.5\n" in capsys.readouterr().err
    assert caplog.records[-1].getMessage().endswith("predict with `resample=0.5`")
