"""Chromium without a screen, and a page in which one view of thlib/static runs with a model but without a kernel."""

import base64
import shutil
from contextlib import contextmanager
from pathlib import Path

from conftest import require

STATIC = Path(__file__).resolve().parents[1] / "thlib" / "static"
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
ARGUMENTS += ("--no-first-run", "--autoplay-policy=no-user-gesture-required")
MODEL = """async ({source, traits}) => {
    const decode = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
    traits.media = Object.fromEntries(Object.entries(traits.media).map(([name, text]) => [name, decode(text)]));
    window.model = {
        traits, listeners: {}, saved: [], messages: [],
        get(name) { return this.traits[name]; },
        set(name, value) { this.traits[name] = value; this.fire(`change:${name}`); },
        save_changes() { this.saved.push(structuredClone(this.traits.state)); },
        send(message) { this.messages.push(message); },
        on(name, act) { (this.listeners[name] ??= []).push(act); },
        off(name, act) { this.listeners[name] = (this.listeners[name] ?? []).filter((one) => one !== act); },
        fire(name, ...given) { (this.listeners[name] ?? []).forEach((act) => act(...given)); },
    };
    const view = (await import(URL.createObjectURL(new Blob([source], {type: "text/javascript"})))).default;
    const el = document.body.appendChild(document.createElement("div"));
    window.clear = await view.render({model: window.model, el});
}"""


@contextmanager
def chromium():
    """A running Chromium; without the package playwright or the program, the test is reported as not run."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    program = shutil.which("chromium")
    require("browser", bool(sync_playwright and program), "needs chromium and the extra `browser` (playwright)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()


def mount(page, view) -> None:
    """Let the view's script draw in the page, with a model that only keeps what is set, saved and sent (`model`)."""
    media = {name: base64.b64encode(content).decode() for name, content in view.media.items()}
    traits = {"state": view.state, "facts": view.facts, "media": media}
    page.evaluate(MODEL, {"source": (STATIC / f"{view.script}.js").read_text(), "traits": traits})
