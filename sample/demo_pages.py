"""What the demo shows, as HTML: figures that play, each in a frame of its own that reaches neither page nor network."""

import html
from collections.abc import Sequence

from data_loaders.corpus import Motion
from sample.demo_service import Found
from sample.gallery_search import Hit
from visualize.web_viewer import viewer_html

# Colours are those of the interface, so that its dark theme holds here too.
STYLE = """
.hits { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: 14px; }
.hits figure, .made { margin: 0; overflow: hidden; border: 1px solid var(--border-color-primary); border-radius: 10px;
  background: var(--block-background-fill); color: var(--body-text-color); }
.hits iframe, .made iframe { display: block; width: 100%; border: 0; }
.hits iframe { height: 270px; }
.made iframe { height: 560px; }
.hits figcaption { padding: 8px 12px 10px; font-size: 14px; line-height: 1.4; overflow-wrap: anywhere; }
.hits p { margin: 0; }
.hits .where + p { margin-top: 4px; }
.hits .where { display: flex; gap: 8px; align-items: baseline; font-size: 12px; }
.hits .where span + span { opacity: 0.75; }
.hits .score { flex: none; padding: 0 7px; border-radius: 8px; background: #216bc2; color: #fff; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.hits .own .score { background: #5d6470; }
.said { margin: 0; padding: 6px 2px; color: var(--body-text-color-subdued); }
@media (max-width: 640px) { .made iframe { height: 640px; } }  /* its controls take several rows there */
"""


def frame(page: str, title: str) -> str:
    """A page in a frame. Its scripts run, but as those of a stranger: no storage, no forms, no way to the page around it."""
    return (f'<iframe sandbox="allow-scripts" loading="lazy" referrerpolicy="no-referrer" title="{html.escape(title)}" '
            f'srcdoc="{html.escape(page)}"></iframe>')  # fmt: skip


def hits_page(found: Found) -> str:
    """The hits as cards, best first; before them the motion that was searched by, if any."""
    if not found.hits:
        return said(f"Not shown: {found.missing}." if found.missing else "Nothing found.")
    cards = [] if found.own is None else [_card(found.own, None, 0)]
    cards += [_card(motion, hit, rank) for rank, (hit, motion) in enumerate(zip(found.hits, found.motions), 1)]
    note = said(f"Not shown: {found.missing}.") if found.missing else ""
    return f'{note}<div class="hits">{"".join(cards)}</div>'


def _card(motion: Motion, hit: Hit | None, rank: int) -> str:
    if hit is None:
        score, where, words, kind = "yours", f"{motion.joints.shape[1] / motion.fps:.1f} s", "The motion searched by", "own"
    else:
        score, words, kind = f"{hit.score:.3f}", hit.caption or "without a caption", "hit"
        where = f"{hit.name} · {hit.start:.1f} – {hit.end:.1f} s"
    page = viewer_html(motion, captions="", title=words)  # the caption stands below, where it can be selected and found
    title = words if hit is None else f"{rank}. {words}"
    return (f'<figure class="{kind}">{frame(page, title)}<figcaption><p class="where"><span class="score">{score}</span>'
            f'<span>{html.escape(where)}</span></p><p dir="auto">{html.escape(words)}</p></figcaption></figure>')  # fmt: skip


def player(motions: Sequence[Motion]) -> str:
    """Motions side by side on one clock."""
    words = motions[0].captions[0] if motions[0].captions else "Motion"
    labels = [f"motion {i + 1}" for i in range(len(motions))] if len(motions) > 1 else None
    return f'<div class="made">{frame(viewer_html(motions, labels=labels), words)}</div>'


def said(text: str) -> str:
    return f'<p class="said">{html.escape(text)}</p>'
