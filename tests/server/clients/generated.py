"""Uses a client that openapi-python-client made of the service's own description: arguments are its address and pictures."""

import sys

from siamese_index_client import Client
from siamese_index_client.api.answers import answers, feedback, identify, verify
from siamese_index_client.api.enrolled import (
    add_samples,
    change_identity,
    identities,
    remove_identity,
    sample_thumbnail,
)
from siamese_index_client.api.gallery import gallery, history, operating_point, start_training, training, undo
from siamese_index_client.models import (
    AddSamplesBody,
    IdentifyBody,
    IdentityChange,
    Problem,
    TrainingTerms,
    Truth,
    VerifyBody,
)
from siamese_index_client.models import IdentityChangeTagsType0 as Tags
from siamese_index_client.types import File

url, one, same, other = sys.argv[1:]


def shown(*paths):
    return [File(open(path, "rb"), path.split("/")[-1], "image/png") for path in paths]


with Client(base_url=url) as client:
    before = gallery.sync(client=client)["identities"]
    made = add_samples.sync_detailed(client=client, identity="newcomer", body=AddSamplesBody(file=shown(one)))
    assert made.status_code == 201, made.content
    found = identify.sync(client=client, body=IdentifyBody(file=shown(same, other)), k=2)
    assert [answer.verdict for answer in found.answers] == ["match", "unknown"], found
    assert found.answers[0].identity == "newcomer" and len(found.answers[0].candidates) == 2
    assert found.answers[0].evidence.promised is True
    refused = identify.sync(client=client, body=IdentifyBody(file=shown(__file__)))
    assert isinstance(refused, Problem) and refused.status == 422, refused
    told = verify.sync(client=client, identity="newcomer", body=VerifyBody(file=shown(same)))
    assert told.verdict == "match", told
    page = identities.sync(client=client, q="newc")
    assert [(row.name, row.samples) for row in page.identities] == [("newcomer", 1)] and page.next_ is None
    thumbnail = sample_thumbnail.sync_detailed(page.identities[0].sample, client=client)
    assert thumbnail.content.startswith(b"\x89PNG")
    tags = Tags()
    tags["site"] = "north"
    changed = change_identity.sync("newcomer", client=client, body=IdentityChange(name="old hand", tags=tags))
    assert changed.name == "old hand" and changed.tags["site"] == "north"
    logged = answers.sync(client=client, limit=1)
    corrected = feedback.sync(found.answers[1].answer, client=client, body=Truth(stranger=True))
    assert corrected["truth"] == "stranger" and logged[0].verdict == "unknown"
    assert undo.sync(client=client, count=3) and history.sync(client=client, limit=1)[0].verb == "undo"
    assert remove_identity.sync("newcomer", client=client).count == 1
    missing = remove_identity.sync("newcomer", client=client)
    assert isinstance(missing, Problem) and missing.type_ == "urn:siamese-index:problem:missing"
    assert gallery.sync(client=client)["identities"] == before
    assert operating_point.sync(client=client)["threshold"] > 0
    job = start_training.sync_detailed(client=client, body=TrainingTerms(steps=100_000))
    assert job.status_code == 202 and training.sync(job.parsed["id"], client=client)["state"] == "running"
