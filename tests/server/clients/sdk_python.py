"""By compreface-sdk-python 1.0.6: python sdk_python.py PORT PICTURE SAME OTHER."""

import base64
import sys
from pathlib import Path

from compare import CompareFace

port, picture, same, other = sys.argv[1:]
service = CompareFace("http://127.0.0.1", int(port))
recognition = service.init_recognition_service("any")

assert recognition.add_a_subject("ada") == {"subject": "ada"}
added = recognition.add_a_img("ada", picture)
assert added["subject"] == "ada", added
coded = base64.b64encode(Path(same).read_bytes()).decode()
second = recognition.add_a_img_by_64("ada", coded)
assert second["subject"] == "ada", second
assert recognition.list_saved_img_subject(subject="ada")["total_elements"] == 2
assert recognition.recognize(same)["result"][0]["subjects"][0]["subject"] == "ada"
assert recognition.recognize_by_64(coded)["result"][0]["subjects"][0]["similarity"] > 0.9
assert recognition.recognize(other)["result"][0]["subjects"][0]["similarity"] < 0.5
assert recognition.verify(same, second["image_id"])["result"][0]["similarity"] > 0.9
assert service.init_verify_service("any").verify(picture, picture)["result"][0]["face_matches"]
assert len(service.init_detect_service("any").detect(picture)["result"]) == 1
assert recognition.rename_a_subject("ada", "ada byron") == {"updated": True}
assert recognition.delete_a_img(second["image_id"])["subject"] == "ada byron"
assert recognition.delete_multiple_img([added["image_id"]]) == [{"image_id": added["image_id"], "subject": "ada byron"}]
assert recognition.delete_saved_img_by_subject("nobody")["deleted"] == 0
assert "subjects" in recognition.list_all_subjects()
assert recognition.delete_all_subjects()["deleted"] >= 0
