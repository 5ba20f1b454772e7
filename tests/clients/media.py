"""Always-on work by real models: speech found, noise taken out, a background replaced. Standard library only.

The models and recordings lie beside the project (`TROIKA_SHARED`, or `../shared`); `run` puts the models into the server's
home. Without them every check is skipped, and says so.
"""

import array
import base64
import json
import os
import struct
import threading
import zlib
from pathlib import Path

from harness import Skip, Suite, each, equal, expect
from http_client import ask

suite = Suite("always-on")
check = suite.check

DATA = Path(os.environ.get("TROIKA_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data"
ACTIVITY, DENOISE, VISION = "/api/troika/audio/activity", "/api/troika/audio/denoise", "/api/troika/vision"
# What Silero's own code says of the recording, in seconds.
SPEECH = [(0.322, 2.270), (3.266, 4.446), (5.378, 7.678), (8.162, 10.622)]
# A model of half a megabyte on a busy machine, and a debug build.
TIMEOUT = 300


def data(path):
    """A file of the data; skips the check where it is absent."""
    file = DATA / path
    if not file.is_file():
        raise Skip(f"{path} is not beside the project")
    return file.read_bytes()


def post(path, body, headers=None):
    answer = ask(suite.url, "POST", path, body, {"Content-Type": "application/octet-stream", **(headers or {})}, TIMEOUT)
    return answer


def good(answer):
    """The answer, which is one."""
    expect(answer.status == 200, answer.status, answer.body[:600])
    return answer


def check_work(answer, troika):
    """Holds what an answer tells of its work to itself."""
    equal(answer.headers.get("x-troika-placement"), f"run={troika['device']}")
    expect(troika["library"] and isinstance(troika["lost"], list), troika)
    expect(all(lost["candidate"] and lost["why"] for lost in troika["lost"]), troika)
    expect(troika["queue_ms"] >= 0 and troika["load_ms"] >= 0, troika)
    expect(troika["run_ms"] is None or troika["run_ms"] > 0, troika)
    equal(troika["joules"] is None, troika["joules_source"] == "unknown", troika)


def check_speech(segments):
    equal(len(segments), len(SPEECH), segments)
    for segment, (start, end) in zip(segments, SPEECH):
        expect(abs(segment["start_s"] - start) < 0.1 and abs(segment["end_s"] - end) < 0.1, segment, start, end)
        expect(segment["probability"] > 0.5, segment)


@check("the models are listed with what runs them")
def _():
    data("audio/silero_vad.onnx"), data("vision/selfie_segmentation_landscape.onnx")
    models = {model["name"]: model for model in good(ask(suite.url, "GET", "/api/troika/onnx", timeout=TIMEOUT)).json()["data"]}
    for name, kind in (("silero_vad", "activity"), ("gtcrn_simple", "denoise"), ("selfie_segmentation_landscape", "segment"),
                       ("mnist-8", "classify")):  # fmt: skip
        equal(models[name].get("kind"), kind, models[name])
        expect(models[name]["device"] and models[name]["library"], models[name])
    seeing = {model["name"] for model in ask(suite.url, "GET", VISION, timeout=TIMEOUT).json()["data"]}
    expect("silero_vad" not in seeing and "mnist-8" in seeing, seeing)


@check("speech is found where it is")
def _():
    answer = good(post(ACTIVITY, data("audio/jfk.wav"), {"Content-Type": "audio/wav"}))
    body = answer.json()
    check_speech(body["segments"])
    check_work(answer, body["troika"])
    expect(abs(body["length_s"] - 11.0) < 0.1, body)


@check("speech is told as it is found, as events and as lines")
def _():
    sound = data("audio/jfk.wav")

    def told(accept):
        text = good(post(ACTIVITY, sound, {"Accept": accept})).body.decode()
        lines = [line.removeprefix("data: ") for line in text.splitlines()]
        *segments, last = [json.loads(line) for line in lines if line.startswith("{")]
        equal({segment["event"] for segment in segments}, {"speech"})
        check_speech(segments)
        equal((last["event"], last["segments"]), ("summary", len(SPEECH)), last)
        expect(last["troika"]["run_ms"] > 0, last)

    each([("text/event-stream",), ("application/x-ndjson",)], told)


@check("a form as OpenAI's clients send it")
def _():
    sound = data("audio/jfk.wav")
    parts = [b'--cut\r\nContent-Disposition: form-data; name="min_silence_ms"\r\n\r\n60000\r\n--cut\r\n'
             b'Content-Disposition: form-data; name="file"; filename="jfk.wav"\r\nContent-Type: audio/wav\r\n\r\n', sound,
             b"\r\n--cut--\r\n"]  # fmt: skip
    body = good(post(ACTIVITY, b"".join(parts), {"Content-Type": "multipart/form-data; boundary=cut"})).json()
    equal(len(body["segments"]), 1, "pauses of a minute are passed over", body["segments"])


def samples(wav):
    """The samples of a WAV file of 16 bits and one channel."""
    at = wav.index(b"data") + 8
    return array.array("h", wav[at : at + (len(wav) - at) // 2 * 2])


@check("the noise is taken out as by the model's authors")
def _():
    noisy, reference = data("audio/mix.wav"), samples(data("audio/enh_stream.wav"))
    answer = good(post(DENOISE, noisy))
    equal(answer.headers["content-type"], "audio/wav")
    check_work(answer, json.loads(answer.headers["x-troika-report"]))
    equal(struct.unpack("<I", answer.body[4:8])[0], len(answer.body) - 8)
    equal(len(samples(answer.body)), len(samples(noisy)), "as much comes out as goes in")
    # Theirs ends at a whole window.
    alike = correlation(samples(answer.body), reference)
    expect(alike > 0.999, alike)


def correlation(a, b):
    """How alike two sounds are, as far as the shorter one goes."""
    count = min(len(a), len(b))
    a, b = a[:count], b[:count]
    dot = sum(x * y for x, y in zip(a, b))
    return dot / ((sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5 or 1)


@check("a person is found in a picture, and what is behind is replaced")
def _():
    picture = data("vision/sergey.png")
    model = "model=selfie_segmentation_landscape"
    answer = good(post(f"{VISION}?{model}", picture))
    body = answer.json()
    mask = body["mask"]
    check_work(answer, body["troika"])
    equal(sum(mask["runs"]), mask["width"] * mask["height"])
    foreground = sum(mask["runs"][1::2]) / sum(mask["runs"])
    expect(abs(foreground - mask["coverage"]) < 1e-3 and 0.2 < foreground < 0.8, foreground, mask["coverage"])

    for background, channels in (("blur", 2), ("remove", 6), ("%231e90ff", 2), ("mask", 0)):
        answer = good(post(f"{VISION}?background={background}", picture, {"Accept": "image/png"}))
        equal(answer.headers["content-type"], "image/png")
        check_work(answer, json.loads(answer.headers["x-troika-report"]))
        width, height, _, kind = struct.unpack(">IIBB", answer.body[16:26])
        equal((width, height, kind), (body["width"], body["height"], channels), background)
        expect(zlib.crc32(answer.body[12:29]) == struct.unpack(">I", answer.body[29:33])[0], "no PNG")


@check("a picture may come as a data URL in JSON")
def _():
    url = "data:image/png;base64," + base64.b64encode(data("vision/sergey.png")).decode()
    part = {"type": "image_url", "image_url": {"url": url}, "model": "selfie_segmentation_landscape", "mask": "none"}
    body = good(ask(suite.url, "POST", VISION, part, timeout=TIMEOUT)).json()
    expect(0.2 < body["mask"]["coverage"] < 0.8, body)


@check("texts are embedded by an encoder in a folder")
def _():
    if "TROIKA_MINILM" not in os.environ:
        raise Skip("TROIKA_MINILM does not name the folder of all-MiniLM-L6-v2")
    texts = ["A cat sleeps on the sofa.", "A kitten naps on a couch.", "The stock market fell sharply."]

    def embed(**more):
        answer = good(ask(suite.url, "POST", "/v1/embeddings", {"model": "minilm", "input": texts, **more}, timeout=TIMEOUT))
        return answer, [item["embedding"] for item in answer.json()["data"]]

    answer, (cat, kitten, market) = embed()
    equal((len(cat), answer.json()["usage"]["prompt_tokens"] > 15), (384, True))
    device = answer.json()["usage"]["troika"]["placement"][0]["device"]
    equal(answer.headers["x-troika-placement"], f"prefill={device}")
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))  # noqa: E731
    expect(abs(dot(cat, cat) - 1) < 1e-4 and dot(cat, kitten) > 0.5 > 0.3 > dot(cat, market), dot(cat, kitten))
    _, (short, *_) = embed(dimensions=64)
    equal((len(short), abs(dot(short, short) - 1) < 1e-4), (64, True))


@check("many at once are answered one after the other, each with its own")
def _():
    sound, picture = data("audio/jfk.wav"), data("vision/sergey.png")
    failures = []

    def one(number):
        try:
            if number % 2:
                check_speech(good(post(ACTIVITY, sound)).json()["segments"])
            else:
                body = good(post(f"{VISION}?model=selfie_segmentation_landscape&mask=none", picture)).json()
                expect(0.2 < body["mask"]["coverage"] < 0.8, body)
        except Exception as error:  # told below, by this thread's number
            failures.append(f"{number}: {error}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(failures, [])


@check("what is wrong is refused with what, where and what to do")
def _():
    data("audio/silero_vad.onnx")

    def refused(path, body, headers, status, says):
        answer = post(path, body, headers)
        equal(answer.status, status, path, answer.body[:400])
        expect(says in answer.message, path, says, answer.message)

    each(
        [
            (VISION + "?model=mnist-8", b"no picture", {}, 400, "JPEG, PNG and WebP"),
            (VISION + "?model=dog", b"x", {}, 404, "silero_vad"),
            (VISION + "?model=mnist-8", b"x" * (9 << 20), {}, 413, "body_limit"),
            (ACTIVITY, b"no sound", {}, 400, "WAV, FLAC, MP3"),
            (ACTIVITY, b"no sound", {"X-Troika-Class": "urgent"}, 400, "interactive"),
            (ACTIVITY, b"no sound", {"X-Troika-Device": "tpu0"}, 400, "npu0, gpu0, cpu0"),
            ("/v1/audio/transcriptions", b"x", {}, 400, ACTIVITY),
            ("/v1/audio/speech", b"{}", {}, 400, DENOISE),
        ],
        refused,
    )


suite.main()
