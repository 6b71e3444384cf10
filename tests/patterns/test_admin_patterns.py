import pytest

from patterns.models import Detection, IndicatorValue, MarketSurvey, ScannedBar
from patterns.scan import scan
from tests.patterns.market import NOW, keys_of, random_bars, store
from tests.people import make_user, session_client


@pytest.fixture
def admin(market):
    user = make_user("patterns-admin", is_staff=True, is_superuser=True)
    yield session_client(user)
    user.delete()


def test_detections_can_be_looked_through_and_not_touched(admin, writer):
    bars = random_bars("AAPL", 60, seed=1)
    store(writer, bars)
    scan(keys_of(bars), now=NOW)
    one = Detection.objects.filter(pattern_type="doji").first()

    listed = admin.get("/admin/patterns/detection/", {"pattern_type": "doji", "direction__exact": "neutral", "q": "AAPL"})
    opened = admin.get(f"/admin/patterns/detection/{one.pk}/change/")
    changed = admin.post(f"/admin/patterns/detection/{one.pk}/change/", {"confidence": "1"})
    added = admin.get("/admin/patterns/detection/add/")
    deleted = admin.post(f"/admin/patterns/detection/{one.pk}/delete/", {"post": "yes"})

    assert listed.status_code == opened.status_code == 200
    assert f"{Detection.objects.filter(pattern_type='doji').count()} detections" in listed.content.decode()
    assert [changed.status_code, added.status_code, deleted.status_code] == [403, 403, 403]
    assert Detection.objects.filter(pk=one.pk, confidence=one.confidence).exists()


@pytest.mark.parametrize("page", ["indicatorvalue", "scanfailure", "sweepmark"])
def test_every_page_opens(admin, writer, page):
    bars = random_bars("AAPL", 30, seed=1)
    store(writer, bars)
    scan(keys_of(bars), now=NOW)

    assert admin.get(f"/admin/patterns/{page}/").status_code == 200
    assert ScannedBar.objects.count() == 30 < IndicatorValue.objects.count()


def test_surveys_can_be_looked_through_without_their_heavy_blocks(admin):
    heavy = {key: [] for key in ("rankings", "sectors", "industries", "rotation", "stages", "stage_changes", "averages")}
    one = MarketSurvey.objects.create(
        universe="combo_test", as_of=NOW, kind="close", made_at=NOW, coverage={"symbols": 31, "of": 33, "oldest_bar": None}, breadth={},
        regime={"score": 61.5, "label": "constructive", "parts": []}, stage_counts={}, **heavy,
    )  # fmt: skip

    listed = admin.get("/admin/patterns/marketsurvey/").content.decode()
    opened = admin.get(f"/admin/patterns/marketsurvey/{one.pk}/change/")

    assert "31 of 33" in listed
    assert "61.5 constructive" in listed
    assert opened.status_code == 200
    assert admin.post(f"/admin/patterns/marketsurvey/{one.pk}/delete/", {"post": "yes"}).status_code == 403
