"""The merges that a SentencePiece BPE vocabulary implies: pieces and scores in, ranked pairs out.

SentencePiece (Kudo & Richardson 2018, arXiv 1808.06226) merges the adjacent pair whose joined piece
has the highest score. The `tokenizers` library wants the pairs spelled out and ranked, so every piece
is cut everywhere both parts are pieces, and the pairs are ordered by
(score of the piece, length of the left part, length of the right part), all descending; equal ones
by (piece id, left id, right id). That is the order in which the tokenizer.json files of these models
list them. Lengths are in code points.
"""

import hashlib
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

_LOG = logging.getLogger(__name__)
_FORMAT = b"octavo-merges-v1"

Pairs = npt.NDArray[np.int32]
"""Shape (merges, 2): ids of the left and right part, best rank first."""


def derive_merges(pieces: dict[str, int], scores: npt.NDArray[np.float64]) -> Pairs:
    """Every pair of `pieces` that joins into one of `pieces`, best first.

    `pieces` maps text → id for the pieces that may take part; `scores` is indexed by id.
    O(sum of lengths of the pieces): about a second for 262,144 of them.
    """
    find = pieces.get
    left_ids: list[int] = []
    right_ids: list[int] = []
    joined_ids: list[int] = []
    for piece, piece_id in sorted(pieces.items(), key=lambda item: item[1]):
        cuts: list[tuple[int, int]] = []
        for length in range(1, len(piece)):
            left = find(piece[:length])
            if left is not None:
                right = find(piece[length:])
                if right is not None:
                    cuts.append((left, right))
        cuts.sort()
        for left, right in cuts:
            left_ids.append(left)
            right_ids.append(right)
            joined_ids.append(piece_id)
    lefts, rights, joined = (np.array(ids, dtype=np.int32) for ids in (left_ids, right_ids, joined_ids))
    lengths = np.zeros(len(scores), dtype=np.int32)
    lengths[list(pieces.values())] = [len(piece) for piece in pieces]
    order = np.lexsort((-lengths[rights], -lengths[lefts], -scores[joined]))
    return np.stack((lefts[order], rights[order]), axis=1)


def cached_merges(pieces: dict[str, int], scores: npt.NDArray[np.float64], cache_dir: Path | None) -> Pairs:
    """`derive_merges`, remembered in a file of `cache_dir` named by the content's hash.

    A file that cannot be read or written, or does not fit, is logged and not used.
    """
    if cache_dir is None:
        return derive_merges(pieces, scores)
    path = cache_dir / f"{_content_key(pieces, scores)}.npy"
    pairs = _load(path, len(scores))
    if pairs is None:
        pairs = derive_merges(pieces, scores)
        _store(path, pairs)
    return pairs


def _content_key(pieces: dict[str, int], scores: npt.NDArray[np.float64]) -> str:
    digest = hashlib.sha256(_FORMAT)
    text = "\0".join(pieces).encode("utf-8", "surrogatepass")
    digest.update(len(text).to_bytes(8, "little"))
    digest.update(text)
    digest.update(np.fromiter(pieces.values(), dtype="<i4", count=len(pieces)).tobytes())
    digest.update(scores.astype("<f8").tobytes())
    return digest.hexdigest()


def _load(path: Path, num_tokens: int) -> Pairs | None:
    try:
        pairs: Pairs = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        _LOG.warning("Merges are derived again: the cached %s cannot be read (%s)", path, error)
        return None
    is_sound = isinstance(pairs, np.ndarray) and pairs.dtype == np.int32 and pairs.ndim == 2 and pairs.shape[1] == 2
    if not is_sound or (pairs.size and not (pairs.min() >= 0 and pairs.max() < num_tokens)):
        _LOG.warning("Merges are derived again: the cached %s does not fit the vocabulary", path)
        return None
    return pairs


def _store(path: Path, pairs: Pairs) -> None:
    """Write beside `path`, then rename, so that a reader sees a whole file or none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            np.save(file, pairs, allow_pickle=False)
        os.replace(file.name, path)  # noqa: PTH105
    except OSError as error:
        _LOG.warning("Merges are not cached: %s cannot be written (%s)", path, error)
