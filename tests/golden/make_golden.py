"""Makes dlib.json with dlib itself; run once, in an environment that has it:

pip install dlib face_recognition_models pillow matplotlib scikit-image && python tests/golden/make_golden.py
"""

import importlib.util
import json
from pathlib import Path

import dlib
import numpy as np
from PIL import Image

HERE = Path(__file__).parent


def inside(package, name):
    return str(Path(importlib.util.find_spec(package).submodule_search_locations[0]) / name)


def generated(seed):
    """The same picture as tests.support.generated_crop, in RGB."""
    y, x = np.mgrid[0:150, 0:150].astype(np.float64)
    waves = [127.5 + 127.5 * np.sin((x * (seed + 1) + y * (c + 2)) / (11.0 + 3 * c + seed)) for c in range(3)]
    return np.floor(np.stack(waves, 2)).clip(0, 255).astype(np.uint8)


def main():
    models = {
        role: inside("face_recognition_models", f"models/{name}.dat")
        for role, name in (
            ("detector", "mmod_human_face_detector"),
            ("landmarks", "shape_predictor_5_face_landmarks"),
            ("embedder", "dlib_face_recognition_resnet_model_v1"),
        )
    }
    detect = dlib.cnn_face_detection_model_v1(models["detector"])
    locate = dlib.shape_predictor(models["landmarks"])
    embed = dlib.face_recognition_model_v1(models["embedder"])

    def vector(chip):
        return [round(float(v), 7) for v in np.array(embed.compute_face_descriptor(chip))]

    rng = np.random.default_rng(7)
    out = {"generated": [vector(generated(seed)) for seed in range(3)]}
    pictures = {
        "astronaut": inside("skimage", "data/astronaut.png"),
        "grace_hopper": inside("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    }
    for name, path in pictures.items():
        image = np.array(Image.open(path).convert("RGB"))
        faces = []
        for found in detect(image, 0):
            box = found.rect
            shape = locate(image, box)
            faces.append(
                {
                    "box": [box.left(), box.top(), box.width(), box.height()],
                    "score": found.confidence,
                    "points": [[p.x, p.y] for p in shape.parts()],
                    "vector": vector(dlib.get_face_chip(image, shape, 150, 0.25)),
                }
            )
        x, y, w, _ = faces[0]["box"]
        jittered = []
        for _ in range(20):
            side = int(w * rng.uniform(0.85, 1.15))
            left, top = (int(v + w * rng.uniform(-0.08, 0.08)) for v in (x, y))
            shape = locate(image, dlib.rectangle(left, top, left + side - 1, top + side - 1))
            jittered.append({"box": [left, top, side, side], "points": [[p.x, p.y] for p in shape.parts()]})
        out[name] = {"faces": faces, "jittered": jittered}
    (HERE / "dlib.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
