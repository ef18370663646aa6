"""The Markdown renderer: what becomes a node, what stays text, and that a stream ends as its whole text does."""

import random
import time
from typing import Any

import pytest
from browser.chromium import Browser
from server.conftest import SocketServer

RENDER = """
const { MarkdownStream } = await import("/web/markdown/stream.js");
const box = document.createElement("div");
const complete = [];
const stream = new MarkdownStream(box, text => complete.push(text));
for (const piece of given[0]) stream.push(piece);
stream.finish();
return { html: box.innerHTML, text: box.textContent, complete };
"""
CODE = '<figure class="code"><figcaption><span>{}</span><button type="button" class="quiet" aria-label="Copy code">Copy</button>'
CODE += '</figcaption><pre tabindex="0"><code>{}</code></pre></figure>'
LINK = '<a href="{0}" target="_blank" rel="noopener noreferrer">{1}</a>'
TABLE = (
    '<div class="wide" tabindex="0" role="group" aria-label="Table"><table><thead><tr><th class="left">a</th>'
    '<th class="right">b</th></tr></thead><tbody><tr><td class="left">1</td><td class="right"><strong>2</strong></td></tr>'
    "</tbody></table></div>"
)
RENDERED = [
    ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
    ("# Title #\ntext", "<h2>Title</h2><p>text</p>"),
    ("###### deep", "<h6>deep</h6>"),
    ("## C# ##", "<h3>C#</h3>"),
    ("# C#", "<h2>C#</h2>"),
    ("**bold** *it* _it_ __b__", "<p><strong>bold</strong> <em>it</em> <em>it</em> <strong>b</strong></p>"),
    ("~~no~~ `co**de`", "<p><del>no</del> <code>co**de</code></p>"),
    ("***both*** and **a *b* c**", "<p><strong><em>both</em></strong> and <strong>a <em>b</em> c</strong></p>"),
    ("2 * 3 * 4, snake_case_name, a ** b", "<p>2 * 3 * 4, snake_case_name, a ** b</p>"),
    (r"\*not\* \`code\`", "<p>*not* `code`</p>"),
    ("``a ` b``", "<p><code>a ` b</code></p>"),
    ("`a` ``b `c`", "<p><code>a</code> ``b <code>c</code></p>"),
    ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
    ("3. a\n4. b\n\n5. c", '<ol start="3"><li>a</li><li>b</li><li>c</li></ol>'),
    ("1. a\n\n   more\n\ntext", '<ol start="1"><li>a<p>more</p></li></ol><p>text</p>'),
    ("In\n2023. it was", "<p>In<br>2023. it was</p>"),
    ("> a\n> **b**\n\nc", "<blockquote><p>a<br><strong>b</strong></p></blockquote><p>c</p>"),
    ("a\n\n---\nb", "<p>a</p><hr><p>b</p>"),
    ("```python\nx = 1\n\n# no\n```\nafter", CODE.format("python", "x = 1\n\n# no\n") + "<p>after</p>"),
    ("a\n```\nopen **x**", "<p>a</p>" + CODE.format("", "open **x**\n")),
    ("~~~~\n```\n~~~~", CODE.format("", "```\n")),
    ("- a\n  ```sh\n  ls\n  ```\n- b", "<ul><li>a" + CODE.format("sh", "ls\n") + "</li><li>b</li></ul>"),
    ("| a | b |\n|---|--:|\n| 1 | **2** |", TABLE),
    ("[a *b*](https://x.org/y)", f"<p>{LINK.format('https://x.org/y', 'a <em>b</em>')}</p>"),
    ('[a](http://x.org "title") <https://y.org>', f"<p>{LINK.format('http://x.org/', 'a')} {LINK.format('https://y.org/', 'https://y.org')}</p>"),
    ("see https://x.org/a_b_c).", f"<p>see {LINK.format('https://x.org/a_b_c', 'https://x.org/a_b_c')}).</p>"),
    ("https://x.org/" + "a" * 2100, "<p>https://x.org/" + "a" * 2100 + "</p>"),
    ("![alt](https://x.org/i.png)", f"<p>{LINK.format('https://x.org/i.png', 'alt')}</p>"),
]  # fmt: skip
HOSTILE = [
    '<img src=x onerror="alert(1)">',
    "<script>alert(1)</script>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a]( data:text/html,x)",
    "[a](//evil.example)",
    "[a](vbscript:x)",
    "![x](file:///etc/passwd)",
    "<javascript:alert(1)>",
    "<https://x.org/<script>>",
    "&lt;b&gt;",
    "`<b>`",
    "| <b> | x |\n|---|---|\n| <i onclick=x> | y |",
    "```<script>\n</code></pre><script>alert(1)</script>\n```",
]
LONG = (
    "# Report\n\nSome *words* here,\nand **more** of `them`.\n\n1. one\n   - deep\n   - deeper\n2. two\n\n   ```js\n"
    "   let x = 1;\n\n   x++\n   ```\n3. three\n\n> quoted\n> text\n\n| a | b |\n|:-:|---|\n| 1 | 2 |\n| 3 | 4 |\nafter\n\n"
    "```python\ndef f():\n\n    return 1\n```\n\n- x\n- y\n\n\n- z\n***\nThe end, [here](https://x.org/y)."
)
LONG_CHARS = 80_000
DEGENERATE = {
    "dots": "http://a" + "." * LONG_CHARS + "x",
    "asterisks": "*" * LONG_CHARS,
    "brackets": "[" * LONG_CHARS,
    "brackets before a link": "[" * LONG_CHARS + "](https://x.org)",
    "backticks": "`" * LONG_CHARS + "x",
    "fences of every length": " ".join("`" * length for length in range(1, 400)) + " `" * (LONG_CHARS // 2),
    "quotes": "> " * 5_000 + "x",
    "emphasis that opens": "**a *b " * (LONG_CHARS // 7),
    "links that open": "[a](" * (LONG_CHARS // 4),
    "a link's spaces": "[a](" + " " * LONG_CHARS,
    "addresses": "http://a" * (LONG_CHARS // 8),
    "items in items": "- " * 5_000,
    "nested lists": "- a\n  - b\n    - c\n" * (LONG_CHARS // 18),
    "a long first item": "- " + "x" * LONG_CHARS + "\n- a" * (LONG_CHARS // 8),
    "an item's spaces": "- " + " " * LONG_CHARS + "\u2028x",
    "a heading's spaces": "# a" + " " * LONG_CHARS + "x",
    "a long table": "| a | b |\n|---|---|\n" + "| *1* | `2` |\n" * (LONG_CHARS // 14),
    "a wide table": "|a" * (LONG_CHARS // 4) + "\n" + "|-" * (LONG_CHARS // 4),
    "a wide table of short rows": "|a" * 4_000 + "\n" + "|-" * 4_000 + "\n" + "|x\n" * 4_000,
    "addresses that are none": "http://[" * (LONG_CHARS // 16) + "." * (LONG_CHARS // 2) + "x",
    "words": "_a " * (LONG_CHARS // 3),
}
"""For what a careless pattern or search takes quadratic time."""


@pytest.fixture
def render(browser: Browser, scripted: SocketServer) -> Any:
    """Pieces → the nodes as HTML, their text, and what was called complete."""
    browser.open(f"{scripted.url}/")
    return lambda *pieces: browser.run_async(RENDER, list(pieces))


def test_what_is_rendered(render: Any) -> None:
    assert {text: render(text)["html"] for text, _ in RENDERED} == dict(RENDERED)


def test_hostile_texts_make_no_nodes_of_their_own(render: Any, browser: Browser) -> None:
    tags = (
        "const tree = new DOMParser().parseFromString(arguments[0], 'text/html').body;"
        "return [...tree.querySelectorAll('*')].map(e => [e.tagName, e.getAttribute('href') ?? '',"
        " e.getAttributeNames().some(n => n.startsWith('on'))])"
    )
    for text in HOSTILE:
        rendered = render(text)
        for tag, address, has_handler in browser.run(tags, rendered["html"]):
            assert tag not in ("IMG", "SCRIPT", "I", "B", "IFRAME") and not has_handler, text
            assert address == "" or address.startswith(("http://", "https://")), text
    assert render(HOSTILE[0])["text"] == HOSTILE[0]
    assert render(HOSTILE[2])["text"] == HOSTILE[2]


@pytest.mark.parametrize("size", [1, 2, 7, None])
def test_a_stream_ends_as_its_whole_text(render: Any, size: int | None) -> None:
    """Cut anywhere: `None` cuts at random places."""
    whole = render(LONG)
    rng = random.Random(5)
    pieces, rest = [], LONG
    while rest:
        cut = size or rng.randint(1, 40)
        pieces.append(rest[:cut])
        rest = rest[cut:]
    assert render(*pieces) == whole
    assert 'start="1"' in whole["html"] and whole["html"].count("<li>") == 8
    assert len(whole["complete"]) >= 10 and whole["complete"][0] == "Report"


@pytest.mark.parametrize("text", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_degenerate_texts_take_linear_time(render: Any, text: str) -> None:
    begin_s = time.perf_counter()
    assert render(text)["html"] != ""
    assert time.perf_counter() - begin_s < 5


def test_a_long_answer_is_not_rendered_again_and_again(browser: Browser, scripted: SocketServer) -> None:
    """What is complete stays the very node it was, and a piece touches no more at the end than at the beginning."""
    browser.open(f"{scripted.url}/")
    counts = browser.run_async(
        """
        const { MarkdownStream } = await import("/web/markdown/stream.js");
        const box = document.createElement("div");
        const stream = new MarkdownStream(box);
        const touched = [];
        const observer = new MutationObserver(() => {});
        observer.observe(box, { childList: true, characterData: true, subtree: true });
        const push = text => { stream.push(text); touched.push(observer.takeRecords().length); };
        for (let i = 0; i < 300; i++) push(`- item ${i} has **some** text\\n`);
        push("\\n```\\n");
        for (let i = 0; i < 300; i++) push(`line ${i}\\n`);
        push("```\\n");
        const first = box.querySelector("li");
        for (let i = 0; i < 300; i++) push(`\\nparagraph ${i} is *here*\\n`);
        return { touched, isSame: first === box.querySelector("li"), size: box.querySelectorAll("*").length };
        """
    )
    assert counts["isSame"] and counts["size"] > 1200
    assert max(counts["touched"]) <= 12


def test_events_are_parsed_however_they_are_cut(browser: Browser, scripted: SocketServer) -> None:
    browser.open(f"{scripted.url}/")
    text = 'data: {"a": 1}\n\n: a comment\r\ndata:two\r\ndata: lines\r\n\r\nid: 3\n\ndata: [DONE]\n\nid: 4\ndata: unfinished'
    for size in (1, 3, 1000):
        events = browser.run_async(
            'const { EventParser } = await import("/web/sse.js"); const parser = new EventParser();'
            "return [given[0].flatMap(piece => parser.push(piece)), parser.lastId]",
            [text[at : at + size] for at in range(0, len(text), size)],
        )
        assert events == [['{"a": 1}', "two\nlines", "[DONE]"], "3"]
