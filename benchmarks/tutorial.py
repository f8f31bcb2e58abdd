"""What one writes after the tutorials: TensorFlow embeds, FAISS searches, a constant decides.

python tutorial.py TOWER.keras THRESHOLD ENROLL_FOLDER PROBE…      (a picture per identity in the folder)
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import cv2
import faiss
import keras
import numpy as np

model_file, threshold, folder, *probes = sys.argv[1:]
model = keras.models.load_model(model_file)
height, width = model.input_shape[1:3]


def embed(path: str) -> np.ndarray:
    pixels = cv2.resize(cv2.imread(path, cv2.IMREAD_GRAYSCALE), (width, height), interpolation=cv2.INTER_AREA)
    return model.predict(pixels[None, :, :, None].astype(np.float32), verbose=0)


names = sorted(os.listdir(folder))
index = faiss.IndexFlatL2(model.output_shape[-1])
index.add(np.concatenate([embed(os.path.join(folder, name)) for name in names]))
for probe in probes:
    squared, found = index.search(embed(probe), 5)
    match = names[found[0, 0]] if np.sqrt(squared[0, 0]) <= float(threshold) else None
    print(json.dumps({"probe": probe, "identity": match and match.rpartition(".")[0]}))
