"""Search in embeddings: what sorting everything would find."""

import numpy as np
import pytest

from sample.search import SearchIndex, highest


@pytest.mark.parametrize("count", [3, 1000, 5000])
def test_a_search_finds_what_sorting_everything_finds(count):
    draw = np.random.default_rng(0)
    gallery, query = draw.normal(size=(count, 16)), draw.normal(size=16)
    found, cosines = SearchIndex(gallery).nearest(query, 10)
    expected = gallery @ query / np.linalg.norm(gallery, axis=1) / np.linalg.norm(query)
    assert found.tolist() == np.argsort(-expected)[:10].tolist()
    assert cosines == pytest.approx(expected[found], abs=1e-6)


def test_a_search_finds_the_query_itself_ties_in_their_order_and_refuses_other_widths():
    gallery = np.eye(300, 8)
    assert SearchIndex(gallery).nearest(gallery[5], 2)[0].tolist()[0] == 5
    assert highest(np.ones(4000), 3).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="a query of shape"):
        SearchIndex(gallery).nearest(np.ones(9))
    with pytest.raises(ValueError, match="expected finite rows"):
        SearchIndex(np.full((3, 2), np.nan))
