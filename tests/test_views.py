"""The views' scripts alone: each in Chromium, with a model that has no kernel behind it (tests/browser.py)."""

import base64
import io
import json
from fractions import Fraction

import browser
import numpy as np
import pytest
from PIL import Image

from thlib import show
from thlib.clip import Clip, Word
from thlib.landmarks import BLENDSHAPES

SENTENCE = ["our", "shop", "opens", "at", "nine"]
PIXEL = """async () => {  // the grey of the middle of the video that is seen, once it has a picture and seeks no other
    const video = document.querySelector("video:not(.hidden)");
    const wait = (ms) => new Promise((go) => setTimeout(go, ms));
    const canvas = Object.assign(document.createElement("canvas"), {width: 3, height: 3});
    const until = performance.now() + 10000;
    for (let pixel = [0, 0, 0, 0]; performance.now() < until; ) {
        while ((video.readyState < 2 || video.seeking) && performance.now() < until) await wait(20);
        await wait(60);
        canvas.getContext("2d").drawImage(video, 0, 0, 3, 3);
        pixel = canvas.getContext("2d").getImageData(1, 1, 1, 1).data;
        if (!video.seeking && pixel[3]) return pixel[0];  // transparent: nothing was drawn yet
    }
    return -1;
}"""


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as one:
        yield one


@pytest.fixture
def page(chromium):
    """An empty page without network, in which nothing may go wrong."""
    page, faults = chromium.new_page(viewport={"width": 900, "height": 700}), []
    page.route("http*://**", lambda route: route.abort())
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    yield page
    page.close()
    assert not faults


@pytest.fixture(scope="module")
def clip():
    """24 frames at 25 frames/s, each 10 brighter than the one before, with a tone."""
    frames = np.broadcast_to((10 + 10 * np.arange(24, dtype=np.uint8))[:, None, None, None], (24, 96, 128, 3))
    tone = 0.1 * np.sin(np.arange(round(24 / 25 * 16000)) / 16000 * 2 * np.pi * 300)
    return Clip(frames, Fraction(25), tone.astype(np.float32)[:, None], 16000)


@pytest.fixture(scope="module")
def negative(clip):
    return Clip(255 - clip.frames[:20], clip.fps, clip.audio[: 20 * 640], 16000)


def state(page):
    """What the kernel was told last."""
    return page.evaluate("model.saved.at(-1)")


def test_a_player_steps_frame_by_frame_by_keys(page, clip):
    browser.mount(page, show.player(clip, "a <b>clip</b>"))
    root = page.get_by_role("group", name="a <b>clip</b>")
    root.focus()
    assert page.evaluate(PIXEL) == pytest.approx(10, abs=4)
    for key, frame in [(".", 1), ("ArrowRight", 2), (".", 3), (",", 2), ("ArrowLeft", 1)]:
        page.keyboard.press(key)
        assert page.evaluate(PIXEL) == pytest.approx(10 + 10 * frame, abs=4), key
        assert state(page)["frame"] == frame
    for frame in (23, 7, 16):  # by the slider, and each is that frame and no neighbour
        page.get_by_label("frame", exact=True).fill(str(frame))
        assert page.evaluate(PIXEL) == pytest.approx(10 + 10 * frame, abs=4)
        assert f"frame {frame} of 24 · {frame / 25:.2f} s" in root.inner_text()
    page.get_by_label("one frame on (.)").click(click_count=3)
    assert page.evaluate(PIXEL) == pytest.approx(200, abs=4)
    assert "http" not in page.evaluate("[...document.querySelectorAll('[src]')].map((n) => n.src).join(' ')")


def test_a_player_shows_the_other_at_the_same_time(page, clip, negative):
    browser.mount(page, show.player(clip, "two", other=negative))
    page.get_by_label("frame", exact=True).fill("12")
    page.get_by_role("group", name="two").focus()
    for grey, side in ((125, 1), (130, 0)):
        page.keyboard.press("b")
        assert page.evaluate(PIXEL) == pytest.approx(grey, abs=4)
        assert (state(page)["side"], state(page)["frame"]) == (side, 12)
    page.get_by_label("frame", exact=True).fill("23")
    page.keyboard.press("b")  # the other has 20 frames
    assert page.evaluate(PIXEL) == pytest.approx(255 - 200, abs=4)


def test_a_player_plays_a_loop_at_its_speed_and_heeds_the_kernel(page, clip):
    browser.mount(page, show.player(clip, "x"))
    page.evaluate("model.set('state', {...model.traits.state, frame: 4, speed: 0.5})")  # the kernel
    assert page.evaluate(PIXEL) == pytest.approx(50, abs=4)
    assert page.evaluate("document.querySelector('video').playbackRate") == 0.5
    page.get_by_role("group", name="x").focus()
    page.keyboard.press("[")
    for _ in range(4):
        page.keyboard.press(".")
    page.keyboard.press("]")
    assert (state(page)["first"], state(page)["last"]) == (4, 8)
    page.keyboard.press("+")
    assert state(page)["speed"] == 0.75
    seen = """async () => {
        const seen = [], until = performance.now() + 1500;
        while (performance.now() < until) {
            seen.push(+document.querySelector(".th-player").dataset.frame);
            await new Promise((go) => setTimeout(go, 5));
        }
        return seen;
    }"""
    page.keyboard.press("Space")
    seen = page.evaluate(seen)
    assert set(seen[20:]) <= set(range(3, 11))
    assert seen.count(5) > 5
    assert (np.diff(seen[20:]) < -2).any(), "it begins again"
    page.keyboard.press("Space")
    assert page.evaluate("document.querySelector('video').paused")
    page.keyboard.press("\\")
    assert (state(page)["first"], state(page)["last"]) == (0, 23)


def test_who_wants_less_motion_sees_a_range_once(chromium, clip):
    page = chromium.new_page(reduced_motion="reduce")
    browser.mount(page, show.player(clip, "x").replay([{"frame": 15}]))
    page.get_by_role("group", name="x").press("Space")
    page.wait_for_function("document.querySelector('video').paused && model.saved.at(-1)?.frame === 23")
    page.close()


@pytest.fixture
def script(page, clip):
    words = [Word(text, 0.15 * k, 0.15 * k + 0.15) for k, text in enumerate(SENTENCE)]
    view = show.transcript(clip.audio[:, 0], [*words, Word('<img src=x onerror="boom()">', 0.8, 0.9)], "a sentence")
    browser.mount(page, view)
    page.get_by_role("listbox").focus()
    return view


def text(page):
    return page.locator(".th-script").get_attribute("data-text").removesuffix('<img src=x onerror="boom()">').strip()


def test_a_transcript_is_edited_by_keyboard(page, script):
    assert page.locator("img").count() == 0  # a word is text, whatever it looks like
    assert page.get_by_text('<img src=x onerror="boom()">').count() >= 2
    press = page.keyboard.press
    for _ in range(2):
        press("ArrowRight")
    assert page.locator(".token.chosen").all_inner_texts() == ["shop"]
    press("Delete")
    assert text(page) == "our opens at nine"
    assert page.locator(".text .gone").all_inner_texts() == ["shop"]
    assert "now: our opens at nine" in page.get_by_role("status").inner_text()
    press("Control+z")
    assert text(page) == "our shop opens at nine"
    press("Control+y")
    press("Control+z")
    press("End")
    press("ArrowLeft")
    press("Shift+ArrowLeft")
    assert page.locator(".token.chosen").all_inner_texts() == ["at", "nine"]
    press("Enter")
    page.keyboard.type("in <i>May</i>")
    press("Enter")
    assert text(page) == "our shop opens in <i>May</i>"
    press("i")
    page.keyboard.type("again")
    press("Escape")
    assert text(page) == "our shop opens in <i>May</i>"
    press("Home")
    press("i")
    page.keyboard.type("now")
    press("Enter")
    assert text(page) == "now our shop opens in <i>May</i>"
    assert page.locator("i").count() == 0
    script.state = state(page)  # as the widget does
    assert script.text.startswith("now our shop opens in <i>May</i>")
    assert [word.text for word in script.words[:5]] == SENTENCE


def test_a_transcript_is_heard(page, script):
    def heard():
        return page.locator(".th-script").get_attribute("data-heard")

    page.keyboard.press("ArrowRight")
    page.locator(".token").nth(1).click()
    page.locator(".token").nth(2).click(modifiers=["Shift"])
    page.get_by_role("listbox").press("Space")
    assert heard() == "0.150-0.450"
    page.get_by_role("button", name="■ stop").click()
    page.keyboard.press("Delete")
    page.locator(".word").nth(3).click()  # on the waveform
    page.locator(".word").nth(0).click(modifiers=["Shift"])
    page.get_by_role("listbox").press("Space")
    assert heard() == "0.000-0.150 0.450-0.600", "what was deleted is left out"
    page.wait_for_function("document.querySelector('.th-script button').textContent === '▶ play'")  # it ends by itself


def test_a_boundary_is_dragged_and_its_two_words_are_heard(page, script):
    edge = page.get_by_role("slider", name="beginning of opens")
    box, wave = edge.bounding_box(), page.locator(".wave").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 60
    assert x == pytest.approx(wave["x"] + wave["width"] * 0.3 / 0.96, abs=1)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y)
    page.mouse.move(x + 40, y)
    assert state(page) is None  # a drag is one step, where it is let go
    page.mouse.up()
    expected = 0.3 + 40 * 0.96 / wave["width"]
    assert state(page)["times"][3:5] == pytest.approx([expected] * 2, abs=0.002)
    assert len(state(page)["past"]) == 1
    assert page.locator(".th-script").get_attribute("data-heard") == "0.150-0.450"
    edge.focus()
    page.keyboard.press("ArrowLeft")
    assert state(page)["times"][3] == pytest.approx(expected - 0.01, abs=0.002)
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert state(page)["times"][3] == pytest.approx(0.3)
    assert page.get_by_role("slider").count() == 8  # six beginnings, and two ends that no word touches


def test_both_reducers_do_the_same(page, clip):
    rng = np.random.default_rng(0)
    words = [Word(text, 0.16 * k + 0.01 * (k % 2), 0.16 * k + 0.16) for k, text in enumerate(SENTENCE)]
    reduce = """async ([source, facts, state, steps]) => {
        const {reduce} = await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})));
        return steps.map((step) => { state = reduce(facts, state, step); return state; });
    }"""
    view = show.transcript(clip.audio[:, 0], words, "x")
    start = view.state
    for _ in range(40):
        view.state, steps, states = start, [], []
        for _ in range(30):
            a, b = (int(k) for k in rng.integers(-2, 9, 2))
            put = str(rng.choice(["", " ", "red", "very  big", "x\ty\nz", "a\u00a0b"]))
            seconds = float(rng.uniform(-0.2, 1.2))
            steps.append(
                [
                    {"select": [a, b]},
                    {"delete": True},
                    {"replace": put},
                    {"insert": [put, a]},
                    {"undo": True},
                    {"redo": True},
                    {"drag": [a, seconds]},
                    {"end": [b, seconds]},
                ][rng.integers(8)]
            )
            states.append(view.replay(steps[-1:]).state)
        source = (browser.STATIC / "transcript.js").read_text()
        theirs = page.evaluate(reduce, [source, view.facts, start, steps])
        assert len({json.dumps(one) for one in states}) > 5
        assert theirs == json.loads(json.dumps(states))


def test_sliders_drive_the_face_one_picture_at_a_time(page):
    view = show.rig("a face", size=64)
    browser.mount(page, view)
    assert page.evaluate("model.messages") == [{"draw": True}]
    assert page.locator("summary").all_inner_texts() == ["jaw", "mouth", "eyes", "brows", "cheeks and nose"]
    assert page.locator(".slider input").count() == len(BLENDSHAPES) - 1
    page.get_by_label("jawOpen").fill("0.3")
    page.get_by_label("jawOpen").fill("0.5")
    page.get_by_label("jawOpen").fill("0.7")
    assert page.evaluate("model.saved.map((one) => one.jawOpen)") == [0.3]  # the next when the face has come
    answer = """(text) => model.fire("msg:custom", {drawn: true},
        [new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer)])"""
    before = page.locator("img").get_attribute("src")
    face = base64.b64encode(show._png(np.full((64, 64, 3), (0, 158, 115), np.uint8), ".jpg")).decode()
    page.evaluate(answer, face)
    assert page.locator("img").get_attribute("src") != before
    page.wait_for_function("document.querySelector('img').naturalWidth === 64")
    pixel = np.array(Image.open(io.BytesIO(page.locator(".face").screenshot())).convert("RGB"))[100, 100]
    assert np.abs(pixel.astype(int) - (0, 158, 115)).max() < 6
    assert page.evaluate("model.saved.map((one) => one.jawOpen)") == [0.3, 0.7]
    page.evaluate(answer, face)
    page.get_by_label("eyeBlinkLeft").fill("1")  # one slider for both sides
    assert (state(page)["eyeBlinkLeft"], state(page)["eyeBlinkRight"]) == (1, 1)
    page.evaluate(answer, face)
    assert not page.get_by_label("eyeBlinkRight").is_visible()
    page.get_by_text("both sides as one").click()
    page.get_by_label("eyeBlinkRight").fill("0.25")
    assert (state(page)["eyeBlinkLeft"], state(page)["eyeBlinkRight"]) == (1, 0.25)
    page.evaluate(answer, face)
    page.get_by_role("button", name="all sliders to 0").click()
    assert set(state(page).values()) == {0}
    page.evaluate(answer, face)
    view.replay([{"mouthPucker": 0.4}])
    page.evaluate("(state) => model.set('state', state)", view.state)  # the kernel
    assert page.get_by_label("mouthPucker").input_value() == "0.4"


def test_curves_play_and_the_sliders_follow(page, clip):
    curves = np.zeros((24, 52), np.float32)
    curves[:, BLENDSHAPES.index("jawOpen")] = np.arange(24) / 24
    browser.mount(page, show.rig("a face", curves=curves, audio=clip.audio[:, 0], size=64))
    page.get_by_label("frame").fill("12")
    assert float(page.get_by_label("jawOpen").input_value()) == 0.5
    assert (state(page)["frame"], state(page)["jawOpen"]) == (12, 0.5)
    page.get_by_role("button", name="play (space)").click()
    page.wait_for_function("+document.querySelector('.th-rig').dataset.frame > 18")
    page.get_by_role("button", name="pause (space)").click()
    frame = int(page.locator(".th-rig").get_attribute("data-frame"))
    assert float(page.get_by_label("jawOpen").input_value()) == pytest.approx(frame / 24, abs=0.006)
    page.get_by_label("jawOpen").press(",")
    assert page.locator(".th-rig").get_attribute("data-frame") == str(frame - 1)


def test_a_divider_parts_two_pictures(page):
    red, blue = (np.full((90, 400, 3), colour, np.uint8) for colour in ((213, 94, 0), (0, 114, 178)))
    browser.mount(page, show.compare(red, blue, "colours", titles=("<b>red</b>", "blue")))
    assert page.get_by_text("<b>red</b>").count() == 1
    assert page.get_by_role("img").count() == 2
    page.wait_for_function("[...document.images].every((one) => one.naturalWidth)")

    def share():
        row = np.array(Image.open(io.BytesIO(page.locator(".stage").screenshot())).convert("RGB"))[80]
        return (np.abs(row - np.array([213, 94, 0])).sum(1) < 30).mean(), (row[:, 2] == 178).mean()

    assert share() == pytest.approx((0.5, 0.5), abs=0.03)
    divider = page.get_by_role("slider")
    divider.focus()
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("ArrowRight")
    assert state(page)["divider"] == pytest.approx(0.31)
    assert share() == pytest.approx((0.31, 0.69), abs=0.03)
    box = page.locator(".stage").bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 30)
    page.mouse.up()
    assert state(page)["divider"] == pytest.approx(0.75, abs=0.003)
    assert divider.get_attribute("aria-valuetext") == "75 % <b>red</b>"
    divider.press("End")
    assert share() == pytest.approx((1, 0), abs=0.03)
    page.evaluate("model.set('state', {divider: 0.2})")  # the kernel
    assert share()[0] == pytest.approx(0.2, abs=0.03)


def test_two_clips_play_in_step(page, clip, negative):
    browser.mount(page, show.compare(clip, negative, "clips"))
    times = "[...document.querySelectorAll('video')].map((one) => one.currentTime)"
    muted = "[...document.querySelectorAll('video')].map((one) => one.muted)"  # after, before
    page.get_by_role("slider", name="divider").focus()
    for _ in range(3):
        page.keyboard.press(".")
    assert page.evaluate(times) == pytest.approx([3.5 / 25] * 2, abs=1e-3)
    assert state(page)["frame"] == 3
    assert page.evaluate(muted) == [False, True]
    page.keyboard.press("s")
    assert page.evaluate(muted) == [True, False]
    page.keyboard.press("Space")
    page.wait_for_function("+document.querySelector('.th-compare').dataset.frame > 9")
    page.keyboard.press("Space")
    after, before = page.evaluate(times)
    assert abs(after - before) < 0.041
    page.get_by_label("frame", exact=True).fill("23")
    assert page.evaluate(times)[0] == pytest.approx(19.5 / 25, abs=1e-3)  # the other has 20 frames


def test_a_view_that_is_closed_leaves_nothing(page, clip):
    for view in (show.player(clip, "x"), show.transcript(clip.audio[:, 0], [], "x"), show.compare(clip, clip, "x")):
        browser.mount(page, view)
        page.evaluate("clear()")
        assert page.evaluate("Object.values(model.listeners).flat().length") == 0
