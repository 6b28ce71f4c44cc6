"""The page to try pictures in a browser, of `keras-resnet serve` and of the format `web`.

`page.html` is what both have in common: the pictures, the camera, the rows, the mask and the boxes. It asks `answers`,
which each of the two has in a script of its own: `served.js` asks the server, `exported.js` the network in the browser.
The other files belong to the format `web` and lie beside its page.
"""

import base64
import hashlib
from importlib import resources

ANSWERS = "// The script that answers stands here.\n"
POLICY = "<!-- The policy stands here. -->\n"

# What lies beside an exported page: the worker that runs the network, and its parts.
PROGRAMS = ("worker.js", "pixels.js", "answers.js")


def page_with(script: str, policy: str = "") -> str:
    """Name of the script that answers, what to allow beside the page's own script and style -> the page as HTML.

    With `policy`, the page states its content security policy itself.
    """
    page = text_of("page.html").replace(ANSWERS, text_of(script))
    stated = f'<meta http-equiv="Content-Security-Policy" content="{policy_of(page)}; {policy}">\n' if policy else ""
    return page.replace(POLICY, stated)


def policy_of(page: str) -> str:
    """Page -> content security policy: it runs no script but its own, and loads pictures only from itself."""
    hashes = {kind: _hashed(page, kind) for kind in ("script", "style")}
    return (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; img-src blob: data:; "
        "media-src blob:; base-uri 'none'; form-action 'none'"
    )


def text_of(name: str) -> str:
    """Name of a file of this folder -> its text."""
    return resources.files("keras_resnet.page").joinpath(name).read_text(encoding="utf-8")


def _hashed(page: str, tag: str) -> str:
    """Page, name of a tag -> source of the policy that allows the content of that tag, and no other."""
    content = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode('ascii')}'"
