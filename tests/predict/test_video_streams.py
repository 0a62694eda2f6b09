"""Live streams from senders on this machine: PyAV over TCP and UDP, an RTSP server, and FFmpeg's own pattern."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import av
import numpy as np
import pytest

from made_backends import Brightness
from made_videos import bar, read_sound, read_video, write_video
from pyramidseg.base.errors import OutputError
from pyramidseg.images.video_frames import VideoReader
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predict_videos import VideoOptions
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.sources import Source
from pyramidseg.predict.video_sources import find_sources, stream_input
from support import process_environment


class Slow(Brightness):
    """Takes longer for a frame than the sender."""

    def coarse_logits(self, images):
        time.sleep(0.05)
        return super().coarse_logits(images)


class Interrupting(Brightness):
    """Somebody presses Ctrl-C at the third frame."""

    def coarse_logits(self, images):
        if len(self.batches) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return super().coarse_logits(images)


def send(url: str, stop: threading.Event, *, format: str = "mpegts", frames: int = 10**6, rate: int = 100) -> None:
    """Send bars until it is stopped, or the receiver has gone."""
    with contextlib.suppress(OSError), av.open(url, "w", format=format) as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"g": "5"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(frames):
            if stop.is_set():
                break
            frame = av.VideoFrame.from_ndarray(bar(number % 25), format="rgb24").reformat(format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
            time.sleep(1 / rate)


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def sender(url: str, **options: object) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=send, args=(url, stop), kwargs=options, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


@contextlib.contextmanager
def rtsp_server() -> Iterator[str]:
    """An RTSP server for one client, which gets MPEG-TS over RTP in the connection; frames begin at PLAY."""
    port, udp = free_port(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    udp.settimeout(0.2)
    stop = threading.Event()
    lines = ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=bars", "t=0 0", "m=video 0 RTP/AVP 33", "a=control:track1")
    sdp = "".join(f"{line}\r\n" for line in lines)

    def serve() -> None:
        with socket.create_server(("127.0.0.1", port)) as server, server.accept()[0] as client:
            requests = client.makefile("rb")
            for _ in itertools.count():
                head = list(iter(lambda: requests.readline().decode().strip(), ""))
                if not head:
                    return
                method, sequence = head[0].split()[0], next(line for line in head if line.startswith("CSeq"))
                more = {
                    "OPTIONS": "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n",
                    "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}",
                    "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n",
                }.get(method, "Session: 1\r\n\r\n")
                client.sendall(f"RTSP/1.0 200 OK\r\n{sequence}\r\n{more}".encode())
                if method == "PLAY":
                    break
            with sender(f"rtp://127.0.0.1:{udp.getsockname()[1]}", format="rtp_mpegts", rate=50):
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError, ConnectionError):
                        packet = udp.recv(65536)
                        client.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"rtsp://user:secret@127.0.0.1:{port}/live/1"
    finally:
        stop.set()
        thread.join(10)
        udp.close()


def record(url, out, *, backend=None, **options):
    predict_files(
        Predictor(backend or Brightness()), [url], out, save=("video", "shares"), video=VideoOptions(**options)
    )
    content = (out / "predictions.json").read_text()
    (entry,) = json.loads(content)["images"]
    assert "error" not in entry, entry
    return entry, content


def test_a_slow_model_gets_the_newest_frames_and_the_others_are_counted(tmp_path):
    port = free_port()
    with sender(f"tcp://127.0.0.1:{port}?listen=1", frames=150):
        entry, _ = record(f"tcp://127.0.0.1:{port}", tmp_path / "out", backend=Slow())
    video = entry["video"]
    numbers = [int(line.split(",")[0]) for line in next((tmp_path / "out").glob("*.csv")).read_text().split()[1:]]
    assert video["dropped"] > 10 and video["frames"] == len(numbers) > 3
    assert video["frames"] + video["dropped"] == numbers[-1] + 1 > 100, (
        "each was predicted or dropped, the last one was not"
    )
    assert np.diff(numbers).max() > 1 and video["latency_s"] > 0
    times, _ = read_video(next((tmp_path / "out").glob("*_mask.mp4")))
    assert len(times) == len(numbers)
    expected = [(number - numbers[0]) / 25 for number in numbers]
    assert [float(found - times[0]) for found in times] == pytest.approx(expected, abs=1e-4), "the sender's times"


def test_a_stream_over_udp_is_left_after_some_seconds(tmp_path):
    port = free_port(socket.SOCK_DGRAM)
    with sender(f"udp://127.0.0.1:{port}?pkt_size=1316"):
        entry, _ = record(f"udp://127.0.0.1:{port}", tmp_path / "out", seconds=3.0)
        with pytest.raises(
            OutputError, match="an earlier recording of this stream; choose another `out`, or `overwrite`"
        ):
            record(f"udp://127.0.0.1:{port}", tmp_path / "out", seconds=3.0)
    assert entry["outputs"]["mask"] == f"127.0.0.1_{port}_mask.mp4" and entry["video"]["frames"] > 1


def test_rtsp_without_showing_the_password(tmp_path):
    with rtsp_server() as url:
        entry, content = record(url, tmp_path / "out", seconds=4.0)
    assert entry["video"]["frames"] > 1 and entry["outputs"]["video"].endswith("_live_1_overlay.mp4")
    texts = content + "".join(path.read_text() for path in (tmp_path / "out/ledger").iterdir())
    assert "rtsp://127.0.0.1" in texts and "secret" not in texts
    _, masks = read_video(tmp_path / "out" / entry["outputs"]["mask"])
    assert 0 < masks.mean() < 1, "a part of each frame is bright"


def test_ctrl_c_completes_a_recording(tmp_path):
    """FFmpeg's own pattern, opened as a camera is, never ends."""
    entry, _ = record("lavfi://testsrc=size=64x48:rate=25,realtime", tmp_path / "out", backend=Interrupting())
    assert (entry["height"], entry["width"]) == (48, 64)
    assert len(read_video(tmp_path / "out" / entry["outputs"]["mask"])[0]) == entry["video"]["frames"] > 1


def test_another_size_ends_a_recording_and_keeps_it(tmp_path):
    content = b"".join(
        write_video(tmp_path / f"{name}.ts", frames=48, size=size, codec="libx264", sound="aac").read_bytes()
        for name, size in (("a", (48, 64)), ("b", (32, 48)))
    )

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError), server.accept()[0] as client:
            for start in range(0, len(content), 7 * 188):
                client.sendall(content[start : start + 7 * 188])
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        entry, _ = record(f"tcp://127.0.0.1:{server.getsockname()[1]}", tmp_path / "out")
    video = entry["video"]
    pattern = r"frame \d+ and those before have different sizes \(48x32 and 64x48\); the recording ends before it"
    assert re.fullmatch(pattern, video["ended"]) and (entry["height"], entry["width"]) == (48, 64)
    assert len(read_video(tmp_path / "out" / entry["outputs"]["mask"])[0]) == video["frames"] > 1
    assert len(read_sound(tmp_path / "out" / entry["outputs"]["video"])) > 5


@contextlib.contextmanager
def silent_server() -> Iterator[tuple[list[object], socket.socket]]:
    """A server that sends nothing, with a request to record from it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield [f"tcp://127.0.0.1:{server.getsockname()[1]}", "", None, 1, None, True], server


def test_ctrl_c_while_a_stream_is_opened_leaves_no_process():
    def press(server: socket.socket) -> None:
        with server.accept()[0]:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            ended.wait(10)

    reader, ended = VideoReader.__new__(VideoReader), threading.Event()
    with silent_server() as (request, server):
        threading.Thread(target=press, args=(server,), daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            reader.__init__("stream", *request)
        ended.set()
    assert reader._process.returncode == -signal.SIGKILL


def test_the_decoder_ends_with_its_parent_while_a_stream_is_opened():
    with silent_server() as (request, server):
        command = [sys.executable, "-m", "pyramidseg.images.video_frames", json.dumps(request)]
        decoder = subprocess.Popen(command, stdin=subprocess.PIPE, env=process_environment())
        with server.accept()[0]:
            assert decoder.poll() is None
            decoder.stdin.close()
            assert decoder.wait(5) == 0


def test_a_sender_that_is_silent_or_absent_is_one_line(tmp_path):
    url = f"tcp://127.0.0.1:{free_port()}"
    (failed,) = predict_files(Predictor(Brightness()), [url], tmp_path / "out").failed
    assert failed["error"] == f"{url}: Connection refused"


@pytest.mark.parametrize(
    ("name", "opened"),
    [
        ("/dev/video0", ("/dev/video0", "v4l2")),
        ("v4l2:///dev/video2", ("/dev/video2", "v4l2")),
        ("avfoundation://0", ("0", "avfoundation")),
        ("http://camera/live.M3U8?x=1", ("http://camera/live.M3U8?x=1", None)),
        ("https://example.org/clip.mp4", None),
        ("s3://bucket/clip.mp4", None),
        ("clip.ts", None),
    ],
)
def test_which_sources_are_live(name, opened, tmp_path):
    assert stream_input(Source(name, "")) == opened
    if opened:
        sources, are_videos = find_sources([name], save=("mask",), outside=tmp_path, skipped=[])
        assert are_videos and len(sources) == 1 and sources[0].stem
