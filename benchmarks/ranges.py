"""Measures the range of each layer of the networks that have an int8 twin, on photos: what facecam/zoo/int8.json holds.

Usage: python -m benchmarks.ranges [PHOTOS...] [--write]

Without photos every 20th picture of lfw_dev is taken, at four sizes, and every 40th of cats_dogs, so that the detector
sees what is no face, too. The embedder sees the crops of the faces that are found.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.lfw import ROOT, data_folder
from facecam.engine import open_engine
from facecam.settings import Settings
from facecam.video.photos import read_photo
from facecam.vision.align import align
from facecam.zoo import dlib, pairs
from facecam.zoo.session import runtime

SIZES = (0.7, 1.0, 1.4, 2.0)


class Tapped:
    """A float32 model whose inner maps are looked at: what leaves a ReLU, and convolutions without one."""

    def __init__(self, content: bytes) -> None:
        import onnx

        model = onnx.load_model_from_string(content)
        followed = {n.input[0] for n in model.graph.node if n.op_type == "Relu"}
        self.taps = [
            n.output[0]
            for n in model.graph.node
            if n.op_type == "Relu" or (n.op_type == "Conv" and n.output[0] not in followed)
        ]
        for name in self.taps:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        self.input = model.graph.input[0].name
        self.session: Any = runtime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.limits = np.zeros((len(self.taps), 2))

    def see(self, image: Any) -> None:
        maps = self.session.run(self.taps, {self.input: image.transpose(2, 0, 1)[None].astype(np.float32)})
        self.limits[:, 0] = np.minimum(self.limits[:, 0], [m.min() for m in maps])
        self.limits[:, 1] = np.maximum(self.limits[:, 1], [m.max() for m in maps])


def main() -> None:
    parser = argparse.ArgumentParser(description="The range of each layer of dlib's networks, measured on photos.")
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--write", action="store_true", help="into facecam/zoo/int8.json")
    arguments = parser.parse_args()
    data = data_folder()
    photos = arguments.photos or [
        *sorted(data.glob("lfw_dev/images/*/*.jpg"))[::20],
        *sorted(data.glob("cats_dogs/train/*/*.jpg"))[::40],
    ]
    engine = open_engine(Settings(device="cpu", precision="fp32"))
    tapped = {
        role: Tapped(dlib.convert(role, dlib.weights_path(role).read_bytes())) for role in ("detector", "embedder")
    }
    tapped["pairs"] = Tapped(pairs.convert(pairs.FILE.read_bytes()))
    faces = 0
    for number, path in enumerate(photos):
        image = read_photo(path)
        zoom = SIZES[number % len(SIZES)]
        tapped["detector"].see(cv2.resize(image, None, fx=zoom, fy=zoom))
        for face in engine.landmarker.locate(image, engine.detector.detect(image, 40)):
            crop = align(image, face, "dlib-150")
            for role in ("embedder", "pairs"):
                tapped[role].see(crop)
            faces += 1
    print(f"{len(photos)} photos, {faces} faces")
    result = {
        "note": "smallest and largest activation of each layer; python -m benchmarks.ranges",
        **{role: np.round(model.limits, 4).tolist() for role, model in tapped.items()},
    }
    for role in tapped:
        print(role, " ".join(f"{low:.2f}..{high:.2f}" for low, high in result[role]))
    if arguments.write:
        (ROOT / "facecam" / "zoo" / "int8.json").write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
