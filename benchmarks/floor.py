"""What one would write by hand: identify one picture with the bare libraries, and nothing else.

python floor.py PICTURE TOWER.onnx INDEX.faiss NAMES.sqlite THRESHOLD HEIGHT WIDTH
"""

import json
import sqlite3
import sys

import cv2
import faiss
import numpy as np
import onnxruntime

picture, onnx, index_file, names, threshold, height, width = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
index = faiss.read_index(index_file, faiss.IO_FLAG_MMAP_IFC)
pixels = cv2.imdecode(np.fromfile(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
pixels = cv2.resize(pixels, (int(width), int(height)), interpolation=cv2.INTER_AREA)
vector = session.run(None, {session.get_inputs()[0].name: pixels[None, :, :, None].astype(np.float32)})[0]
squared, found = index.search(vector, 5)
database = sqlite3.connect(names)
rows = [database.execute("SELECT name FROM names WHERE id = ?", (int(i),)).fetchone()[0] for i in found[0]]
distances = np.sqrt(squared[0])
print(json.dumps({"identity": rows[0] if distances[0] <= float(threshold) else None, "candidates": rows}))
