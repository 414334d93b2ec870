"""The semantic cache's false hits, measured with the embedder itself."""

from benchmarks.cache_meaning import judge, report, share
from benchmarks.cache_pairs import SAME

from pointsman.cache_settings import SemanticSettings


def test_no_different_question_of_the_set_is_taken_for_the_same() -> None:
    judged, threshold = judge(), SemanticSettings().threshold
    others = [one for one in judged if one.kind != SAME]
    assert share(others, threshold, guarded=True) == (0, 702)
    assert share(others, threshold, guarded=False)[0] > 0  # the guards are needed
    assert share([one for one in judged if one.kind == SAME], threshold, guarded=True)[0] > 0
    assert "702 pairs of different questions" in report(judged)
