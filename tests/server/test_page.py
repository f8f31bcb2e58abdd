"""The page, walked through in a real browser as a person would."""

import base64
import json
import shutil

import pytest
from playwright.sync_api import expect

from siamese_index import Gallery
from siamese_index.samples import images
from siamese_index.training.glyphs import glyph
from tests.server.browser import browsing, findings, looking, seen
from tests.server.live import serving

VIEWS = ["identify", "people", "people/glyph 3", "review", "threshold", "health", "training"]


@pytest.fixture(scope="module")
def browser():
    with browsing() as opened:
        yield opened


@pytest.fixture(scope="module")
def enrolled(tower_path, world, tmp_path_factory):
    """A gallery of twelve glyphs by two hands, one under a wrong name; and two pictures of a glyph that is not in it."""
    place = tmp_path_factory.mktemp("page") / "glyphs.gallery"
    with Gallery.create(place, tower_path, fpir=0.1) as gallery:
        gallery.enroll_many([(f"glyph {n}", images.encode(glyph(300 + n, h))) for n in range(12) for h in range(3)])
        gallery.enroll_many([("glyph 3", images.encode(glyph(309, 9)))], conflicts="allow")
        gallery.calibrate(strangers_given=[(f"s{n}", images.encode(glyph(400 + n, 0))) for n in range(40)])
        for n in range(500, 700):
            one, other = (images.encode(glyph(n, hand)) for hand in (0, 1))
            if gallery.identify(one).verdict == "unknown":
                gallery.enroll("new", [one])
                known = gallery.identify(other).identity
                gallery.curation.undo()
                if known == "new":
                    break
        else:
            pytest.fail("no glyph is unknown, and found by its other hand")
        gallery.log(True)
    return place, one, other


@pytest.fixture
def page(browser, enrolled, tmp_path):
    """The page of a copy of the gallery, as anybody on this machine sees it."""
    place = tmp_path / "glyphs.gallery"
    shutil.copy(enrolled[0], place)
    with serving(place) as service, looking(browser, str(service.base_url)) as shown:
        shown.service = service
        yield shown


def drop(page, *pictures):
    """Drop pictures where they are to be dropped, as a browser hands them over."""
    number = page.locator("article.answer").count()
    files = [(f"probe {i}.png", base64.b64encode(data).decode()) for i, data in enumerate(pictures)]
    data = page.evaluate_handle(
        """files => {
            const data = new DataTransfer();
            for (const [name, text] of files) {
                const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
                data.items.add(new File([bytes], name, { type: "image/png" }));
            }
            return data;
        }""",
        files,
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": data})
    expect(page.locator("article.answer")).to_have_count(number + len(pictures))
    return page.locator("article.answer").first


def message(page, text):
    page.locator("#messages").get_by_text(text).wait_for()


def undo(page):
    page.locator("#messages").get_by_role("button", name="Undo").last.click()
    message(page, "Taken back.")


def test_from_unknown_to_named_to_corrected_to_reviewed_to_undone(page, enrolled):
    _, one, other = enrolled
    seen(page, "identify")
    first = drop(page, one)
    assert first.locator("h2").inner_text().strip() == "Unknown"
    expect(first.locator("ul.pictures img[src^=blob]")).to_have_count(5)
    first.get_by_label("Who it is").fill("newcomer")
    first.get_by_role("button", name="Save").click()
    message(page, "newcomer is enrolled: 1 new sample of newcomer.")
    second = drop(page, other)
    assert second.locator("h2").inner_text().split() == ["Match", "newcomer"]
    second.get_by_label("Who it is in truth").fill("glyph 5")  # it was wrong
    second.get_by_role("button", name="Save").click()
    message(page, "1 new sample of glyph 5.")
    third = drop(page, images.encode(glyph(900, 4)))
    assert third.get_by_role("button", name="Nobody we know").count() == 1
    # What nobody knew waits in the review.
    page.service.post("/api/v1/identifications", files={"file": ("later.png", images.encode(glyph(901, 4)))})
    seen(page, "review")
    page.locator("#last li").first.wait_for()
    assert page.locator("#last").get_by_text("corrected: glyph 5").count() == 1
    unknown = page.service.get("/api/v1/review").json()["clusters"]
    groups = page.locator("article.group")
    assert groups.count() == len(unknown) > 0
    groups.first.get_by_label("Who this group shows").fill("from the review")
    groups.first.get_by_role("button", name="Save").click()
    message(page, "from the review is enrolled")
    expect(groups).not_to_have_count(len(unknown))
    names = lambda: {row["name"] for row in page.service.get("/api/v1/identities").json()["identities"]}  # noqa: E731
    assert {"newcomer", "from the review"} <= names()
    undo(page)
    expect(groups).to_have_count(len(unknown))
    assert "from the review" not in names() and "newcomer" in names()


def test_an_undo_does_not_take_back_what_another_did(page):
    seen(page, "people/glyph 1")
    page.get_by_role("button", name="Tags …").click()
    page.get_by_label("Tags", exact=True).fill("site=north\nshift = night")
    page.get_by_role("button", name="Save").click()
    message(page, "The tags of glyph 1 are set.")
    assert page.service.get("/api/v1/identities/glyph 1").json()["tags"] == {"site": "north", "shift": "night"}
    assert page.service.delete("/api/v1/identities/glyph 7").json() == {"count": 3}
    page.locator("#messages").get_by_role("button", name="Undo").click()
    message(page, "the newest change is not revision")
    assert page.service.get("/api/v1/identities/glyph 7").status_code == 404
    page.faults[:] = [each for each in page.faults if "409" not in each]  # the browser tells of it, too


def test_an_undo_is_of_the_own_change_alone(page):
    """Whatever comes between the change and its message, and where nothing was changed there is none."""
    rename = lambda name, new: page.service.patch(f"/api/v1/identities/{name}", json={"name": new}).json()["name"]  # noqa: E731
    undos = page.locator("#messages").get_by_role("button", name="Undo")
    rename("glyph 5", "of others")
    seen(page, "health")
    page.get_by_role("button", name="Write a backup beside the gallery").click()
    message(page, "Written: ")
    expect(undos).to_have_count(0)
    seen(page, "people/glyph 1")
    page.route("**/api/v1/history?limit=1", lambda route: (rename("glyph 7", "also of others"), route.continue_()))
    page.get_by_role("button", name="Tags …").click()
    page.get_by_label("Tags", exact=True).fill("site=north")
    page.get_by_role("button", name="Save").click()
    message(page, "The tags of glyph 1 are set.")
    expect(undos).to_have_count(0)
    page.unroute("**/api/v1/history?limit=1")
    for box in page.get_by_label("Choose sample").all()[:2]:
        box.check()
    page.get_by_role("button", name="Remove", exact=True).last.click()
    message(page, "2 samples removed.")
    expect(page.locator("#samples li")).to_have_count(1)
    undo(page)
    expect(page.locator("#samples li")).to_have_count(3)
    for box in page.get_by_label("Choose sample").all():
        box.check()
    page.get_by_role("button", name="Move to …").click()
    page.get_by_label("Whose are they?").fill("elsewhere")
    page.get_by_role("button", name="Move", exact=True).click()
    page.get_by_role("heading", name="elsewhere").wait_for()
    undo(page)
    page.get_by_text("Nobody of this name is enrolled.").wait_for()
    page.faults[:] = [each for each in page.faults if "404" not in each]


def test_tags_come_back_as_they_were(page):
    given = {"note": "tall, k=v", "constructor": "x", "__proto__": "y"}
    pairs = ",".join(f'"{key}":"{value}"' for key, value in given.items())
    body, kind = f'{{"tags":{{{pairs}}}}}', {"Content-Type": "application/json"}
    done = page.service.patch("/api/v1/identities/glyph 1", content=body, headers=kind)
    assert done.status_code == 200, done.text
    known = page.service.get("/api/v1/identities/glyph 1").json()["tags"]
    assert known == given
    seen(page, "people/glyph 1")
    page.get_by_role("button", name="Tags …").click()
    page.get_by_role("button", name="Save").click()
    message(page, "The tags of glyph 1 are set.")
    assert page.service.get("/api/v1/identities/glyph 1").json()["tags"] == known
    assert page.evaluate("document.activeElement.textContent") in ("Tags …", "glyph 1")  # the focus is not lost
    page.get_by_role("button", name="Tags …").click()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Tags …"
    page.get_by_role("button", name="Tags …").click()
    page.get_by_label("Tags", exact=True).fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("main .lead .badge")).to_have_count(0)
    assert page.service.get("/api/v1/identities/glyph 1").json()["tags"] == {}


@pytest.mark.parametrize("address", ["toString", "__proto__", "nothing", "people/%", "people/nobody", ""])
def test_no_address_shows_a_blank_page(page, address):
    page.evaluate("address => { location.hash = address }", address)
    page.locator("main h1").wait_for()
    if address == "people/nobody":
        page.get_by_text("Nobody of this name is enrolled.").wait_for()
        page.faults[:] = [each for each in page.faults if "404" not in each]


def test_answers_stay_while_other_views_are_looked_at(page, enrolled):
    seen(page, "identify")
    drop(page, enrolled[1])
    seen(page, "people")
    page.get_by_label("Search by name").fill("glyph 11".replace("1", "1\u0301"))  # nobody: a letter of two signs
    expect(page.locator("#identities li")).to_have_count(0)
    seen(page, "identify")
    expect(page.locator("article.answer")).to_have_count(1)


def test_people_are_found_renamed_merged_split_and_restored(page):
    seen(page, "people")
    shown = page.locator("#identities li")
    assert shown.count() == 12
    page.locator('#identities li[data-name="glyph 3"] .badge.wrong').wait_for()
    page.get_by_label("Search by name").fill("GLYPH 1")
    expect(page.locator("#identities li")).to_have_count(3)
    page.get_by_role("link", name="glyph 11").click()
    page.get_by_role("heading", name="glyph 11").wait_for()
    page.get_by_role("button", name="Rename …").click()
    page.get_by_label("New name").fill("<b>odd</b> & / ?")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    page.get_by_role("heading", name="<b>odd</b> & / ?").wait_for()
    page.get_by_label("Choose sample").first.check()
    page.get_by_role("button", name="Split off as …").click()
    page.get_by_label("Name of the new identity").fill("part")
    page.get_by_role("dialog").get_by_role("button", name="Split off").click()
    message(page, "1 sample split off as part.")
    expect(page.locator("#samples li")).to_have_count(2)
    page.get_by_role("button", name="Merge with …").click()
    page.get_by_label("With whom").fill("part")
    page.get_by_role("dialog").get_by_role("button", name="Merge").click()
    page.get_by_role("heading", name="part").wait_for()
    expect(page.locator("#samples li")).to_have_count(3)
    page.get_by_role("button", name="Remove", exact=True).click()
    message(page, "part was removed.")
    page.get_by_role("heading", name="People").wait_for()
    page.get_by_text("Removed: can be restored").click()
    page.get_by_role("button", name="Restore").first.click()
    message(page, "part is enrolled again.")
    assert page.service.get("/api/v1/identities/part").json()["samples"] == 3
    seen(page, "people/part")
    page.get_by_role("button", name="Delete for good …").click()
    page.get_by_label("Name", exact=True).fill("part")
    page.get_by_role("dialog").get_by_role("button", name="Delete for good").click()
    message(page, "part was deleted for good.")
    assert page.locator("#messages .message").last.get_by_role("button", name="Undo").count() == 0


def test_somebody_is_enrolled_from_the_page(page, enrolled, tmp_path):
    (tmp_path / "one.png").write_bytes(enrolled[1])
    (tmp_path / "bad.png").write_bytes(b"no picture")
    seen(page, "people")
    page.get_by_role("button", name="Enroll somebody").click()
    page.get_by_label("Name", exact=True).fill("Zoë 〒")
    page.get_by_label("Pictures", exact=True).set_input_files([tmp_path / "one.png", tmp_path / "bad.png"])
    page.get_by_role("button", name="Enroll", exact=True).click()
    message(page, "1 new sample of Zoë 〒. bad.png:")
    page.get_by_role("heading", name="Zoë 〒").wait_for()
    expect(page.locator("#samples img[src^=blob]")).to_have_count(1)


def test_the_threshold_is_moved_by_keyboard_and_set(page):
    seen(page, "threshold")
    slider = page.get_by_label("How many strangers may be let in")
    assert slider.get_attribute("aria-valuetext") == "10 % of strangers let in"
    told = page.service.get("/api/v1/operating-point").json()
    at = next(point for point in told["others"] if point["target_fpir"] == 0.2)
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "20 % of strangers let in"
    figures = page.locator(".figures").inner_text()
    assert f"{at['threshold']:.3f}" in figures and f"{at['misses']} of {at['mated']} searches" in figures
    page.get_by_role("button", name="Set the target to 20 %").click()
    page.get_by_text("This target is set.").wait_for()
    assert page.service.get("/api/v1/operating-point").json()["target_fpir"] == 0.2
    undo(page)
    assert page.service.get("/api/v1/operating-point").json()["target_fpir"] == 0.1


def test_strangers_are_added_from_the_page(page, tmp_path):
    paths = []
    for n in range(2):
        paths.append(tmp_path / f"stranger {n}.png")
        paths[-1].write_bytes(images.encode(glyph(800 + n, 0)))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    seen(page, "threshold")
    page.get_by_role("button", name="Add pictures of strangers …").click()
    page.get_by_label("Pictures", exact=True).set_input_files([*paths, tmp_path / "bad.png"])
    page.get_by_role("button", name="Add", exact=True).click()
    message(page, "2 pictures of strangers added. bad.png:")
    given = [row["name"] for row in page.service.get("/api/v1/strangers").json() if row["source"] == "given"]
    assert given[-2:] == ["stranger 0.png", "stranger 1.png"] and len(given) == 42


def test_what_is_wrong_is_mended_with_one_click(page):
    seen(page, "health")
    wrong = page.locator("article.finding").filter(has_text="of 'glyph 3' is nearer to 'glyph 9'")
    wrong.get_by_role("button", name="Move it").click()
    page.locator("#messages .message").first.wait_for()
    assert page.service.get("/api/v1/identities/glyph 9").json()["samples"] == 4
    wrong.wait_for(state="detached")
    page.get_by_text("Nothing is wrong with them.").wait_for()


def test_a_training_is_started_and_cancelled(page):
    seen(page, "training")
    page.get_by_label("Steps").fill("5000")
    page.get_by_role("button", name="Start").click()
    page.locator("#running").wait_for()
    page.locator("#running").get_by_role("button", name="Cancel it").click()
    page.get_by_text("cancelled.").wait_for()
    assert page.get_by_role("button", name="Start").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_nobody_is_shut_out(browser, enrolled, tmp_path, scheme, width):
    place = tmp_path / "glyphs.gallery"
    shutil.copy(enrolled[0], place)
    size = {"width": width, "height": 800}
    with serving(place) as service, looking(browser, str(service.base_url), viewport=size, color_scheme=scheme) as page:
        for view in VIEWS:
            seen(page, view)
            if view == "identify":
                drop(page, enrolled[1], images.encode(glyph(303, 1)), b"no picture")
            assert findings(page) == [], view
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        page.get_by_role("link", name="People").click()
        page.get_by_role("button", name="Enroll somebody").click()
        assert findings(page) == []
        page.keyboard.press("Escape")
        page.faults[:] = [each for each in page.faults if "422" not in each]  # of what was no picture


def test_all_is_reached_by_keyboard(page):
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert reached[:9] == [
        "Skip to the content", "Identify", "People", "Review", "Threshold", "Health", "Training", "pictures",
        "Use the camera",
    ]  # fmt: skip


def test_another_key_shows_what_that_one_may(browser, enrolled, tmp_path, sidx):
    place = tmp_path / "glyphs.gallery"
    shutil.copy(enrolled[0], place)
    keys = {
        role: sidx("keys", "add", role, "--role", role, "--file", "keys.json").stdout.split()[-1]
        for role in ("ask", "admin")
    }
    serve = serving(place, "--api-key-file", tmp_path / "keys.json")
    with serve as service, looking(browser, str(service.base_url)) as page:
        for wrong in ("schl€ssel", "wrong"):
            page.get_by_label("Key", exact=True).fill(wrong)
            page.get_by_role("button", name="Use it").click()
        page.get_by_text("This key is not known").wait_for()
        page.get_by_label("Key", exact=True).fill(keys["admin"])
        page.get_by_role("button", name="Use it").click()
        seen(page, "people/glyph 1")
        page.get_by_role("button", name="Delete for good …").wait_for()
        known = [json.loads(line) for line in sidx("keys", "list", "--file", "keys.json", "--json").stdout.splitlines()]
        sidx("keys", "revoke", next(row["id"] for row in known if row["role"] == "admin"), "--file", "keys.json")
        page.evaluate("location.hash = 'people/glyph 2'")
        page.get_by_label("Key", exact=True).fill(keys["ask"])
        page.get_by_role("button", name="Use it").click()
        page.get_by_role("heading", name="glyph 2").wait_for()
        expect(page.get_by_role("button", name="Tags …")).to_have_count(0)
        page.faults[:] = [each for each in page.faults if "401" not in each]


def test_the_browser_is_opened(enrolled, tmp_path):
    place, told = tmp_path / "glyphs.gallery", tmp_path / "told.txt"
    shutil.copy(enrolled[0], place)
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" > {told}\n')
    program.chmod(0o700)
    with serving(place, "--open", BROWSER=str(program)) as service:
        assert told.read_text().strip() == f"{service.base_url}/"


def test_a_key_is_asked_for_and_shows_what_it_may(browser, enrolled, tmp_path, sidx):
    place = tmp_path / "glyphs.gallery"
    shutil.copy(enrolled[0], place)
    made = {
        role: sidx("keys", "add", role, "--role", role, "--file", "keys.json").stdout.split()[-1]
        for role in ("ask", "enroll", "admin")
    }
    with serving(place, "--api-key-file", tmp_path / "keys.json") as service:
        for role, key in made.items():
            with looking(browser, str(service.base_url)) as page:
                page.get_by_label("Key", exact=True).fill(key)
                page.get_by_role("button", name="Use it").click()
                page.locator(".drop").wait_for()
                card = drop(page, enrolled[1])
                card.locator("ul.pictures img[src^=blob]").first.wait_for(state="attached")
                assert card.get_by_role("button", name="Save").count() == (role != "ask")
                seen(page, "people/glyph 1")
                assert page.get_by_role("button", name="Delete for good …").count() == (role == "admin")
                assert page.evaluate("location.href + document.cookie + JSON.stringify(localStorage)").count(key) == 0
                page.faults[:] = [each for each in page.faults if "401" not in each]
