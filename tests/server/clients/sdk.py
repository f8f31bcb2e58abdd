"""By compreface-sdk 0.6.0: python sdk.py PORT PICTURE SAME OTHER."""

import sys

from compreface import CompreFace

port, picture, same, other = sys.argv[1:]
service = CompreFace("http://127.0.0.1", port, {"limit": 0, "det_prob_threshold": 0.8, "prediction_count": 1})
recognition = service.init_face_recognition("any")
faces, subjects = recognition.get_face_collection(), recognition.get_subjects()

assert subjects.add("ada") == {"subject": "ada"}
assert subjects.add("ada")["code"] == 43
added = faces.add(picture, "ada")
assert added["subject"] == "ada"
assert {"image_id": added["image_id"], "subject": "ada"} in faces.list()["faces"]
found = recognition.recognize(same, {"status": "true"})["result"]
assert found[0]["subjects"][0]["subject"] == "ada" and found[0]["subjects"][0]["similarity"] >= 0.5, found
assert recognition.recognize(other)["result"][0]["subjects"][0]["similarity"] < 0.5
assert faces.verify(picture, added["image_id"])["result"][0]["similarity"] > 0.9
assert subjects.update("ada", "ada byron") == {"updated": True}
assert "ada byron" in subjects.list()["subjects"]
verification = service.init_face_verification("any")
assert verification.verify(picture, picture)["result"][0]["face_matches"][0]["similarity"] > 0.9
assert len(service.init_face_detection("any").detect(picture)["result"]) == 1
assert faces.delete(added["image_id"])["image_id"] == added["image_id"]
assert faces.delete(added["image_id"])["code"] == 44
faces.add(picture, "ada2")
assert faces.delete_all("ada2") == {"deleted": 1}
assert subjects.delete("ada2") == {"subject": "ada2"}
assert subjects.delete_all()["deleted"] >= 1
assert subjects.list() == {"subjects": []}
