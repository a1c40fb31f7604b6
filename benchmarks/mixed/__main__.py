"""Mixed sizes against one size: `python -m benchmarks.mixed`, on an idle machine, some minutes.

A service gets pictures of 160 to 2,048 pixels a side in eight formats, and as many pixels in pictures of one
size, in turns: at `POST /v1/classification` by the starter, and at `POST /v1/segmentation` by a network of
seven convolutions that takes any size, in windows. Its weights are random, as only time and equality are
looked at. `results.jsonl` gets the seconds of each round, their ratio (one size ÷ mixed), how far answers
given beside others are from those given alone, beside the certificate's drift, and what windows add to the
pictures' pixels.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks.machine import machine_facts
from benchmarks.mixed.pictures import Sent, mixed_and_same
from benchmarks.results import Results
from benchmarks.running_service import check, finish, service

HERE = Path(__file__).parent
SEGMENTER = "windows"
LABELS = ("one", "two", "three")
PATIENCE = {"x-request-deadline": "300"}
Answer = NDArray[np.generic]


def write_segmenter(path: Path, *, layers: int = 6, channels: int = 16) -> None:
    """A graph of 3 x 3 convolutions that takes any size, uint8 (n, h, w, 3) to logits (n, 3, h, w)."""
    chance = np.random.default_rng(0)
    widths = [3, *[channels] * layers]
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["levels", "white"], ["x0"]),
    ]
    weights = [numpy_helper.from_array(np.float32(255), "white")]
    for index in range(layers):
        scale = np.sqrt(2 / (9 * widths[index]))
        weight = chance.normal(scale=scale, size=(widths[index + 1], widths[index], 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"weight{index}"))
        nodes += [
            helper.make_node("Conv", [f"x{index}", f"weight{index}"], [f"sum{index}"], pads=[1] * 4),
            helper.make_node("Relu", [f"sum{index}"], [f"x{index + 1}"]),
        ]
    head = chance.normal(size=(len(LABELS), channels, 1, 1)).astype(np.float32)
    weights.append(numpy_helper.from_array(head, "head"))
    nodes.append(helper.make_node("Conv", [f"x{layers}", "head"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        SEGMENTER,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(LABELS), "h", "w"])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def publish_segmenter(client: httpx.Client, folder: Path) -> None:
    """Import it as a user does."""
    write_segmenter(folder / "windows.onnx")
    with (folder / "windows.onnx").open("rb") as file:
        uploaded = client.post("/v1/files", files={"file": file})
    check(uploaded)
    body = {
        "name": SEGMENTER,
        "file": uploaded.json()["id"],
        "task": "segmentation",
        "fit": "tiles",
        "size": 256,
        "labels": LABELS,
    }
    made = client.post("/v1/models", json=body)
    check(made)
    finish(client, f"/v1/jobs/{made.json()['id']}")


def classified(client: httpx.Client, sent: Sent) -> Answer:
    """Shares of the labels that a thousandth is of."""
    answer = client.post("/v1/classification?top_k=1000", content=sent.data, headers=PATIENCE)
    check(answer)
    scores = {one["label"]: one["score"] for one in answer.json()["predictions"]}
    return np.array([scores[label] for label in sorted(scores)])


def segmented(client: httpx.Client, sent: Sent) -> Answer:
    """Each pixel's label."""
    answer = client.post(
        f"/v1/segmentation?model={SEGMENTER}&output=labelmap",
        content=sent.data,
        headers={"accept": "image/png", **PATIENCE},
    )
    check(answer)
    return np.asarray(Image.open(io.BytesIO(answer.content)))


Ask = Callable[[httpx.Client, Sent], Answer]


def together(client: httpx.Client, ask: Ask, sent: Iterable[Sent], *, connections: int) -> list[Answer]:
    """All answers, so many asked for at a time."""
    with ThreadPoolExecutor(connections) as pool:
        return list(pool.map(lambda one: ask(client, one), sent))


def compare(
    client: httpx.Client, ask: Ask, sets: dict[str, list[Sent]], *, rounds: int, connections: int
) -> dict[str, Any]:
    """Seconds of both sets, in turns, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sets}
    for number in range(rounds + 1):
        for name, pictures in sets.items():
            began_s = time.perf_counter()
            together(client, ask, pictures, connections=connections)
            if number:
                seconds[name].append(round(time.perf_counter() - began_s, 3))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"seconds": seconds, "throughput_of_one_size": medians["same"] / medians["mixed"]}


def added_share(client: httpx.Client) -> float:
    """What part of all computed pixels windows have added, since the service began."""
    pixels = {"picture": 0.0, "added": 0.0}
    for line in client.get("/metrics").text.splitlines():
        if line.startswith("athanor_window_pixels_total{"):
            of = "added" if 'of="added"' in line else "picture"
            pixels[of] += float(line.rsplit(" ", 1)[1])
    return pixels["added"] / sum(pixels.values())


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    asked = parser.parse_args()
    results = Results(asked.results, machine_facts("onnxruntime", "numpy", "pillow"))
    mixed, same = mixed_and_same(asked.pictures, seed=asked.seed)
    sets = {"mixed": mixed, "same": same}
    pixels = {name: sum(one.pixels for one in pictures) for name, pictures in sets.items()}
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as client:
        client.timeout = httpx.Timeout(300)
        publish_segmenter(client, Path(name))
        for route, model, ask in (
            ("classification", "efficientnet-lite0", classified),
            ("segmentation", SEGMENTER, segmented),
        ):
            figures = compare(client, ask, sets, rounds=asked.rounds, connections=asked.connections)
            alone = [ask(client, one) for one in mixed]
            beside = together(client, ask, mixed, connections=asked.connections)
            pairs = list(zip(alone, beside, strict=True))
            certificate = client.get(f"/v1/models/{model}/versions/1/artifacts/certificate.json").json()
            results.write(
                route,
                pixels=pixels,
                pictures=asked.pictures,
                connections=asked.connections,
                **figures,
                largest_difference=max(float(np.abs(a - b.astype(float)).max()) for a, b in pairs),
                equal_answers=sum(np.array_equal(a, b) for a, b in pairs),
                drift=(certificate["agreement"] or {}).get("drift"),
            )
        results.write("windows", added_share=added_share(client))


if __name__ == "__main__":
    main()
